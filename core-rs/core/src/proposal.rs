//! A transaction on its way: `ledger.v1.Proposal`.

use crate::error::Error;
use crate::hash::Digest;
use crate::transaction::Transaction;
use crate::wire::{GROUP_COMPONENTS_MAX, Reader, SIGNATURES_MAX};

/// A signature as it arrived; nothing is said of its key, scheme or length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionSignature<'a> {
    /// The key that signed.
    pub key: &'a [u8],
    /// The scheme.
    pub scheme: u32,
    /// The signature.
    pub signature: &'a [u8],
}

/// A decoded proposal with the id of its transaction; nothing else is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal<'a> {
    /// The transaction.
    pub transaction: Transaction<'a>,
    /// Its id.
    pub id: Digest,
    /// The size of the serialised transaction.
    pub transaction_bytes: usize,
    /// The signatures, in the order in which they arrived.
    pub signatures: Vec<TransactionSignature<'a>>,
    /// Serialised `InputProof`s: of the inputs, then of the references.
    pub input_proofs: Vec<&'a [u8]>,
}

impl<'a> Proposal<'a> {
    /// Decodes strictly and computes the id.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes, "Proposal");
        let serialised = reader.bytes(1)?;
        let transaction = Transaction::decode(serialised)?;
        let mut signatures = Vec::new();
        while let Some(entry) = reader.repeated(2)? {
            if signatures.len() == SIGNATURES_MAX {
                return Err(
                    reader.refuse(2, &format!("holds more than {SIGNATURES_MAX} signatures"))
                );
            }
            signatures.push(decode_signature(entry)?);
        }
        let mut input_proofs = Vec::new();
        while let Some(entry) = reader.repeated(3)? {
            if input_proofs.len() == 2 * GROUP_COMPONENTS_MAX {
                return Err(reader.refuse(
                    3,
                    &format!("holds more than {} proofs", 2 * GROUP_COMPONENTS_MAX),
                ));
            }
            input_proofs.push(entry);
        }
        reader.finish()?;
        let id = transaction.id();
        Ok(Self {
            transaction,
            id,
            transaction_bytes: serialised.len(),
            signatures,
            input_proofs,
        })
    }
}

fn decode_signature(bytes: &[u8]) -> Result<TransactionSignature<'_>, Error> {
    let mut reader = Reader::new(bytes, "TransactionSignature");
    let signature = TransactionSignature {
        key: reader.bytes(1)?,
        scheme: reader.uint32(2)?,
        signature: reader.bytes(3)?,
    };
    reader.finish()?;
    Ok(signature)
}
