//! What a uniqueness-only notary gets and checks: a tear-off that shows which states a transaction consumes, reads and
//! makes, and nothing of what they are (section 7).

use crate::check::Rules;
use crate::component::{StateRef, TimeWindow, exactly};
use crate::contents::{Kind, check_distinct};
use crate::error::{Error, Refusal};
use crate::finality::UNIQUENESS_ONLY;
use crate::hash::Digest;
use crate::keys::{check_key, hex};
use crate::proofs::{Provenance, check_creator, creator_proof, invalid};
use crate::signature::{Purpose, SignatureBatch, Ticket, Verdicts, signed_message};
use crate::tearoff::{Revealed, TearOff, tear_off};
use crate::transaction::{Group, Transaction};
use crate::wire::{GROUP_COMPONENTS_MAX, KEY_BYTES, Reader, SIGNATURE_BYTES, Writer};

/// The groups that a uniqueness proposal shows, completely; it shows no other.
pub const SHOWN: [Group; 7] = [
    Group::Inputs,
    Group::References,
    Group::Notary,
    Group::TimeWindow,
    Group::Parameters,
    Group::Claims,
    Group::OutputLocks,
];

/// The canonical `ledger.v1.InputProof` that shows the lock of output `index` instead of the output.
///
/// Refused: bytes that do not decode, a finality proof of another transaction, an output that has no lock.
pub fn lock_proof(transaction: &[u8], index: u32, finality_proof: &[u8]) -> Result<Vec<u8>, Error> {
    creator_proof(transaction, Group::OutputLocks, index, finality_proof)
}

/// The canonical `ledger.v1.UniquenessProposal` of a serialised transaction. Nothing is verified.
pub fn uniqueness_proposal(
    transaction: &[u8],
    input_proofs: &[&[u8]],
    unlock_signatures: &[&[u8]],
) -> Result<Vec<u8>, Error> {
    let transaction = Transaction::decode(transaction)?;
    let whole = SHOWN.map(|group| u32::from(group.number()));
    let shown = tear_off(&transaction, &[], &whole)?;
    let mut writer = Writer::with_capacity(shown.len() + 1024);
    writer.entry(1, &shown);
    for proof in input_proofs {
        writer.entry(2, proof);
    }
    for signature in unlock_signatures {
        writer.entry(3, signature);
    }
    Ok(writer.finish())
}

/// What a uniqueness-only notary sees of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visible<'a> {
    /// Its id, which the tear-off proves.
    pub id: Digest,
    /// Group 0.
    pub inputs: Vec<StateRef<'a>>,
    /// Group 1.
    pub references: Vec<StateRef<'a>>,
    /// Group 6.
    pub notary: &'a [u8; KEY_BYTES],
    /// Group 7.
    pub window: TimeWindow,
    /// Group 8.
    pub parameters: &'a Digest,
    /// Group 11.
    pub locks: Vec<&'a [u8; KEY_BYTES]>,
}

/// A decoded uniqueness proposal with the id that its tear-off proves; nothing else is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UniquenessProposal<'a> {
    /// The id of the transaction.
    pub id: Digest,
    revealed: Revealed<'a>,
    input_proofs: Vec<&'a [u8]>,
    unlock_signatures: Vec<&'a [u8; SIGNATURE_BYTES]>,
}

impl<'a> UniquenessProposal<'a> {
    /// Decodes strictly and computes the id.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes, "UniquenessProposal");
        let revealed = TearOff::decode(reader.message(1)?)?.prove()?;
        let mut input_proofs = Vec::new();
        while let Some(proof) = reader.repeated(2)? {
            if input_proofs.len() == 2 * GROUP_COMPONENTS_MAX {
                let text = format!("holds more than {} proofs", 2 * GROUP_COMPONENTS_MAX);
                return Err(reader.refuse(2, &text));
            }
            input_proofs.push(proof);
        }
        let mut unlock_signatures = Vec::new();
        while let Some(signature) = reader.repeated_array(3)? {
            if unlock_signatures.len() == GROUP_COMPONENTS_MAX {
                let text = format!("holds more than {GROUP_COMPONENTS_MAX} signatures");
                return Err(reader.refuse(3, &text));
            }
            unlock_signatures.push(signature);
        }
        reader.finish()?;
        Ok(Self {
            id: revealed.id,
            revealed,
            input_proofs,
            unlock_signatures,
        })
    }

    /// What the tear-off shows: the groups of `SHOWN`, complete, and nothing else; every component of its form.
    fn visible(&self) -> Result<Visible<'a>, Refusal> {
        let shown: Vec<_> = self.revealed.groups.iter().map(|g| g.group).collect();
        if shown != SHOWN || !self.revealed.groups.iter().all(|g| g.is_complete()) {
            let text = "the tear-off must show, completely, the groups inputs, references, notary, time window, network parameters, claims and output locks, and nothing else";
            return Err(Refusal::new("proof.groups", text));
        }
        let window = match self.all(Group::TimeWindow).as_slice() {
            [] => TimeWindow::OPEN,
            [one] => TimeWindow::decode(one)?,
            more => {
                let text = format!(
                    "a transaction has at most one time window, this one {}",
                    more.len()
                );
                return Err(Error::Malformed(text).into());
            }
        };
        let each = |group, what: &'static str| {
            let components = self.all(group).into_iter();
            let exact = components.map(move |component| exactly(component, what));
            exact.collect::<Result<Vec<_>, Error>>()
        };
        if !self.all(Group::Claims).is_empty() {
            let text = "a transaction under a uniqueness-only notary makes no claims";
            return Err(Refusal::new("transaction.claims_refused", text));
        }
        Ok(Visible {
            id: self.id,
            inputs: self.states(Group::Inputs)?,
            references: self.states(Group::References)?,
            notary: self.one(Group::Notary)?,
            window,
            parameters: self.one(Group::Parameters)?,
            locks: each(Group::OutputLocks, "an output's lock")?,
        })
    }

    fn all(&self, group: Group) -> Vec<&'a [u8]> {
        let shown = self.revealed.group(group).into_iter();
        shown
            .flat_map(|shown| shown.components.iter().map(|c| c.component))
            .collect()
    }

    fn one<const N: usize>(&self, group: Group) -> Result<&'a [u8; N], Refusal> {
        match self.all(group).as_slice() {
            [one] => Ok(exactly(one, group.name())?),
            other => {
                let text = format!(
                    "the group {} holds {} components instead of 1",
                    group.name(),
                    other.len()
                );
                Err(Error::Malformed(text).into())
            }
        }
    }

    fn states(&self, group: Group) -> Result<Vec<StateRef<'a>>, Refusal> {
        let decoded = self.all(group).into_iter().map(StateRef::decode);
        Ok(decoded.collect::<Result<_, Error>>()?)
    }
}

/// A uniqueness proposal that passed every check but the signatures that it queued.
pub struct PendingUniqueness<'a> {
    visible: Visible<'a>,
    proofs: Vec<Provenance>,
    unlocks: Vec<Ticket>,
}

impl<'a> PendingUniqueness<'a> {
    /// What the transaction shows; its signatures are not known to be valid.
    #[must_use]
    pub fn visible(&self) -> &Visible<'a> {
        &self.visible
    }

    /// Where the states that it consumes and reads were made.
    #[must_use]
    pub fn proofs(&self) -> &[Provenance] {
        &self.proofs
    }

    /// The answer, once the batch is verified: 1. the signatures of the proofs; 2. those of the locks.
    pub fn conclude(self, verdicts: &Verdicts) -> Result<Visible<'a>, Refusal> {
        // 1.
        let inputs = self.visible.inputs.len();
        for (position, proof) in self.proofs.iter().enumerate() {
            proof
                .check(verdicts)
                .map_err(|error| invalid(error).at(&place(position, inputs)))?;
        }
        // 2.
        let locked = self.unlocks.iter().position(|t| !verdicts.holds(*t));
        match locked {
            None => Ok(self.visible),
            Some(index) => {
                let text = format!(
                    "input {index}: the unlock signature is not by the key of its lock over this transaction id"
                );
                Err(Refusal::new("signature.unlock_invalid", text))
            }
        }
    }
}

fn place(position: usize, inputs: usize) -> String {
    match position.checked_sub(inputs) {
        None => format!("input {position}"),
        Some(reference) => format!("reference {reference}"),
    }
}

impl Rules {
    /// The steps of a uniqueness proposal up to signatures, which are queued:
    /// 1. the tear-off shows the groups that it must, complete, and nothing else, in the form of section 2; 2. its
    ///    parameters are known and their limit of inputs kept; 3. it has an input or an output, names no state twice,
    ///    and its window holds an instant; 4. the parameters list its notary as uniqueness-only; 5. each input and each
    ///    reference is proven with its lock; 6. each input has an unlock signature.
    pub fn begin_uniqueness<'a>(
        &self,
        proposal: UniquenessProposal<'a>,
        signatures: &mut SignatureBatch<'_>,
    ) -> Result<PendingUniqueness<'a>, Refusal> {
        // 1.
        let visible = proposal.visible()?;
        // 2. to 4.
        self.check_visible(&visible)?;
        // 5.
        let states = visible.inputs.iter().chain(&visible.references);
        let wanted = visible.inputs.len() + visible.references.len();
        let given = proposal.input_proofs.len();
        if given != wanted {
            let code = if given < wanted {
                "proof.missing"
            } else {
                "proof.invalid"
            };
            let text = format!("{given} proofs stand for {wanted} inputs and references");
            return Err(Refusal::new(code, text));
        }
        let mut proofs = Vec::with_capacity(wanted);
        let mut locks = Vec::with_capacity(wanted);
        for ((state, bytes), position) in states.zip(&proposal.input_proofs).zip(0..) {
            let (lock, proof) = self
                .check_lock_proof(bytes, *state, visible.notary, signatures)
                .map_err(|refusal| refusal.at(&place(position, visible.inputs.len())))?;
            locks.push(lock);
            proofs.push(proof);
        }
        // 6.
        if proposal.unlock_signatures.len() != visible.inputs.len() {
            let text = format!(
                "{} unlock signatures stand for {} inputs",
                proposal.unlock_signatures.len(),
                visible.inputs.len()
            );
            return Err(Refusal::new("signature.missing", text));
        }
        let message = signed_message(self.network_id(), Purpose::Unlock, &visible.id);
        let unlocks = locks.iter().zip(&proposal.unlock_signatures);
        let unlocks = unlocks.map(|(lock, signature)| signatures.push(lock, &message, signature));
        Ok(PendingUniqueness {
            unlocks: unlocks.collect(),
            proofs,
            visible,
        })
    }

    fn check_visible(&self, visible: &Visible<'_>) -> Result<(), Refusal> {
        // 2.
        let parameters = self.version(visible.parameters).ok_or_else(|| {
            let text = format!(
                "the network parameters {} are not known here",
                hex(visible.parameters)
            );
            Refusal::new("transaction.parameters_unknown", text)
        })?;
        let states = visible.inputs.len() + visible.references.len();
        if states as u64 > parameters.inputs_max {
            let text = format!(
                "the transaction has {states} inputs and references, the network permits {}; split it",
                parameters.inputs_max
            );
            return Err(Refusal::new("transaction.too_many_inputs", text));
        }
        // 3.
        if visible.inputs.is_empty() && visible.locks.is_empty() {
            let text = "the transaction has neither inputs nor outputs; add one";
            return Err(Refusal::new("transaction.empty", text));
        }
        check_distinct(&visible.inputs, &visible.references, &[])?;
        if visible.window.is_empty() {
            let text = "the time window holds no instant; from must be below until";
            return Err(Refusal::new("transaction.window_empty", text));
        }
        // 4.
        if parameters.notaries.get(visible.notary) != Some(&UNIQUENESS_ONLY) {
            let text = format!(
                "the network parameters do not list the notary {} as uniqueness-only",
                hex(visible.notary)
            );
            return Err(Refusal::new("transaction.notary_not_listed", text));
        }
        Ok(())
    }

    /// The steps of section 7 for an input proof under a uniqueness-only notary; answers with the lock.
    fn check_lock_proof<'a>(
        &self,
        bytes: &'a [u8],
        reference: StateRef<'_>,
        notary: &[u8; KEY_BYTES],
        signatures: &mut SignatureBatch<'_>,
    ) -> Result<(&'a [u8; KEY_BYTES], Provenance), Refusal> {
        // 1. to 3.
        let creator = check_creator(self, bytes, reference, Group::OutputLocks)?;
        let lock = check_key(creator.component)?;
        // 4. The creating transaction names this notary, or is a notary change: its lock shows that it leads here.
        if creator.notary != *notary && creator.kind != Kind::NotaryChange {
            let text = "the state is guarded by another notary than the transaction's; use one notary for all";
            return Err(Refusal::new("proof.other_notary", text));
        }
        let id = reference.parts().0;
        Ok((
            lock,
            Provenance::queue(self, id, &creator.batch, signatures),
        ))
    }
}
