//! Snapshots: made beside commits, believed only whole, and worth the part of the log that they cover.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{PoisonError, RwLock};

use p2pet_view::{Change, Inspection, Options, Progress, Range, Store, StoreError};

const OPTIONS: Options = Options {
    segment_bytes: 8192,
    map_bytes: 64 << 20,
};

/// A child holds the locks of this process until it is another program: nobody opens a store again meanwhile.
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

fn open(directory: &Path) -> Result<Store, StoreError> {
    let _nobody_forks = FORKING.read().unwrap_or_else(PoisonError::into_inner);
    Store::open(directory, OPTIONS)
}

/// Record `n` puts a row, removes the one of ten records before and changes a counter.
fn commit(store: &Store, n: u64) {
    let (key, old) = (n.to_be_bytes(), n.wrapping_sub(10).to_be_bytes());
    let value = vec![n as u8; 300];
    let put = |table, key, value| Change {
        table,
        key,
        value: Some(value),
    };
    let removed = Change {
        table: 1,
        key: &old,
        value: None,
    };
    let changes = [put(1, &key[..], &value[..]), removed, put(0, b"n", &key)];
    assert_eq!(store.commit(&changes).unwrap(), n);
}

fn commits(store: &Store, count: u64) {
    let first = store.head().sequence + 1;
    (first..first + count).for_each(|n| commit(store, n));
}

/// That the store holds exactly what the first `n` records say.
fn check(store: &Store, n: u64) {
    let range = Range {
        table: 1,
        start: b"",
        end: None,
    };
    let rows = store.scan(range, usize::MAX, false).unwrap();
    let expected = (n.saturating_sub(9).max(1)..=n)
        .map(|n| (n.to_be_bytes().to_vec(), vec![n as u8; 300]))
        .collect::<Vec<_>>();
    assert_eq!((rows, store.head().sequence), (expected, n));
}

fn lose_machine(directory: &Path) {
    let path = directory.join("view/mark");
    let text = fs::read_to_string(&path).unwrap();
    let boot = text.lines().nth(2).unwrap().to_owned();
    let text = text.replace(&boot, "00000000-0000-0000-0000-000000000000");
    fs::write(&path, text.replace("\nclean\n", "\nopen\n")).unwrap();
}

fn snapshot_file(directory: &Path, sequence: u64, extension: &str) -> PathBuf {
    directory.join(format!("snapshots/{sequence:020}.{extension}"))
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] ^= 4;
    fs::write(path, bytes).unwrap();
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// 300 records, snapshots of the 100th, the 200th and, unless it fell out, of the 300th; the log is trimmed.
fn trimmed(directory: &Path) {
    let store = open(directory).unwrap();
    for n in [100, 200] {
        commits(&store, 100);
        assert_eq!(store.take_snapshot().unwrap(), n);
        assert_eq!(store.trim().unwrap() > 1, n == 200);
    }
    commits(&store, 100);
    let first = store.stats().log_first_sequence;
    assert!((60..=101).contains(&first), "{first}");
}

#[test]
fn a_snapshot_and_what_follows_rebuild_a_lost_view() {
    let dir = tempfile::tempdir().unwrap();
    trimmed(dir.path());
    lose_machine(dir.path());
    let store = open(dir.path()).unwrap();
    check(&store, 300);
    let stats = store.stats();
    assert_eq!((stats.view_rebuilt, stats.snapshot_restored), (1, 200));
    assert_eq!(stats.replayed_records, 100);
    commits(&store, 1);
    check(&store, 301);
}

#[test]
fn a_view_that_is_believed_needs_no_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    trimmed(dir.path());
    let store = open(dir.path()).unwrap();
    check(&store, 300);
    assert_eq!(store.stats().snapshot_restored, 0);
}

#[test]
fn the_newest_two_are_kept_and_the_log_from_the_older_one() {
    let dir = tempfile::tempdir().unwrap();
    trimmed(dir.path());
    let store = open(dir.path()).unwrap();
    assert_eq!(store.stats().snapshot_sequence, 200);
    assert_eq!(store.take_snapshot().unwrap(), 300);
    assert_eq!(store.take_snapshot().unwrap(), 300);
    assert_eq!(store.stats().snapshots_taken, 1);
    let kept: Vec<_> = [200, 300]
        .into_iter()
        .flat_map(|n| [format!("{n:020}.mdb"), format!("{n:020}.snapshot")])
        .collect();
    assert_eq!(names(&dir.path().join("snapshots")), kept);
    let before = store.stats().log_first_sequence;
    assert!(store.trim().unwrap() > before);
    assert!(store.stats().log_first_sequence <= 201);
}

#[test]
fn r06_a_damaged_newest_snapshot_costs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    trimmed(dir.path());
    for (extension, offset) in [("mdb", 5000), ("snapshot", 40)] {
        lose_machine(dir.path());
        flip(&snapshot_file(dir.path(), 200, extension), offset);
        let store = open(dir.path()).unwrap();
        check(&store, 300);
        assert_eq!(store.stats().snapshot_restored, 100);
        drop(store);
        flip(&snapshot_file(dir.path(), 200, extension), offset);
    }
}

#[test]
fn r06_nothing_is_trimmed_while_the_older_snapshot_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    for _ in 0..2 {
        commits(&store, 100);
        store.take_snapshot().unwrap();
    }
    let older = snapshot_file(dir.path(), 100, "mdb");
    flip(&older, 5000);
    assert_eq!(store.trim().unwrap(), 1);
    flip(&older, 5000);
    assert!(store.trim().unwrap() > 1);
}

#[test]
fn r06_a_newest_snapshot_that_cannot_be_read_costs_nothing() {
    for extension in ["mdb", "snapshot"] {
        let dir = tempfile::tempdir().unwrap();
        trimmed(dir.path());
        lose_machine(dir.path());
        // Reading a directory fails as reading a bad sector does.
        let file = snapshot_file(dir.path(), 200, extension);
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        let store = open(dir.path()).unwrap();
        check(&store, 300);
        assert_eq!(store.stats().snapshot_restored, 100);
        assert_eq!(store.take_snapshot().unwrap(), 300);
    }
}

#[test]
fn r06_without_a_whole_snapshot_a_trimmed_log_says_what_lacks() {
    let dir = tempfile::tempdir().unwrap();
    trimmed(dir.path());
    lose_machine(dir.path());
    for sequence in [100, 200] {
        flip(&snapshot_file(dir.path(), sequence, "mdb"), 9000);
    }
    let error = open(dir.path()).err().unwrap();
    assert!(matches!(error, StoreError::NoSnapshot { .. }), "{error}");
    assert!(error.to_string().contains("restore a backup"), "{error}");
    // One that comes back is used.
    flip(&snapshot_file(dir.path(), 100, "mdb"), 9000);
    check(&open(dir.path()).unwrap(), 300);
}

#[test]
fn r06_no_flipped_bit_of_a_snapshot_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    commits(&store, 30);
    store.take_snapshot().unwrap();
    drop(store);
    let pages = snapshot_file(dir.path(), 30, "mdb");
    let bytes = fs::metadata(&pages).unwrap().len() as usize;
    for offset in (0..bytes).step_by(bytes / 16) {
        lose_machine(dir.path());
        flip(&pages, offset);
        let store = open(dir.path()).unwrap();
        check(&store, 30);
        assert_eq!(store.stats().snapshot_restored, 0, "offset {offset}");
        drop(store);
        flip(&pages, offset);
    }
}

#[test]
fn r07_a_snapshot_ahead_of_its_log_is_damage() {
    let (dir, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(dir.path()).unwrap();
    commits(&store, 30);
    store.close().unwrap();
    let copy = |from: &Path, to: &Path| {
        fs::create_dir_all(to).unwrap();
        for name in names(from) {
            fs::copy(from.join(&name), to.join(&name)).unwrap();
        }
    };
    copy(&dir.path().join("log"), &old.path().join("log"));
    drop(store);
    let store = open(dir.path()).unwrap();
    commits(&store, 10);
    store.take_snapshot().unwrap();
    drop(store);
    copy(&dir.path().join("snapshots"), &old.path().join("snapshots"));
    let error = open(old.path()).err().unwrap();
    assert_eq!(error.code(), "log.damaged", "{error}");
    assert!(error.to_string().contains("record 40"), "{error}");
}

#[test]
fn a_snapshot_of_another_history_is_damage() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = open(other.path()).unwrap();
    store.commit(&[]).unwrap();
    store.take_snapshot().unwrap();
    drop(store);
    let store = open(dir.path()).unwrap();
    commits(&store, 5);
    drop(store);
    fs::rename(other.path().join("snapshots"), dir.path().join("snapshots")).unwrap();
    lose_machine(dir.path());
    let error = open(dir.path()).err().unwrap();
    assert_eq!(error.code(), "log.damaged", "{error}");
}

#[test]
fn commits_and_reads_go_on_beside_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    commits(&store, 50);
    std::thread::scope(|scope| {
        let taking = scope.spawn(|| {
            for _ in 0..5 {
                store.take_snapshot().unwrap();
                store.trim().unwrap();
            }
        });
        commits(&store, 400);
        taking.join().unwrap();
    });
    check(&store, 450);
    drop(store);
    lose_machine(dir.path());
    check(&open(dir.path()).unwrap(), 450);
}

#[test]
fn a_closed_store_makes_no_snapshot_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    commits(&store, 5);
    store.close().unwrap();
    assert!(matches!(
        store.take_snapshot(),
        Err(StoreError::Closed { .. })
    ));
    assert!(matches!(store.trim(), Ok(1)));
    assert_eq!(
        names(&dir.path().join("snapshots")),
        Vec::<String>::new(),
        "nothing half is left"
    );
}

fn inspect(directory: &Path, scratch: &Path) -> Result<Inspection, StoreError> {
    let _nobody_forks = FORKING.read().unwrap_or_else(PoisonError::into_inner);
    let apply = p2pet_view::changes();
    Inspection::begin(directory, scratch, 64 << 20, apply, &Progress::silent())
}

#[test]
fn an_inspection_rebuilds_compares_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    trimmed(dir.path());
    let before = names(&dir.path().join("log"));
    let scratch = tempfile::tempdir().unwrap();
    let inspection = inspect(dir.path(), scratch.path()).unwrap();
    assert!(matches!(
        open(dir.path()).err().unwrap().code(),
        "store.locked"
    ));
    assert_eq!(
        inspection.snapshots().collect::<Vec<_>>(),
        [(200, None), (100, None)]
    );
    assert_eq!(inspection.log().last_sequence, 300);
    let silent = Progress::silent();
    for stop in [100, 200] {
        assert_eq!(inspection.rebuild(stop, &silent).unwrap(), stop);
        let compared = inspection.compare_snapshot(&silent).unwrap().unwrap();
        assert_eq!((compared.differing, compared.rows), (0, 11));
    }
    assert_eq!(inspection.rebuild(u64::MAX, &silent).unwrap(), 300);
    assert_eq!(inspection.compare_snapshot(&silent).unwrap(), None);
    let pages = |directory: &Path| directory.join("data.mdb");
    let live = pages(&dir.path().join("view"));
    let compared = p2pet_view::compare_pages(&pages(scratch.path()), &live, &silent).unwrap();
    assert_eq!((compared.differing, compared.rows), (0, 11));
    drop(inspection);
    assert_eq!(names(&dir.path().join("log")), before);
    check(&open(dir.path()).unwrap(), 300);
}

#[test]
fn r06_a_view_that_is_not_what_the_log_says_is_found() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let fill = |directory: &Path, extra: Option<&[u8]>| {
        let store = open(directory).unwrap();
        commits(&store, 20);
        let change = Change {
            table: 7,
            key: b"x",
            value: extra,
        };
        store.commit(&[change]).unwrap();
    };
    fill(dir.path(), None);
    fill(other.path(), Some(b"y"));
    let scratch = tempfile::tempdir().unwrap();
    let inspection = inspect(dir.path(), scratch.path()).unwrap();
    inspection.rebuild(u64::MAX, &Progress::silent()).unwrap();
    let wrong = other.path().join("view/data.mdb");
    let silent = Progress::silent();
    let found =
        p2pet_view::compare_pages(&scratch.path().join("data.mdb"), &wrong, &silent).unwrap();
    let why: Vec<_> = found
        .first
        .iter()
        .map(|row| (row.table, row.key.as_slice(), row.why))
        .collect();
    let head = "the last record that it shows is another one";
    assert_eq!(why, [(0, &b""[..], head), (7, b"x", "should not be there")]);
}

const DIRECTORY: &str = "SNAPSHOT_CRASH_DIRECTORY";
const RECORDS: u64 = 200;

/// Not a test of its own: the body of the process that is killed.
#[test]
fn child() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else {
        return;
    };
    let store = open(&directory).unwrap();
    let acknowledged = directory.join("acknowledged");
    let first = store.head().sequence + 1;
    check(&store, first - 1);
    for n in first..=RECORDS {
        commit(&store, n);
        fs::write(&acknowledged, n.to_string()).unwrap();
        if n % 40 == 0 {
            store.take_snapshot().unwrap();
            store.trim().unwrap();
        }
    }
}

#[test]
fn r01_a_kill_at_any_stage_of_a_snapshot_loses_nothing() {
    let run = |directory: &Path, failpoints: &str| {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["child", "--exact"]).env(DIRECTORY, directory);
        output(child.env(p2pet_log::failpoint::VARIABLE, failpoints)).status
    };
    let names = p2pet_log::failpoint::names();
    let points = names.iter().filter(|name| name.starts_with("snapshot."));
    for point in points.chain(&["log.before_trim", "log.segment_removed"]) {
        // Those of the way back are passed by a start that has lost its view.
        let back = ["snapshot.copied_back", "snapshot.restored"].contains(point);
        for pass in [1, 2] {
            let dir = tempfile::tempdir().unwrap();
            if back {
                trimmed(dir.path());
                lose_machine(dir.path());
            }
            if back && pass == 2 {
                continue;
            }
            let status = run(dir.path(), &format!("{point}:{pass}"));
            let killed = std::os::unix::process::ExitStatusExt::signal(&status);
            assert_eq!(killed, Some(9), "{point}:{pass}");
            if back {
                check(&open(dir.path()).unwrap(), 300);
                continue;
            }
            let acknowledged = fs::read_to_string(dir.path().join("acknowledged")).unwrap();
            let acknowledged: u64 = acknowledged.parse().unwrap();
            for lost in [false, true] {
                if lost {
                    lose_machine(dir.path());
                }
                check(&open(dir.path()).unwrap(), acknowledged);
            }
            assert!(run(dir.path(), "").success());
            lose_machine(dir.path());
            check(&open(dir.path()).unwrap(), RECORDS);
            let kept = Inspection::begin(
                dir.path(),
                tempfile::tempdir().unwrap().path(),
                64 << 20,
                p2pet_view::changes(),
                &Progress::silent(),
            );
            assert!(kept.unwrap().snapshots().all(|(_, why)| why.is_none()));
        }
    }
}
