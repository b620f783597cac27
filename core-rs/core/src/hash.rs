//! SHA-256 and HMAC-SHA-256, as the protocol uses them.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};

/// A SHA-256 value.
pub type Digest = [u8; 32];

/// SHA-256 of `data`.
#[must_use]
pub fn sha256(data: &[u8]) -> Digest {
    Sha256::digest(data).into()
}

/// SHA-256 of the concatenation of `parts`.
#[must_use]
pub fn sha256_parts(parts: &[&[u8]]) -> Digest {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// The component nonces of one transaction; the salt is absorbed once.
pub struct Nonces(Hmac<Sha256>);

impl Nonces {
    /// Nonces under `salt` (section 2).
    #[must_use]
    pub fn new(salt: &[u8; 32]) -> Self {
        Self(Hmac::new(&hmac_key(salt)))
    }

    /// HMAC-SHA-256(salt, u16 group ‖ u32 index).
    #[must_use]
    pub fn nonce(&self, group: u16, index: u32) -> Digest {
        let mut mac = self.0.clone();
        mac.update(&group.to_be_bytes());
        mac.update(&index.to_be_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// A key shorter than the block is padded with zeros (RFC 2104).
fn hmac_key(salt: &[u8; 32]) -> hmac::digest::Key<Hmac<Sha256>> {
    let mut key = hmac::digest::Key::<Hmac<Sha256>>::default();
    for (slot, byte) in key.iter_mut().zip(salt) {
        *slot = *byte;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonce_equals_plain_hmac() {
        let salt = [7u8; 32];
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&salt).unwrap();
        mac.update(&[0, 3, 0, 0, 1, 2]);
        let expected: Digest = mac.finalize().into_bytes().into();
        assert_eq!(Nonces::new(&salt).nonce(3, 258), expected);
    }

    #[test]
    fn parts_equal_their_concatenation() {
        assert_eq!(sha256_parts(&[b"ab", b"", b"c"]), sha256(b"abc"));
    }
}
