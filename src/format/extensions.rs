//! Fields behind the fixed part of a record: those that not every record has, and those of later versions.
//!
//! ```text
//! field:  number u8 | length u8 | that many bytes         by ascending number, each once
//! ```
//! A record without any has none of these bytes. A program keeps the fields that it does not know as they are when it
//! writes the record anew. What must not be kept so needs a feature bit in the commit.

use std::collections::BTreeMap;

use super::bytes::{ByteReader, ByteWriter, FormatError};

/// The further fields of a record, by their numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extensions(BTreeMap<u8, Vec<u8>>);

impl Extensions {
    /// The most bytes a field has.
    pub const FIELD_BYTES_MAX: usize = u8::MAX as usize;

    /// Sets a field.
    ///
    /// # Panics
    /// When it is longer than [`Self::FIELD_BYTES_MAX`]: a writer's mistake.
    pub fn set(&mut self, number: u8, bytes: &[u8]) {
        assert!(bytes.len() <= Self::FIELD_BYTES_MAX, "a field of {} bytes", bytes.len());
        self.0.insert(number, bytes.to_vec());
    }

    /// The bytes of a field.
    pub fn get(&self, number: u8) -> Option<&[u8]> {
        self.0.get(&number).map(Vec::as_slice)
    }

    /// Takes a field out.
    pub fn take(&mut self, number: u8) -> Option<Vec<u8>> {
        self.0.remove(&number)
    }

    /// Appends all of them: the end of a record.
    pub fn encode(&self, writer: &mut ByteWriter) {
        for (number, bytes) in &self.0 {
            writer.u8(*number).u8(bytes.len() as u8).put(bytes);
        }
    }

    /// Takes all that is left of a record.
    pub fn decode(reader: &mut ByteReader<'_>) -> Result<Self, FormatError> {
        let mut fields = BTreeMap::new();
        while reader.remaining() > 0 {
            let (number, length) = (reader.u8()?, usize::from(reader.u8()?));
            if fields.last_key_value().is_some_and(|(last, _)| *last >= number) {
                return Err(reader.invalid("order of fields"));
            }
            fields.insert(number, reader.take(length)?.to_vec());
        }
        Ok(Self(fields))
    }
}
