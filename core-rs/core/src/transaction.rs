//! The transaction: twelve groups of components, its envelope and its id (section 2).

use crate::error::Error;
use crate::hash::{Digest, Nonces, sha256_parts};
use crate::merkle;
use crate::wire::{GROUP_COMPONENTS_MAX, Reader, Writer};

/// Groups of a transaction.
pub const GROUPS: usize = 12;
/// The only format.
pub const FORMAT: u16 = 1;
/// Bytes of a salt.
pub const SALT_BYTES: usize = 32;

/// A group of components; its value is its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Group {
    /// State references that are consumed.
    Inputs = 0,
    /// State references that are read.
    References = 1,
    /// `ledger.v1.OutputState`.
    Outputs = 2,
    /// `ledger.v1.Command`.
    Commands = 3,
    /// The keys that must sign, one component for each command; in a notary change one without a command.
    Signers = 4,
    /// Hashes of attachments.
    Attachments = 5,
    /// The notary's service key.
    Notary = 6,
    /// The time window.
    TimeWindow = 7,
    /// The hash of the network parameters.
    Parameters = 8,
    /// The type.
    Type = 9,
    /// Use-once keys.
    Claims = 10,
    /// The locks of outputs under a uniqueness-only notary.
    OutputLocks = 11,
}

impl Group {
    /// All groups in order.
    pub const ALL: [Self; GROUPS] = [
        Self::Inputs,
        Self::References,
        Self::Outputs,
        Self::Commands,
        Self::Signers,
        Self::Attachments,
        Self::Notary,
        Self::TimeWindow,
        Self::Parameters,
        Self::Type,
        Self::Claims,
        Self::OutputLocks,
    ];

    /// The group's number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The group of a number from the wire.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|group| u32::from(group.number()) == number)
    }

    /// The name in the table of section 2.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inputs => "inputs",
            Self::References => "references",
            Self::Outputs => "outputs",
            Self::Commands => "commands",
            Self::Signers => "signers",
            Self::Attachments => "attachments",
            Self::Notary => "notary",
            Self::TimeWindow => "time window",
            Self::Parameters => "network parameters",
            Self::Type => "type",
            Self::Claims => "claims",
            Self::OutputLocks => "output locks",
        }
    }
}

/// A decoded envelope that borrows the bytes that were hashed; nothing is said of its components.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction<'a> {
    salt: &'a [u8; SALT_BYTES],
    components: Vec<&'a [u8]>,
    ends: [usize; GROUPS],
}

impl<'a> Transaction<'a> {
    /// Decodes a canonical `ledger.v1.Transaction` with exactly twelve groups and a salt of 32 bytes.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes, "Transaction");
        check_format(reader.uint32(1)?)?;
        let salt = reader.array(2)?;
        let mut components = Vec::new();
        let mut ends = [0; GROUPS];
        for (position, end) in ends.iter_mut().enumerate() {
            let group = reader
                .repeated(3)?
                .ok_or_else(|| wrong_group_count(&position.to_string()))?;
            read_group(group, &mut components)?;
            *end = components.len();
        }
        if reader.repeated(3)?.is_some() {
            return Err(wrong_group_count("more"));
        }
        reader.finish()?;
        Ok(Self {
            salt,
            components,
            ends,
        })
    }

    /// The transaction of a salt and groups; refused unless the salt is 32 bytes, the groups twelve and within caps.
    pub fn from_parts(salt: &'a [u8], groups: &[Vec<&'a [u8]>]) -> Result<Self, Error> {
        let salt = salt.try_into().map_err(|_| {
            Error::malformed(format!(
                "the salt has {} bytes instead of {SALT_BYTES}",
                salt.len()
            ))
        })?;
        if groups.len() != GROUPS {
            return Err(wrong_group_count(&groups.len().to_string()));
        }
        let mut components = Vec::new();
        let mut ends = [0; GROUPS];
        for (end, group) in ends.iter_mut().zip(groups) {
            if group.len() > GROUP_COMPONENTS_MAX {
                return Err(too_many_components());
            }
            components.extend_from_slice(group);
            *end = components.len();
        }
        Ok(Self {
            salt,
            components,
            ends,
        })
    }

    /// The canonical `ledger.v1.Transaction`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let body: usize = self
            .components
            .iter()
            .map(|component| component.len() + 6)
            .sum();
        let mut writer = Writer::with_capacity(body + 128);
        writer.uint(1, u64::from(FORMAT)).bytes(2, self.salt);
        for group in Group::ALL {
            writer.message(3, |message| {
                for component in self.group(group) {
                    message.entry(1, component);
                }
            });
        }
        writer.finish()
    }

    /// The salt.
    #[must_use]
    pub fn salt(&self) -> &'a [u8; SALT_BYTES] {
        self.salt
    }

    /// The components of a group, in order.
    #[must_use]
    pub fn group(&self, group: Group) -> &[&'a [u8]] {
        let number = usize::from(group.number());
        let start = number
            .checked_sub(1)
            .and_then(|before| self.ends.get(before))
            .copied()
            .unwrap_or(0);
        let end = self.ends.get(number).copied().unwrap_or(start);
        self.components.get(start..end).unwrap_or_default()
    }

    /// The id (section 2).
    #[must_use]
    pub fn id(&self) -> Digest {
        id_of(&self.group_roots())
    }

    /// The twelve group roots.
    #[must_use]
    pub fn group_roots(&self) -> [Digest; GROUPS] {
        let nonces = Nonces::new(self.salt);
        Group::ALL.map(|group| {
            let leaves = self.leaves_with(group, &nonces);
            group_root(
                group.number(),
                leaves.len() as u32,
                &merkle::root(merkle::COMPONENTS, &leaves),
            )
        })
    }

    /// The leaves of a group.
    #[must_use]
    pub fn leaves(&self, group: Group) -> Vec<Digest> {
        self.leaves_with(group, &Nonces::new(self.salt))
    }

    fn leaves_with(&self, group: Group, nonces: &Nonces) -> Vec<Digest> {
        let number = group.number();
        let components = self.group(group).iter().zip(0u32..);
        components
            .map(|(component, index)| leaf(number, index, &nonces.nonce(number, index), component))
            .collect()
    }
}

/// SHA-256(0x00 ‖ u16 group ‖ u32 index ‖ nonce ‖ component).
#[must_use]
pub fn leaf(group: u16, index: u32, nonce: &Digest, component: &[u8]) -> Digest {
    sha256_parts(&[
        &[0x00],
        &group.to_be_bytes(),
        &index.to_be_bytes(),
        nonce,
        component,
    ])
}

/// SHA-256(0x02 ‖ u16 group ‖ u32 count ‖ tree).
#[must_use]
pub fn group_root(group: u16, count: u32, tree: &Digest) -> Digest {
    sha256_parts(&[&[0x02], &group.to_be_bytes(), &count.to_be_bytes(), tree])
}

/// The id of a transaction with these group roots.
#[must_use]
pub fn id_of(roots: &[Digest; GROUPS]) -> Digest {
    id_of_tree(&merkle::root(merkle::GROUPS, roots))
}

/// SHA-256(0x03 ‖ u16 format ‖ u16 12 ‖ tree of group roots).
#[must_use]
pub fn id_of_tree(tree: &Digest) -> Digest {
    sha256_parts(&[
        &[0x03],
        &FORMAT.to_be_bytes(),
        &(GROUPS as u16).to_be_bytes(),
        tree,
    ])
}

pub(crate) fn check_format(format: u32) -> Result<(), Error> {
    if format == u32::from(FORMAT) {
        return Ok(());
    }
    Err(Error::malformed(format!(
        "the format is {format}; this protocol version knows format {FORMAT} only"
    )))
}

fn read_group<'a>(bytes: &'a [u8], components: &mut Vec<&'a [u8]>) -> Result<(), Error> {
    let mut reader = Reader::new(bytes, "ComponentGroup");
    let before = components.len();
    while let Some(component) = reader.repeated(1)? {
        if components.len() - before == GROUP_COMPONENTS_MAX {
            return Err(too_many_components());
        }
        components.push(component);
    }
    reader.finish()
}

fn wrong_group_count(count: &str) -> Error {
    Error::malformed(format!(
        "a transaction has exactly {GROUPS} groups of components, this one has {count}"
    ))
}

fn too_many_components() -> Error {
    Error::malformed(format!(
        "a group holds more than {GROUP_COMPONENTS_MAX} components"
    ))
}
