//! Encumbrances and notary changes: L22, L24, N13.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod common;

use common::{Built, NETWORK, Notarised, PARAMETERS, key, service, signers_component};
use p2pet_core::Refusal;
use p2pet_core::check::{Parameters, Rules};
use p2pet_core::component::OutputState;
use p2pet_core::finality::{UNIQUENESS_ONLY, VERIFYING};
use p2pet_core::proofs::input_proof;
use p2pet_core::resolved::Resolved;
use std::collections::HashMap;

/// A version of the parameters that is not in force any more: it alone lists the notary `gone`.
const OLD: [u8; 32] = [6; 32];

fn second() -> [u8; 32] {
    key(202).public()
}

fn gone() -> [u8; 32] {
    key(203).public()
}

fn unseeing() -> [u8; 32] {
    key(204).public()
}

fn rules() -> Rules {
    let version = |notaries: &[([u8; 32], u8)]| Parameters {
        notaries: notaries.iter().copied().collect(),
        transaction_bytes_max: 20_000,
        inputs_max: 8,
    };
    let in_force = version(&[
        (service().public(), VERIFYING),
        (second(), VERIFYING),
        (unseeing(), UNIQUENESS_ONLY),
        (key(205).public(), UNIQUENESS_ONLY),
    ]);
    let old = version(&[(service().public(), VERIFYING), (gone(), VERIFYING)]);
    Rules::new(NETWORK, HashMap::from([(PARAMETERS, in_force), (OLD, old)]))
}

fn answer(proposal: &[u8]) -> Result<(), Refusal> {
    rules()
        .check_proposals(&[proposal], true)
        .remove(0)
        .map(|_| ())
}

#[track_caller]
fn refused(built: &Built, proofs: &[Vec<u8>], code: &str) {
    let refusal = answer(&built.proposal(&[&key(1)], proofs)).unwrap_err();
    assert_eq!(refusal.code, code, "{refusal}");
}

#[track_caller]
fn accepted(built: &Built, proofs: &[Vec<u8>]) {
    answer(&built.proposal(&[&key(1)], proofs)).unwrap();
}

/// The output with another notary and another encumbrance.
fn altered(component: &[u8], notary: &[u8; 32], encumbered_by: u32) -> Vec<u8> {
    let state = OutputState::decode(component).unwrap();
    let altered = OutputState {
        notary,
        encumbered_by,
        ..state
    };
    altered.encode()
}

/// An issue whose outputs are encumbered as `encumbered_by` says.
fn issue(encumbered_by: &[u32]) -> Built {
    let mut built = Built::issue(1, encumbered_by.len() as u8, &[&key(1)]);
    for (output, by) in built.groups[2].iter_mut().zip(encumbered_by) {
        *output = altered(output, &service().public(), *by);
    }
    built
}

/// The notary change of these outputs of `creator`, made right.
fn change(creator: &Built, outputs: &[u32], notary: [u8; 32]) -> Built {
    let mut built = Built::issue(2, 0, &[]);
    built.groups[0] = outputs
        .iter()
        .map(|index| creator.reference(*index))
        .collect();
    let place = |index: u32| outputs.iter().position(|other| *other == index).unwrap() as u32;
    let moved = outputs.iter().map(|index| {
        let component = &creator.groups[2][*index as usize];
        let companion = OutputState::decode(component).unwrap().encumbered_by;
        altered(
            component,
            &notary,
            companion.checked_sub(1).map_or(0, |other| place(other) + 1),
        )
    });
    built.groups[2] = moved.collect();
    built.groups[3] = Vec::new();
    built.groups[4] = vec![signers_component(&[&key(1)])];
    built.groups[6] = creator.groups[6].clone();
    built.groups[8] = creator.groups[8].clone();
    built.groups[9] = vec![vec![2]];
    built
}

fn proofs(creator: &Built, outputs: &[u32]) -> Vec<Vec<u8>> {
    outputs.iter().map(|index| creator.proof(*index)).collect()
}

fn by(number: u8, mode: u8, creator: &Built, index: u32) -> Vec<u8> {
    let notarised = Notarised {
        notary: key(number).public(),
        service: key(number),
        mode,
        ..Notarised::default()
    };
    input_proof(
        &creator.bytes(),
        index,
        &notarised.proofs(&[creator.id()])[0],
    )
    .unwrap()
}

#[test]
fn l22_encumbered_outputs_form_cycles() {
    for good in [
        &[0, 0][..],
        &[2, 1],
        &[2, 3, 1],
        &[2, 1, 0, 5, 4],
        &[4, 1, 2, 3],
    ] {
        accepted(&issue(good), &[]);
    }
    for bad in [
        &[1][..],
        &[2],
        &[u32::MAX],
        &[2, 0],
        &[2, 2],
        &[2, 1, 1],
        &[3, 3, 1],
        &[2, 1, 4],
        &[2, 1, 3],
    ] {
        refused(&issue(bad), &[], "transaction.encumbrance_invalid");
    }
}

#[test]
fn l22_consuming_an_encumbered_state_alone_is_refused() {
    let creator = issue(&[2, 3, 1, 0]);
    let spend = |outputs: &[u32]| {
        let inputs: Vec<_> = outputs
            .iter()
            .map(|index| creator.reference(*index))
            .collect();
        (
            Built::spend(3, &inputs, &[&key(1)]),
            proofs(&creator, outputs),
        )
    };
    for (outputs, whole) in [
        (&[0, 1, 2][..], true),
        (&[2, 0, 3, 1], true),
        (&[3], true),
        (&[0], false),
        (&[0, 1], false),
        (&[0, 2, 3], false),
        (&[2], false),
    ] {
        let (built, proofs) = spend(outputs);
        match whole {
            true => accepted(&built, &proofs),
            false => refused(&built, &proofs, "transaction.encumbered_alone"),
        }
    }
    // The companion must be consumed, not read; and it must be of the same transaction.
    let (mut built, proofs_of_inputs) = spend(&[0, 1]);
    built.groups[1] = vec![creator.reference(2)];
    let all = [&proofs_of_inputs[..], &proofs(&creator, &[2])].concat();
    refused(&built, &all, "transaction.encumbered_alone");
    let mut other = creator.clone();
    other.salt = vec![9; 32];
    let (mut built, mut proofs) = spend(&[0, 1]);
    built.groups[0].push(other.reference(2));
    proofs.push(other.proof(2));
    refused(&built, &proofs, "transaction.encumbered_alone");
}

#[test]
fn l22_a_reference_to_an_encumbered_state_needs_no_companion() {
    let creator = issue(&[2, 1, 0]);
    let mut built = Built::spend(3, &[creator.reference(2)], &[&key(1)]);
    built.groups[1] = vec![creator.reference(0)];
    accepted(&built, &proofs(&creator, &[2, 0]));
}

#[test]
fn n13_a_notary_change_moves_states_and_alters_nothing() {
    let creator = issue(&[2, 3, 1, 0]);
    for outputs in [&[3][..], &[0, 1, 2], &[3, 2, 0, 1]] {
        accepted(
            &change(&creator, outputs, second()),
            &proofs(&creator, outputs),
        );
    }
    let outputs = [3, 2, 0, 1];
    let (good, proofs) = (
        change(&creator, &outputs, second()),
        proofs(&creator, &outputs),
    );
    let wrong = "transaction.notary_change_invalid";
    let with = |index: usize, component: Vec<u8>| {
        let mut built = good.clone();
        built.groups[2][index] = component;
        built
    };
    let first = &good.groups[2][0];
    let state = OutputState::decode(first).unwrap();
    for forged in [
        OutputState {
            payload: b"other",
            ..state
        },
        OutputState {
            contract: "payment",
            ..state
        },
        OutputState {
            contract_version: 2,
            ..state
        },
        OutputState {
            type_name: "energy.Other",
            ..state
        },
        OutputState {
            schema_version: 2,
            ..state
        },
    ] {
        refused(&with(0, forged.encode()), &proofs, wrong);
    }
    refused(&with(0, altered(first, &gone(), 0)), &proofs, wrong);
    let mut swapped = good.clone();
    swapped.groups[2].swap(0, 1);
    assert!(answer(&swapped.proposal(&[&key(1)], &proofs)).is_err());
    refused(
        &change(&creator, &outputs, service().public()),
        &proofs,
        wrong,
    );
    // The cycle that the outputs keep must be the one that the inputs had.
    let mut turned = good.clone();
    for (position, by) in [(1, 4), (2, 2), (3, 3)] {
        turned.groups[2][position] = altered(&good.groups[2][position], &second(), by);
    }
    refused(&turned, &proofs, wrong);
    let mut freed = good.clone();
    (1..4).for_each(|at| freed.groups[2][at] = altered(&good.groups[2][at], &second(), 0));
    refused(&freed, &proofs, wrong);
    let left = change(&creator, &[0, 1, 2], second());
    let mut alone = left.clone();
    alone.groups[0].truncate(1);
    alone.groups[2] = vec![altered(&left.groups[2][0], &second(), 0)];
    refused(&alone, &proofs[2..3], "transaction.encumbered_alone");
}

#[test]
fn l20_a_notary_change_has_the_shape_of_section_2() {
    let creator = issue(&[0, 0]);
    let good = change(&creator, &[0], second());
    let proofs = proofs(&creator, &[0]);
    accepted(&good, &proofs);
    let general = Built::issue(1, 1, &[&key(1)]);
    let with = |group: usize, components: Vec<Vec<u8>>| {
        let mut built = good.clone();
        built.groups[group] = components;
        built
    };
    let signers = good.groups[4][0].clone();
    for (group, components) in [
        (1, vec![creator.reference(1)]),
        (2, Vec::new()),
        (2, vec![good.groups[2][0].clone(); 2]),
        (3, general.groups[3].clone()),
        (4, Vec::new()),
        (4, vec![signers.clone(), signers]),
        (5, vec![vec![1; 32]]),
        (10, vec![vec![1; 32]]),
    ] {
        refused(&with(group, components), &proofs, "transaction.malformed");
    }
    refused(
        &with(11, vec![vec![1; 32]]),
        &proofs,
        "transaction.locks_invalid",
    );
    let mut empty = with(0, Vec::new());
    empty.groups[2].clear();
    refused(&empty, &[], "transaction.empty");
    let mut general = good.clone();
    general.groups[3] = vec![common::command(b"move")];
    general.groups[9] = vec![vec![1]];
    refused(&general, &proofs, "transaction.output_notary_differs");
    let unsigned = answer(&good.proposal(&[], &proofs)).unwrap_err();
    assert_eq!(
        (unsigned.code, unsigned.missing_keys),
        ("signature.missing", vec![key(1).public()])
    );
}

#[test]
fn n13_states_leave_a_notary_that_only_old_parameters_list() {
    let mut creator = Built::issue(1, 1, &[&key(1)]);
    creator.groups[6] = vec![gone().to_vec()];
    creator.groups[2][0] = altered(&creator.groups[2][0], &gone(), 0);
    creator.groups[8] = vec![OLD.to_vec()];
    let proof = by(203, VERIFYING, &creator, 0);
    let moving = change(&creator, &[0], second());
    accepted(&moving, std::slice::from_ref(&proof));
    let mut unlisted = moving;
    unlisted.groups[8] = vec![PARAMETERS.to_vec()];
    refused(&unlisted, &[proof], "transaction.notary_not_listed");
}

#[test]
fn n13_a_moved_state_is_consumed_at_its_new_notary_and_nowhere_else() {
    let creator = issue(&[0]);
    let moved = change(&creator, &[0], second());
    let spend_at = |notary: [u8; 32]| {
        let mut built = Built::spend(3, &[moved.reference(0)], &[&key(1)]);
        built.groups[6] = vec![notary.to_vec()];
        built.groups[2][0] = altered(&built.groups[2][0], &notary, 0);
        built
    };
    accepted(&spend_at(second()), &[moved.proof(0)]);
    refused(
        &spend_at(service().public()),
        &[moved.proof(0)],
        "proof.other_notary",
    );
    // A proof by the new notary of a change that the old one never made.
    refused(
        &spend_at(second()),
        &[by(202, VERIFYING, &moved, 0)],
        "proof.other_notary",
    );
    // The state as it was before is not of the new notary.
    let mut before = spend_at(second());
    before.groups[0] = vec![creator.reference(0)];
    refused(&before, &[creator.proof(0)], "proof.other_notary");
    // Onward, and back.
    let back = change(&moved, &[0], service().public());
    let mut back = back;
    back.groups[6] = vec![second().to_vec()];
    accepted(&back, &[moved.proof(0)]);
}

/// An issue under the uniqueness-only notary.
fn unseen() -> Built {
    let mut creator = Built::issue(1, 1, &[&key(1)]);
    creator.groups[6] = vec![unseeing().to_vec()];
    creator.groups[2][0] = altered(&creator.groups[2][0], &unseeing(), 0);
    creator.groups[11] = vec![key(1).public().to_vec()];
    creator
}

#[test]
fn l24_nothing_is_laundered_through_a_notary_change_from_a_uniqueness_only_notary() {
    let creator = unseen();
    let moved = change(&creator, &[0], second());
    let mut spend = Built::spend(3, &[moved.reference(0)], &[&key(1)]);
    spend.groups[6] = vec![second().to_vec()];
    spend.groups[2][0] = altered(&spend.groups[2][0], &second(), 0);
    for mode in [VERIFYING, UNIQUENESS_ONLY] {
        let proof = by(204, mode, &moved, 0);
        refused(
            &spend,
            std::slice::from_ref(&proof),
            "proof.notary_not_verifying",
        );
        // Not by another change in between either.
        let mut onward = change(&moved, &[0], service().public());
        onward.groups[6] = vec![second().to_vec()];
        refused(&onward, &[proof], "proof.notary_not_verifying");
    }
    // Nor does the change itself pass among those who know the history.
    let proposal = moved.proposal(&[&key(1)], &[]);
    let known = Resolved {
        proposal: &proposal,
        input_outputs: vec![&creator.groups[2][0]],
        reference_outputs: Vec::new(),
    };
    let answer = rules().check_resolved(&[known], true).remove(0);
    assert_eq!(
        answer.unwrap_err().code,
        "transaction.notary_change_invalid"
    );
}

#[test]
fn l24_each_mode_has_its_own_check() {
    let creator = unseen();
    refused(&creator, &[], "transaction.notary_mode");
    let proposal = issue(&[0]).proposal(&[&key(1)], &[]);
    let known = Resolved {
        proposal: &proposal,
        input_outputs: Vec::new(),
        reference_outputs: Vec::new(),
    };
    let answer = rules().check_resolved(&[known], true).remove(0);
    assert_eq!(answer.unwrap_err().code, "transaction.notary_mode");
}

fn resolved(built: &Built, states: &[Vec<u8>], references: &[Vec<u8>]) -> Result<(), Refusal> {
    let proposal = built.proposal(&[&key(1)], &[]);
    let known = Resolved {
        proposal: &proposal,
        input_outputs: states.iter().map(Vec::as_slice).collect(),
        reference_outputs: references.iter().map(Vec::as_slice).collect(),
    };
    rules().check_resolved(&[known], true).remove(0).map(|_| ())
}

#[test]
fn n13_into_and_between_uniqueness_only_notaries_outputs_have_locks() {
    let creator = issue(&[0]);
    let mut moved = change(&creator, &[0], unseeing());
    refused(&moved, &[creator.proof(0)], "transaction.locks_invalid");
    moved.groups[11] = vec![key(1).public().to_vec()];
    accepted(&moved, &[creator.proof(0)]);
    moved.groups[11] = vec![vec![1; 32]; 2];
    refused(&moved, &[creator.proof(0)], "transaction.locks_invalid");

    let creator = unseen();
    let mut onward = change(&creator, &[0], key(205).public());
    assert_eq!(
        resolved(&onward, &creator.groups[2], &[]).unwrap_err().code,
        "transaction.locks_invalid"
    );
    onward.groups[11] = vec![key(1).public().to_vec()];
    resolved(&onward, &creator.groups[2], &[]).unwrap();
}

#[test]
fn l20_transactions_under_a_uniqueness_only_notary_are_checked_with_their_states() {
    let creator = unseen();
    resolved(&creator, &[], &[]).unwrap();
    let mut spend = unseen();
    spend.groups[0] = vec![creator.reference(0)];
    spend.groups[1] = vec![[7; 36].to_vec()];
    let state = creator.groups[2].clone();
    let code = |built: &Built, states: &[Vec<u8>], references: &[Vec<u8>]| {
        resolved(built, states, references)
            .err()
            .map(|refusal| refusal.code)
    };
    assert_eq!(code(&spend, &state, &state), None);
    assert_eq!(code(&spend, &[], &state), Some("proof.missing"));
    assert_eq!(code(&spend, &state, &[]), Some("proof.missing"));
    let foreign = vec![altered(&state[0], &second(), 0)];
    assert_eq!(code(&spend, &foreign, &state), Some("proof.other_notary"));
    assert_eq!(code(&spend, &state, &foreign), Some("proof.other_notary"));
    assert_eq!(
        code(&spend, &[vec![0xff]], &state),
        Some("transaction.malformed")
    );
    let encumbered = vec![altered(&state[0], &unseeing(), 2)];
    assert_eq!(
        code(&spend, &encumbered, &state),
        Some("transaction.encumbered_alone")
    );
    let mut lockless = spend.clone();
    lockless.groups[11].clear();
    assert_eq!(
        code(&lockless, &state, &state),
        Some("transaction.locks_invalid")
    );
    let mut claims = spend.clone();
    claims.groups[10] = vec![vec![1; 32]];
    assert_eq!(
        code(&claims, &state, &state),
        Some("transaction.claims_refused")
    );
    let proposal = spend.proposal(&[&key(1)], &[vec![1]]);
    let known = Resolved {
        proposal: &proposal,
        input_outputs: vec![&state[0]],
        reference_outputs: vec![&state[0]],
    };
    let answer = rules().check_resolved(&[known], true).remove(0);
    assert_eq!(answer.unwrap_err().code, "proof.invalid");
    let unsigned = Resolved {
        proposal: &spend.proposal(&[], &[]),
        input_outputs: vec![&state[0]],
        reference_outputs: vec![&state[0]],
    };
    assert_eq!(
        rules()
            .check_resolved(&[unsigned], true)
            .remove(0)
            .unwrap_err()
            .code,
        "signature.missing"
    );
}
