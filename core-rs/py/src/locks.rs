//! Output locks and what a uniqueness-only notary gets.

use crate::bytes::{exactly, views};
use crate::errors::native;
use p2pet_core::{locks, uniqueness};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

/// The lock of output `index` that `owner`, an Ed25519 key, spends. Raises KeyFormatError.
#[pyfunction]
fn lock_of<'py>(
    py: Python<'py>,
    owner: PyBackedBytes,
    salt: PyBackedBytes,
    index: u32,
) -> PyResult<Bound<'py, PyBytes>> {
    let salt = exactly(&salt, "a salt")?;
    let lock = locks::lock_of(&owner, &salt, index).map_err(native)?;
    Ok(PyBytes::new(py, &lock))
}

/// An input proof with the output's lock in place of the output, for a uniqueness-only notary.
#[pyfunction]
fn lock_proof<'py>(
    py: Python<'py>,
    transaction: PyBackedBytes,
    index: u32,
    finality_proof: PyBackedBytes,
) -> PyResult<Bound<'py, PyBytes>> {
    let made = py.detach(|| uniqueness::lock_proof(&transaction, index, &finality_proof));
    Ok(PyBytes::new(py, &made.map_err(native)?))
}

/// The `ledger.v1.UniquenessProposal` of a transaction. Raises MalformedError.
#[pyfunction]
fn uniqueness_proposal<'py>(
    py: Python<'py>,
    transaction: PyBackedBytes,
    input_proofs: Vec<PyBackedBytes>,
    unlock_signatures: Vec<PyBackedBytes>,
) -> PyResult<Bound<'py, PyBytes>> {
    let (proofs, unlocks) = (views(&input_proofs), views(&unlock_signatures));
    let made = py.detach(|| uniqueness::uniqueness_proposal(&transaction, &proofs, &unlocks));
    Ok(PyBytes::new(py, &made.map_err(native)?))
}

/// Adds what this file binds.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(lock_of, module)?)?;
    module.add_function(wrap_pyfunction!(lock_proof, module)?)?;
    module.add_function(wrap_pyfunction!(uniqueness_proposal, module)?)
}
