//! What opening does: believe only what the chain proves, and cut nothing that anybody has seen.
//!
//! 1. Every segment's header and records are checked: checksum, sequence, chain, and the link to the next segment.
//! 2. A bad record before the last segment, or with a valid record behind it, or that `seen` covers, is damage.
//! 3. A log that ends before `seen` is damage.
//! 4. The valid part of the last segment is copied to a fresh file, synced with its directory: after a kill the page
//!    cache may show bytes that the disk lacks.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::disk::{create_durable, random_salt, remove_unfinished};
use crate::error::LogError;
use crate::format::{SEGMENT_HEADER_BYTES, SegmentHeader, parse_segment_name, segment_name};
use crate::scan::{Scanner, Step};
use crate::{CHAIN_START, ChainValue};

/// Where the next record goes.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) path: PathBuf,
    pub(crate) segment: u64,
    pub(crate) salt: u32,
    pub(crate) offset: u64,
    pub(crate) file_bytes: u64,
    pub(crate) next_sequence: u64,
    pub(crate) chain: ChainValue,
}

/// The first sequences of all segments, ascending.
pub(crate) fn list_segments(directory: &Path) -> Result<Vec<u64>, LogError> {
    let failed = |e| LogError::io("list", directory, e);
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        found.extend(name.to_str().and_then(parse_segment_name));
    }
    found.sort_unstable();
    Ok(found)
}

/// Checks the whole log and prepares its end for appending.
pub(crate) fn recover(directory: &Path, seen: u64, segment_bytes: u64) -> Result<Tail, LogError> {
    remove_unfinished(directory)?;
    let segments = list_segments(directory)?;
    let Some((last, sealed)) = segments.split_last() else {
        if seen > 0 {
            let path = directory.join(segment_name(1));
            let why = format!("the log is empty, but record {seen} has been seen");
            return Err(LogError::damaged(&path, 0, why));
        }
        return create_segment(directory, 1, CHAIN_START, segment_bytes);
    };
    let mut expected = (1, CHAIN_START);
    for first in sealed {
        expected = check_sealed(directory, *first, expected)?;
    }
    let mut scanner = open_linked(directory, *last, expected)?;
    find_end(&mut scanner, seen)?;
    rewrite(&scanner, segment_bytes)
}

/// A new, durable, empty segment.
pub(crate) fn create_segment(
    directory: &Path,
    first_sequence: u64,
    chain_before: ChainValue,
    bytes: u64,
) -> Result<Tail, LogError> {
    let path = directory.join(segment_name(first_sequence));
    let header = SegmentHeader {
        salt: random_salt(&path)?,
        first_sequence,
        chain_before,
    };
    create_durable(&path, &mut header.encode().as_slice(), bytes)?;
    Ok(Tail {
        path,
        segment: first_sequence,
        salt: header.salt,
        offset: SEGMENT_HEADER_BYTES as u64,
        file_bytes: bytes,
        next_sequence: first_sequence,
        chain: chain_before,
    })
}

fn open_linked(
    directory: &Path,
    first: u64,
    expected: (u64, ChainValue),
) -> Result<Scanner, LogError> {
    let path = directory.join(segment_name(first));
    let scanner = Scanner::open(&path)?;
    if first != expected.0 || scanner.first_sequence() != first {
        let why = format!("record {} should follow here", expected.0);
        return Err(LogError::damaged(&path, 0, why));
    }
    if *scanner.chain() != expected.1 {
        return Err(LogError::damaged(
            &path,
            0,
            "the segment is not chained to the one before it",
        ));
    }
    Ok(scanner)
}

fn check_sealed(
    directory: &Path,
    first: u64,
    expected: (u64, ChainValue),
) -> Result<(u64, ChainValue), LogError> {
    let mut scanner = open_linked(directory, first, expected)?;
    loop {
        match scanner.next()? {
            Step::Record(_) => {}
            Step::End => return Ok((scanner.next_sequence(), *scanner.chain())),
            Step::Bad(why) => return Err(LogError::damaged(scanner.path(), scanner.offset(), why)),
        }
    }
}

/// Leaves the scanner at the end of the last record to keep.
fn find_end(scanner: &mut Scanner, seen: u64) -> Result<(), LogError> {
    let step = loop {
        match scanner.next()? {
            Step::Record(_) => {}
            end => break end,
        }
    };
    let (path, offset) = (scanner.path().to_path_buf(), scanner.offset());
    let bad = scanner.next_sequence();
    if let Step::Bad(why) = step {
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
    Ok(())
}

fn rewrite(scanner: &Scanner, segment_bytes: u64) -> Result<Tail, LogError> {
    let path = scanner.path();
    let old = File::open(path).map_err(|e| LogError::io("open", path, e))?;
    let file_bytes = scanner.file_bytes().max(segment_bytes);
    create_durable(path, &mut old.take(scanner.offset()), file_bytes)?;
    Ok(Tail {
        path: path.to_path_buf(),
        segment: scanner.first_sequence(),
        salt: scanner.salt(),
        offset: scanner.offset(),
        file_bytes,
        next_sequence: scanner.next_sequence(),
        chain: *scanner.chain(),
    })
}
