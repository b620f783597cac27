//! The cases of the notary's semantics under a uniqueness-only notary, and what such a notary must see.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::result_large_err
)]

mod common;

use common::unseen::*;
use common::{
    NETWORK, NOW, OPENED, Refused, Reply, alice, conflict_of, key, root, service_key, state_ref,
};
use p2pet_core::component::StateRef;
use p2pet_core::hash::{Digest, sha256};
use p2pet_core::proofs::input_proof;
use p2pet_core::request::request_digest;
use p2pet_core::signature::Purpose;
use p2pet_core::tearoff::tear_off;
use p2pet_core::transaction::Transaction;
use p2pet_core::uniqueness::{SHOWN, lock_proof};
use p2pet_notary::{Notary, Status, Subject};

const INPUT: u32 = 1;
const REFERENCE: u32 = 2;

fn refused(reply: Reply) -> Refused {
    reply.expect_err("the request was accepted")
}

fn assert_invalid(reply: Reply, cause: &str) {
    let error = refused(reply);
    let seen = (error.code.as_str(), error.cause.as_str());
    assert_eq!(seen, ("notary.invalid_transaction", cause), "{error:?}");
}

fn assert_conflict(reply: Reply, expected: &[(u32, Vec<u8>, Digest)]) {
    let error = refused(reply);
    let seen = (error.code.as_str(), error.conflicts.as_slice());
    assert_eq!(seen, ("notary.conflict", expected));
}

#[test]
fn n01_fresh_inputs_succeed_and_every_repeat_gets_the_same_decision() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 3);
    let windowed = Draft {
        window: (NOW - 5, NOW + 5),
        ..spend(2, &[(&money, 0), (&money, 2)])
    };
    let first = one(&notary, &windowed).unwrap();
    let sequence = notary.sequence();
    assert_eq!(one(&notary, &windowed), Ok(first.clone()));
    let later = decide(&notary, &[windowed.request()], NOW + 1_000_000);
    assert_eq!(later, [Ok(first.clone())], "after its window");
    drop(notary);
    let notary = open(dir.path());
    assert_eq!(one(&notary, &windowed), Ok(first));
    assert_eq!(notary.sequence(), sequence);
}

#[test]
fn n02_a_second_spender_learns_the_hash_of_the_first_and_fresh_inputs_stay_unspent() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 2);
    let first = spend(2, &[(&money, 0)]);
    finalise(&notary, &first);
    let mixed = spend(3, &[(&money, 0), (&money, 1)]);
    let spent = conflict_of(INPUT, &state_ref(&money.id, 0), &first.parts().id);
    assert_conflict(one(&notary, &mixed), &[spent]);
    finalise(&notary, &spend(4, &[(&money, 1)]));
}

#[test]
fn n03_queue_order_decides_in_one_batch() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 1);
    let (tx1, tx2) = (spend(2, &[(&money, 0)]), spend(3, &[(&money, 0)]));
    let queue = [&tx1, &tx1, &tx2, &tx2].map(Draft::request);
    let replies = decide(&notary, &queue, NOW);
    assert_eq!(replies[0], replies[1]);
    assert!(replies[0].is_ok());
    let conflict = conflict_of(INPUT, &state_ref(&money.id, 0), &tx1.parts().id);
    for reply in &replies[2..] {
        assert_conflict(reply.clone(), std::slice::from_ref(&conflict));
    }
}

#[test]
fn n04_references_do_not_exclude_each_other_but_a_spent_one_conflicts() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 4);
    let reading = |number, index| Draft {
        references: vec![(&money, 0)],
        ..spend(number, &[(&money, index)])
    };
    finalise(&notary, &reading(2, 1));
    finalise(&notary, &reading(3, 2));
    let consumer = spend(4, &[(&money, 0)]);
    finalise(&notary, &consumer);
    let conflict = conflict_of(REFERENCE, &state_ref(&money.id, 0), &consumer.parts().id);
    assert_conflict(one(&notary, &reading(5, 3)), &[conflict]);
}

#[test]
fn n05_a_decided_transaction_is_not_touched_by_a_later_spend_of_its_reference() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 2);
    let reading = Draft {
        references: vec![(&money, 0)],
        ..spend(2, &[(&money, 1)])
    };
    let proof = one(&notary, &reading).unwrap();
    finalise(&notary, &spend(3, &[(&money, 0)]));
    assert_eq!(one(&notary, &reading), Ok(proof));
}

#[test]
fn n06_a_window_bounds_the_decision_and_a_refusal_consumes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 1);
    for window in [(NOW + 1, NOW + 9), (NOW - 9, NOW)] {
        let windowed = Draft {
            window,
            ..spend(2, &[(&money, 0)])
        };
        let error = refused(one(&notary, &windowed));
        assert_eq!(error.code, "notary.time_window_invalid");
        assert_eq!(error.times, (NOW, window.0, window.1));
    }
    finalise(&notary, &spend(3, &[(&money, 0)]));
    let empty = Draft {
        window: (NOW, NOW),
        ..draft(4)
    };
    assert_invalid(one(&notary, &empty), "transaction.window_empty");
}

#[test]
fn n07_an_issue_without_inputs_is_notarised_once_and_needs_an_output() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 1);
    let sequence = notary.sequence();
    assert_eq!(one(&notary, &draft(1)), Ok(money.proof.clone()));
    let empty = Draft {
        outputs: 0,
        references: vec![(&money, 0)],
        ..draft(2)
    };
    assert_invalid(one(&notary, &empty), "transaction.empty");
    assert_eq!(notary.sequence(), sequence);
}

#[test]
fn n08_a_request_is_by_its_caller_over_its_inputs_and_id() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 1);
    let parts = spend(2, &[(&money, 0)]).parts();
    let other_inputs = Parts {
        inputs: vec![state_ref(&money.id, 1)],
        ..parts.clone()
    };
    let other_id = Parts {
        id: [5; 32],
        ..parts.clone()
    };
    for bytes in [
        parts.request_by(&key(2), &alice().public(), 5),
        parts.request_by(&key(2), &key(2).public(), 5),
        other_inputs.request(),
        other_id.request(),
    ] {
        let error = refused(decide(&notary, &[bytes], NOW).remove(0));
        assert_eq!(error.code, "notary.invalid_request_signature");
    }
    assert!(decide(&notary, &[parts.request()], NOW)[0].is_ok());
}

#[test]
fn n09_a_state_that_never_existed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 1);
    let never = draft(7).parts();
    let unknown = Done {
        proof: money.proof.clone(),
        ..never.done(b"")
    };
    let mut parts = spend(2, &[(&money, 0)]).parts();
    parts.proofs = vec![];
    assert_invalid(
        decide(&notary, &[parts.request()], NOW).remove(0),
        "proof.missing",
    );
    assert!(lock_proof(&unknown.transaction, 0, &unknown.proof).is_err());
    let made_up = Draft {
        inputs: vec![],
        ..draft(3)
    }
    .parts();
    assert!(decide(&notary, &[made_up.request()], NOW)[0].is_ok());
    // The proof of one state does not prove another.
    let mut other = spend(4, &[(&money, 0)]).parts();
    other.proofs =
        vec![lock_proof(&made_up.transaction, 0, &one_proof(&notary, &made_up)).unwrap()];
    assert_invalid(
        decide(&notary, &[other.request()], NOW).remove(0),
        "proof.invalid",
    );
    finalise(&notary, &spend(5, &[(&money, 0)]));
}

fn one_proof(notary: &Notary, parts: &Parts) -> Vec<u8> {
    decide(notary, &[parts.request()], NOW).remove(0).unwrap()
}

#[test]
fn r19_a_stranger_who_knows_reference_and_proof_cannot_consume() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 2);
    let parts = spend(2, &[(&money, 0)]).parts();
    let signed_by = |signature: [u8; 64]| Parts {
        unlocks: vec![signature.to_vec()],
        ..parts.clone()
    };
    let another = spend(3, &[(&money, 0)]).parts();
    for stolen in [
        signed_by(key(2).unlock(&NETWORK, &money.salt, 0, &parts.id)),
        signed_by(alice().unlock(&NETWORK, &money.salt, 1, &parts.id)),
        signed_by(alice().sign(&NETWORK, Purpose::Unlock, &parts.id)),
        Parts {
            unlocks: another.unlocks.clone(),
            ..parts.clone()
        },
    ] {
        let reply = decide(&notary, &[stolen.request()], NOW).remove(0);
        assert_invalid(reply, "signature.unlock_invalid");
    }
    for unlocks in [vec![], vec![parts.unlocks[0].clone(); 2]] {
        let wrong = Parts {
            unlocks,
            ..parts.clone()
        };
        assert_invalid(
            decide(&notary, &[wrong.request()], NOW).remove(0),
            "signature.missing",
        );
    }
    finalise(&notary, &spend(4, &[(&money, 0)]));
}

#[test]
fn l05_a_tear_off_that_hides_or_shows_another_group_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 2);
    let windowed = Draft {
        window: (0, NOW + 5),
        outputs: 2,
        ..spend(2, &[(&money, 0), (&money, 1)])
    };
    let parts = windowed.parts();
    let transaction = Transaction::decode(&parts.transaction).unwrap();
    let sequence = notary.sequence();
    let groups = SHOWN.map(|group| u32::from(group.number()));
    let mut attempts = vec![];
    for hidden in groups {
        let rest: Vec<_> = groups.into_iter().filter(|g| *g != hidden).collect();
        attempts.push(tear_off(&transaction, &[], &rest).unwrap());
        // One of two components hidden, where there are two.
        if hidden == 0 || hidden == 11 {
            attempts.push(tear_off(&transaction, &[(hidden, 0)], &rest).unwrap());
        }
    }
    for shown in [2, 3, 4, 5, 9] {
        let more = [&groups[..], &[shown]].concat();
        attempts.push(tear_off(&transaction, &[], &more).unwrap());
    }
    for tear_off in attempts {
        let reply = decide(
            &notary,
            &[Parts {
                tear_off,
                ..parts.clone()
            }
            .request()],
            NOW,
        )
        .remove(0);
        assert_invalid(reply, "proof.groups");
    }
    assert_eq!(notary.sequence(), sequence);
    finalise(&notary, &windowed);
}

#[test]
fn l24_a_lock_proof_is_of_this_output_under_this_notary() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let notary = open(dir.path());
    let verifying = common::open(elsewhere.path());
    let money = issue(&notary, 1, 2);
    let parts = spend(2, &[(&money, 0)]).parts();
    let with = |proof: Vec<u8>| {
        Parts {
            proofs: vec![proof],
            ..parts.clone()
        }
        .request()
    };
    let cause = |request| refused(decide(&notary, &[request], NOW).remove(0)).cause;
    // Another output's lock; the output instead of its lock.
    assert_eq!(
        cause(with(
            lock_proof(&money.transaction, 1, &money.proof).unwrap()
        )),
        "proof.index"
    );
    assert_eq!(
        cause(with(
            input_proof(&money.transaction, 0, &money.proof).unwrap()
        )),
        "proof.index"
    );
    assert_eq!(cause(with(b"rubbish".to_vec())), "proof.invalid");
    // A state of a verifying notary has no lock, so there is no proof of one.
    let foreign = common::issue(&verifying, 9, 1);
    assert!(lock_proof(&foreign.transaction, 0, &foreign.proof).is_err());
    // Too many proofs.
    let twice = Parts {
        proofs: vec![parts.proofs[0].clone(); 2],
        ..parts.clone()
    };
    assert_eq!(cause(twice.request()), "proof.invalid");
    finalise(&notary, &spend(3, &[(&money, 0)]));
}

#[test]
fn l24_claims_and_unlisted_notaries_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let claiming = Draft {
        claims: vec![vec![1; 32]],
        ..draft(1)
    };
    assert_invalid(one(&notary, &claiming), "transaction.claims_refused");
    for other in [service_key(), key(250).public()] {
        let elsewhere = Draft {
            notary: other,
            ..draft(2)
        };
        assert_invalid(one(&notary, &elsewhere), "transaction.notary_not_listed");
    }
    assert_eq!(notary.sequence(), OPENED);
}

#[test]
fn a_notary_takes_only_the_proposals_of_its_mode() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let notary = open(dir.path());
    let verifying = common::open(elsewhere.path());
    let whole = common::draft(1).sign().request();
    assert_invalid(
        decide(&notary, std::slice::from_ref(&whole), NOW).remove(0),
        "transaction.other_mode",
    );
    let shown = draft(1).request();
    let reply = common::decide(&verifying, &[shown], NOW).remove(0);
    assert_invalid(reply, "transaction.other_mode");
    let misplaced = draft(1).parts().request_by(&alice(), &alice().public(), 1);
    assert_invalid(
        common::decide(&verifying, &[misplaced], NOW).remove(0),
        "transaction.malformed",
    );
    let both = [whole, vec![42, 1, 0]].concat();
    assert_invalid(
        decide(&notary, &[both], NOW).remove(0),
        "transaction.malformed",
    );
    assert_eq!((notary.sequence(), verifying.sequence()), (OPENED, OPENED));
}

#[test]
fn f20_status_is_answered_as_in_verifying_mode() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 1);
    let status = notary.status(&money.id, i64::MAX, NOW).unwrap();
    assert_eq!(status, Status::Notarised(money.proof.clone()));
    let windowed = Draft {
        window: (0, NOW + 5),
        ..spend(2, &[(&money, 0)])
    };
    let id = windowed.parts().id;
    assert_eq!(notary.status(&id, NOW + 5, NOW).unwrap(), Status::Unknown);
    assert_eq!(notary.status(&id, NOW + 5, NOW + 5).unwrap(), Status::Never);
    let error = refused(one(&notary, &windowed));
    assert_eq!(error.code, "notary.time_window_invalid");
}

#[test]
fn who_spent_tells_the_request_that_consumed_a_state() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 3);
    let parts = spend(2, &[(&money, 2), (&money, 0)]).parts();
    let proof = one_proof(&notary, &parts);
    for input in &parts.inputs {
        let spent = notary.who_spent(Subject::State(input)).unwrap().unwrap();
        assert_eq!(
            (spent.transaction_id, spent.caller),
            (parts.id, alice().public())
        );
        assert_eq!(
            (spent.decided_at_ns, spent.sequence, spent.index),
            (NOW, root(&proof).sequence, 0)
        );
        assert_eq!(spent.inputs, parts.inputs);
        let refs: Vec<_> = spent
            .inputs
            .iter()
            .map(|r| StateRef::decode(r).unwrap())
            .collect();
        let digest = request_digest(&refs, &spent.transaction_id);
        let expected = alice().sign(&NETWORK, Purpose::NotarisationRequest, &digest);
        assert_eq!(spent.request_signature, expected);
    }
    let unspent = notary.who_spent(Subject::State(&state_ref(&money.id, 1)));
    assert_eq!(unspent.unwrap(), None);
}

#[test]
fn n02_the_consumers_of_states_are_told_as_hashes_in_the_order_asked() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 3);
    let parts = spend(2, &[(&money, 2)]).parts();
    let _ = one_proof(&notary, &parts);
    let states = [1, 2, 0].map(|index| state_ref(&money.id, index));
    let told = notary.consumer_hashes(&states).unwrap();
    assert_eq!(told, vec![None, Some(sha256(&parts.id)), None]);
    assert_eq!(notary.consumer_hashes(&[]).unwrap(), vec![]);
}
