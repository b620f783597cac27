//! Looking at the log and view of a node that is not running.

use crate::bytes::exactly;
use crate::errors::{StoreError as PyStoreError, raise};
use crate::notary::notary_error;
use crate::progress::telling;
use crate::store::{Open, entries, store_error};
use p2pet_view::{Comparison, Inspection, MAP_BYTES, Range, compare_pages, head_of_pages};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList};
use std::path::PathBuf;

/// Rows, rows that differ, (table, key, clause) of the first of these.
type ComparisonTuple<'py> = (u64, u64, Vec<(u8, Bound<'py, PyBytes>, &'static str)>);

/// First and last sequence, chain value, (file, offset, clause) of a record that was never finished.
type LogTuple<'py> = (
    u64,
    u64,
    Bound<'py, PyBytes>,
    Option<(String, u64, &'static str)>,
);

/// Transactions accepted, findings, (record, place in the batch, clause) of the first of these.
type AuditTuple = (u64, u64, Vec<(u64, u32, &'static str)>);

fn comparison_tuple<'py>(py: Python<'py>, comparison: &Comparison) -> ComparisonTuple<'py> {
    let first = comparison.first.iter();
    let first = first.map(|row| (row.table, PyBytes::new(py, &row.key), row.why));
    (comparison.rows, comparison.differing, first.collect())
}

/// A store that is not running, its lock held, and what its log amounts to.
#[pyclass(frozen, name = "Inspection", module = "p2petd.native._core")]
struct PyInspection(Open<Inspection>);

#[pymethods]
impl PyInspection {
    /// Checks the whole log and all snapshots, and begins a view in `scratch`, which is empty.
    #[staticmethod]
    #[pyo3(signature = (directory, scratch, *, notary = false, map_bytes = MAP_BYTES, progress = None))]
    fn begin(
        py: Python<'_>,
        directory: PathBuf,
        scratch: PathBuf,
        notary: bool,
        map_bytes: u64,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let apply = if notary {
            p2pet_notary::index()
        } else {
            p2pet_view::changes()
        };
        let begun = telling(py, progress, |progress| {
            Inspection::begin(&directory, &scratch, map_bytes, apply, progress)
        });
        Ok(Self(Open::new(begun.map_err(store_error)?)))
    }

    #[getter]
    fn log<'py>(&self, py: Python<'py>) -> PyResult<LogTuple<'py>> {
        let inspection = self.0.get()?;
        let log = inspection.log();
        let unfinished = log.unfinished.as_ref();
        Ok((
            log.first_sequence,
            log.last_sequence,
            PyBytes::new(py, &log.chain_value),
            unfinished.map(|(file, offset, why)| (file.display().to_string(), *offset, *why)),
        ))
    }

    /// (record, what is wrong with it) of each snapshot, newest first.
    #[getter]
    fn snapshots(&self) -> PyResult<Vec<(u64, Option<&'static str>)>> {
        Ok(self.0.get()?.snapshots().collect())
    }

    /// Whether the next start would believe the view.
    #[getter]
    fn view_is_believed(&self) -> PyResult<bool> {
        self.0.get()?.view_is_believed().map_err(store_error)
    }

    /// Applies the log's records up to this one; returns the last that is applied.
    #[pyo3(signature = (up_to, *, progress = None))]
    fn rebuild(&self, py: Python<'_>, up_to: u64, progress: Option<Py<PyAny>>) -> PyResult<u64> {
        let inspection = self.0.get()?;
        let rebuilt = telling(py, progress, |progress| inspection.rebuild(up_to, progress));
        rebuilt.map_err(store_error)
    }

    /// Compares what is rebuilt with the whole snapshot of its last record, if there is one.
    #[pyo3(signature = (*, progress = None))]
    fn compare_snapshot<'py>(
        &self,
        py: Python<'py>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Option<ComparisonTuple<'py>>> {
        let inspection = self.0.get()?;
        let compared = telling(py, progress, |progress| {
            inspection.compare_snapshot(progress)
        });
        let compared = compared.map_err(store_error)?;
        Ok(compared.map(|comparison| comparison_tuple(py, &comparison)))
    }

    fn get<'py>(
        &self,
        py: Python<'py>,
        table: u8,
        key: PyBackedBytes,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let inspection = self.0.get()?;
        let found = inspection.get(table, &key, |value| PyBytes::new(py, value));
        found.map_err(store_error)
    }

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
        let inspection = self.0.get()?;
        let range = Range {
            table,
            start: &start,
            end: end.as_deref(),
        };
        let found = py.detach(|| inspection.scan(range, limit, reverse));
        entries(py, found.map_err(store_error)?)
    }

    /// Checks what a notary's log decided; see `p2pet_notary::audit`.
    #[pyo3(signature = (network_id, *, progress = None))]
    fn audit_notary(
        &self,
        py: Python<'_>,
        network_id: PyBackedBytes,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<AuditTuple> {
        let network_id = exactly(&network_id, "the network id")?;
        let inspection = self.0.get()?;
        let audit = telling(py, progress, |progress| {
            p2pet_notary::audit(&inspection, &network_id, progress)
        });
        let audit = audit.map_err(notary_error)?;
        let findings = audit.first.into_iter();
        let findings = findings.map(|one| (one.sequence, one.index, one.why));
        Ok((audit.accepted, audit.findings, findings.collect()))
    }

    /// Gives the directory back. Repeating it does nothing.
    fn close(&self, py: Python<'_>) {
        let inspection = self.0.take();
        py.detach(|| drop(inspection));
    }
}

/// The last record that a file of pages shows. Damaged pages may end the process.
#[pyfunction(name = "head_of_pages")]
fn py_head_of_pages(py: Python<'_>, pages: PathBuf) -> PyResult<u64> {
    let head = py.detach(|| head_of_pages(&pages));
    Ok(head.map_err(store_error)?.sequence)
}

/// Compares two files of pages. Damaged pages may end the process.
#[pyfunction(name = "compare_pages", signature = (expected, found, *, progress = None))]
fn py_compare_pages<'py>(
    py: Python<'py>,
    expected: PathBuf,
    found: PathBuf,
    progress: Option<Py<PyAny>>,
) -> PyResult<ComparisonTuple<'py>> {
    if expected == found {
        let message = "the two files of pages are one";
        return Err(raise::<PyStoreError>("store.view", message));
    }
    let compared = telling(py, progress, |progress| {
        compare_pages(&expected, &found, progress)
    });
    Ok(comparison_tuple(py, &compared.map_err(store_error)?))
}

/// Adds what this file binds.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyInspection>()?;
    module.add_function(wrap_pyfunction!(py_head_of_pages, module)?)?;
    module.add_function(wrap_pyfunction!(py_compare_pages, module)?)
}
