//! A log whose first segments are gone, because a snapshot covers them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::fs;
use std::path::{Path, PathBuf};

use p2pet_log::{Appended, Base, DirectoryLock, Log, LogError};

const SEGMENT: u64 = 4096;
/// Two of these fill a segment.
const HALF: usize = 1500;

fn open(directory: &Path, base: Base) -> Result<Log, LogError> {
    Log::open(DirectoryLock::take(directory)?, base, 0, SEGMENT)
}

fn base(appended: &Appended) -> Base {
    Base {
        sequence: appended.sequence,
        chain_value: appended.chain_value,
    }
}

/// A log of seven records in segments that start at 1, 3, 5 and 7.
fn filled(directory: &Path) -> (Log, Vec<Appended>) {
    let mut log = open(directory, Base::START).unwrap();
    let appended = (1..=7).map(|n| log.append(&[n; HALF]).unwrap());
    let appended = appended.collect();
    (log, appended)
}

fn segment(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}.log"))
}

fn segments(directory: &Path) -> Vec<u64> {
    let names = fs::read_dir(directory).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let firsts = names.filter_map(|name| name.strip_suffix(".log")?.parse().ok());
    let mut firsts: Vec<u64> = firsts.collect();
    firsts.sort_unstable();
    firsts
}

/// The clause of the damage that opening with this base finds, with nothing changed by it.
fn damage(directory: &Path, base: Base) -> String {
    let before = segments(directory);
    let Err(LogError::Damaged { why, .. }) = open(directory, base) else {
        panic!("the damage was not noticed");
    };
    assert_eq!(segments(directory), before);
    why
}

#[test]
fn trimming_removes_whole_sealed_segments_only() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = filled(dir.path());
    for (up_to, first) in [(0, 1), (1, 1), (2, 3), (3, 3), (5, 5), (6, 7), (7, 7)] {
        assert_eq!(log.trim(up_to).unwrap(), first, "up to {up_to}");
        assert_eq!(
            (log.first_sequence(), segments(dir.path())[0]),
            (first, first)
        );
    }
    assert_eq!(log.trim(u64::MAX).unwrap(), 7);
    assert_eq!(log.append(b"more").unwrap().sequence, 8);
}

#[test]
fn a_trimmed_log_opens_with_any_base_that_covers_what_is_gone() {
    for sequence in 4..=7 {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, appended) = filled(dir.path());
        assert_eq!(log.trim(4).unwrap(), 5);
        drop(log);
        let mut log = open(dir.path(), base(&appended[sequence - 1])).unwrap();
        assert_eq!((log.first_sequence(), log.last_sequence()), (5, 7));
        let records = log.reader().iterate(5).unwrap();
        let payloads: Vec<_> = records.map(|record| record.unwrap().payload).collect();
        assert_eq!(payloads, [[5; HALF], [6; HALF], [7; HALF]]);
        assert_eq!(log.append(b"more").unwrap().sequence, 8);
    }
}

#[test]
fn a_trimmed_log_without_a_base_that_covers_it_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, appended) = filled(dir.path());
    log.trim(4).unwrap();
    drop(log);
    for base in [Base::START, base(&appended[2])] {
        let why = damage(dir.path(), base);
        assert_eq!(
            why,
            "the records before 5 are gone and no snapshot covers them"
        );
    }
}

#[test]
fn a_base_of_another_history_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, appended) = filled(dir.path());
    let other = |sequence: u64| Base {
        sequence,
        chain_value: [9; 32],
    };
    let base = |n: usize| base(&appended[n - 1]);
    drop(log);
    for sequence in 1..=7 {
        let why = damage(dir.path(), other(sequence));
        assert!(why.contains(&format!("record {sequence} is not")), "{why}");
    }
    log = open(dir.path(), base(7)).unwrap();
    log.trim(4).unwrap();
    drop(log);
    // Record 4 itself is gone; the header of the segment that follows it holds its link.
    for sequence in 4..=7 {
        let why = damage(dir.path(), other(sequence));
        assert!(why.contains(&format!("record {sequence} is not")), "{why}");
    }
    assert!(open(dir.path(), base(4)).is_ok());
}

#[test]
fn r07_a_log_that_ends_before_its_base_is_damage() {
    let (dir, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (log, appended) = filled(dir.path());
    drop(log);
    let later = Base {
        sequence: 8,
        chain_value: [9; 32],
    };
    assert!(damage(dir.path(), later).contains("ends before record 8"));
    assert!(damage(empty.path(), base(&appended[6])).contains("is empty"));
}

#[test]
fn a_record_whose_segment_is_gone_is_a_typed_error() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, appended) = filled(dir.path());
    let reader = log.reader();
    // A segment that is open stays readable.
    assert_eq!(
        reader.read(appended[0].position).unwrap().payload,
        [1; HALF]
    );
    let mut early = log.reader().iterate(1).unwrap();
    assert_eq!(early.next().unwrap().unwrap().sequence, 1);
    log.trim(6).unwrap();
    assert_eq!(
        reader.read(appended[1].position).unwrap().payload,
        [2; HALF]
    );
    assert_eq!(early.next().unwrap().unwrap().sequence, 2);
    let code = |error: LogError| error.code();
    assert_eq!(code(early.next().unwrap().unwrap_err()), "log.trimmed");
    let result = reader.read(appended[2].position);
    assert_eq!(code(result.unwrap_err()), "log.trimmed");
    for from in [0, 1, 6] {
        let result = reader.iterate(from);
        assert_eq!(code(result.unwrap_err()), "log.trimmed", "from {from}");
    }
    assert_eq!(reader.iterate(7).unwrap().count(), 1);
}

#[test]
fn a_gap_that_trimming_would_never_leave_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (log, appended) = filled(dir.path());
    drop(log);
    fs::remove_file(segment(dir.path(), 3)).unwrap();
    assert_eq!(
        damage(dir.path(), base(&appended[6])),
        "record 3 should follow here"
    );
}
