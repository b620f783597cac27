//! Fuzzes the decoder target `tear_off`.

#![no_main]

#[path = "../../core/tests/common/decoders.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|data: &[u8]| decoders::tear_off(data));
