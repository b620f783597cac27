//! One notary worker: decides which transaction consumes what, durably, and signs only what is durable.
//!
//! `Notary::check` answers section 7 of docs/protocol.md up to the contracts and changes nothing; `Notary::decide` finds
//! conflicts, checks windows against one clock reading, appends one record and signs one root over the batch. The log
//! holds ids, references, claims, callers and verdicts (section 11), never a component of a transaction.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

mod audit;
mod batch;
mod certificates;
mod clock;
mod decide;
mod error;
mod held;
mod index;
mod notary;
pub mod record;
mod reply;
mod service;
mod spent;
mod stats;

pub use audit::{Audit, Finding, audit, index};
pub use batch::{CheckedBatch, PreparedBatch, Request};
pub use decide::ContractRefusal;
pub use error::NotaryError;
pub use notary::{Notary, Status};
pub use service::Service;
pub use spent::{Spent, Subject};
pub use stats::Stats;

/// Requests in one batch.
pub const BATCH_MAX: usize = 1024;
