//! Domain-separated signatures, verified under ZIP-215 alone and in batches (section 4).

use crate::cache::Remembered;
use crate::error::Error;
use crate::hash::{Digest, sha256_parts};
use crate::keys::check_key;
use crate::wire::{KEY_BYTES, SIGNATURE_BYTES};
use chacha20::ChaCha12Rng;
use chacha20::rand_core::SeedableRng as _;
use ed25519_zebra::{Signature, VerificationKeyBytes, batch};
use std::collections::HashMap;

/// The first bytes of every message that is signed.
pub const DOMAIN: &[u8; 8] = b"p2pet/1\0";
/// Ed25519.
pub const SCHEME: u8 = 1;
/// Up to here checking one by one costs no more than a batch.
const SINGLES_MAX: usize = 3;

/// What a signature is for; its value stands in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Purpose {
    /// A transaction; the digest is its id.
    Transaction = 1,
    /// A notary batch; its message is that of section 5.
    NotaryBatch = 2,
    /// A notarisation request.
    NotarisationRequest = 3,
    /// A worker certificate.
    WorkerCertificate = 4,
    /// A node info.
    NodeInfo = 5,
    /// Network parameters.
    NetworkParameters = 6,
    /// Reserved.
    Bid = 7,
    /// Reserved.
    Receipt = 8,
    /// The unlocking of an output under a uniqueness-only notary; the digest is the id of the consuming transaction.
    Unlock = 9,
}

impl Purpose {
    /// The purposes whose message holds a digest: all but a notary batch.
    pub const WITH_DIGEST: [Self; 8] = [
        Self::Transaction,
        Self::NotarisationRequest,
        Self::WorkerCertificate,
        Self::NodeInfo,
        Self::NetworkParameters,
        Self::Bid,
        Self::Receipt,
        Self::Unlock,
    ];

    /// The purpose of a number; refused unless its message holds a digest.
    pub fn with_digest(number: u8) -> Result<Self, Error> {
        let found = Self::WITH_DIGEST
            .into_iter()
            .find(|purpose| *purpose as u8 == number);
        found.ok_or_else(|| {
            Error::malformed(format!(
                "{number} is not a purpose of signatures over a digest"
            ))
        })
    }
}

/// "p2pet/1" 0x00 ‖ u8 purpose ‖ u8 scheme ‖ network id ‖ digest.
#[must_use]
pub fn signed_message(network_id: &[u8; 32], purpose: Purpose, digest: &Digest) -> Vec<u8> {
    [&DOMAIN[..], &[purpose as u8, SCHEME], network_id, digest].concat()
}

/// Where the answer for one signature will stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ticket {
    /// Known without verification.
    Settled(bool),
    /// The position in the batch.
    Queued(usize),
}

/// Signatures that are verified together; equal ones, and those found valid before, cost nothing.
#[derive(Default)]
pub struct SignatureBatch<'c> {
    memory: Option<&'c Remembered>,
    items: Vec<batch::Item>,
    fingerprints: Vec<Digest>,
    positions: HashMap<Digest, usize>,
}

/// The answers of a batch.
pub struct Verdicts(Vec<bool>);

impl Verdicts {
    /// Whether the signature of a ticket of this batch is valid.
    #[must_use]
    pub fn holds(&self, ticket: Ticket) -> bool {
        match ticket {
            Ticket::Settled(valid) => valid,
            Ticket::Queued(position) => self.0.get(position).copied().unwrap_or(false),
        }
    }
}

impl<'c> SignatureBatch<'c> {
    /// A batch that consults `memory`, and tells it what it finds valid.
    #[must_use]
    pub fn remembering(memory: &'c Remembered) -> Self {
        Self {
            memory: Some(memory),
            ..Self::default()
        }
    }

    /// How many signatures will really be verified.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing is left to verify.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Queues one signature. A key that `check_key` refuses makes it invalid.
    pub fn push(
        &mut self,
        key: &[u8; KEY_BYTES],
        message: &[u8],
        signature: &[u8; SIGNATURE_BYTES],
    ) -> Ticket {
        if check_key(key).is_err() {
            return Ticket::Settled(false);
        }
        let fingerprint = sha256_parts(&[key, signature, message]);
        if self
            .memory
            .is_some_and(|memory| memory.contains(&fingerprint))
        {
            return Ticket::Settled(true);
        }
        let position = *self.positions.entry(fingerprint).or_insert_with(|| {
            let parsed = Signature::from_bytes(signature);
            self.items.push(batch::Item::from((
                VerificationKeyBytes::from(*key),
                parsed,
                message,
            )));
            self.fingerprints.push(fingerprint);
            self.items.len() - 1
        });
        Ticket::Queued(position)
    }

    /// Verifies everything; a signature that is not valid never changes the answer for another.
    #[must_use]
    pub fn verify(self) -> Verdicts {
        let mut verdicts = vec![false; self.items.len()];
        let mut seed = [0; 32];
        match getrandom::fill(&mut seed) {
            Ok(()) => {
                bisect(
                    &self.items,
                    &mut verdicts,
                    false,
                    &mut ChaCha12Rng::from_seed(seed),
                );
            }
            // Batch coefficients that can be guessed prove nothing.
            Err(_) => {
                singly(&self.items, &mut verdicts);
            }
        }
        if let Some(memory) = self.memory {
            let valid = self
                .fingerprints
                .iter()
                .zip(&verdicts)
                .filter(|(_, valid)| **valid);
            memory.extend(valid.map(|(fingerprint, _)| *fingerprint));
        }
        Verdicts(verdicts)
    }
}

/// Fills in the answers; tells whether all are valid. `flawed`: it is known that one is not.
fn bisect(
    items: &[batch::Item],
    verdicts: &mut [bool],
    flawed: bool,
    rng: &mut ChaCha12Rng,
) -> bool {
    if items.len() <= SINGLES_MAX {
        return singly(items, verdicts);
    }
    if !flawed && holds_together(items, rng) {
        verdicts.fill(true);
        return true;
    }
    let middle = items.len() / 2;
    let (left, right) = items.split_at(middle);
    let (verdicts_left, verdicts_right) = verdicts.split_at_mut(middle);
    let left_valid = bisect(left, verdicts_left, false, rng);
    bisect(right, verdicts_right, left_valid, rng) && left_valid
}

fn holds_together(items: &[batch::Item], rng: &mut ChaCha12Rng) -> bool {
    let mut verifier = batch::Verifier::new();
    items.iter().for_each(|item| verifier.queue(item.clone()));
    verifier.verify(rng).is_ok()
}

fn singly(items: &[batch::Item], verdicts: &mut [bool]) -> bool {
    for (item, verdict) in items.iter().zip(verdicts.iter_mut()) {
        *verdict = item.clone().verify_single().is_ok();
    }
    verdicts.iter().all(|verdict| *verdict)
}

/// Whether one signature is valid: the rule that batches apply too.
#[must_use]
pub fn verify(key: &[u8; KEY_BYTES], message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
    let parsed = Signature::from_bytes(signature);
    let item = batch::Item::from((VerificationKeyBytes::from(*key), parsed, message));
    check_key(key).is_ok() && item.verify_single().is_ok()
}
