//! Writes `docs/vectors/log.json`: `cargo run -p p2pet-notary --example log_vectors`.
#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use std::path::PathBuf;

use p2pet_core::certificate::certify_worker;
use p2pet_core::keys::{SigningKey, hex};
use p2pet_log::CHAIN_START;
use p2pet_log::format::{SegmentHeader, chain_value, encode_record, segment_name};
use p2pet_notary::record::{Accepted, Record, Refused, Verdict, encode_certificate};
use p2pet_view::{Change, encode_changes};
use serde_json::{Value, json};

/// Where the vectors are.
pub fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/vectors/log.json")
}

fn main() {
    std::fs::write(path(), contents()).unwrap();
}

/// The file's contents.
pub fn contents() -> String {
    let made = json!({
        "segment": segment(),
        "node_record": node_record(),
        "notary_record": notary_record(),
        "certificate_record": certificate_record(),
    });
    format!("{made:#}\n")
}

fn changes() -> [Change<'static>; 3] {
    let change = |table, key, value| Change { table, key, value };
    [
        change(1, b"key".as_slice(), Some(b"value".as_slice())),
        change(255, b"", Some(b"")),
        change(2, b"gone", None),
    ]
}

fn node_record() -> Value {
    let list: Vec<_> = changes()
        .iter()
        .map(|change| json!({ "table": change.table, "key": hex(change.key), "value": change.value.map(hex) }))
        .collect();
    json!({ "changes": list, "payload": hex(&encode_changes(&changes()).unwrap()) })
}

/// The start of a segment file, as a log with this salt writes it.
fn segment() -> Value {
    let salt = 0x5A17_C0DE;
    let header = SegmentHeader {
        salt,
        first_sequence: 1,
        chain_before: CHAIN_START,
    };
    let payloads = [encode_changes(&changes()).unwrap(), b"eight by".to_vec()];
    let (mut bytes, mut record, mut chain) = (header.encode(), Vec::new(), CHAIN_START);
    let mut chain_values = Vec::new();
    for (payload, sequence) in payloads.iter().zip(1..) {
        chain = chain_value(&chain, sequence, payload);
        encode_record(&mut record, salt, sequence, &chain, payload).unwrap();
        bytes.extend_from_slice(&record);
        chain_values.push(hex(&chain));
    }
    json!({
        "file": segment_name(1),
        "salt": hex(&salt.to_be_bytes()),
        "first_sequence": "1",
        "chain_before": hex(&CHAIN_START),
        "payloads": payloads.each_ref().map(|payload| hex(payload)),
        "chain_values": chain_values,
        "bytes": hex(&bytes),
    })
}

fn certificate_record() -> Value {
    let [service, worker] = [[1; 32], [2; 32]].map(|seed| SigningKey::from_seed(&seed));
    let certificate = certify_worker(&service, &[9; 32], &worker.public(), 0, i64::MAX);
    json!({ "worker_certificate": hex(&certificate), "payload": hex(&encode_certificate(&certificate)) })
}

fn notary_record() -> Value {
    let (refs, claims) = ([[0x31; 36], [0x32; 36], [0x33; 36]], [[0x41; 32]]);
    let accepted = [
        Accepted {
            id: &[1; 32],
            caller: &[0xC1; 32],
            inputs: &refs[..2],
            references: &refs[2..],
            claims: &[],
            signature: &[0x51; 64],
        },
        Accepted {
            id: &[2; 32],
            caller: &[0xC2; 32],
            inputs: &[],
            references: &[],
            claims: &claims,
            signature: &[0x52; 64],
        },
    ];
    let refused = [Refused {
        id: [3; 32],
        caller: [0xC3; 32],
        verdict: Verdict::Conflict,
        signature: [0x53; 64],
    }];
    let record = Record {
        decided_at_ns: 1_800_000_000_000_000_000,
        accepted: accepted.to_vec(),
        refused: refused.to_vec(),
    };
    let accepted = accepted.map(|request| {
        json!({
            "id": hex(request.id),
            "caller": hex(request.caller),
            "inputs": request.inputs.iter().map(|r| hex(r)).collect::<Vec<_>>(),
            "references": request.references.iter().map(|r| hex(r)).collect::<Vec<_>>(),
            "claims": request.claims.iter().map(|r| hex(r)).collect::<Vec<_>>(),
            "signature": hex(request.signature),
        })
    });
    let refused = refused.map(|request| {
        let verdict = request.verdict as u8;
        json!({ "id": hex(&request.id), "caller": hex(&request.caller), "verdict": verdict, "signature": hex(&request.signature) })
    });
    json!({
        "decided_at_ns": record.decided_at_ns.to_string(),
        "accepted": accepted,
        "refused": refused,
        "payload": hex(&record.encode().unwrap()),
    })
}
