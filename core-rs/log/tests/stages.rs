//! R01: between any two things that the log does to a disk there is a failpoint, and a kill at any pass of any of them
//! loses nothing.
//!
//! A new stage without a failpoint, and a new failpoint that no stage passes, fail here; a new failpoint that one passes
//! is killed at without anybody adding a test. P2PET_SOAK=1 kills at every pass instead of the first and some others.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::{PoisonError, RwLock};

use p2pet_log::failpoint::{self, Failpoint};
use p2pet_log::files::replace_file;
use p2pet_log::simulated::{Event, SimDisk};
use p2pet_log::{Base, DirectoryLock, Disk, Log, RealDisk};
use rustix::io::Errno;
use support::{SEGMENT, Step, Story, is_soak, plan, scratch};

const SEED: u64 = 5;
const STEPS: usize = 40;
const DIRECTORY: &str = "CRASH_DIRECTORY";
const FAILED_SYNC: &str = "FAILED_SYNC_OF";
const KILL: i32 = 9;
const ABORT: i32 = 6;
/// Passes of one point that are killed at in the short form: early ones, and later every seventh.
const EARLY: u64 = 3;
const STRIDE: u64 = 7;

fn is_ours(name: &str) -> bool {
    name.starts_with("log.") || name.starts_with("disk.")
}

/// A child holds the locks of this process until it is another program: nobody opens a log again meanwhile.
static FORKING: RwLock<()> = RwLock::new(());

fn output(command: &mut Command) -> Output {
    let forking = FORKING.write().unwrap_or_else(PoisonError::into_inner);
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    drop(forking);
    child.unwrap().wait_with_output().unwrap()
}

/// Everything that a log does, and a file replaced beside it.
fn trace() -> Vec<Event> {
    let _nobody_forks = FORKING.read().unwrap_or_else(PoisonError::into_inner);
    let dir = scratch();
    let disk = SimDisk::new(dir.path(), SEED).unwrap();
    let (plan, mut story) = (plan(SEED, STEPS), Story::default());
    assert!(story.run(&disk, &plan));
    fs::write(dir.path().join("node/log/left.tmp"), b"").unwrap();
    assert!(story.run(&disk, &[Step::Reopen]));
    replace_file(&disk, &dir.path().join("small"), b"old").unwrap();
    replace_file(&disk, &dir.path().join("small"), b"new").unwrap();
    disk.trace()
}

#[test]
fn r01_between_two_changes_of_the_disk_there_is_a_failpoint() {
    let mut change = None;
    for event in trace() {
        match event {
            Event::Pass(_) => change = None,
            Event::Operation { kind, path } if kind.is_change() => {
                let before = change.replace((kind, path.clone()));
                assert_eq!(
                    before, None,
                    "no failpoint between it and {kind:?} {path:?}"
                );
            }
            Event::Operation { .. } => {}
        }
    }
}

#[test]
fn r01_every_failpoint_of_the_log_is_passed() {
    let passed: BTreeSet<_> = trace()
        .iter()
        .filter_map(|event| match event {
            Event::Pass(point) => Some(point.name()),
            Event::Operation { .. } => None,
        })
        .collect();
    let ours: BTreeSet<_> = failpoint::names()
        .into_iter()
        .filter(|n| is_ours(n))
        .collect();
    assert_eq!(
        ours.difference(&passed).collect::<Vec<_>>(),
        [] as [&&str; 0]
    );
}

/// The life of a log that is killed: what is acknowledged is written down, byte by byte of the sequence.
fn live(directory: &Path) {
    let log_directory = directory.join("log");
    let mut notes = OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join("acknowledged"))
        .unwrap();
    let mut base = read_base(directory);
    let open = |base| {
        let lock = DirectoryLock::take(&log_directory).unwrap();
        Log::open(lock, base, 0, SEGMENT).unwrap()
    };
    let mut log = open(base);
    let payloads = payloads();
    let start = log.last_sequence() as usize;
    for (index, payload) in payloads.iter().enumerate().skip(start) {
        let appended = log.append(payload).unwrap();
        notes.write_all(&[appended.sequence as u8]).unwrap();
        if index % 9 == 8 {
            base = Base {
                sequence: appended.sequence,
                chain_value: appended.chain_value,
            };
            fs::write(directory.join("base"), base_bytes(base)).unwrap();
            log.trim(base.sequence).unwrap();
        }
        if index % 11 == 10 {
            drop(log);
            log = open(base);
        }
    }
}

fn payloads() -> Vec<Vec<u8>> {
    let steps = plan(SEED, STEPS).into_iter();
    let payloads = steps.filter_map(|step| match step {
        Step::Append(payload) => Some(payload),
        _ => None,
    });
    payloads.collect()
}

fn base_bytes(base: Base) -> Vec<u8> {
    [&base.sequence.to_be_bytes()[..], &base.chain_value].concat()
}

fn read_base(directory: &Path) -> Base {
    let Ok(bytes) = fs::read(directory.join("base")) else {
        return Base::START;
    };
    let (sequence, chain) = bytes.split_first_chunk().unwrap();
    Base {
        sequence: u64::from_be_bytes(*sequence),
        chain_value: chain.try_into().unwrap(),
    }
}

/// Not a test of its own: the body of the process that is killed.
#[test]
fn child() {
    if let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) {
        live(&directory);
    }
}

/// Not a test of its own: the body of a process whose disk fails.
#[test]
fn child_of_a_failed_sync() {
    if let Some(directory) = std::env::var_os(FAILED_SYNC).map(PathBuf::from) {
        RealDisk.unsynced(&directory, &Errno::IO.into());
    }
}

#[test]
fn r04_a_failed_sync_of_the_real_disk_ends_the_process() {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["child_of_a_failed_sync", "--exact", "--nocapture"]);
    let ended = output(child.env(FAILED_SYNC, "some/segment"));
    assert_eq!(ended.status.signal(), Some(ABORT));
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(said.contains("syncing some/segment failed"), "{said}");
}

fn run_child(directory: &Path, failpoints: &str) -> ExitStatus {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["child", "--exact"]).env(DIRECTORY, directory);
    output(child.env(failpoint::VARIABLE, failpoints)).status
}

/// Everything acknowledged is there, and at most the next record beside it.
fn check(directory: &Path) {
    let (base, expected) = (read_base(directory), payloads());
    let acknowledged = fs::read(directory.join("acknowledged")).map_or(0, |notes| notes.len());
    let lock = DirectoryLock::take(&directory.join("log")).unwrap();
    let log = Log::open(lock, base, acknowledged as u64, SEGMENT).unwrap();
    let first = log.first_sequence();
    assert!(first <= base.sequence + 1);
    let records = log.reader().iterate(first).unwrap();
    let found: Vec<_> = records.map(|record| record.unwrap().payload).collect();
    let last = first as usize - 1 + found.len();
    assert!((acknowledged..=acknowledged + 1).contains(&last));
    assert_eq!(found, expected[first as usize - 1..last]);
}

#[test]
fn r01_a_kill_at_every_failpoint_of_the_log_loses_nothing() {
    let whole = scratch();
    assert!(run_child(whole.path(), "").success());
    let mut kills = BTreeMap::new();
    for point in Failpoint::ALL {
        let name = point.name();
        if !is_ours(name) {
            continue;
        }
        for pass in (1..).filter(|pass| is_soak() || *pass <= EARLY || pass % STRIDE == 0) {
            let dir = scratch();
            let status = run_child(dir.path(), &format!("{name}:{pass}"));
            if status.signal() != Some(KILL) {
                assert!(status.success(), "{name}:{pass}");
                break;
            }
            *kills.entry(name).or_insert(0) += 1;
            check(dir.path());
            assert!(run_child(dir.path(), "").success(), "{name}:{pass}");
            check(dir.path());
        }
    }
    let ours = failpoint::names().into_iter().filter(|name| is_ours(name));
    for name in ours {
        assert!(kills.contains_key(name), "{name}");
    }
    println!("killed {} times: {kills:?}", kills.values().sum::<u64>());
}
