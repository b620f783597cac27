//! R06: a flipped bit at any place is damage, named by file and offset, or in a tail that nobody has seen.
//!
//! P2PET_SOAK=1 flips every bit instead of one in every byte.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use p2pet_log::format::{SEGMENT_HEADER_BYTES, record_bytes};
use p2pet_log::{Base, DirectoryLock, Log, LogError};
use support::{SEGMENT, is_soak, scratch};

fn open(directory: &Path, base: Base, seen: u64) -> Result<Log, LogError> {
    Log::open(DirectoryLock::take(directory)?, base, seen, SEGMENT)
}

fn segment(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}.log"))
}

/// Segments that start at 1, 3 and 5, with one record in the last, and the base of each record.
fn filled(directory: &Path) -> Vec<Base> {
    let mut log = open(directory, Base::START, 0).unwrap();
    let bases = (1..=5).map(|n| {
        let appended = log.append(&[n; 1500]).unwrap();
        Base {
            sequence: appended.sequence,
            chain_value: appended.chain_value,
        }
    });
    bases.collect()
}

/// Writes the bytes with one bit flipped, for every place in a range.
fn flipped(path: &Path, range: std::ops::Range<usize>, mut then: impl FnMut(usize)) {
    let mut bytes = fs::read(path).unwrap();
    for at in range {
        let bits = if is_soak() { 0..8 } else { at % 8..at % 8 + 1 };
        for bit in bits {
            bytes[at] ^= 1 << bit;
            fs::write(path, &bytes).unwrap();
            then(at);
            bytes[at] ^= 1 << bit;
        }
    }
    fs::write(path, &bytes).unwrap();
}

/// Where opening finds damage at or before a byte of this segment.
fn assert_damaged(directory: &Path, base: Base, path: &Path, at: usize) {
    match open(directory, base, 0) {
        Err(LogError::Damaged { file, offset, .. }) => {
            assert_eq!(file, path, "byte {at}");
            assert!(offset as usize <= at, "byte {at}, offset {offset}");
        }
        other => panic!("byte {at} of {}: {other:?}", path.display()),
    }
}

#[test]
fn r06_a_flipped_bit_anywhere_in_a_sealed_segment_is_damage() {
    let dir = scratch();
    let bases = filled(dir.path());
    for first in [1, 3] {
        let path = segment(dir.path(), first);
        flipped(&path, 0..SEGMENT as usize, |at| {
            assert_damaged(dir.path(), Base::START, &path, at);
        });
    }
    assert_eq!(open(dir.path(), bases[4], 5).unwrap().last_sequence(), 5);
}

#[test]
fn r06_a_flipped_bit_below_a_snapshot_is_damage_too() {
    let dir = scratch();
    let bases = filled(dir.path());
    open(dir.path(), bases[1], 5).unwrap().trim(2).unwrap();
    let path = segment(dir.path(), 3);
    flipped(&path, 0..SEGMENT as usize, |at| {
        assert_damaged(dir.path(), bases[4], &path, at);
    });
    assert_eq!(open(dir.path(), bases[4], 5).unwrap().first_sequence(), 3);
}

#[test]
fn r06_a_flipped_bit_in_the_last_record_is_cut_unless_it_was_seen() {
    let dir = scratch();
    filled(dir.path());
    let path = segment(dir.path(), 5);
    let whole = fs::read(&path).unwrap();
    let end = SEGMENT_HEADER_BYTES + record_bytes(1500).unwrap();
    // Without its header nothing of the open segment can be read.
    flipped(&path, 0..SEGMENT_HEADER_BYTES, |at| {
        assert_damaged(dir.path(), Base::START, &path, at);
    });
    flipped(&path, SEGMENT_HEADER_BYTES..SEGMENT as usize, |at| {
        let (kept, torn) = if at < end {
            (4, fs::read(&path).unwrap())
        } else {
            (5, Vec::new())
        };
        if kept == 4 {
            let seen = open(dir.path(), Base::START, 5).unwrap_err();
            assert!(matches!(seen, LogError::Damaged { .. }), "byte {at}");
            assert_eq!(fs::read(&path).unwrap(), torn, "a refused log was changed");
        }
        let log = open(dir.path(), Base::START, kept).unwrap();
        assert_eq!(log.last_sequence(), kept, "byte {at}");
        let records = log.reader().iterate(1).unwrap();
        assert!(
            records
                .map(Result::unwrap)
                .all(|r| r.payload == [r.sequence as u8; 1500])
        );
        drop(log);
        fs::write(&path, &whole).unwrap();
    });
}

#[test]
fn r06_a_sealed_segment_that_lost_its_end_is_damage() {
    let dir = scratch();
    filled(dir.path());
    let path = segment(dir.path(), 1);
    let whole = fs::read(&path).unwrap();
    let end = SEGMENT_HEADER_BYTES + 2 * record_bytes(1500).unwrap();
    for length in (0..end).step_by(if is_soak() { 1 } else { 13 }) {
        fs::write(&path, &whole[..length]).unwrap();
        match open(dir.path(), Base::START, 0) {
            Err(LogError::Damaged { .. }) => {}
            other => panic!("length {length}: {other:?}"),
        }
    }
    // Only zeros are missing: what is there is whole.
    fs::write(&path, &whole[..end]).unwrap();
    assert_eq!(open(dir.path(), Base::START, 5).unwrap().last_sequence(), 5);
}
