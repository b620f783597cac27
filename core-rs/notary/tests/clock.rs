//! R11: what one wrong reading of the clock may do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::result_large_err
)]

mod common;

use common::*;
use p2pet_notary::{Notary, Status};

const DAY_NS: i64 = 24 * 3600 * 1_000_000_000;
const END: i64 = NOW + 100 * DAY_NS;

fn windowed<'f>(number: u64) -> Draft<'f> {
    Draft {
        window: (NOW - 5, NOW + 5),
        ..draft(number)
    }
}

fn code(notary: &Notary, signed: &Signed, now_ns: i64) -> String {
    let reply = decide(notary, &[signed.request()], now_ns).remove(0);
    reply.map_or_else(|error| error.code, |_| "accepted".to_owned())
}

#[test]
fn r11_a_reading_outside_the_certificate_moves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let service = || service_valid(0, END);
    let notary = open_as(dir.path(), service());
    finalise(&notary, &draft(1).sign());
    let sequence = notary.sequence();
    for wrong in [END, i64::MAX] {
        let status = notary.status(&[7; 32], 1, wrong).unwrap();
        assert_eq!(status, Status::Unknown);
        assert_eq!(code(&notary, &windowed(2).sign(), wrong), "notary.internal");
        assert_eq!(code(&notary, &draft(3).sign(), wrong), "notary.internal");
    }
    assert_eq!(
        code(&notary, &draft(4).sign_by(&[]), END),
        "notary.invalid_transaction"
    );
    assert_eq!(notary.sequence(), sequence);
    assert_eq!(code(&notary, &windowed(2).sign(), NOW + 1), "accepted");
    notary.close().unwrap();
    drop(notary);
    let notary = open_as(dir.path(), service());
    assert_eq!(code(&notary, &windowed(3).sign(), NOW + 1), "accepted");
}

#[test]
fn r11_a_new_log_whose_clock_was_never_right_ends_without_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open_as(dir.path(), service_valid(0, END));
    assert_eq!(
        code(&notary, &draft(1).sign_by(&[]), END),
        "notary.invalid_transaction"
    );
    notary.close().unwrap();
    drop(notary);
    let notary = open_as(dir.path(), service_valid(0, END));
    assert_eq!(notary.sequence(), OPENED);
    assert_eq!(code(&notary, &windowed(1).sign(), NOW), "accepted");
}

#[test]
fn r11_a_jump_ahead_decides_nothing_until_the_clock_agrees_again() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    finalise(&notary, &draft(1).sign());
    let sequence = notary.sequence();
    let ahead = NOW + 2 * DAY_NS;
    assert_eq!(code(&notary, &draft(2).sign(), ahead), "notary.internal");
    let status = notary.status(&[7; 32], NOW, ahead).unwrap();
    assert_eq!((status, notary.sequence()), (Status::Unknown, sequence));
    assert_eq!(code(&notary, &draft(1).sign(), ahead), "accepted");
    assert_eq!(code(&notary, &windowed(3).sign(), NOW + 1), "accepted");
    drop(notary);
    // A restart believes the clock.
    assert_eq!(code(&open(dir.path()), &draft(2).sign(), ahead), "accepted");
}

#[test]
fn r11_after_a_step_back_no_window_is_signed_until_the_clock_has_caught_up() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    finalise(&notary, &draft(1).sign());
    for (number, window) in [
        (2, (NOW - 5, NOW + 5)),
        (3, (NOW, i64::MAX)),
        (4, (i64::MIN, NOW + 1)),
    ] {
        let signed = Draft {
            window,
            ..draft(number)
        }
        .sign();
        assert_eq!(code(&notary, &signed, NOW - 1), "notary.internal");
        assert_eq!(code(&notary, &signed, NOW), "accepted");
    }
    // What has passed stays closed, and what names no window need not wait.
    let over = Draft {
        window: (0, NOW),
        ..draft(5)
    };
    assert_eq!(
        code(&notary, &over.sign(), NOW - 1),
        "notary.time_window_invalid"
    );
    let proof = decide(&notary, &[draft(6).sign().request()], NOW - 1).remove(0);
    assert_eq!(root(&proof.unwrap()).decided_at_ns, NOW);
}
