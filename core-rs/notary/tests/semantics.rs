//! The cases of the notary's semantics that need one worker.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::result_large_err
)]

mod common;

use std::collections::HashMap;

use common::*;
use p2pet_notary::{ContractRefusal, Notary, Request};

const INPUT: u32 = 1;
const REFERENCE: u32 = 2;
const CLAIM: u32 = 3;

fn refused(reply: Reply) -> Refused {
    reply.expect_err("the request was accepted")
}

/// A conflict reply with exactly these conflicts.
fn assert_conflict(reply: Reply, expected: &[(u32, Vec<u8>, [u8; 32])]) {
    let error = refused(reply);
    assert_eq!(
        (error.code.as_str(), error.conflicts.as_slice()),
        ("notary.conflict", expected)
    );
}

fn assert_invalid(reply: Reply, cause: &str) -> Refused {
    let error = refused(reply);
    assert_eq!(
        (error.code.as_str(), error.cause.as_str()),
        ("notary.invalid_transaction", cause),
        "{error:?}"
    );
    error
}

/// Spends an output, which proves that nothing else has.
fn assert_unspent(notary: &Notary, number: u64, state: (&Final, u32)) {
    finalise(notary, &spend(number, &[state]).sign());
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
    let (tx, other) = (windowed.sign(), spend(3, &[(&money, 1)]).sign());
    let replies = notarise(&notary, &[&other, &tx]);
    let first = replies[1].clone().unwrap();
    verify(&tx, &first);
    let decided = root(&first);
    assert_eq!(
        (decided.sequence, decided.decided_at_ns, decided.count),
        (OPENED + 2, NOW, 2)
    );

    let sequence = notary.sequence();
    assert_eq!(notarise(&notary, &[&tx])[0], Ok(first.clone()));
    let later = decide(&notary, &[tx.request()], NOW + 1_000_000);
    assert_eq!(later[0], Ok(first.clone()), "after its window");
    assert_eq!(
        notary.sequence(),
        sequence,
        "a batch of repeats needs no record"
    );
    drop(notary);

    let notary = open(dir.path());
    assert_eq!(
        decide(&notary, &[tx.request()], NOW - 1_000_000)[0],
        Ok(first)
    );
    assert_eq!(notary.sequence(), sequence);
    assert_eq!((notary.stats().repeated, notary.stats().accepted), (1, 0));
}

#[test]
fn n02_a_second_spender_learns_the_hash_of_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 4);
    let (tx1, tx2) = (
        spend(2, &[(&money, 0)]).sign(),
        spend(3, &[(&money, 0)]).sign(),
    );
    finalise(&notary, &tx1);
    let spent = state_ref(&money.id, 0);
    let reply = notarise(&notary, &[&tx2]).remove(0);
    assert_conflict(reply, &[conflict(INPUT, &spent, &tx1)]);
    assert_conflict(
        notarise(&notary, &[&tx2]).remove(0),
        &[conflict(INPUT, &spent, &tx1)],
    );
}

#[test]
fn n02_a_mix_lists_each_spent_input_and_leaves_the_fresh_ones_unspent() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 4);
    let (tx1, tx2) = (
        spend(2, &[(&money, 0)]).sign(),
        spend(3, &[(&money, 2)]).sign(),
    );
    finalise(&notary, &tx1);
    // One consumer stands in an earlier record, one earlier in the same batch.
    let mixed = spend(4, &[(&money, 0), (&money, 1), (&money, 2), (&money, 3)]).sign();
    let reply = notarise(&notary, &[&tx2, &mixed]).remove(1);
    let expected = [
        conflict(INPUT, &state_ref(&money.id, 0), &tx1),
        conflict(INPUT, &state_ref(&money.id, 2), &tx2),
    ];
    assert_conflict(reply, &expected);
    assert_unspent(&notary, 5, (&money, 1));
    assert_unspent(&notary, 6, (&money, 3));
}

#[test]
fn n03_queue_order_decides_in_one_batch_and_in_four() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 2);
    for (index, together) in [(0, true), (1, false)] {
        let tx1 = spend(10 + u64::from(index), &[(&money, index)]).sign();
        let tx2 = spend(20 + u64::from(index), &[(&money, index)]).sign();
        let queue = [&tx1, &tx1, &tx2, &tx2];
        let replies: Vec<_> = if together {
            notarise(&notary, &queue)
        } else {
            queue
                .iter()
                .map(|tx| notarise(&notary, &[tx]).remove(0))
                .collect()
        };
        verify(&tx1, replies[0].as_ref().unwrap());
        assert_eq!(replies[0], replies[1]);
        let expected = [conflict(INPUT, &state_ref(&money.id, index), &tx1)];
        assert_conflict(replies[2].clone(), &expected);
        assert_conflict(replies[3].clone(), &expected);
    }
    assert_eq!(
        (
            notary.stats().accepted,
            notary.stats().repeated,
            notary.stats().refused
        ),
        (3, 2, 4)
    );
}

#[test]
fn n04_references_do_not_exclude_each_other_but_a_spent_one_conflicts() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 2);
    let reads = |number| Draft {
        references: vec![(&money, 0)],
        ..draft(number)
    };
    let (read1, read2, late) = (reads(2).sign(), reads(3).sign(), reads(5).sign());
    let spender = spend(4, &[(&money, 0)]).sign();
    let replies = notarise(&notary, &[&read1, &read2, &spender, &late]);
    assert!(replies[..3].iter().all(Result::is_ok));
    let expected = [conflict(REFERENCE, &state_ref(&money.id, 0), &spender)];
    assert_conflict(replies[3].clone(), &expected);
    assert_conflict(notarise(&notary, &[&late]).remove(0), &expected);
}

#[test]
fn n05_a_decided_transaction_is_not_touched_by_a_later_spend_of_its_reference() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 2);
    let first = Draft {
        references: vec![(&money, 1)],
        ..spend(2, &[(&money, 0)])
    }
    .sign();
    let decided = finalise(&notary, &first);
    assert_unspent(&notary, 3, (&money, 1));
    assert_eq!(notarise(&notary, &[&first])[0], Ok(decided.proof));
}

#[test]
fn n06_from_is_inclusive_until_is_exclusive_and_a_refusal_is_not_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 2);
    let (from, until) = (NOW + 10, NOW + 20);
    let windowed = |number, index| Draft {
        window: (from, until),
        ..spend(number, &[(&money, index)])
    };
    let (early, edge, late) = (
        windowed(2, 0).sign(),
        windowed(3, 1).sign(),
        windowed(4, 1).sign(),
    );

    let error = refused(decide(&notary, &[early.request()], from - 1).remove(0));
    assert_eq!(
        (error.code.as_str(), error.times),
        ("notary.time_window_invalid", (from - 1, from, until))
    );
    verify(
        &early,
        decide(&notary, &[early.request()], from)[0]
            .as_ref()
            .unwrap(),
    );
    let error = refused(decide(&notary, &[late.request()], until).remove(0));
    assert_eq!(
        (error.code.as_str(), error.times),
        ("notary.time_window_invalid", (until, from, until))
    );
    // The clock of decisions never steps back: what has passed stays closed.
    let error = refused(decide(&notary, &[edge.request()], until - 1).remove(0));
    assert_eq!(error.times, (until, from, until));
    assert_unspent(&notary, 5, (&money, 1));
}

#[test]
fn n06_the_last_instant_of_a_window_is_inside() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 1);
    let tx = Draft {
        window: (NOW + 10, NOW + 20),
        ..spend(2, &[(&money, 0)])
    }
    .sign();
    assert!(decide(&notary, &[tx.request()], NOW + 19)[0].is_ok());
}

#[test]
fn n06_a_conflict_outranks_a_bad_window() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 1);
    let tx1 = spend(2, &[(&money, 0)]).sign();
    finalise(&notary, &tx1);
    let closed = Draft {
        window: (0, 1),
        ..spend(3, &[(&money, 0)])
    }
    .sign();
    let reply = notarise(&notary, &[&closed]).remove(0);
    assert_conflict(reply, &[conflict(INPUT, &state_ref(&money.id, 0), &tx1)]);
}

#[test]
fn n06_a_clock_that_steps_back_over_a_restart_does_not_reopen_a_window() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    issue(&notary, 1, 1);
    drop(notary);
    let notary = open(dir.path());
    let past = Draft {
        window: (0, NOW),
        ..draft(2)
    }
    .sign();
    let error = refused(decide(&notary, &[past.request()], NOW - 10).remove(0));
    assert_eq!(
        (error.code.as_str(), error.times),
        ("notary.time_window_invalid", (NOW, 0, NOW))
    );
}

#[test]
fn n07_an_issue_without_inputs_is_notarised_once() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 1);
    let issue = Draft {
        window: (NOW, NOW + 1),
        references: vec![(&money, 0)],
        claims: vec![[7; 32], [8; 32]],
        ..draft(2)
    };
    let first = finalise(&notary, &issue.sign());
    assert_eq!(notarise(&notary, &[&issue.sign()])[0], Ok(first.proof));
}

#[test]
fn n07_a_claim_is_used_once() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let claims = |number, claims: &[[u8; 32]]| {
        Draft {
            claims: claims.to_vec(),
            ..draft(number)
        }
        .sign()
    };
    let (tx1, tx2, tx3) = (
        claims(1, &[[7; 32]]),
        claims(2, &[[6; 32], [7; 32]]),
        claims(3, &[[6; 32]]),
    );
    let replies = notarise(&notary, &[&tx1, &tx2]);
    verify(&tx1, replies[0].as_ref().unwrap());
    assert_conflict(replies[1].clone(), &[conflict(CLAIM, &[7; 32], &tx1)]);
    assert_conflict(
        notarise(&notary, &[&tx2]).remove(0),
        &[conflict(CLAIM, &[7; 32], &tx1)],
    );
    finalise(&notary, &tx3);
}

#[test]
fn n08_a_request_is_by_its_caller_over_its_inputs_and_id() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 2);
    let tx = spend(2, &[(&money, 0)]).sign();
    let (alice, mallory) = (alice(), key(66));
    let me = alice.public();
    let other_input = [state_ref(&money.id, 1)];
    let requests = [
        tx.request_of(&mallory, &tx.inputs, &tx.id, &me),
        tx.request_of(&alice, &other_input, &tx.id, &me),
        tx.request_of(&alice, &[], &tx.id, &me),
        tx.request_of(&alice, &tx.inputs, &money.id, &me),
        tx.request_of(&mallory, &tx.inputs, &tx.id, &mallory.public()),
    ];
    let sequence = notary.sequence();
    for reply in decide(&notary, &requests, NOW) {
        assert_eq!(refused(reply).code, "notary.invalid_request_signature");
    }
    assert_eq!(notary.sequence(), sequence);
    finalise(&notary, &tx);
}

#[test]
fn n08_only_a_decided_request_may_be_repeated_by_another_peer() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let tx = draft(1).sign();
    let (stranger, request) = (key(66).public(), tx.request());
    let replay = |caller: &[u8]| {
        let batch = notary
            .check(&[Request {
                caller,
                bytes: &request,
            }])
            .unwrap();
        let replies = notary.decide(batch.prepared, &HashMap::new(), NOW).unwrap();
        decode_reply(&replies[0])
    };
    assert_eq!(
        refused(replay(&stranger)).code,
        "notary.invalid_request_signature"
    );
    assert_eq!(
        refused(replay(b"nobody")).code,
        "notary.invalid_request_signature"
    );
    let decided = finalise(&notary, &tx);
    assert_eq!(replay(&stranger), Ok(decided.proof));
}

#[test]
fn n09_a_state_that_never_existed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 1);
    let imagined = Final {
        id: [5; 32],
        ..money.clone()
    };
    assert_invalid(
        notarise(&notary, &[&spend(2, &[(&imagined, 0)]).sign()]).remove(0),
        "proof.invalid",
    );
    let mut unproven = spend(3, &[(&money, 0)]).sign();
    unproven
        .proposal
        .truncate(unproven.proposal.len() - input_proof_bytes(&money));
    assert_invalid(notarise(&notary, &[&unproven]).remove(0), "proof.missing");
    assert_unspent(&notary, 4, (&money, 0));
}

/// Bytes that the input proof of output 0 takes as the last field of a proposal.
fn input_proof_bytes(money: &Final) -> usize {
    let proof = p2pet_core::proofs::input_proof(&money.transaction, 0, &money.proof).unwrap();
    let mut writer = p2pet_core::wire::Writer::default();
    writer.entry(3, &proof);
    writer.finish().len()
}

#[test]
fn n10_a_missing_signature_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let both = Draft {
        signers: vec![alice(), key(2)],
        ..draft(1)
    };
    let error = assert_invalid(
        notarise(&notary, &[&both.sign_by(&[&alice()])]).remove(0),
        "signature.missing",
    );
    assert_eq!(error.missing_keys, [key(2).public().to_vec()]);
    finalise(&notary, &both.sign());
}

#[test]
fn n11_a_hundred_concurrent_transactions_each_get_their_own_proof() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 100);
    let transactions: Vec<_> = (0..100)
        .map(|n| spend(100 + u64::from(n), &[(&money, n)]).sign())
        .collect();
    std::thread::scope(|scope| {
        for part in transactions.chunks(10) {
            let notary = &notary;
            scope.spawn(move || {
                let part: Vec<_> = part.iter().collect();
                for (tx, reply) in part.iter().zip(notarise(notary, &part)) {
                    verify(tx, &reply.unwrap());
                }
            });
        }
    });
    assert_eq!(
        (notary.stats().accepted, notary.sequence()),
        (101, OPENED + 11)
    );
    let again = notarise(&notary, &transactions.iter().collect::<Vec<_>>());
    for (tx, reply) in transactions.iter().zip(again) {
        verify(tx, &reply.unwrap());
    }
}

#[test]
fn n14_two_workers_race_on_one_state_and_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 1);
    let rivals: Vec<_> = (0..8)
        .map(|n| spend(10 + n, &[(&money, 0)]).sign())
        .collect();
    let wins = std::thread::scope(|scope| {
        let threads: Vec<_> = rivals
            .iter()
            .map(|tx| scope.spawn(|| notarise(&notary, &[tx]).remove(0).is_ok()))
            .collect();
        threads
            .into_iter()
            .map(|thread| u32::from(thread.join().unwrap()))
            .sum::<u32>()
    });
    assert_eq!(wins, 1);
}

#[test]
fn a_request_checked_twice_before_either_decision_is_decided_once() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let (tx, caller) = (draft(1).sign(), alice().public());
    let bytes = tx.request();
    let check = || {
        notary
            .check(&[Request {
                caller: &caller,
                bytes: &bytes,
            }])
            .unwrap()
            .prepared
    };
    let (first, second) = (check(), check());
    let first = notary.decide(first, &HashMap::new(), NOW).unwrap();
    let second = notary.decide(second, &HashMap::new(), NOW + 1).unwrap();
    assert_eq!((first, notary.sequence()), (second, OPENED + 1));
}

#[test]
fn a_contract_refuses_by_position_and_nothing_is_consumed() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let money = issue(&notary, 1, 2);
    let (bad, good) = (
        spend(2, &[(&money, 0)]).sign(),
        spend(3, &[(&money, 1)]).sign(),
    );
    let (caller, requests) = (
        alice().public(),
        [good.request(), bad.request(), b"junk".to_vec()],
    );
    let requests: Vec<_> = requests
        .iter()
        .map(|bytes| Request {
            caller: &caller,
            bytes,
        })
        .collect();
    let batch = notary.check(&requests).unwrap();
    let waiting: Vec<_> = batch
        .to_verify
        .iter()
        .map(|(position, checked)| (*position, checked.contents.id))
        .collect();
    assert_eq!(waiting, [(0, good.id), (1, bad.id)]);
    let refusal = ContractRefusal {
        code: "energy.transfer.quantity_not_conserved".into(),
        message: "It is not.".into(),
    };
    let replies = notary
        .decide(batch.prepared, &HashMap::from([(1, refusal)]), NOW)
        .unwrap();
    let replies: Vec<_> = replies.iter().map(|reply| decode_reply(reply)).collect();
    verify(&good, replies[0].as_ref().unwrap());
    let error = assert_invalid(replies[1].clone(), "energy.transfer.quantity_not_conserved");
    assert_eq!(error.message, "It is not.");
    assert_invalid(replies[2].clone(), "transaction.malformed");
    assert_unspent(&notary, 4, (&money, 0));
}

#[test]
fn a_transaction_for_another_notary_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let elsewhere = Draft {
        notary: key(202).public(),
        ..draft(1)
    }
    .sign();
    assert_invalid(
        notarise(&notary, &[&elsewhere]).remove(0),
        "transaction.other_notary",
    );
    assert_eq!(notary.sequence(), OPENED);
}

#[test]
fn nothing_is_signed_outside_the_workers_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let notary = Notary::open(dir.path(), OPTIONS, rules(), service_valid(NOW, NOW + 2)).unwrap();
    let (tx, late) = (draft(1).sign(), draft(2).sign());
    assert_eq!(
        refused(decide(&notary, &[tx.request()], NOW - 1).remove(0)).code,
        "notary.internal"
    );
    assert!(decide(&notary, &[tx.request()], NOW + 1)[0].is_ok());
    assert_eq!(
        refused(decide(&notary, &[late.request()], NOW + 2).remove(0)).code,
        "notary.internal"
    );
    assert!(decide(&notary, &[tx.request()], NOW + 2)[0].is_ok());
}
