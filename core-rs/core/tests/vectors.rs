//! L07: the test vectors of `docs/vectors` are what this code makes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[path = "../examples/vectors.rs"]
mod vectors;

use p2pet_core::check::{Parameters, Rules};
use p2pet_core::composite::Key;
use p2pet_core::finality::VERIFYING;
use p2pet_core::resolved::Resolved;
use p2pet_core::signature::verify;
use p2pet_core::uniqueness::UniquenessProposal;
use serde_json::Value;
use std::collections::HashMap;

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().unwrap()
}

fn read(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(vectors::directory().join(name)).unwrap())
        .unwrap()
}

#[test]
fn l07_committed_vectors_equal_what_the_code_makes() {
    for (name, contents) in vectors::files() {
        let committed = std::fs::read_to_string(vectors::directory().join(name)).unwrap();
        assert!(
            committed == contents,
            "docs/vectors/{name} differs: run scripts/gen_vectors"
        );
    }
}

#[test]
fn l07_the_vector_of_a_final_transaction_verifies() {
    let vector = read("finality.json");
    let notary = &vector["notaries"][0]["service_key"];
    let notaries = HashMap::from([(array(notary), VERIFYING)]);
    let parameters = Parameters {
        notaries,
        transaction_bytes_max: 10_000,
        inputs_max: 8,
    };
    let rules = Rules::new(
        array(&vector["network_id"]),
        HashMap::from([(array(&vector["parameters_hash"]), parameters)]),
    );
    let transaction = &vector["transaction"];
    let (proposal, proof) = (
        bytes(&transaction["proposal"]),
        bytes(&transaction["finality_proof"]),
    );
    let proposed = rules.check_proposals(&[&proposal], true).remove(0).unwrap();
    let decided = rules
        .check_finals(&[(&proposal, &proof)], true)
        .remove(0)
        .unwrap();
    assert_eq!(proposed.contents, decided.contents);
    assert_eq!(proposed.contents.id, array(&transaction["id"]));
}

/// The rules of a file with three notaries.
fn rules_of(vector: &Value) -> Rules {
    let notaries = vector["notaries"].as_array().unwrap().iter();
    let notaries = notaries.map(|entry| {
        let mode = entry["mode"].as_u64().unwrap();
        (array(&entry["service_key"]), u8::try_from(mode).unwrap())
    });
    let parameters = Parameters {
        notaries: notaries.collect(),
        transaction_bytes_max: 10_000,
        inputs_max: 8,
    };
    let hash = array(&vector["parameters_hash"]);
    Rules::new(
        array(&vector["network_id"]),
        HashMap::from([(hash, parameters)]),
    )
}

#[test]
fn n13_the_vectors_of_a_notary_change_verify() {
    let vector = read("states.json");
    let rules = rules_of(&vector);
    for name in ["encumbered", "change", "spend"] {
        let transaction = &vector[name];
        let (proposal, proof) = (
            bytes(&transaction["proposal"]),
            bytes(&transaction["finality_proof"]),
        );
        let proposed = rules.check_proposals(&[&proposal], true).remove(0).unwrap();
        let decided = rules
            .check_finals(&[(&proposal, &proof)], true)
            .remove(0)
            .unwrap();
        assert_eq!(proposed.contents, decided.contents, "{name}");
        assert_eq!(proposed.contents.id, array(&transaction["id"]), "{name}");
    }
}

#[test]
fn l13_the_vectors_of_composite_keys_hold() {
    let vector = read("keys.json");
    for entry in vector["keys"].as_array().unwrap() {
        let encoding = bytes(&entry["encoding"]);
        let key = Key::decode(&encoding).unwrap();
        assert_eq!(key.id(), array(&entry["id"]));
        for case in entry["satisfaction"].as_array().unwrap() {
            let signed: Vec<[u8; 32]> = case["signed"]
                .as_array()
                .unwrap()
                .iter()
                .map(array)
                .collect();
            let satisfied = key.lacking(&|leaf| signed.contains(leaf)).is_none();
            assert_eq!(
                Some(satisfied),
                case["satisfied"].as_bool(),
                "{}",
                entry["name"]
            );
        }
    }
    for entry in vector["refused"].as_array().unwrap() {
        assert!(
            Key::decode(&bytes(&entry["encoding"])).is_err(),
            "{}",
            entry["name"]
        );
    }
}

#[test]
fn r19_the_vectors_of_a_uniqueness_only_notary_verify() {
    let vector = read("uniqueness.json");
    let rules = rules_of(&vector);
    let mut signatures = rules.signature_batch();
    let given = bytes(&vector["uniqueness_proposal"]);
    let proposal = UniquenessProposal::decode(&given).unwrap();
    let pending = rules.begin_uniqueness(proposal, &mut signatures).unwrap();
    let visible = pending.conclude(&signatures.verify()).unwrap();
    let transaction = &vector["transaction"];
    assert_eq!(visible.id, array(&transaction["id"]));
    let (proposal, proof) = (
        bytes(&transaction["proposal"]),
        bytes(&transaction["finality_proof"]),
    );
    let decided = rules
        .check_finals(&[(&proposal, &proof)], true)
        .remove(0)
        .unwrap();
    let outputs: Vec<_> = [1, 0]
        .map(|index: usize| bytes(&vector["creator"]["groups"][2][index]))
        .into();
    let resolved = Resolved {
        proposal: &proposal,
        input_outputs: vec![&outputs[0]],
        reference_outputs: vec![&outputs[1]],
    };
    let known = rules.check_resolved(&[resolved], true).remove(0).unwrap();
    assert_eq!(known.contents, decided.contents);
}

#[test]
fn l11_the_vectors_of_crafted_signatures_hold() {
    for case in read("zip215.json")["vectors"].as_array().unwrap() {
        let valid = verify(
            &array(&case["key"]),
            &bytes(&case["message"]),
            &array(&case["signature"]),
        );
        assert_eq!(Some(valid), case["valid"].as_bool());
    }
}
