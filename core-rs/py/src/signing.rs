//! Keys and signatures.

use crate::bytes::{exactly, list, views};
use crate::errors::{KeyFormatError, native, raise};
use p2pet_core::certificate;
use p2pet_core::component;
use p2pet_core::composite::{self, Key};
use p2pet_core::keys::{self, SigningKey};
use p2pet_core::signature::{Purpose, SignatureBatch, Ticket, signed_message};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList};
use std::collections::HashSet;
use std::sync::Arc;

/// An Ed25519 key; its seed never leaves it.
#[pyclass(frozen, name = "SigningKey", module = "p2petd.native._core")]
pub struct PySigningKey(Arc<SigningKey>);

impl PySigningKey {
    /// The key, for other bindings.
    pub fn shared(&self) -> Arc<SigningKey> {
        Arc::clone(&self.0)
    }
}

#[pymethods]
impl PySigningKey {
    #[staticmethod]
    fn from_seed(seed: PyBackedBytes) -> PyResult<Self> {
        let seed = (&*seed).try_into().map_err(|_| {
            let text = format!("the seed has {} bytes; Ed25519 seeds have 32", seed.len());
            raise::<KeyFormatError>("signature.key_invalid", &text)
        })?;
        Ok(Self(Arc::new(SigningKey::from_seed(seed))))
    }

    #[getter]
    fn public<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.0.public())
    }

    /// 64 bytes over the message of section 4.
    fn sign<'py>(
        &self,
        py: Python<'py>,
        network_id: PyBackedBytes,
        purpose: u8,
        digest: PyBackedBytes,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let network_id = exactly(&network_id, "the network id")?;
        let purpose = Purpose::with_digest(purpose).map_err(native)?;
        let digest = exactly(&digest, "the digest")?;
        let signature = py.detach(|| self.0.sign(&network_id, purpose, &digest));
        Ok(PyBytes::new(py, &signature))
    }

    /// 64 bytes by the key of the lock of an output that this key owns, over the id of the consuming transaction.
    fn unlock<'py>(
        &self,
        py: Python<'py>,
        network_id: PyBackedBytes,
        salt: PyBackedBytes,
        index: u32,
        transaction_id: PyBackedBytes,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let network_id = exactly(&network_id, "the network id")?;
        let salt = exactly(&salt, "a salt")?;
        let consumer = exactly(&transaction_id, "a transaction id")?;
        let signature = py.detach(|| self.0.unlock(&network_id, &salt, index, &consumer));
        Ok(PyBytes::new(py, &signature))
    }

    /// One signature for each digest.
    fn sign_many<'py>(
        &self,
        py: Python<'py>,
        network_id: PyBackedBytes,
        purpose: u8,
        digests: Vec<PyBackedBytes>,
    ) -> PyResult<Bound<'py, PyList>> {
        let network_id = exactly(&network_id, "the network id")?;
        let purpose = Purpose::with_digest(purpose).map_err(native)?;
        let digests = digests
            .iter()
            .map(|digest| exactly(digest, "a digest"))
            .collect::<PyResult<Vec<_>>>()?;
        let signatures: Vec<_> = py.detach(|| {
            digests
                .iter()
                .map(|digest| self.0.sign(&network_id, purpose, digest))
                .collect()
        });
        list(py, &signatures)
    }

    fn __repr__(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// Raises KeyFormatError.
#[pyfunction]
fn check_key(key: PyBackedBytes) -> PyResult<()> {
    keys::check_key(&key).map(|_| ()).map_err(native)
}

/// The canonical encoding of a composite key; children are (weight, key).
#[pyfunction]
fn composite_key<'py>(
    py: Python<'py>,
    threshold: i64,
    children: Vec<(i64, PyBackedBytes)>,
) -> PyResult<Bound<'py, PyBytes>> {
    let number = |number: i64| {
        u16::try_from(number).map_err(|_| {
            let text = format!("{number} is no weight or threshold of a composite key");
            raise::<KeyFormatError>("signature.key_invalid", &text)
        })
    };
    let threshold = number(threshold)?;
    let children = children
        .iter()
        .map(|(weight, key)| Ok((number(*weight)?, &**key)))
        .collect::<PyResult<Vec<_>>>()?;
    let encoded = composite::composite_key(threshold, &children).map_err(native)?;
    Ok(PyBytes::new(py, &encoded))
}

/// 32 bytes: the key itself for an Ed25519 key, SHA-256(0x05 ‖ encoding) for a composite one.
#[pyfunction]
fn key_id<'py>(py: Python<'py>, key: PyBackedBytes) -> PyResult<Bound<'py, PyBytes>> {
    let id = Key::decode_checked(&key).map_err(native)?.id();
    Ok(PyBytes::new(py, &id))
}

/// The Ed25519 keys of a key, ascending.
#[pyfunction]
fn key_leaves<'py>(py: Python<'py>, key: PyBackedBytes) -> PyResult<Bound<'py, PyList>> {
    let key = Key::decode(&key).map_err(native)?;
    list(py, key.leaves())
}

/// Whether signatures by these Ed25519 keys satisfy the key, each counted once.
#[pyfunction]
fn key_is_satisfied(key: PyBackedBytes, signed: Vec<PyBackedBytes>) -> PyResult<bool> {
    let key = Key::decode(&key).map_err(native)?;
    let signed: HashSet<&[u8]> = signed.iter().map(|key| &**key).collect();
    Ok(key.lacking(&|leaf| signed.contains(&leaf[..])).is_none())
}

/// One component of group 4.
#[pyfunction]
fn encode_signers<'py>(py: Python<'py>, keys: Vec<PyBackedBytes>) -> PyResult<Bound<'py, PyBytes>> {
    let component = component::encode_signers(&views(&keys)).map_err(native)?;
    Ok(PyBytes::new(py, &component))
}

/// The keys of one component of group 4, in order: (id, encoding).
#[pyfunction]
fn decode_signers<'py>(
    py: Python<'py>,
    component: PyBackedBytes,
) -> PyResult<Vec<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)>> {
    let keys = component::decode_signers(&component).map_err(native)?;
    let pairs = keys
        .iter()
        .map(|key| (PyBytes::new(py, &key.id()), PyBytes::new(py, key.bytes())));
    Ok(pairs.collect())
}

type Item = (
    PyBackedBytes,
    PyBackedBytes,
    u8,
    PyBackedBytes,
    PyBackedBytes,
);

/// One answer for each (key, network id, purpose, digest, signature), checked as a batch; bisects on failure.
#[pyfunction]
fn verify_signatures(py: Python<'_>, items: Vec<Item>) -> Vec<bool> {
    py.detach(|| {
        let mut batch = SignatureBatch::default();
        let tickets: Vec<_> = items.iter().map(|item| queue(item, &mut batch)).collect();
        let verdicts = batch.verify();
        tickets
            .into_iter()
            .map(|ticket| verdicts.holds(ticket))
            .collect()
    })
}

/// What has a wrong length or purpose is not a valid signature, whatever it is.
fn queue(
    (key, network_id, purpose, digest, signature): &Item,
    batch: &mut SignatureBatch<'_>,
) -> Ticket {
    let parsed = (
        <&[u8; 32]>::try_from(&**key),
        <&[u8; 32]>::try_from(&**network_id),
        Purpose::with_digest(*purpose),
        <&[u8; 32]>::try_from(&**digest),
        <&[u8; 64]>::try_from(&**signature),
    );
    match parsed {
        (Ok(key), Ok(network_id), Ok(purpose), Ok(digest), Ok(signature)) => {
            batch.push(key, &signed_message(network_id, purpose, digest), signature)
        }
        _ => Ticket::Settled(false),
    }
}

/// A `ledger.v1.WorkerCertificate`.
#[pyfunction]
fn certify_worker<'py>(
    py: Python<'py>,
    service: &PySigningKey,
    network_id: PyBackedBytes,
    worker_key: PyBackedBytes,
    not_before_ns: i64,
    not_after_ns: i64,
) -> PyResult<Bound<'py, PyBytes>> {
    let network_id = exactly(&network_id, "the network id")?;
    let worker_key = keys::check_key(&worker_key).map_err(native)?;
    let certificate = certificate::certify_worker(
        &service.0,
        &network_id,
        worker_key,
        not_before_ns,
        not_after_ns,
    );
    Ok(PyBytes::new(py, &certificate))
}

/// Adds what this file binds.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PySigningKey>()?;
    module.add_function(wrap_pyfunction!(check_key, module)?)?;
    module.add_function(wrap_pyfunction!(composite_key, module)?)?;
    module.add_function(wrap_pyfunction!(key_id, module)?)?;
    module.add_function(wrap_pyfunction!(key_leaves, module)?)?;
    module.add_function(wrap_pyfunction!(key_is_satisfied, module)?)?;
    module.add_function(wrap_pyfunction!(encode_signers, module)?)?;
    module.add_function(wrap_pyfunction!(decode_signers, module)?)?;
    module.add_function(wrap_pyfunction!(verify_signatures, module)?)?;
    module.add_function(wrap_pyfunction!(certify_worker, module)?)
}
