//! The log against a real directory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::fs;
use std::path::{Path, PathBuf};

use p2pet_log::format::{
    RECORD_HEADER_BYTES, SEGMENT_HEADER_BYTES, SegmentHeader, encode_record, record_bytes,
};
use p2pet_log::{Base, CHAIN_START, DirectoryLock, Log, LogError, PAYLOAD_BYTES_MAX};
use proptest::prelude::*;

const SEGMENT: u64 = 4096;

fn open(directory: &Path, seen: u64) -> Result<Log, LogError> {
    Log::open(DirectoryLock::take(directory)?, Base::START, seen, SEGMENT)
}

fn payloads(log: &Log) -> Vec<Vec<u8>> {
    let records = log.reader().iterate(1).unwrap();
    records.map(|record| record.unwrap().payload).collect()
}

fn filled(directory: &Path, payloads: &[&[u8]]) {
    let mut log = open(directory, 0).unwrap();
    for payload in payloads {
        log.append(payload).unwrap();
    }
}

fn segment(directory: &Path, first: u64) -> PathBuf {
    directory.join(format!("{first:020}.log"))
}

fn listing(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

fn damage(directory: &Path, seen: u64) -> (PathBuf, u64) {
    let before = listing(directory);
    let Err(LogError::Damaged { file, offset, .. }) = open(directory, seen) else {
        panic!("the damage was not noticed");
    };
    assert_eq!(before, listing(directory), "a refused log was changed");
    (file, offset)
}

#[test]
fn appends_are_numbered_chained_and_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0).unwrap();
    assert_eq!((log.last_sequence(), log.chain_value()), (0, CHAIN_START));
    let first = log.append(b"one").unwrap();
    let second = log.append(b"").unwrap();
    assert_eq!((first.sequence, second.sequence), (1, 2));
    assert_eq!(log.chain_value(), second.chain_value);
    let reader = log.reader();
    assert_eq!(reader.read(first.position).unwrap().payload, b"one");
    assert_eq!(reader.read(second.position).unwrap().sequence, 2);
    assert_eq!(payloads(&log), vec![b"one".to_vec(), vec![]]);
}

#[test]
fn a_reopened_log_goes_on_where_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), &[b"a", b"b"]);
    let mut log = open(dir.path(), 2).unwrap();
    assert_eq!(log.append(b"c").unwrap().sequence, 3);
    assert_eq!(payloads(&log), [b"a", b"b", b"c"]);
}

#[test]
fn a_full_segment_is_followed_by_another() {
    let dir = tempfile::tempdir().unwrap();
    let big = vec![7; 1500];
    filled(dir.path(), &[&big, &big, &big, &big, &big]);
    assert!(segment(dir.path(), 3).exists() && segment(dir.path(), 5).exists());
    let log = open(dir.path(), 5).unwrap();
    assert_eq!(payloads(&log).len(), 5);
    let from = log.reader().iterate(4).unwrap();
    assert_eq!(
        from.map(|r| r.unwrap().sequence).collect::<Vec<_>>(),
        [4, 5]
    );
    let some = log.reader().iterate(2).unwrap().up_to(4);
    assert_eq!(
        some.map(|r| r.unwrap().sequence).collect::<Vec<_>>(),
        [2, 3, 4]
    );
}

#[test]
fn a_record_larger_than_a_segment_gets_one_of_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let huge = vec![1; 3 * SEGMENT as usize];
    filled(dir.path(), &[&huge, b"x", &huge, b"y"]);
    let log = open(dir.path(), 4).unwrap();
    assert_eq!(
        payloads(&log),
        [huge.clone(), b"x".to_vec(), huge, b"y".to_vec()]
    );
}

#[test]
fn a_record_over_the_limit_is_refused_and_nothing_changes() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0).unwrap();
    let before = listing(dir.path());
    let result = log.append(&vec![0; PAYLOAD_BYTES_MAX + 1]);
    assert!(matches!(result, Err(LogError::TooLarge { .. })));
    assert_eq!((log.last_sequence(), listing(dir.path())), (0, before));
}

#[test]
fn a_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path(), 0).unwrap();
    let second = open(dir.path(), 0);
    assert_eq!(second.unwrap_err().code(), "store.locked");
    drop(log);
    assert!(open(dir.path(), 0).is_ok());
}

#[test]
fn every_segment_is_preallocated() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), &[b"a"]);
    let bytes = fs::read(segment(dir.path(), 1)).unwrap();
    assert_eq!(bytes.len() as u64, SEGMENT);
    let used = SEGMENT_HEADER_BYTES + record_bytes(1).unwrap();
    assert!(bytes[used..].iter().all(|byte| *byte == 0));
}

/// The bytes of a log with two good records and a third that starts at the returned offset.
fn three_records(directory: &Path) -> (Vec<u8>, usize, usize) {
    let third = vec![0xA5; 333];
    filled(directory, &[b"first", &[9; 100], &third]);
    let start = SEGMENT_HEADER_BYTES + record_bytes(5).unwrap() + record_bytes(100).unwrap();
    let end = start + record_bytes(third.len()).unwrap();
    (fs::read(segment(directory, 1)).unwrap(), start, end)
}

#[test]
fn r06_a_tail_torn_at_any_byte_is_cut_unless_it_was_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, start, end) = three_records(dir.path());
    let path = segment(dir.path(), 1);
    // The last three bytes are padding, which is zero anyway.
    for cut in start..end - 3 {
        let mut torn = whole.clone();
        torn[cut..].fill(0);
        fs::write(&path, &torn).unwrap();
        let (file, offset) = damage(dir.path(), 3);
        assert_eq!((file, offset), (path.clone(), start as u64), "cut at {cut}");
        let mut log = open(dir.path(), 2).unwrap();
        assert_eq!(log.last_sequence(), 2, "cut at {cut}");
        assert_eq!(log.append(b"again").unwrap().sequence, 3);
        assert_eq!(payloads(&log).last().unwrap(), b"again");
    }
}

#[test]
fn r06_a_tail_whose_start_was_lost_is_cut_unless_it_was_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, start, end) = three_records(dir.path());
    for lost in (start + 8..end - 3).step_by(8) {
        let mut torn = whole.clone();
        torn[start..lost].fill(0);
        fs::write(segment(dir.path(), 1), &torn).unwrap();
        damage(dir.path(), 3);
        assert_eq!(
            open(dir.path(), 2).unwrap().last_sequence(),
            2,
            "lost to {lost}"
        );
    }
}

#[test]
fn r06_a_record_inside_a_payload_does_not_keep_a_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let (mut inner, mut payload) = (Vec::new(), vec![0xA5; 200]);
    // Whoever fills a payload knows everything of a later record but the salt.
    encode_record(&mut inner, 0, 3, &CHAIN_START, b"").unwrap();
    payload.extend_from_slice(&inner);
    filled(dir.path(), &[b"first", &payload]);
    let path = segment(dir.path(), 1);
    let mut torn = fs::read(&path).unwrap();
    let start = SEGMENT_HEADER_BYTES + record_bytes(5).unwrap();
    torn[start..start + 100].fill(0);
    fs::write(&path, &torn).unwrap();
    let mut log = open(dir.path(), 1).unwrap();
    assert_eq!(log.append(b"again").unwrap().sequence, 2);
    assert_eq!(payloads(&log), [b"first", b"again"]);
}

#[test]
fn every_segment_has_a_salt_of_its_own_and_keeps_it() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), &[&[7; 1500], &[7; 1500], &[7; 1500]]);
    let salt = |first| {
        let bytes = fs::read(segment(dir.path(), first)).unwrap();
        SegmentHeader::decode(bytes.first_chunk().unwrap())
            .unwrap()
            .salt
    };
    let salts = [salt(1), salt(3)];
    assert_ne!(salts[0], salts[1]);
    filled(dir.path(), &[b"more"]);
    assert_eq!([salt(1), salt(3)], salts);
}

#[test]
fn r06_a_truncated_file_is_a_torn_tail() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, start, end) = three_records(dir.path());
    for length in start..end {
        fs::write(segment(dir.path(), 1), &whole[..length]).unwrap();
        damage(dir.path(), 3);
        let log = open(dir.path(), 2).unwrap();
        assert_eq!(log.last_sequence(), 2, "length {length}");
    }
}

#[test]
fn r06_a_flipped_bit_in_the_middle_is_damage_at_that_record() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, start, _) = three_records(dir.path());
    let second = SEGMENT_HEADER_BYTES + record_bytes(5).unwrap();
    for at in SEGMENT_HEADER_BYTES..start {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(segment(dir.path(), 1), &flipped).unwrap();
        let expected = if at < second {
            SEGMENT_HEADER_BYTES
        } else {
            second
        };
        assert_eq!(damage(dir.path(), 0).1, expected as u64, "byte {at}");
        assert_eq!(damage(dir.path(), 3).1, expected as u64, "byte {at}");
    }
}

#[test]
fn r06_a_flipped_bit_in_a_sealed_segment_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let big = vec![7; 1500];
    filled(dir.path(), &[&big, &big, &big]);
    let path = segment(dir.path(), 1);
    let whole = fs::read(&path).unwrap();
    let ends = SEGMENT_HEADER_BYTES + 2 * record_bytes(1500).unwrap();
    for at in [
        0,
        20,
        60,
        70,
        1000,
        1700,
        3100,
        ends + 5,
        SEGMENT as usize - 1,
    ] {
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        fs::write(&path, &flipped).unwrap();
        let (file, offset) = damage(dir.path(), 0);
        assert_eq!(file, path);
        assert!(
            offset as usize <= at && at < offset as usize + 4096,
            "byte {at}, offset {offset}"
        );
    }
}

#[test]
fn a_missing_segment_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let big = vec![7; 1500];
    filled(dir.path(), &[&big, &big, &big, &big, &big]);
    fs::remove_file(segment(dir.path(), 3)).unwrap();
    assert_eq!(damage(dir.path(), 0).0, segment(dir.path(), 5));
}

#[test]
fn a_segment_of_another_log_is_damage() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    filled(dir.path(), &[&[7; 1500], &[7; 1500], &[7; 1500]]);
    filled(other.path(), &[&[8; 1500], &[8; 1500], &[8; 1500]]);
    fs::copy(segment(other.path(), 3), segment(dir.path(), 3)).unwrap();
    assert_eq!(damage(dir.path(), 0), (segment(dir.path(), 3), 0));
}

#[test]
fn a_log_that_ends_before_what_was_seen_is_damage() {
    let (dir, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    filled(dir.path(), &[b"a"]);
    assert_eq!(damage(dir.path(), 2).0, segment(dir.path(), 1));
    assert!(matches!(
        open(empty.path(), 1),
        Err(LogError::Damaged { .. })
    ));
}

#[test]
fn what_a_crash_left_unfinished_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path(), &[b"a"]);
    let unfinished = dir.path().join("00000000000000000002.log.tmp");
    fs::write(&unfinished, b"p2petlog").unwrap();
    assert_eq!(open(dir.path(), 1).unwrap().last_sequence(), 1);
    assert!(!unfinished.exists());
}

#[test]
fn a_bad_position_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), 0).unwrap();
    let mut position = log.append(&[1; 64]).unwrap().position;
    for offset in [0, 8, position.offset + 8, SEGMENT - 8, u64::MAX] {
        position.offset = offset;
        assert!(log.reader().read(position).is_err(), "offset {offset}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_appends_and_reopenings_keep_everything(
        rounds in prop::collection::vec(prop::collection::vec(0usize..1200, 0..8), 1..6)
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut model: Vec<Vec<u8>> = Vec::new();
        for round in rounds {
            let mut log = open(dir.path(), model.len() as u64).unwrap();
            for length in round {
                let payload = vec![length as u8; length];
                log.append(&payload).unwrap();
                model.push(payload);
            }
            prop_assert_eq!(payloads(&log), model.clone());
        }
    }

    #[test]
    fn random_damage_never_shows_a_record_that_was_not_written(
        at in 0usize..SEGMENT as usize, garbage in prop::collection::vec(any::<u8>(), 1..200)
    ) {
        let dir = tempfile::tempdir().unwrap();
        filled(dir.path(), &[b"first", &[9; 100], &[0xA5; 333]]);
        let path = segment(dir.path(), 1);
        let mut bytes = fs::read(&path).unwrap();
        let end = (at + garbage.len()).min(bytes.len());
        bytes[at..end].copy_from_slice(&garbage[..end - at]);
        fs::write(&path, &bytes).unwrap();
        let expected = [b"first".to_vec(), vec![9; 100], vec![0xA5; 333]];
        match open(dir.path(), 0) {
            Ok(log) => prop_assert!(expected.starts_with(&payloads(&log))),
            Err(error) => prop_assert_eq!(error.code(), "log.damaged"),
        }
    }
}

const _: () = assert!(RECORD_HEADER_BYTES == 48);
