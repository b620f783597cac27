//! LMDB as a view of the log, and the node's store on both.
//!
//! The log is the truth; the view is what it says after its last applied record, kept without a sync and rebuilt from
//! the log whenever it could be stale: after an unclean end under another boot of the machine, or as a copy.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

mod changes;
mod description;
mod error;
mod inspect;
mod logged;
mod mark;
#[allow(unsafe_code)]
mod open_env;
mod opening;
mod progress;
mod snapshots;
mod stats;
mod store;
mod taking;
mod view;

pub use changes::{Change, decode_changes, encode_changes};
pub use description::Description;
pub use error::StoreError;
pub use inspect::{
    Comparison, DIFFERENCES_MAX, Difference, Inspection, compare_pages, head_of_pages,
};
pub use logged::{Apply, ApplyError, LoggedView, Options};
pub use progress::{Phase, Progress};
pub use snapshots::{Found, SNAPSHOTS_KEPT, Snapshots};
pub use stats::Stats;
pub use store::{Store, changes};
pub use view::{Entry, Head, Range, Snapshot, Writer};

/// Bytes of a key, its table not counted.
pub const KEY_BYTES_MAX: usize = 511;

/// Address space of a view unless the opener says otherwise; the file grows only as it fills.
pub const MAP_BYTES: u64 = 64 << 30;
