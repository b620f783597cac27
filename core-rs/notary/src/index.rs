//! The uniqueness index: a view of the notary's log.
//!
//! An entry names the record and the place in it, not the transaction: the id stands in the log once, and a request
//! that conflicts is rare enough to read it there.

use std::collections::HashMap;

use p2pet_core::Digest;
use p2pet_log::{LogReader, Position};
use p2pet_view::{Apply, ApplyError, Range, Snapshot, Writer};

use crate::error::NotaryError;
use crate::record::{Claim, Entry, Record, Ref};
use crate::spent::Spent;

pub(crate) const IDS: u8 = 1;
pub(crate) const STATES: u8 = 2;
pub(crate) const CLAIMS: u8 = 3;
/// Only those that decided.
const RECORDS: u8 = 4;
pub(crate) const CERTIFICATES: u8 = 5;
/// Decided batches that a lookup keeps at hand, about 8 kB each.
const REMEMBERED_MAX: usize = 256;

/// Which entry of which record accepted a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) sequence: u64,
    pub(crate) index: u32,
}

impl Place {
    fn encode(self) -> [u8; 12] {
        pair(self.sequence.to_be_bytes(), self.index.to_be_bytes())
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (sequence, index) = bytes.split_first_chunk()?;
        Some(Self {
            sequence: u64::from_be_bytes(*sequence),
            index: u32::from_be_bytes(index.try_into().ok()?),
        })
    }
}

fn pair<const A: usize, const B: usize, const N: usize>(
    first: [u8; A],
    second: [u8; B],
) -> [u8; N] {
    let mut bytes = [0; N];
    for (slot, byte) in bytes.iter_mut().zip(first.into_iter().chain(second)) {
        *slot = byte;
    }
    bytes
}

/// Writes a record's consequences into the index.
pub(crate) struct Index;

impl Apply for Index {
    fn apply(
        &self,
        view: &mut Writer<'_>,
        (sequence, position): (u64, Position),
        payload: &[u8],
    ) -> Result<(), ApplyError> {
        let record = match Entry::decode(payload).map_err(ApplyError::Unknown)? {
            Entry::Batch(record) => record,
            Entry::Certificate(certificate) => {
                view.put(CERTIFICATES, &sequence.to_be_bytes(), certificate)?;
                return Ok(());
            }
        };
        let mut entries: Vec<(u8, &[u8], u32)> = Vec::with_capacity(record.accepted.len() * 4);
        for (request, index) in record.accepted.iter().zip(0u32..) {
            entries.push((IDS, request.id, index));
            entries.extend(
                request
                    .inputs
                    .iter()
                    .map(|input| (STATES, input.as_slice(), index)),
            );
            entries.extend(
                request
                    .claims
                    .iter()
                    .map(|claim| (CLAIMS, claim.as_slice(), index)),
            );
        }
        // Neighbours share pages of the tree.
        entries.sort_unstable();
        for (table, key, index) in entries {
            view.put(table, key, &Place { sequence, index }.encode())?;
        }
        let place: [u8; 16] = pair(
            position.segment.to_be_bytes(),
            position.offset.to_be_bytes(),
        );
        view.put(RECORDS, &sequence.to_be_bytes(), &place)?;
        Ok(())
    }
}

/// What a record of the log says about its batch.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) decided_at_ns: i64,
    pub(crate) ids: Vec<Digest>,
}

/// Questions to the index at one moment, answered with the help of the log.
pub(crate) struct Lookup<'v> {
    snapshot: Snapshot<'v>,
    reader: &'v LogReader,
    remembered: HashMap<u64, Decided>,
}

impl<'v> Lookup<'v> {
    pub(crate) fn new(snapshot: Snapshot<'v>, reader: &'v LogReader) -> Self {
        Self {
            snapshot,
            reader,
            remembered: HashMap::new(),
        }
    }

    /// The last record that is applied.
    pub(crate) fn last_sequence(&self) -> Result<u64, NotaryError> {
        Ok(self.snapshot.head()?.sequence)
    }

    /// Where a transaction was accepted.
    pub(crate) fn id(&self, id: &Digest) -> Result<Option<Place>, NotaryError> {
        self.place(IDS, id)
    }

    /// Where a state was consumed.
    pub(crate) fn state(&self, state: &Ref) -> Result<Option<Place>, NotaryError> {
        self.place(STATES, state)
    }

    /// Where a claim was used.
    pub(crate) fn claim(&self, claim: &Claim) -> Result<Option<Place>, NotaryError> {
        self.place(CLAIMS, claim)
    }

    fn place(&self, table: u8, key: &[u8]) -> Result<Option<Place>, NotaryError> {
        Ok(self.snapshot.get(table, key)?.and_then(Place::decode))
    }

    /// The id that was accepted there.
    pub(crate) fn id_at(&mut self, place: Place) -> Result<Digest, NotaryError> {
        let Place { sequence, index } = place;
        let id = self.decided(sequence)?.ids.get(index as usize).copied();
        id.ok_or(NotaryError::IndexContradicted { sequence })
    }

    /// The batch that a record decided.
    pub(crate) fn decided(&mut self, sequence: u64) -> Result<&Decided, NotaryError> {
        if !self.remembered.contains_key(&sequence) {
            if self.remembered.len() >= REMEMBERED_MAX {
                self.remembered.clear();
            }
            let decided = self.read(sequence)?;
            self.remembered.insert(sequence, decided);
        }
        let decided = self.remembered.get(&sequence);
        decided.ok_or(NotaryError::IndexContradicted { sequence })
    }

    /// The time of the last decision in the log, None before the first.
    pub(crate) fn last_decided_at_ns(&mut self) -> Result<Option<i64>, NotaryError> {
        let records = Range {
            table: RECORDS,
            start: b"",
            end: None,
        };
        let last = self.snapshot.scan(records, 1, true)?.pop();
        let Some(sequence) = last.and_then(|(key, _)| key.try_into().ok()) else {
            return Ok(None);
        };
        let decided = self.decided(u64::from_be_bytes(sequence))?;
        Ok(Some(decided.decided_at_ns))
    }

    fn read(&self, sequence: u64) -> Result<Decided, NotaryError> {
        self.with_record(sequence, |record| {
            Some(Decided {
                decided_at_ns: record.decided_at_ns,
                ids: record.accepted.iter().map(|request| *request.id).collect(),
            })
        })
    }

    /// What the record says of the request that it accepted there.
    pub(crate) fn spent(&self, place: Place) -> Result<Spent, NotaryError> {
        let Place { sequence, index } = place;
        self.with_record(sequence, |record| {
            let request = record.accepted.get(index as usize)?;
            Some(Spent {
                transaction_id: *request.id,
                caller: *request.caller,
                decided_at_ns: record.decided_at_ns,
                sequence,
                index,
                request_signature: *request.signature,
                inputs: request.inputs.to_vec(),
            })
        })
    }

    fn with_record<T>(
        &self,
        sequence: u64,
        take: impl FnOnce(Record<'_>) -> Option<T>,
    ) -> Result<T, NotaryError> {
        let contradicted = NotaryError::IndexContradicted { sequence };
        let bytes = self.snapshot.get(RECORDS, &sequence.to_be_bytes())?;
        let split = bytes.and_then(<[u8]>::split_first_chunk);
        let Some((segment, offset)) =
            split.and_then(|(segment, offset)| Some((segment, offset.try_into().ok()?)))
        else {
            return Err(contradicted);
        };
        let position = Position {
            segment: u64::from_be_bytes(*segment),
            offset: u64::from_be_bytes(offset),
        };
        let record = self
            .reader
            .read(position)
            .map_err(p2pet_view::StoreError::from)?;
        match Record::decode(&record.payload) {
            Ok(decoded) if record.sequence == sequence => take(decoded).ok_or(contradicted),
            _ => Err(contradicted),
        }
    }
}
