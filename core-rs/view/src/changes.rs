//! The payload of a node's record (docs/protocol.md, section 10); pure.

use crate::{KEY_BYTES_MAX, StoreError};

const NODE_RECORD: u8 = 1;
const PUT: u8 = 1;
const DELETE: u8 = 2;
/// Bytes of the smallest change: kind, table, key length.
const CHANGE_BYTES_MIN: usize = 4;

/// Sets a key of a table, or removes it when the value is None.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// The table.
    pub table: u8,
    /// At most `KEY_BYTES_MAX` bytes.
    pub key: &'a [u8],
    /// The new value; None removes the key.
    pub value: Option<&'a [u8]>,
}

/// The payload of these changes. Raises `KeyTooLong`, and `TooLarge` for a value that no record can hold.
pub fn encode_changes(changes: &[Change<'_>]) -> Result<Vec<u8>, StoreError> {
    let size: usize = changes
        .iter()
        .map(|c| c.key.len() + c.value.map_or(0, <[u8]>::len) + 8)
        .sum();
    let too_large = |_| p2pet_log::LogError::TooLarge { bytes: size };
    let mut out = Vec::with_capacity(5 + size);
    out.push(NODE_RECORD);
    out.extend_from_slice(
        &u32::try_from(changes.len())
            .map_err(too_large)?
            .to_be_bytes(),
    );
    for change in changes {
        let bytes = change.key.len();
        if bytes > KEY_BYTES_MAX {
            return Err(StoreError::KeyTooLong { bytes });
        }
        out.push(if change.value.is_some() { PUT } else { DELETE });
        out.push(change.table);
        out.extend_from_slice(&u16::try_from(bytes).map_err(too_large)?.to_be_bytes());
        out.extend_from_slice(change.key);
        if let Some(value) = change.value {
            out.extend_from_slice(&u32::try_from(value.len()).map_err(too_large)?.to_be_bytes());
            out.extend_from_slice(value);
        }
    }
    Ok(out)
}

/// The changes in a payload, strictly: nothing unknown, nothing missing, nothing after them.
pub fn decode_changes(payload: &[u8]) -> Result<Vec<Change<'_>>, &'static str> {
    let mut rest = payload;
    if take(&mut rest, 1)? != [NODE_RECORD] {
        return Err("not a list of changes");
    }
    let count = u32::from_be_bytes(take_array(&mut rest)?) as usize;
    if count > rest.len() / CHANGE_BYTES_MIN {
        return Err("more changes than bytes");
    }
    let mut changes = Vec::with_capacity(count);
    for _ in 0..count {
        let [kind, table] = take_array(&mut rest)?;
        let length = usize::from(u16::from_be_bytes(take_array(&mut rest)?));
        if length > KEY_BYTES_MAX {
            return Err("a key over the limit");
        }
        let key = take(&mut rest, length)?;
        let value = match kind {
            PUT => {
                let length = u32::from_be_bytes(take_array(&mut rest)?) as usize;
                Some(take(&mut rest, length)?)
            }
            DELETE => None,
            _ => return Err("an unknown kind of change"),
        };
        changes.push(Change { table, key, value });
    }
    if rest.is_empty() {
        Ok(changes)
    } else {
        Err("bytes after the last change")
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], &'static str> {
    let (head, tail) = rest
        .split_at_checked(length)
        .ok_or("fewer bytes than announced")?;
    *rest = tail;
    Ok(head)
}

fn take_array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let (head, tail) = rest
        .split_first_chunk()
        .ok_or("fewer bytes than announced")?;
    *rest = tail;
    Ok(*head)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_longest_key_passes_and_one_more_byte_does_not() {
        let key = [1; KEY_BYTES_MAX + 1];
        let change = |key| Change {
            table: 0,
            key,
            value: None,
        };
        let payload = encode_changes(&[change(&key[1..])]).unwrap();
        assert_eq!(decode_changes(&payload), Ok(vec![change(&key[1..])]));
        let refused = encode_changes(&[change(&key)]);
        assert!(matches!(
            refused,
            Err(StoreError::KeyTooLong { bytes: 512 })
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_to_what_encodes_to_them(payload: Vec<u8>) {
            if let Ok(changes) = decode_changes(&payload) {
                prop_assert_eq!(encode_changes(&changes).unwrap(), payload);
            }
        }

        #[test]
        fn changes_survive_a_round_trip_and_no_prefix_decodes(
            changes in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..40), any::<Option<Vec<u8>>>()), 0..12)
        ) {
            let changes: Vec<_> = changes.iter().map(|(table, key, value)| Change { table: *table, key, value: value.as_deref() }).collect();
            let payload = encode_changes(&changes).unwrap();
            prop_assert_eq!(decode_changes(&payload).unwrap(), changes);
            for length in 0..payload.len() {
                prop_assert!(decode_changes(&payload[..length]).is_err());
            }
        }
    }
}
