//! Keys: the check on first sight, and signing.

use crate::cache::Remembered;
use crate::error::Error;
use crate::signature::{Purpose, signed_message};
use crate::wire::{KEY_BYTES, SIGNATURE_BYTES};
use curve25519_dalek::edwards::CompressedEdwardsY;
use ed25519_dalek::Signer as _;
use ed25519_dalek::hazmat::ExpandedSecretKey;
use std::fmt;
use std::sync::LazyLock;

static CHECKED: LazyLock<Remembered> = LazyLock::new(Remembered::default);

/// Refuses a key that is not the canonical encoding of a point that is torsion-free and not of small order.
///
/// Good keys are remembered, so that a key costs its scalar multiplication once.
pub fn check_key(key: &[u8]) -> Result<&[u8; KEY_BYTES], Error> {
    let key: &[u8; KEY_BYTES] = key.try_into().map_err(|_| {
        Error::Key(format!(
            "the key has {} bytes; Ed25519 keys have {KEY_BYTES}",
            key.len()
        ))
    })?;
    if CHECKED.contains(key) {
        return Ok(key);
    }
    check_point(key)?;
    CHECKED.extend([*key]);
    Ok(key)
}

fn check_point(key: &[u8; KEY_BYTES]) -> Result<(), Error> {
    let refuse = |what: &str| {
        Err(Error::Key(format!(
            "the key {} {what}; use another key",
            hex(key)
        )))
    };
    let Some(point) = CompressedEdwardsY(*key).decompress() else {
        return refuse("is not a point of the curve");
    };
    if point.compress().as_bytes() != key {
        return refuse("is not encoded canonically");
    }
    if point.is_small_order() {
        return refuse("is of small order");
    }
    if !point.is_torsion_free() {
        return refuse("has a torsion component");
    }
    Ok(())
}

/// An Ed25519 key; its seed never leaves it, and is erased when it is dropped.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key of a seed.
    #[must_use]
    pub fn from_seed(seed: &[u8; KEY_BYTES]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> [u8; KEY_BYTES] {
        self.0.verifying_key().to_bytes()
    }

    /// The signature over the message of section 4.
    #[must_use]
    pub fn sign(
        &self,
        network_id: &[u8; 32],
        purpose: Purpose,
        digest: &[u8; 32],
    ) -> [u8; SIGNATURE_BYTES] {
        self.sign_message(&signed_message(network_id, purpose, digest))
    }

    pub(crate) fn expanded(&self) -> ExpandedSecretKey {
        ExpandedSecretKey::from(self.0.as_bytes())
    }

    pub(crate) fn sign_message(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningKey({})", hex(&self.public()))
    }
}

/// Lower-case hexadecimal, for sentences.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
