//! L07: the vectors of the log in `docs/vectors` are what this code makes, and what the protocol says.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[path = "../examples/log_vectors.rs"]
mod log_vectors;

use p2pet_core::hash::sha256_parts;
use p2pet_log::read_segment;
use serde_json::Value;

fn committed() -> String {
    std::fs::read_to_string(log_vectors::path()).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    let digits = (0..text.len()).step_by(2);
    digits
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn l07_committed_log_vectors_equal_what_the_code_makes() {
    let advice =
        "docs/vectors/log.json differs: run cargo run -p p2pet-notary --example log_vectors";
    assert!(committed() == log_vectors::contents(), "{advice}");
}

#[test]
fn l07_the_segment_reads_as_the_protocol_says() {
    let vectors: Value = serde_json::from_str(&committed()).unwrap();
    let segment = &vectors["segment"];
    let payloads: Vec<_> = segment["payloads"]
        .as_array()
        .unwrap()
        .iter()
        .map(bytes)
        .collect();
    assert_eq!(read_segment(&bytes(&segment["bytes"])).unwrap(), payloads);
    let mut chain = bytes(&segment["chain_before"]);
    for ((payload, sequence), expected) in payloads
        .iter()
        .zip(1u64..)
        .zip(segment["chain_values"].as_array().unwrap())
    {
        chain = sha256_parts(&[&[0x20], &chain, &sequence.to_be_bytes(), payload]).to_vec();
        assert_eq!(chain, bytes(expected));
    }
}
