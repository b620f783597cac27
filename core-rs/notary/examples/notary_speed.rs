//! How fast one worker checks and decides, every batch durable: `notary_speed [batches] [directory]`.
//!
//! Each transaction has two inputs with proofs, two party signatures and one request signature; a batch holds 256. The
//! parties are 1000 (`PARTIES=n` in the environment: n), since a batch verification is cheaper the fewer keys it has.
//! The directory (default: the current one) should not be a tmpfs, or the syncs cost nothing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use common::*;
use p2pet_core::hash::sha256;
use p2pet_core::keys::SigningKey;
use p2pet_notary::{Notary, Request};
use p2pet_view::Options;

const BATCH: usize = 256;
const OUTPUTS: u32 = 128;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let batches: usize = arguments
        .next()
        .map_or(100, |n| n.parse().expect("a number of batches"));
    let parent = arguments.next().unwrap_or_else(|| ".".to_owned());
    let directory = tempfile::tempdir_in(&parent).unwrap();
    let notary = Notary::open(directory.path(), Options::default(), rules(), service()).unwrap();

    let requests = prepare(&notary, batches);
    println!(
        "{} transactions of 2 inputs, {} bytes each as a request",
        batches * BATCH,
        requests[0].len()
    );
    let before = (
        notary.stats().bytes_appended,
        disk_bytes(directory.path(), "data.mdb"),
        notary.stats(),
    );
    let (mut checking, mut deciding, mut slowest) =
        (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let caller = alice().public();
    for batch in requests.chunks(BATCH) {
        let batch: Vec<_> = batch
            .iter()
            .map(|bytes| Request {
                caller: &caller,
                bytes,
            })
            .collect();
        let start = Instant::now();
        let checked = notary.check(&batch).unwrap();
        let middle = Instant::now();
        let replies = notary
            .decide(checked.prepared, &HashMap::new(), NOW)
            .unwrap();
        let end = Instant::now();
        assert!(decode_reply(&replies[0]).is_ok());
        checking += middle - start;
        deciding += end - middle;
        slowest = slowest.max(end - middle);
    }
    let count = (batches * BATCH) as f64;
    let stats = notary.stats();
    assert_eq!(stats.accepted - before.2.accepted, (batches * BATCH) as u64);
    let rate = |time: Duration| count / time.as_secs_f64();
    let syncs = Duration::from_nanos(stats.sync_ns_total - before.2.sync_ns_total);
    println!("check            {:>8.0} tx/s", rate(checking));
    println!(
        "decide           {:>8.0} tx/s, slowest batch {:.1} ms",
        rate(deciding),
        slowest.as_secs_f64() * 1e3
    );
    println!(
        "  of which sync  {:>8.2} ms a batch",
        syncs.as_secs_f64() * 1e3 / batches as f64
    );
    println!("check + decide   {:>8.0} tx/s", rate(checking + deciding));
    let log = (notary.stats().bytes_appended - before.0) as f64 / count;
    let index = (disk_bytes(directory.path(), "data.mdb") - before.1) as f64 / count;
    println!(
        "disk             {:>8.0} bytes a transaction: {log:.0} log + {index:.0} index",
        log + index
    );
    notary.close().unwrap();
}

fn parties() -> u64 {
    let set = std::env::var("PARTIES").ok();
    set.map_or(1000, |n| n.parse().expect("a number of parties"))
}

fn party(number: u64) -> SigningKey {
    SigningKey::from_seed(&sha256(&[b"party", &number.to_be_bytes()[..]].concat()))
}

/// Requests that each spend two outputs of earlier transactions.
fn prepare(notary: &Notary, batches: usize) -> Vec<Vec<u8>> {
    let needed = batches * BATCH * 2;
    let issues = needed.div_ceil(OUTPUTS as usize) as u64;
    let drafts: Vec<_> = (0..issues)
        .map(|n| {
            Draft {
                outputs: OUTPUTS,
                ..draft(n)
            }
            .sign()
        })
        .collect();
    let mut finals = Vec::new();
    for batch in drafts.chunks(BATCH) {
        let replies = notarise(notary, &batch.iter().collect::<Vec<_>>());
        finals.extend(
            batch
                .iter()
                .zip(replies)
                .map(|(signed, reply)| signed.finalised(&reply.unwrap())),
        );
    }
    let states: Vec<(&Final, u32)> = finals
        .iter()
        .flat_map(|f| (0..OUTPUTS).map(move |index| (f, index)))
        .collect();
    // Inputs from two halves, so that a transaction's inputs have different creators.
    let (left, right) = states.split_at(states.len() / 2);
    let pairs = left
        .iter()
        .zip(right)
        .take(batches * BATCH)
        .zip(1_000_000u64..);
    let parties = parties();
    let spends = pairs.map(|((a, b), number)| Draft {
        signers: vec![
            party(number % parties),
            party((number + parties / 2) % parties + parties),
        ],
        outputs: 2,
        ..spend(number, &[*a, *b])
    });
    spends.map(|draft| draft.sign().request()).collect()
}

/// Bytes that the files of that name take on the disk.
fn disk_bytes(directory: &Path, name: &str) -> u64 {
    let mut total = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            total += disk_bytes(&path, name);
        } else if path.file_name().is_some_and(|file| file == name) {
            total += fs::metadata(&path).unwrap().blocks() * 512;
        }
    }
    total
}
