//! The payload of a notary's record (docs/protocol.md, section 11); pure.

use p2pet_core::Digest;
use p2pet_core::certificate::WorkerCertificate;
use p2pet_core::component::STATE_REF_BYTES;
use p2pet_core::wire::{KEY_BYTES, SIGNATURE_BYTES};

const NOTARY_RECORD: u8 = 16;
const CERTIFICATE_RECORD: u8 = 17;
/// Bytes of a record without requests.
const RECORD_BYTES_MIN: usize = 17;
/// Bytes of an accepted request without inputs, references and claims.
const ACCEPTED_BYTES_MIN: usize = 134;
const REFUSED_BYTES: usize = 129;

/// A state reference.
pub type Ref = [u8; STATE_REF_BYTES];
/// A use-once key.
pub type Claim = [u8; 32];

/// Why a request was refused, as the record says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Verdict {
    /// A platform check, proof, signature or contract.
    InvalidTransaction = 1,
    /// The caller's signature.
    InvalidRequestSignature = 2,
    /// Something was consumed before.
    Conflict = 3,
    /// The window.
    TimeWindow = 4,
}

/// One accepted request; borrows the record's bytes, or the request's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted<'a> {
    /// Id of the transaction.
    pub id: &'a Digest,
    /// Identity of the peer that asked.
    pub caller: &'a [u8; KEY_BYTES],
    /// What it consumes.
    pub inputs: &'a [Ref],
    /// What it reads.
    pub references: &'a [Ref],
    /// What it claims.
    pub claims: &'a [Claim],
    /// The caller's signature on the request.
    pub signature: &'a [u8; SIGNATURE_BYTES],
}

/// One refused request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Id of the transaction.
    pub id: Digest,
    /// Identity of the peer that asked.
    pub caller: [u8; KEY_BYTES],
    /// Why.
    pub verdict: Verdict,
    /// The signature on the request, valid or not.
    pub signature: [u8; SIGNATURE_BYTES],
}

/// What a payload says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A decided batch.
    Batch(Record<'a>),
    /// The serialised `ledger.v1.WorkerCertificate` under which the records after this one are decided.
    Certificate(&'a [u8]),
}

impl<'a> Entry<'a> {
    /// Strictly: nothing unknown, nothing missing, nothing after it.
    pub fn decode(payload: &'a [u8]) -> Result<Self, &'static str> {
        match payload.split_first() {
            Some((&CERTIFICATE_RECORD, certificate)) => WorkerCertificate::decode(certificate)
                .map(|_| Self::Certificate(certificate))
                .map_err(|_| "not a worker's certificate"),
            _ => Record::decode(payload).map(Self::Batch),
        }
    }
}

/// The payload of a worker's certificate.
pub fn encode_certificate(certificate: &[u8]) -> Vec<u8> {
    [&[CERTIFICATE_RECORD], certificate].concat()
}

/// A decided batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The one clock reading of the batch.
    pub decided_at_ns: i64,
    /// In the order decided: the leaves of the signed root.
    pub accepted: Vec<Accepted<'a>>,
    /// For disputes.
    pub refused: Vec<Refused>,
}

impl<'a> Record<'a> {
    /// Bytes of the payload.
    pub fn bytes(&self) -> usize {
        let lists = self.accepted.iter().map(|request| {
            let lists = [
                request.inputs.as_flattened(),
                request.references.as_flattened(),
                request.claims.as_flattened(),
            ];
            lists.map(<[u8]>::len).iter().sum::<usize>()
        });
        let accepted = self.accepted.len() * ACCEPTED_BYTES_MIN + lists.sum::<usize>();
        RECORD_BYTES_MIN + accepted + self.refused.len() * REFUSED_BYTES
    }

    /// The payload. None when a list is longer than its count can say.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(self.bytes());
        out.push(NOTARY_RECORD);
        out.extend_from_slice(&self.decided_at_ns.to_be_bytes());
        out.extend_from_slice(&u32::try_from(self.accepted.len()).ok()?.to_be_bytes());
        out.extend_from_slice(&u32::try_from(self.refused.len()).ok()?.to_be_bytes());
        for request in &self.accepted {
            out.extend_from_slice(request.id);
            out.extend_from_slice(request.caller);
            for count in [
                request.inputs.len(),
                request.references.len(),
                request.claims.len(),
            ] {
                out.extend_from_slice(&u16::try_from(count).ok()?.to_be_bytes());
            }
            out.extend_from_slice(request.inputs.as_flattened());
            out.extend_from_slice(request.references.as_flattened());
            out.extend_from_slice(request.claims.as_flattened());
            out.extend_from_slice(request.signature);
        }
        for request in &self.refused {
            out.extend_from_slice(&request.id);
            out.extend_from_slice(&request.caller);
            out.push(request.verdict as u8);
            out.extend_from_slice(&request.signature);
        }
        Some(out)
    }

    /// Strictly: nothing unknown, nothing missing, nothing after it.
    pub fn decode(payload: &'a [u8]) -> Result<Self, &'static str> {
        let mut rest = payload;
        if take::<1>(&mut rest)? != &[NOTARY_RECORD] {
            return Err("not a notary's record");
        }
        let decided_at_ns = i64::from_be_bytes(*take(&mut rest)?);
        let accepted = u32::from_be_bytes(*take(&mut rest)?) as usize;
        let refused = u32::from_be_bytes(*take(&mut rest)?) as usize;
        if accepted > rest.len() / ACCEPTED_BYTES_MIN || refused > rest.len() / REFUSED_BYTES {
            return Err("more requests than bytes");
        }
        let accepted = (0..accepted)
            .map(|_| decode_accepted(&mut rest))
            .collect::<Result<_, _>>()?;
        let refused = (0..refused)
            .map(|_| decode_refused(&mut rest))
            .collect::<Result<_, _>>()?;
        if !rest.is_empty() {
            return Err("bytes after the last request");
        }
        Ok(Self {
            decided_at_ns,
            accepted,
            refused,
        })
    }
}

fn decode_accepted<'a>(rest: &mut &'a [u8]) -> Result<Accepted<'a>, &'static str> {
    let (id, caller) = (take(rest)?, take(rest)?);
    let [inputs, references, claims] =
        [take(rest)?, take(rest)?, take(rest)?].map(|n| usize::from(u16::from_be_bytes(*n)));
    Ok(Accepted {
        id,
        caller,
        inputs: take_list(rest, inputs)?,
        references: take_list(rest, references)?,
        claims: take_list(rest, claims)?,
        signature: take(rest)?,
    })
}

fn decode_refused(rest: &mut &[u8]) -> Result<Refused, &'static str> {
    let (id, caller) = (take(rest)?, take(rest)?);
    let verdict = match take(rest)? {
        [1] => Verdict::InvalidTransaction,
        [2] => Verdict::InvalidRequestSignature,
        [3] => Verdict::Conflict,
        [4] => Verdict::TimeWindow,
        _ => return Err("an unknown verdict"),
    };
    Ok(Refused {
        id: *id,
        caller: *caller,
        verdict,
        signature: *take(rest)?,
    })
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], &'static str> {
    let (head, tail) = rest
        .split_first_chunk()
        .ok_or("fewer bytes than announced")?;
    *rest = tail;
    Ok(head)
}

fn take_list<'a, const N: usize>(
    rest: &mut &'a [u8],
    count: usize,
) -> Result<&'a [[u8; N]], &'static str> {
    let (head, tail) = rest
        .split_at_checked(count * N)
        .ok_or("fewer bytes than announced")?;
    *rest = tail;
    Ok(head.as_chunks().0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_decode_to_what_encodes_to_them(mut payload: Vec<u8>, kind: bool) {
            if kind && !payload.is_empty() {
                payload[0] = NOTARY_RECORD;
            }
            if let Ok(record) = Record::decode(&payload) {
                prop_assert_eq!(record.encode().unwrap(), payload);
            }
        }

        #[test]
        fn records_survive_a_round_trip_and_no_prefix_decodes(
            decided_at_ns: i64, inputs in prop::collection::vec(any::<[u8; 32]>(), 0..4), seed: u8
        ) {
            let refs: Vec<Ref> = inputs.iter().map(|id| { let mut r = [seed; 36]; r[..32].copy_from_slice(id); r }).collect();
            let signature = [seed; 64];
            let request = |id| Accepted { id, caller: &[2; 32], inputs: &refs, references: &refs[..refs.len() / 2], claims: &inputs, signature: &signature };
            let refused = Refused { id: [7; 32], caller: [8; 32], verdict: Verdict::Conflict, signature: [seed; 64] };
            let record = Record { decided_at_ns, accepted: vec![request(&[1; 32]), request(&[3; 32])], refused: vec![refused; 2] };
            let payload = record.encode().unwrap();
            prop_assert_eq!(payload.len(), record.bytes());
            prop_assert_eq!(Record::decode(&payload).unwrap(), record);
            for length in 0..payload.len() {
                prop_assert!(Record::decode(&payload[..length]).is_err());
            }
        }
    }
}
