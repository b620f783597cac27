//! The canonical reader and writer (section 1): R18.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)]

use p2pet_core::Error;
use p2pet_core::wire::{Reader, Writer};
use proptest::prelude::*;

/// A message with a field of every kind.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sample {
    small: u32,
    large: u64,
    signed: i64,
    bytes: Vec<u8>,
    text: String,
    entries: Vec<Vec<u8>>,
}

impl Sample {
    fn read(data: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(data, "Sample");
        let mut sample = Self {
            small: reader.uint32(1)?,
            large: reader.uint64(2)?,
            signed: reader.int64(3)?,
            bytes: reader.bytes(4)?.to_vec(),
            text: reader.string(5)?.to_owned(),
            entries: Vec::new(),
        };
        while let Some(entry) = reader.repeated(16)? {
            sample.entries.push(entry.to_vec());
        }
        reader.finish()?;
        Ok(sample)
    }

    fn write(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer
            .uint(1, u64::from(self.small))
            .uint(2, self.large)
            .int64(3, self.signed);
        writer.bytes(4, &self.bytes).bytes(5, self.text.as_bytes());
        for entry in &self.entries {
            writer.entry(16, entry);
        }
        writer.finish()
    }
}

fn samples() -> impl Strategy<Value = Sample> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..200);
    (
        any::<u32>(),
        any::<u64>(),
        any::<i64>(),
        bytes(),
        ".{0,20}",
        prop::collection::vec(bytes(), 0..4),
    )
        .prop_map(|(small, large, signed, bytes, text, entries)| Sample {
            small,
            large,
            signed,
            bytes,
            text,
            entries,
        })
}

proptest! {
    #[test]
    fn r18_what_is_written_is_read(sample in samples()) {
        prop_assert_eq!(Sample::read(&sample.write()).unwrap(), sample);
    }

    #[test]
    fn r18_whatever_is_read_has_one_encoding(sample in samples(), at: prop::sample::Index, byte: u8, insert: bool) {
        let mut data = sample.write();
        let at = at.index(data.len() + 1);
        if insert || at == data.len() {
            data.insert(at, byte);
        } else {
            data[at] = byte;
        }
        if let Ok(read) = Sample::read(&data) {
            prop_assert_eq!(read.write(), data);
        }
    }

    #[test]
    fn l23_any_bytes_are_read_or_refused(data in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(read) = Sample::read(&data) {
            prop_assert_eq!(read.write(), data);
        }
    }

    #[test]
    fn nested_messages_equal_entries(body in prop::collection::vec(any::<u8>(), 0..400)) {
        let (mut nested, mut plain) = (Writer::default(), Writer::default());
        nested.uint(1, 9).message(2, |message| {
            message.message(3, |inner| {
                inner.entry(4, &body);
            });
        });
        let mut inner = Writer::default();
        inner.entry(4, &body);
        let mut middle = Writer::default();
        middle.entry(3, &inner.finish());
        plain.uint(1, 9).entry(2, &middle.finish());
        prop_assert_eq!(nested.finish(), plain.finish());
    }
}

#[test]
fn r18_forms_that_are_not_canonical_are_refused() {
    let refused: [(&str, &[u8]); 20] = [
        ("an unknown field", &[0x30, 1]),
        (
            "an unknown field between known ones",
            &[0x08, 1, 0x30, 1, 0x82, 1, 0],
        ),
        ("fields out of order", &[0x10, 1, 0x08, 1]),
        ("a repeated singular field", &[0x08, 1, 0x08, 1]),
        (
            "a repeated singular field of bytes",
            &[0x22, 1, 7, 0x22, 1, 7],
        ),
        ("a default number", &[0x08, 0]),
        ("default bytes", &[0x22, 0]),
        ("a default text", &[0x2a, 0]),
        ("a number with a needless byte", &[0x08, 0x81, 0x00]),
        ("a tag with a needless byte", &[0x88, 0x00, 1]),
        ("a length with a needless byte", &[0x22, 0x81, 0x00, 7]),
        ("a u32 above 32 bits", &[0x08, 0x80, 0x80, 0x80, 0x80, 0x10]),
        (
            "a u64 above 64 bits",
            &[
                0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02,
            ],
        ),
        (
            "a number of eleven bytes",
            &[
                0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
            ],
        ),
        ("a number that ends early", &[0x10, 0x80]),
        ("bytes that end early", &[0x22, 2, 7]),
        ("a wrong wire type", &[0x09, 1, 0, 0, 0, 0, 0, 0, 0]),
        ("a text that is not UTF-8", &[0x2a, 1, 0xff]),
        ("field number 0", &[0x00, 1]),
        (
            "a field number above 2^29",
            &[0x80, 0x80, 0x80, 0x80, 0x10, 1],
        ),
    ];
    for (what, data) in refused {
        assert_eq!(
            Sample::read(data).unwrap_err().code(),
            "transaction.malformed",
            "{what}"
        );
    }
    assert_eq!(Sample::read(&[]).unwrap(), Sample::default());
    let empty_entries = Sample::read(&[0x82, 0x01, 0x00, 0x82, 0x01, 0x00]).unwrap();
    assert_eq!(
        empty_entries.entries,
        [Vec::new(), Vec::new()] as [Vec<u8>; 2]
    );
    let minus_one = [
        0x18, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
    ];
    assert_eq!(Sample::read(&minus_one).unwrap().signed, -1);
}
