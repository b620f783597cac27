//! Serialised `notary.v1.NotarisationReply` messages.

use p2pet_core::component::TimeWindow;
use p2pet_core::error::cut_sentence;
use p2pet_core::wire::{KEY_BYTES, Writer};
use p2pet_core::{Digest, Refusal};

use crate::record::Verdict;

/// How a consumed thing stood in the request that conflicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Input = 1,
    Reference = 2,
    Claim = 3,
}

/// One thing that another transaction consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    pub(crate) kind: Kind,
    pub(crate) subject: Vec<u8>,
    /// SHA-256 of the consumer's id: the raw id would tell a stranger which transaction to ask about.
    pub(crate) consumer_hash: Digest,
}

/// What is answered instead of a proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Invalid {
        cause: String,
        message: String,
        missing_keys: Vec<[u8; KEY_BYTES]>,
    },
    RequestSignature(&'static str),
    Conflict(Vec<Conflict>),
    Window {
        now_ns: i64,
        window: TimeWindow,
    },
    /// The worker cannot sign; nothing is said of the transaction.
    Internal(String),
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::Invalid {
            cause: refusal.code.to_owned(),
            message: refusal.message,
            missing_keys: refusal.missing_keys,
        }
    }
}

impl Answer {
    /// The verdict to log; None for what is no verdict.
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        match self {
            Self::Invalid { .. } => Some(Verdict::InvalidTransaction),
            Self::RequestSignature(_) => Some(Verdict::InvalidRequestSignature),
            Self::Conflict(_) => Some(Verdict::Conflict),
            Self::Window { .. } => Some(Verdict::TimeWindow),
            Self::Internal(_) => None,
        }
    }

    /// The reply.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.message(2, |error| self.write(error));
        writer.finish()
    }

    fn write(&self, error: &mut Writer) {
        match self {
            Self::Invalid {
                cause,
                message,
                missing_keys,
            } => {
                let cause = cut_sentence(cause);
                head(error, "notary.invalid_transaction", message).bytes(3, cause.as_bytes());
                for key in missing_keys {
                    error.entry(5, key);
                }
            }
            Self::RequestSignature(message) => {
                head(error, "notary.invalid_request_signature", message);
            }
            Self::Conflict(conflicts) => {
                let text = format!(
                    "{} of the inputs, references and claims: consumed by other transactions",
                    conflicts.len()
                );
                head(error, "notary.conflict", &text);
                for conflict in conflicts {
                    error.message(4, |entry| {
                        entry
                            .uint(1, conflict.kind as u64)
                            .bytes(2, &conflict.subject)
                            .bytes(3, &conflict.consumer_hash);
                    });
                }
            }
            Self::Window { now_ns, window } => {
                let TimeWindow { from_ns, until_ns } = *window;
                let text = format!(
                    "the notary's time {now_ns} is outside the window from {from_ns} until {until_ns}"
                );
                head(error, "notary.time_window_invalid", &text);
                error.int64(6, *now_ns).int64(7, from_ns).int64(8, until_ns);
            }
            Self::Internal(message) => {
                head(error, "notary.internal", message);
            }
        }
    }
}

fn head<'w>(error: &'w mut Writer, code: &str, message: &str) -> &'w mut Writer {
    let message = cut_sentence(message);
    error.bytes(1, code.as_bytes()).bytes(2, message.as_bytes())
}

/// The reply that holds a serialised `ledger.v1.FinalityProof`.
pub(crate) fn proof_reply(proof: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(proof.len() + 8);
    writer.bytes(1, proof);
    writer.finish()
}
