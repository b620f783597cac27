//! What is counted while a log and its view are open.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Counters since the opening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Records appended.
    pub appends: u64,
    /// Bytes of their payloads.
    pub bytes_appended: u64,
    /// Nanoseconds in syncs.
    pub sync_ns_total: u64,
    /// Nanoseconds in applying.
    pub apply_ns_total: u64,
    /// Records that the opening applied.
    pub replayed_records: u64,
    /// 1 when the opening rebuilt the view, from a snapshot or from the log's start.
    pub view_rebuilt: u64,
    /// The snapshot that it was rebuilt from, 0 for none.
    pub snapshot_restored: u64,
    /// Snapshots made.
    pub snapshots_taken: u64,
    /// Nanoseconds in making them.
    pub snapshot_ns_total: u64,
    /// The record that the newest snapshot shows, 0 for none.
    pub snapshot_sequence: u64,
    /// The oldest record that the log still holds.
    pub log_first_sequence: u64,
    /// Bytes appended since that snapshot; those from before the opening by whole segments only.
    pub log_bytes_since_snapshot: u64,
}

/// The counters behind `Stats`.
#[derive(Default)]
pub(crate) struct Counters {
    appends: AtomicU64,
    bytes_appended: AtomicU64,
    sync_ns_total: AtomicU64,
    apply_ns_total: AtomicU64,
    snapshots_taken: AtomicU64,
    snapshot_ns_total: AtomicU64,
    snapshot_sequence: AtomicU64,
    pub(crate) first_sequence: AtomicU64,
    pub(crate) bytes_since_snapshot: AtomicU64,
    opened: Stats,
}

impl Counters {
    /// Those of a store that was opened so; its counters of snapshots and of the opening are where they stand in it.
    pub(crate) fn new(opened: Stats) -> Self {
        Self {
            snapshot_sequence: opened.snapshot_sequence.into(),
            first_sequence: opened.log_first_sequence.into(),
            bytes_since_snapshot: opened.log_bytes_since_snapshot.into(),
            opened,
            ..Self::default()
        }
    }

    pub(crate) fn committed(&self, payload: u64, sync: Duration, apply: Duration) {
        self.appends.fetch_add(1, Relaxed);
        self.bytes_appended.fetch_add(payload, Relaxed);
        self.bytes_since_snapshot.fetch_add(payload, Relaxed);
        self.sync_ns_total.fetch_add(nanoseconds(sync), Relaxed);
        self.apply_ns_total.fetch_add(nanoseconds(apply), Relaxed);
    }

    /// A snapshot after `sequence` covers so many of the bytes that were appended since the one before.
    pub(crate) fn snapshot_taken(&self, sequence: u64, covered: u64, took: Duration) {
        self.snapshots_taken.fetch_add(1, Relaxed);
        self.snapshot_sequence.store(sequence, Relaxed);
        self.bytes_since_snapshot.fetch_sub(covered, Relaxed);
        self.snapshot_ns_total.fetch_add(nanoseconds(took), Relaxed);
    }

    pub(crate) fn stats(&self) -> Stats {
        let get = |counter: &AtomicU64| counter.load(Relaxed);
        Stats {
            appends: get(&self.appends),
            bytes_appended: get(&self.bytes_appended),
            sync_ns_total: get(&self.sync_ns_total),
            apply_ns_total: get(&self.apply_ns_total),
            snapshots_taken: get(&self.snapshots_taken),
            snapshot_ns_total: get(&self.snapshot_ns_total),
            snapshot_sequence: get(&self.snapshot_sequence),
            log_first_sequence: get(&self.first_sequence),
            log_bytes_since_snapshot: get(&self.bytes_since_snapshot),
            ..self.opened
        }
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
