//! The writer.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::LogError;
use crate::failpoint::{self, Failpoint};
use crate::files::remove_durably;
use crate::format::{SEGMENT_HEADER_BYTES, chain_value, encode_record, record_bytes, segment_name};
use crate::lock::DirectoryLock;
use crate::read::LogReader;
use crate::recover::{Known, Tail, Tell, create_segment, list_segments, recover};
use crate::{Base, ChainValue, Position};

/// What an append made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The record's number, from 1.
    pub sequence: u64,
    /// Where it starts.
    pub position: Position,
    /// Its link of the hash chain.
    pub chain_value: ChainValue,
    /// How long the sync took.
    pub sync_time: Duration,
}

/// The only writer of a log directory.
#[derive(Debug)]
pub struct Log {
    lock: DirectoryLock,
    segment_bytes: u64,
    first_sequence: u64,
    tail: Tail,
    buffer: Vec<u8>,
    write_failed: bool,
}

impl Log {
    /// Checks the whole log and makes it ready for appending (see `recover`).
    ///
    /// `base` is what the newest snapshot stands for: records up to it may be gone, and it must be a record of this
    /// log. `seen` is the highest sequence that anybody has acted on: a bad last record is cut only above both. Raises
    /// `Damaged` with file and offset, `Io`.
    pub fn open(
        lock: DirectoryLock,
        base: Base,
        seen: u64,
        segment_bytes: u64,
    ) -> Result<Self, LogError> {
        Self::open_telling(lock, base, seen, segment_bytes, &mut |_, _| {})
    }

    /// The same, telling how far the check is.
    pub fn open_telling(
        lock: DirectoryLock,
        base: Base,
        seen: u64,
        segment_bytes: u64,
        tell: &mut Tell<'_>,
    ) -> Result<Self, LogError> {
        let segment_bytes = segment_bytes.max(SEGMENT_HEADER_BYTES as u64);
        let tail = recover(
            lock.disk(),
            lock.directory(),
            Known { base, seen },
            segment_bytes,
            tell,
        )?;
        let first_sequence = list_segments(lock.disk(), lock.directory())?
            .first()
            .copied();
        Ok(Self {
            lock,
            segment_bytes,
            first_sequence: first_sequence.unwrap_or(tail.segment),
            tail,
            buffer: Vec::new(),
            write_failed: false,
        })
    }

    /// Appends one record; it is durable when this returns. One write and one `fdatasync`.
    ///
    /// Raises `TooLarge`, `DiskFull` or `Io` with nothing appended. After a write that failed half-way every append
    /// raises `WriteFailedEarlier`. A failed sync aborts the process.
    pub fn append(&mut self, payload: &[u8]) -> Result<Appended, LogError> {
        if self.write_failed {
            return Err(LogError::WriteFailedEarlier {
                path: self.tail.path.clone(),
            });
        }
        let too_large = LogError::TooLarge {
            bytes: payload.len(),
        };
        let Some(bytes) = record_bytes(payload.len()) else {
            return Err(too_large);
        };
        self.make_room(bytes as u64)?;
        let sequence = self.tail.next_sequence;
        let chain = chain_value(&self.tail.chain, sequence, payload);
        if encode_record(&mut self.buffer, self.tail.salt, sequence, &chain, payload).is_none() {
            return Err(too_large);
        }
        let sync_time = self.write_and_sync()?;
        let position = Position {
            segment: self.tail.segment,
            offset: self.tail.offset,
        };
        self.tail.offset += bytes as u64;
        self.tail.next_sequence += 1;
        self.tail.chain = chain;
        Ok(Appended {
            sequence,
            position,
            chain_value: chain,
            sync_time,
        })
    }

    /// Bytes of disk that an append of such a payload takes anew: those of the next segment when this one has no room.
    pub fn growth(&self, payload: usize) -> u64 {
        let bytes = record_bytes(payload).map_or(u64::MAX, |bytes| bytes as u64);
        if self.tail.offset.saturating_add(bytes) <= self.tail.file_bytes {
            return 0;
        }
        let needed = bytes.saturating_add(SEGMENT_HEADER_BYTES as u64);
        self.segment_bytes.max(needed)
    }

    /// Removes every sealed segment whose records all are at or below `up_to`; returns `first_sequence` after it.
    ///
    /// The oldest goes first, and durably, so that a crash at any moment leaves a log without gaps. Whoever calls has
    /// a durable snapshot of the record `up_to` or a later one. Raises `Io` with the rest kept.
    pub fn trim(&mut self, up_to: u64) -> Result<u64, LogError> {
        let (disk, directory) = (self.lock.disk(), self.lock.directory());
        let segments = list_segments(disk, directory)?;
        for (first, next) in segments.iter().zip(segments.iter().skip(1)) {
            // The last record of a segment is the one before the next segment's first.
            if next.saturating_sub(1) > up_to {
                break;
            }
            failpoint::pass(Failpoint::LogBeforeTrim);
            remove_durably(disk, &directory.join(segment_name(*first)))?;
            self.first_sequence = *next;
            failpoint::pass(Failpoint::LogSegmentRemoved);
        }
        Ok(self.first_sequence)
    }

    /// The first sequence whose record is here, or goes here when there is none yet.
    pub fn first_sequence(&self) -> u64 {
        self.first_sequence
    }

    /// Sequence of the last record, 0 before the first.
    pub fn last_sequence(&self) -> u64 {
        self.tail.next_sequence.saturating_sub(1)
    }

    /// Chain value of the last record.
    pub fn chain_value(&self) -> ChainValue {
        self.tail.chain
    }

    /// Reads beside the writer.
    pub fn reader(&self) -> LogReader {
        LogReader::new(self.lock.shared_disk(), self.lock.directory())
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        self.lock.directory()
    }

    fn make_room(&mut self, bytes: u64) -> Result<(), LogError> {
        if self.tail.offset + bytes <= self.tail.file_bytes {
            return Ok(());
        }
        let size = self.segment_bytes.max(SEGMENT_HEADER_BYTES as u64 + bytes);
        failpoint::pass(Failpoint::LogBeforeRoll);
        // An open segment that holds nothing yet leaves its place and its name to the larger one.
        let (disk, directory) = (self.lock.disk(), self.lock.directory());
        let (first, chain) = (self.tail.next_sequence, self.tail.chain);
        self.tail = create_segment(disk, directory, first, chain, size)?;
        failpoint::pass(Failpoint::LogAfterRoll);
        Ok(())
    }

    fn write_and_sync(&mut self) -> Result<Duration, LogError> {
        failpoint::pass(Failpoint::LogBeforeWrite);
        if failpoint::hit(Failpoint::LogHalfRecord) {
            let half = self.buffer.get(..self.buffer.len() / 2).unwrap_or_default();
            let _ = self.tail.file.write_all_at(half, self.tail.offset);
            failpoint::kill();
        }
        if let Err(e) = self.tail.file.write_all_at(&self.buffer, self.tail.offset) {
            self.write_failed = true;
            return Err(LogError::io("write", &self.tail.path, e));
        }
        failpoint::pass(Failpoint::LogAfterWrite);
        let start = Instant::now();
        let synced = self.tail.file.sync_data();
        synced.unwrap_or_else(|e| self.lock.disk().unsynced(&self.tail.path, &e));
        let sync_time = start.elapsed();
        failpoint::pass(Failpoint::LogAfterSync);
        Ok(sync_time)
    }
}
