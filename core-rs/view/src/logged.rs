//! A log and the view of it: one durable append, then the same record applied.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use p2pet_log::disk::{Disk, SharedDisk};
use p2pet_log::failpoint::{self, Failpoint};
use p2pet_log::files::free_bytes;
use p2pet_log::format::segment_name;
use p2pet_log::{Appended, Log, LogError, LogReader, Position, SEGMENT_BYTES};

use crate::MAP_BYTES;
use crate::description::Description;
use crate::error::StoreError;
use crate::mark::{Mark, Pages, Place};
use crate::opening::{self, raise, segments};
use crate::progress::Progress;
use crate::snapshots::{SNAPSHOTS_KEPT, Snapshots};
use crate::stats::{Counters, Stats};
use crate::taking;
use crate::view::{Head, Snapshot, View, Writer};

/// Free space that a commit leaves on the disk, so that LMDB never meets a full one after the append.
const DISK_RESERVE_BYTES: u64 = 16 << 20;
/// Room that a commit leaves in the map (a quarter of a small one), for the same reason.
const MAP_RESERVE_BYTES: u64 = 256 << 20;
/// Free space that a snapshot leaves on the disk: a commit may want a new segment.
const SNAPSHOT_LEAVES_BYTES: u64 = 256 << 20;
/// Pages that a record adds to the view, for each of its bytes.
const VIEW_BYTES_PER_RECORD_BYTE: u64 = 8;
/// Pages of the view that are written anew elsewhere: one for every 32 bytes, since most keys begin with a hash and
/// each may be on a page of its own; but no page twice.
const REWRITTEN_BYTES_PER_RECORD_BYTE: u64 = 4096 / 32;

/// How a record changes the view. The same record always makes the same changes, now and in a replay.
pub trait Apply: Send + Sync {
    /// Writes what the payload says; Err holds one clause about a payload that cannot be read.
    fn apply(
        &self,
        view: &mut Writer<'_>,
        place: (u64, Position),
        payload: &[u8],
    ) -> Result<(), ApplyError>;
}

/// Why a record could not be applied.
#[derive(Debug)]
pub enum ApplyError {
    /// The payload is not of this kind of log.
    Unknown(&'static str),
    /// The view refuses.
    Store(StoreError),
}

impl From<StoreError> for ApplyError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Sizes to open with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of a log segment.
    pub segment_bytes: u64,
    /// Address space of the view.
    pub map_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES,
            map_bytes: MAP_BYTES,
        }
    }
}

/// A log with its view in one directory; shared between threads.
pub struct LoggedView<A> {
    directory: PathBuf,
    apply: A,
    place: Place,
    view: View,
    snapshots: Snapshots,
    /// Held by who makes a snapshot or trims.
    snapshotting: Mutex<()>,
    closing: AtomicBool,
    reader: LogReader,
    /// None once closed.
    log: Mutex<Option<Log>>,
    head: Mutex<Head>,
    counters: Counters,
}

impl<A: Apply> LoggedView<A> {
    /// Locks the directory, recovers the log and brings the view up to date:
    ///
    /// 1. what a crash left of a snapshot is removed;
    /// 2. a view that its mark does not vouch for is deleted, unread, and the newest whole snapshot takes its place;
    /// 3. the mark says "open" before LMDB writes a byte;
    /// 4. the log is recovered: the view's head must be a record of it, and it may cut a bad last record only above
    ///    what the view has applied and what a snapshot stands for;
    /// 5. every record after the view's head is applied; a view in which LMDB meets broken pages on the way is treated
    ///    as in 2.
    ///
    /// Raises `Log` (damaged, locked), `View`, `UnknownRecord`, `NoSnapshot`.
    pub fn open(
        disk: SharedDisk,
        directory: &Path,
        options: Options,
        apply: A,
        progress: &Progress<'_>,
    ) -> Result<Self, StoreError> {
        let opened = opening::open(disk, directory, options, &apply, progress)?;
        let log = opened.log;
        let head = Head {
            sequence: log.last_sequence(),
            chain_value: log.chain_value(),
        };
        let view_directory = opened.view.directory();
        let snapshots = Snapshots::of(opened.disk, directory);
        let place = View::place(snapshots.disk(), view_directory)?;
        Mark::open(&place, head.sequence).write(snapshots.disk(), view_directory)?;
        let snapshot = snapshots.list()?.first().map_or(0, |found| found.sequence);
        let since = sealed_bytes(snapshots.disk(), log.directory(), snapshot)?;
        let counters = Counters::new(Stats {
            replayed_records: opened.replayed,
            view_rebuilt: u64::from(opened.rebuilt),
            snapshot_restored: opened.restored,
            snapshot_sequence: snapshot,
            log_first_sequence: log.first_sequence(),
            log_bytes_since_snapshot: since,
            ..Stats::default()
        });
        Ok(Self {
            directory: directory.to_path_buf(),
            apply,
            place,
            view: opened.view,
            snapshots,
            snapshotting: Mutex::new(()),
            closing: AtomicBool::new(false),
            reader: log.reader(),
            log: Mutex::new(Some(log)),
            head: Mutex::new(head),
            counters,
        })
    }

    /// Appends one record, durably, and applies it to the view.
    ///
    /// Raises, with nothing appended, `DiskFull` and `MapFull` while a reserve is still free, so that applying cannot
    /// fail for want of room; should it fail all the same, or a sync fail, the process is aborted: the log and what
    /// callers were told would part.
    pub fn commit(&self, payload: &[u8]) -> Result<Appended, StoreError> {
        let mut guard = lock(&self.log);
        let log = guard.as_mut().ok_or_else(|| self.closed())?;
        self.check_room(payload.len(), log.growth(payload.len()))?;
        let appended = log.append(payload)?;
        let start = Instant::now();
        if let Err(error) = self.apply_one(&appended, payload) {
            eprintln!(
                "p2petd: record {} is durable but not applied ({error}); stopping",
                appended.sequence
            );
            std::process::abort();
        }
        failpoint::pass(Failpoint::ViewAfterApply);
        let (payload, sync) = (payload.len() as u64, appended.sync_time);
        self.counters.committed(payload, sync, start.elapsed());
        Ok(appended)
    }

    fn apply_one(&self, appended: &Appended, payload: &[u8]) -> Result<(), StoreError> {
        let mut writer = self.view.writer()?;
        let place = (appended.sequence, appended.position);
        let applied = self.apply.apply(&mut writer, place, payload);
        applied.map_err(|e| raise(&self.directory, appended.sequence, e))?;
        let head = Head {
            sequence: appended.sequence,
            chain_value: appended.chain_value,
        };
        writer.commit(&head)?;
        *lock(&self.head) = head;
        Ok(())
    }

    /// Whether a record with such a payload finds room on the disk and in the map. Raises `Log` when nobody can tell.
    pub fn has_room(&self, payload: usize) -> Result<bool, StoreError> {
        let guard = lock(&self.log);
        let log = guard.as_ref().ok_or_else(|| self.closed())?;
        match self.check_room(payload, log.growth(payload)) {
            Err(error) if error.is_full() => Ok(false),
            checked => checked.map(|()| true),
        }
    }

    /// `log_growth` is what the log itself takes anew: a whole segment at once.
    fn check_room(&self, payload: usize, log_growth: u64) -> Result<(), StoreError> {
        let payload = payload as u64;
        let rewritten = payload * REWRITTEN_BYTES_PER_RECORD_BYTE;
        let growth = payload * VIEW_BYTES_PER_RECORD_BYTE + rewritten.min(self.view.used_bytes());
        if free_bytes(self.snapshots.disk(), &self.directory)?
            < DISK_RESERVE_BYTES + growth + log_growth
        {
            let path = self.directory.clone();
            return Err(LogError::DiskFull { path }.into());
        }
        let map_bytes = self.view.map_bytes();
        if self.view.map_bytes_left() < MAP_RESERVE_BYTES.min(map_bytes / 4) + growth {
            return Err(StoreError::MapFull {
                directory: self.view.directory().to_path_buf(),
                map_bytes,
            });
        }
        Ok(())
    }

    /// The view after the last commit; a commit that runs meanwhile is neither seen nor held up.
    pub fn snapshot(&self) -> Result<Snapshot<'_>, StoreError> {
        self.view.snapshot()
    }

    /// Reads records beside the writer.
    pub fn log_reader(&self) -> &LogReader {
        &self.reader
    }

    /// The last record that is durable and applied.
    pub fn head(&self) -> Head {
        *lock(&self.head)
    }

    /// The directory of log and view.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Counters since the opening.
    pub fn stats(&self) -> Stats {
        self.counters.stats()
    }

    /// Makes a snapshot of the view beside running commits, and removes those that are older than the newest two.
    ///
    /// Answers the newest one when that shows the last record already. Raises what disk and LMDB refuse, `BadSnapshot`,
    /// and `Closed` when the store is closed meanwhile; nothing but the snapshot is lost then.
    pub fn take_snapshot(&self) -> Result<Description, StoreError> {
        let _alone = lock(&self.snapshotting);
        let start = Instant::now();
        let newest = self.snapshots.list()?.into_iter().next();
        if let Some(found) = newest
            && found.sequence == self.head().sequence
            && let Ok(description) = found.check(self.snapshots.disk())?
        {
            return Ok(description);
        }
        self.check_room_for_snapshot()?;
        let covered = self.counters.bytes_since_snapshot.load(Relaxed);
        let description = taking::take(&self.view, &self.snapshots, &self.closing)?;
        self.snapshots.remove_old()?;
        let sequence = description.base.sequence;
        let took = start.elapsed();
        self.counters.snapshot_taken(sequence, covered, took);
        Ok(description)
    }

    /// A snapshot must not take the room that commits need meanwhile.
    fn check_room_for_snapshot(&self) -> Result<(), StoreError> {
        let needed = self.view.used_bytes() + SNAPSHOT_LEAVES_BYTES;
        let path = self.snapshots.directory().to_path_buf();
        if free_bytes(self.snapshots.disk(), &self.directory)? < needed {
            return Err(LogError::DiskFull { path }.into());
        }
        Ok(())
    }

    /// Removes the segments of the log that the second newest snapshot covers; returns the first sequence kept.
    ///
    /// So the newest snapshot may turn out to be damaged, and nothing is lost. Nothing is removed while there are fewer
    /// than two, or the second newest is not whole. Raises `Log`, `Closed`.
    pub fn trim(&self) -> Result<u64, StoreError> {
        let _alone = lock(&self.snapshotting);
        let kept = self.snapshots.list()?;
        let older = kept.get(SNAPSHOTS_KEPT - 1);
        let covered = older.map_or(0, |older| older.sequence);
        let segments = segments(self.snapshots.disk(), &self.directory.join("log"))?;
        let ends = segments.iter().skip(1).map(|next| next.saturating_sub(1));
        let ends: Vec<_> = ends.filter(|last| *last <= covered).collect();
        if let Some(older) = older
            && !ends.is_empty()
            && older.check(self.snapshots.disk())?.is_ok()
        {
            // One at a time: a commit waits for the removal of one file, never of many.
            for last in ends {
                let first = self.trim_to(last)?;
                self.counters.first_sequence.store(first, Relaxed);
            }
            failpoint::pass(Failpoint::SnapshotTrimmed);
        }
        Ok(self.counters.first_sequence.load(Relaxed))
    }

    fn trim_to(&self, last: u64) -> Result<u64, StoreError> {
        let mut guard = lock(&self.log);
        let log = guard.as_mut().ok_or_else(|| self.closed())?;
        Ok(log.trim(last)?)
    }

    /// Syncs the view, marks the end as clean and gives the directory back. Repeating it does nothing.
    pub fn close(&self) -> Result<(), StoreError> {
        self.closing.store(true, Relaxed);
        let _alone = lock(&self.snapshotting);
        let mut log = lock(&self.log);
        if log.is_some() {
            self.view.sync()?;
            let pages = View::data_file(self.view.directory());
            self.snapshots.disk().synced_elsewhere(&pages);
            let mark = Mark {
                place: self.place.clone(),
                clean: true,
                sequence: self.head().sequence,
                pages: Some(Pages::of(self.snapshots.disk(), &pages)?),
            };
            mark.write(self.snapshots.disk(), self.view.directory())?;
            *log = None;
        }
        Ok(())
    }

    fn closed(&self) -> StoreError {
        StoreError::Closed {
            directory: self.directory.clone(),
        }
    }
}

/// Bytes of the sealed segments that begin after a record.
fn sealed_bytes(disk: &dyn Disk, log_directory: &Path, sequence: u64) -> Result<u64, LogError> {
    let mut segments = segments(disk, log_directory)?;
    segments.pop();
    let later = segments.into_iter().filter(|first| *first > sequence);
    let sizes = later.map(|first| {
        let path = log_directory.join(segment_name(first));
        let facts = disk.facts(&path);
        let facts = facts.map_err(|e| LogError::io("look at", &path, e))?;
        Ok(facts.map_or(0, |facts| facts.bytes))
    });
    sizes.sum()
}

/// A thread that panicked inside left nothing half done that LMDB or the log would keep.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
