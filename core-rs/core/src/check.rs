//! The platform checks of proposals and of final transactions (sections 6 and 7).
//!
//! All signatures of everything that is checked together are verified in one batch, each with its own answer.

use crate::cache::Remembered;
use crate::checked::{Checked, Pending, conclude_all};
use crate::component::StateRef;
use crate::contents::{self, Contents};
use crate::error::{Error, Refusal};
use crate::finality::FinalityProof;
use crate::hash::Digest;
use crate::keys::{check_key, hex};
use crate::proofs::check_input_proof;
use crate::proposal::{Proposal, TransactionSignature};
use crate::signature::{Purpose, SCHEME, SignatureBatch, Ticket, signed_message};
use crate::transaction::Transaction;
use crate::wire::{KEY_BYTES, SIGNATURE_BYTES};
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
    ///    itself; 4. the parameters list its notary; 5. each input and reference is proven; 6. each signature is by a
    ///    key that must sign. With `require_all`, concluding also asks for every such key.
    pub fn begin_proposal<'a>(
        &self,
        proposal: Proposal<'a>,
        require_all: bool,
        signatures: &mut SignatureBatch<'_>,
    ) -> Result<Pending<'a>, Refusal> {
        // 1. to 4.
        let (contents, given, input_proofs) = self.check_platform(proposal)?;
        // 5.
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
        let mut proofs = Vec::with_capacity(wanted);
        let mut prove = |what: &str, references: &[StateRef<'a>]| {
            let outputs = references.iter().zip(rest.by_ref()).zip(0u32..).map(
                |((reference, bytes), index)| {
                    let proven =
                        check_input_proof(self, bytes, *reference, contents.notary, signatures)
                            .map_err(|refusal| refusal.at(&format!("{what} {index}")))?;
                    proofs.push(proven.tickets);
                    Ok(proven.component)
                },
            );
            outputs.collect::<Result<Vec<_>, Refusal>>()
        };
        let input_outputs = prove("input", &contents.inputs)?;
        let reference_outputs = prove("reference", &contents.references)?;
        // 6.
        let (signed_by, tickets) = self.queue_signatures(&contents, &given, true, signatures)?;
        let checked = Checked {
            contents,
            input_outputs,
            reference_outputs,
            signed_by,
        };
        Ok(Pending {
            checked,
            require_all,
            proofs,
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
        let (contents, given, _) = self.check_platform(Proposal::decode(proposal)?)?;
        let proof = FinalityProof::decode(proof)
            .map_err(|error| Refusal::new("finality.malformed", error.to_string()))?;
        // Steps 2 to 6.
        let mode = self.mode_of(*contents.parameters, *contents.notary);
        proof.check(&contents.id, contents.notary, mode, contents.window)?;
        let finality = Some(proof.batch.queue(&self.network_id, signatures));
        // Step 7.
        let (signed_by, tickets) =
            self.queue_signatures(&contents, &given, verify_signers, signatures)?;
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

    fn check_platform<'a>(&self, proposal: Proposal<'a>) -> Result<Opened<'a>, Refusal> {
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
        if !parameters.notaries.contains_key(contents.notary) {
            let text = format!(
                "the network parameters do not list the notary {}",
                hex(contents.notary)
            );
            return Err(Refusal::new("transaction.notary_not_listed", text));
        }
        Ok((contents, proposal.signatures, proposal.input_proofs))
    }

    fn queue_signatures<'a>(
        &self,
        contents: &Contents<'a>,
        given: &[TransactionSignature<'a>],
        verify: bool,
        signatures: &mut SignatureBatch<'_>,
    ) -> Result<(Vec<&'a [u8; KEY_BYTES]>, Vec<Ticket>), Refusal> {
        let message = signed_message(&self.network_id, Purpose::Transaction, &contents.id);
        let mut signed_by: Vec<&'a [u8; KEY_BYTES]> = Vec::with_capacity(given.len());
        let mut tickets = Vec::with_capacity(given.len());
        let mut waited_for = vec![true; contents.required_keys.len()];
        for entry in given {
            let position = contents
                .required_keys
                .binary_search_by(|key| key.as_slice().cmp(entry.key));
            let awaited = position
                .ok()
                .and_then(|position| waited_for.get_mut(position));
            match awaited {
                Some(awaited) if *awaited => *awaited = false,
                _ => {
                    let text = format!(
                        "nobody asked for a (second) signature by the key {}; remove it",
                        hex(entry.key)
                    );
                    return Err(Refusal::new("signature.unexpected", text));
                }
            }
            let key = check_key(entry.key)?;
            let signature = well_formed(entry)?;
            signed_by.push(key);
            if verify {
                tickets.push(signatures.push(key, &message, signature));
            }
        }
        Ok((signed_by, tickets))
    }
}

type Opened<'a> = (Contents<'a>, Vec<TransactionSignature<'a>>, Vec<&'a [u8]>);

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

fn well_formed<'a>(entry: &TransactionSignature<'a>) -> Result<&'a [u8; SIGNATURE_BYTES], Refusal> {
    if entry.scheme != u32::from(SCHEME) {
        let text = format!(
            "a signature names the scheme {}; only {SCHEME} (Ed25519) is known",
            entry.scheme
        );
        return Err(Refusal::new("signature.invalid", text));
    }
    entry.signature.try_into().map_err(|_| {
        let text = format!(
            "a signature has {} bytes instead of {SIGNATURE_BYTES}",
            entry.signature.len()
        );
        Refusal::new("signature.invalid", text)
    })
}
