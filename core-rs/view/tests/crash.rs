//! R01: a process killed at every failpoint of a commit loses nothing that it acknowledged and halves nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use p2pet_log::failpoint;
use p2pet_view::{Change, Options, Range, Store};

const DIRECTORY: &str = "CRASH_DIRECTORY";
const COMMITS: u64 = 12;
const KILL: i32 = 9;
/// Small, so that the commits cross segments.
const OPTIONS: Options = Options {
    segment_bytes: 4096,
    map_bytes: 64 << 20,
};

/// Commit `n` sets two keys to `n`, adds one entry and removes the entry of `n - 1`.
fn commit(store: &Store, n: u64) {
    let (value, old) = (n.to_be_bytes(), (n - 1).to_be_bytes());
    let filler = vec![n as u8; 700];
    let put = |table, key, value| Change {
        table,
        key,
        value: Some(value),
    };
    let changes = [
        put(0, b"first".as_slice(), value.as_slice()),
        put(1, &value, &filler),
        Change {
            table: 1,
            key: &old,
            value: None,
        },
        put(0, b"second", &value),
    ];
    assert_eq!(store.commit(&changes).unwrap(), n);
}

/// The number of commits that the store holds, after checking that each is there whole.
fn check(store: &Store) -> u64 {
    let values = store
        .get_many(0, &[b"first".as_slice(), b"second"])
        .unwrap();
    assert_eq!(values[0], values[1]);
    let n = values[0].as_ref().map_or(0, |bytes| {
        u64::from_be_bytes(bytes.as_slice().try_into().unwrap())
    });
    let range = Range {
        table: 1,
        start: b"",
        end: None,
    };
    let entries = store.scan(range, 10, false).unwrap();
    let expected: Vec<_> = (n > 0)
        .then(|| (n.to_be_bytes().to_vec(), vec![n as u8; 700]))
        .into_iter()
        .collect();
    assert_eq!(entries, expected);
    assert_eq!(store.head().sequence, n);
    n
}

/// Not a test of its own: the body of the process that is killed.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else {
        return;
    };
    let store = Store::open(&directory, OPTIONS).unwrap();
    let mut acknowledged = OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join("acknowledged"))
        .unwrap();
    for n in check(&store) + 1..=COMMITS {
        commit(&store, n);
        acknowledged.write_all(&[n as u8]).unwrap();
    }
}

fn run_child(directory: &Path, failpoints: &str) -> std::process::ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact"])
        .env(DIRECTORY, directory)
        .env(failpoint::VARIABLE, failpoints)
        .output()
        .unwrap()
        .status
}

#[test]
fn r01_nothing_acknowledged_is_lost_at_any_failpoint() {
    let points = failpoint::commit_names()
        .into_iter()
        .filter(|name| !name.starts_with("notary."));
    for point in points {
        for pass in [1, 2, 6] {
            let dir = tempfile::tempdir().unwrap();
            let status = run_child(dir.path(), &format!("{point}:{pass}"));
            assert_eq!(status.signal(), Some(KILL), "{point}:{pass}");
            let acknowledged = fs::read(dir.path().join("acknowledged")).unwrap().len() as u64;
            assert_eq!(acknowledged, pass - 1, "{point}:{pass}");
            let store = Store::open(dir.path(), OPTIONS).unwrap();
            let durable = matches!(
                point,
                "log.after_write" | "log.after_sync" | "view.after_apply"
            );
            assert_eq!(
                check(&store),
                acknowledged + u64::from(durable),
                "{point}:{pass}"
            );
            drop(store);
            assert!(run_child(dir.path(), "").success());
            assert_eq!(check(&Store::open(dir.path(), OPTIONS).unwrap()), COMMITS);
        }
    }
}

#[test]
fn an_unknown_failpoint_is_an_error_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(run_child(dir.path(), "log.no_such_point:1").signal(), None);
    assert!(!run_child(dir.path(), "log.no_such_point:1").success());
    assert!(!dir.path().join("acknowledged").exists());
}
