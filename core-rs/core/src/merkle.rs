//! Trees of the RFC 6962 shape whose entries are not hashed again, and multiproofs over them (section 3).

use crate::error::Error;
use crate::hash::{Digest, sha256, sha256_parts};
use std::slice::Iter;

/// Prefix of the inner nodes of a group's tree.
pub const COMPONENTS: u8 = 0x01;
/// Prefix of the inner nodes of the tree of group roots.
pub const GROUPS: u8 = 0x04;
/// Prefix of the inner nodes of a notary batch.
pub const BATCH: u8 = 0x11;

/// SHA-256(prefix ‖ left ‖ right).
#[must_use]
pub fn node(prefix: u8, left: &Digest, right: &Digest) -> Digest {
    sha256_parts(&[&[prefix], left, right])
}

/// The largest power of two below `n`, for n > 1.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// T(entries, prefix): the root of the tree.
#[must_use]
pub fn root(prefix: u8, entries: &[Digest]) -> Digest {
    match entries {
        [] => sha256(b""),
        [one] => *one,
        _ => {
            let (left, right) = entries.split_at(split(entries.len() as u64) as usize);
            node(prefix, &root(prefix, left), &root(prefix, right))
        }
    }
}

/// The siblings that prove the entries marked in `known`, in the order in which `recompute` asks for them.
#[must_use]
pub fn multiproof(prefix: u8, entries: &[Digest], known: &[bool]) -> Vec<Digest> {
    let mut siblings = Vec::new();
    collect(prefix, entries, known, &mut siblings);
    siblings
}

fn collect(prefix: u8, entries: &[Digest], known: &[bool], siblings: &mut Vec<Digest>) {
    if entries.is_empty() {
        return;
    }
    if !known.contains(&true) {
        siblings.push(root(prefix, entries));
    } else if entries.len() > 1 {
        let middle = split(entries.len() as u64) as usize;
        let (left, right) = entries.split_at(middle);
        let (known_left, known_right) = known.split_at(middle.min(known.len()));
        collect(prefix, left, known_left, siblings);
        collect(prefix, right, known_right, siblings);
    }
}

/// The root, and for each entry the multiproof that knows that entry alone; one pass over the tree.
#[must_use]
pub fn all_paths(prefix: u8, entries: &[Digest]) -> (Digest, Vec<Vec<Digest>>) {
    let mut paths = vec![Vec::new(); entries.len()];
    let top = extend_paths(prefix, entries, &mut paths);
    (top, paths)
}

fn extend_paths(prefix: u8, entries: &[Digest], paths: &mut [Vec<Digest>]) -> Digest {
    match entries {
        [] => sha256(b""),
        [one] => *one,
        _ => {
            let middle = split(entries.len() as u64) as usize;
            let (left, right) = entries.split_at(middle);
            let (paths_left, paths_right) = paths.split_at_mut(middle);
            let root_left = extend_paths(prefix, left, paths_left);
            let root_right = extend_paths(prefix, right, paths_right);
            paths_left.iter_mut().for_each(|path| path.push(root_right));
            // R asks for a left sibling before anything that lies right of it.
            paths_right
                .iter_mut()
                .for_each(|path| path.insert(0, root_left));
            node(prefix, &root_left, &root_right)
        }
    }
}

/// The root that `known` (index, entry) and `siblings` lead to in a tree of `count` entries.
///
/// The work is at most 33 hashes for each known entry, whatever `count` says. Refused: indices that do not ascend or
/// are not below the count, a sibling that lacks, a sibling that is left over.
pub fn recompute(
    prefix: u8,
    count: u32,
    known: &[(u32, Digest)],
    siblings: &[&Digest],
) -> Result<Digest, Error> {
    let ascending = known
        .iter()
        .zip(known.iter().skip(1))
        .all(|(a, b)| a.0 < b.0);
    if !ascending || known.last().is_some_and(|(index, _)| *index >= count) {
        return Err(Error::proof(
            "proof.invalid",
            format!("indices do not ascend below the count {count}"),
        ));
    }
    let mut rest = siblings.iter();
    let top = if count == 0 {
        sha256(b"")
    } else {
        range(prefix, 0, u64::from(count), known, &mut rest)?
    };
    match rest.len() {
        0 => Ok(top),
        left => Err(Error::proof(
            "proof.invalid",
            format!("{left} siblings are left over in the proof"),
        )),
    }
}

fn range(
    prefix: u8,
    from: u64,
    until: u64,
    known: &[(u32, Digest)],
    siblings: &mut Iter<'_, &Digest>,
) -> Result<Digest, Error> {
    match known {
        [] => siblings
            .next()
            .map(|sibling| **sibling)
            .ok_or_else(|| Error::proof("proof.invalid", "a sibling lacks in the proof")),
        [(_, entry)] if until - from == 1 => Ok(*entry),
        _ => {
            let middle = from + split(until - from);
            let (left, right) =
                known.split_at(known.partition_point(|(index, _)| u64::from(*index) < middle));
            let root_left = range(prefix, from, middle, left, siblings)?;
            let root_right = range(prefix, middle, until, right, siblings)?;
            Ok(node(prefix, &root_left, &root_right))
        }
    }
}
