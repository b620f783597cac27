//! A small network for tests: one notary, a few parties, transactions with proofs.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::result_large_err
)]

pub mod unseen;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use p2pet_core::certificate::certify_worker;
use p2pet_core::check::{Parameters, Rules, verify_finality};
use p2pet_core::component::StateRef;
use p2pet_core::finality::{FinalityProof, RootMessage, VERIFYING};
use p2pet_core::hash::{Digest, sha256};
use p2pet_core::keys::SigningKey;
use p2pet_core::proofs::input_proof;
use p2pet_core::request::request_digest;
use p2pet_core::signature::Purpose;
use p2pet_core::transaction::Transaction;
use p2pet_core::wire::{Reader, Writer};
use p2pet_notary::{Notary, NotaryError, Request, Service};
use p2pet_view::Options;

pub const NETWORK: [u8; 32] = [9; 32];
pub const PARAMETERS: [u8; 32] = [8; 32];
pub const NOW: i64 = 1_800_000_000_000_000_000;
pub const OPTIONS: Options = Options {
    segment_bytes: 1 << 20,
    map_bytes: 1 << 30,
};
/// Records of a new log before the first decision: the worker's certificate.
pub const OPENED: u64 = 1;
pub const OPEN: (i64, i64) = (i64::MIN, i64::MAX);

pub fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&sha256(&[number]))
}

/// The key that signs and asks for every transaction unless a test says otherwise.
pub fn alice() -> SigningKey {
    key(1)
}

pub fn service_key() -> [u8; 32] {
    key(200).public()
}

pub fn notaries() -> HashMap<[u8; 32], u8> {
    HashMap::from([
        (service_key(), VERIFYING),
        (key(202).public(), VERIFYING),
        (key(203).public(), 2),
    ])
}

pub fn rules() -> Arc<Rules> {
    let parameters = Parameters {
        notaries: notaries(),
        transaction_bytes_max: 200_000,
        inputs_max: 64,
    };
    Arc::new(Rules::new(
        NETWORK,
        HashMap::from([(PARAMETERS, parameters)]),
    ))
}

pub fn service_valid(not_before_ns: i64, not_after_ns: i64) -> Service {
    service_of(key(201), not_before_ns, not_after_ns)
}

/// The service with a worker of another key.
pub fn service_of(worker: SigningKey, not_before_ns: i64, not_after_ns: i64) -> Service {
    let worker = Arc::new(worker);
    let certificate = certify_worker(
        &key(200),
        &NETWORK,
        &worker.public(),
        not_before_ns,
        not_after_ns,
    );
    Service::new(NETWORK, VERIFYING, worker, &certificate).unwrap()
}

pub fn service() -> Service {
    service_valid(0, i64::MAX)
}

pub fn open(directory: &Path) -> Notary {
    open_as(directory, service())
}

pub fn open_as(directory: &Path, service: Service) -> Notary {
    Notary::open(directory, OPTIONS, rules(), service).unwrap()
}

/// A transaction to be.
pub struct Draft<'f> {
    pub number: u64,
    pub inputs: Vec<(&'f Final, u32)>,
    pub references: Vec<(&'f Final, u32)>,
    pub outputs: u32,
    pub claims: Vec<[u8; 32]>,
    pub window: (i64, i64),
    pub notary: [u8; 32],
    pub signers: Vec<SigningKey>,
    pub payload: Vec<u8>,
}

/// Two drafts of different numbers differ.
pub fn draft<'f>(number: u64) -> Draft<'f> {
    Draft {
        number,
        inputs: vec![],
        references: vec![],
        outputs: 1,
        claims: vec![],
        window: OPEN,
        notary: service_key(),
        signers: vec![alice()],
        payload: b"state".to_vec(),
    }
}

/// A draft that spends these outputs.
pub fn spend<'f>(number: u64, inputs: &[(&'f Final, u32)]) -> Draft<'f> {
    Draft {
        inputs: inputs.to_vec(),
        ..draft(number)
    }
}

/// A transaction with all signatures and proofs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub transaction: Vec<u8>,
    pub proposal: Vec<u8>,
    pub id: Digest,
    pub inputs: Vec<[u8; 36]>,
}

/// A notarised transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Final {
    pub transaction: Vec<u8>,
    pub id: Digest,
    pub proof: Vec<u8>,
}

pub fn state_ref(id: &Digest, index: u32) -> [u8; 36] {
    [&id[..], &index.to_be_bytes()].concat().try_into().unwrap()
}

impl Draft<'_> {
    pub fn sign(&self) -> Signed {
        self.sign_by(&self.signers.iter().collect::<Vec<_>>())
    }

    pub fn sign_by(&self, signers: &[&SigningKey]) -> Signed {
        let salt = sha256(&self.number.to_be_bytes());
        let refs = |states: &[(&Final, u32)]| -> Vec<[u8; 36]> {
            states
                .iter()
                .map(|(f, index)| state_ref(&f.id, *index))
                .collect()
        };
        let inputs = refs(&self.inputs);
        let mut groups: Vec<Vec<Vec<u8>>> = vec![vec![]; 12];
        groups[0] = inputs.iter().map(|r| r.to_vec()).collect();
        groups[1] = refs(&self.references).iter().map(|r| r.to_vec()).collect();
        groups[2] = (0..self.outputs).map(|n| self.output(n)).collect();
        groups[3] = vec![self.command()];
        groups[4] = vec![signers_component(&self.signers)];
        groups[6] = vec![self.notary.to_vec()];
        if self.window != OPEN {
            groups[7] = vec![[self.window.0.to_be_bytes(), self.window.1.to_be_bytes()].concat()];
        }
        groups[8] = vec![PARAMETERS.to_vec()];
        groups[9] = vec![vec![1]];
        groups[10] = self.claims.iter().map(|claim| claim.to_vec()).collect();
        let views: Vec<Vec<&[u8]>> = groups
            .iter()
            .map(|g| g.iter().map(Vec::as_slice).collect())
            .collect();
        let built = Transaction::from_parts(&salt, &views).unwrap();
        let (transaction, id) = (built.encode(), built.id());
        let mut writer = Writer::default();
        writer.bytes(1, &transaction);
        for signer in signers {
            let signature = signer.sign(&NETWORK, Purpose::Transaction, &id);
            writer.message(2, |entry| {
                entry
                    .bytes(1, &signer.public())
                    .uint(2, 1)
                    .bytes(3, &signature);
            });
        }
        for (creator, index) in self.inputs.iter().chain(&self.references) {
            writer.entry(
                3,
                &input_proof(&creator.transaction, *index, &creator.proof).unwrap(),
            );
        }
        Signed {
            transaction,
            proposal: writer.finish(),
            id,
            inputs,
        }
    }

    fn output(&self, number: u32) -> Vec<u8> {
        let mut writer = Writer::default();
        let payload = [&self.payload[..], &number.to_be_bytes()].concat();
        writer
            .bytes(1, b"energy")
            .uint(2, 1)
            .bytes(3, &self.notary)
            .bytes(4, b"energy.Lot")
            .uint(5, 1)
            .bytes(6, &payload);
        writer.finish()
    }

    fn command(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer
            .bytes(1, b"energy")
            .bytes(2, b"energy.Move")
            .uint(3, 1)
            .bytes(4, &self.payload);
        writer.finish()
    }
}

fn signers_component(signers: &[SigningKey]) -> Vec<u8> {
    let mut keys: Vec<_> = signers.iter().map(SigningKey::public).collect();
    keys.sort_unstable();
    keys.iter()
        .flat_map(|key| [&[0, 32], &key[..]].concat())
        .collect()
}

impl Signed {
    /// The request by alice.
    pub fn request(&self) -> Vec<u8> {
        self.request_of(&alice(), &self.inputs, &self.id, &alice().public())
    }

    /// A request that `signer` signed over `inputs` and `id` and that says to be by `caller`.
    pub fn request_of(
        &self,
        signer: &SigningKey,
        inputs: &[[u8; 36]],
        id: &Digest,
        caller: &[u8; 32],
    ) -> Vec<u8> {
        let refs: Vec<_> = inputs
            .iter()
            .map(|bytes| StateRef::decode(bytes).unwrap())
            .collect();
        let signature = signer.sign(
            &NETWORK,
            Purpose::NotarisationRequest,
            &request_digest(&refs, id),
        );
        let mut writer = Writer::default();
        writer
            .bytes(1, &self.proposal)
            .bytes(2, caller)
            .uint(3, 1)
            .bytes(4, &signature);
        writer.finish()
    }

    pub fn finalised(&self, proof: &[u8]) -> Final {
        Final {
            transaction: self.transaction.clone(),
            id: self.id,
            proof: proof.to_vec(),
        }
    }
}

/// A decoded `notary.v1.NotaryError`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: String,
    pub message: String,
    pub cause: String,
    /// (kind, subject, SHA-256 of the consumer's id).
    pub conflicts: Vec<(u32, Vec<u8>, Digest)>,
    pub missing_keys: Vec<Vec<u8>>,
    pub times: (i64, i64, i64),
}

pub type Reply = Result<Vec<u8>, Refused>;

pub fn decode_reply(bytes: &[u8]) -> Reply {
    let mut reader = Reader::new(bytes, "NotarisationReply");
    let proof = reader.bytes(1).unwrap();
    if !proof.is_empty() {
        reader.finish().unwrap();
        return Ok(proof.to_vec());
    }
    let error = reader.message(2).unwrap();
    reader.finish().unwrap();
    let mut reader = Reader::new(error, "NotaryError");
    let mut refused = Refused {
        code: reader.string(1).unwrap().to_owned(),
        message: reader.string(2).unwrap().to_owned(),
        cause: reader.string(3).unwrap().to_owned(),
        conflicts: vec![],
        missing_keys: vec![],
        times: (0, 0, 0),
    };
    while let Some(entry) = reader.repeated(4).unwrap() {
        let mut conflict = Reader::new(entry, "Conflict");
        let kind = conflict.uint32(1).unwrap();
        let subject = conflict.bytes(2).unwrap().to_vec();
        refused
            .conflicts
            .push((kind, subject, *conflict.array(3).unwrap()));
        conflict.finish().unwrap();
    }
    while let Some(key) = reader.repeated(5).unwrap() {
        refused.missing_keys.push(key.to_vec());
    }
    refused.times = (
        reader.int64(6).unwrap(),
        reader.int64(7).unwrap(),
        reader.int64(8).unwrap(),
    );
    reader.finish().unwrap();
    Err(refused)
}

/// Checks and decides raw requests by alice's connection in one batch.
pub fn decide(notary: &Notary, requests: &[Vec<u8>], now_ns: i64) -> Vec<Reply> {
    try_decide(notary, requests, now_ns).unwrap()
}

/// The same where the disk may refuse, with nothing decided.
pub fn try_decide(
    notary: &Notary,
    requests: &[Vec<u8>],
    now_ns: i64,
) -> Result<Vec<Reply>, NotaryError> {
    let caller = alice().public();
    let requests: Vec<_> = requests
        .iter()
        .map(|bytes| Request {
            caller: &caller,
            bytes,
        })
        .collect();
    let batch = notary.check(&requests)?;
    let replies = notary.decide(batch.prepared, &HashMap::new(), now_ns)?;
    assert_eq!(replies.len(), requests.len());
    Ok(replies.iter().map(|reply| decode_reply(reply)).collect())
}

/// Decides transactions in one batch.
pub fn notarise(notary: &Notary, transactions: &[&Signed]) -> Vec<Reply> {
    let requests: Vec<_> = transactions.iter().map(|signed| signed.request()).collect();
    decide(notary, &requests, NOW)
}

/// Decides one transaction, which must be accepted with a proof that verifies.
pub fn finalise(notary: &Notary, signed: &Signed) -> Final {
    let proof = notarise(notary, &[signed]).remove(0).unwrap();
    verify(signed, &proof);
    signed.finalised(&proof)
}

/// An issued transaction with that many outputs.
pub fn issue(notary: &Notary, number: u64, outputs: u32) -> Final {
    let draft = Draft {
        outputs,
        ..draft(number)
    };
    finalise(notary, &draft.sign())
}

/// Verifies a proof as anybody would, offline.
pub fn verify(signed: &Signed, proof: &[u8]) {
    let id = verify_finality(
        &NETWORK,
        &signed.transaction,
        proof,
        &PARAMETERS,
        &notaries(),
    )
    .unwrap();
    assert_eq!(id, signed.id);
}

/// What the notary signed in a proof.
pub fn root(proof: &[u8]) -> RootMessage {
    FinalityProof::decode(proof).unwrap().batch.root
}

pub fn conflict(kind: u32, subject: &[u8], consumer: &Signed) -> (u32, Vec<u8>, Digest) {
    (kind, subject.to_vec(), sha256(&consumer.id))
}

/// The same for a consumer of which only the id is known.
pub fn conflict_of(kind: u32, subject: &[u8], consumer: &Digest) -> (u32, Vec<u8>, Digest) {
    (kind, subject.to_vec(), sha256(consumer))
}
