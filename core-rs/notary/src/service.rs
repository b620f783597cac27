//! Who signs: the service that states name, and the worker that it certified.

use std::sync::Arc;

use p2pet_core::certificate::WorkerCertificate;
use p2pet_core::finality::{RootMessage, SignedRoot, UNIQUENESS_ONLY, VERIFYING, batch_leaf};
use p2pet_core::keys::SigningKey;
use p2pet_core::signature::SignatureBatch;
use p2pet_core::wire::KEY_BYTES;
use p2pet_core::{Digest, merkle};

use crate::error::NotaryError;
use crate::index::Decided;

/// A worker's key with the proof that its service certified it.
pub struct Service {
    network_id: [u8; 32],
    mode: u8,
    worker: Arc<SigningKey>,
    certificate: Vec<u8>,
    key: [u8; KEY_BYTES],
    not_before_ns: i64,
    not_after_ns: i64,
}

impl Service {
    /// Checks the serialised `ledger.v1.WorkerCertificate`:
    /// 1. it decodes; 2. it is of the worker's key; 3. the service key signed it. Raises `Certificate`,
    ///    `WrongCertificate`, `Mode`.
    pub fn new(
        network_id: [u8; 32],
        mode: u8,
        worker: Arc<SigningKey>,
        certificate: &[u8],
    ) -> Result<Self, NotaryError> {
        if mode != VERIFYING && mode != UNIQUENESS_ONLY {
            return Err(NotaryError::Mode(mode));
        }
        // 1.
        let decoded = WorkerCertificate::decode(certificate)?;
        // 2.
        if *decoded.worker_key != worker.public() {
            return Err(NotaryError::WrongCertificate("is of another worker's key"));
        }
        // 3.
        let mut signatures = SignatureBatch::default();
        let ticket = decoded.queue(&network_id, &mut signatures);
        if !signatures.verify().holds(ticket) {
            return Err(NotaryError::WrongCertificate(
                "is not signed by the service key that it names",
            ));
        }
        Ok(Self {
            network_id,
            mode,
            key: *decoded.service_key,
            not_before_ns: decoded.not_before_ns,
            not_after_ns: decoded.not_after_ns,
            certificate: certificate.to_vec(),
            worker,
        })
    }

    /// The service key that states and transactions name.
    pub fn key(&self) -> &[u8; KEY_BYTES] {
        &self.key
    }

    /// The network.
    pub fn network_id(&self) -> &[u8; 32] {
        &self.network_id
    }

    /// The mode with which the network's parameters must list the service.
    pub fn mode(&self) -> u8 {
        self.mode
    }

    /// The worker's certificate, serialised.
    pub(crate) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// The certificate that proves the worker's signature on what was decided at that time, under `in_force`.
    ///
    /// That one when it is of the key that the worker has today, so that a renewal changes no proof; else today's, if it
    /// covers the time. Raises `WrongCertificate` when neither does.
    pub(crate) fn certificate_for<'c>(
        &'c self,
        in_force: Option<&'c [u8]>,
        decided_at_ns: i64,
    ) -> Result<&'c [u8], NotaryError> {
        if let Some(bytes) = in_force {
            let decoded = WorkerCertificate::decode(bytes)?;
            let covers = (decoded.not_before_ns..decoded.not_after_ns).contains(&decided_at_ns);
            if covers && *decoded.worker_key == self.worker.public() {
                return Ok(bytes);
            }
        }
        if self.may_sign(decided_at_ns) {
            return Ok(&self.certificate);
        }
        Err(NotaryError::WrongCertificate(
            "does not cover the time of the decision, and the worker that decided had another key",
        ))
    }

    /// Whether the worker may sign what is decided at that time.
    pub(crate) fn may_sign(&self, decided_at_ns: i64) -> bool {
        (self.not_before_ns..self.not_after_ns).contains(&decided_at_ns)
    }

    /// Signs the root over a batch that is durable under that sequence; `certificate` goes with it.
    pub(crate) fn sign<'c>(
        &self,
        sequence: u64,
        decided: &Decided,
        certificate: &'c [u8],
    ) -> SignedBatch<'c> {
        let leaves: Vec<Digest> = decided.ids.iter().map(batch_leaf).collect();
        let root = RootMessage {
            notary: self.key,
            mode: self.mode,
            sequence,
            decided_at_ns: decided.decided_at_ns,
            count: u32::try_from(leaves.len()).unwrap_or(u32::MAX),
            root: merkle::root(merkle::BATCH, &leaves),
        };
        SignedBatch {
            certificate,
            signature: root.sign(&self.worker, &self.network_id),
            root,
            leaves,
            ids: decided.ids.clone(),
        }
    }
}

/// A signed root, ready to prove each of its ids.
pub(crate) struct SignedBatch<'s> {
    certificate: &'s [u8],
    signature: [u8; 64],
    root: RootMessage,
    leaves: Vec<Digest>,
    ids: Vec<Digest>,
}

impl SignedBatch<'_> {
    /// The serialised `ledger.v1.FinalityProof` of one id.
    pub(crate) fn prove(&self, id: &Digest, index: u32) -> Vec<u8> {
        let known: Vec<bool> = (0..self.root.count)
            .map(|position| position == index)
            .collect();
        self.finality_proof(
            id,
            index,
            &merkle::multiproof(merkle::BATCH, &self.leaves, &known),
        )
    }

    /// The proofs of all ids, in order.
    pub(crate) fn prove_all(&self) -> Vec<Vec<u8>> {
        let (_, paths) = merkle::all_paths(merkle::BATCH, &self.leaves);
        let each = self.ids.iter().zip(0u32..).zip(&paths);
        each.map(|((id, index), path)| self.finality_proof(id, index, path))
            .collect()
    }

    fn finality_proof(&self, id: &Digest, index: u32, path: &[Digest]) -> Vec<u8> {
        let signed = SignedRoot {
            root: &self.root,
            worker_certificate: self.certificate,
            signature: &self.signature,
        };
        signed.finality_proof(id, index, path)
    }
}
