//! What can go wrong with a log.

use std::io;
use std::path::{Path, PathBuf};

use crate::PAYLOAD_BYTES_MAX;
use crate::failpoint::FailpointError;

/// Why the log refuses. `code()` is stable.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Bytes that may not be cut: somebody has seen them, or something valid follows them.
    #[error("the log is damaged: {} at offset {offset}: {why}", file.display())]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Offset of the first byte of the bad record or header.
        offset: u64,
        /// One clause.
        why: String,
    },
    /// Another process, or another opener in this one, holds the directory.
    #[error("{} is in use by another process", directory.display())]
    Locked {
        /// The directory.
        directory: PathBuf,
    },
    /// The disk is full; nothing was written.
    #[error("no space is left for {}: free some and try again", path.display())]
    DiskFull {
        /// What could not be written.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// A verb, such as "open".
        action: &'static str,
        /// Of what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An earlier write failed half-way, so that no further one may follow it.
    #[error("an earlier write to {} failed: restart the node", path.display())]
    WriteFailedEarlier {
        /// The segment.
        path: PathBuf,
    },
    /// The record was removed with its segment, because a snapshot covers it.
    #[error("record {sequence} is no longer in {}: the log begins later", directory.display())]
    Trimmed {
        /// The log's directory.
        directory: PathBuf,
        /// The record, or the first one of its segment.
        sequence: u64,
    },
    /// A payload over the limit; nothing was written.
    #[error("a record of {bytes} bytes is over the limit of {PAYLOAD_BYTES_MAX} bytes")]
    TooLarge {
        /// Bytes of the payload.
        bytes: usize,
    },
    /// P2PET_FAILPOINTS names a point that does not exist.
    #[error(transparent)]
    Failpoint(#[from] FailpointError),
}

impl LogError {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Damaged { .. } => "log.damaged",
            Self::Locked { .. } => "store.locked",
            Self::DiskFull { .. } => "store.disk_full",
            Self::Io { .. } => "store.io",
            Self::WriteFailedEarlier { .. } => "store.write_failed",
            Self::Trimmed { .. } => "log.trimmed",
            Self::TooLarge { .. } => "store.record_too_large",
            Self::Failpoint(_) => "failpoint.unknown",
        }
    }

    /// Wraps an error of the operating system; a full disk gets its own variant.
    pub fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io {
                action,
                path,
                source,
            },
        }
    }

    pub(crate) fn damaged(file: &Path, offset: u64, why: impl Into<String>) -> Self {
        Self::Damaged {
            file: file.to_path_buf(),
            offset,
            why: why.into(),
        }
    }
}
