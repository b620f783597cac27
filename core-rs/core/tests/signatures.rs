//! Signatures: L10, L11.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT as B, EIGHT_TORSION};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use p2pet_core::cache::Remembered;
use p2pet_core::finality::RootMessage;
use p2pet_core::keys::{SigningKey, check_key};
use p2pet_core::signature::{Purpose, SignatureBatch, signed_message, verify};
use proptest::prelude::*;
use sha2::{Digest as _, Sha512};

const NETWORK: [u8; 32] = [1; 32];
const DIGEST: [u8; 32] = [2; 32];

/// A signature that may be crafted, and whether it is valid.
#[derive(Clone, Debug)]
struct Case {
    key: [u8; 32],
    message: Vec<u8>,
    signature: [u8; 64],
    valid: bool,
}

fn good(seed: u8) -> Case {
    let signer = SigningKey::from_seed(&[seed; 32]);
    let message = signed_message(&NETWORK, Purpose::Transaction, &DIGEST);
    let signature = signer.sign(&NETWORK, Purpose::Transaction, &DIGEST);
    Case { key: signer.public(), message, signature, valid: true }
}

fn order() -> [u8; 32] {
    let mut order = (-Scalar::ONE).to_bytes();
    order[0] += 1;
    order
}

/// The encoding of the point with y = `y` − p where `y` < 19 stands for y + p: the same point, not canonical.
fn non_canonical(y: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = 0xed + y;
    bytes[31] = 0x7f;
    bytes
}

/// A signature with the nonce point `encoded_r` and key `encoded_a`: S = r + k·a, whatever torsion the points have.
fn crafted(a: Scalar, encoded_a: [u8; 32], r: Scalar, encoded_r: [u8; 32], valid: bool) -> Case {
    let message = b"message".to_vec();
    let k = Sha512::new().chain_update(encoded_r).chain_update(encoded_a).chain_update(&message).finalize();
    let k = Scalar::from_bytes_mod_order_wide(&k.into());
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&encoded_r);
    signature[32..].copy_from_slice((r + k * a).as_bytes());
    Case { key: encoded_a, message, signature, valid }
}

fn encode(point: EdwardsPoint) -> [u8; 32] {
    point.compress().to_bytes()
}

fn adversarial() -> Vec<Case> {
    let (a, r) = (Scalar::from(12_345u64), Scalar::from(67_890u64));
    let key = encode(a * B);
    let mut cases = Vec::new();
    for torsion in EIGHT_TORSION {
        let small = torsion == EIGHT_TORSION[0];
        // Small-order keys sign everything; mixed keys too, under the cofactored equation.
        cases.push(crafted(Scalar::ZERO, encode(torsion), r, encode(r * B), false));
        cases.push(crafted(a, encode(a * B + torsion), r, encode(r * B), small));
        // A nonce point with torsion passes the cofactored equation only.
        cases.push(crafted(a, key, r, encode(r * B + torsion), true));
        // A nonce point of small order alone.
        cases.push(crafted(a, key, Scalar::ZERO, encode(torsion), true));
    }
    // Encodings that are not canonical: of the nonce point permitted by ZIP-215, of the key refused.
    cases.push(crafted(a, key, Scalar::ZERO, non_canonical(1), true));
    cases.push(crafted(Scalar::ZERO, non_canonical(1), r, encode(r * B), false));
    cases.push(crafted(Scalar::ZERO, non_canonical(0), r, encode(r * B), false));
    // S + L verifies wherever S is not compared with L.
    let mut above = crafted(a, key, r, encode(r * B), false);
    let mut carry = 0u16;
    for (byte, addend) in above.signature[32..].iter_mut().zip(order()) {
        carry += u16::from(*byte) + u16::from(addend);
        *byte = carry as u8;
        carry >>= 8;
    }
    cases.push(above);
    let undecodable = (2..19).map(non_canonical).find(|bytes| CompressedEdwardsY(*bytes).decompress().is_none());
    cases.push(crafted(a, key, r, undecodable.unwrap(), false));
    cases.push(crafted(a, undecodable.unwrap(), r, encode(r * B), false));
    cases.push(Case { signature: [0; 64], valid: false, ..good(1) });
    cases.push(Case { signature: [0xff; 64], valid: false, ..good(1) });
    cases
}

fn in_batch(cases: &[Case]) -> Vec<bool> {
    let mut batch = SignatureBatch::default();
    let tickets: Vec<_> = cases.iter().map(|case| batch.push(&case.key, &case.message, &case.signature)).collect();
    let verdicts = batch.verify();
    tickets.into_iter().map(|ticket| verdicts.holds(ticket)).collect()
}

#[test]
fn l11_crafted_signatures_get_the_same_answer_alone_and_in_a_batch() {
    for (number, case) in adversarial().into_iter().enumerate() {
        assert_eq!(verify(&case.key, &case.message, &case.signature), case.valid, "case {number} alone: {case:?}");
        assert_eq!(in_batch(std::slice::from_ref(&case)), [case.valid], "case {number} as a batch of one");
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
            assert_eq!(verify(&signer.public(), &message, &signature), other == purpose);
        }
        assert!(!verify(&signer.public(), &signed_message(&DIGEST, purpose, &DIGEST), &signature));
        assert!(!verify(&signer.public(), &signed_message(&NETWORK, purpose, &NETWORK), &signature));
    }
}

#[test]
fn l10_a_root_message_is_no_message_of_another_purpose() {
    let signer = SigningKey::from_seed(&[7; 32]);
    let root =
        RootMessage { notary: DIGEST, mode: 1, sequence: 1, decided_at_ns: 1, count: 1, root: DIGEST };
    let signature = root.sign(&signer, &NETWORK);
    assert!(verify(&signer.public(), &root.message(&NETWORK), &signature));
    assert!(!verify(&signer.public(), &root.message(&DIGEST), &signature));
    for number in [0, 2, 9, 255] {
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
        assert_eq!(check_key(&vec![1; length]).unwrap_err().code(), "signature.key_invalid");
    }
    let public = SigningKey::from_seed(&[9; 32]).public();
    assert!((0..3).all(|_| check_key(&public).is_ok()));
}

#[test]
fn l11_what_was_valid_once_is_not_verified_again() {
    let memory = Remembered::default();
    let cases: Vec<Case> = (0..8).map(good).chain([Case { signature: [0; 64], valid: false, ..good(1) }]).collect();
    for expected in [9, 1] {
        let mut batch = SignatureBatch::remembering(&memory);
        let twice = cases.iter().chain(&cases);
        let tickets: Vec<_> = twice.map(|case| batch.push(&case.key, &case.message, &case.signature)).collect();
        assert_eq!(batch.len(), expected);
        let verdicts = batch.verify();
        let answers = tickets.into_iter().map(|ticket| verdicts.holds(ticket));
        assert!(answers.eq(cases.iter().chain(&cases).map(|case| case.valid)));
    }
}
