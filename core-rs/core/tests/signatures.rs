//! Signatures: L10, L11.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[path = "common/crafted.rs"]
mod crafted;

use crafted::{Case, DIGEST, NETWORK, adversarial, encode, good, non_canonical};
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT as B, EIGHT_TORSION};
use curve25519_dalek::scalar::Scalar;
use p2pet_core::cache::Remembered;
use p2pet_core::finality::RootMessage;
use p2pet_core::keys::{SigningKey, check_key};
use p2pet_core::signature::{Purpose, SignatureBatch, signed_message, verify};
use proptest::prelude::*;

fn in_batch(cases: &[Case]) -> Vec<bool> {
    let mut batch = SignatureBatch::default();
    let tickets: Vec<_> = cases
        .iter()
        .map(|case| batch.push(&case.key, &case.message, &case.signature))
        .collect();
    let verdicts = batch.verify();
    tickets
        .into_iter()
        .map(|ticket| verdicts.holds(ticket))
        .collect()
}

#[test]
fn l11_crafted_signatures_get_the_same_answer_alone_and_in_a_batch() {
    for (number, case) in adversarial().into_iter().enumerate() {
        assert_eq!(
            verify(&case.key, &case.message, &case.signature),
            case.valid,
            "case {number} alone: {case:?}"
        );
        assert_eq!(
            in_batch(std::slice::from_ref(&case)),
            [case.valid],
            "case {number} as a batch of one"
        );
        for position in [0, 5, 20] {
            let mut cases: Vec<Case> = (0..20).map(good).collect();
            cases.insert(position, case.clone());
            let expected: Vec<bool> = cases.iter().map(|case| case.valid).collect();
            // Random coefficients: an answer that depends on them would differ at times.
            for _repeat in 0..4 {
                assert_eq!(in_batch(&cases), expected, "case {number} at {position}");
            }
        }
    }
}

#[test]
fn l11_all_crafted_signatures_in_one_batch() {
    let cases: Vec<Case> = adversarial().into_iter().chain((0..20).map(good)).collect();
    let expected: Vec<bool> = cases.iter().map(|case| case.valid).collect();
    assert_eq!(in_batch(&cases), expected);
}

#[test]
fn l11_edge_cases_get_the_same_answer_in_batches_of_every_size() {
    let edges = adversarial();
    let fillers: Vec<Case> = (0..64).map(good).collect();
    for size in 1..=64 {
        for (number, edge) in edges.iter().enumerate() {
            let mut cases = fillers[..size].to_vec();
            cases[(7 * number) % size] = edge.clone();
            // A second one, so that the first is not the only flaw that bisection looks for.
            let other = &edges[(number + size) % edges.len()];
            cases[(7 * number + size / 2) % size] = other.clone();
            let expected: Vec<bool> = cases.iter().map(|case| case.valid).collect();
            assert_eq!(
                in_batch(&cases),
                expected,
                "case {number} in a batch of {size}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn l11_any_mix_gets_the_same_answers(flips in prop::collection::vec(prop::option::weighted(0.2, 0..512usize), 0..40)) {
        let cases: Vec<Case> = flips.iter().zip(0..).map(|(flip, seed)| {
            let mut case = good(seed);
            if let Some(bit) = flip {
                case.signature[bit / 8] ^= 1 << (bit % 8);
                case.valid = false;
            }
            case
        }).collect();
        let alone: Vec<bool> = cases.iter().map(|case| verify(&case.key, &case.message, &case.signature)).collect();
        prop_assert_eq!(&alone, &cases.iter().map(|case| case.valid).collect::<Vec<_>>());
        prop_assert_eq!(in_batch(&cases), alone);
    }
}

#[test]
fn l10_a_signature_is_for_one_network_purpose_and_digest() {
    let signer = SigningKey::from_seed(&[7; 32]);
    for purpose in Purpose::WITH_DIGEST {
        let signature = signer.sign(&NETWORK, purpose, &DIGEST);
        for other in Purpose::WITH_DIGEST {
            let message = signed_message(&NETWORK, other, &DIGEST);
            assert_eq!(
                verify(&signer.public(), &message, &signature),
                other == purpose
            );
        }
        assert!(!verify(
            &signer.public(),
            &signed_message(&DIGEST, purpose, &DIGEST),
            &signature
        ));
        assert!(!verify(
            &signer.public(),
            &signed_message(&NETWORK, purpose, &NETWORK),
            &signature
        ));
    }
}

#[test]
fn l10_a_root_message_is_no_message_of_another_purpose() {
    let signer = SigningKey::from_seed(&[7; 32]);
    let root = RootMessage {
        notary: DIGEST,
        mode: 1,
        sequence: 1,
        decided_at_ns: 1,
        count: 1,
        root: DIGEST,
    };
    let signature = root.sign(&signer, &NETWORK);
    assert!(verify(
        &signer.public(),
        &root.message(&NETWORK),
        &signature
    ));
    assert!(!verify(
        &signer.public(),
        &root.message(&DIGEST),
        &signature
    ));
    for number in [0, 2, 10, 255] {
        assert!(Purpose::with_digest(number).is_err());
    }
}

#[test]
fn l11_keys_are_checked_on_first_sight() {
    for torsion in EIGHT_TORSION {
        let mixed = encode(Scalar::from(3u8) * B + torsion);
        assert_eq!(check_key(&mixed).is_ok(), torsion == EIGHT_TORSION[0]);
        assert!(check_key(&encode(torsion)).is_err());
    }
    for y in 0..19 {
        assert!(check_key(&non_canonical(y)).is_err());
        let mut signed = non_canonical(y);
        signed[31] |= 0x80;
        assert!(check_key(&signed).is_err());
    }
    let mut minus_zero = [0; 32];
    (minus_zero[0], minus_zero[31]) = (1, 0x80);
    assert!(check_key(&minus_zero).is_err());
    for length in [0, 31, 33, 64] {
        assert_eq!(
            check_key(&vec![1; length]).unwrap_err().code(),
            "signature.key_invalid"
        );
    }
    let public = SigningKey::from_seed(&[9; 32]).public();
    assert!((0..3).all(|_| check_key(&public).is_ok()));
}

#[test]
fn l11_what_was_valid_once_is_not_verified_again() {
    let memory = Remembered::default();
    let cases: Vec<Case> = (0..8)
        .map(good)
        .chain([Case {
            signature: [0; 64],
            valid: false,
            ..good(1)
        }])
        .collect();
    for expected in [9, 1] {
        let mut batch = SignatureBatch::remembering(&memory);
        let twice = cases.iter().chain(&cases);
        let tickets: Vec<_> = twice
            .map(|case| batch.push(&case.key, &case.message, &case.signature))
            .collect();
        assert_eq!(batch.len(), expected);
        let verdicts = batch.verify();
        let answers = tickets.into_iter().map(|ticket| verdicts.holds(ticket));
        assert!(answers.eq(cases.iter().chain(&cases).map(|case| case.valid)));
    }
}
