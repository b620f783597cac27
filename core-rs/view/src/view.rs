//! LMDB with tables: the key in the file is table ‖ key, so that one tree holds all tables.

use std::fs::File;
use std::io::ErrorKind;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use heed::types::Bytes;
use heed::{CommitOrAbort, CompactionOption, Database, Env, MdbError, RoTxn, RwTxn, WithoutTls};
use p2pet_log::disk::Disk;
use p2pet_log::files::remove_if_there;
use p2pet_log::{CHAIN_START, ChainValue, LogError};

use crate::error::StoreError;
use crate::mark::Place;
use crate::open_env::{open_env, open_file};

const DATA: &str = "data";
const HEAD: &[u8] = b"head";
const DATA_FILE: &str = "data.mdb";
const FILES: [&str; 3] = [DATA_FILE, "lock.mdb", "data.mdb.tmp"];
const PAGE_BYTES: u64 = 4096;

type Table = Database<'static, Bytes, Bytes>;
/// A key without its table, and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// A key with its table in front, and its value; the bytes are the map's own.
pub(crate) type Row<'t> = (&'t [u8], &'t [u8]);

/// Part of a table: start ≤ key < end.
#[derive(Clone, Copy, Debug)]
pub struct Range<'a> {
    /// The table.
    pub table: u8,
    /// The smallest key.
    pub start: &'a [u8],
    /// The first key that is not part of it; None for the table's end.
    pub end: Option<&'a [u8]>,
}

/// A record of the log, named by its number and link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// 0 before the first record.
    pub sequence: u64,
    /// The chain value of that record.
    pub chain_value: ChainValue,
}

impl Head {
    pub(crate) const START: Self = Self {
        sequence: 0,
        chain_value: CHAIN_START,
    };

    fn encode(&self) -> [u8; 40] {
        let mut bytes = [0; 40];
        let (sequence, chain) = bytes.split_at_mut(8);
        sequence.copy_from_slice(&self.sequence.to_be_bytes());
        chain.copy_from_slice(&self.chain_value);
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (sequence, chain) = bytes.split_first_chunk()?;
        Some(Self {
            sequence: u64::from_be_bytes(*sequence),
            chain_value: chain.try_into().ok()?,
        })
    }
}

pub(crate) struct View {
    directory: PathBuf,
    env: Env<WithoutTls>,
    /// LMDB keeps the root of `data` here anyway, so that the head beside it costs no further page.
    heads: Table,
    data: Table,
}

impl View {
    /// Opens the view, an empty one where there is none. Raises `View`, also for one that LMDB finds broken.
    pub(crate) fn open(directory: &Path, map_bytes: u64) -> Result<Self, StoreError> {
        let view = Self::try_open(directory, map_bytes)?;
        view.snapshot()?.head()?;
        Ok(view)
    }

    /// Opens the pages of a view for reading alone, and changes nothing beside them.
    pub(crate) fn open_file(path: &Path) -> Result<Self, StoreError> {
        let failed = |e| StoreError::view("open", path, e);
        let env = open_file(path).map_err(failed)?;
        let txn = env.read_txn().map_err(failed)?;
        let opened = env.open_databases_and_commit(txn, |opener, txn| {
            let heads = opener.open_database::<Bytes, Bytes>(txn, None)?;
            let data = opener.open_database::<Bytes, Bytes>(txn, Some(DATA))?;
            Ok::<_, heed::Error>(match (heads, data) {
                (Some(heads), Some(data)) => CommitOrAbort::Commit((heads, data)),
                _ => CommitOrAbort::Abort(()),
            })
        });
        match opened.map_err(failed)?.commit() {
            Some((heads, data)) => Ok(Self {
                directory: path.to_path_buf(),
                env,
                heads,
                data,
            }),
            None => Err(failed(heed::Error::Mdb(MdbError::Invalid))),
        }
    }

    /// Writes the pages of one moment, without those that are free, to a file or a pipe.
    pub(crate) fn copy_to(&self, file: &mut File) -> Result<(), StoreError> {
        let copied = self.env.copy_to_file(file, CompactionOption::Enabled);
        copied.map_err(|e| self.failed("copy", e))
    }

    /// The file of the pages of a view.
    pub(crate) fn data_file(directory: &Path) -> PathBuf {
        directory.join(DATA_FILE)
    }

    /// Where the view in this directory is, and which files it consists of.
    pub(crate) fn place(disk: &dyn Disk, directory: &Path) -> Result<Place, LogError> {
        Place::here(disk, directory, &directory.join(DATA_FILE))
    }

    fn try_open(directory: &Path, map_bytes: u64) -> Result<Self, StoreError> {
        let failed = |e| StoreError::view("open", directory, e);
        let env = open_env(directory, map_bytes).map_err(failed)?;
        env.clear_stale_readers().map_err(failed)?;
        let txn = env.write_txn().map_err(failed)?;
        let opened = env.create_databases_and_commit(txn, |opener, txn| {
            let heads = opener.create_database::<Bytes, Bytes>(txn, None)?;
            let data = opener.create_database::<Bytes, Bytes>(txn, Some(DATA))?;
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit((heads, data)))
        });
        match opened.map_err(failed)?.commit() {
            Some((heads, data)) => Ok(Self {
                directory: directory.to_path_buf(),
                env,
                heads,
                data,
            }),
            None => Err(failed(heed::Error::Mdb(MdbError::BadTxn))),
        }
    }

    /// Whether LMDB ever wrote here.
    pub(crate) fn exists(disk: &dyn Disk, directory: &Path) -> Result<bool, LogError> {
        let names = disk.list(directory);
        let names = names.map_err(|e| LogError::io("list", directory, e))?;
        Ok(names.iter().any(|name| FILES.contains(&name.as_str())))
    }

    /// Removes the files of a view that is not open.
    pub(crate) fn delete(disk: &dyn Disk, directory: &Path) -> Result<(), LogError> {
        let mut paths = FILES.iter().map(|name| directory.join(name));
        paths.try_for_each(|path| remove_if_there(disk, &path))
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Bytes of the pages, freed ones among them.
    pub(crate) fn used_bytes(&self) -> u64 {
        (self.env.info().last_page_number as u64 + 1) * PAGE_BYTES
    }

    /// Bytes of the map that no page has used yet; freed pages inside come on top.
    pub(crate) fn map_bytes_left(&self) -> u64 {
        let info = self.env.info();
        (info.map_size as u64).saturating_sub(info.last_page_number as u64 * PAGE_BYTES)
    }

    pub(crate) fn map_bytes(&self) -> u64 {
        self.env.info().map_size as u64
    }

    /// The view as it is now; a commit that runs meanwhile is not seen and not held up.
    pub(crate) fn snapshot(&self) -> Result<Snapshot<'_>, StoreError> {
        let txn = self.env.read_txn();
        Ok(Snapshot {
            view: self,
            txn: txn.map_err(|e| StoreError::view("read", &self.directory, e))?,
        })
    }

    /// The only writer; nothing is kept unless it is committed.
    pub(crate) fn writer(&self) -> Result<Writer<'_>, StoreError> {
        let txn = self.env.write_txn();
        Ok(Writer {
            view: self,
            txn: txn.map_err(|e| self.failed("write", e))?,
            key: Vec::new(),
        })
    }

    pub(crate) fn closed(&self) -> StoreError {
        StoreError::Closed {
            directory: self.directory.clone(),
        }
    }

    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.env.force_sync().map_err(|e| self.failed("sync", e))
    }

    fn failed(&self, action: &'static str, source: heed::Error) -> StoreError {
        match source {
            heed::Error::Mdb(MdbError::MapFull) => StoreError::MapFull {
                directory: self.directory.clone(),
                map_bytes: self.map_bytes(),
            },
            heed::Error::Io(error) if error.kind() == ErrorKind::StorageFull => {
                LogError::DiskFull {
                    path: self.directory.clone(),
                }
                .into()
            }
            source => StoreError::view(action, &self.directory, source),
        }
    }
}

/// What the view held when the snapshot was taken.
pub struct Snapshot<'v> {
    view: &'v View,
    txn: RoTxn<'v, WithoutTls>,
}

impl Snapshot<'_> {
    /// The last record that is applied.
    pub fn head(&self) -> Result<Head, StoreError> {
        let bytes = self
            .view
            .heads
            .get(&self.txn, HEAD)
            .map_err(|e| self.view.failed("read", e))?;
        Ok(bytes.and_then(Head::decode).unwrap_or(Head::START))
    }

    /// The value of a key; the bytes are the map's own.
    pub fn get(&self, table: u8, key: &[u8]) -> Result<Option<&[u8]>, StoreError> {
        let mut full = Vec::with_capacity(key.len() + 1);
        full.push(table);
        full.extend_from_slice(key);
        self.view
            .data
            .get(&self.txn, &full)
            .map_err(|e| self.view.failed("read", e))
    }

    /// How many rows LMDB says that there are, in all tables.
    pub(crate) fn rows(&self) -> Result<u64, StoreError> {
        let rows = self.view.data.len(&self.txn);
        rows.map_err(|e| self.view.failed("read", e))
    }

    /// All rows, their keys with the table in front.
    pub(crate) fn walk(
        &self,
    ) -> Result<impl Iterator<Item = Result<Row<'_>, StoreError>>, StoreError> {
        let failed = |e| self.view.failed("read", e);
        let rows = self.view.data.iter(&self.txn).map_err(failed)?;
        Ok(rows.map(move |row| row.map_err(failed)))
    }

    /// How many rows there really are.
    pub(crate) fn count_rows(&self) -> Result<u64, StoreError> {
        self.walk()?
            .try_fold(0, |count, row| row.map(|_| count + 1))
    }

    /// At most `limit` entries of the range, ascending, or from its end descending with `reverse`.
    pub fn scan(
        &self,
        range: Range<'_>,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Entry>, StoreError> {
        let full = |key: &[u8]| [&[range.table], key].concat();
        let start = full(range.start);
        let end = match (range.end, range.table.checked_add(1)) {
            (Some(end), _) => Some(full(end)),
            (None, Some(next)) => Some(vec![next]),
            (None, None) => None,
        };
        if end.as_ref().is_some_and(|end| *end <= start) {
            return Ok(Vec::new());
        }
        let to = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let bounds = (Bound::Included(start.as_slice()), to);
        let failed = |e| self.view.failed("read", e);
        let entry = |entry: heed::Result<(&[u8], &[u8])>| entry.map(without_table).map_err(failed);
        let data = &self.view.data;
        if reverse {
            let entries = data.rev_range(&self.txn, &bounds).map_err(failed)?;
            entries.take(limit).map(entry).collect()
        } else {
            let entries = data.range(&self.txn, &bounds).map_err(failed)?;
            entries.take(limit).map(entry).collect()
        }
    }
}

fn without_table((key, value): (&[u8], &[u8])) -> Entry {
    (key.get(1..).unwrap_or_default().to_vec(), value.to_vec())
}

/// Changes to the view, all or nothing.
pub struct Writer<'v> {
    view: &'v View,
    txn: RwTxn<'v>,
    key: Vec<u8>,
}

impl Writer<'_> {
    /// Sets a key.
    pub fn put(&mut self, table: u8, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.set_key(table, key);
        let put = self.view.data.put(&mut self.txn, &self.key, value);
        put.map_err(|e| self.view.failed("write", e))
    }

    /// Removes a key, if it is there.
    pub fn delete(&mut self, table: u8, key: &[u8]) -> Result<(), StoreError> {
        self.set_key(table, key);
        let deleted = self.view.data.delete(&mut self.txn, &self.key);
        deleted
            .map(|_| ())
            .map_err(|e| self.view.failed("write", e))
    }

    /// Keeps everything, and that this is the view after `head`.
    pub(crate) fn commit(mut self, head: &Head) -> Result<(), StoreError> {
        let put = self.view.heads.put(&mut self.txn, HEAD, &head.encode());
        put.map_err(|e| self.view.failed("write", e))?;
        self.txn.commit().map_err(|e| self.view.failed("write", e))
    }

    fn set_key(&mut self, table: u8, key: &[u8]) {
        self.key.clear();
        self.key.push(table);
        self.key.extend_from_slice(key);
    }
}
