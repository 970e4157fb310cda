//! Names of things: newtypes, so that no two numbers of one type stand side by side in a signature.
//!
//! All print as lower-case hex of a fixed width, which is also how they appear in file names and in JSON.

use std::fmt;
use std::str::FromStr;

use super::bytes::FormatError;

fn parse_hex(text: &str, digits: usize, structure: &'static str) -> Result<u64, FormatError> {
    let error = FormatError::Invalid { structure, field: "hex digits" };
    let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != digits || !text.bytes().all(lower_hex) {
        return Err(error);
    }
    u64::from_str_radix(text, 16).map_err(|_| error)
}

macro_rules! number_id {
    ($(#[$meta:meta])* $name:ident, $digits:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!("{:0", $digits, "x}"), self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = FormatError;

            fn from_str(text: &str) -> Result<Self, FormatError> {
                parse_hex(text, $digits, stringify!($name)).map(Self)
            }
        }
    };
}

macro_rules! byte_id {
    ($(#[$meta:meta])* $name:ident, $bytes:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; $bytes]);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = FormatError;

            fn from_str(text: &str) -> Result<Self, FormatError> {
                if text.len() != 2 * $bytes || !text.is_ascii() {
                    return Err(FormatError::Invalid { structure: stringify!($name), field: "hex digits" });
                }
                let mut bytes = [0; $bytes];
                for (index, byte) in bytes.iter_mut().enumerate() {
                    *byte = parse_hex(&text[2 * index..2 * index + 2], 2, stringify!($name))? as u8;
                }
                Ok(Self(bytes))
            }
        }
    };
}

byte_id!(
    /// A vault: drawn once at `init`, in `vault.json` and in every segment's header.
    VaultId, 16
);
byte_id!(
    /// A vault key's lifetime: each rotation starts another epoch. The id is derived from the key (`EpochKey::id`).
    EpochId, 16
);
byte_id!(
    /// A published commit, told apart from any other that may bear its number.
    CommitId, 16
);
byte_id!(
    /// The tag of the page that a commit is, which covers all that it says. All zero: not known where it is written.
    PageTag, 16
);
byte_id!(
    /// A way to unlock the vault: the name of its files under `keys/`.
    SlotId, 8
);
number_id!(
    /// A device that writes to the vault: the name of its folder under `devices/`. Never zero.
    DeviceId, 16
);
number_id!(
    /// A segment: drawn at random when its file is created.
    SegmentId, 16
);
number_id!(
    /// The place of a segment in its device's one sequence; at most 40 bits.
    Sequence, 10
);
number_id!(
    /// The number of a commit in its device's line of commits, from 1.
    CommitNumber, 16
);
number_id!(
    /// A file, directory or other node of the filesystem; 1 is the root, 0 holds the vault's own items.
    InodeNumber, 16
);

impl InodeNumber {
    /// The items of the vault itself.
    pub const VAULT: Self = Self(0);
    /// The root directory.
    pub const ROOT: Self = Self(1);
}

impl CommitNumber {
    /// The greatest number that a commit may have: far beyond what any device gets to, and with numbers left above it.
    pub const MAX: Self = Self((1 << 62) - 1);

    /// The number that follows.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Sequence {
    /// The greatest sequence number that a file name holds.
    pub const MAX: Self = Self((1 << 40) - 1);

    /// The number that follows.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_a_round_trip_through_text() {
        assert_eq!(Sequence(0x1f).to_string(), "000000001f");
        assert_eq!("000000001f".parse(), Ok(Sequence(0x1f)));
        let vault = VaultId(*b"0123456789abcdef");
        assert_eq!(vault.to_string().parse(), Ok(vault));
    }

    #[test]
    fn text_of_another_length_or_alphabet_is_refused() {
        for text in ["", "1f", "000000001F", "00000000001f", "+00000001f", "00000000é"] {
            assert!(text.parse::<Sequence>().is_err(), "{text}");
        }
        assert!("zz".repeat(16).parse::<VaultId>().is_err());
        assert!("é".repeat(16).parse::<VaultId>().is_err());
    }
}
