//! What opening does: believe only what the chain proves, and cut nothing that anybody has seen.
//!
//! 1. Every segment's header and records are checked: checksum, sequence, chain, and the link to the next segment.
//! 2. A first segment that starts above 1 is accepted only when the base covers all that is gone before it.
//! 3. The base must be a record of this log: its chain value is compared where its sequence is met.
//! 4. A bad record before the last segment, or with a valid record behind it, or that `seen` covers, is damage.
//! 5. A log that ends before `seen` or the base is damage.
//! 6. The valid part of the last segment is copied to a fresh file, synced with its directory: after a kill the page
//!    cache may show bytes that the disk lacks.

use std::io::Read;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskFile};
use crate::error::LogError;
use crate::files::{create_durable, remove_unfinished, sync_ancestors};
use crate::format::{SEGMENT_HEADER_BYTES, SegmentHeader, parse_segment_name, segment_name};
use crate::scan::{Scanner, Step, Stream};
use crate::{Base, CHAIN_START, ChainValue};

/// Where the next record goes.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) path: PathBuf,
    pub(crate) segment: u64,
    pub(crate) salt: u32,
    pub(crate) offset: u64,
    pub(crate) file_bytes: u64,
    pub(crate) next_sequence: u64,
    pub(crate) chain: ChainValue,
}

/// The first sequences of all segments, ascending.
pub(crate) fn list_segments(disk: &dyn Disk, directory: &Path) -> Result<Vec<u64>, LogError> {
    let names = disk.list(directory);
    let names = names.map_err(|e| LogError::io("list", directory, e))?;
    let mut found: Vec<_> = names
        .iter()
        .filter_map(|name| parse_segment_name(name))
        .collect();
    found.sort_unstable();
    Ok(found)
}

/// What is known of a log before it is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// What a snapshot stands for.
    pub(crate) base: Base,
    /// The highest sequence that anybody has acted on.
    pub(crate) seen: u64,
}

impl Known {
    /// The log may not end before this.
    fn seen(&self) -> u64 {
        self.seen.max(self.base.sequence)
    }

    /// Compares the base with the chain after the record `sequence`.
    fn check(&self, scanner: &Scanner, sequence: u64) -> Result<(), LogError> {
        if sequence == self.base.sequence && *scanner.chain() != self.base.chain_value {
            let why = format!("record {sequence} is not the one that the snapshot stands for");
            return Err(LogError::damaged(scanner.path(), scanner.offset(), why));
        }
        Ok(())
    }
}

/// Checks the whole log and prepares its end for appending.
pub(crate) fn recover(
    disk: &dyn Disk,
    directory: &Path,
    known: Known,
    segment_bytes: u64,
    tell: &mut Tell<'_>,
) -> Result<Tail, LogError> {
    remove_unfinished(disk, directory)?;
    match check(disk, directory, known, tell)? {
        Some((_, scanner, _)) => rewrite(disk, &scanner, segment_bytes),
        None => {
            sync_ancestors(disk, directory)?;
            create_segment(disk, directory, 1, CHAIN_START, segment_bytes)
        }
    }
}

/// Checks the whole log; answers its first sequence, a scanner at the end of the last record to keep, and what stands
/// there. None when there is no segment.
pub(crate) fn check(
    disk: &dyn Disk,
    directory: &Path,
    known: Known,
    tell: &mut Tell<'_>,
) -> Result<Option<(u64, Scanner, Step)>, LogError> {
    let segments = list_segments(disk, directory)?;
    let (Some((last, sealed)), Some(first)) = (segments.split_last(), segments.first()) else {
        if known.seen() > 0 {
            let path = directory.join(segment_name(1));
            let why = format!(
                "the log is empty, but record {} has been seen",
                known.seen()
            );
            return Err(LogError::damaged(&path, 0, why));
        }
        return Ok(None);
    };
    let mut told = Told::new(disk, directory, &segments, tell)?;
    let mut expected = None;
    for first in sealed {
        let mut scanner = open_linked(disk, directory, *first, expected, known)?;
        if let Step::Bad(why) = walk(&mut scanner, known, &mut told)? {
            return Err(LogError::damaged(scanner.path(), scanner.offset(), why));
        }
        expected = Some((scanner.next_sequence(), *scanner.chain()));
        told.done += scanner.file_bytes();
    }
    let mut scanner = open_linked(disk, directory, *last, expected, known)?;
    let step = find_end(&mut scanner, known, &mut told)?;
    Ok(Some((*first, scanner, step)))
}

/// Takes the bytes that are checked and those that there are.
pub type Tell<'t> = dyn FnMut(u64, u64) + 't;

struct Told<'t, 'f> {
    tell: &'t mut Tell<'f>,
    done: u64,
    total: u64,
}

impl<'t, 'f> Told<'t, 'f> {
    fn new(
        disk: &dyn Disk,
        directory: &Path,
        segments: &[u64],
        tell: &'t mut Tell<'f>,
    ) -> Result<Self, LogError> {
        let mut total = 0;
        for first in segments {
            let path = directory.join(segment_name(*first));
            let facts = disk.facts(&path);
            let facts = facts.map_err(|e| LogError::io("look at", &path, e))?;
            total += facts.map_or(0, |facts| facts.bytes);
        }
        let done = 0;
        Ok(Self { tell, done, total })
    }
}

/// A new, durable, empty segment.
pub(crate) fn create_segment(
    disk: &dyn Disk,
    directory: &Path,
    first_sequence: u64,
    chain_before: ChainValue,
    bytes: u64,
) -> Result<Tail, LogError> {
    let path = directory.join(segment_name(first_sequence));
    let salt = disk.random();
    let header = SegmentHeader {
        salt: salt.map_err(|e| LogError::io("draw random bytes for", &path, e))?,
        first_sequence,
        chain_before,
    };
    let content = header.encode();
    let file = create_durable(disk, &path, &mut content.as_slice(), bytes)?;
    Ok(Tail {
        file,
        path,
        segment: first_sequence,
        salt: header.salt,
        offset: SEGMENT_HEADER_BYTES as u64,
        file_bytes: bytes,
        next_sequence: first_sequence,
        chain: chain_before,
    })
}

/// Opens a segment that must follow `expected`; the first of a log must start at 1 or where the base allows.
fn open_linked(
    disk: &dyn Disk,
    directory: &Path,
    first: u64,
    expected: Option<(u64, ChainValue)>,
    known: Known,
) -> Result<Scanner, LogError> {
    let path = directory.join(segment_name(first));
    let scanner = Scanner::open(disk, &path)?;
    let damaged = |why: String| Err(LogError::damaged(&path, 0, why));
    let (next, chain) = expected.unwrap_or_else(|| match first {
        0 | 1 => (1, CHAIN_START),
        _ => (first, *scanner.chain()),
    });
    if first != next || scanner.first_sequence() != first {
        return damaged(format!("record {next} should follow here"));
    }
    if *scanner.chain() != chain {
        return damaged("the segment is not chained to the one before it".to_owned());
    }
    if expected.is_none() {
        let before = first.saturating_sub(1);
        if known.base.sequence < before {
            let why = format!("the records before {first} are gone and no snapshot covers them");
            return damaged(why);
        }
        known.check(&scanner, before)?;
    }
    Ok(scanner)
}

/// Reads every valid record that is left; returns what stands behind the last one.
fn walk(scanner: &mut Scanner, known: Known, told: &mut Told<'_, '_>) -> Result<Step, LogError> {
    loop {
        match scanner.next()? {
            Step::Record(_) => {
                known.check(scanner, scanner.next_sequence() - 1)?;
                (told.tell)(told.done + scanner.offset(), told.total);
            }
            end => return Ok(end),
        }
    }
}

/// Leaves the scanner at the end of the last record to keep; returns what stands there.
fn find_end(
    scanner: &mut Scanner,
    known: Known,
    told: &mut Told<'_, '_>,
) -> Result<Step, LogError> {
    let (step, seen) = (walk(scanner, known, told)?, known.seen());
    let (path, offset) = (scanner.path().to_path_buf(), scanner.offset());
    let bad = scanner.next_sequence();
    if let Step::Bad(why) = &step {
        if seen >= bad {
            let why = format!("{why}; record {bad} has been seen and may not be cut");
            return Err(LogError::damaged(&path, offset, why));
        }
        if let Some(later) = scanner.later_record()? {
            let why = format!("{why}; a valid record follows at offset {later}");
            return Err(LogError::damaged(&path, offset, why));
        }
    } else if seen >= bad {
        let why = format!("the log ends before record {bad}, but record {seen} has been seen");
        return Err(LogError::damaged(&path, offset, why));
    }
    Ok(step)
}

fn rewrite(disk: &dyn Disk, scanner: &Scanner, segment_bytes: u64) -> Result<Tail, LogError> {
    let path = scanner.path();
    let old = Stream::open(disk, path).map_err(|e| LogError::io("open", path, e))?;
    let file_bytes = scanner.file_bytes().max(segment_bytes);
    let file = create_durable(disk, path, &mut old.take(scanner.offset()), file_bytes)?;
    Ok(Tail {
        file,
        path: path.to_path_buf(),
        segment: scanner.first_sequence(),
        salt: scanner.salt(),
        offset: scanner.offset(),
        file_bytes,
        next_sequence: scanner.next_sequence(),
        chain: *scanner.chain(),
    })
}
