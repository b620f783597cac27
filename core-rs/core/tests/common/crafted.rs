//! Signatures that verifiers of Ed25519 disagree about, with the answer of ZIP-215 and our check of keys.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT as B, EIGHT_TORSION};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use p2pet_core::keys::SigningKey;
use p2pet_core::signature::{Purpose, signed_message};
use sha2::{Digest as _, Sha512};

pub const NETWORK: [u8; 32] = [1; 32];
pub const DIGEST: [u8; 32] = [2; 32];

/// A signature that may be crafted, and whether it is valid.
#[derive(Clone, Debug)]
pub struct Case {
    pub key: [u8; 32],
    pub message: Vec<u8>,
    pub signature: [u8; 64],
    pub valid: bool,
}

pub fn good(seed: u8) -> Case {
    let signer = SigningKey::from_seed(&[seed; 32]);
    let message = signed_message(&NETWORK, Purpose::Transaction, &DIGEST);
    let signature = signer.sign(&NETWORK, Purpose::Transaction, &DIGEST);
    Case {
        key: signer.public(),
        message,
        signature,
        valid: true,
    }
}

fn order() -> [u8; 32] {
    let mut order = (-Scalar::ONE).to_bytes();
    order[0] += 1;
    order
}

/// The encoding of the point with y = `y` − p where `y` < 19 stands for y + p: the same point, not canonical.
pub fn non_canonical(y: u8) -> [u8; 32] {
    let mut bytes = [0xff; 32];
    bytes[0] = 0xed + y;
    bytes[31] = 0x7f;
    bytes
}

/// A signature with the nonce point `encoded_r` and key `encoded_a`: S = r + k·a, whatever torsion the points have.
fn crafted(a: Scalar, encoded_a: [u8; 32], r: Scalar, encoded_r: [u8; 32], valid: bool) -> Case {
    let message = b"message".to_vec();
    let k = Sha512::new()
        .chain_update(encoded_r)
        .chain_update(encoded_a)
        .chain_update(&message)
        .finalize();
    let k = Scalar::from_bytes_mod_order_wide(&k.into());
    let mut signature = [0; 64];
    signature[..32].copy_from_slice(&encoded_r);
    signature[32..].copy_from_slice((r + k * a).as_bytes());
    Case {
        key: encoded_a,
        message,
        signature,
        valid,
    }
}

pub fn encode(point: EdwardsPoint) -> [u8; 32] {
    point.compress().to_bytes()
}

pub fn adversarial() -> Vec<Case> {
    let (a, r) = (Scalar::from(12_345u64), Scalar::from(67_890u64));
    let key = encode(a * B);
    let mut cases = Vec::new();
    for torsion in EIGHT_TORSION {
        let small = torsion == EIGHT_TORSION[0];
        // Small-order keys sign everything; mixed keys too, under the cofactored equation.
        cases.push(crafted(
            Scalar::ZERO,
            encode(torsion),
            r,
            encode(r * B),
            false,
        ));
        cases.push(crafted(a, encode(a * B + torsion), r, encode(r * B), small));
        // A nonce point with torsion passes the cofactored equation only.
        cases.push(crafted(a, key, r, encode(r * B + torsion), true));
        // A nonce point of small order alone.
        cases.push(crafted(a, key, Scalar::ZERO, encode(torsion), true));
    }
    // Encodings that are not canonical: of the nonce point permitted by ZIP-215, of the key refused.
    cases.push(crafted(a, key, Scalar::ZERO, non_canonical(1), true));
    cases.push(crafted(
        Scalar::ZERO,
        non_canonical(1),
        r,
        encode(r * B),
        false,
    ));
    cases.push(crafted(
        Scalar::ZERO,
        non_canonical(0),
        r,
        encode(r * B),
        false,
    ));
    // S + L verifies wherever S is not compared with L.
    let mut above = crafted(a, key, r, encode(r * B), false);
    let mut carry = 0u16;
    for (byte, addend) in above.signature[32..].iter_mut().zip(order()) {
        carry += u16::from(*byte) + u16::from(addend);
        *byte = carry as u8;
        carry >>= 8;
    }
    cases.push(above);
    let undecodable = (2..19)
        .map(non_canonical)
        .find(|bytes| CompressedEdwardsY(*bytes).decompress().is_none());
    cases.push(crafted(a, key, r, undecodable.unwrap(), false));
    cases.push(crafted(a, undecodable.unwrap(), r, encode(r * B), false));
    cases.push(Case {
        signature: [0; 64],
        valid: false,
        ..good(1)
    });
    cases.push(Case {
        signature: [0xff; 64],
        valid: false,
        ..good(1)
    });
    cases
}
