//! The order between requests: repeats, contracts, conflicts, windows.

use std::collections::HashMap;

use p2pet_core::Digest;
use p2pet_core::component::TimeWindow;
use p2pet_core::hash::sha256;

use crate::batch::{Header, Item, PreparedBatch, Wanted};
use crate::clock::Reading;
use crate::error::NotaryError;
use crate::index::{Lookup, Place};
use crate::record::{Accepted, Claim, Ref, Refused};
use crate::reply::{Answer, Conflict, Kind};

/// What a contract said of a transaction that it refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractRefusal {
    /// The rule's code.
    pub code: String,
    /// One sentence.
    pub message: String,
}

/// What became of one request.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Accepted by an earlier record.
    Repeat(Digest, Place),
    /// Accepted in this batch; the position among the accepted.
    Accepted(u32),
    /// Accepted earlier in this batch.
    RepeatInBatch(u32),
    Refused(Answer),
}

/// The state of one decision; what it accepts stands in `accepted`, in order, and nowhere else yet.
pub(crate) struct Decision<'l, 'v> {
    reading: Reading,
    lookup: &'l mut Lookup<'v>,
    accepted: Vec<Wanted>,
    refused: Vec<Refused>,
    ids: HashMap<Digest, u32>,
    states: HashMap<Ref, u32>,
    claims: HashMap<Claim, u32>,
}

impl<'l, 'v> Decision<'l, 'v> {
    /// A decision at one clock reading.
    pub(crate) fn new(reading: Reading, lookup: &'l mut Lookup<'v>) -> Self {
        Self {
            reading,
            lookup,
            accepted: Vec::new(),
            refused: Vec::new(),
            ids: HashMap::new(),
            states: HashMap::new(),
            claims: HashMap::new(),
        }
    }

    /// Decides every request in order.
    pub(crate) fn run(
        &mut self,
        batch: PreparedBatch,
        refusals: &HashMap<usize, ContractRefusal>,
    ) -> Result<Vec<Outcome>, NotaryError> {
        let items = batch.items.into_iter().enumerate();
        items
            .map(|(position, item)| self.decide(item, refusals.get(&position)))
            .collect()
    }

    fn decide(
        &mut self,
        item: Item,
        contract: Option<&ContractRefusal>,
    ) -> Result<Outcome, NotaryError> {
        match item {
            Item::Decided(id, place) => Ok(Outcome::Repeat(id, place)),
            Item::Refused(header, answer) => Ok(self.refuse(header, answer)),
            Item::Open(wanted) => self.decide_open(*wanted, contract),
        }
    }

    /// 1. accepted earlier in this batch, or by a record since the check: a repeat; 2. the contracts; 3. conflicts,
    ///    which outrank 4. the window, for which the clock must be right; 5. accepted.
    fn decide_open(
        &mut self,
        wanted: Wanted,
        contract: Option<&ContractRefusal>,
    ) -> Result<Outcome, NotaryError> {
        // 1.
        let id = wanted.header.id;
        if let Some(index) = self.ids.get(&id) {
            return Ok(Outcome::RepeatInBatch(*index));
        }
        if let Some(place) = self.lookup.id(&id)? {
            return Ok(Outcome::Repeat(id, place));
        }
        // 2.
        let header = Some(wanted.header);
        if let Some(ContractRefusal { code, message }) = contract {
            let answer = Answer::Invalid {
                cause: code.clone(),
                message: message.clone(),
                missing_keys: Vec::new(),
            };
            return Ok(self.refuse(header, answer));
        }
        // 3.
        let conflicts = self.conflicts(&wanted)?;
        if !conflicts.is_empty() {
            return Ok(self.refuse(header, Answer::Conflict(conflicts)));
        }
        // 4.
        if let Some(answer) = self.at_another_time(wanted.window) {
            return Ok(self.refuse(header, answer));
        }
        // 5.
        Ok(self.accept(wanted))
    }

    /// Why a transaction with this window cannot be accepted at this reading; an internal answer decides nothing.
    ///
    /// A clock that is behind the last decision says nothing of a window: it may be the one that is right.
    fn at_another_time(&self, window: TimeWindow) -> Option<Answer> {
        let Reading {
            at_ns,
            behind,
            trouble,
        } = &self.reading;
        if let Some(trouble) = trouble {
            return Some(Answer::Internal(trouble.clone()));
        }
        let now_ns = *at_ns;
        if !window.contains(now_ns) {
            return Some(Answer::Window { now_ns, window });
        }
        (*behind && window != TimeWindow::OPEN).then(|| {
            let text =
                "the notary's clock is behind its last decision; ask again when it has caught up";
            Answer::Internal(text.to_owned())
        })
    }

    fn conflicts(&mut self, wanted: &Wanted) -> Result<Vec<Conflict>, NotaryError> {
        let mut conflicts = Vec::new();
        for (kind, states) in [
            (Kind::Input, &wanted.inputs),
            (Kind::Reference, &wanted.references),
        ] {
            for state in states {
                let earlier = self.states.get(state).copied();
                let before = if earlier.is_none() {
                    self.lookup.state(state)?
                } else {
                    None
                };
                conflicts.extend(self.conflict(kind, state, earlier, before)?);
            }
        }
        for claim in &wanted.claims {
            let earlier = self.claims.get(claim).copied();
            let before = if earlier.is_none() {
                self.lookup.claim(claim)?
            } else {
                None
            };
            conflicts.extend(self.conflict(Kind::Claim, claim, earlier, before)?);
        }
        Ok(conflicts)
    }

    /// The conflict with a consumer earlier in this batch, or in a record before it.
    fn conflict(
        &mut self,
        kind: Kind,
        subject: &[u8],
        earlier: Option<u32>,
        before: Option<Place>,
    ) -> Result<Option<Conflict>, NotaryError> {
        let in_batch = earlier.and_then(|index| self.accepted.get(index as usize));
        let consumer = match (in_batch, before) {
            (Some(wanted), _) => wanted.header.id,
            (None, Some(place)) => self.lookup.id_at(place)?,
            (None, None) => return Ok(None),
        };
        Ok(Some(Conflict {
            kind,
            subject: subject.to_vec(),
            consumer_hash: sha256(&consumer),
        }))
    }

    fn accept(&mut self, wanted: Wanted) -> Outcome {
        // A batch has at most BATCH_MAX requests.
        let index = u32::try_from(self.accepted.len()).unwrap_or(u32::MAX);
        self.ids.insert(wanted.header.id, index);
        self.states
            .extend(wanted.inputs.iter().map(|state| (*state, index)));
        self.claims
            .extend(wanted.claims.iter().map(|claim| (*claim, index)));
        self.accepted.push(wanted);
        Outcome::Accepted(index)
    }

    fn refuse(&mut self, header: Option<Header>, answer: Answer) -> Outcome {
        if let (Some(header), Some(verdict)) = (header, answer.verdict()) {
            self.refused.push(Refused {
                id: header.id,
                caller: header.caller,
                verdict,
                signature: header.signature,
            });
        }
        Outcome::Refused(answer)
    }

    /// The refused headers, to be logged with this record or a later one.
    pub(crate) fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// What is accepted, in order.
    pub(crate) fn accepted(&self) -> Vec<Accepted<'_>> {
        let accepted = self.accepted.iter().map(|wanted| Accepted {
            id: &wanted.header.id,
            caller: &wanted.header.caller,
            inputs: &wanted.inputs,
            references: &wanted.references,
            claims: &wanted.claims,
            signature: &wanted.header.signature,
        });
        accepted.collect()
    }
}
