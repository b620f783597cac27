//! What a transaction says, component by component, and the platform checks that need nothing else.

use crate::component::{Command, OutputState, StateRef, TimeWindow, decode_signers, exactly};
use crate::error::{Error, Refusal};
use crate::hash::Digest;
use crate::transaction::{Group, Transaction};
use crate::wire::KEY_BYTES;

/// The type of a general transaction.
pub const GENERAL: u8 = 1;
/// The type of a notary change: reserved.
pub const NOTARY_CHANGE: u8 = 2;

/// A transaction whose components all decode strictly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents<'a> {
    /// The transaction.
    pub transaction: Transaction<'a>,
    /// Its id.
    pub id: Digest,
    /// Group 0.
    pub inputs: Vec<StateRef<'a>>,
    /// Group 1.
    pub references: Vec<StateRef<'a>>,
    /// Group 2.
    pub outputs: Vec<OutputState<'a>>,
    /// Group 3.
    pub commands: Vec<Command<'a>>,
    /// Every key of group 4, ascending and distinct.
    pub required_keys: Vec<&'a [u8; KEY_BYTES]>,
    /// Group 6.
    pub notary: &'a [u8; KEY_BYTES],
    /// Group 7.
    pub window: TimeWindow,
    /// Group 8.
    pub parameters: &'a Digest,
    /// Group 10.
    pub claims: Vec<&'a [u8; 32]>,
}

impl<'a> Contents<'a> {
    /// The contents of a transaction whose id was computed: the shape of section 2, in the order of the groups.
    pub fn parse(transaction: Transaction<'a>, id: Digest) -> Result<Self, Refusal> {
        let inputs = each(&transaction, Group::Inputs, StateRef::decode)?;
        let references = each(&transaction, Group::References, StateRef::decode)?;
        let outputs = each(&transaction, Group::Outputs, OutputState::decode)?;
        let commands = each(&transaction, Group::Commands, Command::decode)?;
        let required_keys = required_keys(&transaction, commands.len())?;
        each(&transaction, Group::Attachments, |hash| {
            exactly::<32>(hash, "an attachment's hash")
        })?;
        let notary = notary(&transaction)?;
        let window = window(&transaction)?;
        let parameters = parameters(&transaction)?;
        check_type(&transaction)?;
        let claims = each(&transaction, Group::Claims, |claim| {
            exactly(claim, "a claim")
        })?;
        if !transaction.group(Group::OutputLocks).is_empty() {
            return Err(
                Error::malformed("the group output locks is reserved and must be empty").into(),
            );
        }
        Ok(Self {
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
    /// 3. the window holds an instant; 4. every output names the transaction's notary.
    pub fn check(&self) -> Result<(), Refusal> {
        // 1.
        if self.inputs.is_empty() && self.outputs.is_empty() {
            return Err(Refusal::new(
                "transaction.empty",
                "the transaction has neither inputs nor outputs; add one",
            ));
        }
        // 2.
        self.check_distinct()?;
        // 3.
        if self.window.is_empty() {
            let TimeWindow { from_ns, until_ns } = self.window;
            let text = format!(
                "the window from {from_ns} until {until_ns} holds no instant; from must be below until"
            );
            return Err(Refusal::new("transaction.window_empty", text));
        }
        // 4.
        match self
            .outputs
            .iter()
            .position(|output| output.notary != self.notary)
        {
            None => Ok(()),
            Some(index) => Err(Refusal::new(
                "transaction.output_notary_differs",
                format!(
                    "output {index} names another notary than the transaction; name the transaction's"
                ),
            )),
        }
    }

    fn check_distinct(&self) -> Result<(), Refusal> {
        let inputs = sorted(&self.inputs);
        let references = sorted(&self.references);
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
        if repeated(&sorted(&self.claims)).is_some() {
            let text = "a claim stands more than once; name each claim once";
            return Err(Refusal::new("transaction.duplicate_claim", text));
        }
        Ok(())
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

fn check_type(transaction: &Transaction<'_>) -> Result<(), Refusal> {
    match one(transaction, Group::Type)? {
        [GENERAL] => Ok(()),
        [other] => {
            let text = format!(
                "the transaction's type is {other}; this protocol version knows {GENERAL} (general) only"
            );
            Err(Refusal::new("transaction.type_unknown", text))
        }
        more => {
            Err(Error::malformed(format!("the type has {} bytes instead of 1", more.len())).into())
        }
    }
}

fn required_keys<'a>(
    transaction: &Transaction<'a>,
    commands: usize,
) -> Result<Vec<&'a [u8; KEY_BYTES]>, Error> {
    let components = transaction.group(Group::Signers);
    if components.len() != commands {
        let text = format!(
            "{commands} commands have {} lists of signers; each has one",
            components.len()
        );
        return Err(Error::malformed(text));
    }
    let mut keys = Vec::new();
    for component in components {
        keys.extend(decode_signers(component)?);
    }
    keys.sort_unstable();
    keys.dedup();
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
