//! R07: a notary whose log was put back to an earlier state decides nothing once it is shown what it has forgotten.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod common;

use std::fs;
use std::path::Path;

use common::*;
use p2pet_notary::{Notary, NotaryError, Request, Status};

/// Copies a closed notary's log, as a backup does.
fn copy_log(from: &Path, to: &Path) {
    fs::create_dir_all(to.join("log")).unwrap();
    for entry in fs::read_dir(from.join("log")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join("log").join(entry.file_name())).unwrap();
    }
}

fn check(notary: &Notary, request: &[u8]) -> Result<(), NotaryError> {
    let caller = alice().public();
    let request = Request {
        caller: &caller,
        bytes: request,
    };
    notary.check(&[request]).map(|_| ())
}

fn is_rolled_back(notary: &Notary, request: &[u8]) -> bool {
    matches!(check(notary, request), Err(NotaryError::RolledBack { .. }))
}

/// An older copy, and what was decided before it was made and after.
struct Copied {
    _directories: [tempfile::TempDir; 2],
    newest: Notary,
    older: Notary,
    before: Final,
    after: Final,
}

fn copied() -> Copied {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [newest, older] = directories.each_ref().map(tempfile::TempDir::path);
    let notary = open(newest);
    let before = issue(&notary, 1, 3);
    notary.close().unwrap();
    drop(notary);
    copy_log(newest, older);
    let notary = open(newest);
    let after = finalise(&notary, &spend(2, &[(&before, 0)]).sign());
    let older = open(older);
    Copied {
        _directories: directories,
        newest: notary,
        older,
        before,
        after,
    }
}

#[test]
fn r07_a_proof_of_a_forgotten_decision_stops_an_older_copy() {
    let Copied {
        _directories,
        newest,
        older,
        before,
        after,
    } = copied();
    let uses_forgotten = spend(3, &[(&after, 0)]).sign().request();
    check(&newest, &uses_forgotten).unwrap();
    let sequence = older.sequence();
    assert!(is_rolled_back(&older, &uses_forgotten));

    // What it would decide otherwise than before is not decided at all, and nothing is said to be impossible for good.
    let double_spend = spend(4, &[(&before, 0)]).sign();
    let answers = notarise(&older, &[&double_spend]);
    assert_eq!(answers[0].clone().unwrap_err().code, "notary.internal");
    assert_eq!(
        older.status(&after.id, NOW, NOW + 100).unwrap(),
        Status::Unknown
    );
    // What it has decided is proven as before.
    let proven = older.status(&before.id, NOW, NOW + 100).unwrap();
    assert!(matches!(proven, Status::Notarised(proof) if root(&proof) == root(&before.proof)));
    assert_eq!(older.sequence(), sequence);
}

#[test]
fn r07_a_reference_to_a_forgotten_state_is_as_good_a_proof() {
    let copied = copied();
    let reads = Draft {
        references: vec![(&copied.after, 0)],
        ..draft(3)
    };
    assert!(is_rolled_back(&copied.older, &reads.sign().request()));
}

#[test]
fn r07_another_decision_at_the_same_place_is_found_too() {
    let copied = copied();
    // The older copy goes on by itself and decides its own record of that number.
    let own = issue(&copied.older, 5, 1);
    assert_eq!(
        root(&own.proof).sequence,
        root(&copied.after.proof).sequence
    );
    let uses_forgotten = spend(6, &[(&copied.after, 0)]).sign();
    assert!(is_rolled_back(&copied.older, &uses_forgotten.request()));
    let uses_own = spend(7, &[(&own, 0)]).sign();
    assert!(is_rolled_back(&copied.newest, &uses_own.request()));
}

#[test]
fn r07_a_proof_that_the_service_has_not_signed_stops_nobody() {
    let Copied {
        _directories,
        newest: _,
        older,
        mut after,
        ..
    } = copied();
    // The worker's signature is the last field of the batch proof.
    *after.proof.last_mut().unwrap() ^= 1;
    let refused = notarise(&older, &[&spend(3, &[(&after, 0)]).sign()]).remove(0);
    assert_eq!(refused.unwrap_err().code, "notary.invalid_transaction");
    finalise(&older, &draft(4).sign());
}

#[test]
fn r07_a_request_that_is_refused_otherwise_still_proves_it() {
    let copied = copied();
    let signed = spend(3, &[(&copied.after, 0)]).sign();
    let unsigned_by_caller =
        signed.request_of(&key(9), &signed.inputs, &signed.id, &key(9).public());
    assert!(is_rolled_back(&copied.older, &unsigned_by_caller));
}

#[test]
fn r07_a_uniqueness_only_notary_recognises_it_as_well() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [newest, older] = directories.each_ref().map(tempfile::TempDir::path);
    let notary = unseen::open(newest);
    let before = unseen::issue(&notary, 1, 1);
    notary.close().unwrap();
    drop(notary);
    copy_log(newest, older);
    let notary = unseen::open(newest);
    let after = unseen::finalise(&notary, &unseen::spend(2, &[(&before, 0)]));
    let older = unseen::open(older);
    let uses_forgotten = unseen::spend(3, &[(&after, 0)]).request();
    assert!(is_rolled_back(&older, &uses_forgotten));
    let refused = unseen::one(&older, &unseen::spend(4, &[(&before, 0)]));
    assert_eq!(refused.unwrap_err().code, "notary.internal");
}

#[test]
fn r07_a_held_notary_decides_nothing_and_proves_what_it_has_decided() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let made = draft(1).sign();
    let first = notarise(&notary, &[&made]).remove(0).unwrap();
    let sequence = notary.sequence();
    notary.hold("its operator has not confirmed this copy");
    assert_eq!(notarise(&notary, &[&made]).remove(0).unwrap(), first);
    let fresh = draft(2).sign();
    let refused = notarise(&notary, &[&fresh]).remove(0).unwrap_err();
    assert_eq!(refused.code, "notary.internal");
    assert!(refused.message.contains("confirmed"));
    assert_eq!(
        notary.status(&fresh.id, NOW, NOW + 100).unwrap(),
        Status::Unknown
    );
    assert_eq!(notary.sequence(), sequence);
    // Another copy may know that a state is consumed; what is consumed here is so everywhere.
    let consumed = state_ref(&made.id, 0);
    assert!(matches!(
        notary.consumer_hashes(&[consumed]),
        Err(NotaryError::Held(_))
    ));
}
