//! States that move: encumbrances, a notary change, and what follows it at the new notary.

use super::common::{Built, DECIDED_AT, NETWORK, Notarised, key, service};
use super::keys::one_and_either;
use super::{PARAMETERS_BYTES, hexes, under_parameters};
use p2pet_core::component::{OutputState, encode_signers};
use p2pet_core::finality::{UNIQUENESS_ONLY, VERIFYING};
use p2pet_core::hash::sha256;
use p2pet_core::keys::{SigningKey, hex};
use p2pet_core::proofs::input_proof;
use serde_json::{Value, json};

/// Seeds of the services: two verifying notaries and one uniqueness-only.
const SECOND: u8 = 202;
pub const UNSEEING: u8 = 204;

/// What the parameters of these vectors list.
pub fn notaries() -> Vec<Value> {
    let listed = [
        (service().public(), VERIFYING),
        (key(SECOND).public(), VERIFYING),
        (key(UNSEEING).public(), UNIQUENESS_ONLY),
    ];
    let entries = listed.map(|(key, mode)| json!({ "service_key": hex(&key), "mode": mode }));
    entries.into()
}

/// How a notary decides.
pub fn notary(number: u8, mode: u8) -> Notarised {
    Notarised {
        notary: key(number).public(),
        service: key(number),
        mode,
        ..Notarised::default()
    }
}

/// The finality proof of a batch of three, of which this transaction is the second.
pub fn finality(built: &Built, by: &Notarised) -> Vec<u8> {
    by.proofs(&[sha256(b"before"), built.id(), sha256(b"after")])
        .remove(1)
}

/// The output under a notary and with an encumbrance.
pub fn altered(component: &[u8], notary: &[u8; 32], encumbered_by: u32) -> Vec<u8> {
    let state = OutputState::decode(component).unwrap();
    let altered = OutputState {
        notary,
        encumbered_by,
        ..state
    };
    altered.encode()
}

/// A transaction with its signatures, proofs and finality.
pub fn described(
    built: &Built,
    signers: &[&SigningKey],
    proofs: &[Vec<u8>],
    by: &Notarised,
) -> Value {
    json!({
        "salt": hex(&built.salt),
        "groups": built.groups.iter().map(hexes).collect::<Vec<_>>(),
        "id": hex(&built.id()),
        "input_proofs": hexes(proofs),
        "proposal": hex(&built.proposal(signers, proofs)),
        "finality_proof": hex(&finality(built, by)),
    })
}

/// Three outputs, the first two encumbered by each other; a composite key must sign.
pub fn encumbered() -> Built {
    let mut built = under_parameters(Built::issue(11, 3, &[]));
    for (index, by) in [2, 1, 0].into_iter().enumerate() {
        built.groups[2][index] = altered(&built.groups[2][index], &service().public(), by);
    }
    built.groups[4] = vec![encode_signers(&[&one_and_either(), &key(4).public()]).unwrap()];
    built
}

/// All three moved to the second notary, in another order.
pub fn change() -> Built {
    let creator = encumbered();
    let mut built = under_parameters(Built::issue(12, 0, &[]));
    built.groups[0] = [2, 1, 0].map(|index| creator.reference(index)).into();
    let second = key(SECOND).public();
    let moved = [(2, 0), (1, 3), (0, 2)];
    built.groups[2] = moved
        .map(|(index, by)| altered(&creator.groups[2][index], &second, by))
        .into();
    built.groups[3].clear();
    built.groups[4] = vec![encode_signers(&[&one_and_either()]).unwrap()];
    built.groups[7] = vec![[DECIDED_AT.to_be_bytes(), i64::MAX.to_be_bytes()].concat()];
    built.groups[9] = vec![vec![2]];
    built
}

fn spend() -> Built {
    let moved = change();
    let second = key(SECOND).public();
    let inputs = [moved.reference(1), moved.reference(2)];
    let mut built = under_parameters(Built::spend(13, &inputs, &[&key(5)]));
    built.groups[1] = vec![moved.reference(0)];
    built.groups[2][0] = altered(&built.groups[2][0], &second, 0);
    built.groups[6] = vec![second.to_vec()];
    built
}

/// The file states.json.
pub fn states() -> Value {
    let (first, second) = (Notarised::default(), notary(SECOND, VERIFYING));
    let prove = |built: &Built, indices: &[u32], by: &Notarised| -> Vec<Vec<u8>> {
        let finality = finality(built, by);
        let proofs = indices
            .iter()
            .map(|index| input_proof(&built.bytes(), *index, &finality));
        proofs.collect::<Result<_, _>>().unwrap()
    };
    let (creator, change, spend) = (encumbered(), change(), spend());
    let moving = prove(&creator, &[2, 1, 0], &first);
    let consuming = prove(&change, &[1, 2, 0], &first);
    json!({
        "network_id": hex(&NETWORK),
        "parameters_hash": hex(&sha256(PARAMETERS_BYTES)),
        "notaries": notaries(),
        "encumbered": described(&creator, &[&key(4), &key(1), &key(3)], &[], &first),
        "change": described(&change, &[&key(1), &key(2), &key(3)], &moving, &first),
        "spend": described(&spend, &[&key(5)], &consuming, &second),
    })
}
