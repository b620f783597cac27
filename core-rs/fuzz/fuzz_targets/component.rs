//! Fuzzes the decoder target `component`.

#![no_main]

#[path = "../../core/tests/common/decoders.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|data: &[u8]| decoders::component(data));
