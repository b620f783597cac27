//! How long a batch of proposals takes, beside what its signatures alone take: `cargo bench -p p2pet-core`.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]

#[path = "../tests/common/mod.rs"]
mod common;

use common::{Built, NETWORK, Notarised, key, rules};
use p2pet_core::proofs::input_proof;
use p2pet_core::proposal::Proposal;
use p2pet_core::signature::{Purpose, SignatureBatch, signed_message};
use p2pet_core::tearoff::{TearOff, tear_off};
use p2pet_core::transaction::Transaction;
use std::time::{Duration, Instant};

const PROPOSALS: u32 = 256;
const ROUNDS: u32 = 8;

fn proposals() -> Vec<Vec<u8>> {
    let creators: Vec<_> = (0..=255)
        .map(|salt| Built::issue(salt, 2, &[&key(1)]))
        .collect();
    let ids: Vec<_> = creators.iter().map(Built::id).collect();
    let proofs = Notarised::default().proofs(&ids);
    let proof = |at: usize| input_proof(&creators[at].bytes(), 0, &proofs[at]).unwrap();
    let one = |salt: u8| {
        let (first, second) = (usize::from(salt), usize::from(salt.wrapping_add(1)));
        let signers = [&key(salt), &key(salt.wrapping_add(1))];
        let built = Built::spend(
            salt,
            &[creators[first].reference(0), creators[second].reference(0)],
            &signers,
        );
        built.proposal(&signers, &[proof(first), proof(second)])
    };
    (0..=255).map(one).collect()
}

fn report(what: &str, spent: Duration) {
    let each = spent / ROUNDS / PROPOSALS;
    println!(
        "{what:<44} {:>8.2} µs a proposal, {:>7.0} /s",
        each.as_nanos() as f64 / 1e3,
        1.0 / each.as_secs_f64()
    );
}

/// A transaction of 20 components: 3 inputs, 1 reference, 4 outputs, 3 commands and signers, 2 attachments, notary,
/// parameters, type and 1 claim.
fn twenty_components() -> Built {
    let inputs = [1, 2, 3].map(|byte| vec![byte; 36]);
    let mut built = Built::spend(1, &inputs, &[&key(1)]);
    built.groups[1] = vec![vec![4; 36]];
    built.groups[2] = vec![common::output(&common::service().public(), &[7; 150]); 4];
    built.groups[3] = vec![common::command(&[8; 60]); 3];
    built.groups[4] = vec![common::signers_component(&[&key(1), &key(2)]); 3];
    built.groups[5] = vec![vec![5; 32], vec![6; 32]];
    built.groups[10] = vec![vec![9; 32]];
    assert_eq!(built.groups.iter().map(Vec::len).sum::<usize>(), 20);
    built
}

fn tear_offs() {
    const ROUNDS: u32 = 20_000;
    let built = twenty_components();
    let (bytes, id) = (built.bytes(), built.id());
    for (what, components, whole) in [
        ("one command for an oracle", &[(3, 1)][..], &[][..]),
        ("an output as in an input proof", &[(2, 3)], &[6, 8, 9]),
        ("everything", &[], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
    ] {
        let start = Instant::now();
        let mut made = Vec::new();
        for _ in 0..ROUNDS {
            made = tear_off(&Transaction::decode(&bytes).unwrap(), components, whole).unwrap();
        }
        let making = start.elapsed() / ROUNDS;
        let start = Instant::now();
        for _ in 0..ROUNDS {
            TearOff::decode(&made).unwrap().verify(&id).unwrap();
        }
        let checking = start.elapsed() / ROUNDS;
        println!(
            "tear-off of {} bytes, {what:<31} {:>6.1} µs made, {:>5.1} µs checked, {:>6.1} µs together",
            bytes.len(),
            making.as_nanos() as f64 / 1e3,
            checking.as_nanos() as f64 / 1e3,
            (making + checking).as_nanos() as f64 / 1e3
        );
    }
}

fn main() {
    tear_offs();
    let proposals = proposals();
    let views: Vec<&[u8]> = proposals.iter().map(Vec::as_slice).collect();
    println!(
        "{PROPOSALS} proposals of 2 signatures and 2 input proofs, {} bytes each",
        proposals[0].len()
    );

    let fresh: Vec<_> = (0..ROUNDS).map(|_| rules()).collect();
    let start = Instant::now();
    for rules in &fresh {
        assert!(
            rules
                .check_proposals(&views, true)
                .iter()
                .all(Result::is_ok)
        );
    }
    report("everything, no signature seen before", start.elapsed());

    let start = Instant::now();
    for rules in &fresh {
        assert!(
            rules
                .check_proposals(&views, true)
                .iter()
                .all(Result::is_ok)
        );
    }
    report("everything but signatures", start.elapsed());

    let decoded: Vec<_> = views
        .iter()
        .map(|bytes| Proposal::decode(bytes).unwrap())
        .collect();
    let start = Instant::now();
    for _ in 0..ROUNDS {
        let mut batch = SignatureBatch::default();
        for proposal in &decoded {
            let message = signed_message(&NETWORK, Purpose::Transaction, &proposal.id);
            for entry in &proposal.signatures {
                batch.push(
                    entry.key.try_into().unwrap(),
                    &message,
                    entry.signature.try_into().unwrap(),
                );
            }
        }
        assert_eq!(batch.len(), 512);
        drop(batch.verify());
    }
    report("signatures alone", start.elapsed());

    let start = Instant::now();
    for _ in 0..ROUNDS {
        assert!(views.iter().all(|bytes| Proposal::decode(bytes).is_ok()));
    }
    report("decoding and ids alone", start.elapsed());
}
