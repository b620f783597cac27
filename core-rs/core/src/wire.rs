//! A strict reader and a small writer of canonical Protocol Buffers (section 1).
//!
//! The reader copies nothing and allocates nothing: accessors are called in ascending order of field numbers, and
//! whatever the canonical form forbids is refused where it is met.

use crate::error::Error;

/// Bytes of a frame between nodes, the largest thing that is ever decoded.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Components in a group of a transaction.
pub const GROUP_COMPONENTS_MAX: usize = 4096;
/// Signatures on a proposal.
pub const SIGNATURES_MAX: usize = 1024;
/// Siblings in a path to the root of a notary batch; batches hold fewer than 2³² requests.
pub const PATH_MAX: usize = 32;
/// Bytes of an Ed25519 public key.
pub const KEY_BYTES: usize = 32;
/// Bytes of an Ed25519 signature.
pub const SIGNATURE_BYTES: usize = 64;

const VARINT: u8 = 0;
const LENGTH_DELIMITED: u8 = 2;

/// Reads one message; each accessor takes the field of its number or answers with the default.
pub struct Reader<'a> {
    rest: &'a [u8],
    tag: Option<(u32, u8)>,
    name: &'static str,
}

impl<'a> Reader<'a> {
    /// A reader of `bytes`; `name` is the message's, for sentences.
    #[must_use]
    pub fn new(bytes: &'a [u8], name: &'static str) -> Self {
        Self {
            rest: bytes,
            tag: None,
            name,
        }
    }

    /// A u32 of field `number`, 0 when absent.
    pub fn uint32(&mut self, number: u32) -> Result<u32, Error> {
        let value = self.uint64(number)?;
        u32::try_from(value).map_err(|_| self.refuse(number, "does not fit into 32 bits"))
    }

    /// A u64 of field `number`, 0 when absent.
    pub fn uint64(&mut self, number: u32) -> Result<u64, Error> {
        if !self.take(number, VARINT)? {
            return Ok(0);
        }
        match self.varint()? {
            0 => Err(self.refuse(number, "stands although it equals its default")),
            value => Ok(value),
        }
    }

    /// An i64 of field `number`, 0 when absent.
    pub fn int64(&mut self, number: u32) -> Result<i64, Error> {
        Ok(self.uint64(number)?.cast_signed())
    }

    /// The bytes of field `number`, empty when absent.
    pub fn bytes(&mut self, number: u32) -> Result<&'a [u8], Error> {
        match self.repeated(number)? {
            None => Ok(&[]),
            Some([]) => Err(self.refuse(number, "stands although it equals its default")),
            Some(bytes) => Ok(bytes),
        }
    }

    /// Exactly `N` bytes of field `number`.
    pub fn array<const N: usize>(&mut self, number: u32) -> Result<&'a [u8; N], Error> {
        let bytes = self.bytes(number)?;
        bytes
            .try_into()
            .map_err(|_| self.refuse(number, &format!("has {} bytes instead of {N}", bytes.len())))
    }

    /// The text of field `number`, empty when absent.
    pub fn string(&mut self, number: u32) -> Result<&'a str, Error> {
        let bytes = self.bytes(number)?;
        std::str::from_utf8(bytes).map_err(|_| self.refuse(number, "is not UTF-8"))
    }

    /// The bytes of the singular message of field `number`, which must be there.
    pub fn message(&mut self, number: u32) -> Result<&'a [u8], Error> {
        self.repeated(number)?
            .ok_or_else(|| self.refuse(number, "is missing"))
    }

    /// The next entry of the repeated bytes or messages of field `number`, `None` after the last.
    pub fn repeated(&mut self, number: u32) -> Result<Option<&'a [u8]>, Error> {
        if !self.take(number, LENGTH_DELIMITED)? {
            return Ok(None);
        }
        let length = self.varint()?;
        let taken = usize::try_from(length)
            .ok()
            .and_then(|length| self.rest.split_at_checked(length));
        let (bytes, rest) = taken.ok_or_else(|| {
            self.refuse(
                number,
                &format!("claims {length} bytes where {} are left", self.rest.len()),
            )
        })?;
        self.rest = rest;
        Ok(Some(bytes))
    }

    /// The next entry of the repeated 32-byte values of field `number`.
    pub fn repeated_array<const N: usize>(
        &mut self,
        number: u32,
    ) -> Result<Option<&'a [u8; N]>, Error> {
        let Some(bytes) = self.repeated(number)? else {
            return Ok(None);
        };
        match bytes.try_into() {
            Ok(array) => Ok(Some(array)),
            Err(_) => Err(self.refuse(
                number,
                &format!("has an entry of {} bytes instead of {N}", bytes.len()),
            )),
        }
    }

    /// Refuses whatever no accessor took: an unknown, repeated or misplaced field, or trailing bytes.
    pub fn finish(mut self) -> Result<(), Error> {
        match self.peek()? {
            None => Ok(()),
            Some((number, _)) => Err(self.refuse(number, "is unknown, repeated or out of order")),
        }
    }

    /// An error about field `number` of this message.
    #[must_use]
    pub fn refuse(&self, number: u32, what: &str) -> Error {
        Error::malformed(format!("field {number} of {} {what}", self.name))
    }

    /// Whether the next field is `number`; if so its tag is consumed.
    fn take(&mut self, number: u32, wire_type: u8) -> Result<bool, Error> {
        match self.peek()? {
            Some((next, kind)) if next == number && kind == wire_type => {
                self.tag = None;
                Ok(true)
            }
            Some((next, kind)) if next == number => {
                Err(self.refuse(number, &format!("has the wire type {kind}")))
            }
            Some((next, _)) if next < number => {
                Err(self.refuse(next, "is unknown, repeated or out of order"))
            }
            _ => Ok(false),
        }
    }

    fn peek(&mut self) -> Result<Option<(u32, u8)>, Error> {
        if self.tag.is_none() && !self.rest.is_empty() {
            let tag = self.varint()?;
            let number = u32::try_from(tag >> 3)
                .ok()
                .filter(|number| (1..1 << 29).contains(number));
            let number =
                number.ok_or_else(|| self.refuse(0, "or one above 2²⁹ is no field number"))?;
            self.tag = Some((number, (tag & 7) as u8));
        }
        Ok(self.tag)
    }

    fn varint(&mut self) -> Result<u64, Error> {
        let mut value = 0u64;
        for (position, byte) in self.rest.iter().copied().enumerate().take(10) {
            if position == 9 && byte > 1 {
                return Err(self.malformed("holds a number above 64 bits"));
            }
            value |= u64::from(byte & 0x7f) << (7 * position);
            if byte & 0x80 == 0 {
                if byte == 0 && position > 0 {
                    return Err(self.malformed("holds a number that is not encoded minimally"));
                }
                self.rest = self.rest.get(position + 1..).unwrap_or_default();
                return Ok(value);
            }
        }
        Err(self.malformed("ends within a number"))
    }

    fn malformed(&self, what: &str) -> Error {
        Error::malformed(format!("{} {what}", self.name))
    }
}

/// Writes canonical messages; fields are given in ascending order.
#[derive(Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// A writer that expects about `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// A singular unsigned number.
    pub fn uint(&mut self, number: u32, value: u64) -> &mut Self {
        if value != 0 {
            self.varint(u64::from(number) << 3 | u64::from(VARINT));
            self.varint(value);
        }
        self
    }

    /// A singular int64.
    pub fn int64(&mut self, number: u32, value: i64) -> &mut Self {
        self.uint(number, value.cast_unsigned())
    }

    /// Singular bytes or text.
    pub fn bytes(&mut self, number: u32, value: &[u8]) -> &mut Self {
        if value.is_empty() {
            self
        } else {
            self.entry(number, value)
        }
    }

    /// One entry of repeated bytes, or a message that is already serialised.
    pub fn entry(&mut self, number: u32, value: &[u8]) -> &mut Self {
        self.varint(u64::from(number) << 3 | u64::from(LENGTH_DELIMITED));
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// A message that `write` writes.
    pub fn message(&mut self, number: u32, write: impl FnOnce(&mut Self)) -> &mut Self {
        self.varint(u64::from(number) << 3 | u64::from(LENGTH_DELIMITED));
        let start = self.0.len();
        write(self);
        let end = self.0.len();
        self.varint((end - start) as u64);
        let length_bytes = self.0.len() - end;
        // The length goes in front of the body, which is only known now.
        if let Some(tail) = self.0.get_mut(start..) {
            tail.rotate_right(length_bytes);
        }
        self
    }

    /// The bytes written.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}
