//! R06: no bit that flipped in the pages of a closed view is ever read.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::fs;
use std::path::Path;

use p2pet_view::{Change, Entry, Options, Range, Store};

const OPTIONS: Options = Options {
    segment_bytes: 1 << 16,
    map_bytes: 64 << 20,
};
const ROWS: u32 = 400;
const FLIPS: u64 = 200;

fn open(directory: &Path) -> Store {
    Store::open(directory, OPTIONS).unwrap()
}

fn rows(store: &Store) -> Vec<Entry> {
    let range = Range {
        table: 1,
        start: b"",
        end: None,
    };
    store.scan(range, usize::MAX, false).unwrap()
}

/// What a closed store with some rows holds.
fn filled(directory: &Path) -> Vec<Entry> {
    let store = open(directory);
    for number in 0..ROWS {
        let (key, value) = (number.to_be_bytes(), [number as u8; 100]);
        let change = Change {
            table: 1,
            key: &key,
            value: Some(&value),
        };
        store.commit(&[change]).unwrap();
    }
    let held = rows(&store);
    store.close().unwrap();
    held
}

/// A number that looks random, the same in each run.
fn scattered(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed ^ (mixed >> 27)
}

#[test]
fn r06_a_flipped_bit_of_a_closed_view_is_noticed_and_the_view_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let held = filled(dir.path());
    let pages = dir.path().join("view/data.mdb");
    for number in 0..FLIPS {
        let mut bytes = fs::read(&pages).unwrap();
        let bit = scattered(number) % (bytes.len() as u64 * 8);
        bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        // In the same file: another one would not be believed anyway.
        fs::write(&pages, &bytes).unwrap();
        let store = open(dir.path());
        assert_eq!(store.stats().view_rebuilt, 1, "bit {bit}");
        assert_eq!(rows(&store), held, "bit {bit}");
        store.close().unwrap();
    }
}

#[test]
fn r06_a_closed_view_that_nothing_happened_to_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let held = filled(dir.path());
    for _ in 0..3 {
        let store = open(dir.path());
        assert_eq!(store.stats().view_rebuilt, 0);
        assert_eq!(rows(&store), held);
        store.close().unwrap();
    }
}

#[test]
fn r20_a_mark_without_a_digest_of_an_earlier_version_is_believed() {
    let dir = tempfile::tempdir().unwrap();
    let held = filled(dir.path());
    let mark = dir.path().join("view/mark");
    let text = fs::read_to_string(&mark).unwrap();
    let lines: Vec<_> = text.lines().collect();
    fs::write(&mark, lines[..lines.len() - 1].join("\n") + "\n").unwrap();
    let store = open(dir.path());
    assert_eq!(store.stats().view_rebuilt, 0);
    assert_eq!(rows(&store), held);
}
