//! A valid proposal of which exactly one thing is broken is refused: L11, L12, L13, L20, L24.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod common;
#[path = "common/crafted.rs"]
mod crafted;

use common::{Built, DECIDED_AT, NETWORK, Signed, key, rules, service};
use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT as B, EIGHT_TORSION};
use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::scalar::Scalar;
use p2pet_core::Refusal;
use p2pet_core::component::{OutputState, encode_signers};
use p2pet_core::composite::composite_key;
use p2pet_core::signature::{Purpose, signed_message};
use proptest::prelude::*;
use sha2::{Digest as _, Sha512};
use std::sync::LazyLock;

/// A proposal in its parts: three inputs, of which two are encumbered by each other, a reference, a composite signer.
#[derive(Clone)]
struct Parts {
    built: Built,
    signatures: Vec<Signed>,
    proofs: Vec<Vec<u8>>,
}

impl Parts {
    fn encode(&self) -> Vec<u8> {
        self.built.proposal_with(&self.signatures, &self.proofs)
    }
}

fn composite() -> Vec<u8> {
    let children: Vec<_> = (2..5).map(|number| key(number).public()).collect();
    let children: Vec<(u16, &[u8])> = children.iter().map(|leaf| (1, &leaf[..])).collect();
    composite_key(2, &children).unwrap()
}

static VALID: LazyLock<Parts> = LazyLock::new(|| {
    let mut creator = Built::issue(1, 4, &[&key(1)]);
    for (index, encumbered_by) in [(0, 2), (1, 1)] {
        let state = OutputState::decode(&creator.groups[2][index]).unwrap();
        let encumbered = OutputState {
            encumbered_by,
            ..state
        };
        creator.groups[2][index] = encumbered.encode();
    }
    let inputs = [2, 1, 0].map(|index| creator.reference(index));
    let mut built = Built::spend(2, &inputs, &[]);
    built.groups[1] = vec![creator.reference(3)];
    built.groups[2].push(common::output(&service().public(), b"another"));
    built.groups[3].push(common::command(b"too"));
    built.groups[4] = vec![
        encode_signers(&[&composite(), &key(1).public()]).unwrap(),
        encode_signers(&[&key(5).public()]).unwrap(),
    ];
    built.groups[5] = vec![vec![3; 32], vec![4; 32]];
    built.groups[7] = vec![[DECIDED_AT.to_be_bytes(), i64::MAX.to_be_bytes()].concat()];
    built.groups[10] = vec![vec![1; 32], vec![2; 32]];
    let signatures = [1, 2, 4, 5].map(|number| built.sign(&key(number)));
    Parts {
        signatures: signatures.into(),
        proofs: [2, 1, 0, 3].map(|index| creator.proof(index)).into(),
        built,
    }
});

fn answer(proposal: &[u8]) -> Option<Refusal> {
    rules().check_proposals(&[proposal], true).remove(0).err()
}

/// The refusal, alone and among valid proposals, whose answers it must not change.
fn refusal(proposal: &[u8]) -> Option<Refusal> {
    let valid = VALID.encode();
    let alone = answer(proposal);
    let answers = rules().check_proposals(&[&valid, proposal, &valid], true);
    let codes: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.err().map(|refusal| refusal.code))
        .collect();
    let expected = alone.as_ref().map(|refusal| refusal.code);
    assert_eq!(codes, [None, expected, None]);
    alone
}

#[test]
fn l20_the_unbroken_proposal_passes() {
    assert_eq!(answer(&VALID.encode()), None);
}

/// One thing done to a list; the places are taken modulo its length.
#[derive(Clone, Debug)]
enum Edit {
    Drop(usize),
    Duplicate(usize),
    Swap(usize, usize),
}

fn edits() -> impl Strategy<Value = Edit> {
    prop_oneof![
        any::<usize>().prop_map(Edit::Drop),
        any::<usize>().prop_map(Edit::Duplicate),
        (any::<usize>(), any::<usize>()).prop_map(|(a, b)| Edit::Swap(a, b)),
    ]
}

/// Whether the list is another one now.
fn edit<T: Clone + PartialEq>(list: &mut Vec<T>, edit: &Edit) -> bool {
    let before = list.clone();
    let Some(last) = list.len().checked_sub(1) else {
        return false;
    };
    match edit {
        Edit::Drop(at) => drop(list.remove(at % (last + 1))),
        Edit::Duplicate(at) => list.insert(at % (last + 1), before[at % (last + 1)].clone()),
        Edit::Swap(a, b) => list.swap(a % (last + 1), b % (last + 1)),
    }
    *list != before
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_global_rejects: 100_000, ..ProptestConfig::default() })]
    #[test]
    fn l12_a_proposal_with_a_flipped_byte_is_refused(place: prop::sample::Index, mask in 1..=255u8) {
        let mut bytes = VALID.encode();
        let place = place.index(bytes.len());
        bytes[place] ^= mask;
        prop_assert!(answer(&bytes).is_some(), "byte {place} flipped with {mask}");
    }

    #[test]
    fn l12_components_dropped_moved_or_repeated_invalidate_the_signatures(group in 0..12usize, change in edits()) {
        let mut parts = VALID.clone();
        prop_assume!(edit(&mut parts.built.groups[group], &change));
        prop_assert!(refusal(&parts.encode()).is_some());
    }

    #[test]
    fn l12_a_component_in_another_group_invalidates_the_signatures(from in 0..12usize, to in 0..12usize, at: usize) {
        let mut parts = VALID.clone();
        prop_assume!(from != to && !parts.built.groups[from].is_empty());
        let count = parts.built.groups[from].len();
        let component = parts.built.groups[from].remove(at % count);
        parts.built.groups[to].push(component);
        prop_assert!(refusal(&parts.encode()).is_some());
    }

    #[test]
    fn l24_proofs_dropped_moved_or_repeated_are_refused(change in edits()) {
        let mut parts = VALID.clone();
        prop_assume!(edit(&mut parts.proofs, &change));
        let code = refusal(&parts.encode()).map(|refusal| refusal.code);
        prop_assert!(code.is_some_and(|code| code.starts_with("proof.")), "{code:?}");
    }

    #[test]
    fn l12_signatures_dropped_or_repeated_are_refused(change in edits()) {
        let mut parts = VALID.clone();
        prop_assume!(edit(&mut parts.signatures, &change));
        let code = refusal(&parts.encode()).map(|refusal| refusal.code);
        let expected = match change {
            Edit::Drop(_) => Some("signature.missing"),
            Edit::Duplicate(_) => Some("signature.unexpected"),
            Edit::Swap(..) => None,
        };
        prop_assert_eq!(code, expected);
    }

    #[test]
    fn l12_a_signature_by_another_key_is_refused(at in 0..4usize, other in 1..60u8, rename: bool) {
        let mut parts = VALID.clone();
        let named = parts.signatures[at].0.clone();
        prop_assume!(key(other).public()[..] != named[..]);
        let (by, _, signature) = parts.built.sign(&key(other));
        parts.signatures[at].2 = signature;
        if rename {
            // Keys 2, 3 and 4 are leaves of one threshold of two: one may stand for another.
            prop_assume!(!((at == 1 || at == 2) && other == 3));
            parts.signatures[at].0 = by;
        }
        let code = refusal(&parts.encode()).unwrap().code;
        let expected: &[&str] = match (rename, other) {
            (false, _) => &["signature.invalid"],
            // Key 3 is a leaf that need not sign.
            (true, 3) => &["signature.missing"],
            _ => &["signature.unexpected"],
        };
        prop_assert_eq!([code], expected);
    }

    #[test]
    fn l11_a_signature_with_a_crafted_half_is_refused(at in 0..4usize, torsion in 0..8usize, which in 0..5usize) {
        let mut parts = VALID.clone();
        let signature = &mut parts.signatures[at].2;
        let original = signature.clone();
        let r = CompressedEdwardsY(signature[..32].try_into().unwrap()).decompress().unwrap();
        let half: [u8; 32] = match which {
            0 => crafted::encode(EIGHT_TORSION[torsion]),
            1 => crafted::encode(r + EIGHT_TORSION[torsion]),
            2 => crafted::non_canonical(torsion as u8),
            3 => [0; 32],
            _ => [0xff; 32],
        };
        signature[..32].copy_from_slice(&half);
        prop_assume!(*signature != original);
        prop_assert_eq!(refusal(&parts.encode()).unwrap().code, "signature.invalid");
    }

    #[test]
    fn l11_a_signature_with_s_at_or_above_l_is_refused(at in 0..4usize, times in 1..15u16) {
        let mut parts = VALID.clone();
        let s = &mut parts.signatures[at].2[32..];
        for _ in 0..times {
            let mut carry = 0;
            let mut order = (-Scalar::ONE).to_bytes();
            order[0] += 1;
            for (byte, addend) in s.iter_mut().zip(order) {
                carry += u16::from(*byte) + u16::from(addend);
                *byte = carry as u8;
                carry >>= 8;
            }
        }
        prop_assert_eq!(refusal(&parts.encode()).unwrap().code, "signature.invalid");
    }
}

/// A signature that the cofactored equation accepts for the key `encoded`, whatever torsion it has.
fn accepted_by_the_equation(secret: Scalar, encoded: [u8; 32], message: &[u8]) -> Vec<u8> {
    let nonce = Scalar::from(77u8);
    let r = crafted::encode(nonce * B);
    let k = Sha512::new()
        .chain_update(r)
        .chain_update(encoded)
        .chain_update(message)
        .finalize();
    let k = Scalar::from_bytes_mod_order_wide(&k.into());
    [&r[..], (nonce + k * secret).as_bytes()].concat()
}

#[test]
fn l11_keys_that_leave_a_doubt_sign_nothing_alone_or_as_leaves() {
    let secret = Scalar::from(12_345u64);
    let mut keys: Vec<(Scalar, [u8; 32])> = EIGHT_TORSION[1..]
        .iter()
        .map(|torsion| (secret, crafted::encode(secret * B + torsion)))
        .collect();
    keys.extend(EIGHT_TORSION.map(|torsion| (Scalar::ZERO, crafted::encode(torsion))));
    keys.extend([0, 1].map(|y| (Scalar::ZERO, crafted::non_canonical(y))));
    let good = (secret, crafted::encode(secret * B));
    for (secret, encoded) in keys.iter().chain([&good]) {
        let accepted = *encoded == good.1;
        let leaf = [&[0], &encoded[..]].concat();
        let as_leaf = [&[1, 1, 0, 1, 1, 0, 1], &leaf[..]].concat();
        for required in [encoded.to_vec(), as_leaf] {
            let mut built = Built::issue(1, 1, &[]);
            built.groups[4] = vec![encode_signers(&[&required]).unwrap()];
            let message = signed_message(&NETWORK, Purpose::Transaction, &built.id());
            let signature = accepted_by_the_equation(*secret, *encoded, &message);
            let proposal = built.proposal_with(&[(encoded.to_vec(), 1, signature)], &[]);
            let code = refusal(&proposal).map(|refusal| refusal.code);
            assert_eq!(code, (!accepted).then_some("signature.key_invalid"));
        }
    }
}
