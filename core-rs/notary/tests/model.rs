//! Random batches against a model that is two maps.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::result_large_err
)]

mod common;

use std::collections::HashMap;
use std::sync::LazyLock;

use common::*;
use p2pet_core::Digest;
use p2pet_core::hash::sha256;
use proptest::prelude::*;

const STATES: u32 = 5;
const CLAIMS: u8 = 2;
const TRANSACTIONS: usize = 24;

/// What a transaction wants, in the model's words.
struct Wish {
    signed: Signed,
    request: Vec<u8>,
    consumes: Vec<Vec<u8>>,
    reads: Vec<Vec<u8>>,
    window: (i64, i64),
}

/// The issue that every transaction's inputs come from, and the transactions.
static WORLD: LazyLock<(Signed, Vec<Wish>)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let notary = open(dir.path());
    let signed = Draft {
        outputs: STATES,
        ..draft(0)
    }
    .sign();
    let money = finalise(&notary, &signed);
    let wishes = (1..=TRANSACTIONS as u64)
        .map(|number| wish(number, &money))
        .collect();
    (signed, wishes)
});

/// The transaction of a number: its choices are the bits of a hash, so that every run has the same ones.
fn wish(number: u64, money: &Final) -> Wish {
    let dice = sha256(&number.to_be_bytes());
    let states = |wanted: u8| {
        (0..STATES)
            .zip(dice)
            .filter(move |(_, die)| die % 4 == wanted)
            .map(|(index, _)| (money, index))
    };
    let claims = (0..CLAIMS)
        .filter(|claim| dice[10 + usize::from(*claim)] < 64)
        .map(|claim| [claim; 32]);
    let window = match dice[20] % 4 {
        0 => (NOW + 3, NOW + 10),
        1 => (NOW, NOW + 5),
        _ => OPEN,
    };
    let draft = Draft {
        inputs: states(0).collect(),
        references: states(1).collect(),
        claims: claims.collect(),
        window,
        ..draft(number)
    };
    let signed = draft.sign();
    let refs = |list: &[(&Final, u32)]| {
        list.iter()
            .map(|(f, index)| state_ref(&f.id, *index).to_vec())
            .collect()
    };
    let mut consumes: Vec<Vec<u8>> = refs(&draft.inputs);
    consumes.extend(draft.claims.iter().map(|claim| claim.to_vec()));
    Wish {
        request: signed.request(),
        consumes,
        reads: refs(&draft.references),
        window,
        signed,
    }
}

#[derive(Default)]
struct Model {
    consumed: HashMap<Vec<u8>, Digest>,
    decided: HashMap<Digest, Vec<u8>>,
    now_ns: i64,
    /// The clock shows less than that.
    behind: bool,
    /// The time of the last record: what a restart remembers of the clock.
    logged_ns: i64,
    /// Refusals wait for a record, which a clean end appends.
    refusals_wait: bool,
}

impl Model {
    fn follow_batch(&mut self, wishes: &[&Wish], replies: &[Reply]) {
        let before = self.decided.len();
        for (wish, reply) in wishes.iter().zip(replies) {
            self.follow(wish, reply);
            // An internal answer is no verdict.
            let refused = reply.as_ref().is_err_and(|e| e.code != "notary.internal");
            self.refusals_wait |= refused;
        }
        if self.decided.len() > before {
            (self.logged_ns, self.refusals_wait) = (self.now_ns, false);
        }
    }

    fn restart(&mut self, clean: bool) {
        if clean && self.refusals_wait {
            self.logged_ns = self.now_ns;
        }
        (self.now_ns, self.refusals_wait) = (self.logged_ns, false);
    }

    /// Checks a reply and learns from it.
    fn follow(&mut self, wish: &Wish, reply: &Reply) {
        let id = wish.signed.id;
        if let Some(proof) = self.decided.get(&id) {
            assert_eq!(reply, &Ok(proof.clone()), "a repeat has another proof");
            return;
        }
        let mut expected: Vec<_> = wish.consumes.iter().chain(&wish.reads).collect();
        expected.retain(|subject| self.consumed.contains_key(*subject));
        let open = (wish.window.0..wish.window.1).contains(&self.now_ns);
        match reply {
            Ok(proof) => {
                assert!(expected.is_empty() && open && !(self.behind && wish.window != OPEN));
                verify(&wish.signed, proof);
                assert_eq!(root(proof).decided_at_ns, self.now_ns);
                self.consumed
                    .extend(wish.consumes.iter().map(|subject| (subject.clone(), id)));
                self.decided.insert(id, proof.clone());
            }
            Err(error) if error.code == "notary.conflict" => {
                assert_eq!(error.conflicts.len(), expected.len());
                for (_, subject, consumer) in &error.conflicts {
                    assert_eq!(*consumer, sha256(&self.consumed[subject]));
                }
            }
            Err(error) if error.code == "notary.internal" => {
                assert!(expected.is_empty() && open && self.behind && wish.window != OPEN);
            }
            Err(error) => {
                assert_eq!(error.code, "notary.time_window_invalid");
                assert!(expected.is_empty() && !open);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Batch(Vec<usize>, i64),
    Reopen { clean: bool, rebuild: bool },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let batch = prop::collection::vec(0..TRANSACTIONS, 0..8);
    let act = prop_oneof![
        4 => (batch, -2i64..12).prop_map(|(batch, time)| Act::Batch(batch, time)),
        1 => any::<(bool, bool)>().prop_map(|(clean, rebuild)| Act::Reopen { clean, rebuild }),
    ];
    prop::collection::vec(act, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_notary_agrees_with_two_maps(acts in acts()) {
        let dir = tempfile::tempdir().unwrap();
        let mut notary = open(dir.path());
        let (issue, wishes) = &*WORLD;
        finalise(&notary, issue);
        let mut model = Model { now_ns: NOW, logged_ns: NOW, ..Model::default() };
        for act in acts {
            match act {
                Act::Batch(numbers, time) => {
                    let batch: Vec<_> = numbers.iter().map(|number| &wishes[*number]).collect();
                    let requests: Vec<_> = batch.iter().map(|wish| wish.request.clone()).collect();
                    model.behind = NOW + time < model.now_ns;
                    model.now_ns = model.now_ns.max(NOW + time);
                    model.follow_batch(&batch, &decide(&notary, &requests, NOW + time));
                }
                Act::Reopen { clean, rebuild } => {
                    if clean {
                        notary.close().unwrap();
                    }
                    drop(notary);
                    if rebuild {
                        std::fs::remove_dir_all(dir.path().join("view")).unwrap();
                    }
                    notary = open(dir.path());
                    model.restart(clean);
                }
            }
        }
    }
}
