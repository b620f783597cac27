//! The small file that makes pages a snapshot: which record they show, and their digest.

use p2pet_log::{Base, ChainValue};
use sha2::{Digest, Sha256};

const TITLE: &str = "p2pet snapshot 1";

pub(crate) type Sha = [u8; 32];

/// What the description of a snapshot says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// The record after which the pages are the view.
    pub base: Base,
    /// Bytes of the pages.
    pub bytes: u64,
    /// SHA-256 of the pages.
    pub digest: Sha,
}

impl Description {
    pub(crate) fn format(&self) -> String {
        let text = format!(
            "{TITLE}\n{}\n{}\n{}\n{}\n",
            self.base.sequence,
            hex(&self.base.chain_value),
            self.bytes,
            hex(&self.digest)
        );
        let check = hex(&Sha256::digest(text.as_bytes()).into());
        format!("{text}{check}\n")
    }

    /// Strictly what `format` writes: one flipped bit and it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines().skip(1);
        let sequence = lines.next()?.parse().ok()?;
        let chain_value = unhex(lines.next()?)?;
        let bytes = lines.next()?.parse().ok()?;
        let digest = unhex(lines.next()?)?;
        let base = Base {
            sequence,
            chain_value,
        };
        let description = Self {
            base,
            bytes,
            digest,
        };
        (description.format() == text).then_some(description)
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<ChainValue> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(place * 2..place * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Description {
        Description {
            base: Base {
                sequence: 7,
                chain_value: [3; 32],
            },
            bytes: 4096,
            digest: [0xfe; 32],
        }
    }

    #[test]
    fn a_description_survives_a_round_trip() {
        let text = description().format();
        assert_eq!(Description::parse(&text), Some(description()));
    }

    #[test]
    fn r06_every_flipped_bit_of_a_description_is_noticed() {
        let text = description().format().into_bytes();
        for bit in 0..text.len() * 8 {
            let mut damaged = text.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let parsed = String::from_utf8(damaged).ok();
            assert_eq!(
                parsed.as_deref().and_then(Description::parse),
                None,
                "bit {bit}"
            );
        }
    }
}
