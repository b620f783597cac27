//! What opening does to a view: believe it, delete it, bring it up to date.

use std::path::Path;

use p2pet_log::{LogError, LogReader, Record};

use crate::error::StoreError;
use crate::logged::{Apply, ApplyError};
use crate::mark::Mark;
use crate::view::{Head, View};

/// Records and bytes that a replay applies in one transaction.
const REPLAY_RECORDS_MAX: usize = 4096;
const REPLAY_BYTES_MAX: usize = 16 << 20;

/// A view that may be read.
pub(crate) struct Opened {
    pub(crate) view: View,
    /// A sequence that the log may not end below.
    pub(crate) seen: u64,
    /// Whether anything was there before.
    pub(crate) existed: bool,
}

/// The view in a directory, emptied unless its mark vouches for it; the mark says "open" before LMDB writes a byte.
pub(crate) fn open_view(directory: &Path, map_bytes: u64) -> Result<Opened, StoreError> {
    let mark = Mark::read(directory)?;
    let existed = View::exists(directory) || mark.is_some();
    let place = View::place(directory)?;
    let believed = mark
        .as_ref()
        .is_some_and(|mark| mark.vouches_for_view(&place));
    let seen = mark.map_or(0, |mark| mark.sequence);
    if !believed {
        View::delete(directory)?;
    }
    let before = View::place(directory)?;
    Mark::open(&before, seen).write(directory)?;
    let view = View::open(directory, map_bytes)?;
    // A new file is vouched for once it is there, so that a long replay goes on after a kill.
    let place = View::place(directory)?;
    if place != before {
        Mark::open(&place, seen).write(directory)?;
    }
    Ok(Opened {
        view,
        seen,
        existed,
    })
}

/// A view that holds what the whole log says.
pub(crate) struct Replayed {
    pub(crate) view: View,
    /// What it held before.
    pub(crate) applied: Head,
    /// How many records were applied to it.
    pub(crate) records: u64,
}

/// Applies what the view lacks; a view whose pages turn out to be broken is rebuilt from the log's start.
pub(crate) fn bring_up_to_date(
    directory: &Path,
    view: View,
    reader: &LogReader,
    applied: Head,
    apply: &impl Apply,
) -> Result<Replayed, StoreError> {
    match replay(directory, &view, reader, applied, apply) {
        Err(error) if error.is_broken_view() => {
            let view = view.replace()?;
            let records = replay(directory, &view, reader, Head::START, apply)?;
            Ok(Replayed {
                view,
                applied: Head::START,
                records,
            })
        }
        Err(error) => Err(error),
        Ok(records) => Ok(Replayed {
            view,
            applied,
            records,
        }),
    }
}

/// Applies every record after `applied`, many in a transaction; returns how many.
fn replay(
    directory: &Path,
    view: &View,
    reader: &LogReader,
    applied: Head,
    apply: &impl Apply,
) -> Result<u64, StoreError> {
    let mut records = reader.iterate(applied.sequence)?.peekable();
    if applied.sequence > 0 {
        let first = records.next().transpose()?;
        check_same_history(directory, applied, first)?;
    }
    let mut replayed = 0;
    while records.peek().is_some() {
        let mut writer = view.writer()?;
        let (mut head, mut bytes) = (applied, 0);
        for record in records.by_ref().take(REPLAY_RECORDS_MAX) {
            let record = record?;
            let done = apply.apply(
                &mut writer,
                (record.sequence, record.position),
                &record.payload,
            );
            done.map_err(|e| raise(directory, record.sequence, e))?;
            head = Head {
                sequence: record.sequence,
                chain_value: record.chain_value,
            };
            replayed += 1;
            bytes += record.payload.len();
            if bytes > REPLAY_BYTES_MAX {
                break;
            }
        }
        writer.commit(&head)?;
    }
    Ok(replayed)
}

fn check_same_history(
    directory: &Path,
    applied: Head,
    record: Option<Record>,
) -> Result<(), LogError> {
    match record {
        Some(record) if record.chain_value == applied.chain_value => Ok(()),
        record => Err(LogError::Damaged {
            file: directory.join("log"),
            offset: record.map_or(0, |record| record.position.offset),
            why: format!(
                "record {} is not the one that the view has applied",
                applied.sequence
            ),
        }),
    }
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
