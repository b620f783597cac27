//! The platform checks.

use crate::bytes::{exactly, list, views};
use crate::finality::notaries_of;
use crate::transaction::groups_of;
use p2pet_core::check::{Parameters, Rules};
use p2pet_core::checked::Checked;
use p2pet_core::resolved::Resolved;
use p2pet_core::{Digest, Refusal};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList};
use std::collections::HashMap;
use std::sync::Arc;

/// A proposal that passed every platform check. Only contracts remain.
#[pyclass(frozen, name = "Checked", module = "p2petd.native._core")]
pub struct PyChecked {
    id: Py<PyBytes>,
    groups: Py<PyList>,
    input_outputs: Py<PyList>,
    reference_outputs: Py<PyList>,
    signed_by: Py<PyList>,
}

impl PyChecked {
    /// Copies what Python will look at.
    pub fn new(py: Python<'_>, checked: &Checked<'_>) -> PyResult<Self> {
        Ok(Self {
            id: PyBytes::new(py, &checked.contents.id).unbind(),
            groups: groups_of(py, &checked.contents.transaction)?.unbind(),
            input_outputs: list(py, &checked.input_outputs)?.unbind(),
            reference_outputs: list(py, &checked.reference_outputs)?.unbind(),
            signed_by: list(py, &checked.signed_by)?.unbind(),
        })
    }
}

#[pymethods]
impl PyChecked {
    #[getter]
    fn id(&self, py: Python<'_>) -> Py<PyBytes> {
        self.id.clone_ref(py)
    }

    #[getter]
    fn groups(&self, py: Python<'_>) -> Py<PyList> {
        self.groups.clone_ref(py)
    }

    /// The proven `OutputState` component of each input, in order.
    #[getter]
    fn input_outputs(&self, py: Python<'_>) -> Py<PyList> {
        self.input_outputs.clone_ref(py)
    }

    #[getter]
    fn reference_outputs(&self, py: Python<'_>) -> Py<PyList> {
        self.reference_outputs.clone_ref(py)
    }

    #[getter]
    fn signed_by(&self, py: Python<'_>) -> Py<PyList> {
        self.signed_by.clone_ref(py)
    }
}

/// Why a proposal is refused: a stable code, one sentence, the keys that lack (for signature.missing).
#[pyclass(frozen, name = "Refusal", module = "p2petd.native._core")]
struct PyRefusal(Refusal);

#[pymethods]
impl PyRefusal {
    #[getter]
    fn code(&self) -> &str {
        self.0.code
    }

    #[getter]
    fn message(&self) -> &str {
        &self.0.message
    }

    #[getter]
    fn missing_keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        list(py, &self.0.missing_keys)
    }

    fn __repr__(&self) -> String {
        format!("Refusal({})", self.0)
    }
}

/// A proposal, the states of its inputs, those of its references.
type Known = (PyBackedBytes, Vec<PyBackedBytes>, Vec<PyBackedBytes>);

type Version = (PyBackedBytes, Vec<(PyBackedBytes, u8)>, u64, u64);

/// What the network permits, as far as bytes can tell: every version of the parameters that is known.
#[pyclass(frozen, name = "Rules", module = "p2petd.native._core")]
pub struct PyRules(Arc<Rules>);

impl PyRules {
    /// The rules, for other bindings.
    pub fn shared(&self) -> Arc<Rules> {
        Arc::clone(&self.0)
    }
}

#[pymethods]
impl PyRules {
    #[new]
    fn new(network_id: PyBackedBytes, parameters: Vec<Version>) -> PyResult<Self> {
        let network_id = exactly(&network_id, "the network id")?;
        let versions = parameters
            .iter()
            .map(version)
            .collect::<PyResult<HashMap<_, _>>>()?;
        Ok(Self(Arc::new(Rules::new(network_id, versions))))
    }

    /// Shape, id, platform checks, input proofs and all signatures of each `ledger.v1.Proposal`.
    fn check_proposals<'py>(
        &self,
        py: Python<'py>,
        proposals: Vec<PyBackedBytes>,
        require_all_signatures: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        let proposals = views(&proposals);
        let answers = py.detach(|| self.0.check_proposals(&proposals, require_all_signatures));
        answer_list(py, answers)
    }

    /// Like `check_proposals` for transactions under a uniqueness-only notary, with the states that each names.
    fn check_resolved<'py>(
        &self,
        py: Python<'py>,
        proposals: Vec<Known>,
        require_all_signatures: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        let resolved: Vec<_> = proposals
            .iter()
            .map(|(proposal, inputs, references)| Resolved {
                proposal,
                input_outputs: views(inputs),
                reference_outputs: views(references),
            })
            .collect();
        let answers = py.detach(|| self.0.check_resolved(&resolved, require_all_signatures));
        answer_list(py, answers)
    }

    /// Each (`ledger.v1.Proposal` without input proofs, `ledger.v1.FinalityProof`): steps 2 to 7 of section 6.
    #[pyo3(signature = (finals, *, verify_signers = true))]
    fn check_finals<'py>(
        &self,
        py: Python<'py>,
        finals: Vec<(PyBackedBytes, PyBackedBytes)>,
        verify_signers: bool,
    ) -> PyResult<Bound<'py, PyList>> {
        let finals: Vec<_> = finals
            .iter()
            .map(|(proposal, proof)| (&**proposal, &**proof))
            .collect();
        let answers = py.detach(|| self.0.check_finals(&finals, verify_signers));
        answer_list(py, answers)
    }
}

fn version(
    (hash, notaries, transaction_bytes_max, inputs_max): &Version,
) -> PyResult<(Digest, Parameters)> {
    let parameters = Parameters {
        notaries: notaries_of(notaries)?,
        transaction_bytes_max: *transaction_bytes_max,
        inputs_max: *inputs_max,
    };
    Ok((exactly(hash, "the hash of network parameters")?, parameters))
}

fn answer_list<'py>(
    py: Python<'py>,
    answers: Vec<Result<Checked<'_>, Refusal>>,
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for answer in answers {
        match answer {
            Ok(checked) => list.append(PyChecked::new(py, &checked)?)?,
            Err(refusal) => list.append(PyRefusal(refusal))?,
        }
    }
    Ok(list)
}

/// Adds what this file binds.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyChecked>()?;
    module.add_class::<PyRefusal>()?;
    module.add_class::<PyRules>()
}
