//! R03, R04: log, view, mark and snapshots on a disk that loses its power or fails.
//!
//! P2PET_SIMULATION_SEED replays a seed; P2PET_SOAK=1 takes every operation instead of some, and more images.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use p2pet_log::simulated::{
    Dice, Event, Failure, ProcessEnded, SEED_VARIABLE, SimDisk, seed_from_environment,
};
use p2pet_log::{RealDisk, SharedDisk};
use p2pet_view::{Change, Options, Progress, Range, Store, StoreError};
use tempfile::TempDir;

/// Small, so that few commits fill a segment.
const OPTIONS: Options = Options {
    segment_bytes: 4096,
    map_bytes: 16 << 20,
};
const ROWS: u64 = 7;

#[derive(Clone, Copy, Debug)]
enum Step {
    Commit,
    Snapshot,
    Trim,
    /// Closes cleanly, or leaves it to the next opening to find out.
    Reopen(bool),
}

const STEPS: [Step; 24] = {
    use Step::{Commit, Reopen, Snapshot, Trim};
    [
        Commit,
        Commit,
        Commit,
        Reopen(true),
        Commit,
        Snapshot,
        Commit,
        Commit,
        Commit,
        Snapshot,
        Commit,
        Commit,
        Trim,
        Reopen(false),
        Commit,
        Commit,
        Snapshot,
        Commit,
        Trim,
        Commit,
        Reopen(true),
        Commit,
        Commit,
        Commit,
    ]
};

fn is_soak() -> bool {
    std::env::var("P2PET_SOAK").is_ok_and(|value| value == "1")
}

fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Commit `n` sets one of a few rows and the count, so that the view of any record follows from its number.
fn commit(store: &Store, n: u64) -> Result<u64, StoreError> {
    let (key, value) = (
        [(n % ROWS) as u8],
        vec![n as u8; 600 + (n % 5) as usize * 100],
    );
    let count = n.to_be_bytes();
    let put = |table, key, value| Change {
        table,
        key,
        value: Some(value),
    };
    store.commit(&[put(1, &key, &value), put(0, b"count", &count)])
}

/// The number of commits that the store holds, after checking that the view is the one after that commit.
fn check(store: &Store) -> u64 {
    let count = store.get(0, b"count", <[u8]>::to_vec).unwrap();
    let n = count.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
    assert_eq!(store.head().sequence, n);
    let all = Range {
        table: 1,
        start: b"",
        end: None,
    };
    let rows = store.scan(all, 100, false).unwrap();
    assert_eq!(rows.len() as u64, n.min(ROWS));
    for (key, value) in rows {
        let last = (1..=n).rev().find(|n| (n % ROWS) as u8 == key[0]).unwrap();
        assert_eq!(value, vec![last as u8; 600 + (last % 5) as usize * 100]);
    }
    n
}

#[derive(Clone, Debug, Default)]
struct Story {
    acknowledged: u64,
    errors: u64,
    ends: u64,
    rebuilt: u64,
}

fn directory(root: &Path) -> PathBuf {
    root.join("node")
}

impl Story {
    /// What was acknowledged is there, and at most one commit more.
    fn open(&mut self, disk: SharedDisk, root: &Path) -> Result<Store, StoreError> {
        let store = Store::open_on(disk, &directory(root), OPTIONS, &Progress::silent())?;
        let there = check(&store);
        let known = self.acknowledged..=self.acknowledged + 1;
        assert!(known.contains(&there), "{there} commits of {known:?}");
        self.acknowledged = there;
        self.rebuilt += store.stats().view_rebuilt;
        Ok(store)
    }

    fn step(&mut self, disk: &SimDisk, store: &mut Option<Store>, step: Step) {
        if let Err(error) = self.try_step(disk, store, step) {
            self.errors += 1;
            if error.code() == "store.write_failed" {
                *store = None;
            }
        }
    }

    fn try_step(
        &mut self,
        disk: &SimDisk,
        store: &mut Option<Store>,
        step: Step,
    ) -> Result<(), StoreError> {
        if let (Some(open), Step::Reopen(clean)) = (store.take_if(|_| is_reopen(step)), step)
            && clean
        {
            open.close()?;
        }
        if store.is_none() {
            *store = Some(self.open(disk.shared(), disk.root())?);
        }
        let store = store.as_ref().unwrap();
        match step {
            Step::Commit => {
                commit(store, self.acknowledged + 1)?;
                self.acknowledged += 1;
                assert_eq!(check(store), self.acknowledged);
            }
            Step::Snapshot => drop(store.take_snapshot()?),
            Step::Trim => drop(store.trim()?),
            Step::Reopen(_) => {}
        }
        Ok(())
    }

    /// Does the steps that are left until the process ends; true when it did.
    fn run(&mut self, disk: &SimDisk, steps: &mut impl Iterator<Item = Step>) -> bool {
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let mut store = None;
            for step in steps {
                self.step(disk, &mut store, step);
            }
        }));
        match ended {
            Ok(()) => false,
            Err(payload) if payload.is::<ProcessEnded>() => {
                self.ends += 1;
                true
            }
            Err(payload) => resume_unwind(payload),
        }
    }
}

fn is_reopen(step: Step) -> bool {
    matches!(step, Step::Reopen(_))
}

fn replayable<T>(what: impl FnOnce() -> String, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        eprintln!("failed at: {}", what());
        resume_unwind(payload)
    })
}

/// Operations and syncs of an undisturbed run.
fn undisturbed(seed: u64) -> (u64, u64) {
    let dir = scratch();
    let disk = SimDisk::new(dir.path(), seed).unwrap();
    let mut story = Story::default();
    assert!(!story.run(&disk, &mut STEPS.into_iter()));
    assert_eq!(story.errors, 0);
    (disk.operations(), disk.syncs())
}

#[test]
fn r01_between_two_changes_of_log_mark_and_snapshots_there_is_a_failpoint() {
    let dir = scratch();
    let disk = SimDisk::new(dir.path(), 13).unwrap();
    assert!(!Story::default().run(&disk, &mut STEPS.into_iter()));
    let mut change = None;
    for event in disk.trace() {
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
fn r03_power_lost_at_every_sync_boundary_keeps_log_view_and_snapshots_together() {
    let (seed, start) = (seed_from_environment(11), Instant::now());
    let images = if is_soak() { 50 } else { 2 };
    let (_, syncs) = undisturbed(seed);
    let mut rebuilt = 0;
    for sync in 1..=syncs {
        let (dir, copy) = (scratch(), scratch());
        let disk = SimDisk::new(dir.path(), seed).unwrap();
        disk.end_at_sync(sync);
        let mut story = Story::default();
        assert!(story.run(&disk, &mut STEPS.into_iter()));
        for image in 0..images {
            replayable(
                || format!("{SEED_VARIABLE}={seed} sync {sync} image {image}"),
                || {
                    let found = disk.image(sync * images + image).unwrap();
                    found.write_to(copy.path()).unwrap();
                    let mut story = story.clone();
                    let store = story.open(RealDisk::shared(), copy.path()).unwrap();
                    assert_eq!(
                        commit(&store, story.acknowledged + 1).unwrap(),
                        story.acknowledged + 1
                    );
                },
            );
        }
        let what = || format!("{SEED_VARIABLE}={seed} sync {sync} in place");
        rebuilt += replayable(what, || {
            disk.power_loss(seed + sync).unwrap();
            assert!(!story.run(&disk, &mut STEPS.into_iter()));
            assert_eq!(story.errors, 0);
            story.rebuilt
        });
    }
    println!(
        "{syncs} boundaries x {} images, {rebuilt} views rebuilt in {:?}",
        images + 1,
        start.elapsed()
    );
}

#[test]
fn r04_one_failing_operation_at_any_position_leaves_a_store_that_goes_on() {
    let (seed, start) = (seed_from_environment(12), Instant::now());
    let (operations, _) = undisturbed(seed);
    let stride = if is_soak() { 1 } else { 3 };
    let (mut positions, mut ends) = (0, 0);
    for (at, failure) in (1..=operations)
        .step_by(stride)
        .flat_map(|at| [(at, Failure::Io), (at + 1, Failure::NoSpace)])
    {
        let dir = scratch();
        let disk = SimDisk::new(dir.path(), seed).unwrap();
        disk.fail_at(at, failure);
        let (mut story, mut steps) = (Story::default(), STEPS.into_iter());
        replayable(
            || format!("{SEED_VARIABLE}={seed} operation {at} {failure:?}"),
            || {
                while story.run(&disk, &mut steps) {
                    disk.restart();
                }
                disk.mend();
                drop(story.open(disk.shared(), disk.root()).unwrap());
                disk.power_loss(at).unwrap();
                drop(story.open(disk.shared(), disk.root()).unwrap());
            },
        );
        (positions, ends) = (positions + 1, ends + story.ends);
    }
    println!(
        "{positions} failures, {ends} ends of the process in {:?}",
        start.elapsed()
    );
}

/// One history: the process ends again and again, with and without the power.
fn walk(seed: u64) -> Story {
    let dir = scratch();
    let disk = SimDisk::new(dir.path(), seed).unwrap();
    let (mut dice, mut story) = (Dice::new(seed), Story::default());
    for _ in 0..6 {
        let failure = if dice.once_in(4) {
            Failure::Io
        } else {
            Failure::End
        };
        disk.fail_at(disk.operations() + 1 + dice.below(400), failure);
        let mut rolls = dice.clone();
        let mut steps = (0..20).map(move |_| match rolls.below(12) {
            0 | 1 => Step::Snapshot,
            2 => Step::Trim,
            3 => Step::Reopen(true),
            4 => Step::Reopen(false),
            _ => Step::Commit,
        });
        dice.roll();
        story.run(&disk, &mut steps);
        match dice.once_in(2) {
            true => disk.restart(),
            false => disk.power_loss(dice.roll()).unwrap(),
        }
    }
    disk.mend();
    drop(story.open(disk.shared(), disk.root()).unwrap());
    story
}

#[test]
fn r03_histories_of_many_crashes_keep_log_view_and_snapshots_together() {
    let (first, start) = (seed_from_environment(2000), Instant::now());
    let histories = if is_soak() { 2000 } else { 40 };
    let (mut ends, mut rebuilt, mut commits) = (0, 0, 0);
    for seed in first..first + histories {
        let story = replayable(|| format!("{SEED_VARIABLE}={seed}"), || walk(seed));
        ends += story.ends;
        rebuilt += story.rebuilt;
        commits += story.acknowledged;
    }
    assert!(ends > histories && rebuilt > histories);
    println!(
        "{histories} histories, {commits} commits, {ends} crashes, {rebuilt} views rebuilt in {:?}",
        start.elapsed()
    );
}
