//! The platform checks of transactions under a uniqueness-only notary; the caller knows their states (section 7).

use crate::check::{Opened, Rules};
use crate::checked::{Checked, Pending, conclude_all};
use crate::component::{OutputState, StateRef};
use crate::contents::Contents;
use crate::error::Refusal;
use crate::finality::UNIQUENESS_ONLY;
use crate::proposal::Proposal;
use crate::signature::SignatureBatch;
use crate::signers::queue_signatures;
use crate::states::check_states;

/// A transaction under a uniqueness-only notary with the `OutputState` components that it names, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved<'a> {
    /// The serialised `ledger.v1.Proposal`, without input proofs.
    pub proposal: &'a [u8],
    /// The states of its inputs.
    pub input_outputs: Vec<&'a [u8]>,
    /// The states of its references.
    pub reference_outputs: Vec<&'a [u8]>,
}

impl Rules {
    /// Checks each transaction under a uniqueness-only notary, whose states the caller knows.
    #[must_use]
    pub fn check_resolved<'a>(
        &self,
        transactions: &[Resolved<'a>],
        require_all: bool,
    ) -> Vec<Result<Checked<'a>, Refusal>> {
        let mut signatures = self.signature_batch();
        let pending: Vec<_> = transactions
            .iter()
            .map(|resolved| self.begin_resolved(resolved, require_all, &mut signatures))
            .collect();
        conclude_all(pending, signatures)
    }

    /// The steps of `begin_proposal` for a transaction under a uniqueness-only notary, but 6: its notary is
    /// uniqueness-only, there are no proofs, and each known state names that notary.
    pub fn begin_resolved<'a>(
        &self,
        resolved: &Resolved<'a>,
        require_all: bool,
        signatures: &mut SignatureBatch<'_>,
    ) -> Result<Pending<'a>, Refusal> {
        // 1. to 5.
        let Opened {
            contents,
            given,
            input_proofs,
            mode,
        } = self.check_platform(Proposal::decode(resolved.proposal)?)?;
        // 6.
        if mode != UNIQUENESS_ONLY {
            let text = "a transaction under a verifying notary is checked with its input proofs";
            return Err(Refusal::new("transaction.notary_mode", text));
        }
        if !input_proofs.is_empty() {
            let text = "a transaction under a uniqueness-only notary stands with its history, not with proofs";
            return Err(Refusal::new("proof.invalid", text));
        }
        let states = resolve(
            "input",
            &contents,
            &contents.inputs,
            &resolved.input_outputs,
        )?;
        resolve(
            "reference",
            &contents,
            &contents.references,
            &resolved.reference_outputs,
        )?;
        // 7.
        check_states(&contents, &states)?;
        // 8.
        let (signed_by, tickets) =
            queue_signatures(self.network_id(), &contents, &given, true, signatures)?;
        let checked = Checked {
            contents,
            input_outputs: resolved.input_outputs.clone(),
            reference_outputs: resolved.reference_outputs.clone(),
            signed_by,
        };
        Ok(Pending {
            checked,
            require_all,
            proofs: Vec::new(),
            finality: None,
            signatures: tickets,
        })
    }
}

/// The states that the caller knows, decoded: one for each reference, and each under the transaction's notary.
fn resolve<'a>(
    what: &str,
    contents: &Contents<'_>,
    references: &[StateRef<'_>],
    components: &[&'a [u8]],
) -> Result<Vec<OutputState<'a>>, Refusal> {
    if references.len() != components.len() {
        let text = format!(
            "{} states are known of {} {what}s",
            components.len(),
            references.len()
        );
        return Err(Refusal::new("proof.missing", text));
    }
    let states = components.iter().zip(0u32..).map(|(component, index)| {
        let state = OutputState::decode(component)?;
        if state.notary != contents.notary {
            let text = "the state is guarded by another notary than the transaction's; use one notary for all";
            return Err(Refusal::new("proof.other_notary", text).at(&format!("{what} {index}")));
        }
        Ok(state)
    });
    states.collect()
}
