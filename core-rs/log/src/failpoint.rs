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
    /// A record is applied to the view.
    ViewAfterApply,
    /// A notary's batch is durable and applied, no reply is built.
    NotaryAfterCommit,
}

impl Failpoint {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::LogBeforeWrite,
        Self::LogHalfRecord,
        Self::LogAfterWrite,
        Self::LogAfterSync,
        Self::ViewAfterApply,
        Self::NotaryAfterCommit,
    ];

    /// The name in the variable.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LogBeforeWrite => "log.before_write",
            Self::LogHalfRecord => "log.half_record",
            Self::LogAfterWrite => "log.after_write",
            Self::LogAfterSync => "log.after_sync",
            Self::ViewAfterApply => "view.after_apply",
            Self::NotaryAfterCommit => "notary.after_commit",
        }
    }
}

/// The areas whose points live here; points of other areas in the variable belong to other registries.
const AREAS: [&str; 3] = ["log", "view", "notary"];

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
