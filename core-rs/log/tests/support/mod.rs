//! A log's life on a simulated disk, and what it must hold whatever happened.
#![allow(dead_code)]

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use p2pet_log::simulated::{Dice, Image, ProcessEnded, SimDisk};
use p2pet_log::{Base, DirectoryLock, Log, LogError, SharedDisk};
use tempfile::TempDir;

pub const SEGMENT: u64 = 4096;

/// Whether the long form of the tests runs.
pub fn is_soak() -> bool {
    std::env::var("P2PET_SOAK").is_ok_and(|value| value == "1")
}

/// A directory to simulate a disk in: in memory where the machine has such a place, since nothing of it need last.
pub fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// What the owner of a log does.
#[derive(Clone, Debug)]
pub enum Step {
    Append(Vec<u8>),
    /// Takes the record so many before the last one as a base and trims up to it.
    Trim(u64),
    Reopen,
}

/// Steps that cross several segments: records of random sizes, now and then one larger than a segment.
pub fn plan(seed: u64, steps: usize) -> Vec<Step> {
    let mut dice = Dice::new(seed);
    let step = |_| match dice.below(20) {
        0 => Step::Reopen,
        1 | 2 => Step::Trim(dice.below(6)),
        3 => Step::Append(payload(&mut dice, 2 * SEGMENT)),
        4..8 => Step::Append(payload(&mut dice, 64)),
        _ => Step::Append(payload(&mut dice, 1600)),
    };
    (0..steps).map(step).collect()
}

fn payload(dice: &mut Dice, below: u64) -> Vec<u8> {
    let bytes = dice.below(below);
    (0..bytes).map(|_| dice.roll() as u8).collect()
}

/// What the owner of a log knows.
#[derive(Clone, Debug)]
pub struct Story {
    /// Payloads of the records that are known to be there, from sequence 1.
    pub kept: Vec<Vec<u8>>,
    /// Payloads of the next record that were tried without an acknowledgement.
    pub tried: Vec<Vec<u8>>,
    pub base: Base,
    /// Sequences that a base can be taken of.
    pub links: Vec<Base>,
    /// Errors that were raised, processes that ended, acknowledgements.
    pub errors: u64,
    pub ends: u64,
    pub acknowledged: u64,
}

impl Default for Story {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            tried: Vec::new(),
            base: Base::START,
            links: vec![Base::START],
            errors: 0,
            ends: 0,
            acknowledged: 0,
        }
    }
}

impl Story {
    pub fn open(&mut self, disk: SharedDisk, directory: &Path) -> Result<Log, LogError> {
        let lock = DirectoryLock::take_on(disk, directory)?;
        let seen = self.kept.len() as u64;
        let log = Log::open(lock, self.base, seen, SEGMENT)?;
        self.check(&log)?;
        Ok(log)
    }

    /// Every record that is known is there, and no other but one that was tried.
    fn check(&mut self, log: &Log) -> Result<(), LogError> {
        let first = log.first_sequence();
        let mut next = first;
        assert!(first <= self.base.sequence + 1, "the log begins at {first}");
        for record in log.reader().iterate(first)? {
            let record = record?;
            assert_eq!(record.sequence, next);
            next += 1;
            match self.kept.get(record.sequence as usize - 1) {
                Some(kept) => assert!(*kept == record.payload, "record {} differs", next - 1),
                None => {
                    assert_eq!(record.sequence as usize, self.kept.len() + 1);
                    let known = self.tried.contains(&record.payload);
                    assert!(known, "record {} was never written", record.sequence);
                    self.keep(record.payload, record.chain_value);
                }
            }
        }
        assert_eq!((next - 1) as usize, self.kept.len(), "records are lost");
        assert_eq!(log.last_sequence(), next - 1);
        Ok(())
    }

    fn keep(&mut self, payload: Vec<u8>, chain_value: [u8; 32]) {
        self.kept.push(payload);
        self.tried.clear();
        self.links.push(Base {
            sequence: self.kept.len() as u64,
            chain_value,
        });
    }

    fn append(&mut self, log: &mut Log, payload: &[u8]) -> Result<(), LogError> {
        self.tried.push(payload.to_vec());
        let appended = log.append(payload)?;
        self.acknowledged += 1;
        assert_eq!(appended.sequence as usize, self.kept.len() + 1);
        self.keep(payload.to_vec(), appended.chain_value);
        let read = log.reader().read(appended.position)?;
        assert_eq!(read.payload, payload);
        Ok(())
    }

    /// Does one step. A log is open or not, before and after; an error is returned after it was counted.
    pub fn step(
        &mut self,
        disk: &SimDisk,
        log: &mut Option<Log>,
        step: &Step,
    ) -> Result<(), LogError> {
        let done = self.try_step(disk, log, step);
        if let Err(error) = &done {
            self.errors += 1;
            // What a log says after a write failed half-way: only opening it again helps.
            if error.code() == "store.write_failed" {
                *log = None;
            }
        }
        done
    }

    fn try_step(
        &mut self,
        disk: &SimDisk,
        log: &mut Option<Log>,
        step: &Step,
    ) -> Result<(), LogError> {
        if log.is_none() || matches!(step, Step::Reopen) {
            *log = None;
            *log = Some(self.open(disk.shared(), &directory(disk))?);
        }
        let Some(log) = log.as_mut() else {
            return Ok(());
        };
        match step {
            Step::Append(payload) => self.append(log, payload),
            Step::Trim(before) => {
                let at = self.links.len().saturating_sub(1 + *before as usize);
                let base = self.links[at];
                if base.sequence > self.base.sequence {
                    self.base = base;
                }
                log.trim(self.base.sequence).map(|_| ())
            }
            Step::Reopen => Ok(()),
        }
    }

    /// Does the steps until the process ends; true when it did not.
    pub fn run(&mut self, disk: &SimDisk, plan: &[Step]) -> bool {
        let ended = end_of(|| {
            let mut log = None;
            for step in plan {
                self.step(disk, &mut log, step).unwrap();
            }
        });
        self.ends += u64::from(ended);
        !ended
    }

    /// Checks what a machine finds that lost its power, on another disk; then the log must go on.
    pub fn check_image(&self, image: &Image, scratch: &Path) {
        image.write_to(scratch).unwrap();
        let disk = SimDisk::new(scratch, 1).unwrap();
        let mut story = self.clone();
        let mut log = None;
        let step = Step::Append(b"after".to_vec());
        story.step(&disk, &mut log, &step).unwrap();
        story.step(&disk, &mut log, &Step::Reopen).unwrap();
    }
}

pub fn directory(disk: &SimDisk) -> PathBuf {
    disk.root().join("node/log")
}

/// Whether the work ended the process.
pub fn end_of(work: impl FnOnce()) -> bool {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(()) => false,
        Err(payload) if payload.is::<ProcessEnded>() => true,
        Err(payload) => resume_unwind(payload),
    }
}

/// Says which seed and moment failed, and fails.
pub fn replayable<T>(what: impl FnOnce() -> String, work: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => done,
        Err(payload) => {
            eprintln!("failed at: {}", what());
            resume_unwind(payload)
        }
    }
}
