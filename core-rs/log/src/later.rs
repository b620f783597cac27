//! Searching a bad tail for a record: bytes of others may stand there, so the work must not depend on what they say.

use crate::format::{ALIGNMENT, RECORD_HEADER_BYTES, RecordHeader, salt_crc};

/// A record's bytes before those that its checksum covers.
const UNCHECKED_BYTES: usize = 8;
/// Powers of two that a length in the tail can be made of.
const POWERS: usize = usize::BITS as usize;

/// The place of the first whole record whose sequence is `expected` or a little later.
///
/// The time is linear in the bytes, whatever they hold: a header that announces a long payload costs no more than
/// another, because the checksum of any range follows from those of two prefixes.
pub(crate) fn find_record(bytes: &[u8], salt: u32, expected: u64) -> Option<usize> {
    let latest = expected.saturating_add((bytes.len() / RECORD_HEADER_BYTES) as u64 + 1);
    let mut checksums = None;
    (0..bytes.len()).step_by(ALIGNMENT).find(|at| {
        let candidate = bytes.get(*at..).unwrap_or_default();
        let Some((head, rest)) = candidate.split_first_chunk::<RECORD_HEADER_BYTES>() else {
            return false;
        };
        let header = RecordHeader::decode(head);
        let length = header.length as usize;
        let plausible = (expected..=latest).contains(&header.sequence) && length <= rest.len();
        plausible && {
            let checksums = checksums.get_or_insert_with(|| Checksums::new(bytes, salt));
            let end = at + RECORD_HEADER_BYTES + length;
            checksums.match_range(at + UNCHECKED_BYTES, end, header.crc)
        }
    })
}

/// Checksums of every aligned prefix, and what appending bytes does to a checksum.
struct Checksums<'b> {
    bytes: &'b [u8],
    salt: u32,
    prefixes: Vec<u32>,
    /// For each power of two, that many bytes: what they make of each bit. CRCs are linear, so that bits add up.
    shifts: Vec<[u32; 32]>,
}

impl<'b> Checksums<'b> {
    fn new(bytes: &'b [u8], salt: u32) -> Self {
        let mut prefixes = vec![0];
        let mut crc = 0;
        for chunk in bytes.chunks_exact(ALIGNMENT) {
            crc = crc32c::crc32c_append(crc, chunk);
            prefixes.push(crc);
        }
        let used = POWERS - bytes.len().leading_zeros() as usize;
        let shift = |power| std::array::from_fn(|bit| crc32c::crc32c_combine(1 << bit, 0, power));
        Self {
            bytes,
            salt: salt_crc(salt),
            prefixes,
            shifts: (0..used).map(|power| shift(1 << power)).collect(),
        }
    }

    /// Whether `crc` is the checksum of the salt and the bytes from `start`, which is aligned, to `end`.
    ///
    /// With s for the shift by the range's length and + for bitwise exclusive or: prefix(end) = s(prefix(start)) + range
    /// and crc = s(salt) + range.
    fn match_range(&self, start: usize, end: usize, crc: u32) -> bool {
        let before = self.prefix(start) ^ self.salt;
        self.prefix(end) == self.shifted(before, end.saturating_sub(start)) ^ crc
    }

    fn prefix(&self, end: usize) -> u32 {
        let aligned = end / ALIGNMENT;
        let crc = self.prefixes.get(aligned).copied().unwrap_or_default();
        let rest = self.bytes.get(aligned * ALIGNMENT..end);
        crc32c::crc32c_append(crc, rest.unwrap_or_default())
    }

    fn shifted(&self, crc: u32, length: usize) -> u32 {
        let powers = self.shifts.iter().enumerate();
        let of_length = powers.filter(|(power, _)| length >> power & 1 == 1);
        of_length.fold(crc, |crc, (_, columns)| {
            let bits = columns.iter().enumerate();
            let of_crc = bits.filter(|(bit, _)| crc >> bit & 1 == 1);
            of_crc.fold(0, |sum, (_, column)| sum ^ column)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;
    use crate::format::encode_record;

    const SALT: u32 = 0x5A17_5A17;

    /// Whether the payload of every header in these bytes is looked at one by one: what `find_record` must answer.
    fn found_slowly(bytes: &[u8], salt: u32, expected: u64) -> Option<usize> {
        (0..bytes.len()).step_by(ALIGNMENT).find(|at| {
            let Some((head, rest)) = bytes[*at..].split_first_chunk::<RECORD_HEADER_BYTES>() else {
                return false;
            };
            let header = RecordHeader::decode(head);
            let latest = expected + (bytes.len() / RECORD_HEADER_BYTES) as u64 + 1;
            let payload = rest.get(..header.length as usize);
            (expected..=latest).contains(&header.sequence)
                && payload.is_some_and(|payload| header.matches(salt, payload))
        })
    }

    #[test]
    fn r06_a_crafted_tail_of_headers_costs_linear_time() {
        // Every 16 bytes a header with a fitting sequence that announces everything up to the end.
        let total = 8 << 20;
        let mut bytes = Vec::with_capacity(total);
        while bytes.len() < total {
            let length = (total - bytes.len()).saturating_sub(RECORD_HEADER_BYTES) as u32;
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(&[0xAB; 4]);
            bytes.extend_from_slice(&3u64.to_be_bytes());
        }
        let start = Instant::now();
        assert_eq!(find_record(&bytes, SALT, 3), None);
        // Reading each announced payload would take 2 TiB of checksums.
        assert!(start.elapsed() < Duration::from_secs(60));
    }

    proptest! {
        #[test]
        fn r06_a_later_record_is_found_at_any_place(
            before in prop::collection::vec(0u8..3, 0..40),
            payload in prop::collection::vec(any::<u8>(), 0..300),
            after in prop::collection::vec(any::<u8>(), 0..40),
            salts in any::<(u32, u32)>(),
        ) {
            let mut record = Vec::new();
            encode_record(&mut record, salts.0, 5, &[7; 32], &payload).unwrap();
            let mut bytes = vec![9; before.len() * ALIGNMENT];
            let at = bytes.len();
            bytes.extend_from_slice(&record);
            bytes.extend_from_slice(&after);
            prop_assert_eq!(find_record(&bytes, salts.0, 4), Some(at));
            prop_assert_eq!(find_record(&bytes, salts.0, 6), found_slowly(&bytes, salts.0, 6));
            prop_assert_eq!(find_record(&bytes, salts.1, 4), found_slowly(&bytes, salts.1, 4));
        }

        #[test]
        fn r06_the_search_agrees_with_reading_each_payload(
            words in prop::collection::vec(prop_oneof![Just(0u64), Just(1), Just(2), Just(16 << 32), any::<u64>()], 0..60)
        ) {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
            prop_assert_eq!(find_record(&bytes, SALT, 1), found_slowly(&bytes, SALT, 1));
        }
    }
}
