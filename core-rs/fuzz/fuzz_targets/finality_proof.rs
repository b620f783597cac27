//! Fuzzes the decoder target `finality_proof`.

#![no_main]

#[path = "../../core/tests/common/decoders.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|data: &[u8]| decoders::finality_proof(data));
