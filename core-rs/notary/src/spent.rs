//! Who consumed what: for the operator of the notary, from the log.

use p2pet_core::Digest;
use p2pet_core::hash::sha256;
use p2pet_core::wire::{KEY_BYTES, SIGNATURE_BYTES};

use crate::error::NotaryError;
use crate::notary::Notary;
use crate::record::{Claim, Ref};

/// The accepted request that consumed a state or a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spent {
    /// Id of the consuming transaction.
    pub transaction_id: Digest,
    /// Identity of the peer that asked for it.
    pub caller: [u8; KEY_BYTES],
    /// When it was decided.
    pub decided_at_ns: i64,
    /// The record that decided it.
    pub sequence: u64,
    /// Its position among those that the record accepted.
    pub index: u32,
    /// The caller's signature over `inputs` and the id (docs/protocol.md, section 7).
    pub request_signature: [u8; SIGNATURE_BYTES],
    /// All inputs of the request.
    pub inputs: Vec<Ref>,
}

/// What can be consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A state, consumed as an input.
    State(&'a Ref),
    /// A claim.
    Claim(&'a Claim),
}

impl Notary {
    /// The request that consumed it; None when nobody did here. Raises `Store`, `IndexContradicted`.
    pub fn who_spent(&self, subject: Subject<'_>) -> Result<Option<Spent>, NotaryError> {
        let lookup = self.lookup()?;
        let place = match subject {
            Subject::State(state) => lookup.state(state)?,
            Subject::Claim(claim) => lookup.claim(claim)?,
        };
        place.map(|place| lookup.spent(place)).transpose()
    }

    /// For each state SHA-256 of the id that consumed it here, None for one that is not consumed here: what a conflict
    /// tells, and no more. Raises `Store`, `IndexContradicted`; `Held` when it cannot know that one is not consumed.
    pub fn consumer_hashes(&self, states: &[Ref]) -> Result<Vec<Option<Digest>>, NotaryError> {
        let mut lookup = self.lookup()?;
        let mut hashes = Vec::with_capacity(states.len());
        for state in states {
            let hash = match lookup.state(state)? {
                Some(place) => Some(sha256(&lookup.id_at(place)?)),
                None => None,
            };
            hashes.push(hash);
        }
        match self.held() {
            Some(why) if hashes.contains(&None) => Err(NotaryError::Held(why.to_owned())),
            _ => Ok(hashes),
        }
    }
}
