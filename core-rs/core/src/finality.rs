//! The notary's batch: root message, paths, worker certificates and finality proofs (sections 5 and 6).

use crate::certificate::{WorkerCertificate, read_scheme};
use crate::component::TimeWindow;
use crate::error::Error;
use crate::hash::{Digest, sha256_parts};
use crate::keys::SigningKey;
use crate::merkle::{self, all_paths, recompute};
use crate::signature::{DOMAIN, Purpose, SCHEME, SignatureBatch, Ticket, Verdicts};
use crate::tearoff::read_siblings;
use crate::wire::{KEY_BYTES, PATH_MAX, Reader, SIGNATURE_BYTES, Writer};

/// A notary that runs the contracts.
pub const VERIFYING: u8 = 1;
/// A notary that sees uniqueness only.
pub const UNIQUENESS_ONLY: u8 = 2;

/// What a notary signs once for a whole batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootMessage {
    /// The service key.
    pub notary: [u8; KEY_BYTES],
    /// `VERIFYING` or `UNIQUENESS_ONLY`.
    pub mode: u8,
    /// The number of the record in the notary's log that decided the batch.
    pub sequence: u64,
    /// When it decided, in UTC nanoseconds.
    pub decided_at_ns: i64,
    /// The ids in the batch.
    pub count: u32,
    /// The root over them.
    pub root: Digest,
}

impl RootMessage {
    /// The bytes that the worker signs.
    #[must_use]
    pub fn message(&self, network_id: &[u8; 32]) -> Vec<u8> {
        [
            &DOMAIN[..],
            &[Purpose::NotaryBatch as u8, SCHEME],
            network_id,
            &self.notary,
            &[self.mode],
            &self.sequence.to_be_bytes(),
            &self.decided_at_ns.to_be_bytes(),
            &self.count.to_be_bytes(),
            &self.root,
        ]
        .concat()
    }

    /// The worker's signature over it.
    #[must_use]
    pub fn sign(&self, worker: &SigningKey, network_id: &[u8; 32]) -> [u8; SIGNATURE_BYTES] {
        worker.sign_message(&self.message(network_id))
    }

    fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes, "RootMessage");
        let notary = *reader.array(1)?;
        let mode = match reader.uint32(2)? {
            1 => VERIFYING,
            2 => UNIQUENESS_ONLY,
            mode => {
                return Err(reader.refuse(2, &format!("is {mode}, which is no mode of a notary")));
            }
        };
        let sequence = reader.uint64(3)?;
        let decided_at_ns = reader.int64(4)?;
        let count = reader.uint32(5)?;
        let root = *reader.array(6)?;
        reader.finish()?;
        Ok(Self {
            notary,
            mode,
            sequence,
            decided_at_ns,
            count,
            root,
        })
    }

    fn write(&self, writer: &mut Writer) {
        writer
            .bytes(1, &self.notary)
            .uint(2, u64::from(self.mode))
            .uint(3, self.sequence);
        writer
            .int64(4, self.decided_at_ns)
            .uint(5, u64::from(self.count))
            .bytes(6, &self.root);
    }
}

/// SHA-256(0x10 ‖ id).
#[must_use]
pub fn batch_leaf(id: &Digest) -> Digest {
    sha256_parts(&[&[0x10], id])
}

/// The root over a batch of ids in the order decided, and the path of each.
#[must_use]
pub fn batch_tree(ids: &[Digest]) -> (Digest, Vec<Vec<Digest>>) {
    let leaves: Vec<Digest> = ids.iter().map(batch_leaf).collect();
    all_paths(merkle::BATCH, &leaves)
}

/// What a notary hands out for one id of a batch.
#[derive(Debug, Clone, Copy)]
pub struct SignedRoot<'a> {
    /// The signed root.
    pub root: &'a RootMessage,
    /// The serialised certificate of the worker that signed.
    pub worker_certificate: &'a [u8],
    /// Its signature.
    pub signature: &'a [u8; SIGNATURE_BYTES],
}

impl SignedRoot<'_> {
    /// The canonical `ledger.v1.FinalityProof` of the id at `index`.
    #[must_use]
    pub fn finality_proof(&self, id: &Digest, index: u32, path: &[Digest]) -> Vec<u8> {
        let mut writer = Writer::with_capacity(512 + 34 * path.len());
        writer.bytes(1, id).message(2, |batch| {
            batch
                .message(1, |root| self.root.write(root))
                .uint(2, u64::from(index));
            for sibling in path {
                batch.entry(3, sibling);
            }
            batch
                .entry(4, self.worker_certificate)
                .uint(5, u64::from(SCHEME))
                .bytes(6, self.signature);
        });
        writer.finish()
    }
}

/// A decoded `ledger.v1.BatchProof`; nothing is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchProof<'a> {
    /// What the worker signed.
    pub root: RootMessage,
    /// The position of the id in the batch.
    pub index: u32,
    /// The worker's certificate.
    pub worker: WorkerCertificate<'a>,
    path: Vec<&'a Digest>,
    signature: &'a [u8; SIGNATURE_BYTES],
}

/// The tickets of the two signatures of a batch proof.
#[derive(Debug, Clone, Copy)]
pub struct BatchTickets {
    worker: Ticket,
    root: Ticket,
}

impl<'a> BatchProof<'a> {
    /// Decodes strictly.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes, "BatchProof");
        let root = RootMessage::decode(reader.message(1)?)?;
        let index = reader.uint32(2)?;
        let path = read_siblings(&mut reader, 3, PATH_MAX)?;
        let worker = WorkerCertificate::decode(reader.message(4)?)?;
        read_scheme(&mut reader, 5)?;
        let signature = reader.array(6)?;
        reader.finish()?;
        Ok(Self {
            root,
            index,
            worker,
            path,
            signature,
        })
    }

    /// Step 4 of section 6 without the signature: the certificate is of the root's notary and valid when it decided.
    pub fn check_worker(&self) -> Result<(), Error> {
        let (root, worker) = (&self.root, &self.worker);
        if *worker.service_key != root.notary {
            return Err(Error::proof(
                "finality.worker",
                "step 4: the worker is certified by another service key",
            ));
        }
        if root.decided_at_ns < worker.not_before_ns || root.decided_at_ns >= worker.not_after_ns {
            return Err(Error::proof(
                "finality.worker",
                "step 4: the decision lies outside the worker's certificate",
            ));
        }
        Ok(())
    }

    /// Step 5 of section 6 without the signature: the path from the id leads to the root.
    pub fn check_path(&self, id: &Digest) -> Result<(), Error> {
        let known = [(self.index, batch_leaf(id))];
        let root = recompute(merkle::BATCH, self.root.count, &known, &self.path)
            .map_err(|error| Error::proof("finality.path", format!("step 5: {error}")))?;
        if root != self.root.root {
            return Err(Error::proof(
                "finality.path",
                "step 5: the path leads to another root than the signed one",
            ));
        }
        Ok(())
    }

    /// Queues both signatures.
    pub fn queue(
        &self,
        network_id: &[u8; 32],
        signatures: &mut SignatureBatch<'_>,
    ) -> BatchTickets {
        let worker = self.worker.queue(network_id, signatures);
        let message = self.root.message(network_id);
        BatchTickets {
            worker,
            root: signatures.push(self.worker.worker_key, &message, self.signature),
        }
    }
}

impl BatchTickets {
    /// The signatures of steps 4 and 5.
    pub fn check(self, verdicts: &Verdicts) -> Result<(), Error> {
        if !verdicts.holds(self.worker) {
            return Err(Error::proof(
                "finality.worker",
                "step 4: the worker's certificate is not signed by its service",
            ));
        }
        if !verdicts.holds(self.root) {
            return Err(Error::proof(
                "finality.signature",
                "step 5: the root is not signed by the certified worker",
            ));
        }
        Ok(())
    }
}

/// A decoded `ledger.v1.FinalityProof`; nothing is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalityProof<'a> {
    /// The id that it is about.
    pub transaction_id: &'a Digest,
    /// The proof.
    pub batch: BatchProof<'a>,
    /// The serialised `BatchProof`.
    pub batch_bytes: &'a [u8],
}

impl<'a> FinalityProof<'a> {
    /// Decodes strictly.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes, "FinalityProof");
        let transaction_id = reader.array(1)?;
        let batch_bytes = reader.message(2)?;
        reader.finish()?;
        Ok(Self {
            transaction_id,
            batch: BatchProof::decode(batch_bytes)?,
            batch_bytes,
        })
    }
}

impl FinalityProof<'_> {
    /// Steps 2 to 6 of section 6 without the signatures, for a transaction of this id, notary and window.
    ///
    /// `mode` is the one with which the parameters that the transaction cites list that notary, `None` if they do not.
    pub fn check(
        &self,
        id: &Digest,
        notary: &[u8; KEY_BYTES],
        mode: Option<u8>,
        window: TimeWindow,
    ) -> Result<(), Error> {
        let root = &self.batch.root;
        if self.transaction_id != id {
            return Err(Error::proof(
                "finality.id",
                "step 2: the proof is about another transaction id",
            ));
        }
        if root.notary != *notary {
            return Err(Error::proof(
                "finality.notary",
                "step 3: the proof is by another notary than the transaction's",
            ));
        }
        if mode != Some(root.mode) {
            let text =
                "step 3: the network parameters do not list the notary with the mode of the proof";
            return Err(Error::proof("finality.notary", text));
        }
        self.batch.check_worker()?;
        self.batch.check_path(id)?;
        if !window.contains(root.decided_at_ns) {
            return Err(Error::proof(
                "finality.window",
                "step 6: the decision lies outside the transaction's window",
            ));
        }
        Ok(())
    }
}
