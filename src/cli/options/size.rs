//! Sizes as people write them (`128M`, `1 GiB` without the blank, `4096`), and as they read them.
//!
//! `K`, `M`, `G`, `T`, alone or followed by `iB`, are powers of 1024, as with `dd`, `truncate` and mount options;
//! `KB`, `MB`, `GB`, `TB` are powers of 1000. Lower case is as good as upper case. No fractions.

use thiserror::Error;

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SizeError {
    /// There is no number in front.
    #[error("'{text}' is not a size (for example 4096, 64K, 128M, 1G)")]
    NotASize {
        /// What was given.
        text: String,
    },
    /// It does not fit.
    #[error("'{text}' is too large")]
    TooLarge {
        /// What was given.
        text: String,
    },
}

/// Bytes that `text` stands for.
pub fn parse_size(text: &str) -> Result<u64, SizeError> {
    let not_a_size = || SizeError::NotASize { text: text.to_owned() };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(not_a_size());
    }
    let (base, power) = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => (1024, 0),
        "k" | "kib" => (1024, 1),
        "m" | "mib" => (1024, 2),
        "g" | "gib" => (1024, 3),
        "t" | "tib" => (1024, 4),
        "kb" => (1000, 1),
        "mb" => (1000, 2),
        "gb" => (1000, 3),
        "tb" => (1000, 4),
        _ => return Err(not_a_size()),
    };
    let too_large = || SizeError::TooLarge { text: text.to_owned() };
    let number: u64 = number.parse().map_err(|_| too_large())?;
    number.checked_mul(u64::pow(base, power)).ok_or_else(too_large)
}

/// The same, where memory is meant: fits a `usize`.
pub fn parse_memory_size(text: &str) -> Result<usize, SizeError> {
    usize::try_from(parse_size(text)?).map_err(|_| SizeError::TooLarge { text: text.to_owned() })
}

/// `bytes` for people: three digits and a unit (`1.50 GiB`), exact below 1 KiB.
pub fn format_size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$} {}", UNITS[unit])
}

/// Reads the size of a vault's blocks.
///
/// # Errors
/// In words for the person, where it is none.
pub fn parse_block_size(text: &str) -> Result<u32, String> {
    let bytes = parse_size(text).map_err(|error| error.to_string())?;
    match u32::try_from(bytes) {
        Ok(bytes) if bytes.is_power_of_two() && (4096..=1 << 20).contains(&bytes) => Ok(bytes),
        _ => Err("a block size is a power of two from 4K to 1M".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("64K", 65_536),
            ("64k", 65_536),
            ("128M", 134_217_728),
            ("128MiB", 134_217_728),
            ("1G", 1_073_741_824),
            ("1GB", 1_000_000_000),
            ("2T", 2_199_023_255_552),
            ("512b", 512),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused() {
        for text in ["", "M", "-1", "1.5G", "1 G", "1X", "1KiBs", "é"] {
            assert_eq!(parse_size(text), Err(SizeError::NotASize { text: text.to_owned() }), "{text}");
        }
        for text in ["99999999999999999999", "18446744073709551615K"] {
            assert_eq!(parse_size(text), Err(SizeError::TooLarge { text: text.to_owned() }), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_with_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (65_536, "64.0 KiB"),
            (134_217_728, "128 MiB"),
            (1_610_612_736, "1.50 GiB"),
            (1_048_575, "1.00 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(format_size(bytes), text);
        }
    }

    #[test]
    fn block_sizes_are_powers_of_two_in_bounds() {
        assert_eq!(parse_block_size("64K"), Ok(65_536));
        assert_eq!(parse_block_size("1M"), Ok(1 << 20));
        for text in ["0", "2048", "5000", "2M", "8G", "x"] {
            assert!(parse_block_size(text).is_err(), "{text}");
        }
    }
}
