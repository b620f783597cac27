//! Reading records while the log grows.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::disk::{DiskFile, SharedDisk};
use crate::error::LogError;
use crate::format::{
    RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, SegmentHeader, record_bytes,
    segment_name,
};
use crate::lock::DirectoryLock;
use crate::recover::list_segments;
use crate::scan::{Scanner, Step};
use crate::{ChainValue, Position};

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number, from 1.
    pub sequence: u64,
    /// Where it starts.
    pub position: Position,
    /// Its link of the hash chain.
    pub chain_value: ChainValue,
    /// What was appended.
    pub payload: Vec<u8>,
}

/// A segment file that stays open.
#[derive(Debug)]
struct Segment {
    first_sequence: u64,
    salt: u32,
    file: Box<dyn DiskFile>,
}

/// Reads durable records by position; clones share one open file. Never blocks an append.
#[derive(Clone, Debug)]
pub struct LogReader {
    disk: SharedDisk,
    directory: PathBuf,
    last_segment: Arc<Mutex<Option<Arc<Segment>>>>,
}

impl LogReader {
    pub(crate) fn new(disk: SharedDisk, directory: &Path) -> Self {
        Self {
            disk,
            directory: directory.to_path_buf(),
            last_segment: Arc::new(Mutex::new(None)),
        }
    }

    /// Reads the log of a directory that is locked.
    pub fn of(lock: &DirectoryLock) -> Self {
        Self::new(lock.shared_disk(), lock.directory())
    }

    /// The record that starts at `position`. Raises `Damaged` when no valid one does, `Trimmed` when its segment is
    /// gone.
    pub fn read(&self, position: Position) -> Result<Record, LogError> {
        let path = self.directory.join(segment_name(position.segment));
        let segment = self.segment(position.segment, &path)?;
        let file = &segment.file;
        let io = |e| LogError::io("read", &path, e);
        let damaged = |why| LogError::damaged(&path, position.offset, why);
        let left = file.len().map_err(io)?.saturating_sub(position.offset);
        let mut head = [0; RECORD_HEADER_BYTES];
        if left < head.len() as u64 {
            return Err(damaged("a position outside the file"));
        }
        file.read_exact_at(&mut head, position.offset).map_err(io)?;
        let header = RecordHeader::decode(&head);
        let length = header.length as usize;
        if record_bytes(length).is_none_or(|total| total as u64 > left) {
            return Err(damaged("a record that is longer than its file"));
        }
        let mut payload = vec![0; length];
        let start = position.offset + RECORD_HEADER_BYTES as u64;
        file.read_exact_at(&mut payload, start).map_err(io)?;
        if !header.matches(segment.salt, &payload) {
            return Err(damaged("the checksum of the record does not match"));
        }
        Ok(Record {
            sequence: header.sequence,
            position,
            chain_value: header.chain_value,
            payload,
        })
    }

    /// Every record from the sequence `from` on, checked against checksum and chain from its segment's start.
    ///
    /// Raises `Trimmed` when that record is gone, now or while the segments before it are read.
    pub fn iterate(&self, from: u64) -> Result<Records, LogError> {
        let mut segments = list_segments(self.disk.as_ref(), &self.directory)?;
        let containing = segments.iter().rposition(|first| *first <= from.max(1));
        if containing.is_none() && !segments.is_empty() {
            return Err(self.trimmed(from));
        }
        let later = segments.split_off(containing.unwrap_or(0));
        Ok(Records {
            disk: SharedDisk::clone(&self.disk),
            directory: self.directory.clone(),
            segments: later.into_iter(),
            scanner: None,
            link: None,
            from,
            last: u64::MAX,
        })
    }

    fn trimmed(&self, sequence: u64) -> LogError {
        LogError::Trimmed {
            directory: self.directory.clone(),
            sequence,
        }
    }

    fn segment(&self, first_sequence: u64, path: &Path) -> Result<Arc<Segment>, LogError> {
        let mut last = self
            .last_segment
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match last.as_ref() {
            Some(open) if open.first_sequence == first_sequence => Ok(Arc::clone(open)),
            _ => {
                let file = self.disk.open(path).map_err(|e| match e.kind() {
                    ErrorKind::NotFound => self.trimmed(first_sequence),
                    _ => LogError::io("open", path, e),
                })?;
                let mut head = [0; SEGMENT_HEADER_BYTES];
                file.read_exact_at(&mut head, 0)
                    .map_err(|e| LogError::io("read", path, e))?;
                let header =
                    SegmentHeader::decode(&head).map_err(|why| LogError::damaged(path, 0, why))?;
                let open = Arc::new(Segment {
                    first_sequence,
                    salt: header.salt,
                    file,
                });
                *last = Some(Arc::clone(&open));
                Ok(open)
            }
        }
    }
}

/// Records in order, to the end of the log.
#[derive(Debug)]
pub struct Records {
    disk: SharedDisk,
    directory: PathBuf,
    segments: std::vec::IntoIter<u64>,
    scanner: Option<Scanner>,
    /// Where the segment before ended.
    link: Option<(u64, ChainValue)>,
    from: u64,
    last: u64,
}

impl Records {
    /// Stops after the sequence `last`: needed beside a running writer, whose next record may be half there.
    pub fn up_to(mut self, last: u64) -> Self {
        self.last = last;
        self
    }

    fn open(&self, first: u64) -> Result<Scanner, LogError> {
        let path = self.directory.join(segment_name(first));
        let scanner = Scanner::open(self.disk.as_ref(), &path).map_err(|e| match e {
            LogError::Io { source, .. } if source.kind() == ErrorKind::NotFound => {
                LogError::Trimmed {
                    directory: self.directory.clone(),
                    sequence: first,
                }
            }
            e => e,
        })?;
        let here = (scanner.first_sequence(), *scanner.chain());
        if self.link.is_some_and(|link| link != here) {
            let why = "the segment is not chained to the one before it";
            return Err(LogError::damaged(&path, 0, why));
        }
        Ok(scanner)
    }

    fn advance(&mut self) -> Result<Option<Record>, LogError> {
        loop {
            let Some(scanner) = self.scanner.as_mut() else {
                let Some(first) = self.segments.next() else {
                    return Ok(None);
                };
                self.scanner = Some(self.open(first)?);
                continue;
            };
            if scanner.next_sequence() > self.last {
                return Ok(None);
            }
            match scanner.next()? {
                Step::Record(position) => {
                    let sequence = scanner.next_sequence() - 1;
                    if sequence >= self.from {
                        return Ok(Some(Record {
                            sequence,
                            position,
                            chain_value: *scanner.chain(),
                            payload: scanner.payload().to_vec(),
                        }));
                    }
                }
                Step::End => {
                    self.link = Some((scanner.next_sequence(), *scanner.chain()));
                    self.scanner = None;
                }
                Step::Bad(why) => {
                    return Err(LogError::damaged(scanner.path(), scanner.offset(), why));
                }
            }
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
