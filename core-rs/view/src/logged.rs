//! A log and the view of it: one durable append, then the same record applied.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use p2pet_log::failpoint::{self, Failpoint};
use p2pet_log::{
    Appended, DirectoryLock, Log, LogError, LogReader, Position, SEGMENT_BYTES, free_bytes,
};

use crate::MAP_BYTES;
use crate::error::StoreError;
use crate::mark::{Mark, Place};
use crate::opening::{Opened, Replayed, bring_up_to_date, open_view, raise};
use crate::view::{Head, Snapshot, View, Writer};

/// Free space that a commit leaves on the disk, so that LMDB never meets a full one after the append.
const DISK_RESERVE_BYTES: u64 = 16 << 20;
/// Room that a commit leaves in the map (a quarter of a small one), for the same reason.
const MAP_RESERVE_BYTES: u64 = 256 << 20;
/// A page of the view may be rewritten for every few bytes of a record.
const VIEW_BYTES_PER_RECORD_BYTE: u64 = 8;

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

/// Counters since the opening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records appended.
    pub appends: u64,
    /// Bytes of their payloads.
    pub bytes_appended: u64,
    /// Nanoseconds in syncs.
    pub sync_ns_total: u64,
    /// Nanoseconds in applying.
    pub apply_ns_total: u64,
    /// Records that the opening applied.
    pub replayed_records: u64,
    /// 1 when the opening rebuilt the view from the log's start.
    pub view_rebuilt: u64,
}

#[derive(Default)]
struct Counters {
    appends: AtomicU64,
    bytes_appended: AtomicU64,
    sync_ns_total: AtomicU64,
    apply_ns_total: AtomicU64,
}

/// A log with its view in one directory; shared between threads.
pub struct LoggedView<A> {
    directory: PathBuf,
    apply: A,
    place: Place,
    view: View,
    reader: LogReader,
    /// None once closed.
    log: Mutex<Option<Log>>,
    head: Mutex<Head>,
    counters: Counters,
    replayed_records: u64,
    rebuilt: bool,
}

impl<A: Apply> LoggedView<A> {
    /// Locks the directory, recovers the log and brings the view up to date:
    ///
    /// 1. a view that its mark does not vouch for is deleted, unread;
    /// 2. the mark says "open" before LMDB writes a byte;
    /// 3. the log is recovered; it may cut a bad last record only above what the view has applied;
    /// 4. the view's head must be a record of this log; every record after it is applied; a view in which LMDB meets
    ///    broken pages on the way is deleted and rebuilt.
    ///
    /// Raises `Log` (damaged, locked), `View`, `UnknownRecord`.
    pub fn open(directory: &Path, options: Options, apply: A) -> Result<Self, StoreError> {
        let (log_directory, view_directory) = (directory.join("log"), directory.join("view"));
        let lock = DirectoryLock::take(&log_directory)?;
        let created = std::fs::create_dir_all(&view_directory);
        created.map_err(|e| LogError::io("create", &view_directory, e))?;

        let Opened {
            view,
            seen,
            existed,
        } = open_view(&view_directory, options.map_bytes)?;
        let applied = view.snapshot()?.head()?;
        let log = Log::open(lock, seen.max(applied.sequence), options.segment_bytes)?;
        let reader = log.reader();
        let Replayed {
            view,
            applied,
            records,
        } = bring_up_to_date(directory, view, &reader, applied, &apply)?;
        let head = Head {
            sequence: log.last_sequence(),
            chain_value: log.chain_value(),
        };
        let place = View::place(&view_directory)?;
        Mark::open(&place, head.sequence).write(&view_directory)?;
        Ok(Self {
            directory: directory.to_path_buf(),
            apply,
            place,
            view,
            reader,
            log: Mutex::new(Some(log)),
            head: Mutex::new(head),
            counters: Counters::default(),
            replayed_records: records,
            rebuilt: applied.sequence == 0 && (existed || records > 0) && head.sequence > 0,
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
        self.check_room(payload.len())?;
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
        let add = |counter: &AtomicU64, n: u64| counter.fetch_add(n, Ordering::Relaxed);
        add(&self.counters.appends, 1);
        add(&self.counters.bytes_appended, payload.len() as u64);
        add(
            &self.counters.sync_ns_total,
            appended.sync_time.as_nanos() as u64,
        );
        add(
            &self.counters.apply_ns_total,
            start.elapsed().as_nanos() as u64,
        );
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

    fn check_room(&self, payload: usize) -> Result<(), StoreError> {
        let growth = payload as u64 * VIEW_BYTES_PER_RECORD_BYTE;
        if free_bytes(&self.directory)? < DISK_RESERVE_BYTES + growth {
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
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            appends: get(&self.counters.appends),
            bytes_appended: get(&self.counters.bytes_appended),
            sync_ns_total: get(&self.counters.sync_ns_total),
            apply_ns_total: get(&self.counters.apply_ns_total),
            replayed_records: self.replayed_records,
            view_rebuilt: u64::from(self.rebuilt),
        }
    }

    /// Syncs the view, marks the end as clean and gives the directory back. Repeating it does nothing.
    pub fn close(&self) -> Result<(), StoreError> {
        let mut log = lock(&self.log);
        if log.is_some() {
            self.view.sync()?;
            let mark = Mark {
                place: self.place.clone(),
                clean: true,
                sequence: self.head().sequence,
            };
            mark.write(self.view.directory())?;
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

/// A thread that panicked inside left nothing half done that LMDB or the log would keep.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
