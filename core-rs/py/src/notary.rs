//! The notary worker.

use crate::bytes::{exactly, list};
use crate::check::{PyChecked, PyRules};
use crate::errors::{MalformedError, ProofError, StoreError, native, raise};
use crate::progress::telling;
use crate::signing::PySigningKey;
use crate::store::{Open, counters, store_counters, store_error};
use p2pet_log::SEGMENT_BYTES;
use p2pet_notary::{
    ContractRefusal, Notary, NotaryError, PreparedBatch, Request, Service, Spent, Status, Subject,
};
use p2pet_view::{MAP_BYTES, Options};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyDict, PyList, PyMapping, PyString};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The exception of a notary's error.
pub fn notary_error(error: NotaryError) -> PyErr {
    let (code, message) = (error.code(), error.to_string());
    match error {
        NotaryError::Store(error) => store_error(error),
        NotaryError::Certificate(error) => native(error),
        NotaryError::WrongCertificate(_) | NotaryError::Held(_) => {
            raise::<ProofError>(code, &message)
        }
        NotaryError::Mode(_)
        | NotaryError::OtherNetwork
        | NotaryError::OtherBatch
        | NotaryError::BatchTooLarge(_) => raise::<MalformedError>(code, &message),
        NotaryError::IndexContradicted { .. } | NotaryError::RolledBack { .. } => {
            raise::<StoreError>(code, &message)
        }
    }
}

/// Transaction id, caller, decided_at_ns, sequence, index, request signature, inputs.
type SpentTuple<'py> = (
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    i64,
    u64,
    u32,
    Bound<'py, PyBytes>,
    Bound<'py, PyList>,
);

fn spent_tuple<'py>(py: Python<'py>, spent: &Spent) -> PyResult<SpentTuple<'py>> {
    Ok((
        PyBytes::new(py, &spent.transaction_id),
        PyBytes::new(py, &spent.caller),
        spent.decided_at_ns,
        spent.sequence,
        spent.index,
        PyBytes::new(py, &spent.request_signature),
        list(py, &spent.inputs)?,
    ))
}

/// Requests on their way through one decision.
#[pyclass(frozen, name = "NotaryBatch", module = "p2petd.native._core")]
struct PyNotaryBatch {
    /// None once decided.
    prepared: Mutex<Option<PreparedBatch>>,
    to_verify: Vec<(usize, Py<PyChecked>)>,
}

impl PyNotaryBatch {
    fn take(&self) -> PyResult<PreparedBatch> {
        // The lock ends with this statement, before an exception is made.
        let prepared = self
            .prepared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        prepared.ok_or_else(|| {
            raise::<MalformedError>(
                "notary.batch_decided",
                "the batch was decided; check its requests again",
            )
        })
    }
}

#[pymethods]
impl PyNotaryBatch {
    /// (index in the batch, proposal) of each request that awaits its contracts.
    #[getter]
    fn to_verify<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let waiting = self.to_verify.iter();
        PyList::new(
            py,
            waiting.map(|(index, checked)| (*index, checked.clone_ref(py))),
        )
    }
}

/// The uniqueness log and index of one notary worker. Signs nothing before its record is durable.
#[pyclass(frozen, name = "Notary", module = "p2petd.native._core")]
struct PyNotary(Open<Notary>);

#[pymethods]
impl PyNotary {
    #[staticmethod]
    #[pyo3(signature = (directory, rules, network_id, mode, worker, worker_certificate, *, segment_bytes = SEGMENT_BYTES, map_bytes = MAP_BYTES, progress = None))]
    #[allow(clippy::too_many_arguments)] // Python gives them by name.
    fn open(
        py: Python<'_>,
        directory: PathBuf,
        rules: &PyRules,
        network_id: PyBackedBytes,
        mode: u8,
        worker: &PySigningKey,
        worker_certificate: PyBackedBytes,
        segment_bytes: u64,
        map_bytes: u64,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let network_id = exactly(&network_id, "the network id")?;
        let (rules, worker) = (rules.shared(), worker.shared());
        let options = Options {
            segment_bytes,
            map_bytes,
        };
        let notary = telling(py, progress, |progress| {
            let service = Service::new(network_id, mode, worker, &worker_certificate)?;
            Notary::open_telling(&directory, options, rules, service, progress)
        });
        Ok(Self(Open::new(notary.map_err(notary_error)?)))
    }

    /// Decides nothing from now on; what is in the log is proven as before.
    fn hold(&self, py: Python<'_>, why: String) -> PyResult<()> {
        let notary = self.0.get()?;
        py.detach(|| notary.hold(&why));
        Ok(())
    }

    /// (caller identity, `notary.v1.NotarisationRequest`) each: section 7 up to the contracts. Changes nothing.
    fn check(
        &self,
        py: Python<'_>,
        requests: Vec<(PyBackedBytes, PyBackedBytes)>,
    ) -> PyResult<PyNotaryBatch> {
        let notary = self.0.get()?;
        let requests: Vec<_> = requests
            .iter()
            .map(|(caller, bytes)| Request { caller, bytes })
            .collect();
        let checked = py.detach(|| notary.check(&requests));
        let checked = checked.map_err(notary_error)?;
        let mut to_verify = Vec::with_capacity(checked.to_verify.len());
        for (index, proposal) in &checked.to_verify {
            to_verify.push((*index, Py::new(py, PyChecked::new(py, proposal)?)?));
        }
        Ok(PyNotaryBatch {
            prepared: Mutex::new(Some(checked.prepared)),
            to_verify,
        })
    }

    /// Decides the batch: conflicts, windows, one durable record, one signature.
    fn decide<'py>(
        &self,
        py: Python<'py>,
        batch: &PyNotaryBatch,
        refusals: &Bound<'py, PyMapping>,
        now_ns: i64,
    ) -> PyResult<Bound<'py, PyList>> {
        let notary = self.0.get()?;
        let refusals = refusals.items()?.iter().map(|item| {
            let (index, sentences): (usize, (Bound<'_, PyString>, Bound<'_, PyString>)) =
                item.extract()?;
            // A contract may quote what is no Unicode; that must not cost the other requests their answers.
            let [code, message] =
                [sentences.0, sentences.1].map(|sentence| sentence.to_string_lossy().into_owned());
            Ok((index, ContractRefusal { code, message }))
        });
        let refusals = refusals.collect::<PyResult<HashMap<_, _>>>()?;
        let prepared = batch.take()?;
        let replies = py.detach(|| notary.decide(prepared, &refusals, now_ns));
        list(py, &replies.map_err(notary_error)?)
    }

    /// (finality proof, never): what became of a transaction whose window ends at `until_ns`.
    fn status<'py>(
        &self,
        py: Python<'py>,
        transaction_id: PyBackedBytes,
        until_ns: i64,
        now_ns: i64,
    ) -> PyResult<(Option<Bound<'py, PyBytes>>, bool)> {
        let id = exactly(&transaction_id, "a transaction id")?;
        let notary = self.0.get()?;
        let status = py.detach(|| notary.status(&id, until_ns, now_ns));
        Ok(match status.map_err(notary_error)? {
            Status::Notarised(proof) => (Some(PyBytes::new(py, &proof)), false),
            Status::Never => (None, true),
            Status::Unknown => (None, false),
        })
    }

    /// Who consumed a state (36 bytes) or a claim (32); None when nobody did here.
    fn who_spent<'py>(
        &self,
        py: Python<'py>,
        subject: PyBackedBytes,
    ) -> PyResult<Option<SpentTuple<'py>>> {
        let notary = self.0.get()?;
        let spent = match subject.len() {
            32 => {
                let claim = exactly(&subject, "a claim")?;
                py.detach(|| notary.who_spent(Subject::Claim(&claim)))
            }
            _ => {
                let state = exactly(&subject, "a state reference (a claim has 32 bytes)")?;
                py.detach(|| notary.who_spent(Subject::State(&state)))
            }
        };
        let spent = spent.map_err(notary_error)?;
        spent.map(|spent| spent_tuple(py, &spent)).transpose()
    }

    /// For each state reference SHA-256 of the id that consumed it here; empty for one that is not consumed here.
    fn consumer_hashes<'py>(
        &self,
        py: Python<'py>,
        states: Vec<PyBackedBytes>,
    ) -> PyResult<Bound<'py, PyList>> {
        let notary = self.0.get()?;
        let states = states
            .iter()
            .map(|state| exactly(state, "a state reference"))
            .collect::<PyResult<Vec<_>>>()?;
        let hashes = py.detach(|| notary.consumer_hashes(&states));
        let hashes: Vec<Vec<u8>> = hashes
            .map_err(notary_error)?
            .into_iter()
            .map(|hash| hash.map_or_else(Vec::new, |hash| hash.to_vec()))
            .collect();
        list(py, &hashes)
    }

    #[getter]
    fn sequence(&self) -> PyResult<u64> {
        Ok(self.0.get()?.sequence())
    }

    /// A snapshot of the index beside running decisions; returns the record that it shows.
    fn take_snapshot(&self, py: Python<'_>) -> PyResult<u64> {
        let notary = self.0.get()?;
        py.detach(|| notary.take_snapshot()).map_err(notary_error)
    }

    /// Counters of the log and its index, as those of a `Store`.
    fn store_stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        store_counters(py, &self.0.get()?.store_stats())
    }

    /// Counters since the opening.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let stats = self.0.get()?.stats();
        counters(
            py,
            &[
                ("batches", stats.batches),
                ("accepted", stats.accepted),
                ("refused", stats.refused),
                ("repeated", stats.repeated),
                ("unproven", stats.unproven),
                ("appends", stats.appends),
                ("sync_ns_total", stats.sync_ns_total),
                ("decide_ns_total", stats.decide_ns_total),
                ("signatures_verified", stats.signatures_verified),
                ("root_signatures", stats.root_signatures),
            ],
        )
    }

    /// Syncs the index and marks the shutdown clean. Repeating it does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        match self.0.take() {
            Some(notary) => py.detach(move || notary.close()).map_err(notary_error),
            None => Ok(()),
        }
    }
}

/// Adds what this file binds.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyNotaryBatch>()?;
    module.add_class::<PyNotary>()
}
