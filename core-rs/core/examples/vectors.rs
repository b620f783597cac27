//! Writes the test vectors of `docs/vectors`: `scripts/gen_vectors`.

#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/common/crafted.rs"]
mod crafted;
#[path = "vectors/keys.rs"]
mod keys;
#[path = "vectors/states.rs"]
mod states;
#[path = "vectors/uniqueness.rs"]
mod uniqueness;

use common::{Built, DECIDED_AT, NETWORK, Notarised, SEQUENCE, key, output, service, worker};
use p2pet_core::certificate::{WorkerCertificate, certificate_digest};
use p2pet_core::component::StateRef;
use p2pet_core::finality::{RootMessage, VERIFYING, batch_leaf, batch_tree};
use p2pet_core::hash::{Nonces, sha256};
use p2pet_core::keys::hex;
use p2pet_core::proofs::input_proof;
use p2pet_core::request::request_digest;
use p2pet_core::signature::{Purpose, signed_message};
use p2pet_core::tearoff::{TearOff, tear_off};
use p2pet_core::transaction::{Group, Transaction};
use p2pet_core::wire::Writer;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Stands for the serialised `NetworkParameters`, of which the vectors need the hash only.
const PARAMETERS_BYTES: &[u8] = b"network parameters of the test vectors";

/// Name and contents of every file.
pub fn files() -> Vec<(&'static str, String)> {
    let made = [
        ("ids.json", ids()),
        ("tear_offs.json", tear_offs()),
        ("signatures.json", signatures()),
        ("zip215.json", zip215()),
        ("batch.json", batch()),
        ("finality.json", finality()),
        ("keys.json", keys::keys()),
        ("states.json", states::states()),
        ("uniqueness.json", uniqueness::uniqueness()),
    ];
    made.map(|(name, value)| (name, format!("{value:#}\n")))
        .into()
}

/// The directory of the vectors.
pub fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/vectors")
}

fn main() {
    std::fs::create_dir_all(directory()).unwrap();
    for (name, contents) in files() {
        std::fs::write(directory().join(name), contents).unwrap();
    }
}

fn hexes<T: AsRef<[u8]>>(parts: impl IntoIterator<Item = T>) -> Vec<String> {
    parts.into_iter().map(|part| hex(part.as_ref())).collect()
}

fn under_parameters(mut built: Built) -> Built {
    built.groups[8] = vec![sha256(PARAMETERS_BYTES).to_vec()];
    built
}

fn transactions() -> Vec<(&'static str, Built)> {
    let empty = Built {
        salt: (0..32).collect(),
        groups: vec![Vec::new(); 12],
    };
    let issue = under_parameters(Built::issue(1, 1, &[&key(1)]));
    let inputs: Vec<_> = (0..3).map(|index| issue.reference(index)).collect();
    let mut full = under_parameters(Built::spend(0x5a, &inputs, &[&key(1), &key(2)]));
    full.groups[1] = vec![[3; 36].to_vec(), [4; 36].to_vec()];
    full.groups[2] = (0..7)
        .map(|number| output(&service().public(), &[number]))
        .collect();
    full.groups[3].push(common::command(b"too"));
    full.groups[4].push(common::signers_component(&[]));
    full.groups[5] = vec![sha256(b"attachment").to_vec()];
    full.groups[7] = vec![
        [
            (DECIDED_AT - 5).to_be_bytes(),
            (DECIDED_AT + 5).to_be_bytes(),
        ]
        .concat(),
    ];
    full.groups[10] = (0..5).map(|number| sha256(&[number]).to_vec()).collect();
    vec![
        ("empty groups", empty),
        ("issue", issue),
        ("every group", full),
        ("encumbrances and a composite key", states::encumbered()),
        ("notary change", states::change()),
        ("under a uniqueness-only notary", uniqueness::spend()),
    ]
}

fn ids() -> Value {
    let vectors = transactions().into_iter().map(|(name, built)| {
        let views = built.views();
        let transaction = Transaction::from_parts(&built.salt, &views).unwrap();
        let nonces = Nonces::new(transaction.salt());
        let of_group = |group: Group| {
            let indices = 0..transaction.group(group).len() as u32;
            hexes(indices.map(|index| nonces.nonce(group.number(), index)))
        };
        json!({
            "name": name,
            "salt": hex(&built.salt),
            "groups": built.groups.iter().map(hexes).collect::<Vec<_>>(),
            "nonces": Group::ALL.map(of_group),
            "leaves": Group::ALL.map(|group| hexes(transaction.leaves(group))),
            "group_roots": hexes(transaction.group_roots()),
            "id": hex(&transaction.id()),
            "transaction": hex(&transaction.encode()),
        })
    });
    json!({ "vectors": vectors.collect::<Vec<_>>() })
}

/// A name, (group, index) pairs, whole groups.
type Selection = (&'static str, Vec<(u32, u32)>, Vec<u32>);

fn tear_offs() -> Value {
    let selections: [Selection; 7] = [
        ("one output", vec![(2, 4)], vec![]),
        ("as in an input proof", vec![(2, 6)], vec![6, 8, 9]),
        ("outputs apart", vec![(2, 0), (2, 3), (2, 6)], vec![]),
        ("whole groups, one of them empty", vec![], vec![0, 1, 7, 11]),
        ("nothing", vec![], vec![]),
        ("everything", vec![], (0..12).collect()),
        ("mixed", vec![(10, 1), (0, 2), (4, 0)], vec![3, 5]),
    ];
    let (of, built) = transactions().remove(2);
    let views = built.views();
    let transaction = Transaction::from_parts(&built.salt, &views).unwrap();
    let vectors = selections.into_iter().map(|(name, components, whole)| {
        let bytes = tear_off(&transaction, &components, &whole).unwrap();
        let revealed = TearOff::decode(&bytes).unwrap().verify(&transaction.id()).unwrap();
        let shown = revealed.groups.iter().map(|group| {
            let components = group.components.iter().map(|shown| {
                json!({ "index": shown.index, "nonce": hex(shown.nonce), "component": hex(shown.component) })
            });
            json!({
                "group": group.group.number(),
                "count": group.count,
                "complete": group.is_complete(),
                "components": components.collect::<Vec<_>>(),
            })
        });
        json!({
            "name": name,
            "components": components,
            "whole_groups": whole,
            "shown": shown.collect::<Vec<_>>(),
            "tear_off": hex(&bytes),
        })
    });
    json!({ "transaction": of, "id": hex(&transaction.id()), "vectors": vectors.collect::<Vec<_>>() })
}

fn signatures() -> Value {
    let signer = key(1);
    let digest = sha256(b"what is signed");
    let vectors = Purpose::WITH_DIGEST.map(|purpose| {
        json!({
            "purpose": purpose as u8,
            "message": hex(&signed_message(&NETWORK, purpose, &digest)),
            "signature": hex(&signer.sign(&NETWORK, purpose, &digest)),
        })
    });
    json!({
        "seed": hex(&sha256(&[1])),
        "key": hex(&signer.public()),
        "network_id": hex(&NETWORK),
        "digest": hex(&digest),
        "vectors": vectors,
    })
}

fn zip215() -> Value {
    let vectors = crafted::adversarial().into_iter().map(|case| {
        json!({
            "key": hex(&case.key),
            "message": hex(&case.message),
            "signature": hex(&case.signature),
            "valid": case.valid,
        })
    });
    json!({ "vectors": vectors.collect::<Vec<_>>() })
}

fn certificate() -> Value {
    let notarised = Notarised::default();
    let (from, until) = (notarised.not_before_ns, notarised.not_before_ns + 1_000_000);
    let digest = certificate_digest(&service().public(), &worker().public(), from, until);
    let bytes = notarised.certificate();
    assert!(WorkerCertificate::decode(&bytes).is_ok());
    json!({
        "service_seed": hex(&sha256(&[200])),
        "service_key": hex(&service().public()),
        "worker_seed": hex(&sha256(&[201])),
        "worker_key": hex(&worker().public()),
        "not_before_ns": from.to_string(),
        "not_after_ns": until.to_string(),
        "digest": hex(&digest),
        "message": hex(&signed_message(&NETWORK, Purpose::WorkerCertificate, &digest)),
        "signature": hex(&service().sign(&NETWORK, Purpose::WorkerCertificate, &digest)),
        "worker_certificate": hex(&bytes),
    })
}

fn batch() -> Value {
    let batches = [1u8, 2, 3, 5, 8].map(|count| {
        let ids: Vec<_> = (0..count).map(|number| sha256(&[count, number])).collect();
        let (root, paths) = batch_tree(&ids);
        let root = RootMessage {
            notary: service().public(),
            mode: VERIFYING,
            sequence: SEQUENCE,
            decided_at_ns: DECIDED_AT,
            count: u32::from(count),
            root,
        };
        json!({
            "ids": hexes(&ids),
            "leaves": hexes(ids.iter().map(batch_leaf)),
            "notary": hex(&root.notary),
            "mode": root.mode,
            "sequence": root.sequence.to_string(),
            "decided_at_ns": root.decided_at_ns.to_string(),
            "count": root.count,
            "root": hex(&root.root),
            "message": hex(&root.message(&NETWORK)),
            "signature": hex(&root.sign(&worker(), &NETWORK)),
            "paths": paths.iter().map(hexes).collect::<Vec<_>>(),
            "finality_proofs": hexes(Notarised::default().proofs(&ids)),
        })
    });
    json!({ "network_id": hex(&NETWORK), "worker": certificate(), "batches": batches })
}

fn finality() -> Value {
    let creator = under_parameters(Built::issue(1, 3, &[&key(1)]));
    let signers = [&key(1), &key(2)];
    let mut built = under_parameters(Built::spend(
        2,
        &[creator.reference(2), creator.reference(0)],
        &signers,
    ));
    built.groups[1] = vec![creator.reference(1)];
    built.groups[7] = vec![[DECIDED_AT.to_be_bytes(), (DECIDED_AT + 1).to_be_bytes()].concat()];
    let ids = [creator.id(), sha256(b"another"), built.id()];
    let proofs = Notarised::default().proofs(&ids);
    let prove = |index| input_proof(&creator.bytes(), index, &proofs[0]).unwrap();
    let input_proofs = [prove(2), prove(0), prove(1)];
    let proposal = built.proposal(&signers, &input_proofs);
    let inputs: Vec<_> = built.groups[0]
        .iter()
        .map(|bytes| StateRef::decode(bytes).unwrap())
        .collect();
    let digest = request_digest(&inputs, &built.id());
    let signature = key(1).sign(&NETWORK, Purpose::NotarisationRequest, &digest);
    let mut request = Writer::default();
    request
        .bytes(1, &proposal)
        .bytes(2, &key(1).public())
        .uint(3, 1)
        .bytes(4, &signature);
    json!({
        "network_id": hex(&NETWORK),
        "parameters": hex(PARAMETERS_BYTES),
        "parameters_hash": hex(&sha256(PARAMETERS_BYTES)),
        "notaries": [{ "service_key": hex(&service().public()), "mode": VERIFYING }],
        "creator": {
            "salt": hex(&creator.salt),
            "groups": creator.groups.iter().map(hexes).collect::<Vec<_>>(),
            "id": hex(&creator.id()),
            "finality_proof": hex(&proofs[0]),
        },
        "transaction": {
            "salt": hex(&built.salt),
            "groups": built.groups.iter().map(hexes).collect::<Vec<_>>(),
            "id": hex(&built.id()),
            "input_proofs": hexes(&input_proofs),
            "proposal": hex(&proposal),
            "finality_proof": hex(&proofs[2]),
        },
        "request": {
            "caller": hex(&key(1).public()),
            "digest": hex(&digest),
            "signature": hex(&signature),
            "notarisation_request": hex(&request.finish()),
        },
    })
}
