//! R13: the decoders of log and records take any bytes; the fuzzer drives the same functions.

#[path = "common/decoders.rs"]
mod decoders;

use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn r13_any_bytes_are_decoded_or_refused(data: Vec<u8>) {
        decoders::log_segment(&data);
        decoders::node_record(&data);
        decoders::notary_record(&data);
        decoders::damaged_segment(&data);
    }

    #[test]
    fn r13_a_kind_that_fits_is_decoded_or_refused(tail: Vec<u8>, counts in prop::array::uniform4(0u8..3)) {
        decoders::node_record(&[&[1, 0, 0, 0], &counts[..], &tail].concat());
        decoders::notary_record(&[&[16; 9], &[0, 0, 0, counts[0], 0, 0, 0, counts[1]][..], &tail].concat());
        decoders::notary_record(&[&[17, 10, 32], &[counts[2]; 32][..], &[18, 32], &[counts[3]; 32], &tail].concat());
    }
}
