//! Fuzzes the decoder target `node_record`.

#![no_main]

#[path = "../../notary/tests/common/decoders.rs"]
mod decoders;

libfuzzer_sys::fuzz_target!(|data: &[u8]| decoders::node_record(data));
