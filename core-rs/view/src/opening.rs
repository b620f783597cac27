//! What opening does to a view: believe it, or begin again with a snapshot or with nothing; then bring it up to date.

use std::path::Path;

use p2pet_log::disk::{Disk, SharedDisk};
use p2pet_log::failpoint::{self, Failpoint};
use p2pet_log::files::create_directories;
use p2pet_log::format::parse_segment_name;
use p2pet_log::{Base, DirectoryLock, Log, LogError, Records};

use crate::error::StoreError;
use crate::logged::{Apply, ApplyError, Options};
use crate::mark::Mark;
use crate::progress::{Phase, Progress};
use crate::snapshots::Snapshots;
use crate::view::{Head, View};

/// Records and bytes that a replay applies in one transaction.
const REPLAY_RECORDS_MAX: usize = 4096;
const REPLAY_BYTES_MAX: usize = 16 << 20;

/// A log with a view that holds what all of it says.
pub(crate) struct Opened {
    pub(crate) log: Log,
    pub(crate) view: View,
    /// How many records were applied to it.
    pub(crate) replayed: u64,
    /// Whether it was rebuilt, from a snapshot or from the log's start.
    pub(crate) rebuilt: bool,
    /// The snapshot that it was rebuilt from, 0 for none.
    pub(crate) restored: u64,
    /// What log and snapshots are on.
    pub(crate) disk: SharedDisk,
}

/// See `LoggedView::open`; a view whose pages turn out to be broken is rebuilt, and so is one that an earlier start left
/// empty for want of a snapshot.
pub(crate) fn open(
    disk: SharedDisk,
    directory: &Path,
    options: Options,
    apply: &impl Apply,
    progress: &Progress<'_>,
) -> Result<Opened, StoreError> {
    match try_open(&disk, directory, options, apply, progress, true) {
        Err(error) if error.is_broken_view() || matches!(error, StoreError::NoSnapshot { .. }) => {
            try_open(&disk, directory, options, apply, progress, false)
        }
        opened => opened,
    }
}

fn try_open(
    disk: &SharedDisk,
    directory: &Path,
    options: Options,
    apply: &impl Apply,
    progress: &Progress<'_>,
    believe: bool,
) -> Result<Opened, StoreError> {
    let (log_directory, view_directory) = (directory.join("log"), directory.join("view"));
    let lock = DirectoryLock::take_on(SharedDisk::clone(disk), &log_directory)?;
    create_directories(lock.disk(), &view_directory)?;
    let snapshots = Snapshots::of(lock.shared_disk(), directory);
    snapshots.remove_leftovers()?;

    let found = find_view(lock.disk(), &view_directory, believe, &snapshots, progress)?;
    let view = open_view(lock.disk(), &view_directory, options.map_bytes, found.seen)?;
    let applied = view.snapshot()?.head()?;
    let segments = segments(lock.disk(), &log_directory)?;
    check_reach(&snapshots, applied, segments.first().copied())?;
    let base = Base {
        sequence: applied.sequence,
        chain_value: applied.chain_value,
    };
    let (seen, segment_bytes) = (found.seen, options.segment_bytes);
    let log = Log::open_telling(lock, base, seen, segment_bytes, &mut |done, total| {
        progress.at(Phase::CheckingLog, done, total);
    })?;
    let replayed = replay(directory, &view, &log, applied, apply, progress)?;
    let believed = found.restored == 0 && applied.sequence > 0;
    Ok(Opened {
        rebuilt: !believed && (found.existed || replayed > 0) && log.last_sequence() > 0,
        log,
        view,
        replayed,
        restored: found.restored,
        disk: SharedDisk::clone(disk),
    })
}

/// What is in a view's place before LMDB opens it.
struct Place {
    /// A sequence that the log may not end below.
    seen: u64,
    /// Whether anything was there before.
    existed: bool,
    /// The snapshot that is there now, 0 for none.
    restored: u64,
}

/// Leaves a view that its mark vouches for; deletes any other, unread, and puts the newest whole snapshot there.
fn find_view(
    disk: &dyn Disk,
    directory: &Path,
    believe: bool,
    snapshots: &Snapshots,
    progress: &Progress<'_>,
) -> Result<Place, StoreError> {
    let mark = Mark::read(disk, directory)?;
    let existed = View::exists(disk, directory)? || mark.is_some();
    let place = View::place(disk, directory)?;
    let vouched = match &mark {
        Some(mark) if believe && mark.vouches_for_view(&place) => {
            mark.holds(disk, &View::data_file(directory))
        }
        _ => false,
    };
    let described = snapshots.list()?.into_iter().find_map(|f| f.description);
    let snapshot = described.map_or(0, |description| description.base.sequence);
    let seen = mark.map_or(0, |mark| mark.sequence).max(snapshot);
    let mut restored = 0;
    if !vouched {
        View::delete(disk, directory)?;
        let from = snapshots.restore(&View::data_file(directory), progress)?;
        restored = from.map_or(0, |description| description.base.sequence);
        failpoint::pass(Failpoint::SnapshotRestored);
    }
    Ok(Place {
        seen,
        existed,
        restored,
    })
}

/// The view in a directory; the mark says "open" before LMDB writes a byte.
fn open_view(
    disk: &dyn Disk,
    directory: &Path,
    map_bytes: u64,
    seen: u64,
) -> Result<View, StoreError> {
    let before = View::place(disk, directory)?;
    Mark::open(&before, seen).write(disk, directory)?;
    let view = View::open(directory, map_bytes)?;
    // A new file is vouched for once it is there, so that a long replay goes on after a kill.
    let place = View::place(disk, directory)?;
    if place != before {
        Mark::open(&place, seen).write(disk, directory)?;
    }
    Ok(view)
}

/// The first sequences of the log's segments, ascending.
pub(crate) fn segments(disk: &dyn Disk, log_directory: &Path) -> Result<Vec<u64>, LogError> {
    let names = disk.list(log_directory);
    let names = names.map_err(|e| LogError::io("list", log_directory, e))?;
    let segments = names.iter().filter_map(|name| parse_segment_name(name));
    let mut segments: Vec<_> = segments.collect();
    segments.sort_unstable();
    Ok(segments)
}

/// A view that begins with nothing needs the log from its start.
fn check_reach(snapshots: &Snapshots, applied: Head, first: Option<u64>) -> Result<(), StoreError> {
    match first {
        Some(first_sequence) if first_sequence > 1 && applied.sequence == 0 => {
            Err(StoreError::NoSnapshot {
                directory: snapshots.directory().to_path_buf(),
                first_sequence,
            })
        }
        _ => Ok(()),
    }
}

/// Applies every record after `applied`, which is one of this log, many in a transaction; returns how many.
fn replay(
    directory: &Path,
    view: &View,
    log: &Log,
    applied: Head,
    apply: &impl Apply,
    progress: &Progress<'_>,
) -> Result<u64, StoreError> {
    let total = log.last_sequence().saturating_sub(applied.sequence);
    if total == 0 {
        return Ok(0);
    }
    let records = log.reader().iterate(applied.sequence + 1)?;
    apply_all(directory, view, records, apply, |done| {
        progress.at(Phase::RebuildingView, done, total);
    })
}

/// Applies these records, many in a transaction; returns how many.
pub(crate) fn apply_all(
    directory: &Path,
    view: &View,
    records: Records,
    apply: &(impl Apply + ?Sized),
    tell: impl Fn(u64),
) -> Result<u64, StoreError> {
    let mut records = records.peekable();
    let mut applied = 0;
    while records.peek().is_some() {
        let mut writer = view.writer()?;
        let (mut head, mut bytes) = (Head::START, 0);
        for record in records.by_ref().take(REPLAY_RECORDS_MAX) {
            let record = record?;
            let place = (record.sequence, record.position);
            let done = apply.apply(&mut writer, place, &record.payload);
            done.map_err(|e| raise(directory, record.sequence, e))?;
            head = Head {
                sequence: record.sequence,
                chain_value: record.chain_value,
            };
            applied += 1;
            bytes += record.payload.len();
            if bytes > REPLAY_BYTES_MAX {
                break;
            }
        }
        writer.commit(&head)?;
        tell(applied);
    }
    Ok(applied)
}

/// The error of a record that could not be applied.
pub(crate) fn raise(directory: &Path, sequence: u64, error: ApplyError) -> StoreError {
    match error {
        ApplyError::Store(error) => error,
        ApplyError::Unknown(why) => StoreError::UnknownRecord {
            directory: directory.to_path_buf(),
            sequence,
            why,
        },
    }
}
