//! Every decoder, with what must hold of whatever it accepts: what the fuzz targets and the replay of their corpus run.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use p2pet_core::check::{Parameters, Rules};
use p2pet_core::component::{
    Command, OutputState, StateRef, TimeWindow, decode_signers, encode_signers,
};
use p2pet_core::composite::{Key, LEAVES_MAX};
use p2pet_core::finality::{FinalityProof, UNIQUENESS_ONLY, VERIFYING};
use p2pet_core::hash::{Digest, sha256};
use p2pet_core::keys::SigningKey;
use p2pet_core::proofs::InputProof;
use p2pet_core::proposal::Proposal;
use p2pet_core::request::NotarisationRequest;
use p2pet_core::resolved::Resolved;
use p2pet_core::tearoff::{TearOff, tear_off as make_tear_off};
use p2pet_core::transaction::{Group, Transaction};
use p2pet_core::uniqueness::UniquenessProposal;
use p2pet_core::wire::Writer;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Runs a decoder over bytes; panics when what it accepts breaks a promise.
pub type Target = fn(&[u8]);

/// Name and function of every target.
pub const ALL: [(&str, Target); 5] = [
    ("transaction", transaction),
    ("tear_off", tear_off),
    ("request", request),
    ("finality_proof", finality_proof),
    ("component", component),
];

/// The rules that the vectors are made under.
static RULES: LazyLock<Rules> = LazyLock::new(|| {
    let service = |number| SigningKey::from_seed(&sha256(&[number])).public();
    let notaries = [
        (service(200), VERIFYING),
        (service(202), VERIFYING),
        (service(204), UNIQUENESS_ONLY),
    ];
    let parameters = Parameters {
        notaries: HashMap::from(notaries),
        transaction_bytes_max: 1 << 20,
        inputs_max: 64,
    };
    let hash = sha256(b"network parameters of the test vectors");
    Rules::new([9; 32], HashMap::from([(hash, parameters)]))
});

/// Bytes that decode are the bytes that encoding gives: there is one encoding of each transaction.
pub fn transaction(data: &[u8]) {
    let Ok(transaction) = Transaction::decode(data) else {
        return;
    };
    assert_eq!(transaction.encode(), data);
    let id = transaction.id();
    let shown: Vec<(u32, u32)> = Group::ALL
        .into_iter()
        .filter(|group| !transaction.group(*group).is_empty())
        .map(|group| (u32::from(group.number()), 0))
        .collect();
    let made = make_tear_off(&transaction, &shown, &[]).unwrap();
    assert_eq!(
        TearOff::decode(&made)
            .unwrap()
            .verify(&id)
            .unwrap()
            .groups
            .len(),
        shown.len()
    );
}

/// What decodes can be recomputed; a tear-off of any id is no proof of another.
pub fn tear_off(data: &[u8]) {
    if let Ok(decoded) = TearOff::decode(data)
        && let Ok(revealed) = decoded.clone().prove()
    {
        let other: Digest = revealed.id.map(|byte| !byte);
        assert!(decoded.verify(&other).is_err());
    }
    if let Ok(proof) = InputProof::decode(data) {
        assert!(proof.creator.prove().is_ok() || proof.batch.check_path(&[0; 32]).is_err());
    }
}

/// A request, and what it or the data itself may be as a proposal of either kind, through every check.
pub fn request(data: &[u8]) {
    let (proposal, uniqueness) = match NotarisationRequest::decode(data) {
        Ok(request) => (request.proposal, request.uniqueness_proposal),
        Err(_) => (data, data),
    };
    if let Ok(decoded) = Proposal::decode(proposal) {
        assert_eq!(decoded.transaction.id(), decoded.id);
    }
    for require_all in [true, false] {
        assert_eq!(RULES.check_proposals(&[proposal], require_all).len(), 1);
        let resolved = Resolved {
            proposal,
            input_outputs: vec![data],
            reference_outputs: Vec::new(),
        };
        assert_eq!(RULES.check_resolved(&[resolved], require_all).len(), 1);
    }
    if let Ok(decoded) = UniquenessProposal::decode(uniqueness) {
        let id = decoded.id;
        let mut signatures = RULES.signature_batch();
        if let Ok(pending) = RULES.begin_uniqueness(decoded, &mut signatures) {
            assert_eq!(pending.visible().id, id);
            drop(pending.conclude(&signatures.verify()));
        }
    }
}

/// A finality proof, and the same as the proof of a proposal that it is not about.
pub fn finality_proof(data: &[u8]) {
    if let Ok(proof) = FinalityProof::decode(data) {
        let id = proof.transaction_id;
        let notary = proof.batch.root.notary;
        let checked = proof.check(id, &notary, Some(proof.batch.root.mode), TimeWindow::OPEN);
        assert!(checked.is_err() || proof.batch.check_path(id).is_ok());
        assert!(
            proof
                .check(&id.map(|byte| !byte), &notary, Some(1), TimeWindow::OPEN)
                .is_err()
        );
    }
    assert!(
        RULES
            .check_finals(&[(data, data)], true)
            .iter()
            .all(Result::is_err)
    );
}

/// A key is satisfied by all its leaves together and by no signature at all it is not.
fn check_satisfaction(key: &Key<'_>) {
    assert!(!key.leaves().is_empty() && key.leaves().len() <= LEAVES_MAX);
    assert_eq!(key.lacking(&|leaf| key.leaves().contains(&leaf)), None);
    let (lack, needed) = key.lacking(&|_| false).unwrap();
    assert_eq!(lack, u32::from(needed));
}

/// Single components: what decodes has one encoding.
pub fn component(data: &[u8]) {
    if let Ok(output) = OutputState::decode(data) {
        assert_eq!(output.encode(), data);
    }
    if let Ok(command) = Command::decode(data) {
        let mut writer = Writer::default();
        writer
            .bytes(1, command.contract.as_bytes())
            .bytes(2, command.type_name.as_bytes());
        writer
            .uint(3, u64::from(command.schema_version))
            .bytes(4, command.payload);
        assert_eq!(writer.finish(), data);
    }
    if let Ok(keys) = decode_signers(data) {
        let views: Vec<_> = keys.iter().map(Key::bytes).collect();
        assert_eq!(encode_signers(&views).unwrap(), data);
        keys.iter().for_each(check_satisfaction);
    }
    if let Ok(key) = Key::decode(data) {
        check_satisfaction(&key);
    }
    if let Ok(reference) = StateRef::decode(data) {
        let (id, index) = reference.parts();
        assert_eq!([&id[..], &index.to_be_bytes()].concat(), data);
    }
    if let Ok(window) = TimeWindow::decode(data) {
        assert_eq!(
            [window.from_ns.to_be_bytes(), window.until_ns.to_be_bytes()].concat(),
            data
        );
        assert!(
            !window.is_empty() || !window.contains(window.from_ns) || window.until_ns == i64::MAX
        );
    }
}
