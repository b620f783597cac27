//! R03, R04, N14: a notary on a disk that loses its power or fails releases no signature that it does not remember.
//!
//! P2PET_SIMULATION_SEED replays a seed; P2PET_SOAK=1 takes more images and every operation.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::result_large_err
)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use common::*;
use p2pet_log::simulated::{Failure, ProcessEnded, SEED_VARIABLE, SimDisk, seed_from_environment};
use p2pet_notary::Notary;
use p2pet_view::Options;
use tempfile::TempDir;

/// Small, so that the batches cross segments.
const SMALL: Options = Options {
    segment_bytes: 1024,
    map_bytes: 16 << 20,
};
const CHAIN: u64 = 6;

fn is_soak() -> bool {
    std::env::var("P2PET_SOAK").is_ok_and(|value| value == "1")
}

fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// Batches that build on each other: an issue, then spends of it, each beside a repeat and a rival of the one before.
fn batches() -> Vec<Vec<Signed>> {
    let dir = scratch();
    let notary = open(dir.path());
    let first = Draft {
        outputs: CHAIN as u32,
        ..draft(1)
    };
    let first = first.sign();
    let money = finalise(&notary, &first);
    let mut batches = vec![vec![first]];
    for n in 0..CHAIN {
        let spent = spend(10 + n, &[(&money, n as u32)]).sign();
        let rival = spend(100 + n, &[(&money, n as u32), (&money, 0)]).sign();
        batches.push(vec![spent.clone()]);
        batches.push(vec![rival, spent]);
    }
    batches
}

/// What the owner of the requests was told, batch by batch.
struct Story<'b> {
    batches: &'b [Vec<Signed>],
    expected: &'b [Vec<Reply>],
}

impl Story<'_> {
    fn open(&self, disk: &SimDisk) -> Option<Notary> {
        let directory = disk.root().join("notary");
        Notary::open_on(disk.shared(), &directory, SMALL, rules(), service()).ok()
    }

    /// Asks for everything, from the first batch on, until the process ends; true when it did.
    fn run(&self, disk: &SimDisk) -> bool {
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let mut notary = None;
            for (batch, expected) in self.batches.iter().zip(self.expected) {
                notary = notary.or_else(|| self.open(disk));
                let Some(open) = notary.as_ref() else {
                    return;
                };
                let requests: Vec<_> = batch.iter().map(Signed::request).collect();
                // What a notary cannot do for its disk it refuses, and nothing is signed.
                let Ok(replies) = try_decide(open, &requests, NOW) else {
                    return;
                };
                for (reply, expected) in replies.iter().zip(expected) {
                    let unread = matches!(reply, Err(refused) if refused.code == "notary.internal");
                    assert!(unread || reply == expected, "{reply:?} is not {expected:?}");
                }
            }
        }));
        match ended {
            Ok(()) => false,
            Err(payload) if payload.is::<ProcessEnded>() => true,
            Err(payload) => resume_unwind(payload),
        }
    }
}

/// Operations and syncs of an undisturbed run, and its replies.
fn undisturbed(batches: &[Vec<Signed>], seed: u64) -> (u64, u64, Vec<Vec<Reply>>) {
    let dir = scratch();
    let disk = SimDisk::new(dir.path(), seed).unwrap();
    let directory = dir.path().join("notary");
    let notary = Notary::open_on(disk.shared(), &directory, SMALL, rules(), service()).unwrap();
    let replies = batches.iter().map(|batch| {
        let requests: Vec<_> = batch.iter().collect();
        notarise(&notary, &requests)
    });
    let replies = replies.collect();
    (disk.operations(), disk.syncs(), replies)
}

fn replayable<T>(what: impl FnOnce() -> String, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        eprintln!("failed at: {}", what());
        resume_unwind(payload)
    })
}

#[test]
fn r03_n14_power_lost_at_every_sync_boundary_changes_no_answer() {
    let (seed, start) = (seed_from_environment(21), Instant::now());
    let images = if is_soak() { 50 } else { 3 };
    let batches = batches();
    let (_, syncs, expected) = undisturbed(&batches, seed);
    let story = Story {
        batches: &batches,
        expected: &expected,
    };
    for sync in 1..=syncs {
        for image in 0..images {
            let what = || format!("{SEED_VARIABLE}={seed} sync {sync} image {image}");
            replayable(what, || {
                let dir = scratch();
                let disk = SimDisk::new(dir.path(), seed).unwrap();
                disk.end_at_sync(sync);
                assert!(story.run(&disk));
                disk.power_loss(sync * images + image).unwrap();
                assert!(story.open(&disk).is_some());
                assert!(!story.run(&disk));
            });
        }
    }
    println!(
        "{syncs} boundaries x {images} images in {:?}",
        start.elapsed()
    );
}

#[test]
fn r04_n14_a_failing_operation_at_any_position_changes_no_answer() {
    let (seed, start) = (seed_from_environment(22), Instant::now());
    let batches = batches();
    let (operations, _, expected) = undisturbed(&batches, seed);
    let story = Story {
        batches: &batches,
        expected: &expected,
    };
    let (mut positions, mut ends) = (0, 0);
    for at in (1..=operations).step_by(if is_soak() { 1 } else { 3 }) {
        for failure in [Failure::Io, Failure::NoSpace] {
            let what = || format!("{SEED_VARIABLE}={seed} operation {at} {failure:?}");
            ends += replayable(what, || {
                let dir = scratch();
                let disk = SimDisk::new(dir.path(), seed).unwrap();
                disk.fail_at(at, failure);
                let ended = story.run(&disk);
                disk.restart();
                assert!(!story.run(&disk));
                disk.power_loss(at).unwrap();
                assert!(story.open(&disk).is_some());
                assert!(!story.run(&disk));
                u64::from(ended)
            });
            positions += 1;
        }
    }
    println!(
        "{positions} failures, {ends} ends of the process in {:?}",
        start.elapsed()
    );
}
