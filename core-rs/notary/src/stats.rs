//! What a notary counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the opening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Decisions.
    pub batches: u64,
    /// Transactions accepted.
    pub accepted: u64,
    /// Requests refused.
    pub refused: u64,
    /// Requests for the proof of an earlier decision, answered with it unless it could not be made.
    pub repeated: u64,
    /// Questions that no proof or time could be given for: the worker's key has changed, or the disk is full or bad.
    pub unproven: u64,
    /// Records appended.
    pub appends: u64,
    /// Bytes of their payloads.
    pub bytes_appended: u64,
    /// Nanoseconds in syncs.
    pub sync_ns_total: u64,
    /// Nanoseconds in decisions.
    pub decide_ns_total: u64,
    /// Signatures that were really verified.
    pub signatures_verified: u64,
    /// Roots signed, those of repeats included.
    pub root_signatures: u64,
}

/// The counters of a notary that works.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) batches: AtomicU64,
    pub(crate) accepted: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) repeated: AtomicU64,
    pub(crate) unproven: AtomicU64,
    pub(crate) decide_ns_total: AtomicU64,
    pub(crate) signatures_verified: AtomicU64,
    pub(crate) root_signatures: AtomicU64,
}

impl Counters {
    /// Together with those of the log.
    pub(crate) fn with(&self, logged: &p2pet_view::Stats) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Stats {
            batches: get(&self.batches),
            accepted: get(&self.accepted),
            refused: get(&self.refused),
            repeated: get(&self.repeated),
            unproven: get(&self.unproven),
            appends: logged.appends,
            bytes_appended: logged.bytes_appended,
            sync_ns_total: logged.sync_ns_total,
            decide_ns_total: get(&self.decide_ns_total),
            signatures_verified: get(&self.signatures_verified),
            root_signatures: get(&self.root_signatures),
        }
    }
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}
