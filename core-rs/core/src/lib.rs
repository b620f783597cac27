//! Hashing, proofs and signatures of the ledger, without I/O, clock or global configuration.
//!
//! Bytes go in, typed facts come out; the layouts are those of `docs/protocol.md`. Everything that arrives is
//! decoded strictly: nothing is indexed, sliced or allocated by a number from the wire.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic
    )
)]

pub mod cache;
pub mod certificate;
pub mod check;
pub mod checked;
pub mod component;
pub mod contents;
pub mod error;
pub mod finality;
pub mod hash;
pub mod keys;
pub mod merkle;
pub mod proofs;
pub mod proposal;
pub mod request;
pub mod signature;
pub mod tearoff;
pub mod transaction;
pub mod wire;

pub use error::{Error, Refusal};
pub use hash::Digest;
