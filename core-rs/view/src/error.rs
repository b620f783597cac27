//! What can go wrong with a store.

use std::path::{Path, PathBuf};

use heed::MdbError;
use p2pet_log::LogError;

use crate::KEY_BYTES_MAX;

/// Why the store refuses. `code()` is stable.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The log refuses.
    #[error(transparent)]
    Log(#[from] LogError),
    /// LMDB refuses.
    #[error("cannot {action} the view {}: {source}", directory.display())]
    View {
        /// A verb, such as "read".
        action: &'static str,
        /// The view's directory.
        directory: PathBuf,
        /// Why.
        source: heed::Error,
    },
    /// The view's address space is used up; nothing was written.
    #[error("the view {} has filled its {map_bytes} bytes: open it with more", directory.display())]
    MapFull {
        /// The view's directory.
        directory: PathBuf,
        /// Its size.
        map_bytes: u64,
    },
    /// A key over the limit; nothing was written.
    #[error("a key of {bytes} bytes is over the limit of {KEY_BYTES_MAX} bytes")]
    KeyTooLong {
        /// Bytes of the key.
        bytes: usize,
    },
    /// A valid record whose payload this program cannot read.
    #[error("record {sequence} of {} is of no kind that this program knows: {why}", directory.display())]
    UnknownRecord {
        /// The directory of log and view.
        directory: PathBuf,
        /// Number of the record.
        sequence: u64,
        /// One clause.
        why: &'static str,
    },
    /// A snapshot that was made is not the view.
    #[error("the snapshot {} is of no use: {why}", path.display())]
    BadSnapshot {
        /// Its pages.
        path: PathBuf,
        /// One clause.
        why: &'static str,
    },
    /// The view cannot be rebuilt: the log's first records are gone.
    #[error(
        "the view is lost, no snapshot in {} is whole, and the log begins at record {first_sequence}: restore a backup",
        directory.display()
    )]
    NoSnapshot {
        /// Where the snapshots are.
        directory: PathBuf,
        /// The first record of the log.
        first_sequence: u64,
    },
    /// It was closed.
    #[error("the store {} is closed", directory.display())]
    Closed {
        /// The directory of log and view.
        directory: PathBuf,
    },
}

impl StoreError {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Log(error) => error.code(),
            Self::View { .. } => "store.view",
            Self::MapFull { .. } => "store.map_full",
            Self::KeyTooLong { .. } => "store.key_too_long",
            Self::UnknownRecord { .. } => "store.unknown_record",
            Self::BadSnapshot { .. } => "store.bad_snapshot",
            Self::NoSnapshot { .. } => "store.no_snapshot",
            Self::Closed { .. } => "store.closed",
        }
    }

    /// Whether nothing was written because the disk or the map is full.
    pub fn is_full(&self) -> bool {
        matches!(
            self,
            Self::Log(LogError::DiskFull { .. }) | Self::MapFull { .. }
        )
    }

    /// Whether LMDB met pages that cannot be those that were written; the log can rebuild such a view.
    pub(crate) fn is_broken_view(&self) -> bool {
        use MdbError::{
            BadTxn, Corrupted, CursorFull, Incompatible, Invalid, PageFull, PageNotFound, Panic,
            Problem, VersionMismatch,
        };
        let Self::View {
            source: heed::Error::Mdb(kind),
            ..
        } = self
        else {
            return false;
        };
        matches!(
            kind,
            BadTxn
                | Corrupted
                | CursorFull
                | Incompatible
                | Invalid
                | PageFull
                | PageNotFound
                | Panic
                | Problem
                | VersionMismatch
        )
    }

    pub(crate) fn view(action: &'static str, directory: &Path, source: heed::Error) -> Self {
        Self::View {
            action,
            directory: directory.to_path_buf(),
            source,
        }
    }
}
