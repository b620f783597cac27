//! Looking at a store that is not running, and changing nothing of it: is the view what the log says?
//!
//! The log is replayed once more into a view in another directory, from its start or from the oldest whole snapshot;
//! on the way it is compared with each snapshot, and with the view itself.

use std::path::{Path, PathBuf};

use p2pet_log::{Base, DirectoryLock, Inspected, LogError, LogReader, inspect_log};

use crate::error::StoreError;
use crate::logged::Apply;
use crate::mark::Mark;
use crate::opening::apply_all;
use crate::progress::{Phase, Progress};
use crate::snapshots::{Found, Snapshots};
use crate::view::{Entry, Head, Range, View};

/// Differences that are told; all are counted.
pub const DIFFERENCES_MAX: usize = 10;

/// A row that two views do not hold alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its table.
    pub table: u8,
    /// Its key.
    pub key: Vec<u8>,
    /// One clause.
    pub why: &'static str,
}

/// What two views have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Rows of what the log says.
    pub rows: u64,
    /// Rows that differ, lack or are too many.
    pub differing: u64,
    /// The first of them.
    pub first: Vec<Difference>,
}

/// A store whose lock is held, and the view that its log amounts to so far.
pub struct Inspection {
    directory: PathBuf,
    _lock: DirectoryLock,
    apply: Box<dyn Apply>,
    reader: LogReader,
    log: Inspected,
    snapshots: Vec<(Found, Option<&'static str>)>,
    rebuilt: View,
}

impl Inspection {
    /// Checks the whole log and every snapshot, and begins a view in `scratch`, which is empty.
    ///
    /// Raises `Log` for a store that is in use or damaged, `NoSnapshot` for one whose view could not be rebuilt.
    pub fn begin(
        directory: &Path,
        scratch: &Path,
        map_bytes: u64,
        apply: Box<dyn Apply>,
        progress: &Progress<'_>,
    ) -> Result<Self, StoreError> {
        let log_directory = directory.join("log");
        let listed = std::fs::metadata(&log_directory);
        listed.map_err(|e| LogError::io("look at", &log_directory, e))?;
        let lock = DirectoryLock::take(&log_directory)?;
        let found = Snapshots::of(lock.shared_disk(), directory);
        let mut snapshots = Vec::new();
        for one in found.list()? {
            let why = one.check(lock.disk())?.err();
            snapshots.push((one, why));
        }
        let whole = |(found, why): &(Found, _)| match why {
            None::<&str> => found.description.map(|description| description.base),
            Some(_) => None,
        };
        let newest = snapshots.iter().find_map(whole);
        let oldest = snapshots.iter().rev().find_map(whole);
        let mark = Mark::read(lock.disk(), &directory.join("view"))?;
        let seen = mark.map_or(0, |mark| mark.sequence);
        let base = newest.unwrap_or(Base::START);
        let log = inspect_log(&lock, base, seen, &mut |done, total| {
            progress.at(Phase::CheckingLog, done, total);
        })?;
        std::fs::create_dir_all(scratch).map_err(|e| LogError::io("create", scratch, e))?;
        if log.first_sequence > 1 {
            let from = oldest.map_or(0, |base| base.sequence);
            let pages = View::data_file(scratch);
            if found.restore_one(from, &pages, progress)?.is_none() {
                return Err(StoreError::NoSnapshot {
                    directory: found.directory().to_path_buf(),
                    first_sequence: log.first_sequence,
                });
            }
        }
        Ok(Self {
            directory: directory.to_path_buf(),
            reader: LogReader::of(&lock),
            _lock: lock,
            apply,
            log,
            snapshots,
            rebuilt: View::open(scratch, map_bytes)?,
        })
    }

    /// What the log holds.
    pub fn log(&self) -> &Inspected {
        &self.log
    }

    /// Reads the log's records.
    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// All snapshots, newest first, and what is wrong with each.
    pub fn snapshots(&self) -> impl Iterator<Item = (u64, Option<&'static str>)> {
        self.snapshots
            .iter()
            .map(|(found, why)| (found.sequence, *why))
    }

    /// Whether the next start would believe the view's pages.
    pub fn view_is_believed(&self) -> Result<bool, StoreError> {
        let view = self.directory.join("view");
        let mark = Mark::read(self._lock.disk(), &view)?;
        let place = View::place(self._lock.disk(), &view)?;
        Ok(mark.is_some_and(|mark| mark.vouches_for_view(&place)))
    }

    /// Applies the records up to this one to the view that is rebuilt; returns the last that it holds.
    pub fn rebuild(&self, up_to: u64, progress: &Progress<'_>) -> Result<u64, StoreError> {
        let head = self.head()?;
        let last = up_to.min(self.log.last_sequence);
        if head.sequence < last {
            let records = self.reader.iterate(head.sequence + 1)?.up_to(last);
            let apply = self.apply.as_ref();
            apply_all(&self.directory, &self.rebuilt, records, apply, |done| {
                let total = self.log.last_sequence;
                progress.at(Phase::RebuildingView, head.sequence + done, total);
            })?;
        }
        Ok(self.head()?.sequence)
    }

    /// The last record that the view holds which is rebuilt.
    pub fn head(&self) -> Result<Head, StoreError> {
        self.rebuilt.snapshot()?.head()
    }

    /// Compares what is rebuilt with the whole snapshot of its last record; None when there is none.
    pub fn compare_snapshot(
        &self,
        progress: &Progress<'_>,
    ) -> Result<Option<Comparison>, StoreError> {
        let sequence = self.head()?.sequence;
        let mut whole = self.snapshots.iter().filter(|(_, why)| why.is_none());
        match whole.find(|(found, _)| found.sequence == sequence) {
            None => Ok(None),
            Some((found, _)) => {
                let snapshot = View::open_file(&found.pages)?;
                compare(&self.rebuilt, &snapshot, progress).map(Some)
            }
        }
    }

    /// The value of a key in what is rebuilt, without a copy.
    pub fn get<T>(
        &self,
        table: u8,
        key: &[u8],
        found: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.rebuilt.snapshot()?.get(table, key)?.map(found))
    }

    /// Entries of what is rebuilt.
    pub fn scan(
        &self,
        range: Range<'_>,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Entry>, StoreError> {
        self.rebuilt.snapshot()?.scan(range, limit, reverse)
    }
}

/// The last record that a file of pages shows. Pages that are damaged may end the process.
pub fn head_of_pages(pages: &Path) -> Result<Head, StoreError> {
    View::open_file(pages)?.snapshot()?.head()
}

/// Compares two files of pages. Pages that are damaged may end the process.
pub fn compare_pages(
    expected: &Path,
    found: &Path,
    progress: &Progress<'_>,
) -> Result<Comparison, StoreError> {
    compare(
        &View::open_file(expected)?,
        &View::open_file(found)?,
        progress,
    )
}

fn compare(
    expected: &View,
    found: &View,
    progress: &Progress<'_>,
) -> Result<Comparison, StoreError> {
    let (expected, found) = (expected.snapshot()?, found.snapshot()?);
    let total = expected.rows()?;
    let mut comparison = Comparison::default();
    if expected.head()? != found.head()? {
        comparison.add(&[], "the last record that it shows is another one");
    }
    let (mut left, mut right) = (expected.walk()?, found.walk()?);
    let (mut here, mut there) = (left.next().transpose()?, right.next().transpose()?);
    loop {
        let order = match (here, there) {
            (None, None) => return Ok(comparison),
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some((a, _)), Some((b, _))) => a.cmp(b),
        };
        match (order, here, there) {
            (std::cmp::Ordering::Less, Some((key, _)), _) => comparison.add(key, "is missing"),
            (std::cmp::Ordering::Greater, _, Some((key, _))) => {
                comparison.add(key, "should not be there");
            }
            (_, Some((key, a)), Some((_, b))) if a != b => {
                comparison.add(key, "has another value than the log says");
            }
            _ => {}
        }
        if order.is_le() {
            comparison.rows += 1;
            here = left.next().transpose()?;
        }
        if order.is_ge() {
            there = right.next().transpose()?;
        }
        if comparison.rows % 4096 == 0 {
            progress.at(Phase::ComparingRows, comparison.rows, total);
        }
    }
}

impl Comparison {
    fn add(&mut self, key: &[u8], why: &'static str) {
        self.differing += 1;
        if self.first.len() < DIFFERENCES_MAX {
            let (table, key) = key.split_first().unwrap_or((&0, &[]));
            self.first.push(Difference {
                table: *table,
                key: key.to_vec(),
                why,
            });
        }
    }
}
