//! Hostile bytes never panic and never cost more memory than a small multiple of their length: L23, R14, R18.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[path = "common/decoders.rs"]
mod decoders;
#[path = "../examples/vectors.rs"]
mod vectors;

use p2pet_core::component::decode_signers;
use p2pet_core::transaction::Transaction;
use p2pet_core::wire::Writer;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The allocator counts for the whole process: one measurement at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// All that was ever allocated while `run` ran, even if it was freed at once.
fn allocated(run: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    run();
    region.change().bytes_allocated
}

#[track_caller]
fn assert_bounded(what: &str, data: &[u8], run: impl FnOnce()) {
    let spent = allocated(run);
    let bound = 64 * data.len() + (64 << 10);
    assert!(
        spent <= bound,
        "{what}: {} bytes made it allocate {spent}",
        data.len()
    );
}

fn corpus() -> Vec<(&'static str, decoders::Target, PathBuf)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let mut found = Vec::new();
    for (name, target) in decoders::ALL {
        let entries = std::fs::read_dir(root.join(name)).unwrap();
        found.extend(entries.map(|entry| (name, target, entry.unwrap().path())));
    }
    found
}

#[test]
fn l23_the_corpus_is_decoded_without_panic_and_in_bounded_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // What is made once and kept is not the input's doing.
    decoders::ALL.iter().for_each(|(_, target)| target(&[]));
    let corpus = corpus();
    assert!(corpus.len() >= 5 * 4, "the corpus is missing");
    for (name, target, path) in corpus {
        let data = std::fs::read(&path).unwrap();
        assert_bounded(&format!("{name} {}", path.display()), &data, || {
            target(&data)
        });
    }
}

/// Keys of as many thresholds as fit over one leaf each: the most that a decoder has to build for a byte.
#[test]
fn l23_many_nested_keys_cost_bounded_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let keys = (0..4000u32).map(|number| {
        let threshold = [1u8, 0, 1, 1, 0, 1];
        let leaf = [&[0; 28][..], &number.to_be_bytes()].concat();
        [&[1][..], &threshold.repeat(4), &[0], &leaf].concat()
    });
    let component: Vec<u8> = keys
        .flat_map(|key| [&(key.len() as u16).to_be_bytes()[..], &key].concat())
        .collect();
    assert_bounded("nested keys", &component, || {
        assert_eq!(decode_signers(&component).unwrap().len(), 4000);
    });
}

/// Every serialised message of the vectors.
fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (_, contents) in vectors::files() {
        collect(&serde_json::from_str(&contents).unwrap(), &mut seeds);
    }
    seeds
}

fn collect(value: &serde_json::Value, seeds: &mut Vec<Vec<u8>>) {
    match value {
        serde_json::Value::Object(fields) => {
            fields.values().for_each(|value| collect(value, seeds))
        }
        serde_json::Value::Array(entries) => entries.iter().for_each(|value| collect(value, seeds)),
        serde_json::Value::String(text)
            if text.len() > 160 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) =>
        {
            let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
            seeds.push((0..text.len()).step_by(2).map(byte).collect());
        }
        _ => {}
    }
}

#[test]
fn l23_mutated_messages_never_panic_and_cost_bounded_memory() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    decoders::ALL.iter().for_each(|(_, target)| target(&[]));
    let seeds = seeds();
    let edit = (any::<prop::sample::Index>(), any::<u8>(), 0..4u8);
    let strategy = (
        any::<prop::sample::Index>(),
        prop::collection::vec(edit, 0..6),
    );
    let mut runner = TestRunner::new(ProptestConfig::with_cases(400));
    let ran = runner.run(&strategy, |(seed, edits)| {
        let mut data = seeds[seed.index(seeds.len())].clone();
        for (at, byte, kind) in edits {
            let at = at.index(data.len() + 1);
            match kind {
                0 => data.insert(at, byte),
                1 => data.truncate(at.max(1)),
                _ if at < data.len() => data[at] = byte,
                _ => data.push(byte),
            }
        }
        for (name, target) in decoders::ALL {
            assert_bounded(name, &data, || target(&data));
        }
        Ok(())
    });
    ran.unwrap();
}

#[test]
fn r14_huge_length_prefixes_are_refused_before_allocation() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    decoders::ALL.iter().for_each(|(_, target)| target(&[]));
    for length in [
        &[0xff, 0xff, 0xff, 0xff, 0x0f][..],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
    ] {
        for tag in [0x0a, 0x12, 0x1a, 0x22, 0x2a, 0x32] {
            let data = [&[tag], length, &[0; 16]].concat();
            for (name, target) in decoders::ALL {
                let spent = allocated(|| target(&data));
                assert!(spent < 4096, "{name}: {spent}");
            }
        }
    }
}

#[test]
fn r14_a_million_inputs_are_refused_early() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for size in [0usize, 36] {
        let mut writer = Writer::with_capacity(40_000_000);
        writer.uint(1, 1).bytes(2, &[7; 32]).message(3, |group| {
            for _ in 0..1_000_000 {
                group.entry(1, &vec![1; size]);
            }
        });
        let data = writer.finish();
        let spent = allocated(|| assert!(Transaction::decode(&data).is_err()));
        assert!(spent < 1 << 20, "{spent}");
    }
}

#[test]
fn r14_deep_nesting_is_not_followed() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for tag in [0x0a, 0x12, 0x1a, 0x22] {
        let mut data = Vec::new();
        for _ in 0..2000 {
            let mut writer = Writer::default();
            writer.entry(tag >> 3, &data);
            data = writer.finish();
        }
        for (name, target) in decoders::ALL {
            assert_bounded(name, &data, || target(&data));
        }
    }
}
