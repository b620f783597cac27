//! What stays provable when the worker's certificate or key is another than it was.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::result_large_err
)]

mod common;

use std::sync::Arc;

use common::*;
use p2pet_core::certificate::certify_worker;
use p2pet_notary::{Notary, NotaryError, Service, Status};

/// Times in certificates.
const RENEWED: i64 = NOW + 500;
const OLD_END: i64 = NOW + 1000;
const LATER: i64 = NOW + 2000;

/// A transaction decided under a certificate until `OLD_END`, and its proof.
fn decided_before(directory: &std::path::Path) -> (Signed, Vec<u8>) {
    let notary = open_as(directory, service_valid(0, OLD_END));
    let signed = draft(1).sign();
    let proof = finalise(&notary, &signed).proof;
    (signed, proof)
}

fn status(notary: &Notary, signed: &Signed) -> Status {
    notary.status(&signed.id, NOW, LATER).unwrap()
}

#[test]
fn n01_a_repeat_after_a_renewal_gets_the_proof_of_the_old_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let (old, proof) = decided_before(dir.path());
    for (not_before, records) in [(RENEWED, 3), (LATER, 4)] {
        // The second time the index is rebuilt, and with it the list of certificates.
        if not_before == LATER {
            std::fs::remove_dir_all(dir.path().join("view")).unwrap();
        }
        let notary = open_as(dir.path(), service_valid(not_before, i64::MAX));
        assert_eq!(notary.sequence(), records);
        let repeat = decide(&notary, &[old.request()], LATER).remove(0);
        assert_eq!(repeat, Ok(proof.clone()));
        assert_eq!(status(&notary, &old), Status::Notarised(proof.clone()));
        assert_eq!(notary.stats().unproven, 0);
    }
    let notary = open_as(dir.path(), service_valid(LATER, i64::MAX));
    assert_eq!(notary.sequence(), 4, "a known certificate is logged again");
    let new = draft(2).sign();
    let proof = decide(&notary, &[new.request()], LATER).remove(0);
    verify(&new, &proof.unwrap());
}

#[test]
fn n01_a_new_worker_proves_what_its_certificate_covers() {
    let dir = tempfile::tempdir().unwrap();
    let (old, first) = decided_before(dir.path());
    let notary = open_as(dir.path(), service_of(key(204), 0, i64::MAX));
    let proof = decide(&notary, &[old.request()], LATER).remove(0).unwrap();
    verify(&old, &proof);
    assert_eq!(root(&proof), root(&first));
}

#[test]
fn n01_what_cannot_be_proven_is_unknown_and_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    let (old, first) = decided_before(dir.path());
    let notary = open_as(dir.path(), service_of(key(204), RENEWED, i64::MAX));
    let refused = decide(&notary, &[old.request()], LATER).remove(0);
    assert_eq!(refused.unwrap_err().code, "notary.internal");
    assert_eq!(status(&notary, &old), Status::Unknown);
    assert_eq!(notary.stats().unproven, 2);
    drop(notary);
    // The old worker's key, with whatever certificate, proves it again.
    let notary = open_as(dir.path(), service_valid(RENEWED, i64::MAX));
    assert_eq!(status(&notary, &old), Status::Notarised(first));
}

#[test]
fn a_log_of_another_service_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    decided_before(dir.path());
    let worker = Arc::new(key(201));
    let certificate = certify_worker(&key(202), &NETWORK, &worker.public(), 0, i64::MAX);
    let service = Service::new(NETWORK, 1, worker, &certificate).unwrap();
    let opened = Notary::open(dir.path(), OPTIONS, rules(), service);
    assert!(matches!(opened, Err(NotaryError::WrongCertificate(_))));
}
