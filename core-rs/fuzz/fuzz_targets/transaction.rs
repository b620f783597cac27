//! Fuzzes the decoder target `transaction`.

#![no_main]

#[path = "../../core/tests/common/decoders.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|data: &[u8]| decoders::transaction(data));
