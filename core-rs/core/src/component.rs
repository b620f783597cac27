//! Strict decoding of single components (section 2).

use crate::composite::Key;
use crate::error::Error;
use crate::hash::Digest;
use crate::wire::{KEY_BYTES, Reader, Writer};

/// Bytes of a state reference.
pub const STATE_REF_BYTES: usize = 36;

/// A reference to an output: 32-byte transaction id ‖ u32 output index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateRef<'a>(&'a [u8; STATE_REF_BYTES]);

impl<'a> StateRef<'a> {
    /// Refused unless the component has 36 bytes.
    pub fn decode(component: &'a [u8]) -> Result<Self, Error> {
        exactly(component, "a state reference").map(Self)
    }

    /// The 36 bytes.
    #[must_use]
    pub fn bytes(self) -> &'a [u8; STATE_REF_BYTES] {
        self.0
    }

    /// The id of the transaction that made the state, and the index of the output there.
    #[must_use]
    pub fn parts(self) -> (Digest, u32) {
        let mut id = Digest::default();
        let mut index = [0; 4];
        id.iter_mut()
            .chain(&mut index)
            .zip(self.0)
            .for_each(|(slot, byte)| *slot = *byte);
        (id, u32::from_be_bytes(index))
    }
}

/// A decoded `ledger.v1.OutputState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutputState<'a> {
    /// The contract that guards the state.
    pub contract: &'a str,
    /// Its version.
    pub contract_version: u32,
    /// The service key of the notary that guards the state.
    pub notary: &'a [u8; KEY_BYTES],
    /// The type of the payload.
    pub type_name: &'a str,
    /// The version of that type.
    pub schema_version: u32,
    /// The state itself.
    pub payload: &'a [u8],
    /// 1 + the index of the output of the same transaction that must be consumed with this one; 0 for none.
    pub encumbered_by: u32,
}

impl<'a> OutputState<'a> {
    /// Refuses what is not canonical and a notary that is not 32 bytes.
    pub fn decode(component: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(component, "OutputState");
        let output = Self {
            contract: reader.string(1)?,
            contract_version: reader.uint32(2)?,
            notary: reader.array(3)?,
            type_name: reader.string(4)?,
            schema_version: reader.uint32(5)?,
            payload: reader.bytes(6)?,
            encumbered_by: reader.uint32(7)?,
        };
        reader.finish()?;
        Ok(output)
    }

    /// The canonical `ledger.v1.OutputState`.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(self.payload.len() + 128);
        writer
            .bytes(1, self.contract.as_bytes())
            .uint(2, u64::from(self.contract_version))
            .bytes(3, self.notary)
            .bytes(4, self.type_name.as_bytes())
            .uint(5, u64::from(self.schema_version))
            .bytes(6, self.payload)
            .uint(7, u64::from(self.encumbered_by));
        writer.finish()
    }
}

/// A decoded `ledger.v1.Command`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command<'a> {
    /// The contract that the command speaks to.
    pub contract: &'a str,
    /// The type of the payload.
    pub type_name: &'a str,
    /// The version of that type.
    pub schema_version: u32,
    /// The command itself.
    pub payload: &'a [u8],
}

impl<'a> Command<'a> {
    /// Refuses what is not canonical.
    pub fn decode(component: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(component, "Command");
        let command = Self {
            contract: reader.string(1)?,
            type_name: reader.string(2)?,
            schema_version: reader.uint32(3)?,
            payload: reader.bytes(4)?,
        };
        reader.finish()?;
        Ok(command)
    }
}

/// A half-open time window in UTC nanoseconds; the ends of i64 stand for no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindow {
    /// The first nanosecond inside.
    pub from_ns: i64,
    /// The first nanosecond after it.
    pub until_ns: i64,
}

impl TimeWindow {
    /// The window of a transaction that names none.
    pub const OPEN: Self = Self {
        from_ns: i64::MIN,
        until_ns: i64::MAX,
    };

    /// Refused unless the component has 16 bytes.
    pub fn decode(component: &[u8]) -> Result<Self, Error> {
        let bytes: &[u8; 16] = exactly(component, "a time window")?;
        let both = u128::from_be_bytes(*bytes);
        Ok(Self {
            from_ns: ((both >> 64) as u64).cast_signed(),
            until_ns: (both as u64).cast_signed(),
        })
    }

    /// Whether `now_ns` lies inside; without an upper bound the last nanosecond does too.
    #[must_use]
    pub fn contains(self, now_ns: i64) -> bool {
        self.from_ns <= now_ns && (now_ns < self.until_ns || self.until_ns == i64::MAX)
    }

    /// Whether no instant lies inside.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.from_ns >= self.until_ns
    }
}

/// The keys of one component of the signers group: (u16 length ‖ key) repeated, ascending, distinct.
pub fn decode_signers(component: &[u8]) -> Result<Vec<Key<'_>>, Error> {
    let mut keys: Vec<Key<'_>> = Vec::new();
    let mut rest = component;
    while !rest.is_empty() {
        let (length, after) = rest
            .split_first_chunk::<2>()
            .ok_or_else(|| signers("ends within a length"))?;
        let (bytes, after) = after
            .split_at_checked(usize::from(u16::from_be_bytes(*length)))
            .ok_or_else(|| signers("ends within a key"))?;
        if keys.last().is_some_and(|last| last.bytes() >= bytes) {
            return Err(signers("holds keys that are not ascending and distinct"));
        }
        keys.push(Key::decode(bytes).map_err(|error| signers(&format!("is refused: {error}")))?);
        rest = after;
    }
    Ok(keys)
}

/// The canonical component of the signers group for these keys, each an Ed25519 key or a composite one.
///
/// Refused: a key that does not decode, or has more bytes than a u16 counts.
pub fn encode_signers(keys: &[&[u8]]) -> Result<Vec<u8>, Error> {
    let mut ascending = keys.to_vec();
    ascending.sort_unstable();
    ascending.dedup();
    let mut component = Vec::new();
    for key in ascending {
        Key::decode(key)?;
        let length =
            u16::try_from(key.len()).map_err(|_| signers("holds a key that is too long"))?;
        component.extend_from_slice(&length.to_be_bytes());
        component.extend_from_slice(key);
    }
    Ok(component)
}

fn signers(what: &str) -> Error {
    Error::malformed(format!("a component of the group signers {what}"))
}

/// The component as `N` bytes.
pub(crate) fn exactly<'a, const N: usize>(
    component: &'a [u8],
    what: &str,
) -> Result<&'a [u8; N], Error> {
    component.try_into().map_err(|_| {
        Error::malformed(format!(
            "{what} has {} bytes instead of {N}",
            component.len()
        ))
    })
}
