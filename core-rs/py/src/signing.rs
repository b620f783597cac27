//! Keys and signatures.

use crate::bytes::{exactly, list};
use crate::errors::{KeyFormatError, native, raise};
use p2pet_core::certificate;
use p2pet_core::keys::{self, SigningKey};
use p2pet_core::signature::{Purpose, SignatureBatch, Ticket, signed_message};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList};
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
    module.add_function(wrap_pyfunction!(verify_signatures, module)?)?;
    module.add_function(wrap_pyfunction!(certify_worker, module)?)
}
