//! Transactions, tear-offs and single components.

use crate::bytes::{list, views};
use crate::errors::native;
use p2pet_core::component::{Command, OutputState};
use p2pet_core::hash;
use p2pet_core::proofs;
use p2pet_core::tearoff::{self, TearOff};
use p2pet_core::transaction::{Group, Transaction};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::bytes::exactly;

/// A decoded transaction; its components are the bytes that were hashed.
#[pyclass(frozen, name = "Transaction", module = "p2petd.native._core")]
struct PyTransaction {
    id: Py<PyBytes>,
    salt: Py<PyBytes>,
    groups: Py<PyList>,
}

#[pymethods]
impl PyTransaction {
    #[staticmethod]
    fn decode(py: Python<'_>, data: PyBackedBytes) -> PyResult<Self> {
        let decoded = py.detach(|| {
            let transaction = Transaction::decode(&data)?;
            Ok((transaction.id(), transaction))
        });
        let (id, transaction) = decoded.map_err(native)?;
        Ok(Self {
            id: PyBytes::new(py, &id).unbind(),
            salt: PyBytes::new(py, transaction.salt()).unbind(),
            groups: groups_of(py, &transaction)?.unbind(),
        })
    }

    #[getter]
    fn id(&self, py: Python<'_>) -> Py<PyBytes> {
        self.id.clone_ref(py)
    }

    #[getter]
    fn salt(&self, py: Python<'_>) -> Py<PyBytes> {
        self.salt.clone_ref(py)
    }

    #[getter]
    fn groups(&self, py: Python<'_>) -> Py<PyList> {
        self.groups.clone_ref(py)
    }
}

/// The components of a transaction, group by group.
pub fn groups_of<'py>(
    py: Python<'py>,
    transaction: &Transaction<'_>,
) -> PyResult<Bound<'py, PyList>> {
    let groups = Group::ALL.map(|group| list(py, transaction.group(group)));
    PyList::new(py, groups.into_iter().collect::<PyResult<Vec<_>>>()?)
}

/// What a verified tear-off shows: its id and, per group number, (count, {index: component}).
#[pyclass(frozen, name = "Revealed", module = "p2petd.native._core")]
struct PyRevealed {
    id: Py<PyBytes>,
    groups: Py<PyDict>,
    complete: Vec<u16>,
}

#[pymethods]
impl PyRevealed {
    #[getter]
    fn id(&self, py: Python<'_>) -> Py<PyBytes> {
        self.id.clone_ref(py)
    }

    #[getter]
    fn groups(&self, py: Python<'_>) -> Py<PyDict> {
        self.groups.clone_ref(py)
    }

    fn is_complete(&self, group: i64) -> bool {
        self.complete
            .iter()
            .any(|complete| i64::from(*complete) == group)
    }
}

/// The id (section 2). Raises MalformedError unless salt is 32 bytes and there are 12 groups.
#[pyfunction]
fn transaction_id<'py>(
    py: Python<'py>,
    salt: PyBackedBytes,
    groups: Vec<Vec<PyBackedBytes>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let id = py.detach(|| {
        let groups: Vec<_> = groups.iter().map(|group| views(group)).collect();
        Ok(Transaction::from_parts(&salt, &groups)?.id())
    });
    Ok(PyBytes::new(py, &id.map_err(native)?))
}

/// The canonical `ledger.v1.Transaction`.
#[pyfunction]
fn encode_transaction<'py>(
    py: Python<'py>,
    salt: PyBackedBytes,
    groups: Vec<Vec<PyBackedBytes>>,
) -> PyResult<Bound<'py, PyBytes>> {
    let encoded = py.detach(|| {
        let groups: Vec<_> = groups.iter().map(|group| views(group)).collect();
        Ok(Transaction::from_parts(&salt, &groups)?.encode())
    });
    Ok(PyBytes::new(py, &encoded.map_err(native)?))
}

/// A `ledger.v1.TearOff` that shows the (group, index) pairs and the whole groups, nothing else.
#[pyfunction]
fn tear_off<'py>(
    py: Python<'py>,
    transaction: PyBackedBytes,
    components: Vec<(u32, u32)>,
    whole_groups: Vec<u32>,
) -> PyResult<Bound<'py, PyBytes>> {
    let made = py.detach(|| {
        let transaction = Transaction::decode(&transaction)?;
        tearoff::tear_off(&transaction, &components, &whole_groups)
    });
    Ok(PyBytes::new(py, &made.map_err(native)?))
}

/// Raises ProofError when it does not lead to `expected_id`, MalformedError when it does not decode.
#[pyfunction]
fn verify_tear_off(
    py: Python<'_>,
    tear_off: PyBackedBytes,
    expected_id: PyBackedBytes,
) -> PyResult<PyRevealed> {
    let expected = exactly(&expected_id, "the expected id")?;
    let revealed = py
        .detach(|| TearOff::decode(&tear_off)?.verify(&expected))
        .map_err(native)?;
    let groups = PyDict::new(py);
    for group in &revealed.groups {
        let components = PyDict::new(py);
        for shown in &group.components {
            components.set_item(shown.index, PyBytes::new(py, shown.component))?;
        }
        groups.set_item(group.group.number(), (group.count, components))?;
    }
    let complete = revealed.groups.iter().filter(|group| group.is_complete());
    Ok(PyRevealed {
        id: PyBytes::new(py, &revealed.id).unbind(),
        complete: complete.map(|group| group.group.number()).collect(),
        groups: groups.unbind(),
    })
}

/// The `ledger.v1.InputProof` of output `index` of a final transaction.
#[pyfunction]
fn input_proof<'py>(
    py: Python<'py>,
    transaction: PyBackedBytes,
    index: u32,
    finality_proof: PyBackedBytes,
) -> PyResult<Bound<'py, PyBytes>> {
    let made = py.detach(|| proofs::input_proof(&transaction, index, &finality_proof));
    Ok(PyBytes::new(py, &made.map_err(native)?))
}

type DecodedOutput<'py> = (
    String,
    u32,
    Bound<'py, PyBytes>,
    String,
    u32,
    Bound<'py, PyBytes>,
    u32,
);

/// Strictly decode `ledger.v1.OutputState`: contract, contract version, notary, type name, schema version, payload,
/// encumbered by.
#[pyfunction]
fn decode_output<'py>(py: Python<'py>, component: PyBackedBytes) -> PyResult<DecodedOutput<'py>> {
    let output = OutputState::decode(&component).map_err(native)?;
    Ok((
        output.contract.to_owned(),
        output.contract_version,
        PyBytes::new(py, output.notary),
        output.type_name.to_owned(),
        output.schema_version,
        PyBytes::new(py, output.payload),
        output.encumbered_by,
    ))
}

/// The same `ledger.v1.OutputState` under another notary and with another encumbrance.
#[pyfunction]
fn change_notary<'py>(
    py: Python<'py>,
    component: PyBackedBytes,
    notary: PyBackedBytes,
    encumbered_by: u32,
) -> PyResult<Bound<'py, PyBytes>> {
    let notary = exactly(&notary, "the notary's key")?;
    let moved = OutputState {
        notary: &notary,
        encumbered_by,
        ..OutputState::decode(&component).map_err(native)?
    };
    Ok(PyBytes::new(py, &moved.encode()))
}

/// Strictly decode `ledger.v1.Command`: contract, type name, schema version, payload.
#[pyfunction]
fn decode_command<'py>(
    py: Python<'py>,
    component: PyBackedBytes,
) -> PyResult<(String, String, u32, Bound<'py, PyBytes>)> {
    let command = Command::decode(&component).map_err(native)?;
    let payload = PyBytes::new(py, command.payload);
    Ok((
        command.contract.to_owned(),
        command.type_name.to_owned(),
        command.schema_version,
        payload,
    ))
}

#[pyfunction]
fn sha256<'py>(py: Python<'py>, data: PyBackedBytes) -> Bound<'py, PyBytes> {
    let digest = py.detach(|| hash::sha256(&data));
    PyBytes::new(py, &digest)
}

/// Adds what this file binds.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyTransaction>()?;
    module.add_class::<PyRevealed>()?;
    module.add_function(wrap_pyfunction!(transaction_id, module)?)?;
    module.add_function(wrap_pyfunction!(encode_transaction, module)?)?;
    module.add_function(wrap_pyfunction!(tear_off, module)?)?;
    module.add_function(wrap_pyfunction!(verify_tear_off, module)?)?;
    module.add_function(wrap_pyfunction!(input_proof, module)?)?;
    module.add_function(wrap_pyfunction!(decode_output, module)?)?;
    module.add_function(wrap_pyfunction!(change_notary, module)?)?;
    module.add_function(wrap_pyfunction!(decode_command, module)?)?;
    module.add_function(wrap_pyfunction!(sha256, module)?)
}
