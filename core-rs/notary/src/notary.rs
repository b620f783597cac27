//! The worker: checks beside each other, one decision at a time.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use p2pet_core::Digest;
use p2pet_core::check::Rules;
use p2pet_log::failpoint::{self, Failpoint};
use p2pet_log::{LogError, RealDisk, SharedDisk};
use p2pet_view::{LoggedView, Options, Progress, StoreError};

use crate::BATCH_MAX;
use crate::batch::{CheckedBatch, PreparedBatch, Request, check};
use crate::certificates::Certificates;
use crate::clock::{Clock, Reading, steady_ns};
use crate::decide::{ContractRefusal, Decision, Outcome};
use crate::error::NotaryError;
use crate::index::{Decided, Index, Lookup, Place};
use crate::record::{Accepted, Record, Refused};
use crate::reply::{Answer, proof_reply};
use crate::service::{Service, SignedBatch};
use crate::stats::{Counters, Stats, add};

/// Refused requests that wait for the next record, and that one record holds; those beyond are not logged.
pub const REFUSED_LOGGED_MAX: usize = 1024;

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// With its serialised `ledger.v1.FinalityProof`.
    Notarised(Vec<u8>),
    /// Its window is over; it will not be notarised any more.
    Never,
    /// Not notarised so far.
    Unknown,
}

/// What one decision leaves for the next.
struct Past {
    clock: Clock,
    refused: Vec<Refused>,
}

/// A batch that is durable and not signed yet.
struct Fresh {
    sequence: u64,
    decided: Decided,
}

/// The uniqueness log and index of one notary worker; shared between threads.
pub struct Notary {
    rules: Arc<Rules>,
    service: Service,
    certificates: Certificates,
    logged: LoggedView<Index>,
    past: Mutex<Past>,
    /// Why nothing is decided, once something keeps it from that for good.
    pub(crate) held: OnceLock<String>,
    counters: Counters,
}

impl Notary {
    /// Opens the log, brings the index up to date, and logs the worker's certificate unless it is the last one there.
    ///
    /// Raises `Store`, `OtherNetwork`, and `WrongCertificate` for the log of another service.
    pub fn open(
        directory: &Path,
        options: Options,
        rules: Arc<Rules>,
        service: Service,
    ) -> Result<Self, NotaryError> {
        Self::open_telling(directory, options, rules, service, &Progress::silent())
    }

    /// The same on another disk, silently.
    pub fn open_on(
        disk: SharedDisk,
        directory: &Path,
        options: Options,
        rules: Arc<Rules>,
        service: Service,
    ) -> Result<Self, NotaryError> {
        Self::begin(
            disk,
            directory,
            options,
            rules,
            service,
            &Progress::silent(),
        )
    }

    /// The same, telling how far it is.
    pub fn open_telling(
        directory: &Path,
        options: Options,
        rules: Arc<Rules>,
        service: Service,
        progress: &Progress<'_>,
    ) -> Result<Self, NotaryError> {
        Self::begin(
            RealDisk::shared(),
            directory,
            options,
            rules,
            service,
            progress,
        )
    }

    fn begin(
        disk: SharedDisk,
        directory: &Path,
        options: Options,
        rules: Arc<Rules>,
        service: Service,
        progress: &Progress<'_>,
    ) -> Result<Self, NotaryError> {
        if rules.network_id() != service.network_id() {
            return Err(NotaryError::OtherNetwork);
        }
        let logged = LoggedView::open(disk, directory, options, Index, progress)?;
        let certificates = Certificates::open(&logged, &service)?;
        let last_decided_at_ns = Lookup::new(logged.snapshot()?, logged.log_reader())
            .last_decided_at_ns()?
            .unwrap_or(i64::MIN);
        Ok(Self {
            rules,
            service,
            certificates,
            logged,
            past: Mutex::new(Past {
                clock: Clock::new(last_decided_at_ns),
                refused: Vec::new(),
            }),
            held: OnceLock::new(),
            counters: Counters::default(),
        })
    }

    /// Every check up to the contracts (see `batch::check`). Changes nothing.
    ///
    /// Raises `BatchTooLarge`, `Store`; and `RolledBack` for proof that this log is an older copy, which then is held.
    pub fn check<'a>(&self, requests: &[Request<'a>]) -> Result<CheckedBatch<'a>, NotaryError> {
        if requests.len() > BATCH_MAX {
            return Err(NotaryError::BatchTooLarge(requests.len()));
        }
        let checked = check(requests, &self.rules, &self.service, &self.lookup()?);
        if let Err(error @ NotaryError::RolledBack { .. }) = &checked {
            self.hold(&error.to_string());
        }
        let (batch, verified) = checked?;
        add(&self.counters.signatures_verified, verified as u64);
        Ok(batch)
    }

    /// Decides the batch in order; returns a serialised `notary.v1.NotarisationReply` for each request.
    ///
    /// `refusals` holds what contracts refused, by position. A request that is decided already is answered with the
    /// sequence, time, count and root of the record that decided it; only the worker's signature may be new. Nothing
    /// is signed before the record is durable. Raises `Store` and `OtherBatch` with nothing decided.
    pub fn decide(
        &self,
        batch: PreparedBatch,
        refusals: &HashMap<usize, ContractRefusal>,
        now_ns: i64,
    ) -> Result<Vec<Vec<u8>>, NotaryError> {
        let start = Instant::now();
        if batch.service != *self.service.key() {
            return Err(NotaryError::OtherBatch);
        }
        let (outcomes, fresh) = self.decide_durably(batch, refusals, now_ns)?;
        let replies = self.replies(&outcomes, fresh.as_ref())?;
        add(&self.counters.batches, 1);
        add(
            &self.counters.decide_ns_total,
            start.elapsed().as_nanos() as u64,
        );
        Ok(replies)
    }

    /// What became of each request; and the batch to sign, when one was appended.
    fn decide_durably(
        &self,
        batch: PreparedBatch,
        refusals: &HashMap<usize, ContractRefusal>,
        now_ns: i64,
    ) -> Result<(Vec<Outcome>, Option<Fresh>), NotaryError> {
        let mut past = lock(&self.past);
        let mut lookup = self.lookup()?;
        let reading = self.read_clock(&mut past, now_ns);
        let decided_at_ns = reading.at_ns;
        let mut decision = Decision::new(reading.clone(), &mut lookup);
        let outcomes = decision.run(batch, refusals)?;
        past.clock.decided(&reading);
        let room = REFUSED_LOGGED_MAX.saturating_sub(past.refused.len());
        past.refused.extend(decision.refused().iter().take(room));
        let accepted = decision.accepted();
        if accepted.is_empty() {
            return Ok((outcomes, None));
        }
        let ids = accepted.iter().map(|accepted| *accepted.id).collect();
        let sequence = self.append(decided_at_ns, accepted, &mut past.refused)?;
        past.clock.appended();
        failpoint::pass(Failpoint::NotaryAfterCommit);
        let decided = Decided { decided_at_ns, ids };
        Ok((outcomes, Some(Fresh { sequence, decided })))
    }

    fn read_clock(&self, past: &mut Past, now_ns: i64) -> Reading {
        let mut reading = past.clock.read(now_ns, steady_ns(), &self.service);
        if let Some(why) = self.held.get() {
            reading.trouble = Some(why.clone());
        }
        reading
    }

    /// Appends one record, durably; the refused ones that it holds are not kept for the next.
    fn append(
        &self,
        decided_at_ns: i64,
        accepted: Vec<Accepted<'_>>,
        refused: &mut Vec<Refused>,
    ) -> Result<u64, NotaryError> {
        let record = Record {
            decided_at_ns,
            accepted,
            refused: refused.clone(),
        };
        let bytes = record.bytes();
        let payload = record
            .encode()
            .ok_or(StoreError::Log(LogError::TooLarge { bytes }))?;
        let appended = self.logged.commit(&payload)?;
        refused.clear();
        Ok(appended.sequence)
    }

    /// Signs what is durable, and answers everything. One answer that fails never costs another its own.
    fn replies(
        &self,
        outcomes: &[Outcome],
        fresh: Option<&Fresh>,
    ) -> Result<Vec<Vec<u8>>, NotaryError> {
        let proofs = fresh.map_or_else(Vec::new, |fresh| {
            let certificate = self.service.certificate();
            self.sign(fresh.sequence, &fresh.decided, certificate)
                .prove_all()
        });
        let mut lookup = self.lookup()?;
        let mut earlier = HashMap::new();
        let mut replies = Vec::with_capacity(outcomes.len());
        let count = |counter| add(counter, 1);
        for outcome in outcomes {
            replies.push(match outcome {
                Outcome::Refused(answer) => {
                    count(&self.counters.refused);
                    answer.encode()
                }
                Outcome::Accepted(index) => {
                    count(&self.counters.accepted);
                    proof_reply(proofs.get(*index as usize).map_or(&[], Vec::as_slice))
                }
                Outcome::RepeatInBatch(index) => {
                    count(&self.counters.repeated);
                    proof_reply(proofs.get(*index as usize).map_or(&[], Vec::as_slice))
                }
                Outcome::Repeat(id, place) => {
                    count(&self.counters.repeated);
                    let proof = self.prove_again(id, *place, &mut lookup, &mut earlier);
                    proof.map_or_else(
                        |e| {
                            count(&self.counters.unproven);
                            Answer::Internal(e.to_string()).encode()
                        },
                        |proof| proof_reply(&proof),
                    )
                }
            });
        }
        Ok(replies)
    }

    /// The proof of an earlier decision, from the record that made it.
    fn prove_again<'s>(
        &'s self,
        id: &Digest,
        place: Place,
        lookup: &mut Lookup<'_>,
        signed: &mut HashMap<u64, SignedBatch<'s>>,
    ) -> Result<Vec<u8>, NotaryError> {
        let sequence = place.sequence;
        if lookup.id_at(place)? != *id {
            return Err(NotaryError::IndexContradicted { sequence });
        }
        let batch = match signed.entry(sequence) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let decided = lookup.decided(sequence)?;
                let in_force = self.certificates.in_force_at(sequence);
                let certificate = self
                    .service
                    .certificate_for(in_force, decided.decided_at_ns)?;
                entry.insert(self.sign(sequence, decided, certificate))
            }
        };
        Ok(batch.prove(id, place.index))
    }

    fn sign<'c>(&self, sequence: u64, decided: &Decided, certificate: &'c [u8]) -> SignedBatch<'c> {
        add(&self.counters.root_signatures, 1);
        self.service.sign(sequence, decided, certificate)
    }

    pub(crate) fn lookup(&self) -> Result<Lookup<'_>, NotaryError> {
        Ok(Lookup::new(
            self.logged.snapshot()?,
            self.logged.log_reader(),
        ))
    }

    /// What became of a transaction whose window ends at `until_ns`, decided in turn with the batches.
    ///
    /// *Never* is final: the clock reading that it rests on is appended first, so that no later decision, not even one
    /// after a restart with a clock that was set back, is made at an earlier time. *Unknown* is also the answer, and is
    /// counted, when a decision cannot be proven and when the disk is full; it is the answer, and nothing moves, while
    /// the clock cannot be right. Raises `Store` when the index or the log refuses.
    pub fn status(&self, id: &Digest, until_ns: i64, now_ns: i64) -> Result<Status, NotaryError> {
        let mut past = lock(&self.past);
        let mut lookup = self.lookup()?;
        let unproven = || {
            add(&self.counters.unproven, 1);
            Ok(Status::Unknown)
        };
        if let Some(place) = lookup.id(id)? {
            let proof = self.prove_again(id, place, &mut lookup, &mut HashMap::new());
            return proof.map_or_else(|_| unproven(), |proof| Ok(Status::Notarised(proof)));
        }
        let reading = self.read_clock(&mut past, now_ns);
        if reading.trouble.is_some() || reading.at_ns < until_ns {
            return Ok(Status::Unknown);
        }
        let durable = past.clock.is_durable(until_ns);
        if !durable {
            match self.append(reading.at_ns, Vec::new(), &mut past.refused) {
                Err(NotaryError::Store(error)) if error.is_full() => return unproven(),
                appended => appended?,
            };
        }
        past.clock.decided(&reading);
        if !durable {
            past.clock.appended();
        }
        Ok(Status::Never)
    }

    /// The number of the last record, 0 before the first.
    pub fn sequence(&self) -> u64 {
        self.logged.head().sequence
    }

    /// Counters since the opening.
    pub fn stats(&self) -> Stats {
        self.counters.with(&self.logged.stats())
    }

    /// See `LoggedView::take_snapshot`; returns the record that it shows. The log is evidence, and is never trimmed.
    pub fn take_snapshot(&self) -> Result<u64, NotaryError> {
        Ok(self.logged.take_snapshot()?.base.sequence)
    }

    /// Counters of the log and its index.
    pub fn store_stats(&self) -> p2pet_view::Stats {
        self.logged.stats()
    }

    /// Logs the refusals that wait, syncs the index and marks the end as clean. Repeating it does nothing.
    pub fn close(&self) -> Result<(), NotaryError> {
        let mut past = lock(&self.past);
        let last = past.clock.last_decided_at_ns();
        // Before the first decision there is no time that a record could hold.
        if !past.refused.is_empty() && last > i64::MIN {
            self.append(last, Vec::new(), &mut past.refused)?;
        }
        Ok(self.logged.close()?)
    }
}

/// A decision that failed half-way appended nothing, so that what it left is as good as before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
