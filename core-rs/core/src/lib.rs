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
pub mod composite;
pub mod contents;
pub mod encumbrance;
pub mod error;
pub mod finality;
pub mod hash;
pub mod keys;
pub mod locks;
pub mod merkle;
pub mod proofs;
pub mod proposal;
pub mod request;
pub mod resolved;
pub mod signature;
mod signers;
mod states;
pub mod tearoff;
pub mod transaction;
pub mod uniqueness;
pub mod wire;

pub use error::{Error, Refusal};
pub use hash::Digest;
