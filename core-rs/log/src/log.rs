//! The writer.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::disk::{DirectoryLock, sync_data};
use crate::error::LogError;
use crate::failpoint::{self, Failpoint};
use crate::format::{SEGMENT_HEADER_BYTES, chain_value, encode_record, record_bytes};
use crate::read::LogReader;
use crate::recover::{Tail, create_segment, recover};
use crate::{ChainValue, Position};

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
    tail: Tail,
    file: File,
    buffer: Vec<u8>,
    write_failed: bool,
}

impl Log {
    /// Checks the whole log and makes it ready for appending (see `recover`).
    ///
    /// `seen` is the highest sequence that anybody has acted on: a bad last record is cut only above it. Raises
    /// `Damaged` with file and offset, `Locked`, `Io`.
    pub fn open(lock: DirectoryLock, seen: u64, segment_bytes: u64) -> Result<Self, LogError> {
        let segment_bytes = segment_bytes.max(SEGMENT_HEADER_BYTES as u64);
        let tail = recover(lock.directory(), seen, segment_bytes)?;
        let file = open_for_writing(&tail.path)?;
        Ok(Self {
            lock,
            segment_bytes,
            tail,
            file,
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
        LogReader::new(self.lock.directory())
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
        if self.tail.offset == SEGMENT_HEADER_BYTES as u64 {
            // The open segment holds nothing yet, so the larger one takes its place and its name.
            self.tail = create_segment(
                self.lock.directory(),
                self.tail.segment,
                self.tail.chain,
                size,
            )?;
        } else {
            self.tail = create_segment(
                self.lock.directory(),
                self.tail.next_sequence,
                self.tail.chain,
                size,
            )?;
        }
        self.file = open_for_writing(&self.tail.path)?;
        Ok(())
    }

    fn write_and_sync(&mut self) -> Result<Duration, LogError> {
        failpoint::pass(Failpoint::LogBeforeWrite);
        if failpoint::hit(Failpoint::LogHalfRecord) {
            let half = self.buffer.get(..self.buffer.len() / 2).unwrap_or_default();
            let _ = self.file.write_all_at(half, self.tail.offset);
            failpoint::kill();
        }
        if let Err(e) = self.file.write_all_at(&self.buffer, self.tail.offset) {
            self.write_failed = true;
            return Err(LogError::io("write", &self.tail.path, e));
        }
        failpoint::pass(Failpoint::LogAfterWrite);
        let start = Instant::now();
        sync_data(&self.file, &self.tail.path);
        let sync_time = start.elapsed();
        failpoint::pass(Failpoint::LogAfterSync);
        Ok(sync_time)
    }
}

fn open_for_writing(path: &Path) -> Result<File, LogError> {
    OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(|e| LogError::io("open", path, e))
}
