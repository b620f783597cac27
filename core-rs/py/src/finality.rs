//! Finality proofs.

use crate::bytes::exactly;
use crate::errors::native;
use p2pet_core::check;
use p2pet_core::finality::FinalityProof;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;
use std::collections::HashMap;

/// Steps 2 to 6 of section 6; returns the id. Raises ProofError naming the step.
#[pyfunction]
fn verify_finality<'py>(
    py: Python<'py>,
    network_id: PyBackedBytes,
    transaction: PyBackedBytes,
    finality_proof: PyBackedBytes,
    parameters_hash: PyBackedBytes,
    notaries: Vec<(PyBackedBytes, u8)>,
) -> PyResult<Bound<'py, PyBytes>> {
    let network_id = exactly(&network_id, "the network id")?;
    let notaries = notaries_of(&notaries)?;
    let id = py
        .detach(|| {
            check::verify_finality(
                &network_id,
                &transaction,
                &finality_proof,
                &parameters_hash,
                &notaries,
            )
        })
        .map_err(native)?;
    Ok(PyBytes::new(py, &id))
}

/// Service keys and modes, as the parameters list them.
pub fn notaries_of(notaries: &[(PyBackedBytes, u8)]) -> PyResult<HashMap<[u8; 32], u8>> {
    notaries
        .iter()
        .map(|(key, mode)| Ok((exactly(key, "a notary's service key")?, *mode)))
        .collect()
}

type Summary<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>, u8, u64, i64, u32);

/// Transaction id, notary, mode, sequence, decided_at_ns, count. Nothing is verified.
#[pyfunction]
fn finality_summary<'py>(py: Python<'py>, finality_proof: PyBackedBytes) -> PyResult<Summary<'py>> {
    let proof = FinalityProof::decode(&finality_proof).map_err(native)?;
    let root = &proof.batch.root;
    let id = PyBytes::new(py, proof.transaction_id);
    let notary = PyBytes::new(py, &root.notary);
    Ok((
        id,
        notary,
        root.mode,
        root.sequence,
        root.decided_at_ns,
        root.count,
    ))
}

/// Adds what this file binds.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(verify_finality, module)?)?;
    module.add_function(wrap_pyfunction!(finality_summary, module)?)
}
