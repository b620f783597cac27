//! The log and its view.

use crate::errors::{LogDamagedError, StoreError as PyStoreError, raise};
use crate::progress::telling;
use p2pet_log::{LogError, SEGMENT_BYTES, failpoint};
use p2pet_view::{Change, Entry, MAP_BYTES, Options, Range, Stats, Store, StoreError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::UNIX_EPOCH;

/// The exception of a store's error.
pub fn store_error(error: StoreError) -> PyErr {
    let (code, message) = (error.code(), error.to_string());
    match error {
        StoreError::Log(LogError::Damaged { .. }) => raise::<LogDamagedError>(code, &message),
        _ => raise::<PyStoreError>(code, &message),
    }
}

/// What is open until it is closed; whoever works with it at that moment finishes first.
///
/// Its lock is never held while Python is touched: making an exception may hand the GIL to a thread that waits for it.
pub struct Open<T>(Mutex<Option<Arc<T>>>);

impl<T> Open<T> {
    /// Open.
    pub fn new(value: T) -> Self {
        Self(Mutex::new(Some(Arc::new(value))))
    }

    /// Raises StoreError with the code "store.closed" once it is closed.
    pub fn get(&self) -> PyResult<Arc<T>> {
        let open = self.locked().clone();
        open.ok_or_else(|| raise::<PyStoreError>("store.closed", "it is closed; open it again"))
    }

    /// Takes it out; None when that was done before.
    pub fn take(&self) -> Option<Arc<T>> {
        self.locked().take()
    }

    fn locked(&self) -> MutexGuard<'_, Option<Arc<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type ChangeItem = (u8, PyBackedBytes, Option<PyBackedBytes>);

/// A node's log and its LMDB view.
#[pyclass(frozen, name = "Store", module = "p2petd.native._core")]
struct PyStore(Open<Store>);

#[pymethods]
impl PyStore {
    /// Recovers the log, brings the view up to date. Raises LogDamagedError, StoreError.
    #[staticmethod]
    #[pyo3(signature = (directory, *, segment_bytes = SEGMENT_BYTES, map_bytes = MAP_BYTES, progress = None))]
    fn open(
        py: Python<'_>,
        directory: PathBuf,
        segment_bytes: u64,
        map_bytes: u64,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let options = Options {
            segment_bytes,
            map_bytes,
        };
        let store = telling(py, progress, |progress| {
            Store::open_telling(&directory, options, progress)
        });
        Ok(Self(Open::new(store.map_err(store_error)?)))
    }

    /// One record: append, fdatasync, apply to the view; returns its sequence. `None` deletes.
    fn commit(&self, py: Python<'_>, changes: Vec<ChangeItem>) -> PyResult<u64> {
        let store = self.0.get()?;
        let changes: Vec<_> = changes
            .iter()
            .map(|(table, key, value)| Change {
                table: *table,
                key,
                value: value.as_deref(),
            })
            .collect();
        py.detach(|| store.commit(&changes)).map_err(store_error)
    }

    /// Whether a commit of about so many bytes finds room on the disk and in the map of the view.
    fn has_room(&self, py: Python<'_>, bytes: usize) -> PyResult<bool> {
        let store = self.0.get()?;
        py.detach(|| store.has_room(bytes)).map_err(store_error)
    }

    fn get<'py>(
        &self,
        py: Python<'py>,
        table: u8,
        key: PyBackedBytes,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let store = self.0.get()?;
        let found = store.get(table, &key, |value| PyBytes::new(py, value));
        found.map_err(store_error)
    }

    fn get_many<'py>(
        &self,
        py: Python<'py>,
        table: u8,
        keys: Vec<PyBackedBytes>,
    ) -> PyResult<Bound<'py, PyList>> {
        let store = self.0.get()?;
        let values = py.detach(|| store.get_many(table, &keys));
        let values = values.map_err(store_error)?.into_iter();
        PyList::new(
            py,
            values.map(|value| value.map(|value| PyBytes::new(py, &value))),
        )
    }

    /// At most `limit` entries of start ≤ key < end in key order (backwards from `end` with reverse).
    #[pyo3(signature = (table, start, end, limit, *, reverse = false))]
    fn scan<'py>(
        &self,
        py: Python<'py>,
        table: u8,
        start: PyBackedBytes,
        end: Option<PyBackedBytes>,
        limit: usize,
        reverse: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        let store = self.0.get()?;
        let range = Range {
            table,
            start: &start,
            end: end.as_deref(),
        };
        let found = py.detach(|| store.scan(range, limit, reverse));
        entries(py, found.map_err(store_error)?)
    }

    #[getter]
    fn sequence(&self) -> PyResult<u64> {
        Ok(self.0.get()?.head().sequence)
    }

    #[getter]
    fn chain_value<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        Ok(PyBytes::new(py, &self.0.get()?.head().chain_value))
    }

    /// See `store_counters`.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        store_counters(py, &self.0.get()?.stats())
    }

    /// A snapshot of the view beside running commits; returns the record that it shows.
    fn take_snapshot(&self, py: Python<'_>) -> PyResult<u64> {
        let store = self.0.get()?;
        py.detach(|| store.take_snapshot()).map_err(store_error)
    }

    /// Removes what the second newest snapshot covers from the log; returns the first sequence that is kept.
    fn trim(&self, py: Python<'_>) -> PyResult<u64> {
        let store = self.0.get()?;
        py.detach(|| store.trim()).map_err(store_error)
    }

    /// Syncs the view and marks the shutdown clean. Repeating it does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.0.take() {
            // Dropping it unmaps the view, which is done without the GIL too.
            Some(store) => py.detach(move || store.close()).map_err(store_error),
            None => Ok(()),
        }
    }
}

/// A list of (key, value).
pub fn entries(py: Python<'_>, entries: Vec<Entry>) -> PyResult<Bound<'_, PyList>> {
    let entries = entries.into_iter();
    PyList::new(
        py,
        entries.map(|(key, value)| (PyBytes::new(py, &key), PyBytes::new(py, &value))),
    )
}

/// The counters of a log and its view by name.
pub fn store_counters<'py>(py: Python<'py>, stats: &Stats) -> PyResult<Bound<'py, PyDict>> {
    counters(
        py,
        &[
            ("appends", stats.appends),
            ("bytes_appended", stats.bytes_appended),
            ("sync_ns_total", stats.sync_ns_total),
            ("apply_ns_total", stats.apply_ns_total),
            ("replayed_records", stats.replayed_records),
            ("view_rebuilt", stats.view_rebuilt),
            ("snapshot_restored", stats.snapshot_restored),
            ("snapshots_taken", stats.snapshots_taken),
            ("snapshot_ns_total", stats.snapshot_ns_total),
            ("snapshot_sequence", stats.snapshot_sequence),
            ("log_first_sequence", stats.log_first_sequence),
            ("log_bytes_since_snapshot", stats.log_bytes_since_snapshot),
        ],
    )
}

/// A dict of named counters.
pub fn counters<'py>(py: Python<'py>, values: &[(&str, u64)]) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in values {
        dict.set_item(name, value)?;
    }
    Ok(dict)
}

/// (inode, nanoseconds of birth, 0 where the file system keeps none): what no copy of a file has.
#[pyfunction]
fn file_identity(path: PathBuf) -> PyResult<(u64, u64)> {
    let metadata = std::fs::metadata(path)?;
    let born = metadata.created().ok();
    let born = born.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let born_ns = born.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0));
    Ok((metadata.ino(), born_ns))
}

/// The names of all failpoints in Rust.
#[pyfunction]
fn failpoints() -> Vec<&'static str> {
    failpoint::names()
}

/// Those of them that every commit passes.
#[pyfunction]
fn commit_failpoints() -> Vec<&'static str> {
    failpoint::commit_names()
}

/// Adds what this file binds.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyStore>()?;
    module.add_function(wrap_pyfunction!(file_identity, module)?)?;
    module.add_function(wrap_pyfunction!(failpoints, module)?)?;
    module.add_function(wrap_pyfunction!(commit_failpoints, module)?)
}
