//! A node's store: tables of keys and values, every commit one record of the log.

use std::path::Path;

use p2pet_log::{Position, RealDisk, SharedDisk};

use crate::changes::{Change, decode_changes, encode_changes};
use crate::error::StoreError;
use crate::logged::{Apply, ApplyError, LoggedView, Options};
use crate::progress::Progress;
use crate::stats::Stats;
use crate::view::{Entry, Head, Range, Writer};

struct Changes;

impl Apply for Changes {
    fn apply(
        &self,
        view: &mut Writer<'_>,
        _place: (u64, Position),
        payload: &[u8],
    ) -> Result<(), ApplyError> {
        for change in decode_changes(payload).map_err(ApplyError::Unknown)? {
            match change.value {
                Some(value) => view.put(change.table, change.key, value)?,
                None => view.delete(change.table, change.key)?,
            }
        }
        Ok(())
    }
}

/// How the records of a node's log change its view.
pub fn changes() -> Box<dyn Apply> {
    Box::new(Changes)
}

/// The node's log and its view.
pub struct Store {
    logged: LoggedView<Changes>,
}

impl Store {
    /// See `LoggedView::open`.
    pub fn open(directory: &Path, options: Options) -> Result<Self, StoreError> {
        Self::open_telling(directory, options, &Progress::silent())
    }

    /// The same, telling how far it is.
    pub fn open_telling(
        directory: &Path,
        options: Options,
        progress: &Progress<'_>,
    ) -> Result<Self, StoreError> {
        Self::open_on(RealDisk::shared(), directory, options, progress)
    }

    /// The same on another disk.
    pub fn open_on(
        disk: SharedDisk,
        directory: &Path,
        options: Options,
        progress: &Progress<'_>,
    ) -> Result<Self, StoreError> {
        let logged = LoggedView::open(disk, directory, options, Changes, progress)?;
        Ok(Self { logged })
    }

    /// One durable record of these changes, applied in order; returns its sequence.
    ///
    /// Raises `KeyTooLong` and what `LoggedView::commit` raises, with nothing changed.
    pub fn commit(&self, changes: &[Change<'_>]) -> Result<u64, StoreError> {
        let payload = encode_changes(changes)?;
        Ok(self.logged.commit(&payload)?.sequence)
    }

    /// Whether a record with such a payload finds room on the disk and in the map.
    pub fn has_room(&self, payload: usize) -> Result<bool, StoreError> {
        self.logged.has_room(payload)
    }

    /// Hands the value of a key to `found` without copying it.
    pub fn get<T>(
        &self,
        table: u8,
        key: &[u8],
        found: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.logged.snapshot()?.get(table, key)?.map(found))
    }

    /// The values of keys, all of one moment.
    pub fn get_many(
        &self,
        table: u8,
        keys: &[impl AsRef<[u8]>],
    ) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        let snapshot = self.logged.snapshot()?;
        let values = keys.iter().map(|key| snapshot.get(table, key.as_ref()));
        values.map(|value| Ok(value?.map(<[u8]>::to_vec))).collect()
    }

    /// At most `limit` entries of the range, ascending, or from its end descending with `reverse`.
    pub fn scan(
        &self,
        range: Range<'_>,
        limit: usize,
        reverse: bool,
    ) -> Result<Vec<Entry>, StoreError> {
        self.logged.snapshot()?.scan(range, limit, reverse)
    }

    /// The last record that is durable and applied.
    pub fn head(&self) -> Head {
        self.logged.head()
    }

    /// Counters since the opening.
    pub fn stats(&self) -> Stats {
        self.logged.stats()
    }

    /// See `LoggedView::take_snapshot`; returns the record that it shows.
    pub fn take_snapshot(&self) -> Result<u64, StoreError> {
        Ok(self.logged.take_snapshot()?.base.sequence)
    }

    /// See `LoggedView::trim`.
    pub fn trim(&self) -> Result<u64, StoreError> {
        self.logged.trim()
    }

    /// See `LoggedView::close`.
    pub fn close(&self) -> Result<(), StoreError> {
        self.logged.close()
    }
}
