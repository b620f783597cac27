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
use p2pet_core::finality::VERIFYING;
use p2pet_core::signature::verify;
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
            "docs/vectors/{name} differs: run cargo run -p p2pet-core --example vectors"
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
