//! Fuzzes the decoder target `damaged_segment`.

#![no_main]

#[path = "../../notary/tests/common/decoders.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|data: &[u8]| decoders::damaged_segment(data));
