//! What a party sends to the notary (section 7).

use crate::certificate::read_scheme;
use crate::component::StateRef;
use crate::error::Error;
use crate::hash::{Digest, sha256};
use crate::signature::{Purpose, SignatureBatch, Ticket, signed_message};
use crate::wire::{KEY_BYTES, Reader, SIGNATURE_BYTES};

/// A decoded `notary.v1.NotarisationRequest`; nothing is verified yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotarisationRequest<'a> {
    /// The serialised `ledger.v1.Proposal`; empty when there is a uniqueness proposal.
    pub proposal: &'a [u8],
    /// The serialised `ledger.v1.UniquenessProposal`; empty when there is a proposal.
    pub uniqueness_proposal: &'a [u8],
    /// Who says to be asking.
    pub caller: &'a [u8; KEY_BYTES],
    /// The caller's signature.
    pub signature: &'a [u8; SIGNATURE_BYTES],
}

impl<'a> NotarisationRequest<'a> {
    /// Decodes strictly; exactly one of the two proposals is there.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes, "NotarisationRequest");
        let proposal = reader.bytes(1)?;
        let caller = reader.array(2)?;
        read_scheme(&mut reader, 3)?;
        let signature = reader.array(4)?;
        let uniqueness_proposal = reader.bytes(5)?;
        if proposal.is_empty() == uniqueness_proposal.is_empty() {
            return Err(reader.refuse(5, "and field 1 exclude each other, and one must be there"));
        }
        reader.finish()?;
        Ok(Self {
            proposal,
            uniqueness_proposal,
            caller,
            signature,
        })
    }

    /// Queues the caller's signature over these inputs and this id.
    pub fn queue(
        &self,
        network_id: &[u8; 32],
        inputs: &[StateRef<'_>],
        id: &Digest,
        signatures: &mut SignatureBatch<'_>,
    ) -> Ticket {
        let message = signed_message(
            network_id,
            Purpose::NotarisationRequest,
            &request_digest(inputs, id),
        );
        signatures.push(self.caller, &message, self.signature)
    }
}

/// SHA-256(u32 count of inputs ‖ the inputs' 36 bytes in ascending order ‖ id).
#[must_use]
pub fn request_digest(inputs: &[StateRef<'_>], id: &Digest) -> Digest {
    let mut sorted = inputs.to_vec();
    sorted.sort_unstable();
    let mut message = Vec::with_capacity(36 * sorted.len() + 36);
    message.extend_from_slice(&(sorted.len() as u32).to_be_bytes());
    sorted
        .iter()
        .for_each(|input| message.extend_from_slice(input.bytes()));
    message.extend_from_slice(id);
    sha256(&message)
}
