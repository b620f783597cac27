//! Composite keys: encodings, ids, who satisfies them, and components of the signers group.

use super::common::key;
use super::hexes;
use p2pet_core::component::{decode_signers, encode_signers};
use p2pet_core::composite::{Key, composite_key};
use p2pet_core::hash::sha256;
use p2pet_core::keys::hex;
use serde_json::{Value, json};

/// The Ed25519 key of a number.
pub fn public(number: u8) -> [u8; 32] {
    key(number).public()
}

/// A threshold over (weight, key).
pub fn threshold(threshold: u16, children: &[(u16, &[u8])]) -> Vec<u8> {
    composite_key(threshold, children).unwrap()
}

/// Key 1 and one of the keys 2 and 3.
pub fn one_and_either() -> Vec<u8> {
    let either = threshold(1, &[(1, &public(2)), (1, &public(3))]);
    threshold(2, &[(1, &public(1)), (1, &either)])
}

fn named() -> Vec<(&'static str, Vec<u8>)> {
    let singles: Vec<_> = (1..=4).map(public).collect();
    let weighted = threshold(5, &[(4, &singles[0]), (3, &singles[1]), (2, &singles[2])]);
    let three_deep = threshold(7, &[(2, &singles[3]), (5, &one_and_either())]);
    let wide: Vec<[u8; 32]> = (1..=32).map(public).collect();
    let wide: Vec<(u16, &[u8])> = wide.iter().map(|leaf| (1, &leaf[..])).collect();
    vec![
        ("an Ed25519 key", singles[0].to_vec()),
        ("one leaf", threshold(1, &[(1, &singles[0])])),
        (
            "two of three",
            threshold(2, &[(1, &singles[0]), (1, &singles[1]), (1, &singles[2])]),
        ),
        ("weights", weighted),
        ("one and either of two", one_and_either()),
        ("three deep", three_deep),
        (
            "largest numbers",
            threshold(u16::MAX, &[(u16::MAX, &singles[0]), (1, &singles[1])]),
        ),
        ("32 children", threshold(17, &wide)),
    ]
}

/// Numbers of the keys that sign.
const SIGNED: [&[u8]; 9] = [
    &[],
    &[1],
    &[2],
    &[4],
    &[1, 2],
    &[2, 3],
    &[1, 4],
    &[1, 3, 4],
    &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17],
];

fn satisfaction(key: &Key<'_>) -> Vec<Value> {
    let answers = SIGNED.map(|numbers| {
        let signed: Vec<_> = numbers.iter().map(|number| public(*number)).collect();
        let satisfied = key.lacking(&|leaf| signed.contains(leaf)).is_none();
        json!({ "signed": hexes(&signed), "satisfied": satisfied })
    });
    answers.into()
}

fn refused() -> Vec<Value> {
    let (a, b) = (public(1), public(2));
    let good = threshold(2, &[(1, &a), (1, &b)]);
    let with = |place: usize, value: u8| {
        let mut changed = good.clone();
        changed[place] = value;
        changed
    };
    let (first, second) = (&good[5..40], &good[40..]);
    let twice = [&good[..5], first, first].concat();
    let chain = (0..4).fold(threshold(1, &[(1, &a)]), |inner, _| {
        [&[1, 1, 0, 1, 1, 0, 1], &inner[1..]].concat()
    });
    let list = [
        ("another first byte", with(0, 2)),
        ("a leaf at the outside", [&[1, 0], &a[..]].concat()),
        ("threshold 0", with(3, 0)),
        ("threshold above the weights", with(3, 3)),
        ("no children", good[..5].to_vec()),
        ("33 children announced", with(4, 33)),
        ("weight 0", with(6, 0)),
        ("a node of kind 2", with(7, 2)),
        ("descending children", [&good[..5], second, first].concat()),
        ("a leaf twice", twice),
        ("nested five deep", chain),
        ("cut short", good[..good.len() - 1].to_vec()),
        ("a byte too many", [&good[..], &[0]].concat()),
        ("31 bytes", a[..31].to_vec()),
    ];
    let checked = list.map(|(name, encoding)| {
        assert!(Key::decode(&encoding).is_err(), "{name}");
        json!({ "name": name, "encoding": hex(&encoding) })
    });
    checked.into()
}

/// The file keys.json.
pub fn keys() -> Value {
    let keys = named().into_iter().map(|(name, encoding)| {
        let key = Key::decode(&encoding).unwrap();
        json!({
            "name": name,
            "encoding": hex(&encoding),
            "id": hex(&key.id()),
            "leaves": hexes(key.leaves()),
            "satisfaction": satisfaction(&key),
        })
    });
    let (a, b, composite) = (public(1), public(4), one_and_either());
    let component = encode_signers(&[&composite, &b, &a]).unwrap();
    let decoded = decode_signers(&component).unwrap();
    json!({
        "seeds": hexes((1..=32u8).map(|number| sha256(&[number]))),
        "keys": keys.collect::<Vec<_>>(),
        "refused": refused(),
        "signers": {
            "component": hex(&component),
            "keys": hexes(decoded.iter().map(Key::bytes)),
            "ids": hexes(decoded.iter().map(Key::id)),
        },
    })
}
