//! The worker's certificates in the log: a decision stays provable after its worker's certificate was renewed.

use p2pet_core::certificate::WorkerCertificate;
use p2pet_view::{LoggedView, Range, Snapshot};

use crate::error::NotaryError;
use crate::index::{CERTIFICATES, Index};
use crate::record::encode_certificate;
use crate::service::Service;

/// A certificate, in force for the records after its own.
struct Logged {
    sequence: u64,
    bytes: Vec<u8>,
}

/// The certificates of all records, in the log's order.
pub(crate) struct Certificates(Vec<Logged>);

impl Certificates {
    /// Those in the log; the service's is appended, durably, when it is another than the last one.
    ///
    /// Raises `Store`, and `WrongCertificate` for the log of another service.
    pub(crate) fn open(logged: &LoggedView<Index>, service: &Service) -> Result<Self, NotaryError> {
        let mut certificates = Self::read(&logged.snapshot()?)?;
        let last = certificates.0.last();
        if let Some(Logged { sequence, bytes }) = last {
            let sequence = *sequence;
            let decoded = WorkerCertificate::decode(bytes);
            let decoded = decoded.map_err(|_| NotaryError::IndexContradicted { sequence })?;
            if decoded.service_key != service.key() {
                let why = "is of another service than the one that this log belongs to";
                return Err(NotaryError::WrongCertificate(why));
            }
        }
        let bytes = service.certificate();
        if last.is_none_or(|last| last.bytes != bytes) {
            let appended = logged.commit(&encode_certificate(bytes))?;
            certificates.0.push(Logged {
                sequence: appended.sequence,
                bytes: bytes.to_vec(),
            });
        }
        Ok(certificates)
    }

    fn read(snapshot: &Snapshot<'_>) -> Result<Self, NotaryError> {
        let all = Range {
            table: CERTIFICATES,
            start: b"",
            end: None,
        };
        let entries = snapshot.scan(all, usize::MAX, false)?.into_iter();
        let logged = entries.filter_map(|(key, bytes)| {
            let sequence = u64::from_be_bytes(key.try_into().ok()?);
            Some(Logged { sequence, bytes })
        });
        Ok(Self(logged.collect()))
    }

    /// The certificate under which the record of this sequence was decided.
    pub(crate) fn in_force_at(&self, sequence: u64) -> Option<&[u8]> {
        let later = self.0.partition_point(|logged| logged.sequence < sequence);
        let last = later.checked_sub(1).and_then(|place| self.0.get(place));
        last.map(|logged| logged.bytes.as_slice())
    }
}
