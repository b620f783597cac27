//! Named points at which a test kills the process, off unless `P2PET_FAILPOINTS` names them.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::{Signal, getpid, kill_process};

/// The variable that arms points: `name:n[,name:n]` kills the process at the n-th pass of that point.
pub const VARIABLE: &str = "P2PET_FAILPOINTS";

/// A point in the code; the registry of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failpoint {
    /// Before any byte of a record is written.
    LogBeforeWrite,
    /// Half of a record's bytes are written.
    LogHalfRecord,
    /// A record is written and not synced.
    LogAfterWrite,
    /// A record is durable.
    LogAfterSync,
    /// The open segment has no room for a record; nothing is done about it yet.
    LogBeforeRoll,
    /// A new segment is durable under its name; the record that it is for goes there next.
    LogAfterRoll,
    /// A segment that a snapshot covers is about to be removed.
    LogBeforeTrim,
    /// A segment is removed, durably.
    LogSegmentRemoved,
    /// A directory is created and its name not durable.
    DiskDirectoryCreated,
    /// A file that will get its name later is created, and empty.
    DiskFileCreated,
    /// A piece of that file is written.
    DiskPartWritten,
    /// That file is durable under its preliminary name.
    DiskFileSynced,
    /// It has its name, which is not durable.
    DiskRenamed,
    /// A file is removed, which is not durable.
    DiskRemoved,
    /// The names in a directory are durable.
    DiskDirectorySynced,
    /// The pages of a snapshot are copied and not synced.
    SnapshotCopied,
    /// They are durable, and nothing knows of them.
    SnapshotSynced,
    /// They were read again and are what they should be.
    SnapshotChecked,
    /// They have their name and no description.
    SnapshotPlaced,
    /// The snapshot is there, the oldest is not removed.
    SnapshotDescribed,
    /// The description of the oldest is removed, its pages are not.
    SnapshotForgotten,
    /// The log is trimmed up to the older snapshot that is kept.
    SnapshotTrimmed,
    /// A snapshot is copied back and not in the view's place.
    SnapshotCopiedBack,
    /// A snapshot is the view, and the mark does not say so.
    SnapshotRestored,
    /// A record is applied to the view.
    ViewAfterApply,
    /// A notary's batch is durable and applied, no reply is built.
    NotaryAfterCommit,
}

impl Failpoint {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::LogBeforeWrite,
        Self::LogHalfRecord,
        Self::LogAfterWrite,
        Self::LogAfterSync,
        Self::LogBeforeRoll,
        Self::LogAfterRoll,
        Self::LogBeforeTrim,
        Self::LogSegmentRemoved,
        Self::DiskDirectoryCreated,
        Self::DiskFileCreated,
        Self::DiskPartWritten,
        Self::DiskFileSynced,
        Self::DiskRenamed,
        Self::DiskRemoved,
        Self::DiskDirectorySynced,
        Self::SnapshotCopied,
        Self::SnapshotSynced,
        Self::SnapshotChecked,
        Self::SnapshotPlaced,
        Self::SnapshotDescribed,
        Self::SnapshotForgotten,
        Self::SnapshotTrimmed,
        Self::SnapshotCopiedBack,
        Self::SnapshotRestored,
        Self::ViewAfterApply,
        Self::NotaryAfterCommit,
    ];

    /// Whether every commit passes it; the others belong to what happens now and then.
    const fn is_of_commit(self) -> bool {
        matches!(
            self,
            Self::LogBeforeWrite
                | Self::LogHalfRecord
                | Self::LogAfterWrite
                | Self::LogAfterSync
                | Self::ViewAfterApply
                | Self::NotaryAfterCommit
        )
    }

    /// The name in the variable.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LogBeforeWrite => "log.before_write",
            Self::LogHalfRecord => "log.half_record",
            Self::LogAfterWrite => "log.after_write",
            Self::LogAfterSync => "log.after_sync",
            Self::LogBeforeRoll => "log.before_roll",
            Self::LogAfterRoll => "log.after_roll",
            Self::LogBeforeTrim => "log.before_trim",
            Self::LogSegmentRemoved => "log.segment_removed",
            Self::DiskDirectoryCreated => "disk.directory_created",
            Self::DiskFileCreated => "disk.file_created",
            Self::DiskPartWritten => "disk.part_written",
            Self::DiskFileSynced => "disk.file_synced",
            Self::DiskRenamed => "disk.renamed",
            Self::DiskRemoved => "disk.removed",
            Self::DiskDirectorySynced => "disk.directory_synced",
            Self::SnapshotCopied => "snapshot.copied",
            Self::SnapshotSynced => "snapshot.synced",
            Self::SnapshotChecked => "snapshot.checked",
            Self::SnapshotPlaced => "snapshot.placed",
            Self::SnapshotDescribed => "snapshot.described",
            Self::SnapshotForgotten => "snapshot.forgotten",
            Self::SnapshotTrimmed => "snapshot.trimmed",
            Self::SnapshotCopiedBack => "snapshot.copied_back",
            Self::SnapshotRestored => "snapshot.restored",
            Self::ViewAfterApply => "view.after_apply",
            Self::NotaryAfterCommit => "notary.after_commit",
        }
    }
}

/// The areas whose points live here; points of other areas in the variable belong to other registries.
const AREAS: [&str; 5] = ["log", "disk", "snapshot", "view", "notary"];

/// An entry of the variable that names no point or no number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{VARIABLE} holds {entry:?}: {why}")]
pub struct FailpointError {
    entry: String,
    why: &'static str,
}

static ARMED: AtomicBool = AtomicBool::new(false);
static PASSES_LEFT: [AtomicU64; Failpoint::ALL.len()] =
    [const { AtomicU64::new(0) }; Failpoint::ALL.len()];
static STARTED: OnceLock<Result<(), FailpointError>> = OnceLock::new();

/// The names of the points that every commit passes, the notary's own among them.
pub fn commit_names() -> Vec<&'static str> {
    let commit = Failpoint::ALL.iter().filter(|point| point.is_of_commit());
    commit.map(|point| point.name()).collect()
}

/// The names of all points.
pub fn names() -> Vec<&'static str> {
    Failpoint::ALL.iter().map(|point| point.name()).collect()
}

/// Arms the points that the variable names, once in the life of the process. Raises for an unknown name.
pub fn arm_from_environment() -> Result<(), FailpointError> {
    STARTED
        .get_or_init(|| match std::env::var(VARIABLE) {
            Ok(text) => arm(&text),
            Err(_) => Ok(()),
        })
        .clone()
}

fn arm(text: &str) -> Result<(), FailpointError> {
    for (point, passes) in parse(text)? {
        if let Some(left) = PASSES_LEFT.get(point as usize) {
            left.store(passes, Ordering::Relaxed);
        }
        ARMED.store(true, Ordering::Relaxed);
    }
    Ok(())
}

fn parse(text: &str) -> Result<Vec<(Failpoint, u64)>, FailpointError> {
    let mut armed = Vec::new();
    for entry in text
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
    {
        let error = |why| FailpointError {
            entry: entry.to_owned(),
            why,
        };
        let (name, passes) = entry.split_once(':').ok_or_else(|| error("write name:n"))?;
        let passes: u64 = passes.parse().map_err(|_| error("n is a number from 1"))?;
        if passes == 0 {
            return Err(error("n is a number from 1"));
        }
        match Failpoint::ALL
            .into_iter()
            .find(|point| point.name() == name)
        {
            Some(point) => armed.push((point, passes)),
            None if AREAS.contains(&name.split('.').next().unwrap_or_default()) => {
                return Err(error("no failpoint has this name"));
            }
            None => {}
        }
    }
    Ok(armed)
}

/// Kills the process when this is the pass that the variable names.
#[inline]
pub fn pass(point: Failpoint) {
    if hit(point) {
        kill();
    }
}

/// Whether this is the pass that the variable names; the caller leaves half of its work undone and calls `kill`.
#[inline]
pub fn hit(point: Failpoint) -> bool {
    #[cfg(feature = "simulated")]
    crate::simulated::record_pass(point);
    ARMED.load(Ordering::Relaxed) && counts_down(point)
}

#[cold]
fn counts_down(point: Failpoint) -> bool {
    PASSES_LEFT.get(point as usize).is_some_and(|left| {
        let before = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        before == Ok(1)
    })
}

/// Ends the process as `kill -9` does: no destructor, no flush.
#[cold]
pub fn kill() -> ! {
    // A process may always signal itself; the abort only satisfies the type.
    let _ = kill_process(getpid(), Signal::KILL);
    std::process::abort()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_knows_every_name() {
        let text = names()
            .iter()
            .map(|name| format!("{name}:3"))
            .collect::<Vec<_>>()
            .join(",");
        let expected: Vec<_> = Failpoint::ALL.into_iter().map(|point| (point, 3)).collect();
        assert_eq!(parse(&text), Ok(expected));
    }

    #[test]
    fn parse_leaves_other_areas_alone() {
        assert_eq!(parse("flow.after_step:2, "), Ok(vec![]));
    }

    #[test]
    fn parse_refuses_what_it_does_not_know() {
        for text in [
            "log.nowhere:1",
            "log.after_sync",
            "log.after_sync:0",
            "log.after_sync:x",
            "notary.x:1",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_is_hit_when_nothing_is_armed() {
        assert!(Failpoint::ALL.into_iter().all(|point| !hit(point)));
    }
}
