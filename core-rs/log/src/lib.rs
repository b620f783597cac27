//! An append-only log: every append is one write and one `fdatasync`, every record is chained to the one before.
//!
//! The bytes are those of docs/protocol.md, section 10. A failed sync aborts the process, because what the disk then
//! holds is unknown; damage is reported with file and offset and never cut away, except a last record that was never
//! acknowledged.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

pub mod disk;
mod error;
pub mod failpoint;
pub mod files;
pub mod format;
mod inspect;
mod later;
mod lock;
mod log;
mod read;
mod real;
mod recover;
mod scan;
#[cfg(feature = "simulated")]
pub mod simulated;

pub use disk::{Disk, SharedDisk};
pub use error::LogError;
pub use inspect::{Inspected, inspect_log};
pub use lock::DirectoryLock;
pub use log::{Appended, Log};
pub use read::{LogReader, Record, Records};
pub use real::RealDisk;
pub use recover::Tell;
pub use scan::read_segment;

/// A 32-byte link of the hash chain.
pub type ChainValue = [u8; 32];

/// The chain value before the first record.
pub const CHAIN_START: ChainValue = [0; 32];

/// What a snapshot stands for: everything up to and including this record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// Number of the record, 0 before the first.
    pub sequence: u64,
    /// Its link of the hash chain.
    pub chain_value: ChainValue,
}

impl Base {
    /// No record: the base of a log that nobody took a snapshot of.
    pub const START: Self = Self {
        sequence: 0,
        chain_value: CHAIN_START,
    };
}

/// Bytes of a segment unless the opener says otherwise.
pub const SEGMENT_BYTES: u64 = 64 << 20;

/// The largest payload of one record.
pub const PAYLOAD_BYTES_MAX: usize = 256 << 20;

/// Where a record starts: the first sequence of its segment, and the offset of the record's header in that file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// First sequence of the segment; its file is named after it.
    pub segment: u64,
    /// Offset of the record's header in the file.
    pub offset: u64,
}
