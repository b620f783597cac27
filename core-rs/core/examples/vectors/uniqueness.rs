//! What a uniqueness-only notary sees: locks, proofs that show them, a tear-off, and unlock signatures.

use super::common::{Built, NETWORK, key};
use super::states::{UNSEEING, altered, finality, notaries, notary};
use super::{PARAMETERS_BYTES, hexes, under_parameters};
use p2pet_core::finality::UNIQUENESS_ONLY;
use p2pet_core::hash::sha256;
use p2pet_core::keys::hex;
use p2pet_core::locks::lock_of;
use p2pet_core::signature::{Purpose, signed_message};
use p2pet_core::uniqueness::{lock_proof, uniqueness_proposal};
use serde_json::{Value, json};

/// The number of the key that owns every output here.
const OWNER: u8 = 1;

fn under_locks(mut built: Built) -> Built {
    let unseeing = key(UNSEEING).public();
    built.groups[6] = vec![unseeing.to_vec()];
    for output in &mut built.groups[2] {
        *output = altered(output, &unseeing, 0);
    }
    built.groups[11] = (0..built.groups[2].len() as u32)
        .map(|index| lock(&built, index).to_vec())
        .collect();
    built
}

fn lock(built: &Built, index: u32) -> [u8; 32] {
    let salt = built.salt.as_slice().try_into().unwrap();
    lock_of(&key(OWNER).public(), salt, index).unwrap()
}

/// Two outputs under a uniqueness-only notary.
pub fn creator() -> Built {
    under_locks(under_parameters(Built::issue(21, 2, &[&key(OWNER)])))
}

/// One of them consumed, the other one read.
pub fn spend() -> Built {
    let creator = creator();
    let mut built = under_parameters(Built::spend(22, &[creator.reference(1)], &[&key(OWNER)]));
    built.groups[1] = vec![creator.reference(0)];
    under_locks(built)
}

fn locks() -> Vec<Value> {
    let vectors = [(1u8, 0u32), (1, 1), (2, 0), (255, u32::MAX)].map(|(byte, index)| {
        let salt = [byte; 32];
        let consumer = sha256(&[byte]);
        let signature = key(OWNER).unlock(&NETWORK, &salt, index, &consumer);
        json!({
            "salt": hex(&salt),
            "index": index,
            "lock": hex(&lock_of(&key(OWNER).public(), &salt, index).unwrap()),
            "consumer": hex(&consumer),
            "message": hex(&signed_message(&NETWORK, Purpose::Unlock, &consumer)),
            "unlock_signature": hex(&signature),
        })
    });
    vectors.into()
}

/// The file uniqueness.json.
pub fn uniqueness() -> Value {
    let (creator, spend) = (creator(), spend());
    let by = notary(UNSEEING, UNIQUENESS_ONLY);
    let creator_finality = finality(&creator, &by);
    let proofs =
        [1, 0].map(|index| lock_proof(&creator.bytes(), index, &creator_finality).unwrap());
    let salt = creator.salt.as_slice().try_into().unwrap();
    let unlock = key(OWNER).unlock(&NETWORK, salt, 1, &spend.id());
    let proofs_given = proofs.each_ref().map(Vec::as_slice);
    let proposal = uniqueness_proposal(&spend.bytes(), &proofs_given, &[&unlock]).unwrap();
    let described = |built: &Built| {
        json!({
            "salt": hex(&built.salt),
            "groups": built.groups.iter().map(hexes).collect::<Vec<_>>(),
            "id": hex(&built.id()),
            "proposal": hex(&built.proposal(&[&key(OWNER)], &[])),
            "finality_proof": hex(&finality(built, &by)),
        })
    };
    json!({
        "network_id": hex(&NETWORK),
        "parameters_hash": hex(&sha256(PARAMETERS_BYTES)),
        "notaries": notaries(),
        "owner_seed": hex(&sha256(&[OWNER])),
        "owner": hex(&key(OWNER).public()),
        "locks": locks(),
        "creator": described(&creator),
        "transaction": described(&spend),
        "lock_proofs": hexes(&proofs),
        "unlock_signatures": [hex(&unlock)],
        "uniqueness_proposal": hex(&proposal),
    })
}
