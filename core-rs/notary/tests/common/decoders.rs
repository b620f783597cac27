//! What the decoders of log and records must do with any bytes; driven by tests and by the fuzzer.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use p2pet_log::format::{SegmentHeader, chain_value, encode_record};
use p2pet_log::{CHAIN_START, read_segment};
use p2pet_notary::record::{Entry, encode_certificate};
use p2pet_view::{decode_changes, encode_changes};

/// A segment, as it arrives.
pub fn log_segment(data: &[u8]) {
    let _ = read_segment(data);
}

/// A valid segment of records that the data chooses, with one bit flipped: no record is shown that was not written.
pub fn damaged_segment(data: &[u8]) {
    let Some((place, rest)) = data.split_first_chunk::<4>() else {
        return;
    };
    let payloads: Vec<&[u8]> = rest.split(|byte| *byte == b'/').collect();
    let salt = u32::from_be_bytes(*place);
    let mut bytes = SegmentHeader {
        salt,
        first_sequence: 1,
        chain_before: CHAIN_START,
    }
    .encode();
    let (mut chain, mut record) = (CHAIN_START, Vec::new());
    for (payload, sequence) in payloads.iter().zip(1..) {
        chain = chain_value(&chain, sequence, payload);
        encode_record(&mut record, salt, sequence, &chain, payload).unwrap();
        bytes.extend_from_slice(&record);
    }
    bytes.resize(bytes.len() + 64, 0);
    assert_eq!(read_segment(&bytes).unwrap(), payloads);
    let bit = u32::from_be_bytes(*place) as usize % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    assert!(read_segment(&bytes).is_err(), "bit {bit}");
}

/// The payload of a node's record.
pub fn node_record(data: &[u8]) {
    if let Ok(changes) = decode_changes(data) {
        assert_eq!(encode_changes(&changes).unwrap(), data);
    }
}

/// The payload of a notary's record.
pub fn notary_record(data: &[u8]) {
    match Entry::decode(data) {
        Ok(Entry::Batch(record)) => assert_eq!(record.encode().unwrap(), data),
        Ok(Entry::Certificate(certificate)) => assert_eq!(encode_certificate(certificate), data),
        Err(_) => {}
    }
}
