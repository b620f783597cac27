//! R04: the k-th operation fails, for every k; nothing is acknowledged that is not there, and a failed sync is the end.
//!
//! P2PET_SIMULATION_SEED replays a seed; P2PET_SOAK=1 runs more seeds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::time::Instant;

use p2pet_log::LogError;
use p2pet_log::simulated::{Event, Failure, Kind, SEED_VARIABLE, SimDisk, seed_from_environment};
use support::{SEGMENT, Step, Story, directory, end_of, is_soak, plan, replayable, scratch};

const STEPS: usize = 40;
/// Images of a loss of power after the last step.
const IMAGES: u64 = 4;

fn kinds(disk: &SimDisk) -> Vec<Kind> {
    let operations = disk.trace().into_iter().filter_map(|event| match event {
        Event::Operation { kind, .. } => Some(kind),
        Event::Pass(_) => None,
    });
    operations.collect()
}

/// Does all steps, however often the process ends; a step that raised is not repeated.
fn endure(story: &mut Story, disk: &SimDisk, plan: &[Step]) {
    let mut left = plan.iter();
    let mut more = true;
    while more {
        let ended = end_of(|| {
            let mut log = None;
            for step in left.by_ref() {
                let _ = story.step(disk, &mut log, step);
            }
        });
        if ended {
            story.ends += 1;
            disk.restart();
        }
        more = ended;
    }
}

/// Lets the operations `at..at + count` fail; returns whether the process ended.
fn fail(seed: u64, at: u64, count: u64, failure: Failure) -> bool {
    let (dir, found) = (scratch(), scratch());
    let disk = SimDisk::new(dir.path(), seed).unwrap();
    disk.fail_in(at..at + count, failure);
    let mut story = Story::default();
    endure(&mut story, &disk, &plan(seed, STEPS));
    disk.mend();
    let failed = kinds(&disk)[at as usize - 1];
    assert!(
        story.errors + story.ends > 0 || failed == Kind::Remove || failed == Kind::OpenDirectory
    );
    if count == 1 {
        assert_eq!(story.ends > 0, failed.is_sync(), "{failed:?}");
    }
    story.open(disk.shared(), &directory(&disk)).unwrap();
    for image in 0..IMAGES {
        story.check_image(&disk.image(image).unwrap(), found.path());
    }
    story.ends > 0
}

fn fail_everywhere(count: u64) {
    let (first, start) = (seed_from_environment(7), Instant::now());
    let (mut positions, mut ends) = (0, 0);
    for seed in first..first + if is_soak() { 20 } else { 1 } {
        let dir = scratch();
        let disk = SimDisk::new(dir.path(), seed).unwrap();
        assert!(Story::default().run(&disk, &plan(seed, STEPS)));
        for at in 1..=disk.operations() {
            for failure in [Failure::Io, Failure::NoSpace] {
                let what =
                    || format!("{SEED_VARIABLE}={seed} operation {at} {failure:?} x {count}");
                ends += u64::from(replayable(what, || fail(seed, at, count, failure)));
                positions += 1;
            }
        }
    }
    println!(
        "{positions} failures, {ends} ends of the process in {:?}",
        start.elapsed()
    );
}

#[test]
fn r04_one_failing_operation_at_every_position_acknowledges_nothing_wrong() {
    fail_everywhere(1);
}

#[test]
fn r04_a_disk_that_fails_for_a_while_acknowledges_nothing_wrong() {
    fail_everywhere(9);
}

#[test]
fn r05_a_full_disk_refuses_and_the_log_goes_on_once_there_is_room() {
    let dir = scratch();
    let disk = SimDisk::new(dir.path(), 1).unwrap();
    let (mut story, mut log) = (Story::default(), None);
    let append = Step::Append(vec![7; 1500]);
    story.step(&disk, &mut log, &append).unwrap();
    for free in [0, 100, SEGMENT - 1] {
        disk.set_capacity(None);
        while log.as_ref().unwrap().growth(1500) == 0 {
            story.step(&disk, &mut log, &append).unwrap();
        }
        let used = || -> u64 {
            let files = std::fs::read_dir(directory(&disk)).unwrap();
            files
                .map(|file| file.unwrap().metadata().unwrap().len())
                .sum()
        };
        let before = used();
        disk.set_capacity(Some(before + free));
        for _ in 0..3 {
            let refused = story.step(&disk, &mut log, &append).unwrap_err();
            assert!(matches!(refused, LogError::DiskFull { .. }), "{refused}");
            assert_eq!(used(), before, "an unfinished file keeps the room");
        }
        // A record that still fits is taken, and everything can be read.
        story
            .step(&disk, &mut log, &Step::Append(vec![1; 8]))
            .unwrap();
        let records = log.as_ref().unwrap().reader().iterate(1).unwrap();
        assert_eq!(records.count(), story.kept.len());
        disk.set_capacity(None);
        story.step(&disk, &mut log, &append).unwrap();
    }
    story.step(&disk, &mut log, &Step::Reopen).unwrap();
}
