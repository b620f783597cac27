//! The platform checks of proposals and of final transactions (sections 6 and 7).
//!
//! All signatures of everything that is checked together are verified in one batch, each with its own answer.

use crate::cache::Remembered;
use crate::checked::{Checked, Pending, conclude_all};
use crate::component::StateRef;
use crate::contents::{self, Contents, Kind};
use crate::error::{Error, Refusal};
use crate::finality::{FinalityProof, UNIQUENESS_ONLY, VERIFYING};
use crate::hash::Digest;
use crate::keys::hex;
use crate::proofs::{ProvenOutput, check_input_proof};
use crate::proposal::{Proposal, TransactionSignature};
use crate::signature::SignatureBatch;
use crate::signers::queue_signatures;
use crate::states::check_states;
use crate::transaction::Transaction;
use crate::wire::KEY_BYTES;
use std::collections::HashMap;

/// What one version of the network parameters permits, as far as bytes can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameters {
    /// The listed notaries: service key and mode.
    pub notaries: HashMap<[u8; KEY_BYTES], u8>,
    /// The largest serialised transaction.
    pub transaction_bytes_max: u64,
    /// The most inputs and references together.
    pub inputs_max: u64,
}

/// What the network permits: every version of the parameters that is known.
pub struct Rules {
    network_id: [u8; 32],
    parameters: HashMap<Digest, Parameters>,
    valid_signatures: Remembered,
}

impl Rules {
    /// The rules of a network; `parameters` by the SHA-256 of their serialised form.
    #[must_use]
    pub fn new(network_id: [u8; 32], parameters: HashMap<Digest, Parameters>) -> Self {
        Self {
            network_id,
            parameters,
            valid_signatures: Remembered::default(),
        }
    }

    /// The network.
    #[must_use]
    pub fn network_id(&self) -> &[u8; 32] {
        &self.network_id
    }

    /// The mode with which the parameters of that hash list a notary.
    #[must_use]
    pub fn mode_of(&self, parameters: Digest, notary: [u8; KEY_BYTES]) -> Option<u8> {
        self.parameters
            .get(&parameters)?
            .notaries
            .get(&notary)
            .copied()
    }

    /// Whether a version of the parameters lists that notary as uniqueness-only.
    #[must_use]
    pub fn is_uniqueness_only(&self, notary: &[u8; KEY_BYTES]) -> bool {
        let mut versions = self.parameters.values();
        versions.any(|version| version.notaries.get(notary) == Some(&UNIQUENESS_ONLY))
    }

    /// What the parameters of that hash permit.
    pub(crate) fn version(&self, parameters: &Digest) -> Option<&Parameters> {
        self.parameters.get(parameters)
    }

    /// A batch that skips what these rules have found valid before.
    #[must_use]
    pub fn signature_batch(&self) -> SignatureBatch<'_> {
        SignatureBatch::remembering(&self.valid_signatures)
    }

    /// Checks each serialised `ledger.v1.Proposal`; one refusal never changes the answer for another.
    #[must_use]
    pub fn check_proposals<'a>(
        &self,
        proposals: &[&'a [u8]],
        require_all: bool,
    ) -> Vec<Result<Checked<'a>, Refusal>> {
        let mut signatures = self.signature_batch();
        let pending: Vec<_> = proposals
            .iter()
            .map(|bytes| {
                self.begin_proposal(Proposal::decode(bytes)?, require_all, &mut signatures)
            })
            .collect();
        conclude_all(pending, signatures)
    }

    /// Checks each (serialised `ledger.v1.Proposal`, serialised `ledger.v1.FinalityProof`): steps 2 to 7 of section 6.
    ///
    /// Without `verify_signers` the parties' signatures must be there, but only the notary's is verified.
    #[must_use]
    pub fn check_finals<'a>(
        &self,
        finals: &[(&'a [u8], &'a [u8])],
        verify_signers: bool,
    ) -> Vec<Result<Checked<'a>, Refusal>> {
        let mut signatures = self.signature_batch();
        let pending: Vec<_> = finals
            .iter()
            .map(|(proposal, proof)| {
                self.begin_final(proposal, proof, verify_signers, &mut signatures)
            })
            .collect();
        conclude_all(pending, signatures)
    }

    /// The steps of a proposal, up to signatures, which are queued:
    /// 1. every component decodes strictly; 2. its parameters are known and their limits kept; 3. it is consistent in
    ///    itself; 4. the parameters list its notary; 5. its outputs have locks where they need them; 6. its notary is a
    ///    verifying one, and each input and reference is proven; 7. encumbrances are kept, and a notary change alters
    ///    no state; 8. each signature is by a key that must sign. With `require_all`, concluding also asks that every
    ///    such key is satisfied.
    pub fn begin_proposal<'a>(
        &self,
        proposal: Proposal<'a>,
        require_all: bool,
        signatures: &mut SignatureBatch<'_>,
    ) -> Result<Pending<'a>, Refusal> {
        // 1. to 5.
        let Opened {
            contents,
            given,
            input_proofs,
            mode,
        } = self.check_platform(proposal)?;
        // 6.
        if mode != VERIFYING {
            let text = "a transaction under a uniqueness-only notary is checked with the states of its history";
            return Err(Refusal::new("transaction.notary_mode", text));
        }
        let wanted = contents.inputs.len() + contents.references.len();
        if input_proofs.len() < wanted {
            let text = format!(
                "{} of {wanted} inputs and references have a proof; add the others",
                input_proofs.len()
            );
            return Err(Refusal::new("proof.missing", text));
        }
        if input_proofs.len() > wanted {
            let text = format!(
                "{} proofs stand for {wanted} inputs and references",
                input_proofs.len()
            );
            return Err(Refusal::new("proof.invalid", text));
        }
        let mut rest = input_proofs.into_iter();
        let mut prove = |what: &str, references: &[StateRef<'a>]| {
            let proven = references.iter().zip(rest.by_ref()).zip(0u32..).map(
                |((reference, bytes), index)| {
                    check_input_proof(self, bytes, *reference, contents.notary, signatures)
                        .map_err(|refusal| refusal.at(&format!("{what} {index}")))
                },
            );
            proven.collect::<Result<Vec<_>, Refusal>>()
        };
        let inputs = prove("input", &contents.inputs)?;
        let references = prove("reference", &contents.references)?;
        // 7.
        let states: Vec<_> = inputs.iter().map(|proven| proven.output).collect();
        check_states(&contents, &states)?;
        // 8.
        let (signed_by, tickets) =
            queue_signatures(&self.network_id, &contents, &given, true, signatures)?;
        let components =
            |proven: &[ProvenOutput<'a>]| proven.iter().map(|proven| proven.component).collect();
        let checked = Checked {
            input_outputs: components(&inputs),
            reference_outputs: components(&references),
            contents,
            signed_by,
        };
        let proofs = inputs.iter().chain(&references);
        Ok(Pending {
            checked,
            require_all,
            proofs: proofs.map(|proven| proven.provenance).collect(),
            finality: None,
            signatures: tickets,
        })
    }

    /// Steps 2 to 7 of section 6 up to signatures, after the platform checks that the notary made too.
    ///
    /// Input proofs are not looked at: the notary saw them.
    pub fn begin_final<'a>(
        &self,
        proposal: &'a [u8],
        proof: &'a [u8],
        verify_signers: bool,
        signatures: &mut SignatureBatch<'_>,
    ) -> Result<Pending<'a>, Refusal> {
        let Opened {
            contents,
            given,
            mode,
            ..
        } = self.check_platform(Proposal::decode(proposal)?)?;
        let proof = FinalityProof::decode(proof)
            .map_err(|error| Refusal::new("finality.malformed", error.to_string()))?;
        // Steps 2 to 6.
        proof.check(&contents.id, contents.notary, Some(mode), contents.window)?;
        let finality = Some(proof.batch.queue(&self.network_id, signatures));
        // Step 7.
        let (signed_by, tickets) = queue_signatures(
            &self.network_id,
            &contents,
            &given,
            verify_signers,
            signatures,
        )?;
        let checked = Checked {
            contents,
            input_outputs: Vec::new(),
            reference_outputs: Vec::new(),
            signed_by,
        };
        Ok(Pending {
            checked,
            require_all: true,
            proofs: Vec::new(),
            finality,
            signatures: tickets,
        })
    }

    /// The steps that proposals and final transactions share: 1. to 5. of `begin_proposal`.
    pub(crate) fn check_platform<'a>(&self, proposal: Proposal<'a>) -> Result<Opened<'a>, Refusal> {
        // 1. Every component decodes strictly.
        let contents = Contents::parse(proposal.transaction, proposal.id)?;
        // 2. Known parameters, and their limits.
        let parameters = self.parameters.get(contents.parameters).ok_or_else(|| {
            let text = format!(
                "the network parameters {} are not known here",
                hex(contents.parameters)
            );
            Refusal::new("transaction.parameters_unknown", text)
        })?;
        check_limits(&contents, proposal.transaction_bytes, parameters)?;
        // 3. Consistent in itself.
        contents.check()?;
        // 4. A listed notary.
        let mode = parameters.notaries.get(contents.notary).copied();
        let mode = mode.ok_or_else(|| {
            let text = format!(
                "the network parameters do not list the notary {}",
                hex(contents.notary)
            );
            Refusal::new("transaction.notary_not_listed", text)
        })?;
        // 5. What a uniqueness-only notary needs.
        self.check_uniqueness(&contents, mode)?;
        Ok(Opened {
            contents,
            given: proposal.signatures,
            input_proofs: proposal.input_proofs,
            mode,
        })
    }

    /// 1. Outputs have locks where a uniqueness-only notary guards them, and only there; 2. such a notary sees no claim;
    /// 3. no state goes from such a notary to a verifying one, where nobody could use it.
    fn check_uniqueness(&self, contents: &Contents<'_>, mode: u8) -> Result<(), Refusal> {
        let locked = match contents.kind {
            Kind::General => mode == UNIQUENESS_ONLY,
            Kind::NotaryChange => self.is_uniqueness_only(contents.output_notary()),
        };
        // 1.
        let wanted = if locked { contents.outputs.len() } else { 0 };
        if contents.locks.len() != wanted {
            let text = format!(
                "the transaction has {} output locks; {wanted} are needed under the notary of its outputs",
                contents.locks.len()
            );
            return Err(Refusal::new("transaction.locks_invalid", text));
        }
        if mode != UNIQUENESS_ONLY {
            return Ok(());
        }
        // 2.
        if !contents.claims.is_empty() {
            let text = "a uniqueness-only notary takes no claims; use a verifying one";
            return Err(Refusal::new("transaction.claims_refused", text));
        }
        // 3.
        if contents.kind == Kind::NotaryChange && !locked {
            let text = "no verifying notary accepts what comes from a uniqueness-only one; choose another notary";
            return Err(Refusal::new("transaction.notary_change_invalid", text));
        }
        Ok(())
    }
}

/// A proposal whose transaction is well-formed and keeps the parameters that it cites.
pub(crate) struct Opened<'a> {
    pub(crate) contents: Contents<'a>,
    pub(crate) given: Vec<TransactionSignature<'a>>,
    pub(crate) input_proofs: Vec<&'a [u8]>,
    /// The mode of the transaction's notary.
    pub(crate) mode: u8,
}

/// Steps 2 to 6 of section 6 for a serialised transaction; answers with its id.
///
/// `parameters_hash` and `notaries` are of the parameters that were verified in step 1.
pub fn verify_finality(
    network_id: &[u8; 32],
    transaction: &[u8],
    finality_proof: &[u8],
    parameters_hash: &[u8],
    notaries: &HashMap<[u8; KEY_BYTES], u8>,
) -> Result<Digest, Error> {
    let transaction = Transaction::decode(transaction)?;
    let proof = FinalityProof::decode(finality_proof)?;
    let id = transaction.id();
    let notary = contents::notary(&transaction)?;
    let window = contents::window(&transaction)?;
    if contents::parameters(&transaction)? != parameters_hash {
        return Err(Error::proof(
            "finality.parameters",
            "step 2: the transaction cites other network parameters",
        ));
    }
    proof.check(&id, notary, notaries.get(notary).copied(), window)?;
    let mut signatures = SignatureBatch::default();
    let tickets = proof.batch.queue(network_id, &mut signatures);
    tickets.check(&signatures.verify())?;
    Ok(id)
}

fn check_limits(
    contents: &Contents<'_>,
    transaction_bytes: usize,
    parameters: &Parameters,
) -> Result<(), Refusal> {
    let max = parameters.transaction_bytes_max;
    if transaction_bytes as u64 > max {
        let text = format!(
            "the transaction has {transaction_bytes} bytes, the network permits {max}; split it"
        );
        return Err(Refusal::new("transaction.too_large", text));
    }
    let inputs = contents.inputs.len() + contents.references.len();
    let max = parameters.inputs_max;
    if inputs as u64 > max {
        let text = format!(
            "the transaction has {inputs} inputs and references, the network permits {max}; split it"
        );
        return Err(Refusal::new("transaction.too_many_inputs", text));
    }
    Ok(())
}
