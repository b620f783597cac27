//! The audit of a log: silent about what a notary decides, and what none of ours would decide is found.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use p2pet_core::component::StateRef;
use p2pet_core::keys::SigningKey;
use p2pet_core::request::request_digest;
use p2pet_core::signature::Purpose;
use p2pet_log::{Base, DirectoryLock, Log};
use p2pet_notary::record::{Accepted, Record, Ref};
use p2pet_notary::{Audit, audit, index};
use p2pet_view::{Inspection, Progress};

const NETWORK: [u8; 32] = [5; 32];

fn key() -> SigningKey {
    SigningKey::from_seed(&[7; 32])
}

/// (decided at, id, input, whether the caller's signature is good) of each record.
fn audited(records: &[(i64, u8, u8, bool)]) -> Audit {
    let (dir, scratch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let lock = DirectoryLock::take(&dir.path().join("log")).unwrap();
    let mut log = Log::open(lock, Base::START, 0, 1 << 16).unwrap();
    let caller = key().public();
    for (decided_at_ns, id, input, good) in records {
        let (id, inputs): ([u8; 32], [Ref; 1]) = ([*id; 32], [[*input; 36]]);
        let digest = request_digest(&[StateRef::decode(&inputs[0]).unwrap()], &id);
        let mut signature = key().sign(&NETWORK, Purpose::NotarisationRequest, &digest);
        signature[3] ^= u8::from(!good);
        let accepted = Accepted {
            id: &id,
            caller: &caller,
            inputs: &inputs,
            references: &[],
            claims: &[],
            signature: &signature,
        };
        let record = Record {
            decided_at_ns: *decided_at_ns,
            accepted: vec![accepted],
            refused: vec![],
        };
        log.append(&record.encode().unwrap()).unwrap();
    }
    drop(log);
    let silent = Progress::silent();
    let inspection =
        Inspection::begin(dir.path(), scratch.path(), 64 << 20, index(), &silent).unwrap();
    inspection.rebuild(u64::MAX, &silent).unwrap();
    audit(&inspection, &NETWORK, &silent).unwrap()
}

fn reasons(audit: &Audit) -> Vec<(u64, &'static str)> {
    audit
        .first
        .iter()
        .map(|finding| (finding.sequence, finding.why))
        .collect()
}

#[test]
fn what_a_notary_decides_is_silent() {
    let audit = audited(&[(1, 1, 1, true), (1, 2, 2, true), (2, 3, 3, true)]);
    assert_eq!((audit.accepted, audit.findings), (3, 0));
}

#[test]
fn a_request_that_its_caller_did_not_sign_is_found() {
    let audit = audited(&[(1, 1, 1, true), (1, 2, 2, false)]);
    assert_eq!(
        reasons(&audit),
        [(2, "its caller did not sign the request")]
    );
}

#[test]
fn a_state_that_is_consumed_twice_is_found() {
    let audit = audited(&[(1, 1, 1, true), (1, 2, 1, true)]);
    assert_eq!(reasons(&audit), [(1, "its input is consumed twice")]);
}

#[test]
fn a_decision_that_is_earlier_than_the_one_before_is_found() {
    let audit = audited(&[(2, 1, 1, true), (1, 2, 2, true)]);
    let why = "is decided earlier than the record before it";
    assert_eq!(reasons(&audit), [(2, why)]);
}
