//! Limits of a batch and of what is said about it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::result_large_err
)]

mod common;

use std::collections::HashMap;
use std::sync::Arc;

use common::*;
use p2pet_core::certificate::certify_worker;
use p2pet_notary::{BATCH_MAX, ContractRefusal, NotaryError, Request, Service};

#[test]
fn a_batch_is_decided_by_the_notary_that_checked_it() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (service, worker) = (key(202), Arc::new(key(201)));
    let certificate = certify_worker(&service, &NETWORK, &worker.public(), 0, i64::MAX);
    let service = Service::new(NETWORK, 1, worker, &certificate).unwrap();
    let (notary, rival) = (open(dir.path()), open_as(other.path(), service));
    let (caller, bytes) = (alice().public(), draft(1).sign().request());
    let request = Request {
        caller: &caller,
        bytes: &bytes,
    };
    let batch = notary.check(&[request]).unwrap().prepared;
    let decided = rival.decide(batch, &HashMap::new(), NOW);
    assert!(matches!(decided, Err(NotaryError::OtherBatch)));
    assert_eq!((rival.sequence(), rival.stats().batches), (OPENED, 0));
}

#[test]
fn a_sentence_of_a_contract_is_cut_at_500_characters() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let (caller, bytes) = (alice().public(), draft(1).sign().request());
    let request = Request {
        caller: &caller,
        bytes: &bytes,
    };
    let batch = notary.check(&[request]).unwrap().prepared;
    let refusal = ContractRefusal {
        code: "x".repeat(600),
        message: "é".repeat(501),
    };
    let replies = notary
        .decide(batch, &HashMap::from([(0, refusal)]), NOW)
        .unwrap();
    let error = decode_reply(&replies[0]).unwrap_err();
    assert_eq!(
        (error.cause, error.message),
        ("x".repeat(500), "é".repeat(500))
    );
}

#[test]
fn a_batch_holds_the_limit_and_not_one_more() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let request = Request {
        caller: &[0; 32],
        bytes: b"junk",
    };
    assert_eq!(
        notary.check(&[request; BATCH_MAX]).unwrap().prepared.len(),
        BATCH_MAX
    );
    let over = notary.check(&[request; BATCH_MAX + 1]);
    assert!(matches!(over, Err(NotaryError::BatchTooLarge(1025))));
}
