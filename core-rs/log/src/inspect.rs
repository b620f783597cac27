//! Checking a log that nobody appends to, and changing nothing of it.

use std::path::PathBuf;

use crate::error::LogError;
use crate::lock::DirectoryLock;
use crate::recover::{Known, Tell, check};
use crate::scan::Step;
use crate::{Base, CHAIN_START, ChainValue};

/// What a log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// The oldest record that is there, or 1.
    pub first_sequence: u64,
    /// The last one, 0 when there never was any.
    pub last_sequence: u64,
    /// Its chain value.
    pub chain_value: ChainValue,
    /// File, offset and a clause of a last record that was never finished; the next opening cuts it.
    pub unfinished: Option<(PathBuf, u64, &'static str)>,
}

/// Every check of `Log::open`, which see. Raises `Damaged` with file and offset, `Io`.
pub fn inspect_log(
    lock: &DirectoryLock,
    base: Base,
    seen: u64,
    tell: &mut Tell<'_>,
) -> Result<Inspected, LogError> {
    let known = Known { base, seen };
    let checked = check(lock.disk(), lock.directory(), known, tell)?;
    let Some((first_sequence, scanner, step)) = checked else {
        return Ok(Inspected {
            first_sequence: 1,
            last_sequence: 0,
            chain_value: CHAIN_START,
            unfinished: None,
        });
    };
    let unfinished = match step {
        Step::Bad(why) => Some((scanner.path().to_path_buf(), scanner.offset(), why)),
        _ => None,
    };
    Ok(Inspected {
        first_sequence,
        last_sequence: scanner.next_sequence().saturating_sub(1),
        chain_value: *scanner.chain(),
        unfinished,
    })
}
