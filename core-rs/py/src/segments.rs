//! The parts of a segment file, for who copies one while it grows.

use crate::bytes::exactly;
use crate::errors::{MalformedError, raise};
use p2pet_log::format::{
    RECORD_HEADER_BYTES, RecordHeader, SEGMENT_HEADER_BYTES, SegmentHeader, chain_value,
    record_bytes,
};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyBytes;

/// (salt, first sequence, chain value before it) of the first 64 bytes of a segment. Raises MalformedError.
#[pyfunction]
fn segment_header(py: Python<'_>, header: PyBackedBytes) -> PyResult<(u32, u64, Py<PyBytes>)> {
    let header = exactly::<SEGMENT_HEADER_BYTES>(&header, "the header of a segment")?;
    let header =
        SegmentHeader::decode(&header).map_err(|why| raise::<MalformedError>("log.header", why))?;
    let chain = PyBytes::new(py, &header.chain_before).unbind();
    Ok((header.salt, header.first_sequence, chain))
}

/// Bytes that the record with these 48 bytes of header takes in the file; None when no record does.
#[pyfunction]
fn record_size(header: PyBackedBytes) -> PyResult<Option<usize>> {
    let header = exactly::<RECORD_HEADER_BYTES>(&header, "the header of a record")?;
    let header = RecordHeader::decode(&header);
    Ok(record_bytes(header.length as usize).filter(|_| header.sequence > 0))
}

/// (sequence, chain value) of a whole record of a segment with this salt, padding included; None for a bad checksum or
/// when it is not chained to `chain`, unless that is None.
#[pyfunction]
fn read_record<'py>(
    py: Python<'py>,
    salt: u32,
    chain: Option<PyBackedBytes>,
    record: PyBackedBytes,
) -> PyResult<Option<(u64, Bound<'py, PyBytes>)>> {
    let chain = chain.map(|chain| exactly(&chain, "a chain value"));
    let chain = chain.transpose()?;
    let read = py.detach(|| {
        let (head, rest) = record.split_first_chunk::<RECORD_HEADER_BYTES>()?;
        let header = RecordHeader::decode(head);
        let payload = rest.get(..header.length as usize)?;
        let padding = rest.get(payload.len()..)?;
        let chained = chain.is_none_or(|chain| {
            header.chain_value == chain_value(&chain, header.sequence, payload)
        });
        let whole = header.matches(salt, payload) && padding.iter().all(|byte| *byte == 0);
        (whole && chained).then_some((header.sequence, header.chain_value))
    });
    Ok(read.map(|(sequence, chain)| (sequence, PyBytes::new(py, &chain))))
}

/// Adds what this file binds.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(segment_header, module)?)?;
    module.add_function(wrap_pyfunction!(record_size, module)?)?;
    module.add_function(wrap_pyfunction!(read_record, module)?)
}
