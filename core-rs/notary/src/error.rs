//! What keeps a notary from working; what it refuses is in its replies.

use p2pet_core::Error;
use p2pet_view::StoreError;

/// Why the notary cannot open or decide. `code()` is stable.
#[derive(Debug, thiserror::Error)]
pub enum NotaryError {
    /// Log or index refuse; nothing was decided.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The worker's certificate does not decode or prove its key.
    #[error("the worker's certificate: {0}")]
    Certificate(#[from] Error),
    /// The worker's certificate is of another key, or not signed by its service.
    #[error("the worker's certificate {0}")]
    WrongCertificate(&'static str),
    /// A mode that there is not.
    #[error("the mode {0} is none: 1 is verifying, 2 uniqueness only")]
    Mode(u8),
    /// Rules of one network and a certificate of another.
    #[error("the rules are of another network than the worker's certificate")]
    OtherNetwork,
    /// A request proves, with this service's own signature, a decision that is not in this log: it is an older copy.
    #[error(
        "a request proves decision {sequence} of this notary, which its log does not hold (its last record is {last}): \
         this data directory is an old copy; restore the newest one"
    )]
    RolledBack {
        /// The record that decided.
        sequence: u64,
        /// The last record here.
        last: u64,
    },
    /// It decides nothing, so that it does not know what else may be decided.
    #[error("{0}")]
    Held(String),
    /// More requests than a batch may hold; nothing was decided.
    #[error("a batch of {0} requests is over the limit of {max}", max = crate::BATCH_MAX)]
    BatchTooLarge(usize),
    /// A batch of another notary; nothing was decided.
    #[error("the batch was checked by another notary than the one that is to decide it")]
    OtherBatch,
    /// An index entry that its own log contradicts.
    #[error(
        "the index says that record {sequence} decided a transaction that is not in it: delete the view"
    )]
    IndexContradicted {
        /// Number of the record.
        sequence: u64,
    },
}

impl NotaryError {
    /// A stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Store(error) => error.code(),
            Self::Certificate(_) | Self::WrongCertificate(_) => "notary.certificate",
            Self::Mode(_) => "notary.mode",
            Self::OtherNetwork => "notary.network",
            Self::RolledBack { .. } => "notary.rolled_back",
            Self::Held(_) => "notary.held",
            Self::BatchTooLarge(_) => "notary.batch_too_large",
            Self::OtherBatch => "notary.other_batch",
            Self::IndexContradicted { .. } => "notary.index",
        }
    }
}
