//! What survives a killed process, what a rebuilt index knows, and what the directory never holds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::result_large_err
)]

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use common::*;
use p2pet_log::failpoint;
use p2pet_notary::record::{Record, Verdict};
use p2pet_notary::{Notary, NotaryError, Service};

const DIRECTORY: &str = "CRASH_DIRECTORY";
const KILL: i32 = 9;
/// Records before the first batch: both notaries' certificates and the batch beside.
const RECORDS_BESIDE: u64 = 2 * OPENED + 1;
const BATCHES_BESIDE: u64 = 1;

/// Three batches that build on each other: an issue, a spend, a repeat of it with a double spend and a fresh spend.
///
/// Making them takes one record of a notary in a directory beside the one under test.
fn batches(beside: &Path) -> Vec<Vec<Signed>> {
    let dir = tempfile::tempdir_in(beside).unwrap();
    let notary = open(dir.path());
    let first = Draft {
        outputs: 3,
        ..draft(1)
    }
    .sign();
    let money = finalise(&notary, &first);
    let second = spend(2, &[(&money, 0)]).sign();
    let (rival, third) = (
        spend(3, &[(&money, 0), (&money, 1)]).sign(),
        spend(4, &[(&money, 2)]).sign(),
    );
    vec![
        vec![first],
        vec![second.clone()],
        vec![second, rival, third],
    ]
}

fn decide_all(directory: &Path) -> Vec<Vec<Reply>> {
    let notary = open(directory);
    let replies = batches(directory)
        .iter()
        .map(|batch| notarise(&notary, &batch.iter().collect::<Vec<_>>()))
        .collect();
    assert_eq!(notary.sequence(), OPENED + 3);
    replies
}

/// Not a test of its own: the body of the process that is killed.
#[test]
fn child() {
    if let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) {
        let replies = format!("{:?}", decide_all(&directory));
        fs::write(directory.join("replies"), replies).unwrap();
    }
}

fn run_child(directory: &Path, failpoints: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact"])
        .env(DIRECTORY, directory)
        .env(failpoint::VARIABLE, failpoints)
        .output()
        .unwrap()
        .status
}

#[test]
fn n14_a_kill_at_any_failpoint_and_a_retry_decide_the_same_once() {
    let undisturbed = tempfile::tempdir().unwrap();
    let expected = decide_all(undisturbed.path());
    for point in failpoint::commit_names() {
        let beside = if point == "notary.after_commit" {
            BATCHES_BESIDE
        } else {
            RECORDS_BESIDE
        };
        for pass in 1..=3 {
            let dir = tempfile::tempdir().unwrap();
            let status = run_child(dir.path(), &format!("{point}:{}", pass + beside));
            assert_eq!(status.signal(), Some(KILL), "{point}:{pass}");
            let (killed, log) = (open(dir.path()).sequence(), dir.path().join("log"));
            let killed = killed - OPENED;
            assert!((pass - 1..=pass).contains(&killed), "{point}:{pass}");
            assert!(log.is_dir());
            assert!(run_child(dir.path(), "").success());
            assert_eq!(decide_all(dir.path()), expected, "{point}:{pass}");
            let told = fs::read_to_string(dir.path().join("replies")).unwrap();
            assert_eq!(told, format!("{expected:?}"), "{point}:{pass}");
        }
    }
}

#[test]
fn n14_a_kill_while_the_certificate_is_logged_leaves_one_of_it() {
    for point in failpoint::commit_names() {
        if point == "notary.after_commit" {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let status = run_child(dir.path(), &format!("{point}:1"));
        assert_eq!(status.signal(), Some(KILL), "{point}");
        assert_eq!(open(dir.path()).sequence(), OPENED, "{point}");
    }
}

#[test]
fn r06_a_rebuilt_index_gives_the_same_answers() {
    let dir = tempfile::tempdir().unwrap();
    let expected = decide_all(dir.path());
    let mark = dir.path().join("view/mark");
    let text = fs::read_to_string(&mark).unwrap();
    let boot = text.lines().nth(2).unwrap();
    fs::write(&mark, text.replace(boot, "another-boot")).unwrap();
    fs::write(dir.path().join("view/data.mdb"), [0xFF; 8192]).unwrap();
    assert_eq!(decide_all(dir.path()), expected);
}

#[test]
fn r06_a_flipped_bit_in_the_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    decide_all(dir.path());
    let path = dir.path().join("log/00000000000000000001.log");
    let whole = fs::read(&path).unwrap();
    for at in [70, 150, 300, 500] {
        let mut bytes = whole.clone();
        bytes[at] ^= 16;
        fs::write(&path, bytes).unwrap();
        let error = Notary::open(dir.path(), OPTIONS, rules(), service())
            .err()
            .unwrap();
        assert_eq!(error.code(), "log.damaged");
    }
}

fn files(directory: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        bytes.extend(if path.is_dir() {
            files(&path)
        } else {
            fs::read(&path).unwrap()
        });
    }
    bytes
}

#[test]
fn the_directory_holds_no_component_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    // A quantity, a price and a name that stand out.
    let (quantity, price, name) = (
        0x5EC2_E7AB_CDEF_1234u64,
        0x0DD5_ECAE_7B1D_BEEFu64,
        "Mallow Lane 7, Arnhem",
    );
    let payload = [
        &quantity.to_be_bytes()[..],
        &price.to_le_bytes(),
        name.as_bytes(),
    ]
    .concat();
    let marked = |number| Draft {
        payload: payload.clone(),
        window: (NOW - 7, NOW + 7),
        ..draft(number)
    };
    let money = finalise(&notary, &marked(1).sign());
    finalise(
        &notary,
        &Draft {
            inputs: vec![(&money, 0)],
            ..marked(2)
        }
        .sign(),
    );
    // A refused request is logged too, by its header alone.
    let refused = Draft {
        window: (0, 1),
        ..marked(3)
    }
    .sign();
    assert!(notarise(&notary, &[&refused])[0].is_err());
    notary.close().unwrap();
    drop(notary);
    let stored = files(dir.path());
    let holds = |needle: &[u8]| stored.windows(needle.len()).any(|window| window == needle);
    assert!(holds(&money.id) && holds(&refused.id));
    let secrets = [
        &payload[..8],
        &payload[8..16],
        name.as_bytes(),
        b"energy",
        &(NOW - 7).to_be_bytes(),
        &PARAMETERS,
    ];
    assert!(secrets.into_iter().all(|secret| !holds(secret)));
}

#[test]
fn refusals_are_logged_with_the_next_record_and_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let closed = Draft {
        window: (0, 1),
        ..draft(1)
    }
    .sign();
    let unsigned = draft(2).sign_by(&[]);
    notarise(&notary, &[&closed]);
    assert_eq!(
        notary.sequence(),
        OPENED,
        "a refusal need not wait for a sync"
    );
    finalise(&notary, &draft(3).sign());
    notarise(&notary, &[&unsigned]);
    notary.close().unwrap();
    drop(notary);

    let log = p2pet_log::Log::open(
        p2pet_log::DirectoryLock::take(&dir.path().join("log")).unwrap(),
        p2pet_log::Base::START,
        OPENED + 2,
        1 << 20,
    )
    .unwrap();
    let records: Vec<_> = log
        .reader()
        .iterate(OPENED + 1)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let refused = |position: usize| -> Vec<_> {
        let record = Record::decode(&records[position].payload).unwrap();
        record
            .refused
            .iter()
            .map(|refused| (refused.id, refused.caller, refused.verdict))
            .collect()
    };
    assert_eq!(
        refused(0),
        [(closed.id, alice().public(), Verdict::TimeWindow)]
    );
    assert_eq!(
        refused(1),
        [(unsigned.id, alice().public(), Verdict::InvalidTransaction)]
    );
    drop(log);
    let notary = open(dir.path());
    finalise(&notary, &draft(4).sign());
}

#[test]
fn a_certificate_must_fit_key_service_network_and_mode() {
    use p2pet_core::certificate::certify_worker;
    let worker = || std::sync::Arc::new(key(201));
    let good = certify_worker(&key(200), &NETWORK, &worker().public(), 0, 1);
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    let code = |network, mode, certificate: &[u8]| {
        Service::new(network, mode, worker(), certificate)
            .err()
            .map(|e| e.code())
    };
    assert_eq!(code(NETWORK, 1, &good), None);
    assert_eq!(code(NETWORK, 3, &good), Some("notary.mode"));
    assert_eq!(code([1; 32], 1, &good), Some("notary.certificate"));
    assert_eq!(code(NETWORK, 1, &forged), Some("notary.certificate"));
    assert_eq!(code(NETWORK, 1, b"junk"), Some("notary.certificate"));
    let other = certify_worker(&key(200), &NETWORK, &key(9).public(), 0, 1);
    assert_eq!(code(NETWORK, 1, &other), Some("notary.certificate"));
    let elsewhere = certify_worker(&key(200), &[1; 32], &worker().public(), 0, 1);
    let service = Service::new([1; 32], 1, worker(), &elsewhere).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let opened = Notary::open(dir.path(), OPTIONS, rules(), service);
    assert!(matches!(opened, Err(NotaryError::OtherNetwork)));
}
