//! Finality proofs, as nodes and offline verifiers check them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

mod common;

use common::{Built, DECIDED_AT, NETWORK, Notarised, PARAMETERS, key, rules, service, versions};
use p2pet_core::check::verify_finality;
use p2pet_core::finality::{FinalityProof, UNIQUENESS_ONLY};
use p2pet_core::request::{NotarisationRequest, request_digest};
use p2pet_core::signature::{Purpose, SignatureBatch};
use p2pet_core::wire::Writer;
use p2pet_core::{Refusal, component::StateRef};
use std::collections::HashMap;

fn transaction() -> Built {
    Built::issue(1, 2, &[&key(1), &key(2)])
}

fn code_of(built: &Built, notarised: &Notarised) -> &'static str {
    let proof = notarised.proofs(&[built.id()]).remove(0);
    code_with(built, &proof)
}

/// Both ways of checking must agree on the code.
fn code_with(built: &Built, proof: &[u8]) -> &'static str {
    let proposal = built.proposal(&[&key(1), &key(2)], &[]);
    let node = rules()
        .check_finals(&[(&proposal, proof)], true)
        .remove(0)
        .map(|_| ())
        .map_err(|refusal| refusal.code);
    let notaries = versions()[&PARAMETERS].notaries.clone();
    let offline = verify_finality(&NETWORK, &built.bytes(), proof, &PARAMETERS, &notaries);
    let offline = offline.map(|_| ()).map_err(|error| error.code());
    if node != Err("finality.malformed") {
        assert_eq!(node, offline);
    }
    node.err().unwrap_or("valid")
}

fn refusal(built: &Built, signers: &[&p2pet_core::keys::SigningKey]) -> Refusal {
    let proof = Notarised::default().proofs(&[built.id()]).remove(0);
    rules()
        .check_finals(&[(&built.proposal(signers, &[]), &proof)], true)
        .remove(0)
        .unwrap_err()
}

#[test]
fn n11_each_of_a_batch_gets_a_proof_of_its_own_id() {
    for count in [1u8, 2, 3, 7, 64] {
        let transactions: Vec<_> = (0..count)
            .map(|salt| Built::issue(salt, 1, &[&key(1), &key(2)]))
            .collect();
        let ids: Vec<_> = transactions.iter().map(Built::id).collect();
        let proofs = Notarised::default().proofs(&ids);
        for (at, built) in transactions.iter().enumerate() {
            assert_eq!(code_with(built, &proofs[at]), "valid");
            if count > 1 {
                assert_eq!(
                    code_with(built, &proofs[(at + 1) % ids.len()]),
                    "finality.id"
                );
            }
        }
    }
}

#[test]
fn l07_each_step_of_section_6_refuses() {
    let built = transaction();
    assert_eq!(code_of(&built, &Notarised::default()), "valid");
    let by_another = Notarised {
        notary: key(202).public(),
        service: key(202),
        ..Notarised::default()
    };
    assert_eq!(code_of(&built, &by_another), "finality.notary");
    let mode = Notarised {
        mode: UNIQUENESS_ONLY,
        ..Notarised::default()
    };
    assert_eq!(code_of(&built, &mode), "finality.notary");
    let unsigned = Notarised {
        service: key(5),
        ..Notarised::default()
    };
    assert_eq!(code_of(&built, &unsigned), "finality.worker");
    let early = Notarised {
        not_before_ns: DECIDED_AT + 1,
        ..Notarised::default()
    };
    assert_eq!(code_of(&built, &early), "finality.worker");
    let network = Notarised {
        network: [1; 32],
        ..Notarised::default()
    };
    assert_eq!(code_of(&built, &network), "finality.worker");
    let worker = Notarised {
        worker: key(5),
        ..Notarised::default()
    };
    assert_eq!(code_of(&built, &worker), "finality.signature");
}

#[test]
fn l07_the_window_is_half_open() {
    let window = |from: i64, until: i64| {
        let mut built = transaction();
        built.groups[7] = vec![[from.to_be_bytes(), until.to_be_bytes()].concat()];
        code_of(&built, &Notarised::default())
    };
    assert_eq!(window(DECIDED_AT, DECIDED_AT + 1), "valid");
    assert_eq!(window(i64::MIN, i64::MAX), "valid");
    assert_eq!(window(DECIDED_AT - 1, DECIDED_AT), "finality.window");
    assert_eq!(window(DECIDED_AT + 1, i64::MAX), "finality.window");
}

#[test]
fn l07_a_proof_with_a_flipped_bit_is_refused() {
    let built = transaction();
    let other = Built::issue(2, 1, &[&key(1)]);
    let good = Notarised::default()
        .proofs(&[built.id(), other.id(), [3; 32]])
        .remove(0);
    assert_eq!(code_with(&built, &good), "valid");
    for position in 0..good.len() {
        let mut bent = good.clone();
        bent[position] ^= 1 << (position % 8);
        assert_ne!(code_with(&built, &bent), "valid", "byte {position}");
    }
}

#[test]
fn l07_other_parameters_are_refused() {
    let built = transaction();
    let proof = Notarised::default().proofs(&[built.id()]).remove(0);
    let notaries = versions()[&PARAMETERS].notaries.clone();
    let refused = |hash: &[u8], notaries: &HashMap<_, _>| {
        verify_finality(&NETWORK, &built.bytes(), &proof, hash, notaries)
            .unwrap_err()
            .code()
    };
    assert_eq!(refused(&[7; 32], &notaries), "finality.parameters");
    assert_eq!(refused(&PARAMETERS[..31], &notaries), "finality.parameters");
    assert_eq!(refused(&PARAMETERS, &HashMap::new()), "finality.notary");
}

#[test]
fn l12_a_final_transaction_has_exactly_the_required_signatures() {
    let built = transaction();
    let missing = refusal(&built, &[&key(2)]);
    assert_eq!(
        (missing.code, missing.missing_keys),
        ("signature.missing", vec![key(1).public()])
    );
    assert_eq!(
        refusal(&built, &[&key(1), &key(2), &key(3)]).code,
        "signature.unexpected"
    );
    assert_eq!(
        refusal(&Built::issue(1, 0, &[&key(1)]), &[&key(1)]).code,
        "transaction.empty"
    );
}

#[test]
fn l07_a_summary_needs_no_verification() {
    let built = transaction();
    let proof = Notarised::default().proofs(&[built.id()]).remove(0);
    let decoded = FinalityProof::decode(&proof).unwrap();
    assert_eq!(*decoded.transaction_id, built.id());
    assert_eq!(decoded.batch.root.notary, service().public());
    assert_eq!(
        (decoded.batch.root.decided_at_ns, decoded.batch.root.count),
        (DECIDED_AT, 1)
    );
}

#[test]
fn n08_a_request_is_signed_over_its_sorted_inputs_and_its_id() {
    let (first, second, id) = ([1; 36], [2; 36], [3; 32]);
    let inputs = [&second, &first].map(|bytes| StateRef::decode(bytes).unwrap());
    let sorted = [&first, &second].map(|bytes| StateRef::decode(bytes).unwrap());
    assert_eq!(request_digest(&inputs, &id), request_digest(&sorted, &id));
    assert_ne!(
        request_digest(&inputs, &id),
        request_digest(&inputs[..1], &id)
    );

    let signature = key(1).sign(
        &NETWORK,
        Purpose::NotarisationRequest,
        &request_digest(&inputs, &id),
    );
    let mut writer = Writer::default();
    writer
        .bytes(1, b"proposal")
        .bytes(2, &key(1).public())
        .uint(3, 1)
        .bytes(4, &signature);
    let bytes = writer.finish();
    let request = NotarisationRequest::decode(&bytes).unwrap();
    assert_eq!(request.proposal, b"proposal");
    let holds = |inputs: &[StateRef<'_>], id: &[u8; 32]| {
        let mut batch = SignatureBatch::default();
        let ticket = request.queue(&NETWORK, inputs, id, &mut batch);
        batch.verify().holds(ticket)
    };
    assert!(holds(&inputs, &id));
    assert!(holds(&sorted, &id));
    assert!(!holds(&inputs[..1], &id));
    assert!(!holds(&inputs, &[4; 32]));
}

#[test]
fn l12_without_verifying_signers_they_must_still_be_there() {
    let built = transaction();
    let proof = Notarised::default().proofs(&[built.id()]).remove(0);
    let check = |signers: &[&p2pet_core::keys::SigningKey]| {
        let proposal = built.proposal(signers, &[]);
        let mut answers = rules().check_finals(&[(&proposal, &proof)], false);
        answers
            .remove(0)
            .map(|_| ())
            .map_err(|refusal| refusal.code)
    };
    assert_eq!(check(&[&key(1), &key(2)]), Ok(()));
    assert_eq!(check(&[&key(1)]), Err("signature.missing"));
    assert_eq!(
        check(&[&key(1), &key(2), &key(3)]),
        Err("signature.unexpected")
    );
}
