//! R03: whatever part of the unsynced bytes and names a loss of power leaves, the log holds what it acknowledged.
//!
//! P2PET_SIMULATION_SEED replays a seed; P2PET_SOAK=1 loses the power before every operation, not only every sync, and
//! walks a hundred times as many histories.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod support;

use std::fs;
use std::time::Instant;

use p2pet_log::simulated::{Dice, Event, Failure, SEED_VARIABLE, SimDisk, seed_from_environment};
use p2pet_log::{Base, DirectoryLock, Log};
use support::{SEGMENT, Story, directory, end_of, is_soak, plan, replayable, scratch};

const IMAGES: u64 = 50;
const STEPS: usize = 60;

/// Numbers, from 1, of the operations of an undisturbed run at which the power is lost.
fn boundaries(seed: u64) -> Vec<u64> {
    let dir = scratch();
    let disk = SimDisk::new(dir.path(), seed).unwrap();
    assert!(Story::default().run(&disk, &plan(seed, STEPS)));
    let operations = disk.trace().into_iter().filter_map(|event| match event {
        Event::Operation { kind, .. } => Some(kind),
        Event::Pass(_) => None,
    });
    let numbered = (1..).zip(operations);
    let wanted = numbered.filter(|(_, kind)| kind.is_sync() || is_soak());
    wanted.map(|(number, _)| number).collect()
}

#[test]
fn r03_power_lost_at_every_sync_boundary_loses_nothing_acknowledged() {
    let (seed, start) = (seed_from_environment(3), Instant::now());
    let boundaries = boundaries(seed);
    let found = scratch();
    for boundary in &boundaries {
        let dir = scratch();
        let disk = SimDisk::new(dir.path(), seed).unwrap();
        disk.fail_at(*boundary, Failure::End);
        let mut story = Story::default();
        assert!(!story.run(&disk, &plan(seed, STEPS)));
        for image in 0..IMAGES {
            let what = || format!("{SEED_VARIABLE}={seed} operation {boundary} image {image}");
            replayable(what, || {
                story.check_image(
                    &disk.image(boundary * IMAGES + image).unwrap(),
                    found.path(),
                );
            });
        }
    }
    println!(
        "{} boundaries x {IMAGES} images in {:?}",
        boundaries.len(),
        start.elapsed()
    );
}

#[test]
fn r03_directories_that_others_made_are_durable_before_the_log_is() {
    let (dir, found) = (scratch(), scratch());
    let disk = SimDisk::new(dir.path(), 4).unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    let open = |disk: &SimDisk, seen| {
        let lock = DirectoryLock::take_on(disk.shared(), &disk.root().join("a/b/log")).unwrap();
        Log::open(lock, Base::START, seen, SEGMENT)
    };
    open(&disk, 0).unwrap().append(b"kept").unwrap();
    for image in 0..IMAGES {
        disk.image(image).unwrap().write_to(found.path()).unwrap();
        let after = SimDisk::new(found.path(), image).unwrap();
        assert_eq!(open(&after, 1).unwrap().last_sequence(), 1, "image {image}");
    }
}

/// One history: the process ends again and again, with and without the power, at any operation.
fn walk(seed: u64) -> u64 {
    let dir = scratch();
    let disk = SimDisk::new(dir.path(), seed).unwrap();
    let mut dice = Dice::new(seed);
    let mut story = Story::default();
    for round in 0..8 {
        let failure = if dice.once_in(4) {
            Failure::Io
        } else {
            Failure::End
        };
        let at = disk.operations() + 1 + dice.below(120);
        disk.fail_at(at, failure);
        let plan = plan(seed ^ (round << 32), 30);
        let ended = end_of(|| {
            let mut log = None;
            for step in &plan {
                // Whatever is raised, what was acknowledged before holds.
                let _ = story.step(&disk, &mut log, step);
            }
        });
        story.ends += u64::from(ended);
        if dice.once_in(3) {
            disk.restart();
        } else {
            disk.power_loss(dice.roll()).unwrap();
        }
    }
    let opened = story.open(disk.shared(), &directory(&disk));
    opened.unwrap();
    story.ends
}

#[test]
fn r03_histories_of_many_crashes_keep_what_they_acknowledged() {
    let (first, start) = (seed_from_environment(1000), Instant::now());
    let histories = if is_soak() { 20_000 } else { 200 };
    let ends: u64 = (first..first + histories)
        .map(|seed| replayable(|| format!("{SEED_VARIABLE}={seed}"), || walk(seed)))
        .sum();
    assert!(ends > histories, "too few of them crashed");
    println!(
        "{histories} histories, {ends} crashes in {:?}",
        start.elapsed()
    );
}
