//! What a transaction says, component by component, and the platform checks that need nothing else.

use crate::component::{Command, OutputState, StateRef, TimeWindow, decode_signers, exactly};
use crate::composite::Key;
use crate::encumbrance;
use crate::error::{Error, Refusal};
use crate::hash::Digest;
use crate::transaction::{Group, Transaction};
use crate::wire::KEY_BYTES;

/// What a transaction does; its value is the byte of group 9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// What its commands say.
    General = 1,
    /// It moves states to another notary.
    NotaryChange = 2,
}

impl Kind {
    /// The kind of a byte.
    #[must_use]
    pub fn from_byte(byte: u8) -> Option<Self> {
        [Self::General, Self::NotaryChange]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// A transaction whose components all decode strictly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents<'a> {
    /// The transaction.
    pub transaction: Transaction<'a>,
    /// Its id.
    pub id: Digest,
    /// Group 9.
    pub kind: Kind,
    /// Group 0.
    pub inputs: Vec<StateRef<'a>>,
    /// Group 1.
    pub references: Vec<StateRef<'a>>,
    /// Group 2.
    pub outputs: Vec<OutputState<'a>>,
    /// Group 3.
    pub commands: Vec<Command<'a>>,
    /// Every key of group 4, ascending by its bytes and distinct.
    pub required_keys: Vec<Key<'a>>,
    /// Group 6.
    pub notary: &'a [u8; KEY_BYTES],
    /// Group 7.
    pub window: TimeWindow,
    /// Group 8.
    pub parameters: &'a Digest,
    /// Group 10.
    pub claims: Vec<&'a [u8; 32]>,
    /// Group 11.
    pub locks: Vec<&'a [u8; KEY_BYTES]>,
}

impl<'a> Contents<'a> {
    /// The contents of a transaction whose id was computed: the shape of section 2, in the order of the groups.
    pub fn parse(transaction: Transaction<'a>, id: Digest) -> Result<Self, Refusal> {
        let kind = kind(&transaction)?;
        check_shape(&transaction, kind)?;
        let inputs = each(&transaction, Group::Inputs, StateRef::decode)?;
        let references = each(&transaction, Group::References, StateRef::decode)?;
        let outputs = each(&transaction, Group::Outputs, OutputState::decode)?;
        let commands = each(&transaction, Group::Commands, Command::decode)?;
        let required_keys = required_keys(&transaction)?;
        each(&transaction, Group::Attachments, |hash| {
            exactly::<32>(hash, "an attachment's hash")
        })?;
        let notary = notary(&transaction)?;
        let window = window(&transaction)?;
        let parameters = parameters(&transaction)?;
        let claims = each(&transaction, Group::Claims, |claim| {
            exactly(claim, "a claim")
        })?;
        let locks = each(&transaction, Group::OutputLocks, |lock| {
            exactly(lock, "an output's lock")
        })?;
        Ok(Self {
            kind,
            locks,
            inputs,
            references,
            outputs,
            commands,
            required_keys,
            notary,
            window,
            parameters,
            claims,
            id,
            transaction,
        })
    }

    /// Checks that need the transaction alone:
    /// 1. it has an input or an output; 2. no input, reference or claim stands twice, and no input is a reference;
    /// 3. the window holds an instant; 4. every output names the transaction's notary, or in a notary change one and
    ///    the same other notary; 5. encumbered outputs form cycles.
    pub fn check(&self) -> Result<(), Refusal> {
        // 1.
        if self.inputs.is_empty() && self.outputs.is_empty() {
            return Err(Refusal::new(
                "transaction.empty",
                "the transaction has neither inputs nor outputs; add one",
            ));
        }
        // 2.
        check_distinct(&self.inputs, &self.references, &self.claims)?;
        // 3.
        if self.window.is_empty() {
            let TimeWindow { from_ns, until_ns } = self.window;
            let text = format!(
                "the window from {from_ns} until {until_ns} holds no instant; from must be below until"
            );
            return Err(Refusal::new("transaction.window_empty", text));
        }
        // 4.
        self.check_output_notaries()?;
        // 5.
        encumbrance::check_cycles(&self.outputs)
    }

    /// The notary that guards the outputs: the transaction's, or the one to which a notary change moves them.
    #[must_use]
    pub fn output_notary(&self) -> &'a [u8; KEY_BYTES] {
        match (self.kind, self.outputs.first()) {
            (Kind::NotaryChange, Some(first)) => first.notary,
            _ => self.notary,
        }
    }

    fn check_output_notaries(&self) -> Result<(), Refusal> {
        let guard = self.output_notary();
        if self.kind == Kind::NotaryChange && guard == self.notary {
            let text = "the notary change leads to the notary that guards the states already; name another one";
            return Err(Refusal::new("transaction.notary_change_invalid", text));
        }
        let other = self
            .outputs
            .iter()
            .position(|output| output.notary != guard);
        match (other, self.kind) {
            (None, _) => Ok(()),
            (Some(index), Kind::General) => Err(Refusal::new(
                "transaction.output_notary_differs",
                format!(
                    "output {index} names another notary than the transaction; name the transaction's"
                ),
            )),
            (Some(index), Kind::NotaryChange) => Err(Refusal::new(
                "transaction.notary_change_invalid",
                format!(
                    "output {index} names another notary than output 0; move all states to one"
                ),
            )),
        }
    }
}

/// The notary of a transaction: exactly one component of 32 bytes.
pub fn notary<'a>(transaction: &Transaction<'a>) -> Result<&'a [u8; KEY_BYTES], Error> {
    exactly(one(transaction, Group::Notary)?, "the notary's key")
}

/// The hash of the network parameters that a transaction cites: exactly one component of 32 bytes.
pub fn parameters<'a>(transaction: &Transaction<'a>) -> Result<&'a Digest, Error> {
    exactly(
        one(transaction, Group::Parameters)?,
        "the hash of the network parameters",
    )
}

/// The window of a transaction: at most one component of 16 bytes.
pub fn window(transaction: &Transaction<'_>) -> Result<TimeWindow, Error> {
    match transaction.group(Group::TimeWindow) {
        [] => Ok(TimeWindow::OPEN),
        [one] => TimeWindow::decode(one),
        more => Err(Error::malformed(format!(
            "a transaction has at most one time window, this one {}",
            more.len()
        ))),
    }
}

/// No input, reference or claim stands twice, and no input is a reference.
pub(crate) fn check_distinct(
    inputs: &[StateRef<'_>],
    references: &[StateRef<'_>],
    claims: &[&[u8; 32]],
) -> Result<(), Refusal> {
    let inputs = sorted(inputs);
    let references = sorted(references);
    for (what, values) in [("input", &inputs), ("reference", &references)] {
        if let Some(twice) = repeated(values) {
            let text = format!(
                "the {what} {} stands more than once; name each state once",
                show(twice)
            );
            return Err(Refusal::new("transaction.duplicate_input", text));
        }
    }
    if let Some(both) = inputs
        .iter()
        .find(|input| references.binary_search(input).is_ok())
    {
        let text = format!(
            "the input {} is also a reference; name each state once",
            show(*both)
        );
        return Err(Refusal::new("transaction.input_is_reference", text));
    }
    if repeated(&sorted(claims)).is_some() {
        let text = "a claim stands more than once; name each claim once";
        return Err(Refusal::new("transaction.duplicate_claim", text));
    }
    Ok(())
}

fn kind(transaction: &Transaction<'_>) -> Result<Kind, Refusal> {
    let [byte] = one(transaction, Group::Type)? else {
        return Err(Error::malformed("the type of a transaction is one byte").into());
    };
    Kind::from_byte(*byte).ok_or_else(|| {
        let text = format!(
            "the transaction's type is {byte}; this protocol version knows 1 (general) and 2 (notary change)"
        );
        Refusal::new("transaction.type_unknown", text)
    })
}

/// How many components the groups hold, as far as that depends on the kind.
fn check_shape(transaction: &Transaction<'_>, kind: Kind) -> Result<(), Error> {
    let count = |group| transaction.group(group).len();
    let (commands, signers) = (count(Group::Commands), count(Group::Signers));
    if kind == Kind::General {
        if signers == commands {
            return Ok(());
        }
        let text = format!("{commands} commands have {signers} lists of signers; each has one");
        return Err(Error::malformed(text));
    }
    let foreign = [
        Group::Commands,
        Group::References,
        Group::Attachments,
        Group::Claims,
    ];
    if let Some(group) = foreign.into_iter().find(|group| count(*group) > 0) {
        let text = format!("a notary change has nothing in the group {}", group.name());
        return Err(Error::malformed(text));
    }
    if signers != 1 {
        let text = format!("a notary change has one list of signers, this one {signers}");
        return Err(Error::malformed(text));
    }
    let (inputs, outputs) = (count(Group::Inputs), count(Group::Outputs));
    if inputs != outputs {
        let text = format!("a notary change of {inputs} inputs has {outputs} outputs");
        return Err(Error::malformed(text));
    }
    Ok(())
}

fn required_keys<'a>(transaction: &Transaction<'a>) -> Result<Vec<Key<'a>>, Error> {
    let mut keys = Vec::new();
    for component in transaction.group(Group::Signers) {
        keys.extend(decode_signers(component)?);
    }
    keys.sort_unstable_by(|a, b| a.bytes().cmp(b.bytes()));
    keys.dedup_by(|a, b| a.bytes() == b.bytes());
    Ok(keys)
}

fn each<'a, T>(
    transaction: &Transaction<'a>,
    group: Group,
    decode: impl Fn(&'a [u8]) -> Result<T, Error>,
) -> Result<Vec<T>, Refusal> {
    let components = transaction.group(group).iter().zip(0u32..);
    let decoded = components.map(|(component, index)| {
        decode(component)
            .map_err(|error| Refusal::from(error).at(&format!("{} {index}", group.name())))
    });
    decoded.collect()
}

fn one<'a>(transaction: &Transaction<'a>, group: Group) -> Result<&'a [u8], Error> {
    match transaction.group(group) {
        [one] => Ok(one),
        other => {
            let text = format!(
                "the group {} holds {} components instead of 1",
                group.name(),
                other.len()
            );
            Err(Error::malformed(text))
        }
    }
}

fn sorted<T: Ord + Clone>(values: &[T]) -> Vec<T> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted
}

fn repeated<T: Eq + Copy>(sorted: &[T]) -> Option<T> {
    sorted
        .iter()
        .zip(sorted.iter().skip(1))
        .find(|(a, b)| a == b)
        .map(|(twice, _)| *twice)
}

fn show(reference: StateRef<'_>) -> String {
    let (id, index) = reference.parts();
    format!("{}:{index}", crate::keys::hex(&id))
}
