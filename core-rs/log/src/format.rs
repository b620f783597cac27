//! The bytes of segments and records (docs/protocol.md, section 10); pure.

use sha2::{Digest, Sha256};

use crate::{ChainValue, PAYLOAD_BYTES_MAX};

/// Bytes of a segment's header.
pub const SEGMENT_HEADER_BYTES: usize = 64;
/// Bytes of a record before its payload.
pub const RECORD_HEADER_BYTES: usize = 48;
/// Every record starts at a multiple of this.
pub const ALIGNMENT: usize = 8;

const MAGIC: &[u8; 8] = b"p2petlog";
const VERSION: u32 = 2;
const CHECKED_HEADER_BYTES: usize = 56;
const CHAIN_PREFIX: u8 = 0x20;

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Random, and part of every record's checksum: bytes that others put into a payload cannot pass for a record.
    pub salt: u32,
    /// Sequence of its first record.
    pub first_sequence: u64,
    /// The chain value before that record.
    pub chain_before: ChainValue,
}

impl SegmentHeader {
    /// The 64 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEGMENT_HEADER_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&self.salt.to_be_bytes());
        bytes.extend_from_slice(&self.first_sequence.to_be_bytes());
        bytes.extend_from_slice(&self.chain_before);
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        bytes.extend_from_slice(&0u32.to_be_bytes());
        bytes
    }

    /// The header of exactly these 64 bytes, or the clause that says what is wrong with them.
    pub fn decode(bytes: &[u8; SEGMENT_HEADER_BYTES]) -> Result<Self, &'static str> {
        let mut rest = bytes.as_slice();
        let checked = rest.get(..CHECKED_HEADER_BYTES).ok_or("short header")?;
        let (magic, version, salt) = (
            take::<8>(&mut rest),
            take::<4>(&mut rest),
            take::<4>(&mut rest),
        );
        let (first, chain) = (take::<8>(&mut rest), take::<32>(&mut rest));
        let (crc, end) = (take::<4>(&mut rest), take::<4>(&mut rest));
        if magic != Some(*MAGIC) {
            return Err("not a log segment");
        }
        if version.map(u32::from_be_bytes) != Some(VERSION) {
            return Err("a version of the log that this program does not know");
        }
        if crc.map(u32::from_be_bytes) != Some(crc32c::crc32c(checked)) {
            return Err("the checksum of the header does not match");
        }
        if end != Some([0; 4]) {
            return Err("reserved bytes of the header are not zero");
        }
        match (salt, first, chain) {
            (Some(salt), Some(first), Some(chain_before)) => Ok(Self {
                salt: u32::from_be_bytes(salt),
                first_sequence: u64::from_be_bytes(first),
                chain_before,
            }),
            _ => Err("short header"),
        }
    }
}

/// What a record's header says; nothing of it is checked before `verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Bytes of the payload.
    pub length: u32,
    /// CRC-32C of the segment's salt, sequence, chain value and payload.
    pub crc: u32,
    /// The record's number, from 1.
    pub sequence: u64,
    /// SHA-256 over the value before, the sequence and the payload.
    pub chain_value: ChainValue,
}

impl RecordHeader {
    /// The fields of these 48 bytes.
    pub fn decode(bytes: &[u8; RECORD_HEADER_BYTES]) -> Self {
        let mut rest = bytes.as_slice();
        Self {
            length: take(&mut rest).map_or(0, u32::from_be_bytes),
            crc: take(&mut rest).map_or(0, u32::from_be_bytes),
            sequence: take(&mut rest).map_or(0, u64::from_be_bytes),
            chain_value: take(&mut rest).unwrap_or_default(),
        }
    }

    /// Whether the payload is the one that was written under this header into a segment with this salt.
    pub fn matches(&self, salt: u32, payload: &[u8]) -> bool {
        self.crc == record_crc(salt, self.sequence, &self.chain_value, payload)
    }
}

/// The chain value of a record.
pub fn chain_value(before: &ChainValue, sequence: u64, payload: &[u8]) -> ChainValue {
    Sha256::new()
        .chain_update([CHAIN_PREFIX])
        .chain_update(before)
        .chain_update(sequence.to_be_bytes())
        .chain_update(payload)
        .finalize()
        .into()
}

/// Bytes that a record with this payload takes in the file, None over the limit.
pub fn record_bytes(payload: usize) -> Option<usize> {
    if payload > PAYLOAD_BYTES_MAX {
        return None;
    }
    (payload + RECORD_HEADER_BYTES).checked_next_multiple_of(ALIGNMENT)
}

/// Replaces `out` by the record's bytes, padding included; None over the limit.
pub fn encode_record(
    out: &mut Vec<u8>,
    salt: u32,
    sequence: u64,
    chain_value: &ChainValue,
    payload: &[u8],
) -> Option<()> {
    let total = record_bytes(payload.len())?;
    out.clear();
    out.reserve(total);
    out.extend_from_slice(&u32::try_from(payload.len()).ok()?.to_be_bytes());
    out.extend_from_slice(&record_crc(salt, sequence, chain_value, payload).to_be_bytes());
    out.extend_from_slice(&sequence.to_be_bytes());
    out.extend_from_slice(chain_value);
    out.extend_from_slice(payload);
    out.resize(total, 0);
    Some(())
}

/// `<first sequence, 20 digits>.log`
pub fn segment_name(first_sequence: u64) -> String {
    format!("{first_sequence:020}.log")
}

/// The first sequence in a segment's name; None for another file.
pub fn parse_segment_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".log")?;
    let well_formed = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if well_formed {
        digits.parse().ok()
    } else {
        None
    }
}

fn record_crc(salt: u32, sequence: u64, chain_value: &ChainValue, payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(salt_crc(salt), &sequence.to_be_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, chain_value), payload)
}

/// What the checksum of every record begins with.
pub(crate) fn salt_crc(salt: u32) -> u32 {
    crc32c::crc32c(&salt.to_be_bytes())
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn header_survives_a_round_trip() {
        let header = SegmentHeader {
            salt: 5,
            first_sequence: 7,
            chain_before: [3; 32],
        };
        let bytes: [u8; SEGMENT_HEADER_BYTES] = header.encode().try_into().unwrap();
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_refused() {
        let header = SegmentHeader {
            salt: 5,
            first_sequence: 1,
            chain_before: [9; 32],
        };
        for bit in 0..SEGMENT_HEADER_BYTES * 8 {
            let mut bytes: [u8; SEGMENT_HEADER_BYTES] = header.encode().try_into().unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(SegmentHeader::decode(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn only_whole_names_are_segments() {
        assert_eq!(parse_segment_name(&segment_name(u64::MAX)), Some(u64::MAX));
        for name in [
            "1.log",
            "+0000000000000000001.log",
            "00000000000000000001.log.tmp",
            "99999999999999999999.log",
        ] {
            assert_eq!(parse_segment_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_payload_over_the_limit_has_no_size() {
        assert!(record_bytes(PAYLOAD_BYTES_MAX).is_some());
        assert!(record_bytes(PAYLOAD_BYTES_MAX + 1).is_none());
    }

    proptest! {
        #[test]
        fn decoders_take_any_bytes(head in any::<[u8; SEGMENT_HEADER_BYTES]>(), record in any::<[u8; 32]>(), payload: Vec<u8>) {
            let _ = SegmentHeader::decode(&head);
            let mut bytes = [0; RECORD_HEADER_BYTES];
            bytes[..32].copy_from_slice(&record);
            let _ = RecordHeader::decode(&bytes).matches(7, &payload);
        }

        #[test]
        fn records_survive_a_round_trip(salt: u32, sequence: u64, before: [u8; 32], payload: Vec<u8>) {
            let chain = chain_value(&before, sequence, &payload);
            let mut bytes = Vec::new();
            encode_record(&mut bytes, salt, sequence, &chain, &payload).unwrap();
            prop_assert_eq!(bytes.len() % ALIGNMENT, 0);
            let header = RecordHeader::decode(bytes.first_chunk().unwrap());
            prop_assert_eq!(header.sequence, sequence);
            prop_assert!(header.matches(salt, &payload));
            prop_assert!(!header.matches(salt ^ 1, &payload));
        }
    }
}
