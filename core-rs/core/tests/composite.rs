//! Composite keys: L13.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod common;

use common::{Built, Signed, key, rules};
use p2pet_core::Refusal;
use p2pet_core::component::{decode_signers, encode_signers};
use p2pet_core::composite::{Key, composite_key};
use p2pet_core::hash::sha256;
use p2pet_core::keys::SigningKey;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn public(number: u8) -> [u8; 32] {
    key(number).public()
}

fn threshold(threshold: u16, children: &[(u16, &[u8])]) -> Vec<u8> {
    composite_key(threshold, children).unwrap()
}

/// The node of a key within a threshold: what the encoding says, written down by hand.
fn node(key: &[u8]) -> Vec<u8> {
    match key.len() {
        32 => [&[0], key].concat(),
        _ => key[1..].to_vec(),
    }
}

fn by_hand(threshold: u16, children: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut key = [
        &[1, 1],
        &threshold.to_be_bytes()[..],
        &[children.len() as u8],
    ]
    .concat();
    for (weight, node) in children {
        key.extend([&weight.to_be_bytes(), &node[..]].concat());
    }
    key
}

fn sorted(children: &[(u16, &[u8])]) -> Vec<(u16, Vec<u8>)> {
    let mut nodes: Vec<_> = children.iter().map(|(w, key)| (*w, node(key))).collect();
    nodes.sort_by(|a, b| a.1.cmp(&b.1));
    nodes
}

fn is_satisfied(key: &[u8], signed: &[u8]) -> bool {
    let signed: Vec<_> = signed.iter().map(|number| public(*number)).collect();
    let key = Key::decode(key).unwrap();
    key.lacking(&|leaf| signed.contains(leaf)).is_none()
}

#[test]
fn l13_the_encoding_is_the_one_of_section_2() {
    let (a, b, c) = (public(1), public(2), public(3));
    let inner = threshold(1, &[(1, &b), (2, &c)]);
    assert_eq!(inner, by_hand(1, &sorted(&[(1, &b), (2, &c)])));
    let outer = threshold(3, &[(2, &a), (1, &inner)]);
    assert_eq!(outer, by_hand(3, &sorted(&[(2, &a), (1, &inner)])));
    assert_eq!(
        Key::decode(&outer).unwrap().id(),
        sha256(&[&[5], &outer[..]].concat())
    );
    assert_eq!(Key::decode(&a).unwrap().id(), a);
    let mut leaves = [&a, &b, &c];
    leaves.sort_unstable();
    assert_eq!(Key::decode(&outer).unwrap().leaves(), leaves);
}

#[test]
fn l13_weights_and_thresholds_are_honoured() {
    let (a, b, c) = (public(1), public(2), public(3));
    let flat = threshold(3, &[(2, &a), (1, &b), (1, &c)]);
    for (signed, expected) in [
        (&[][..], false),
        (&[1], false),
        (&[2, 3], false),
        (&[1, 2], true),
        (&[1, 3], true),
        (&[1, 2, 3], true),
        (&[1, 1], false),
        (&[1, 9], false),
    ] {
        assert_eq!(is_satisfied(&flat, signed), expected, "{signed:?}");
    }
    let inner = threshold(2, &[(1, &b), (1, &c)]);
    let nested = threshold(2, &[(1, &a), (1, &inner)]);
    for (signed, expected) in [
        (&[1][..], false),
        (&[2, 3], false),
        (&[1, 2], false),
        (&[1, 2, 3], true),
    ] {
        assert_eq!(is_satisfied(&nested, signed), expected, "{signed:?}");
    }
    let full = threshold(u16::MAX, &[(u16::MAX, &a), (u16::MAX, &b)]);
    assert!(is_satisfied(&full, &[1]) && !is_satisfied(&full, &[3]));
}

#[test]
fn l13_duplicate_leaves_are_refused_wherever_they_stand() {
    let (a, b) = (public(1), public(2));
    let refused = |bytes: &[u8]| {
        assert_eq!(
            Key::decode(bytes).unwrap_err().code(),
            "signature.key_invalid"
        )
    };
    refused(&by_hand(2, &[(1, node(&a)), (1, node(&a))]));
    let inner = threshold(1, &[(1, &a), (1, &b)]);
    refused(&by_hand(2, &sorted(&[(1, &a), (1, &inner)])));
    assert!(composite_key(2, &[(1, &a), (1, &a)]).is_err());
    assert!(composite_key(2, &[(1, &a), (1, &inner)]).is_err());
}

#[test]
fn l13_only_the_canonical_form_decodes() {
    let (a, b) = (public(1), public(2));
    let good = threshold(2, &[(1, &a), (1, &b)]);
    assert!(Key::decode(&good).is_ok());
    let mut descending = sorted(&[(1, &a), (1, &b)]);
    descending.reverse();
    let leaf = [&[1, 0], &a[..]].concat();
    let bad = [
        by_hand(2, &descending),
        by_hand(0, &sorted(&[(1, &a), (1, &b)])),
        by_hand(3, &sorted(&[(1, &a), (1, &b)])),
        by_hand(1, &sorted(&[(0, &a), (1, &b)])),
        by_hand(1, &[]),
        by_hand(1, &[(1, vec![2; 33])]),
        leaf,
        [&good[..], &[0]].concat(),
        good[..good.len() - 1].to_vec(),
        [&[2], &good[1..]].concat(),
        vec![1; 31],
        Vec::new(),
        vec![1; 33],
    ];
    for bytes in bad {
        assert_eq!(
            Key::decode(&bytes).unwrap_err().code(),
            "signature.key_invalid",
            "{bytes:?}"
        );
    }
}

#[test]
fn l13_nesting_children_and_leaves_are_bounded() {
    let chain = |depth: u8| {
        (1..depth).fold(by_hand(1, &[(1, node(&public(0)))]), |inner, _| {
            by_hand(1, &[(1, node(&inner))])
        })
    };
    assert!(Key::decode(&chain(4)).is_ok());
    assert!(Key::decode(&chain(5)).is_err());
    assert!(Key::decode(&[1; 60_000]).is_err());

    let leaves: Vec<[u8; 32]> = (0..66u8).map(public).collect();
    let flat = |count: usize| -> Vec<(u16, &[u8])> {
        leaves[..count].iter().map(|leaf| (1, &leaf[..])).collect()
    };
    assert!(Key::decode(&by_hand(1, &sorted(&flat(32)))).is_ok());
    assert!(Key::decode(&by_hand(1, &sorted(&flat(33)))).is_err());
    assert!(composite_key(1, &flat(33)).is_err());

    let half = |range: std::ops::Range<usize>| {
        let children: Vec<(u16, &[u8])> = leaves[range].iter().map(|leaf| (1, &leaf[..])).collect();
        threshold(1, &children)
    };
    let (first, second) = (half(0..32), half(32..64));
    let most = threshold(2, &[(1, &first), (1, &second)]);
    assert_eq!(Key::decode(&most).unwrap().leaves().len(), 64);
    assert!(composite_key(2, &[(1, &first), (1, &second), (1, &leaves[64])]).is_err());
}

#[test]
fn l13_a_key_is_not_built_over_a_leaf_that_cannot_sign() {
    let small_order = [&[1][..], &[0; 31]].concat();
    assert!(composite_key(1, &[(1, &public(1)), (1, &small_order)]).is_err());
    let key = by_hand(1, &sorted(&[(1, &public(1)), (1, &small_order)]));
    assert!(Key::decode(&key).is_ok());
    assert!(Key::decode_checked(&key).is_err());
}

#[test]
fn l13_signers_hold_keys_of_both_forms_ascending_by_bytes() {
    let (a, b) = (public(1), public(2));
    let composite = threshold(1, &[(1, &a), (1, &b)]);
    let keys = [&a[..], &b, &composite, &a];
    let component = encode_signers(&keys).unwrap();
    let decoded: Vec<_> = decode_signers(&component)
        .unwrap()
        .iter()
        .map(Key::bytes)
        .map(<[u8]>::to_vec)
        .collect();
    let expected: BTreeSet<_> = keys.iter().map(|key| key.to_vec()).collect();
    assert_eq!(decoded, expected.into_iter().collect::<Vec<_>>());

    let with_length = |key: &[u8]| [&(key.len() as u16).to_be_bytes(), key].concat();
    let mut two = [with_length(&a), with_length(&composite)];
    two.sort_by(|x, y| x[2..].cmp(&y[2..]));
    assert!(decode_signers(&two.concat()).is_ok());
    two.reverse();
    assert!(decode_signers(&two.concat()).is_err());
    let mut flawed = composite.clone();
    flawed[3] = 9;
    assert!(decode_signers(&with_length(&flawed)).is_err());
    assert!(decode_signers(&with_length(&composite)[..20]).is_err());
    assert!(encode_signers(&[&a[..31]]).is_err());
}

/// A transaction that `keys` must sign.
fn owned_by(keys: &[&[u8]]) -> Built {
    let mut built = Built::issue(1, 1, &[]);
    built.groups[4] = vec![encode_signers(keys).unwrap()];
    built
}

fn refusal(built: &Built, signers: &[&SigningKey]) -> Option<Refusal> {
    let proposal = built.proposal(signers, &[]);
    rules().check_proposals(&[&proposal], true).remove(0).err()
}

#[test]
fn l13_enough_leaves_sign_for_a_composite_key_and_the_answer_says_what_lacks() {
    let (a, b, c, d) = (public(1), public(2), public(3), public(4));
    let composite = threshold(3, &[(2, &a), (1, &b), (1, &c)]);
    let id = Key::decode(&composite).unwrap().id();
    let built = owned_by(&[&composite, &d]);
    assert_eq!(refusal(&built, &[&key(1), &key(2), &key(4)]), None);
    assert_eq!(refusal(&built, &[&key(3), &key(4), &key(1), &key(2)]), None);
    let lacking = refusal(&built, &[&key(2), &key(3), &key(4)]).unwrap();
    assert_eq!(
        (lacking.code, lacking.missing_keys),
        ("signature.missing", vec![id])
    );
    assert!(
        lacking.message.contains("lacks weight 1 of 3"),
        "{}",
        lacking.message
    );
    let both = refusal(&built, &[&key(1)]).unwrap();
    let mut expected = vec![id, d];
    expected.sort_unstable();
    assert_eq!(both.missing_keys, expected);
    assert!(both.message.starts_with("2 of the keys"));
}

#[test]
fn l13_a_leaf_signs_once_and_strangers_never() {
    let (a, b) = (public(1), public(2));
    let composite = threshold(2, &[(1, &a), (1, &b)]);
    let built = owned_by(&[&composite]);
    for signers in [&[&key(1), &key(1)][..], &[&key(1), &key(2), &key(3)]] {
        assert_eq!(
            refusal(&built, signers).unwrap().code,
            "signature.unexpected"
        );
    }
    // A leaf of one key that is another key too signs for both, with one signature.
    let shared = owned_by(&[&composite, &a]);
    assert_eq!(refusal(&shared, &[&key(1), &key(2)]), None);
    assert_eq!(
        refusal(&shared, &[&key(1), &key(2), &key(1)]).unwrap().code,
        "signature.unexpected"
    );
    // The composite key itself signs nothing.
    let as_signer: Signed = (composite.clone(), 1, vec![0; 64]);
    let proposal = built.proposal_with(&[as_signer], &[]);
    let answer = rules().check_proposals(&[&proposal], false).remove(0);
    assert_eq!(answer.unwrap_err().code, "signature.unexpected");
}

#[test]
fn l13_a_false_signature_of_a_leaf_that_nobody_needs_is_refused() {
    let composite = threshold(1, &[(1, &public(1)), (1, &public(2))]);
    let built = owned_by(&[&composite]);
    let mut surplus = built.sign(&key(2));
    surplus.2[40] ^= 1;
    let proposal = built.proposal_with(&[built.sign(&key(1)), surplus], &[]);
    let answer = rules().check_proposals(&[&proposal], true).remove(0);
    assert_eq!(answer.unwrap_err().code, "signature.invalid");
}

/// A tree of weights over leaves numbered from 0, thresholds as a share of the sum.
#[derive(Clone, Debug)]
enum Tree {
    Leaf,
    Threshold(u16, Vec<(u16, Tree)>),
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = Just(Tree::Leaf);
    let tree = leaf.prop_recursive(3, 40, 4, |inner| {
        (1..=100u16, prop::collection::vec((1..=9u16, inner), 1..=4))
            .prop_map(|(share, children)| Tree::Threshold(share, children))
    });
    (1..=100u16, prop::collection::vec((1..=9u16, tree), 1..=4))
        .prop_map(|(share, children)| Tree::Threshold(share, children))
}

/// The key of a tree, and whether `signed` satisfies it, computed from the tree alone.
fn build(tree: &Tree, next: &mut u8, signed: u64) -> (Vec<u8>, bool) {
    match tree {
        Tree::Leaf => {
            let number = *next;
            *next += 1;
            (
                public(number).to_vec(),
                number < 64 && signed >> number & 1 == 1,
            )
        }
        Tree::Threshold(share, children) => {
            let built: Vec<_> = children
                .iter()
                .map(|(weight, child)| (*weight, build(child, next, signed)))
                .collect();
            let sum: u16 = built.iter().map(|(weight, _)| weight).sum();
            let needed = (u32::from(sum) * u32::from(*share)).div_ceil(100) as u16;
            let reached: u16 = built
                .iter()
                .filter(|(_, (_, yes))| *yes)
                .map(|(weight, _)| weight)
                .sum();
            let views: Vec<(u16, &[u8])> = built
                .iter()
                .map(|(weight, (key, _))| (*weight, &key[..]))
                .collect();
            (
                composite_key(needed, &views).unwrap_or_default(),
                reached >= needed,
            )
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn l13_satisfaction_is_that_of_the_tree(tree in trees(), signed: u64) {
        let mut count = 0;
        let (key, expected) = build(&tree, &mut count, signed);
        prop_assume!(count <= 64);
        let numbers: Vec<u8> = (0..64).filter(|number| signed >> number & 1 == 1).collect();
        prop_assert_eq!(is_satisfied(&key, &numbers), expected);
        prop_assert_eq!(Key::decode(&key).unwrap().leaves().len(), usize::from(count));
        for cut in 0..key.len() {
            prop_assert!(Key::decode(&key[..cut]).is_err() || cut == 32);
        }
    }
}
