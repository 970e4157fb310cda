//! Little-endian reading and writing of fixed and length-prefixed fields.
//!
//! [`ByteReader`] is the only way decoders look at untrusted bytes: every step checks its bounds.

use thiserror::Error;

/// Why bytes are not the structure they were taken for.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FormatError {
    /// The input ends before the structure does.
    #[error("{structure} ends early: {needed_bytes} more bytes are needed")]
    Short {
        /// What was being decoded.
        structure: &'static str,
        /// How many bytes are missing at the least.
        needed_bytes: usize,
    },
    /// The input goes on after the structure has ended.
    #[error("{structure} has {extra_bytes} bytes too many")]
    Long {
        /// What was being decoded.
        structure: &'static str,
        /// How many bytes follow.
        extra_bytes: usize,
    },
    /// A field holds a value that no writer writes.
    #[error("{structure}: {field} is not valid")]
    Invalid {
        /// What was being decoded.
        structure: &'static str,
        /// The field at fault.
        field: &'static str,
    },
    /// Written by a newer version of passkeyfs.
    #[error("{structure} has format version {found}; this passkeyfs reads up to {supported}")]
    Newer {
        /// What was being decoded.
        structure: &'static str,
        /// The version found.
        found: u32,
        /// The newest version this build reads.
        supported: u32,
    },
    /// It can be read only with features that this version of passkeyfs does not know.
    #[error("{structure} needs features to be read that this passkeyfs does not know ({})", bit_numbers(.bits))]
    UnknownFeatures {
        /// What was being decoded.
        structure: &'static str,
        /// The bits of the features that are not known.
        bits: u64,
    },
    /// It is of a kind that has its place in the format, and that only a newer version reads.
    #[error("{structure} is of a kind that only a newer passkeyfs reads: {kind}")]
    NewerKind {
        /// What was being decoded.
        structure: &'static str,
        /// The kind.
        kind: &'static str,
    },
}

impl FormatError {
    /// Whether a newer version of this program wrote the structure, which is therefore not damaged.
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::Newer { .. } | Self::UnknownFeatures { .. } | Self::NewerKind { .. })
    }
}

/// The numbers of the bits that are set, for a person: `bit 0, bit 5`.
pub fn bit_numbers(bits: &u64) -> String {
    let set = (0..u64::BITS).filter(|bit| bits >> bit & 1 == 1);
    set.map(|bit| format!("bit {bit}")).collect::<Vec<_>>().join(", ")
}

/// Reads fields off the front of a byte slice.
#[derive(Debug, Clone)]
pub struct ByteReader<'a> {
    structure: &'static str,
    rest: &'a [u8],
}

impl<'a> ByteReader<'a> {
    /// Starts reading `bytes` as the structure named `structure` (the name appears in errors).
    pub fn new(structure: &'static str, bytes: &'a [u8]) -> Self {
        Self { structure, rest: bytes }
    }

    /// The error for a field whose value no writer writes.
    pub fn invalid(&self, field: &'static str) -> FormatError {
        FormatError::Invalid { structure: self.structure, field }
    }

    /// Takes the next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        if self.rest.len() < count {
            return Err(FormatError::Short { structure: self.structure, needed_bytes: count - self.rest.len() });
        }
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(taken)
    }

    /// Takes a fixed-size array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// Takes one byte.
    pub fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(self.array::<1>()?[0])
    }

    /// Takes a little-endian `u16`.
    pub fn u16(&mut self) -> Result<u16, FormatError> {
        self.array().map(u16::from_le_bytes)
    }

    /// Takes a little-endian 24-bit number.
    pub fn u24(&mut self) -> Result<u32, FormatError> {
        let [a, b, c] = self.array()?;
        Ok(u32::from_le_bytes([a, b, c, 0]))
    }

    /// Takes a little-endian `u32`.
    pub fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Takes a little-endian `u64`.
    pub fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_le_bytes)
    }

    /// Takes a little-endian `i64`.
    pub fn i64(&mut self) -> Result<i64, FormatError> {
        self.array().map(i64::from_le_bytes)
    }

    /// Takes a byte string that a `u16` length precedes.
    pub fn bytes16(&mut self) -> Result<&'a [u8], FormatError> {
        let length = usize::from(self.u16()?);
        self.take(length)
    }

    /// Takes a byte string that a `u32` length precedes.
    pub fn bytes32(&mut self) -> Result<&'a [u8], FormatError> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// Takes `count` bytes that must all be zero (room kept for later versions).
    pub fn zeros(&mut self, count: usize) -> Result<(), FormatError> {
        if self.take(count)?.iter().any(|byte| *byte != 0) {
            return Err(self.invalid("a reserved byte"));
        }
        Ok(())
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Takes all that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Ends the structure: nothing may follow.
    pub fn finish(self) -> Result<(), FormatError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(FormatError::Long { structure: self.structure, extra_bytes: self.rest.len() })
    }
}

/// Appends fields to a byte vector, in the layout [`ByteReader`] reads.
#[derive(Debug, Default, Clone)]
pub struct ByteWriter {
    bytes: Vec<u8>,
}

impl ByteWriter {
    /// Starts an empty structure.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// Appends raw bytes.
    pub fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    /// Appends one byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.put(&[value])
    }

    /// Appends a little-endian `u16`.
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    /// Appends the low 24 bits, little-endian.
    ///
    /// # Panics
    /// When the value needs more than 24 bits: a writer's mistake, never an input's.
    pub fn u24(&mut self, value: u32) -> &mut Self {
        assert!(value < 1 << 24, "{value} does not fit 24 bits");
        self.put(&value.to_le_bytes()[..3])
    }

    /// Appends a little-endian `u32`.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    /// Appends a little-endian `u64`.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    /// Appends a little-endian `i64`.
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    /// Appends a byte string behind its `u16` length.
    ///
    /// # Panics
    /// When the string is longer than 65,535 bytes: a writer's mistake.
    pub fn bytes16(&mut self, bytes: &[u8]) -> &mut Self {
        let length = u16::try_from(bytes.len()).expect("a string of at most 65,535 bytes");
        self.u16(length).put(bytes)
    }

    /// Appends a byte string behind its `u32` length.
    ///
    /// # Panics
    /// When the string is 4 GiB or longer: a writer's mistake.
    pub fn bytes32(&mut self, bytes: &[u8]) -> &mut Self {
        let length = u32::try_from(bytes.len()).expect("a string of less than 4 GiB");
        self.u32(length).put(bytes)
    }

    /// Appends `count` zero bytes.
    pub fn zeros(&mut self, count: usize) -> &mut Self {
        self.bytes.resize(self.bytes.len() + count, 0);
        self
    }

    /// How many bytes were appended.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was appended yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Ends the structure.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}
