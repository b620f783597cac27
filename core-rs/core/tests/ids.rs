//! Ids and the trees behind them: L01, L02, L03, L06.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use p2pet_core::Digest;
use p2pet_core::hash::sha256;
use p2pet_core::merkle::{all_paths, multiproof, recompute, root};
use p2pet_core::transaction::{GROUPS, Transaction};
use proptest::prelude::*;

type Groups = Vec<Vec<Vec<u8>>>;

fn groups() -> impl Strategy<Value = Groups> {
    let component = prop::collection::vec(any::<u8>(), 0..6);
    prop::collection::vec(prop::collection::vec(component, 0..5), GROUPS)
}

fn views(groups: &Groups) -> Vec<Vec<&[u8]>> {
    groups
        .iter()
        .map(|group| group.iter().map(Vec::as_slice).collect())
        .collect()
}

fn id(salt: &[u8; 32], groups: &Groups) -> Digest {
    Transaction::from_parts(salt, &views(groups)).unwrap().id()
}

fn flatten(groups: &Groups) -> Vec<(usize, usize)> {
    let numbered = groups.iter().enumerate();
    numbered
        .flat_map(|(group, components)| (0..components.len()).map(move |index| (group, index)))
        .collect()
}

proptest! {
    #[test]
    fn l01_changing_a_byte_changes_the_id(groups in groups(), salt: [u8; 32], at: prop::sample::Index, bit in 0..8u8) {
        let places = flatten(&groups);
        prop_assume!(!places.is_empty());
        let (group, index) = places[at.index(places.len())];
        let mut changed = groups.clone();
        let component = &mut changed[group][index];
        prop_assume!(!component.is_empty());
        let byte = at.index(component.len());
        component[byte] ^= 1 << bit;
        prop_assert_ne!(id(&salt, &groups), id(&salt, &changed));
    }

    #[test]
    fn l01_lengthening_or_shortening_changes_the_id(groups in groups(), salt: [u8; 32], at: prop::sample::Index) {
        let places = flatten(&groups);
        prop_assume!(!places.is_empty());
        let (group, index) = places[at.index(places.len())];
        let mut longer = groups.clone();
        longer[group][index].push(0);
        prop_assert_ne!(id(&salt, &groups), id(&salt, &longer));
        let mut fewer = groups.clone();
        fewer[group].remove(index);
        prop_assert_ne!(id(&salt, &groups), id(&salt, &fewer));
    }

    #[test]
    fn l01_moving_a_component_changes_the_id(
        groups in groups(), salt: [u8; 32], at: prop::sample::Index, to in 0..GROUPS, position: prop::sample::Index,
    ) {
        let places = flatten(&groups);
        prop_assume!(!places.is_empty());
        let (group, index) = places[at.index(places.len())];
        let mut moved = groups.clone();
        let component = moved[group].remove(index);
        let position = position.index(moved[to].len() + 1);
        moved[to].insert(position, component);
        prop_assert_eq!(moved == groups, id(&salt, &moved) == id(&salt, &groups));
    }

    #[test]
    fn l02_equal_contents_under_another_salt_have_another_id(groups in groups(), salt: [u8; 32], other: [u8; 32]) {
        prop_assert_eq!(salt == other, id(&salt, &groups) == id(&other, &groups));
    }

    #[test]
    fn l03_encoding_and_decoding_keep_every_byte(groups in groups(), salt: [u8; 32]) {
        let views = views(&groups);
        let transaction = Transaction::from_parts(&salt, &views).unwrap();
        let bytes = transaction.encode();
        let decoded = Transaction::decode(&bytes).unwrap();
        prop_assert_eq!(&decoded, &transaction);
        prop_assert_eq!(&decoded.encode(), &bytes);
        prop_assert_eq!(decoded.id(), transaction.id());
    }

    #[test]
    fn l06_multiproofs_lead_to_the_root(count in 0usize..70, marks: u128, prefix: u8) {
        let entries: Vec<Digest> = (0..count).map(|number| sha256(&[number as u8])).collect();
        let known: Vec<bool> = (0..count).map(|number| marks >> number & 1 == 1).collect();
        let siblings = multiproof(prefix, &entries, &known);
        let shown: Vec<_> = (0..count).filter(|at| known[*at]).map(|at| (at as u32, entries[at])).collect();
        let siblings: Vec<&Digest> = siblings.iter().collect();
        let top = recompute(prefix, count as u32, &shown, &siblings);
        prop_assert_eq!(top.unwrap(), root(prefix, &entries));
        if !siblings.is_empty() {
            prop_assert!(recompute(prefix, count as u32, &shown, &siblings[1..]).is_err());
        }
        let extra = sha256(b"surplus");
        let surplus = [&siblings[..], &[&extra]].concat();
        prop_assert!(recompute(prefix, count as u32, &shown, &surplus).is_err());
    }
}

#[test]
fn l06_single_paths_equal_multiproofs() {
    for count in 0..40u8 {
        let entries: Vec<Digest> = (0..count).map(|number| sha256(&[number])).collect();
        let (top, paths) = all_paths(7, &entries);
        assert_eq!(top, root(7, &entries));
        for (at, path) in paths.iter().enumerate() {
            let mut known = vec![false; entries.len()];
            known[at] = true;
            assert_eq!(*path, multiproof(7, &entries, &known));
        }
    }
}

#[test]
fn l06_an_odd_tree_has_no_duplicate_last_leaf_twin() {
    let entries: Vec<Digest> = (0..4u8).map(|number| sha256(&[number])).collect();
    for count in 1..4 {
        let mut doubled = entries[..count].to_vec();
        doubled.push(entries[count - 1]);
        assert_ne!(root(1, &entries[..count]), root(1, &doubled));
    }
}

#[test]
fn l06_every_tree_has_its_own_prefix() {
    let (left, right) = (sha256(b"left"), sha256(b"right"));
    let node = |prefix: u8| p2pet_core::merkle::node(prefix, &left, &right);
    let nodes = [node(0x01), node(0x04), node(0x11)];
    let leaf = p2pet_core::finality::batch_leaf(&left);
    assert!(
        nodes
            .iter()
            .enumerate()
            .all(|(at, node)| !nodes[..at].contains(node) && *node != leaf)
    );
}

#[test]
fn l01_a_salt_or_group_count_of_another_size_is_refused() {
    let twelve = vec![Vec::new(); GROUPS];
    for salt in [&[0u8; 31][..], &[0; 33], &[]] {
        assert_eq!(
            Transaction::from_parts(salt, &twelve).unwrap_err().code(),
            "transaction.malformed"
        );
    }
    for count in [0, 11, 13] {
        assert!(Transaction::from_parts(&[0; 32], &vec![Vec::new(); count]).is_err());
    }
}

#[test]
fn l23_the_cap_of_a_group_holds_at_max_and_not_above() {
    let with = |count: usize| {
        let mut groups = vec![Vec::new(); GROUPS];
        groups[5] = vec![&[][..]; count];
        groups
    };
    let (max, above) = (with(4096), with(4097));
    let bytes = Transaction::from_parts(&[0; 32], &max).unwrap().encode();
    assert!(Transaction::decode(&bytes).is_ok());
    assert!(Transaction::from_parts(&[0; 32], &above).is_err());

    // The same envelope with one more component of two bytes in group 5; both lengths stay two-byte varints.
    let start = bytes.len() - 6 * 2 - 8192;
    let mut longer = bytes.clone();
    longer.splice(start..start, [0x0a, 0x00]);
    assert_eq!(longer[start - 2..start], [0x80, 0x40]);
    longer[start - 2] += 2;
    let refused = Transaction::decode(&longer).unwrap_err();
    assert!(refused.to_string().contains("more than 4096"), "{refused}");
}

#[test]
fn r18_envelopes_must_be_canonical() {
    let mut groups = vec![Vec::new(); GROUPS];
    groups[0] = vec![&b"component"[..]];
    let good = Transaction::from_parts(&[7; 32], &groups).unwrap().encode();
    let refused = |bytes: &[u8]| {
        assert_eq!(
            Transaction::decode(bytes).unwrap_err().code(),
            "transaction.malformed"
        )
    };
    for end in 0..good.len() {
        refused(&good[..end]);
    }
    refused(&[&good[..], &[0]].concat());
    refused(&[&good[..], &[0x1a, 0]].concat());
    refused(&[&good[..], &[0x22, 0]].concat());
    refused(&[&good[..2], &good].concat());
    refused(&[&good[2..36], &good[..2], &good[36..]].concat());
    refused(&[&[0x08, 0x81, 0x00], &good[2..]].concat());
    refused(&[&[0x08, 0x02], &good[2..]].concat());
    refused(&[&[0x0a, 0x01, 0x01], &good[2..]].concat());
    refused(&good[..good.len() - 2]);
}
