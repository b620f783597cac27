//! Tear-offs: L04, L05, L06.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use p2pet_core::hash::{Digest, Nonces};
use p2pet_core::tearoff::{Revealed, TearOff, tear_off};
use p2pet_core::transaction::{GROUPS, Group, Transaction};
use p2pet_core::wire::{Reader, Writer};
use p2pet_core::{Error, merkle};
use proptest::prelude::*;

/// A tear-off in parts that a test can bend.
#[derive(Clone, Debug, PartialEq)]
struct Parts {
    groups: Vec<PartGroup>,
    siblings: Vec<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq)]
struct PartGroup {
    group: u64,
    count: u64,
    components: Vec<(u64, Vec<u8>, Vec<u8>)>,
    siblings: Vec<Vec<u8>>,
}

impl Parts {
    fn read(bytes: &[u8]) -> Self {
        let mut reader = Reader::new(bytes, "TearOff");
        reader.uint32(1).unwrap();
        let mut groups = Vec::new();
        while let Some(bytes) = reader.repeated(2).unwrap() {
            let mut group = Reader::new(bytes, "RevealedGroup");
            let (number, count) = (group.uint64(1).unwrap(), group.uint64(2).unwrap());
            let mut components = Vec::new();
            while let Some(bytes) = group.repeated(3).unwrap() {
                let mut shown = Reader::new(bytes, "RevealedComponent");
                let index = shown.uint64(1).unwrap();
                components.push((
                    index,
                    shown.bytes(2).unwrap().to_vec(),
                    shown.bytes(3).unwrap().to_vec(),
                ));
            }
            let siblings = std::iter::from_fn(|| group.repeated(4).unwrap())
                .map(<[u8]>::to_vec)
                .collect();
            groups.push(PartGroup {
                group: number,
                count,
                components,
                siblings,
            });
        }
        let siblings = std::iter::from_fn(|| reader.repeated(3).unwrap())
            .map(<[u8]>::to_vec)
            .collect();
        Self { groups, siblings }
    }

    fn write(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.uint(1, 1);
        for group in &self.groups {
            writer.message(2, |message| {
                message.uint(1, group.group).uint(2, group.count);
                for (index, nonce, component) in &group.components {
                    message.message(3, |entry| {
                        entry.uint(1, *index).bytes(2, nonce).bytes(3, component);
                    });
                }
                group.siblings.iter().for_each(|sibling| {
                    message.entry(4, sibling);
                });
            });
        }
        self.siblings.iter().for_each(|sibling| {
            writer.entry(3, sibling);
        });
        writer.finish()
    }
}

const SALT: [u8; 32] = [3; 32];
/// Five outputs, three inputs, one notary, no references.
const OUTPUTS: [&[u8]; 5] = [b"zero", b"one", b"two", b"three", b"four"];

fn transaction() -> Transaction<'static> {
    let mut groups = vec![Vec::new(); GROUPS];
    groups[0] = vec![&[1u8; 36][..], &[2; 36], &[3; 36]];
    groups[2] = OUTPUTS.to_vec();
    groups[6] = vec![&[4; 32][..]];
    groups[7] = vec![&[5; 16][..]];
    Transaction::from_parts(&SALT, &groups).unwrap()
}

fn verify(bytes: &[u8]) -> Result<Revealed<'_>, Error> {
    TearOff::decode(bytes)?.verify(&transaction().id())
}

#[track_caller]
fn refused(parts: &Parts) {
    assert!(verify(&parts.write()).is_err(), "{parts:?}");
}

proptest! {
    #[test]
    fn l04_any_subset_is_revealed_under_the_same_id(
        groups in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 1..4), 0..7), GROUPS),
        picks in prop::collection::vec((0..GROUPS as u32, 0..7u32), 0..12),
        whole in prop::collection::vec(0..GROUPS as u32, 0..4),
    ) {
        let views: Vec<Vec<&[u8]>> = groups.iter().map(|g| g.iter().map(Vec::as_slice).collect()).collect();
        let transaction = Transaction::from_parts(&SALT, &views).unwrap();
        let exists = |(group, index): &(u32, u32)| (*index as usize) < groups[*group as usize].len();
        let picks: Vec<_> = picks.into_iter().filter(exists).collect();
        let bytes = tear_off(&transaction, &picks, &whole).unwrap();
        prop_assert_eq!(Parts::read(&bytes).write(), bytes.clone());
        let revealed = TearOff::decode(&bytes).unwrap().verify(&transaction.id()).unwrap();
        for group in Group::ALL {
            let number = u32::from(group.number());
            let shown = revealed.group(group);
            let wanted = whole.contains(&number) || picks.iter().any(|(picked, _)| *picked == number);
            prop_assert_eq!(shown.is_some(), wanted);
            for (component, index) in transaction.group(group).iter().zip(0..) {
                let wanted = whole.contains(&number) || picks.contains(&(number, index));
                prop_assert_eq!(revealed.component(group, index), wanted.then_some(*component));
            }
        }
    }

    #[test]
    fn l04_a_flipped_bit_is_refused(at: prop::sample::Index, bit in 0..8u8) {
        let mut bytes = tear_off(&transaction(), &[(2, 1), (2, 4), (0, 0)], &[1, 6]).unwrap();
        let position = at.index(bytes.len());
        bytes[position] ^= 1 << bit;
        prop_assert!(verify(&bytes).is_err());
    }
}

#[test]
fn l04_a_component_at_another_index_count_or_group_is_refused() {
    let good = Parts::read(&tear_off(&transaction(), &[(2, 2)], &[6]).unwrap());
    assert!(verify(&good.write()).is_ok());
    for (index, count, group) in [
        (1, 5, 2),
        (3, 5, 2),
        (2, 4, 2),
        (2, 6, 2),
        (2, 3, 2),
        (2, 5, 3),
        (2, 5, 1),
        (2, 5, 11),
    ] {
        let mut bent = good.clone();
        bent.groups[0].components[0].0 = index;
        bent.groups[0].count = count;
        bent.groups[0].group = group;
        refused(&bent);
    }
}

#[test]
fn l04_a_component_of_a_smaller_or_larger_group_is_refused() {
    // Another count whose path has as many siblings: index 4 of 5 has one, as has index 1 of 2 or 2 of 3.
    let good = Parts::read(&tear_off(&transaction(), &[(2, 4)], &[]).unwrap());
    assert_eq!(good.groups[0].siblings.len(), 1);
    for (index, count) in [(1, 2), (2, 3), (0, 2), (8, 9), (16, 17)] {
        let mut bent = good.clone();
        bent.groups[0].components[0].0 = index;
        bent.groups[0].count = count;
        refused(&bent);
    }
}

#[test]
fn l04_siblings_that_lack_are_left_over_or_swapped_are_refused() {
    let good = Parts::read(&tear_off(&transaction(), &[(2, 2)], &[6]).unwrap());
    for at in 0..good.siblings.len() {
        let mut bent = good.clone();
        bent.siblings.remove(at);
        refused(&bent);
        let mut bent = good.clone();
        bent.siblings.swap(at, 0);
        assert_eq!(verify(&bent.write()).is_ok(), bent == good);
    }
    for at in 0..good.groups[0].siblings.len() {
        let mut bent = good.clone();
        bent.groups[0].siblings.remove(at);
        refused(&bent);
    }
    let mut bent = good.clone();
    bent.siblings.push(vec![0; 32]);
    refused(&bent);
    let mut bent = good;
    bent.siblings[0].pop();
    refused(&bent);
}

#[test]
fn l04_a_proof_for_another_id_is_refused() {
    let bytes = tear_off(&transaction(), &[(2, 2)], &[6]).unwrap();
    let refused = TearOff::decode(&bytes)
        .unwrap()
        .verify(&[0; 32])
        .unwrap_err();
    assert_eq!(refused.code(), "proof.invalid");
}

#[test]
fn l06_an_inner_node_shown_as_a_leaf_is_refused() {
    // The inner node over outputs 0 and 1, presented as the component of a group of three.
    let leaves = transaction().leaves(Group::Outputs);
    let inner = [&[0x01][..], &leaves[0], &leaves[1]].concat();
    let good = Parts::read(&tear_off(&transaction(), &[(2, 4)], &[]).unwrap());
    for (nonce, component) in [(leaves[0], leaves[1].to_vec()), ([0; 32], inner)] {
        let mut bent = good.clone();
        bent.groups[0]
            .components
            .insert(0, (0, nonce.to_vec(), component));
        bent.groups[0].siblings.clear();
        for count in [2, 3, 5] {
            bent.groups[0].count = count;
            bent.groups[0].components[1].0 = count - 1;
            refused(&bent);
        }
    }
}

#[test]
fn l05_a_whole_group_is_complete_and_a_part_of_it_is_not() {
    let whole = tear_off(&transaction(), &[], &[0, 1, 7]).unwrap();
    let revealed = verify(&whole).unwrap();
    assert!(
        [Group::Inputs, Group::References, Group::TimeWindow]
            .map(|group| revealed.is_complete(group))
            == [true; 3]
    );
    assert!(!revealed.is_complete(Group::Outputs));
    let part = tear_off(&transaction(), &[(0, 0), (0, 2)], &[]).unwrap();
    assert!(!verify(&part).unwrap().is_complete(Group::Inputs));
}

#[test]
fn l05_hiding_a_component_of_a_whole_group_is_refused() {
    let good = Parts::read(&tear_off(&transaction(), &[], &[0, 1, 7]).unwrap());
    for hidden in 0..3 {
        let mut bent = good.clone();
        bent.groups[0].components.remove(hidden);
        bent.groups[0].count = 2;
        for (at, component) in bent.groups[0].components.iter_mut().enumerate() {
            component.0 = at as u64;
        }
        refused(&bent);
    }
    for group in [0, 2] {
        let mut bent = good.clone();
        bent.groups[group].components.clear();
        bent.groups[group].count = 0;
        refused(&bent);
        bent.groups[group].count = good.groups[group].count;
        refused(&bent);
    }
    let mut bent = good.clone();
    bent.groups[1].count = 1;
    refused(&bent);
    let mut bent = good;
    bent.groups.swap(0, 1);
    refused(&bent);
}

#[test]
fn l02_the_salt_and_hidden_nonces_never_travel() {
    let bytes = tear_off(&transaction(), &[(2, 2)], &[6]).unwrap();
    let contains = |needle: &Digest| bytes.windows(32).any(|window| window == needle);
    assert!(!contains(&SALT));
    let nonces = Nonces::new(&SALT);
    assert!(contains(&nonces.nonce(2, 2)));
    assert!(
        (0..5)
            .filter(|index| *index != 2)
            .all(|index| !contains(&nonces.nonce(2, index)))
    );
}

#[test]
fn l04_components_that_do_not_exist_cannot_be_shown() {
    for (components, whole) in [
        (vec![(2, 5)], vec![]),
        (vec![(12, 0)], vec![]),
        (vec![], vec![12]),
        (vec![(1, 0)], vec![]),
    ] {
        assert_eq!(
            tear_off(&transaction(), &components, &whole)
                .unwrap_err()
                .code(),
            "proof.index"
        );
    }
}

#[test]
fn l23_the_work_is_bounded_by_what_is_shown_and_not_by_the_count() {
    let known = [(4_000_000_000u32, [1; 32])];
    let sibling = [2; 32];
    assert!(merkle::recompute(1, u32::MAX, &known, &[&sibling; 32]).is_ok());
    assert!(merkle::recompute(1, u32::MAX, &known, &[]).is_err());
}
