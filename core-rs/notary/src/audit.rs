//! Checking what a notary's log decided, long afterwards and without its keys.

use p2pet_core::certificate::WorkerCertificate;
use p2pet_core::component::StateRef;
use p2pet_core::request::request_digest;
use p2pet_core::signature::{Purpose, SignatureBatch, Ticket, signed_message};
use p2pet_view::{Apply, Inspection, Phase, Progress, StoreError};

use crate::error::NotaryError;
use crate::index::{CLAIMS, IDS, Index, Place, STATES};
use crate::record::{Accepted, Entry};

/// Findings that are told; all are counted.
const FINDINGS_MAX: usize = 10;
/// Signatures that are verified together.
const BATCH_SIGNATURES: usize = 2048;

/// How the records of a notary's log change its index.
pub fn index() -> Box<dyn Apply> {
    Box::new(Index)
}

/// Something in the log that no notary of ours decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The record.
    pub sequence: u64,
    /// The place in its batch.
    pub index: u32,
    /// One clause.
    pub why: &'static str,
}

/// What the audit of a log came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Transactions that the log accepted.
    pub accepted: u64,
    /// Findings in all.
    pub findings: u64,
    /// The first of them.
    pub first: Vec<Finding>,
}

/// Checks each record, against the index that was rebuilt from all of them:
///
/// 1. no decision is earlier than the one before it; 2. the caller of each accepted request signed it; 3. each id, input
///    and claim stands in the index at this place, so that nothing was accepted or consumed twice; 4. the service
///    signed each certificate of its worker.
///
/// Raises `Store` when log or index cannot be read.
pub fn audit(
    inspection: &Inspection,
    network_id: &[u8; 32],
    progress: &Progress<'_>,
) -> Result<Audit, NotaryError> {
    let last = inspection.log().last_sequence;
    let mut audit = Audit::default();
    let mut signed = Signed::default();
    let mut decided_at_ns = i64::MIN;
    let log = |e| StoreError::from(e);
    let records = inspection.reader().iterate(0).map_err(log)?.up_to(last);
    for record in records {
        let record = record.map_err(log)?;
        let sequence = record.sequence;
        progress.at(Phase::CheckingDecisions, sequence, last);
        match Entry::decode(&record.payload) {
            Err(why) => audit.add(sequence, 0, why),
            Ok(Entry::Certificate(bytes)) => match WorkerCertificate::decode(bytes) {
                Err(_) => audit.add(sequence, 0, "not a worker's certificate"),
                Ok(certificate) => {
                    let ticket = certificate.queue(network_id, &mut signed.batch);
                    signed.expect(
                        ticket,
                        sequence,
                        0,
                        "the service did not sign the certificate",
                    );
                }
            },
            Ok(Entry::Batch(batch)) => {
                if batch.decided_at_ns < decided_at_ns {
                    audit.add(sequence, 0, "is decided earlier than the record before it");
                }
                decided_at_ns = batch.decided_at_ns;
                for (request, index) in batch.accepted.iter().zip(0u32..) {
                    audit.accepted += 1;
                    signed.request(network_id, request, sequence, index);
                    audit.check_places(inspection, request, Place { sequence, index })?;
                }
            }
        }
        if signed.batch.len() >= BATCH_SIGNATURES {
            std::mem::take(&mut signed).verify(&mut audit);
        }
    }
    signed.verify(&mut audit);
    Ok(audit)
}

/// Signatures that wait to be verified together.
#[derive(Default)]
struct Signed {
    batch: SignatureBatch<'static>,
    waiting: Vec<(Ticket, Finding)>,
}

impl Signed {
    fn expect(&mut self, ticket: Ticket, sequence: u64, index: u32, why: &'static str) {
        let finding = Finding {
            sequence,
            index,
            why,
        };
        self.waiting.push((ticket, finding));
    }

    fn request(
        &mut self,
        network_id: &[u8; 32],
        request: &Accepted<'_>,
        sequence: u64,
        index: u32,
    ) {
        let inputs = request.inputs.iter();
        let inputs: Vec<_> = inputs.flat_map(|input| StateRef::decode(input)).collect();
        let digest = request_digest(&inputs, request.id);
        let message = signed_message(network_id, Purpose::NotarisationRequest, &digest);
        let ticket = self.batch.push(request.caller, &message, request.signature);
        self.expect(
            ticket,
            sequence,
            index,
            "its caller did not sign the request",
        );
    }

    fn verify(self, audit: &mut Audit) {
        let verdicts = self.batch.verify();
        for (ticket, finding) in self.waiting {
            if !verdicts.holds(ticket) {
                audit.add(finding.sequence, finding.index, finding.why);
            }
        }
    }
}

impl Audit {
    fn add(&mut self, sequence: u64, index: u32, why: &'static str) {
        self.findings += 1;
        if self.first.len() < FINDINGS_MAX {
            self.first.push(Finding {
                sequence,
                index,
                why,
            });
        }
    }

    fn check_places(
        &mut self,
        inspection: &Inspection,
        request: &Accepted<'_>,
        place: Place,
    ) -> Result<(), NotaryError> {
        let ids = std::iter::once((
            IDS,
            request.id.as_slice(),
            "its transaction is accepted twice",
        ));
        let inputs = request.inputs.iter();
        let inputs = inputs.map(|input| (STATES, input.as_slice(), "its input is consumed twice"));
        let claims = request.claims.iter();
        let claims = claims.map(|claim| (CLAIMS, claim.as_slice(), "its claim is used twice"));
        for (table, key, why) in ids.chain(inputs).chain(claims) {
            let found = inspection.get(table, key, Place::decode)?;
            if found.flatten() != Some(place) {
                self.add(place.sequence, place.index, why);
            }
        }
        Ok(())
    }
}
