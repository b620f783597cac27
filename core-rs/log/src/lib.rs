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

mod disk;
mod error;
pub mod failpoint;
pub mod format;
mod later;
mod log;
mod read;
mod recover;
mod scan;

pub use disk::{DirectoryLock, free_bytes, replace_file};
pub use error::LogError;
pub use log::{Appended, Log};
pub use read::{LogReader, Record, Records};
pub use scan::read_segment;

/// A 32-byte link of the hash chain.
pub type ChainValue = [u8; 32];

/// The chain value before the first record.
pub const CHAIN_START: ChainValue = [0; 32];

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
