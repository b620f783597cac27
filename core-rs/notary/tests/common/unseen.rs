//! Transactions of which a uniqueness-only notary sees inputs, references and locks.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use p2pet_core::certificate::certify_worker;
use p2pet_core::check::verify_finality;
use p2pet_core::component::StateRef;
use p2pet_core::finality::UNIQUENESS_ONLY;
use p2pet_core::hash::{Digest, sha256};
use p2pet_core::keys::SigningKey;
use p2pet_core::locks::lock_of;
use p2pet_core::request::request_digest;
use p2pet_core::signature::Purpose;
use p2pet_core::tearoff::tear_off;
use p2pet_core::transaction::Transaction;
use p2pet_core::uniqueness::{SHOWN, lock_proof};
use p2pet_core::wire::Writer;
use p2pet_notary::{Notary, Request, Service};

use super::{
    NETWORK, NOW, OPEN, OPTIONS, PARAMETERS, Reply, alice, decode_reply, key, notaries, root,
    rules, state_ref,
};

pub fn own_key() -> [u8; 32] {
    key(203).public()
}

pub fn open(directory: &Path) -> Notary {
    let worker = Arc::new(key(204));
    let certificate = certify_worker(&key(203), &NETWORK, &worker.public(), 0, i64::MAX);
    let service = Service::new(NETWORK, UNIQUENESS_ONLY, worker, &certificate).unwrap();
    Notary::open(directory, OPTIONS, rules(), service).unwrap()
}

/// A final transaction, all of whose outputs are alice's.
#[derive(Clone)]
pub struct Done {
    pub transaction: Vec<u8>,
    pub id: Digest,
    pub salt: [u8; 32],
    pub proof: Vec<u8>,
}

#[derive(Clone)]
pub struct Draft<'f> {
    pub number: u64,
    pub inputs: Vec<(&'f Done, u32)>,
    pub references: Vec<(&'f Done, u32)>,
    pub outputs: u32,
    pub claims: Vec<Vec<u8>>,
    pub window: (i64, i64),
    pub notary: [u8; 32],
}

pub fn draft<'f>(number: u64) -> Draft<'f> {
    Draft {
        number,
        inputs: vec![],
        references: vec![],
        outputs: 1,
        claims: vec![],
        window: OPEN,
        notary: own_key(),
    }
}

pub fn spend<'f>(number: u64, inputs: &[(&'f Done, u32)]) -> Draft<'f> {
    Draft {
        inputs: inputs.to_vec(),
        ..draft(number)
    }
}

/// A transaction with what a uniqueness proposal is made of; a test may change each part.
#[derive(Clone)]
pub struct Parts {
    pub transaction: Vec<u8>,
    pub id: Digest,
    pub salt: [u8; 32],
    pub inputs: Vec<[u8; 36]>,
    pub tear_off: Vec<u8>,
    pub proofs: Vec<Vec<u8>>,
    pub unlocks: Vec<Vec<u8>>,
}

impl Draft<'_> {
    pub fn parts(&self) -> Parts {
        let salt = sha256(&self.number.to_be_bytes());
        let refs = |states: &[(&Done, u32)]| -> Vec<Vec<u8>> {
            let refs = states
                .iter()
                .map(|(f, index)| state_ref(&f.id, *index).to_vec());
            refs.collect()
        };
        let mut groups: Vec<Vec<Vec<u8>>> = vec![vec![]; 12];
        groups[0] = refs(&self.inputs);
        groups[1] = refs(&self.references);
        groups[2] = (0..self.outputs)
            .map(|n| format!("secret state {n}").into_bytes())
            .collect();
        groups[3] = vec![b"secret command".to_vec()];
        groups[4] = vec![b"secret signers".to_vec()];
        groups[6] = vec![self.notary.to_vec()];
        if self.window != OPEN {
            groups[7] = vec![[self.window.0.to_be_bytes(), self.window.1.to_be_bytes()].concat()];
        }
        groups[8] = vec![PARAMETERS.to_vec()];
        groups[9] = vec![vec![1]];
        groups[10] = self.claims.clone();
        let lock = |n| lock_of(&alice().public(), &salt, n).unwrap().to_vec();
        groups[11] = (0..self.outputs).map(lock).collect();
        let views: Vec<Vec<&[u8]>> = groups
            .iter()
            .map(|group| group.iter().map(Vec::as_slice).collect())
            .collect();
        let built = Transaction::from_parts(&salt, &views).unwrap();
        let id = built.id();
        let states = self.inputs.iter().chain(&self.references);
        let unlock = |(made, index): &(&Done, u32)| {
            alice().unlock(&NETWORK, &made.salt, *index, &id).to_vec()
        };
        Parts {
            tear_off: tear_off(&built, &[], &SHOWN.map(|g| u32::from(g.number()))).unwrap(),
            transaction: built.encode(),
            id,
            salt,
            inputs: groups[0]
                .iter()
                .map(|r| r.as_slice().try_into().unwrap())
                .collect(),
            proofs: states
                .map(|(made, index)| lock_proof(&made.transaction, *index, &made.proof).unwrap())
                .collect(),
            unlocks: self.inputs.iter().map(unlock).collect(),
        }
    }

    pub fn request(&self) -> Vec<u8> {
        self.parts().request()
    }
}

impl Parts {
    pub fn request(&self) -> Vec<u8> {
        self.request_by(&alice(), &alice().public(), 5)
    }

    /// A request that `signer` signed and that says to be by `caller`, with the proposal in that field.
    pub fn request_by(&self, signer: &SigningKey, caller: &[u8; 32], field: u32) -> Vec<u8> {
        let mut proposal = Writer::default();
        proposal.entry(1, &self.tear_off);
        self.proofs.iter().for_each(|proof| {
            proposal.entry(2, proof);
        });
        self.unlocks.iter().for_each(|signature| {
            proposal.entry(3, signature);
        });
        let proposal = proposal.finish();
        let refs: Vec<_> = self
            .inputs
            .iter()
            .map(|r| StateRef::decode(r).unwrap())
            .collect();
        let digest = request_digest(&refs, &self.id);
        let signature = signer.sign(&NETWORK, Purpose::NotarisationRequest, &digest);
        let mut writer = Writer::default();
        if field == 1 {
            writer.bytes(1, &proposal);
        }
        writer.bytes(2, caller).uint(3, 1).bytes(4, &signature);
        if field == 5 {
            writer.bytes(5, &proposal);
        }
        writer.finish()
    }

    pub fn done(&self, proof: &[u8]) -> Done {
        Done {
            transaction: self.transaction.clone(),
            id: self.id,
            salt: self.salt,
            proof: proof.to_vec(),
        }
    }
}

pub fn decide(notary: &Notary, requests: &[Vec<u8>], now_ns: i64) -> Vec<Reply> {
    let caller = alice().public();
    let of = |bytes| Request {
        caller: &caller,
        bytes,
    };
    let requests: Vec<_> = requests.iter().map(|bytes| of(bytes.as_slice())).collect();
    let batch = notary.check(&requests).unwrap();
    assert!(batch.to_verify.is_empty(), "there is no contract to run");
    let replies = notary
        .decide(batch.prepared, &HashMap::new(), now_ns)
        .unwrap();
    replies.iter().map(|reply| decode_reply(reply)).collect()
}

pub fn one(notary: &Notary, draft: &Draft<'_>) -> Reply {
    decide(notary, &[draft.request()], NOW).remove(0)
}

pub fn finalise(notary: &Notary, draft: &Draft<'_>) -> Done {
    let parts = draft.parts();
    let proof = decide(notary, &[parts.request()], NOW).remove(0).unwrap();
    let id = verify_finality(
        &NETWORK,
        &parts.transaction,
        &proof,
        &PARAMETERS,
        &notaries(),
    )
    .unwrap();
    assert_eq!(id, parts.id);
    assert_eq!(root(&proof).mode, UNIQUENESS_ONLY);
    parts.done(&proof)
}

pub fn issue(notary: &Notary, number: u64, outputs: u32) -> Done {
    finalise(
        notary,
        &Draft {
            outputs,
            ..draft(number)
        },
    )
}
