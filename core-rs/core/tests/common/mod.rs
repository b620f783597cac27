//! A small network for tests: one notary with one worker, and transactions under it.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use p2pet_core::certificate::certify_worker;
use p2pet_core::check::{Parameters, Rules};
use p2pet_core::finality::{RootMessage, SignedRoot, VERIFYING, batch_tree};
use p2pet_core::hash::{Digest, sha256};
use p2pet_core::keys::SigningKey;
use p2pet_core::proofs::input_proof;
use p2pet_core::signature::Purpose;
use p2pet_core::transaction::{Group, Transaction};
use p2pet_core::wire::Writer;
use std::collections::HashMap;

pub const NETWORK: [u8; 32] = [9; 32];
pub const PARAMETERS: [u8; 32] = [8; 32];
pub const DECIDED_AT: i64 = 1_800_000_000_000_000_000;
pub const SEQUENCE: u64 = 77;

pub fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&sha256(&[number]))
}

pub fn service() -> SigningKey {
    key(200)
}

pub fn worker() -> SigningKey {
    key(201)
}

pub fn rules() -> Rules {
    Rules::new(NETWORK, versions())
}

pub fn versions() -> HashMap<Digest, Parameters> {
    let notaries = HashMap::from([
        (service().public(), VERIFYING),
        (key(202).public(), VERIFYING),
    ]);
    HashMap::from([(
        PARAMETERS,
        Parameters {
            notaries,
            transaction_bytes_max: 10_000,
            inputs_max: 8,
        },
    )])
}

/// A transaction under construction: owned components, group by group.
#[derive(Clone, Debug)]
pub struct Built {
    pub salt: Vec<u8>,
    pub groups: Vec<Vec<Vec<u8>>>,
}

impl Built {
    /// No inputs, `outputs` outputs, one command that each of `signers` must sign.
    pub fn issue(salt: u8, outputs: u8, signers: &[&SigningKey]) -> Self {
        let mut groups = vec![Vec::new(); 12];
        groups[2] = (0..outputs)
            .map(|number| output(&service().public(), &[b's', number]))
            .collect();
        groups[3] = vec![command(b"do")];
        groups[4] = vec![signers_component(signers)];
        groups[6] = vec![service().public().to_vec()];
        groups[8] = vec![PARAMETERS.to_vec()];
        groups[9] = vec![vec![1]];
        Self {
            salt: vec![salt; 32],
            groups,
        }
    }

    pub fn spend(salt: u8, inputs: &[Vec<u8>], signers: &[&SigningKey]) -> Self {
        let mut built = Self::issue(salt, 1, signers);
        built.groups[0] = inputs.to_vec();
        built
    }

    pub fn views(&self) -> Vec<Vec<&[u8]>> {
        self.groups
            .iter()
            .map(|group| group.iter().map(Vec::as_slice).collect())
            .collect()
    }

    pub fn bytes(&self) -> Vec<u8> {
        Transaction::from_parts(&self.salt, &self.views())
            .unwrap()
            .encode()
    }

    pub fn id(&self) -> Digest {
        Transaction::from_parts(&self.salt, &self.views())
            .unwrap()
            .id()
    }

    pub fn reference(&self, index: u32) -> Vec<u8> {
        [&self.id()[..], &index.to_be_bytes()].concat()
    }

    pub fn sign(&self, signer: &SigningKey) -> Signed {
        (
            signer.public().to_vec(),
            1,
            signer
                .sign(&NETWORK, Purpose::Transaction, &self.id())
                .to_vec(),
        )
    }

    pub fn proposal(&self, signers: &[&SigningKey], proofs: &[Vec<u8>]) -> Vec<u8> {
        let signatures: Vec<_> = signers.iter().map(|signer| self.sign(signer)).collect();
        self.proposal_with(&signatures, proofs)
    }

    pub fn proposal_with(&self, signatures: &[Signed], proofs: &[Vec<u8>]) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.bytes(1, &self.bytes());
        for (key, scheme, signature) in signatures {
            writer.message(2, |entry| {
                entry.bytes(1, key).uint(2, *scheme).bytes(3, signature);
            });
        }
        for proof in proofs {
            writer.entry(3, proof);
        }
        writer.finish()
    }

    /// The input proof of an output, by a batch that holds this transaction alone.
    pub fn proof(&self, index: u32) -> Vec<u8> {
        input_proof(
            &self.bytes(),
            index,
            &Notarised::default().proofs(&[self.id()])[0],
        )
        .unwrap()
    }
}

pub type Signed = (Vec<u8>, u64, Vec<u8>);

pub fn output(notary: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer
        .bytes(1, b"energy")
        .uint(2, 1)
        .bytes(3, notary)
        .bytes(4, b"energy.Lot")
        .uint(5, 1)
        .bytes(6, payload);
    writer.finish()
}

pub fn command(payload: &[u8]) -> Vec<u8> {
    let mut writer = Writer::default();
    writer
        .bytes(1, b"energy")
        .bytes(2, b"energy.Issue")
        .uint(3, 1)
        .bytes(4, payload);
    writer.finish()
}

pub fn signers_component(signers: &[&SigningKey]) -> Vec<u8> {
    let mut keys: Vec<_> = signers.iter().map(|signer| signer.public()).collect();
    keys.sort_unstable();
    keys.iter()
        .flat_map(|key| [&[0, 32], &key[..]].concat())
        .collect()
}

/// How a batch is decided and signed; the default is right, a test changes what it wants wrong.
pub struct Notarised {
    pub network: [u8; 32],
    pub notary: [u8; 32],
    pub mode: u8,
    pub decided_at_ns: i64,
    pub service: SigningKey,
    pub worker: SigningKey,
    pub certified: [u8; 32],
    pub not_before_ns: i64,
}

impl Default for Notarised {
    fn default() -> Self {
        Self {
            network: NETWORK,
            notary: service().public(),
            mode: VERIFYING,
            decided_at_ns: DECIDED_AT,
            service: service(),
            worker: worker(),
            certified: worker().public(),
            not_before_ns: DECIDED_AT - 1000,
        }
    }
}

impl Notarised {
    pub fn certificate(&self) -> Vec<u8> {
        certify_worker(
            &self.service,
            &self.network,
            &self.certified,
            self.not_before_ns,
            self.not_before_ns + 1_000_000,
        )
    }

    /// One finality proof for each id.
    pub fn proofs(&self, ids: &[Digest]) -> Vec<Vec<u8>> {
        let (root, paths) = batch_tree(ids);
        let root = RootMessage {
            notary: self.notary,
            mode: self.mode,
            sequence: SEQUENCE,
            decided_at_ns: self.decided_at_ns,
            count: ids.len() as u32,
            root,
        };
        let signature = root.sign(&self.worker, &self.network);
        let certificate = self.certificate();
        let signed = SignedRoot {
            root: &root,
            worker_certificate: &certificate,
            signature: &signature,
        };
        let numbered = ids.iter().zip(&paths).zip(0u32..);
        numbered
            .map(|((id, path), index)| signed.finality_proof(id, index, path))
            .collect()
    }
}

pub fn group_of(built: &Built, group: Group) -> &[Vec<u8>] {
    &built.groups[usize::from(group.number())]
}
