//! A worker's key, certified by the notary's service key (section 4, purpose 4).

use crate::error::Error;
use crate::hash::{Digest, sha256_parts};
use crate::keys::SigningKey;
use crate::signature::{Purpose, SCHEME, SignatureBatch, Ticket, signed_message};
use crate::wire::{KEY_BYTES, Reader, SIGNATURE_BYTES, Writer};

/// The certificate of a worker's key by the service key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerCertificate<'a> {
    /// The notary's service key.
    pub service_key: &'a [u8; KEY_BYTES],
    /// The key that signs batches.
    pub worker_key: &'a [u8; KEY_BYTES],
    /// The first instant of validity.
    pub not_before_ns: i64,
    /// The first instant after it.
    pub not_after_ns: i64,
    signature: &'a [u8; SIGNATURE_BYTES],
}

impl<'a> WorkerCertificate<'a> {
    /// Decodes a canonical `ledger.v1.WorkerCertificate`; its signature is not verified yet.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes, "WorkerCertificate");
        let service_key = reader.array(1)?;
        let worker_key = reader.array(2)?;
        let not_before_ns = reader.int64(3)?;
        let not_after_ns = reader.int64(4)?;
        read_scheme(&mut reader, 5)?;
        let signature = reader.array(6)?;
        reader.finish()?;
        Ok(Self {
            service_key,
            worker_key,
            not_before_ns,
            not_after_ns,
            signature,
        })
    }

    /// Queues its signature.
    pub fn queue(&self, network_id: &[u8; 32], signatures: &mut SignatureBatch<'_>) -> Ticket {
        let digest = certificate_digest(
            self.service_key,
            self.worker_key,
            self.not_before_ns,
            self.not_after_ns,
        );
        let message = signed_message(network_id, Purpose::WorkerCertificate, &digest);
        signatures.push(self.service_key, &message, self.signature)
    }
}

/// SHA-256(service key ‖ worker key ‖ i64 not before ‖ i64 not after).
#[must_use]
pub fn certificate_digest(
    service_key: &[u8; KEY_BYTES],
    worker_key: &[u8; KEY_BYTES],
    not_before_ns: i64,
    not_after_ns: i64,
) -> Digest {
    sha256_parts(&[
        service_key,
        worker_key,
        &not_before_ns.to_be_bytes(),
        &not_after_ns.to_be_bytes(),
    ])
}

/// A canonical `ledger.v1.WorkerCertificate`, signed by the service key.
#[must_use]
pub fn certify_worker(
    service: &SigningKey,
    network_id: &[u8; 32],
    worker_key: &[u8; KEY_BYTES],
    not_before_ns: i64,
    not_after_ns: i64,
) -> Vec<u8> {
    let digest = certificate_digest(&service.public(), worker_key, not_before_ns, not_after_ns);
    let signature = service.sign(network_id, Purpose::WorkerCertificate, &digest);
    let mut writer = Writer::default();
    writer
        .bytes(1, &service.public())
        .bytes(2, worker_key)
        .int64(3, not_before_ns)
        .int64(4, not_after_ns);
    writer.uint(5, u64::from(SCHEME)).bytes(6, &signature);
    writer.finish()
}

pub(crate) fn read_scheme(reader: &mut Reader<'_>, number: u32) -> Result<(), Error> {
    match reader.uint32(number)? {
        scheme if scheme == u32::from(SCHEME) => Ok(()),
        scheme => Err(reader.refuse(
            number,
            &format!("names the scheme {scheme}; only {SCHEME} (Ed25519) is known"),
        )),
    }
}
