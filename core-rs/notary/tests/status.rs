//! What became of a transaction: semantics 6 of the notary.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod common;

use common::*;
use p2pet_notary::Status;

const UNTIL: i64 = NOW + 30;

#[test]
fn f20_status_of_a_notarised_transaction_is_its_proof() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let signed = draft(1).sign();
    let first = notarise(&notary, &[&signed])[0].clone().unwrap();
    let Status::Notarised(proof) = notary.status(&signed.id, NOW, NOW + 100).unwrap() else {
        panic!("not notarised");
    };
    verify(&signed, &proof);
    assert_eq!(root(&proof), root(&first));
}

#[test]
fn f20_never_is_answered_from_until_on_and_is_final() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let windowed = Draft {
        window: (i64::MIN, UNTIL),
        ..draft(1)
    };
    let signed = windowed.sign();
    assert_eq!(
        notary.status(&signed.id, UNTIL, UNTIL - 1).unwrap(),
        Status::Unknown
    );
    assert_eq!(notary.sequence(), OPENED);
    assert_eq!(
        notary.status(&signed.id, UNTIL, UNTIL).unwrap(),
        Status::Never
    );
    // A clock that steps back does not reopen the window, nor does a restart.
    let refused = decide(&notary, &[signed.request()], UNTIL - 10)
        .remove(0)
        .unwrap_err();
    assert_eq!(refused.code, "notary.time_window_invalid");
    drop(notary);
    let notary = open(dir.path());
    let refused = decide(&notary, &[signed.request()], UNTIL - 10)
        .remove(0)
        .unwrap_err();
    assert_eq!(refused.code, "notary.time_window_invalid");
    assert_eq!(
        notary.status(&signed.id, UNTIL, UNTIL - 10).unwrap(),
        Status::Never
    );
}

#[test]
fn f20_status_asked_again_writes_no_further_record() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let id = draft(1).sign().id;
    for _ in 0..3 {
        assert_eq!(notary.status(&id, UNTIL, UNTIL + 1).unwrap(), Status::Never);
    }
    assert_eq!(notary.sequence(), OPENED + 1);
}
