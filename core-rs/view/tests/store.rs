//! The store against a real directory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use p2pet_log::LogError;
use p2pet_view::{Change, Entry, KEY_BYTES_MAX, Options, Range, Store, StoreError};
use proptest::prelude::*;

const OPTIONS: Options = Options {
    segment_bytes: 1 << 16,
    map_bytes: 64 << 20,
};

type Model = BTreeMap<(u8, Vec<u8>), Vec<u8>>;

fn open(directory: &Path) -> Result<Store, StoreError> {
    Store::open(directory, OPTIONS)
}

fn put<'a>(table: u8, key: &'a [u8], value: &'a [u8]) -> Change<'a> {
    Change {
        table,
        key,
        value: Some(value),
    }
}

fn get(store: &Store, table: u8, key: &[u8]) -> Option<Vec<u8>> {
    store.get(table, key, <[u8]>::to_vec).unwrap()
}

fn all(store: &Store, table: u8) -> Vec<Entry> {
    let range = Range {
        table,
        start: b"",
        end: None,
    };
    store.scan(range, usize::MAX, false).unwrap()
}

fn contents(store: &Store) -> Model {
    let tables = (0..=u8::MAX).map(|table| (table, all(store, table)));
    let entries =
        tables.flat_map(|(table, entries)| entries.into_iter().map(move |(k, v)| ((table, k), v)));
    entries.collect()
}

/// A directory with ten records, and what they amount to.
fn filled(directory: &Path) -> Model {
    let store = open(directory).unwrap();
    for n in 0..10u8 {
        let (key, value) = ([n], [n; 50]);
        let changes = [put(n % 3, &key, &value), put(9, b"count", &key)];
        assert_eq!(store.commit(&changes).unwrap(), u64::from(n) + 1);
    }
    contents(&store)
}

/// Makes the view's mark say that another boot of the machine wrote it.
fn pretend_lost_machine(directory: &Path) {
    let path = directory.join("view/mark");
    let text = fs::read_to_string(&path).unwrap();
    let boot = text.lines().nth(2).unwrap().to_owned();
    fs::write(
        &path,
        text.replace(&boot, "00000000-0000-0000-0000-000000000000"),
    )
    .unwrap();
}

#[test]
fn a_commit_is_seen_at_once_and_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let model = filled(dir.path());
    let store = open(dir.path()).unwrap();
    assert_eq!((contents(&store), store.head().sequence), (model, 10));
    assert_eq!(
        (store.stats().replayed_records, store.stats().view_rebuilt),
        (0, 0)
    );
}

#[test]
fn a_change_list_is_applied_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let delete = Change {
        table: 1,
        key: b"k",
        value: None,
    };
    store
        .commit(&[put(1, b"k", b"1"), delete, put(1, b"k", b"2")])
        .unwrap();
    assert_eq!(get(&store, 1, b"k"), Some(b"2".to_vec()));
    store.commit(&[delete, delete]).unwrap();
    assert_eq!(get(&store, 1, b"k"), None);
    assert_eq!(store.commit(&[]).unwrap(), 3);
}

#[test]
fn scan_honours_its_bounds_in_both_directions() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let keys: Vec<[u8; 1]> = (0..10).map(|n| [n]).collect();
    for table in [0, 7, 8, 255] {
        let changes: Vec<_> = keys.iter().map(|key| put(table, key, key)).collect();
        store.commit(&changes).unwrap();
    }
    let scan = |table, start: &[u8], end: Option<&[u8]>, limit, reverse| -> Vec<u8> {
        let entries = store
            .scan(Range { table, start, end }, limit, reverse)
            .unwrap();
        entries.into_iter().map(|(key, _)| key[0]).collect()
    };
    for table in [0, 7, 8, 255] {
        assert_eq!(
            scan(table, b"", None, 100, false),
            (0..10).collect::<Vec<_>>()
        );
        assert_eq!(scan(table, &[3], Some(&[6]), 100, false), [3, 4, 5]);
        assert_eq!(scan(table, &[3], Some(&[6]), 2, true), [5, 4]);
        assert_eq!(scan(table, b"", None, 2, true), [9, 8]);
        assert_eq!(scan(table, &[6], Some(&[3]), 100, false), [0; 0]);
        assert_eq!(scan(table, b"", None, 0, false), [0; 0]);
    }
    assert_eq!(scan(1, b"", None, 100, true), [0; 0]);
}

#[test]
fn get_many_answers_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store
        .commit(&[put(1, b"a", b"1"), put(1, b"b", b"")])
        .unwrap();
    let values = store.get_many(1, &[b"b", b"x", b"a"]).unwrap();
    assert_eq!(values, [Some(vec![]), None, Some(b"1".to_vec())]);
}

#[test]
fn keys_reach_from_nothing_to_the_limit() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    let long = [1; KEY_BYTES_MAX + 1];
    let values = [put(255, b"", b"empty"), put(255, &long[1..], b"long")];
    store.commit(&values).unwrap();
    assert_eq!(get(&store, 255, b""), Some(b"empty".to_vec()));
    assert_eq!(get(&store, 255, &long[1..]), Some(b"long".to_vec()));
    let refused = store.commit(&[put(0, b"before", b""), put(0, &long, b"")]);
    assert_eq!(refused.unwrap_err().code(), "store.key_too_long");
    assert_eq!(
        (get(&store, 0, b"before"), store.head().sequence),
        (None, 1)
    );
}

#[test]
fn a_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    assert_eq!(open(dir.path()).err().unwrap().code(), "store.locked");
    drop(store);
    assert!(open(dir.path()).is_ok());
}

#[test]
fn a_closed_store_refuses_commits_and_may_be_closed_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store.commit(&[put(0, b"k", b"v")]).unwrap();
    store.close().unwrap();
    store.close().unwrap();
    assert_eq!(store.commit(&[]).unwrap_err().code(), "store.closed");
    drop(store);
    assert_eq!(open(dir.path()).unwrap().head().sequence, 1);
}

#[test]
fn after_a_lost_machine_the_view_is_rebuilt_unread() {
    let dir = tempfile::tempdir().unwrap();
    let model = filled(dir.path());
    pretend_lost_machine(dir.path());
    fs::write(dir.path().join("view/data.mdb"), vec![0xFF; 1 << 16]).unwrap();
    let store = open(dir.path()).unwrap();
    assert_eq!(contents(&store), model);
    assert_eq!(
        (store.stats().view_rebuilt, store.stats().replayed_records),
        (1, 10)
    );
}

#[test]
fn after_a_clean_end_another_boot_keeps_the_view() {
    let dir = tempfile::tempdir().unwrap();
    let model = filled(dir.path());
    open(dir.path()).unwrap().close().unwrap();
    pretend_lost_machine(dir.path());
    let store = open(dir.path()).unwrap();
    assert_eq!((contents(&store), store.stats().view_rebuilt), (model, 0));
}

#[test]
fn on_another_device_the_view_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let model = filled(dir.path());
    open(dir.path()).unwrap().close().unwrap();
    let path = dir.path().join("view/mark");
    let text = fs::read_to_string(&path).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    lines[3] = "1234567";
    fs::write(&path, lines.join("\n")).unwrap();
    let store = open(dir.path()).unwrap();
    assert_eq!((contents(&store), store.stats().view_rebuilt), (model, 1));
}

fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_directory(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// A copy of a directory in which LMDB's first two pages are older than the others, as `cp` of a running node makes it.
fn hot_copy(from: &Path, to: &Path) -> Model {
    filled(from);
    let store = open(from).unwrap();
    let head = fs::read(from.join("view/data.mdb")).unwrap();
    for n in 0..40u8 {
        store.commit(&[put(4, &[n], &[n; 900])]).unwrap();
    }
    let model = contents(&store);
    copy_directory(from, to);
    let data = to.join("view/data.mdb");
    let mut torn = fs::read(&data).unwrap();
    torn[..8192].copy_from_slice(&head[..8192]);
    fs::write(&data, torn).unwrap();
    model
}

#[test]
fn r07_a_copy_of_a_running_directory_is_rebuilt_unread() {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let copy = copies.path().join("copy");
    let model = hot_copy(dir.path(), &copy);
    let store = open(&copy).unwrap();
    assert_eq!(contents(&store), model);
    assert_eq!(
        (store.stats().view_rebuilt, store.stats().replayed_records),
        (1, 50)
    );
    drop(store);
    assert_eq!(open(&copy).unwrap().stats().view_rebuilt, 0);
}

#[test]
fn r07_a_view_whose_file_was_exchanged_is_rebuilt() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let model = filled(dir.path());
    open(other.path()).unwrap().close().unwrap();
    fs::rename(
        other.path().join("view/data.mdb"),
        dir.path().join("view/data.mdb"),
    )
    .unwrap();
    let store = open(dir.path()).unwrap();
    assert_eq!((contents(&store), store.stats().view_rebuilt), (model, 1));
}

#[test]
fn r06_a_view_with_a_lost_page_opens_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let data = dir.path().join("view/data.mdb");
    let early = fs::read(&data).unwrap();
    let store = open(dir.path()).unwrap();
    for n in 0..40u8 {
        store.commit(&[put(4, &[n], &[n; 900])]).unwrap();
    }
    let model = contents(&store);
    drop(store);
    let pages = early.len() / 4096;
    let mut rebuilt = 0;
    for page in 2..pages {
        let mut lost = early.clone();
        lost[page * 4096..][..4096].fill(0);
        // In place, so that the mark still vouches for the file; the log has records that the view lacks.
        fs::write(&data, &lost).unwrap();
        let store = open(dir.path()).unwrap();
        assert_eq!(store.head().sequence, 50, "page {page}");
        if store.stats().view_rebuilt == 1 {
            rebuilt += 1;
            assert_eq!(contents(&store), model, "page {page}");
        }
    }
    assert!(rebuilt > 0, "no page of {pages} was missed");
}

#[test]
fn a_view_that_is_gone_or_no_lmdb_file_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let model = filled(dir.path());
    fs::remove_file(dir.path().join("view/data.mdb")).unwrap();
    assert_eq!(contents(&open(dir.path()).unwrap()), model);
    fs::write(dir.path().join("view/data.mdb"), vec![0x55; 1 << 16]).unwrap();
    let store = open(dir.path()).unwrap();
    assert_eq!((contents(&store), store.stats().view_rebuilt), (model, 1));
}

#[test]
fn r06_a_log_without_a_record_that_the_view_has_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let path = dir.path().join("log/00000000000000000001.log");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[last] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(&error, StoreError::Log(LogError::Damaged { file, .. }) if *file == path));
    assert_eq!(
        (error.code(), fs::read(&path).unwrap()),
        ("log.damaged", bytes)
    );
}

#[test]
fn r06_a_log_of_another_history_is_damage() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    filled(dir.path());
    let store = open(other.path()).unwrap();
    for n in 0..10u8 {
        store.commit(&[put(1, b"other", &[n])]).unwrap();
    }
    drop(store);
    let name = "log/00000000000000000001.log";
    fs::copy(other.path().join(name), dir.path().join(name)).unwrap();
    assert_eq!(open(dir.path()).err().unwrap().code(), "log.damaged");
}

#[test]
fn r05_a_record_that_touches_every_page_is_refused_before_the_map_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 1 << 22,
        map_bytes: 32 << 20,
    };
    let store = Store::open(dir.path(), options).unwrap();
    let keys: Vec<_> = (0..400_000u64).map(u64::to_be_bytes).collect();
    let rows = |keys: &[[u8; 8]], value: &[u8]| {
        let changes: Vec<_> = keys.iter().map(|key| put(1, key, value)).collect();
        store.commit(&changes)
    };
    for some in keys.chunks(1000) {
        rows(some, &[1; 24]).unwrap();
    }
    // One row of each page; applying that would need as much again as there is. The process would end.
    let sparse: Vec<_> = keys.iter().step_by(64).copied().collect();
    let before = store.head();
    let refused = rows(&sparse, &[2; 24]).unwrap_err();
    assert!(refused.is_full(), "{refused}");
    assert_eq!(store.head(), before);
    assert_eq!(get(&store, 1, &keys[0]), Some(vec![1; 24]));
    drop(store);
    Store::open(dir.path(), options).unwrap();
}

#[test]
fn a_full_map_refuses_and_keeps_what_there_was() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        map_bytes: 4 << 20,
        ..OPTIONS
    };
    let store = Store::open(dir.path(), options).unwrap();
    let value = vec![1; 100_000];
    let mut stored = 0u64;
    let error = loop {
        match store.commit(&[put(0, &stored.to_be_bytes(), &value)]) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), "store.map_full");
    assert!(stored > 5);
    assert_eq!(
        (store.head().sequence, all(&store, 0).len() as u64),
        (stored, stored)
    );
}

#[test]
fn reads_see_the_last_commit_while_another_runs() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    store
        .commit(&[put(0, b"a", &[0]), put(0, b"b", &[0])])
        .unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 1..=100 {
                store
                    .commit(&[put(0, b"a", &[n]), put(0, b"b", &[n])])
                    .unwrap();
            }
        });
        while !writer.is_finished() {
            let values = store.get_many(0, &[b"a", b"b"]).unwrap();
            assert_eq!(values[0], values[1]);
        }
    });
    assert_eq!(get(&store, 0, b"a"), Some(vec![100]));
}

#[derive(Clone, Debug)]
enum Act {
    Commit(Vec<(u8, Vec<u8>, Option<Vec<u8>>)>),
    Drop,
    Close,
    LoseMachine,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let key = prop::collection::vec(0u8..3, 0..3);
    let value = prop::option::of(prop::collection::vec(any::<u8>(), 0..4000));
    let changes = prop::collection::vec((0u8..3, key, value), 0..6);
    let act = prop_oneof![
        8 => changes.prop_map(Act::Commit),
        1 => Just(Act::Drop),
        1 => Just(Act::Close),
        1 => Just(Act::LoseMachine),
    ];
    prop::collection::vec(act, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn random_commits_and_reopenings_agree_with_a_map(acts in acts()) {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, mut model) = (open(dir.path()).unwrap(), Model::new());
        for act in acts {
            match act {
                Act::Commit(changes) => {
                    let list: Vec<_> = changes.iter().map(|(table, key, value)| Change { table: *table, key, value: value.as_deref() }).collect();
                    store.commit(&list).unwrap();
                    for (table, key, value) in changes {
                        match value {
                            Some(value) => model.insert((table, key), value),
                            None => model.remove(&(table, key)),
                        };
                    }
                    continue;
                }
                Act::Close => store.close().unwrap(),
                Act::Drop | Act::LoseMachine => {}
            }
            drop(store);
            if matches!(act, Act::LoseMachine) {
                pretend_lost_machine(dir.path());
            }
            store = open(dir.path()).unwrap();
            prop_assert_eq!(contents(&store), model.clone());
        }
        prop_assert_eq!(contents(&store), model);
    }
}
