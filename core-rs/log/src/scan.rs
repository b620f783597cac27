//! Reading one segment from its start, record by record, believing nothing.

use std::io::{self, BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskFile};
use crate::error::LogError;
use crate::format::{
    ALIGNMENT, RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, SegmentHeader, chain_value,
    record_bytes,
};
use crate::later::find_record;
use crate::{ChainValue, Position};

const BUFFER_BYTES: usize = 1 << 18;

/// What stands at the scanner's offset.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A valid record with the next sequence, chained to the one before; its payload is in `Scanner::payload`.
    Record(Position),
    /// Only zeros from here to the end of the file.
    End,
    /// Something else; the clause says what.
    Bad(&'static str),
}

/// Walks the records of a segment. After anything but `Record` it stays where it is.
#[derive(Debug)]
pub(crate) struct Scanner<F = Stream> {
    path: PathBuf,
    file: BufReader<F>,
    file_bytes: u64,
    first_sequence: u64,
    salt: u32,
    offset: u64,
    next_sequence: u64,
    chain: ChainValue,
    payload: Vec<u8>,
}

/// A file read from its start on.
#[derive(Debug)]
pub(crate) struct Stream {
    file: Box<dyn DiskFile>,
    offset: u64,
}

impl Stream {
    pub(crate) fn open(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let file = disk.open(path)?;
        Ok(Self { file, offset: 0 })
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

impl Seek for Stream {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let offset = match to {
            SeekFrom::Start(offset) => Some(offset),
            SeekFrom::Current(by) => self.offset.checked_add_signed(by),
            SeekFrom::End(by) => self.file.len()?.checked_add_signed(by),
        };
        self.offset = offset.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.offset)
    }
}

impl Scanner {
    /// Opens a segment and checks its header. Raises `Damaged` for a bad one.
    pub(crate) fn open(disk: &dyn Disk, path: &Path) -> Result<Self, LogError> {
        let stream = Stream::open(disk, path).map_err(|e| LogError::io("open", path, e))?;
        let file_bytes = stream.file.len();
        let file_bytes = file_bytes.map_err(|e| LogError::io("read", path, e))?;
        Self::new(path, stream, file_bytes)
    }
}

impl<F: Read + Seek> Scanner<F> {
    fn new(path: &Path, file: F, file_bytes: u64) -> Result<Self, LogError> {
        let mut file = BufReader::with_capacity(BUFFER_BYTES, file);
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        if file_bytes < bytes.len() as u64 {
            return Err(LogError::damaged(
                path,
                0,
                "the file is shorter than a header",
            ));
        }
        let read = file.read_exact(&mut bytes);
        read.map_err(|e| LogError::io("read", path, e))?;
        let header =
            SegmentHeader::decode(&bytes).map_err(|why| LogError::damaged(path, 0, why))?;
        Ok(Self {
            path: path.to_path_buf(),
            file,
            file_bytes,
            first_sequence: header.first_sequence,
            salt: header.salt,
            offset: SEGMENT_HEADER_BYTES as u64,
            next_sequence: header.first_sequence,
            chain: header.chain_before,
            payload: Vec::new(),
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    pub(crate) fn first_sequence(&self) -> u64 {
        self.first_sequence
    }

    pub(crate) fn salt(&self) -> u32 {
        self.salt
    }

    /// Offset of what `next` looks at.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The sequence that the next record must have.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// The chain value after the last record that was read.
    pub(crate) fn chain(&self) -> &ChainValue {
        &self.chain
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Reads on. Raises only what the operating system raises.
    pub(crate) fn next(&mut self) -> Result<Step, LogError> {
        let offset = self.offset;
        let step = self.read_record();
        let step = step.map_err(|e| LogError::io("read", &self.path, e))?;
        if !matches!(step, Step::Record(_)) {
            self.offset = offset;
            self.seek(offset)?;
        }
        Ok(step)
    }

    fn read_record(&mut self) -> io::Result<Step> {
        let start = self.offset;
        let left = self.file_bytes.saturating_sub(start);
        if left < RECORD_HEADER_BYTES as u64 {
            return self.end_or("bytes too few for a record");
        }
        let mut head = [0; RECORD_HEADER_BYTES];
        self.file.read_exact(&mut head)?;
        if head == [0; RECORD_HEADER_BYTES] {
            return self.end_or("bytes after the last record");
        }
        let header = RecordHeader::decode(&head);
        let length = header.length as usize;
        let total = match record_bytes(length) {
            Some(total) if total as u64 <= left => total,
            _ => return Ok(Step::Bad("a record that is longer than its file")),
        };
        self.payload.resize(total - RECORD_HEADER_BYTES, 0);
        self.file.read_exact(&mut self.payload)?;
        let padding = self.payload.split_off(length);
        if !header.matches(self.salt, &self.payload) || padding.iter().any(|byte| *byte != 0) {
            return Ok(Step::Bad("the checksum of the record does not match"));
        }
        if header.sequence != self.next_sequence {
            return Ok(Step::Bad("the record has another sequence than its place"));
        }
        if header.chain_value != chain_value(&self.chain, header.sequence, &self.payload) {
            return Ok(Step::Bad("the record is not chained to the one before it"));
        }
        self.offset += total as u64;
        self.next_sequence += 1;
        self.chain = header.chain_value;
        Ok(Step::Record(Position {
            segment: self.first_sequence,
            offset: start,
        }))
    }

    fn end_or(&mut self, why: &'static str) -> io::Result<Step> {
        let mut chunk = vec![0; BUFFER_BYTES];
        loop {
            match self.file.read(&mut chunk)? {
                0 => return Ok(Step::End),
                n if chunk.iter().take(n).any(|byte| *byte != 0) => return Ok(Step::Bad(why)),
                _ => {}
            }
        }
    }

    /// Whether any valid record with a later sequence than the bad one at `offset` stands behind it.
    ///
    /// A later record proves that the bad one was once synced, so that it may not be cut.
    pub(crate) fn later_record(&mut self) -> Result<Option<u64>, LogError> {
        let start = self.offset + ALIGNMENT as u64;
        self.seek(start)?;
        let mut rest = Vec::new();
        let read = self.file.read_to_end(&mut rest);
        read.map_err(|e| LogError::io("read", &self.path, e))?;
        let expected = self.next_sequence;
        let found = find_record(&rest, self.salt, expected).map(|at| start + at as u64);
        self.seek(self.offset)?;
        Ok(found)
    }

    fn seek(&mut self, offset: u64) -> Result<(), LogError> {
        let sought = self.file.seek(SeekFrom::Start(offset));
        sought
            .map(|_| ())
            .map_err(|e| LogError::io("read", &self.path, e))
    }
}

/// The payloads in a segment's bytes, for auditors and fuzzers: the checks are those of opening a log, without a file.
///
/// Raises `Damaged`, naming no file, for a bad header and for anything but zeros after the last valid record.
pub fn read_segment(bytes: &[u8]) -> Result<Vec<Vec<u8>>, LogError> {
    let path = Path::new("");
    let mut scanner = Scanner::new(path, Cursor::new(bytes), bytes.len() as u64)?;
    let mut payloads = Vec::new();
    loop {
        match scanner.next()? {
            Step::Record(_) => payloads.push(scanner.payload().to_vec()),
            Step::End => return Ok(payloads),
            Step::Bad(why) => {
                scanner.later_record()?;
                return Err(LogError::damaged(path, scanner.offset(), why));
            }
        }
    }
}
