//! Bytes in both directions.

use crate::errors::native;
use p2pet_core::Error;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList};

/// `bytes` as exactly `N` bytes; raises MalformedError naming `what`.
pub fn exactly<const N: usize>(bytes: &[u8], what: &str) -> PyResult<[u8; N]> {
    bytes.try_into().map_err(|_| {
        let text = format!("{what} has {} bytes instead of {N}", bytes.len());
        native(Error::Malformed(text))
    })
}

/// A list of bytes.
pub fn list<'py, T: AsRef<[u8]>>(py: Python<'py>, parts: &[T]) -> PyResult<Bound<'py, PyList>> {
    PyList::new(py, parts.iter().map(|part| PyBytes::new(py, part.as_ref())))
}

/// Views of bytes that stay alive and unchanged while the GIL is released.
pub fn views(owned: &[PyBackedBytes]) -> Vec<&[u8]> {
    owned.iter().map(|bytes| &**bytes).collect()
}
