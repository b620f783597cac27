//! Who must sign a transaction, who did, and what lacks.

use crate::checked::Checked;
use crate::contents::Contents;
use crate::error::Refusal;
use crate::keys::{check_key, hex};
use crate::proposal::TransactionSignature;
use crate::signature::{Purpose, SCHEME, SignatureBatch, Ticket, signed_message};
use crate::wire::{KEY_BYTES, SIGNATURE_BYTES};

/// Composite keys of which a sentence says how much weight lacks.
const SPELLED_OUT_MAX: usize = 3;

/// The keys that signed, in the order of the proposal, and the tickets of their signatures.
pub(crate) type Queued<'a> = (Vec<&'a [u8; KEY_BYTES]>, Vec<Ticket>);

/// Queues the signatures; refused: one by a key that is none of the required ones and no leaf of one, a second one by
/// the same key, a key that `check_key` refuses, another scheme or length.
pub(crate) fn queue_signatures<'a>(
    network_id: &[u8; 32],
    contents: &Contents<'a>,
    given: &[TransactionSignature<'a>],
    verify: bool,
    signatures: &mut SignatureBatch<'_>,
) -> Result<Queued<'a>, Refusal> {
    let message = signed_message(network_id, Purpose::Transaction, &contents.id);
    let mut awaited: Vec<_> = contents
        .required_keys
        .iter()
        .flat_map(|key| key.leaves())
        .collect();
    awaited.sort_unstable();
    awaited.dedup();
    let mut waited_for = vec![true; awaited.len()];
    let mut signed_by: Vec<&'a [u8; KEY_BYTES]> = Vec::with_capacity(given.len());
    let mut tickets = Vec::with_capacity(given.len());
    for entry in given {
        let position = awaited.binary_search_by(|key| key.as_slice().cmp(entry.key));
        let slot = position
            .ok()
            .and_then(|position| waited_for.get_mut(position));
        match slot {
            Some(waited) if *waited => *waited = false,
            _ => {
                let text = format!(
                    "nobody asked for a (second) signature by the key {}; remove it",
                    hex(entry.key)
                );
                return Err(Refusal::new("signature.unexpected", text));
            }
        }
        let key = check_key(entry.key)?;
        let signature = well_formed(entry)?;
        signed_by.push(key);
        if verify {
            tickets.push(signatures.push(key, &message, signature));
        }
    }
    Ok((signed_by, tickets))
}

/// Refuses unless every required key is satisfied; the refusal holds the ids of those that are not, ascending.
pub(crate) fn check_nothing_lacks(checked: &Checked<'_>) -> Result<(), Refusal> {
    let mut present = checked.signed_by.clone();
    present.sort_unstable();
    let signed = |key: &[u8; KEY_BYTES]| present.binary_search(&key).is_ok();
    let required = checked.contents.required_keys.iter();
    let lacking: Vec<_> = required
        .filter_map(|key| key.lacking(&signed).map(|weights| (key, weights)))
        .collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let mut text = format!(
        "{} of the keys that must sign have not signed; collect their signatures",
        lacking.len()
    );
    let composite = lacking
        .iter()
        .filter(|(key, _)| key.bytes().len() > KEY_BYTES);
    for (key, (lack, needed)) in composite.take(SPELLED_OUT_MAX) {
        text += &format!(
            "; the composite key {} lacks weight {lack} of {needed}",
            hex(&key.id())
        );
    }
    let mut missing_keys: Vec<_> = lacking.iter().map(|(key, _)| key.id()).collect();
    missing_keys.sort_unstable();
    Err(Refusal {
        missing_keys,
        ..Refusal::new("signature.missing", text)
    })
}

fn well_formed<'a>(entry: &TransactionSignature<'a>) -> Result<&'a [u8; SIGNATURE_BYTES], Refusal> {
    if entry.scheme != u32::from(SCHEME) {
        let text = format!(
            "a signature names the scheme {}; only {SCHEME} (Ed25519) is known",
            entry.scheme
        );
        return Err(Refusal::new("signature.invalid", text));
    }
    entry.signature.try_into().map_err(|_| {
        let text = format!(
            "a signature has {} bytes instead of {SIGNATURE_BYTES}",
            entry.signature.len()
        );
        Refusal::new("signature.invalid", text)
    })
}
