//! Input proofs: one output of a notarised transaction, shown to whoever consumes or reads it (section 7).

use crate::check::Rules;
use crate::component::{OutputState, StateRef};
use crate::contents::Kind;
use crate::error::{Error, Refusal};
use crate::finality::{BatchProof, BatchTickets, FinalityProof, VERIFYING};
use crate::hash::Digest;
use crate::signature::{SignatureBatch, Verdicts};
use crate::tearoff::{Revealed, TearOff, tear_off};
use crate::transaction::{Group, Transaction};
use crate::wire::{KEY_BYTES, Reader, Writer};

/// The groups that an input proof shows completely.
const SHOWN_WHOLE: [Group; 3] = [Group::Notary, Group::Parameters, Group::Type];

/// The canonical `ledger.v1.InputProof` of output `index` of a final transaction.
///
/// Refused: bytes that do not decode, a finality proof of another transaction, an output that does not exist.
pub fn input_proof(
    transaction: &[u8],
    index: u32,
    finality_proof: &[u8],
) -> Result<Vec<u8>, Error> {
    creator_proof(transaction, Group::Outputs, index, finality_proof)
}

/// The canonical `ledger.v1.InputProof` that shows component `index` of one group, such as an output's lock.
pub(crate) fn creator_proof(
    transaction: &[u8],
    group: Group,
    index: u32,
    finality_proof: &[u8],
) -> Result<Vec<u8>, Error> {
    let transaction = Transaction::decode(transaction)?;
    let proof = FinalityProof::decode(finality_proof)?;
    if transaction.id() != *proof.transaction_id {
        return Err(Error::proof(
            "finality.id",
            "the finality proof is about another transaction",
        ));
    }
    let whole = SHOWN_WHOLE.map(|group| u32::from(group.number()));
    let creator = tear_off(&transaction, &[(u32::from(group.number()), index)], &whole)?;
    let mut writer = Writer::with_capacity(creator.len() + proof.batch_bytes.len() + 8);
    writer.entry(1, &creator).entry(2, proof.batch_bytes);
    Ok(writer.finish())
}

/// A decoded `ledger.v1.InputProof`; nothing is verified yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputProof<'a> {
    /// The creating transaction.
    pub creator: TearOff<'a>,
    /// Its notary's proof.
    pub batch: BatchProof<'a>,
}

impl<'a> InputProof<'a> {
    /// Decodes strictly.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes, "InputProof");
        let proof = Self {
            creator: TearOff::decode(reader.message(1)?)?,
            batch: BatchProof::decode(reader.message(2)?)?,
        };
        reader.finish()?;
        Ok(proof)
    }
}

/// Where a notary says to have decided the transaction that made a state; true once the signatures hold.
#[derive(Debug, Clone, Copy)]
pub struct Provenance {
    /// The creating transaction.
    pub transaction_id: Digest,
    /// The service key of the notary that decided it.
    pub notary: [u8; KEY_BYTES],
    /// The record of that notary's log.
    pub sequence: u64,
    /// The place in the record's batch.
    pub index: u32,
    tickets: BatchTickets,
}

impl Provenance {
    /// What a batch proof says of the transaction with this id; its signatures are queued.
    pub(crate) fn queue(
        rules: &Rules,
        transaction_id: Digest,
        batch: &BatchProof<'_>,
        signatures: &mut SignatureBatch<'_>,
    ) -> Self {
        Self {
            transaction_id,
            notary: batch.root.notary,
            sequence: batch.root.sequence,
            index: batch.index,
            tickets: batch.queue(rules.network_id(), signatures),
        }
    }

    /// The signatures of the notary hold; else the step that they fail.
    pub fn check(&self, verdicts: &Verdicts) -> Result<(), Error> {
        self.tickets.check(verdicts)
    }
}

/// An output that is proven once the signatures of its provenance hold.
pub(crate) struct ProvenOutput<'a> {
    pub(crate) component: &'a [u8],
    pub(crate) output: OutputState<'a>,
    pub(crate) provenance: Provenance,
}

/// The four steps of section 7 for a transaction under the verifying notary `notary` that names the output `reference`.
///
/// The signatures of step 2 are queued; they are the caller's to conclude.
pub(crate) fn check_input_proof<'a>(
    rules: &Rules,
    bytes: &'a [u8],
    reference: StateRef<'_>,
    notary: &[u8; KEY_BYTES],
    signatures: &mut SignatureBatch<'_>,
) -> Result<ProvenOutput<'a>, Refusal> {
    // 1. to 3.
    let creator = check_creator(rules, bytes, reference, Group::Outputs)?;
    if creator.batch.root.mode != VERIFYING {
        return Err(not_listed("as verifying"));
    }
    // 4. The output names the notary of the transaction that consumes it, and so does the creating transaction.
    let output = OutputState::decode(creator.component).map_err(invalid)?;
    let moved_here = creator.kind == Kind::NotaryChange;
    if output.notary != notary || (creator.notary != *notary && !moved_here) {
        let text =
            "the state is guarded by another notary than the transaction's; use one notary for all";
        return Err(Refusal::new("proof.other_notary", text));
    }
    Ok(ProvenOutput {
        component: creator.component,
        output,
        provenance: Provenance::queue(rules, reference.parts().0, &creator.batch, signatures),
    })
}

/// What an input proof shows of the creating transaction; true once the signatures of its batch hold.
pub(crate) struct Creator<'a> {
    pub(crate) component: &'a [u8],
    pub(crate) notary: [u8; KEY_BYTES],
    pub(crate) kind: Kind,
    pub(crate) batch: BatchProof<'a>,
}

/// Steps 1 to 3 of section 7, where the proof shows the component of `group` at the index of the reference.
///
/// Step 3 asks that the notary is listed with the mode of the proof; which modes will do is the caller's.
pub(crate) fn check_creator<'a>(
    rules: &Rules,
    bytes: &'a [u8],
    reference: StateRef<'_>,
    group: Group,
) -> Result<Creator<'a>, Refusal> {
    let (id, index) = reference.parts();
    let InputProof { creator, batch } = InputProof::decode(bytes).map_err(invalid)?;
    // 1. The component at the index, and the groups that say who vouches for it, under the id of the reference.
    let revealed = creator.verify(&id).map_err(invalid)?;
    let component = revealed.component(group, index).ok_or_else(|| {
        let text = format!(
            "the proof does not show component {index} of the group {}, which the reference names",
            group.name()
        );
        Refusal::new("proof.index", text)
    })?;
    let notary = whole(&revealed, Group::Notary)?;
    let cited = whole(&revealed, Group::Parameters)?;
    let [byte] = whole(&revealed, Group::Type)?;
    let kind = Kind::from_byte(byte).ok_or_else(|| {
        let text = format!("the creating transaction has the unknown type {byte}");
        Refusal::new("proof.invalid", text)
    })?;
    // 2. The batch proof is of that id, signed for the notary that the creating transaction names.
    if batch.root.notary != notary {
        let text = "the batch is signed for another notary than the creating transaction names";
        return Err(Refusal::new("proof.other_notary", text));
    }
    batch
        .check_worker()
        .and_then(|()| batch.check_path(&id))
        .map_err(invalid)?;
    // 3. The parameters which the creating transaction cites are known and list that notary.
    if rules.mode_of(cited, notary) != Some(batch.root.mode) {
        return Err(not_listed("with the mode of the proof"));
    }
    Ok(Creator {
        component,
        notary,
        kind,
        batch,
    })
}

fn not_listed(how: &str) -> Refusal {
    let text = format!(
        "the parameters of the creating transaction are unknown or do not list its notary {how}"
    );
    Refusal::new("proof.notary_not_verifying", text)
}

/// The only component of a group, which must be shown completely and have `N` bytes.
fn whole<const N: usize>(revealed: &Revealed<'_>, group: Group) -> Result<[u8; N], Refusal> {
    let only = revealed
        .only(group)
        .and_then(|component| component.try_into().ok());
    only.ok_or_else(|| {
        let text = format!(
            "the proof does not show the whole group {} with one component of {N} bytes",
            group.name()
        );
        Refusal::new("proof.invalid", text)
    })
}

pub(crate) fn invalid(error: Error) -> Refusal {
    Refusal::new("proof.invalid", error.to_string())
}
