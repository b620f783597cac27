//! Requests up to their contracts: what needs no order between them, and changes nothing.

use p2pet_core::check::Rules;
use p2pet_core::checked::{Checked, Pending};
use p2pet_core::component::{StateRef, TimeWindow};
use p2pet_core::contents::Contents;
use p2pet_core::finality::{UNIQUENESS_ONLY, VERIFYING};
use p2pet_core::keys::hex;
use p2pet_core::proofs::Provenance;
use p2pet_core::proposal::Proposal;
use p2pet_core::request::NotarisationRequest;
use p2pet_core::signature::{SignatureBatch, Ticket, Verdicts};
use p2pet_core::uniqueness::{PendingUniqueness, UniquenessProposal, Visible};
use p2pet_core::wire::{FRAME_BYTES_MAX, KEY_BYTES, SIGNATURE_BYTES};
use p2pet_core::{Digest, Error, Refusal};

use crate::error::NotaryError;
use crate::index::{Lookup, Place};
use crate::record::{Claim, Ref};
use crate::reply::Answer;
use crate::service::Service;

/// A serialised `notary.v1.NotarisationRequest` and the identity that its connection authenticated.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// 32 bytes; another length is nobody.
    pub caller: &'a [u8],
    /// The message.
    pub bytes: &'a [u8],
}

/// Requests on their way through one decision, without any component.
#[derive(Debug)]
pub struct PreparedBatch {
    /// The service key of the notary that checked them.
    pub(crate) service: [u8; KEY_BYTES],
    pub(crate) items: Vec<Item>,
}

impl PreparedBatch {
    /// How many requests.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

/// Requests after every check but the contracts'.
#[derive(Debug)]
pub struct CheckedBatch<'a> {
    /// What `Notary::decide` takes.
    pub prepared: PreparedBatch,
    /// (position in the batch, proposal) of each request that awaits its contracts.
    pub to_verify: Vec<(usize, Checked<'a>)>,
}

#[derive(Debug)]
pub(crate) enum Item {
    /// Accepted before.
    Decided(Digest, Place),
    /// The header is None when the request does not decode that far.
    Refused(Option<Header>, Answer),
    Open(Box<Wanted>),
}

/// What is kept of every request that decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: Digest,
    /// The authenticated one, whatever the request says.
    pub(crate) caller: [u8; KEY_BYTES],
    pub(crate) signature: [u8; SIGNATURE_BYTES],
}

/// What a request wants to consume, read and claim, and when.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) header: Header,
    pub(crate) inputs: Vec<Ref>,
    pub(crate) references: Vec<Ref>,
    pub(crate) claims: Vec<Claim>,
    pub(crate) window: TimeWindow,
}

impl Wanted {
    fn of_contents(header: Header, contents: &Contents<'_>) -> Self {
        Self {
            header,
            inputs: states(&contents.inputs),
            references: states(&contents.references),
            claims: contents.claims.iter().map(|claim| **claim).collect(),
            window: contents.window,
        }
    }

    fn of_visible(header: Header, visible: &Visible<'_>) -> Self {
        Self {
            header,
            inputs: states(&visible.inputs),
            references: states(&visible.references),
            claims: Vec::new(),
            window: visible.window,
        }
    }
}

fn states(refs: &[StateRef<'_>]) -> Vec<Ref> {
    refs.iter().map(|state| *state.bytes()).collect()
}

/// A proposal of the kind that this notary's mode takes; the id of either is computed.
enum Asked<'a> {
    Proposal(Proposal<'a>),
    Uniqueness(UniquenessProposal<'a>),
}

impl Asked<'_> {
    fn id(&self) -> Digest {
        match self {
            Self::Proposal(proposal) => proposal.id,
            Self::Uniqueness(proposal) => proposal.id,
        }
    }
}

/// A proposal whose signatures wait for the batch.
enum Waiting<'a> {
    Proposal(Box<Pending<'a>>),
    Uniqueness(Box<PendingUniqueness<'a>>),
}

impl<'a> Waiting<'a> {
    fn begin(
        asked: Asked<'a>,
        rules: &Rules,
        signatures: &mut SignatureBatch<'_>,
    ) -> Result<Self, Refusal> {
        Ok(match asked {
            Asked::Proposal(proposal) => {
                Self::Proposal(Box::new(rules.begin_proposal(proposal, true, signatures)?))
            }
            Asked::Uniqueness(proposal) => {
                Self::Uniqueness(Box::new(rules.begin_uniqueness(proposal, signatures)?))
            }
        })
    }

    fn inputs(&self) -> &[StateRef<'a>] {
        match self {
            Self::Proposal(pending) => &pending.contents().inputs,
            Self::Uniqueness(pending) => &pending.visible().inputs,
        }
    }

    /// Where the states that it consumes and reads were made.
    fn proofs(&self) -> &[Provenance] {
        match self {
            Self::Proposal(pending) => pending.proofs(),
            Self::Uniqueness(pending) => pending.proofs(),
        }
    }

    /// The notary that it names, and the parameters that it cites.
    fn place(&self) -> (&'a [u8; KEY_BYTES], &'a Digest) {
        match self {
            Self::Proposal(pending) => (pending.contents().notary, pending.contents().parameters),
            Self::Uniqueness(pending) => (pending.visible().notary, pending.visible().parameters),
        }
    }
}

enum Begun<'a> {
    Decided(Digest, Place),
    Refused(Option<Header>, Answer),
    Open {
        header: Header,
        pending: Waiting<'a>,
        /// None when somebody else than the caller says to be asking.
        request: Option<Ticket>,
    },
}

/// Checks every request on its own; all signatures are verified together. Returns how many were, too.
///
/// Raises `RolledBack` when a request proves a decision of this very service that is not in the log.
///
/// 1. the request and its proposal, of the kind that this mode takes, decode; 2. an id that is in the log needs nothing
///    else; 3. platform checks and input proofs; the transaction is for this notary in this mode; 4. the caller signed
///    the request; 5. all signatures, and none lacks. Only a verifying notary leaves contracts to verify.
pub(crate) fn check<'a>(
    requests: &[Request<'a>],
    rules: &Rules,
    service: &Service,
    lookup: &Lookup<'_>,
) -> Result<(CheckedBatch<'a>, usize), NotaryError> {
    let mut signatures = rules.signature_batch();
    let mut begun = Vec::with_capacity(requests.len());
    for request in requests {
        begun.push(begin(request, rules, service, lookup, &mut signatures)?);
    }
    let verified = signatures.len();
    let verdicts = signatures.verify();
    let mut items = Vec::with_capacity(requests.len());
    let mut to_verify = Vec::new();
    for (position, begun) in begun.into_iter().enumerate() {
        if let Begun::Open { pending, .. } = &begun {
            check_own_decisions(pending.proofs(), &verdicts, service, lookup)?;
        }
        let (item, checked) = conclude(begun, &verdicts);
        items.push(item);
        to_verify.extend(checked.map(|checked| (position, checked)));
    }
    let prepared = PreparedBatch {
        service: *service.key(),
        items,
    };
    Ok((
        CheckedBatch {
            prepared,
            to_verify,
        },
        verified,
    ))
}

fn begin<'a>(
    request: &Request<'a>,
    rules: &Rules,
    service: &Service,
    lookup: &Lookup<'_>,
    signatures: &mut SignatureBatch<'_>,
) -> Result<Begun<'a>, NotaryError> {
    // 1.
    let (decoded, asked) = match decode(request.bytes, service.mode()) {
        Ok(decoded) => decoded,
        Err(refusal) => return Ok(Begun::Refused(None, refusal.into())),
    };
    let id = asked.id();
    // 2.
    if let Some(place) = lookup.id(&id)? {
        return Ok(Begun::Decided(id, place));
    }
    let Ok(caller) = request.caller.try_into() else {
        let answer = Answer::RequestSignature("the connection authenticates nobody");
        return Ok(Begun::Refused(None, answer));
    };
    let header = Header {
        id,
        caller,
        signature: *decoded.signature,
    };
    // 3.
    let waiting = Waiting::begin(asked, rules, signatures);
    let pending = match waiting.and_then(|waiting| for_this_notary(waiting, rules, service)) {
        Ok(waiting) => waiting,
        Err(refusal) => return Ok(Begun::Refused(Some(header), refusal.into())),
    };
    // 4.
    let said = *decoded.caller == caller;
    let network_id = service.network_id();
    let request = said.then(|| decoded.queue(network_id, pending.inputs(), &id, signatures));
    Ok(Begun::Open {
        header,
        pending,
        request,
    })
}

fn decode(bytes: &[u8], mode: u8) -> Result<(NotarisationRequest<'_>, Asked<'_>), Refusal> {
    if bytes.len() > FRAME_BYTES_MAX {
        let text = format!(
            "a request of {} bytes is over the limit of {FRAME_BYTES_MAX}",
            bytes.len()
        );
        return Err(Error::Malformed(text).into());
    }
    let request = NotarisationRequest::decode(bytes)?;
    let asked = match (mode, request.uniqueness_proposal.is_empty()) {
        (VERIFYING, true) => Asked::Proposal(Proposal::decode(request.proposal)?),
        (UNIQUENESS_ONLY, false) => {
            Asked::Uniqueness(UniquenessProposal::decode(request.uniqueness_proposal)?)
        }
        (VERIFYING, false) => {
            return Err(other_mode("is verifying: send the whole proposal"));
        }
        _ => {
            return Err(other_mode(
                "sees uniqueness only: send a uniqueness proposal",
            ));
        }
    };
    Ok((request, asked))
}

fn other_mode(what: &str) -> Refusal {
    Refusal {
        code: "transaction.other_mode",
        message: format!("this notary {what}"),
        missing_keys: Vec::new(),
    }
}

fn for_this_notary<'a>(
    waiting: Waiting<'a>,
    rules: &Rules,
    service: &Service,
) -> Result<Waiting<'a>, Refusal> {
    let (notary, parameters) = waiting.place();
    let refuse = |code, message| {
        Err(Refusal {
            code,
            message,
            missing_keys: Vec::new(),
        })
    };
    if notary != service.key() {
        let text = format!(
            "the transaction names the notary {}; this one is {}",
            hex(notary),
            hex(service.key())
        );
        return refuse("transaction.other_notary", text);
    }
    if rules.mode_of(*parameters, *notary) != Some(service.mode()) {
        let text =
            "the network parameters list this notary with another mode than it runs in".to_owned();
        return refuse("transaction.notary_not_listed", text);
    }
    Ok(waiting)
}

/// Whatever else becomes of the request: a decision that this service has signed stands in its log, at its place.
///
/// Nobody else can sign one, so that a proof of another decision shows a log that was put back to an earlier state.
fn check_own_decisions(
    proofs: &[Provenance],
    verdicts: &Verdicts,
    service: &Service,
    lookup: &Lookup<'_>,
) -> Result<(), NotaryError> {
    for proof in proofs {
        if proof.notary != *service.key() || proof.check(verdicts).is_err() {
            continue;
        }
        let Provenance {
            sequence, index, ..
        } = *proof;
        if lookup.id(&proof.transaction_id)? != Some(Place { sequence, index }) {
            let last = lookup.last_sequence()?;
            return Err(NotaryError::RolledBack { sequence, last });
        }
    }
    Ok(())
}

fn conclude<'a>(begun: Begun<'a>, verdicts: &Verdicts) -> (Item, Option<Checked<'a>>) {
    let (header, pending, request) = match begun {
        Begun::Decided(id, place) => return (Item::Decided(id, place), None),
        Begun::Refused(header, answer) => return (Item::Refused(header, answer), None),
        Begun::Open {
            header,
            pending,
            request,
        } => (header, pending, request),
    };
    // 4.
    let refused = match request {
        None => Some("the request is signed by another key than its connection authenticates"),
        Some(ticket) if !verdicts.holds(ticket) => {
            Some("the signature is not the caller's over these inputs and this transaction id")
        }
        Some(_) => None,
    };
    if let Some(why) = refused {
        return (
            Item::Refused(Some(header), Answer::RequestSignature(why)),
            None,
        );
    }
    // 5.
    let concluded = match pending {
        Waiting::Proposal(pending) => pending.conclude(verdicts).map(|checked| {
            let wanted = Wanted::of_contents(header, &checked.contents);
            (wanted, Some(checked))
        }),
        Waiting::Uniqueness(pending) => pending
            .conclude(verdicts)
            .map(|visible| (Wanted::of_visible(header, &visible), None)),
    };
    match concluded {
        Ok((wanted, checked)) => (Item::Open(Box::new(wanted)), checked),
        Err(refusal) => (Item::Refused(Some(header), refusal.into()), None),
    }
}
