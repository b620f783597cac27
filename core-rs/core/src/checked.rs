//! What is left of a proposal once its signatures are verified.

use crate::contents::Contents;
use crate::error::Refusal;
use crate::finality::BatchTickets;
use crate::keys::hex;
use crate::proofs::{Provenance, invalid};
use crate::signature::{SignatureBatch, Ticket, Verdicts};
use crate::signers::check_nothing_lacks;
use crate::wire::KEY_BYTES;

/// A proposal that passed every platform check. Only contracts remain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked<'a> {
    /// What the transaction says.
    pub contents: Contents<'a>,
    /// The proven `OutputState` component of each input, in order; empty for a final transaction.
    pub input_outputs: Vec<&'a [u8]>,
    /// The same of each reference.
    pub reference_outputs: Vec<&'a [u8]>,
    /// The keys whose signatures were verified, in the order of the proposal.
    pub signed_by: Vec<&'a [u8; KEY_BYTES]>,
}

/// A proposal that passed every check but the signatures that it queued.
pub struct Pending<'a> {
    pub(crate) checked: Checked<'a>,
    pub(crate) require_all: bool,
    pub(crate) proofs: Vec<Provenance>,
    pub(crate) finality: Option<BatchTickets>,
    pub(crate) signatures: Vec<Ticket>,
}

impl<'a> Pending<'a> {
    /// What the transaction says; its signatures are not known to be valid.
    #[must_use]
    pub fn contents(&self) -> &Contents<'a> {
        &self.checked.contents
    }

    /// Where the states that it consumes and reads were made; nothing for a final transaction.
    #[must_use]
    pub fn proofs(&self) -> &[Provenance] {
        &self.proofs
    }

    /// The answer, once the batch is verified into which this proposal queued its signatures:
    /// 1. those of the proofs; 2. those of the parties; 3. with `require_all`, no required key lacks.
    pub fn conclude(self, verdicts: &Verdicts) -> Result<Checked<'a>, Refusal> {
        // 1.
        let inputs = self.checked.contents.inputs.len();
        for (position, proof) in self.proofs.iter().enumerate() {
            proof.check(verdicts).map_err(|error| {
                let place = match position.checked_sub(inputs) {
                    None => format!("input {position}"),
                    Some(reference) => format!("reference {reference}"),
                };
                invalid(error).at(&place)
            })?;
        }
        if let Some(finality) = self.finality {
            finality.check(verdicts)?;
        }
        // 2.
        let invalid = self
            .checked
            .signed_by
            .iter()
            .zip(&self.signatures)
            .find(|(_, ticket)| !verdicts.holds(**ticket));
        if let Some((key, _)) = invalid {
            let text = format!(
                "the signature by the key {} does not verify for this transaction",
                hex(*key)
            );
            return Err(Refusal::new("signature.invalid", text));
        }
        // 3.
        if self.require_all {
            check_nothing_lacks(&self.checked)?;
        }
        Ok(self.checked)
    }
}

/// Verifies the batch once and concludes everything that queued into it.
pub(crate) fn conclude_all<'a>(
    pending: Vec<Result<Pending<'a>, Refusal>>,
    signatures: SignatureBatch<'_>,
) -> Vec<Result<Checked<'a>, Refusal>> {
    let verdicts = signatures.verify();
    pending
        .into_iter()
        .map(|begun| begun.and_then(|pending| pending.conclude(&verdicts)))
        .collect()
}
