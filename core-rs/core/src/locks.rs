//! Output locks: one-time keys that only an output's owner can sign with (section 2).
//!
//! The lock of owner A is A + b·B, where b is a hash of the transaction's salt, the output's index and A. Without the salt
//! b is a uniform scalar to everybody, so that a lock says nothing of A; with it, anybody can compute the lock, but
//! signing takes A's secret too.

use crate::error::Error;
use crate::hash::Digest;
use crate::keys::{SigningKey, check_key};
use crate::signature::{Purpose, signed_message};
use crate::transaction::SALT_BYTES;
use crate::wire::{KEY_BYTES, SIGNATURE_BYTES};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use sha2::{Digest as _, Sha512};

const LOCK: &[u8] = b"p2pet/lock\0";
const UNLOCK: &[u8] = b"p2pet/unlock\0";

/// The lock of output `index` of the transaction with that salt. Refuses an owner that `check_key` refuses.
pub fn lock_of(
    owner: &[u8],
    salt: &[u8; SALT_BYTES],
    index: u32,
) -> Result<[u8; KEY_BYTES], Error> {
    let owner = check_key(owner)?;
    let point = CompressedEdwardsY(*owner)
        .decompress()
        .ok_or_else(|| Error::Key("the owner's key is not a point of the curve".to_owned()))?;
    let blinding = blinding(owner, salt, index);
    Ok((point + EdwardsPoint::mul_base(&blinding))
        .compress()
        .to_bytes())
}

impl SigningKey {
    /// The signature with which this key, which owns output `index` of the transaction with that salt, lets the
    /// transaction `consumer` consume it: purpose 9, by the key of the lock.
    #[must_use]
    pub fn unlock(
        &self,
        network_id: &[u8; 32],
        salt: &[u8; SALT_BYTES],
        index: u32,
        consumer: &Digest,
    ) -> [u8; SIGNATURE_BYTES] {
        let blinding = blinding(&self.public(), salt, index);
        let own = self.expanded();
        // Two keys whose difference is known must never share a nonce: with the owner's own prefix, its signature and
        // this one over one message would give away both keys.
        let prefix = Sha512::new()
            .chain_update(UNLOCK)
            .chain_update(own.hash_prefix)
            .chain_update(blinding.as_bytes())
            .finalize();
        let mut hash_prefix = [0; 32];
        hash_prefix
            .iter_mut()
            .zip(prefix)
            .for_each(|(slot, byte)| *slot = byte);
        let secret = ExpandedSecretKey {
            scalar: own.scalar + blinding,
            hash_prefix,
        };
        let message = signed_message(network_id, Purpose::Unlock, consumer);
        raw_sign::<Sha512>(&secret, &message, &VerifyingKey::from(&secret)).to_bytes()
    }
}

fn blinding(owner: &[u8; KEY_BYTES], salt: &[u8; SALT_BYTES], index: u32) -> Scalar {
    let hash = Sha512::new()
        .chain_update(LOCK)
        .chain_update(salt)
        .chain_update(index.to_be_bytes())
        .chain_update(owner)
        .finalize();
    Scalar::from_bytes_mod_order_wide(&hash.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::verify;
    use proptest::prelude::*;

    const NETWORK: [u8; 32] = [9; 32];

    fn unlocks(lock: &[u8; 32], consumer: &Digest, signature: &[u8; 64]) -> bool {
        let message = signed_message(&NETWORK, Purpose::Unlock, consumer);
        verify(lock, &message, signature)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn r19_only_the_owner_unlocks_and_only_this_output_for_this_transaction(
            seeds in any::<[[u8; 32]; 2]>(), salts in any::<[[u8; 32]; 2]>(), index in 0u32..u32::MAX, ids in any::<[[u8; 32]; 2]>()
        ) {
            prop_assume!(seeds[0] != seeds[1] && salts[0] != salts[1] && ids[0] != ids[1]);
            let [owner, other] = seeds.map(|seed| SigningKey::from_seed(&seed));
            let lock = lock_of(&owner.public(), &salts[0], index).unwrap();
            check_key(&lock).unwrap();
            let signature = owner.unlock(&NETWORK, &salts[0], index, &ids[0]);
            prop_assert!(unlocks(&lock, &ids[0], &signature));
            prop_assert_eq!(signature, owner.unlock(&NETWORK, &salts[0], index, &ids[0]));
            prop_assert!(!unlocks(&lock, &ids[1], &signature));
            for foreign in [
                other.unlock(&NETWORK, &salts[0], index, &ids[0]),
                owner.unlock(&NETWORK, &salts[1], index, &ids[0]),
                owner.unlock(&NETWORK, &salts[0], index + 1, &ids[0]),
                owner.unlock(&[8; 32], &salts[0], index, &ids[0]),
                owner.sign(&NETWORK, Purpose::Unlock, &ids[0]),
            ] {
                prop_assert!(!unlocks(&lock, &ids[0], &foreign));
            }
        }

        #[test]
        fn a_lock_is_the_owners_key_moved_by_what_the_salt_hides(
            seed: [u8; 32], salt: [u8; 32], index: u32
        ) {
            let owner = SigningKey::from_seed(&seed).public();
            let lock = lock_of(&owner, &salt, index).unwrap();
            // Whatever key somebody thinks of, some blinding leads from it to this lock: only the salt tells which.
            let point = |key| CompressedEdwardsY(key).decompress().unwrap();
            let moved = point(lock) - point(owner);
            prop_assert_eq!(moved, EdwardsPoint::mul_base(&blinding(&owner, &salt, index)));
            prop_assert_ne!(lock, owner);
        }
    }

    #[test]
    fn locks_of_one_owner_differ_by_salt_and_index() {
        let owner = SigningKey::from_seed(&[1; 32]).public();
        let locks: std::collections::HashSet<_> = (0..20u8)
            .flat_map(|salt| (0..20).map(move |index| lock_of(&owner, &[salt; 32], index).unwrap()))
            .collect();
        assert_eq!(locks.len(), 400);
    }

    #[test]
    fn nonces_of_the_owner_and_its_locks_never_repeat() {
        let owner = SigningKey::from_seed(&[1; 32]);
        let mut nonces = std::collections::HashSet::new();
        for index in 0..50 {
            let signature = owner.unlock(&NETWORK, &[2; 32], index, &[3; 32]);
            assert!(nonces.insert(signature[..32].to_vec()));
        }
        let own = owner.sign(&NETWORK, Purpose::Unlock, &[3; 32]);
        assert!(nonces.insert(own[..32].to_vec()));
    }

    #[test]
    fn an_owner_that_is_no_key_has_no_lock() {
        let small_order = [0; 32];
        for owner in [&small_order[..], &[1; 31], &[0xff; 32]] {
            assert_eq!(
                lock_of(owner, &[2; 32], 0).unwrap_err().code(),
                "signature.key_invalid"
            );
        }
    }
}
