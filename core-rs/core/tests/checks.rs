//! The platform checks of proposals: L12, L20, L24.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod common;

use common::{
    Built, NETWORK, Notarised, PARAMETERS, command, key, output, rules, service, signers_component,
};
use p2pet_core::Refusal;
use p2pet_core::check::{Parameters, Rules};
use p2pet_core::finality::{UNIQUENESS_ONLY, VERIFYING};
use p2pet_core::proofs::input_proof;
use p2pet_core::signature::Purpose;
use std::collections::HashMap;

fn refusal(proposal: &[u8]) -> Refusal {
    rules()
        .check_proposals(&[proposal], true)
        .remove(0)
        .expect_err("it must be refused")
}

#[track_caller]
fn refused(built: &Built, code: &str) {
    assert_eq!(refusal(&built.proposal(&[], &[])).code, code);
}

fn spend_of_two() -> (Built, Vec<Vec<u8>>) {
    let creator = Built::issue(1, 3, &[&key(1)]);
    let inputs = [creator.reference(0), creator.reference(2)];
    let mut built = Built::spend(2, &inputs, &[&key(1), &key(2)]);
    built.groups[1] = vec![creator.reference(1)];
    (
        built,
        vec![creator.proof(0), creator.proof(2), creator.proof(1)],
    )
}

#[test]
fn l20_a_complete_proposal_passes_with_its_facts() {
    let (built, proofs) = spend_of_two();
    let proposal = built.proposal(&[&key(2), &key(1)], &proofs);
    let rules = rules();
    let checked = rules.check_proposals(&[&proposal], true).remove(0).unwrap();
    assert_eq!(checked.contents.id, built.id());
    let shown = |number: u8| output(&service().public(), &[b's', number]);
    assert_eq!(checked.input_outputs, [shown(0), shown(2)]);
    assert_eq!(checked.reference_outputs, [shown(1)]);
    assert_eq!(checked.signed_by, [&key(2).public(), &key(1).public()]);
}

#[test]
fn l20_duplicates_are_refused() {
    let (built, _) = spend_of_two();
    let mut twice = built.clone();
    twice.groups[0].push(built.groups[0][0].clone());
    refused(&twice, "transaction.duplicate_input");
    let mut twice = built.clone();
    twice.groups[1].push(built.groups[1][0].clone());
    refused(&twice, "transaction.duplicate_input");
    let mut both = built.clone();
    both.groups[1].push(built.groups[0][1].clone());
    refused(&both, "transaction.input_is_reference");
    let mut claims = built;
    claims.groups[10] = vec![vec![1; 32], vec![2; 32], vec![1; 32]];
    refused(&claims, "transaction.duplicate_claim");
}

#[test]
fn l20_neither_inputs_nor_outputs_is_refused() {
    refused(&Built::issue(1, 0, &[&key(1)]), "transaction.empty");
}

#[test]
fn l20_notaries_are_checked() {
    let good = Built::issue(1, 2, &[&key(1)]);
    let mut unlisted = good.clone();
    unlisted.groups[6] = vec![key(99).public().to_vec()];
    unlisted.groups[2] = vec![output(&key(99).public(), b"s")];
    refused(&unlisted, "transaction.notary_not_listed");
    let mut differs = good.clone();
    differs.groups[2][1] = output(&key(202).public(), b"s");
    refused(&differs, "transaction.output_notary_differs");
    let mut two = good.clone();
    two.groups[6].push(key(202).public().to_vec());
    refused(&two, "transaction.malformed");
    let mut none = good;
    none.groups[6].clear();
    refused(&none, "transaction.malformed");
}

#[test]
fn l20_unknown_parameters_are_refused() {
    let mut built = Built::issue(1, 1, &[&key(1)]);
    built.groups[8] = vec![vec![7; 32]];
    refused(&built, "transaction.parameters_unknown");
}

#[test]
fn l20_limits_hold_at_max_and_not_above() {
    let inputs: Vec<_> = (0..8)
        .map(|index| [&[5; 32][..], &[0, 0, 0, index]].concat())
        .collect();
    let mut built = Built::spend(1, &inputs, &[&key(1)]);
    refused(&built, "proof.missing");
    built.groups[1] = vec![[6; 36].to_vec()];
    refused(&built, "transaction.too_many_inputs");

    let mut large = Built::issue(1, 1, &[&key(1)]);
    let room = 10_000 - large.bytes().len();
    // Lengths of this size take one byte more in each of the two enclosing messages and in the payload's own field.
    large.groups[2][0] = output(&service().public(), &vec![7; room]);
    let over = large.bytes().len() - 10_000;
    large.groups[2][0] = output(&service().public(), &vec![7; room - over]);
    assert_eq!(large.bytes().len(), 10_000);
    refused(&large, "signature.missing");
    large.groups[2][0] = output(&service().public(), &vec![7; room - over + 1]);
    refused(&large, "transaction.too_large");
}

#[test]
fn l20_windows_must_hold_an_instant() {
    let window = |from: i64, until: i64| {
        let mut built = Built::issue(1, 1, &[&key(1)]);
        built.groups[7] = vec![[from.to_be_bytes(), until.to_be_bytes()].concat()];
        built
    };
    refused(&window(5, 5), "transaction.window_empty");
    refused(&window(6, 5), "transaction.window_empty");
    refused(&window(i64::MAX, i64::MIN), "transaction.window_empty");
    refused(&window(5, 6), "signature.missing");
    refused(&window(-1, i64::MAX), "signature.missing");
    refused(&window(i64::MIN, -1), "signature.missing");
    let mut two = window(1, 2);
    two.groups[7].push([0; 16].to_vec());
    refused(&two, "transaction.malformed");
}

#[test]
fn l20_types_and_locks_are_checked() {
    let mut built = Built::issue(1, 1, &[&key(1)]);
    for other in [0u8, 3, 255] {
        built.groups[9] = vec![vec![other]];
        refused(&built, "transaction.type_unknown");
    }
    for malformed in [
        vec![],
        vec![vec![]],
        vec![vec![0, 1]],
        vec![vec![1], vec![1]],
    ] {
        built.groups[9] = malformed;
        refused(&built, "transaction.malformed");
    }
    let mut locks = Built::issue(1, 1, &[&key(1)]);
    locks.groups[11] = vec![vec![1; 32]];
    refused(&locks, "transaction.locks_invalid");
    locks.groups[11] = vec![vec![1; 31]];
    refused(&locks, "transaction.malformed");
}

#[test]
fn r18_components_must_be_canonical() {
    let good = Built::issue(1, 1, &[&key(1)]);
    let with = |group: usize, component: Vec<u8>| {
        let mut built = good.clone();
        built.groups[group][0] = component;
        built
    };
    let append = |tail: &[u8]| [&output(&service().public(), b"s")[..], tail].concat();
    for tail in [
        &[0x3a, 1, 7][..],
        &[0x32, 1, b's'],
        &[0x0a, 1, b'e'],
        &[0xff],
        &[0x38, 0x00],
        &[0x80],
    ] {
        refused(&with(2, append(tail)), "transaction.malformed");
        refused(
            &with(3, [&command(b"do")[..], tail].concat()),
            "transaction.malformed",
        );
    }
    refused(&with(2, Vec::new()), "transaction.malformed");
    let signers = signers_component(&[&key(1), &key(2)]);
    let (first, second) = signers.split_at(34);
    refused(&with(4, [second, first].concat()), "transaction.malformed");
    refused(&with(4, [first, first].concat()), "transaction.malformed");
    refused(
        &with(4, [first, &[0, 31], &[7; 31]].concat()),
        "transaction.malformed",
    );
    refused(&with(4, first[..33].to_vec()), "transaction.malformed");
    let mut more = good.clone();
    more.groups[4].push(Vec::new());
    refused(&more, "transaction.malformed");
}

#[test]
fn l12_missing_signatures_name_exactly_the_keys() {
    let (built, proofs) = spend_of_two();
    let refusal = refusal(&built.proposal(&[&key(1)], &proofs));
    assert_eq!(
        (refusal.code, refusal.missing_keys),
        ("signature.missing", vec![key(2).public()])
    );
    let partial = built.proposal(&[&key(1)], &proofs);
    let rules = rules();
    let checked = rules.check_proposals(&[&partial], false).remove(0).unwrap();
    assert_eq!(checked.signed_by, [&key(1).public()]);
}

#[test]
fn l12_a_signature_that_nobody_asked_for_is_refused() {
    let (built, proofs) = spend_of_two();
    let stranger = built.proposal(&[&key(1), &key(2), &key(3)], &proofs);
    assert_eq!(refusal(&stranger).code, "signature.unexpected");
    let twice = built.proposal(&[&key(1), &key(2), &key(1)], &proofs);
    assert_eq!(refusal(&twice).code, "signature.unexpected");
}

#[test]
fn l12_invalid_signatures_are_refused_even_when_some_may_lack() {
    let (built, proofs) = spend_of_two();
    let id = built.id();
    let other_network = key(1).sign(&[1; 32], Purpose::Transaction, &id);
    let other_purpose = key(1).sign(&NETWORK, Purpose::Receipt, &id);
    let other_id = key(1).sign(&NETWORK, Purpose::Transaction, &[0; 32]);
    for signature in [other_network, other_purpose, other_id, [0; 64]] {
        let proposal = built.proposal_with(
            &[(key(1).public().to_vec(), 1, signature.to_vec())],
            &proofs,
        );
        let answer = rules().check_proposals(&[&proposal], false).remove(0);
        assert_eq!(answer.unwrap_err().code, "signature.invalid");
    }
    let (public, _, signature) = built.sign(&key(1));
    for (scheme, signature) in [
        (2, signature.clone()),
        (0, signature.clone()),
        (1, signature[..63].to_vec()),
    ] {
        let proposal = built.proposal_with(&[(public.clone(), scheme, signature)], &proofs);
        assert_eq!(refusal(&proposal).code, "signature.invalid");
    }
}

#[test]
fn l12_a_required_key_of_small_order_can_never_sign() {
    let mut built = Built::issue(1, 1, &[]);
    let identity = [&[1][..], &[0; 31]].concat();
    built.groups[4] = vec![[&[0, 32], &identity[..]].concat()];
    let proposal = built.proposal_with(
        &[(identity.clone(), 1, [&identity[..], &[0; 32]].concat())],
        &[],
    );
    assert_eq!(refusal(&proposal).code, "signature.key_invalid");
}

#[test]
fn l24_a_missing_or_surplus_proof_is_refused() {
    let (built, proofs) = spend_of_two();
    let signers = [&key(1), &key(2)];
    assert_eq!(
        refusal(&built.proposal(&signers, &proofs[..2])).code,
        "proof.missing"
    );
    assert_eq!(
        refusal(&built.proposal(&signers, &[])).code,
        "proof.missing"
    );
    let surplus = [&proofs[..], &proofs[..1]].concat();
    assert_eq!(
        refusal(&built.proposal(&signers, &surplus)).code,
        "proof.invalid"
    );
}

/// The refusal of a spend of output 0 of `creator`, proven by `proof`.
fn spend_with(creator: &Built, proof: Vec<u8>) -> Refusal {
    let built = Built::spend(2, &[creator.reference(0)], &[&key(1)]);
    refusal(&built.proposal(&[&key(1)], &[proof]))
}

fn proof_by(creator: &Built, notarised: &Notarised) -> Vec<u8> {
    input_proof(&creator.bytes(), 0, &notarised.proofs(&[creator.id()])[0]).unwrap()
}

#[test]
fn l24_a_proof_for_another_index_or_transaction_is_refused() {
    let creator = Built::issue(1, 3, &[&key(1)]);
    assert_eq!(spend_with(&creator, creator.proof(1)).code, "proof.index");
    let other = Built::issue(3, 3, &[&key(1)]);
    assert_eq!(spend_with(&creator, other.proof(0)).code, "proof.invalid");
    assert_eq!(spend_with(&creator, Vec::new()).code, "proof.invalid");
    assert_eq!(spend_with(&creator, vec![0xff; 64]).code, "proof.invalid");
}

#[test]
fn l24_a_proof_by_another_notary_is_refused() {
    let creator = Built::issue(1, 1, &[&key(1)]);
    let by_another = Notarised {
        notary: key(202).public(),
        service: key(202),
        ..Notarised::default()
    };
    assert_eq!(
        spend_with(&creator, proof_by(&creator, &by_another)).code,
        "proof.other_notary"
    );

    let mut elsewhere = Built::issue(1, 1, &[&key(1)]);
    elsewhere.groups[6] = vec![key(202).public().to_vec()];
    elsewhere.groups[2] = vec![output(&key(202).public(), b"s")];
    assert_eq!(
        spend_with(&elsewhere, proof_by(&elsewhere, &by_another)).code,
        "proof.other_notary"
    );
}

#[test]
fn l24_forged_batches_are_refused() {
    let creator = Built::issue(1, 1, &[&key(1)]);
    let forgeries = [
        Notarised {
            worker: key(5),
            ..Notarised::default()
        },
        Notarised {
            service: key(5),
            ..Notarised::default()
        },
        Notarised {
            network: [1; 32],
            ..Notarised::default()
        },
        Notarised {
            certified: key(5).public(),
            ..Notarised::default()
        },
        Notarised {
            not_before_ns: common::DECIDED_AT + 1,
            ..Notarised::default()
        },
        Notarised {
            not_before_ns: common::DECIDED_AT - 1_000_000,
            ..Notarised::default()
        },
    ];
    for forged in forgeries {
        assert_eq!(
            spend_with(&creator, proof_by(&creator, &forged)).code,
            "proof.invalid"
        );
    }
    let first = Notarised {
        not_before_ns: common::DECIDED_AT,
        ..Notarised::default()
    };
    let built = Built::spend(2, &[creator.reference(0)], &[&key(1)]);
    let proposal = built.proposal(&[&key(1)], &[proof_by(&creator, &first)]);
    assert!(rules().check_proposals(&[&proposal], true)[0].is_ok());
}

#[test]
fn l24_a_notary_that_the_cited_parameters_do_not_list_as_verifying_is_refused() {
    let uniqueness = Notarised {
        mode: UNIQUENESS_ONLY,
        ..Notarised::default()
    };
    let creator = Built::issue(1, 1, &[&key(1)]);
    assert_eq!(
        spend_with(&creator, proof_by(&creator, &uniqueness)).code,
        "proof.notary_not_verifying"
    );

    // The version that the creating transaction cites is another than the consuming one's.
    let listed = |mode| {
        let version = |mode| Parameters {
            notaries: HashMap::from([(service().public(), mode)]),
            transaction_bytes_max: 10_000,
            inputs_max: 8,
        };
        let versions = [([7; 32], version(mode)), (PARAMETERS, version(VERIFYING))];
        Rules::new(NETWORK, HashMap::from(versions))
    };
    let mut earlier = creator.clone();
    earlier.groups[8] = vec![vec![7; 32]];
    let built = Built::spend(2, &[earlier.reference(0)], &[&key(1)]);
    for (mode, by, accepted) in [
        (VERIFYING, VERIFYING, true),
        (UNIQUENESS_ONLY, VERIFYING, false),
        (UNIQUENESS_ONLY, UNIQUENESS_ONLY, false),
        (VERIFYING, UNIQUENESS_ONLY, false),
    ] {
        let by = Notarised {
            mode: by,
            ..Notarised::default()
        };
        let proposal = built.proposal(&[&key(1)], &[proof_by(&earlier, &by)]);
        let answer = listed(mode).check_proposals(&[&proposal], true).remove(0);
        let code = answer.err().map(|refusal| refusal.code);
        assert_eq!(code, (!accepted).then_some("proof.notary_not_verifying"));
    }

    let mut unknown = creator;
    unknown.groups[8] = vec![vec![7; 32]];
    assert_eq!(
        spend_with(&unknown, unknown.proof(0)).code,
        "proof.notary_not_verifying"
    );
}

#[test]
fn l12_one_refusal_does_not_change_the_answer_for_another() {
    let creator = Built::issue(1, 1, &[&key(1)]);
    let proposals: Vec<_> = (0..40u8)
        .map(|salt| {
            let built = Built::spend(salt, &[creator.reference(0)], &[&key(1)]);
            let (public, scheme, mut signature) = built.sign(&key(1));
            signature[40] ^= u8::from(salt % 7 == 3);
            built.proposal_with(&[(public, scheme, signature)], &[creator.proof(0)])
        })
        .collect();
    let views: Vec<_> = proposals.iter().map(Vec::as_slice).collect();
    let rules = rules();
    for _repeat in 0..2 {
        for (salt, answer) in rules.check_proposals(&views, true).into_iter().enumerate() {
            assert_eq!(
                answer.err().map(|refusal| refusal.code),
                (salt % 7 == 3).then_some("signature.invalid")
            );
        }
    }
}
