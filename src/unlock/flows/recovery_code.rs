//! The recovery code: 32 random bytes as people write them down, read them aloud and type them back.
//!
//! ```text
//! 14 groups of 5 characters, 70 in all:
//!   K7M2Q-9XW3D-…                4 characters that count, then the group's own check character
//! 56 characters that count       5 bits each, most significant first: 32 bytes ‖ 3 bytes of checksum
//! ```
//! The alphabet is Crockford's: `0123456789ABCDEFGHJKMNPQRSTVWXYZ`. Reading is in any case, takes `I` and `L` for `1` and
//! `O` for `0`, and passes over spaces, dashes and ends of lines.
//!
//! **The check character** makes the weighted sum of a group's five characters, over GF(32), a constant that differs from
//! group to group: `Σ αⁱ·dᵢ + check = group`. All weights differ and none is zero, so within a group any one wrong
//! character and any two that changed places are found; as the constants differ, so are groups that changed places. A
//! typo is therefore *located*: the reader says which group to look at. Two errors in a group pass once in 32 times; then
//! the checksum of 24 bits finds them, and at last the slot, which does not open.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::crypto::{self, Randomness, Secret};

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const CODE_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 3;
/// Characters of a group that count; one more checks them.
const GROUP_DATA: usize = 4;
/// Characters of a group.
pub const GROUP_CHARACTERS: usize = GROUP_DATA + 1;
/// Groups of a code.
pub const GROUPS: usize = (CODE_BYTES + CHECKSUM_BYTES) * 8 / 5 / GROUP_DATA;
/// What a group's characters are weighed with: powers of a generator of GF(32), the check character last.
const WEIGHTS: [u8; GROUP_CHARACTERS] = [2, 4, 8, 16, 1];

/// A recovery code.
pub struct RecoveryCode {
    bytes: Secret<CODE_BYTES>,
}

/// Why a text is no recovery code. Groups are counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RecoveryCodeError {
    /// A character that no code has.
    #[error("group {group} has the character {character:?}, which is in no recovery code")]
    Character {
        /// Where.
        group: usize,
        /// Which; never a control character.
        character: char,
    },
    /// Groups whose characters do not agree with their check character.
    #[error("there is a typing error in {}", name_groups(groups))]
    Groups {
        /// Which.
        groups: Vec<usize>,
    },
    /// A group that is too short or too long.
    #[error("group {group} has {characters} characters instead of {GROUP_CHARACTERS}")]
    GroupLength {
        /// Which.
        group: usize,
        /// How many it has.
        characters: usize,
    },
    /// Characters are missing, or are too many.
    #[error(
        "the code has {characters} characters instead of {}{}",
        GROUPS * GROUP_CHARACTERS,
        first_wrong.map_or_else(String::new, |group| format!("; look at group {group} first"))
    )]
    Length {
        /// How many there are.
        characters: usize,
        /// The first group that does not check.
        first_wrong: Option<usize>,
    },
    /// Each group checks, and the whole does not: several errors, or the groups of two codes.
    #[error(
        "the code's groups do not belong together: there are several typing errors, or it is put together from two codes"
    )]
    Checksum,
}

fn name_groups(groups: &[usize]) -> String {
    let names: Vec<String> = groups.iter().map(ToString::to_string).collect();
    match names.split_last() {
        Some((last, [])) => format!("group {last}"),
        Some((last, before)) => format!("groups {} and {last}", before.join(", ")),
        None => "no group".to_owned(),
    }
}

/// Multiplies in GF(32) = GF(2)[x] / (x⁵ + x² + 1), in a time that does not depend on the factors.
fn multiply(left: u8, right: u8) -> u8 {
    let mut product = 0u8;
    for bit in (0..5).rev() {
        product <<= 1;
        product ^= (product >> 5).wrapping_neg() & 0b10_0101;
        product ^= (right >> bit & 1).wrapping_neg() & left;
    }
    product
}

/// What is wrong with a group: zero if nothing is.
fn syndrome(group: usize, characters: &[u8]) -> u8 {
    let sum = characters.iter().zip(WEIGHTS).fold(0, |sum, (value, weight)| sum ^ multiply(*value, weight));
    sum ^ (group as u8 + 1)
}

impl RecoveryCode {
    /// Draws a new code.
    pub fn generate(randomness: &dyn Randomness) -> Self {
        Self { bytes: Secret::filled(|place| randomness.fill(place)) }
    }

    /// What opens the code's slot, in the place of an authenticator's secret.
    pub fn secret(&self) -> Secret<32> {
        crypto::recovery_secret(&self.bytes)
    }

    /// The groups, each of five characters.
    pub fn groups(&self) -> Zeroizing<Vec<String>> {
        let mut bytes = Zeroizing::new([0; CODE_BYTES + CHECKSUM_BYTES]);
        bytes[..CODE_BYTES].copy_from_slice(self.bytes.expose());
        bytes[CODE_BYTES..].copy_from_slice(&crypto::recovery_checksum(&self.bytes));
        let value = |index: usize| {
            let (byte, shift) = (index * 5 / 8, index * 5 % 8);
            let pair = u16::from(bytes[byte]) << 8 | u16::from(*bytes.get(byte + 1).unwrap_or(&0));
            (pair >> (11 - shift)) as u8 & 31
        };
        let group = |number: usize| {
            let mut values = Zeroizing::new([0; GROUP_CHARACTERS]);
            values.iter_mut().take(GROUP_DATA).enumerate().for_each(|(at, one)| *one = value(number * GROUP_DATA + at));
            values[GROUP_DATA] = syndrome(number, &values[..GROUP_DATA]);
            values.iter().map(|value| char::from(ALPHABET[usize::from(*value)])).collect()
        };
        Zeroizing::new((0..GROUPS).map(group).collect())
    }

    /// The code as it is written: groups with dashes between them.
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(GROUPS * (GROUP_CHARACTERS + 1)));
        for (number, group) in self.groups().iter().enumerate() {
            if number > 0 {
                text.push('-');
            }
            text.push_str(group);
        }
        text
    }

    /// Whether `typed` is this group of a code, read as [`parse`](Self::parse) reads.
    pub fn is_group(typed: &str, group: &str) -> bool {
        let values = |text: &str| -> Zeroizing<Vec<Option<u8>>> {
            Zeroizing::new(text.chars().filter(|character| !is_separator(*character)).map(value_of).collect())
        };
        let typed = values(typed);
        typed.iter().all(Option::is_some) && *typed == *values(group)
    }

    /// Reads what somebody typed.
    pub fn parse(text: &str) -> Result<Self, RecoveryCodeError> {
        let mut values = Zeroizing::new(Vec::with_capacity(text.len()));
        for character in text.chars().filter(|character| !is_separator(*character)) {
            let group = values.len() / GROUP_CHARACTERS + 1;
            let shown = if character.is_control() { '\u{fffd}' } else { character };
            values.push(value_of(character).ok_or(RecoveryCodeError::Character { group, character: shown })?);
        }
        let wrong: Vec<usize> = values
            .chunks(GROUP_CHARACTERS)
            .enumerate()
            .filter(|(number, group)| {
                *number >= GROUPS || group.len() < GROUP_CHARACTERS || syndrome(*number, group) != 0
            })
            .map(|(number, _)| number + 1)
            .collect();
        if values.len() != GROUPS * GROUP_CHARACTERS {
            return Err(wrong_length(text, values.len(), wrong.first().copied()));
        }
        if !wrong.is_empty() {
            return Err(RecoveryCodeError::Groups { groups: wrong });
        }
        let mut whole = Zeroizing::new([0u8; CODE_BYTES + CHECKSUM_BYTES]);
        let counting = values.chunks(GROUP_CHARACTERS).flat_map(|group| &group[..GROUP_DATA]);
        for (index, value) in counting.enumerate() {
            let (byte, shift) = (index * 5 / 8, index * 5 % 8);
            let pair = u16::from(*value) << (11 - shift);
            whole[byte] |= (pair >> 8) as u8;
            if let Some(next) = whole.get_mut(byte + 1) {
                *next |= pair as u8;
            }
        }
        let (code, checksum) = whole.split_at(CODE_BYTES);
        let bytes = Secret::filled(|place| place.copy_from_slice(code));
        match crypto::recovery_checksum(&bytes) == checksum {
            true => Ok(Self { bytes }),
            false => Err(RecoveryCodeError::Checksum),
        }
    }
}

impl fmt::Debug for RecoveryCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RecoveryCode(..)")
    }
}

fn is_separator(character: char) -> bool {
    // Hyphens and dashes, as programs for text make them of ours.
    character.is_whitespace() || matches!(character, '-' | '\u{2010}'..='\u{2015}' | '\u{2212}')
}

fn value_of(character: char) -> Option<u8> {
    let plain = match character.to_ascii_uppercase() {
        'I' | 'L' => '1',
        'O' => '0',
        other => other,
    };
    ALPHABET.iter().position(|one| char::from(*one) == plain).map(|value| value as u8)
}

/// Where groups were typed as such, the one of another length; else the first that does not check.
fn wrong_length(text: &str, characters: usize, first_wrong: Option<usize>) -> RecoveryCodeError {
    let lengths: Vec<usize> =
        text.split(is_separator).map(|group| group.chars().count()).filter(|length| *length > 0).collect();
    let odd = lengths.iter().position(|length| *length != GROUP_CHARACTERS);
    match odd {
        Some(odd) if lengths.len() == GROUPS => {
            RecoveryCodeError::GroupLength { group: odd + 1, characters: lengths[odd] }
        }
        _ => RecoveryCodeError::Length { characters, first_wrong },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SeededRandomness;

    fn code(seed: u64) -> (RecoveryCode, String) {
        let code = RecoveryCode::generate(&SeededRandomness::new(seed));
        let text = code.text().to_string();
        (code, text)
    }

    #[test]
    fn the_field_is_one() {
        for left in 1..32 {
            let mut products: Vec<u8> = (0..32).map(|right| multiply(left, right)).collect();
            products.sort_unstable();
            assert_eq!(products, (0..32).collect::<Vec<u8>>(), "{left} times each is each once");
            assert_eq!(multiply(left, 1), left);
        }
        assert_eq!(multiply(16, 2), 0b0_0101, "x⁵ is x² + 1");
    }

    #[test]
    fn a_code_reads_back_in_any_case_and_with_any_separators() {
        for seed in 0..50 {
            let (code, text) = code(seed);
            let forms = [
                text.clone(),
                text.to_lowercase(),
                text.replace('-', ""),
                text.replace('-', " \n"),
                text.replace('-', " \u{2013} "),
                text.replace('0', "o").replace('1', "L"),
                text.replace('0', "O").replace('1', "i"),
            ];
            for form in forms {
                let read = RecoveryCode::parse(&form).unwrap_or_else(|error| panic!("{form}: {error}"));
                assert_eq!(read.bytes.expose(), code.bytes.expose());
            }
        }
    }

    #[test]
    fn every_single_typing_error_is_located_to_its_group() {
        for seed in 0..4 {
            let (_, text) = code(seed);
            let plain: Vec<char> = text.chars().filter(|character| *character != '-').collect();
            for at in 0..plain.len() {
                for other in ALPHABET.iter().map(|one| char::from(*one)).filter(|other| *other != plain[at]) {
                    let mut wrong = plain.clone();
                    wrong[at] = other;
                    let error = RecoveryCode::parse(&String::from_iter(wrong)).expect_err("a typing error");
                    assert_eq!(error, RecoveryCodeError::Groups { groups: vec![at / GROUP_CHARACTERS + 1] });
                }
            }
        }
    }

    #[test]
    fn every_pair_of_neighbours_that_changed_places_is_located_to_its_groups() {
        for seed in 0..50 {
            let (_, text) = code(seed);
            let plain: Vec<char> = text.chars().filter(|character| *character != '-').collect();
            for at in 1..plain.len() {
                if plain[at] == plain[at - 1] {
                    continue;
                }
                let mut wrong = plain.clone();
                wrong.swap(at, at - 1);
                let error = RecoveryCode::parse(&String::from_iter(wrong)).expect_err("a typing error");
                let mut groups = vec![(at - 1) / GROUP_CHARACTERS + 1, at / GROUP_CHARACTERS + 1];
                groups.dedup();
                assert_eq!(error, RecoveryCodeError::Groups { groups });
            }
        }
    }

    #[test]
    fn groups_that_changed_places_are_located() {
        let (_, text) = code(1);
        let mut groups: Vec<&str> = text.split('-').collect();
        groups.swap(3, 9);
        let error = RecoveryCode::parse(&groups.join("-")).expect_err("not in order");
        assert_eq!(error, RecoveryCodeError::Groups { groups: vec![4, 10] });
        assert_eq!(error.to_string(), "there is a typing error in groups 4 and 10");
    }

    #[test]
    fn a_character_too_few_or_too_many_is_located_by_the_groups_as_typed() {
        let (_, text) = code(2);
        let mut groups: Vec<String> = text.split('-').map(str::to_owned).collect();
        groups[6].pop();
        let error = RecoveryCode::parse(&groups.join("-")).expect_err("short");
        assert_eq!(error, RecoveryCodeError::GroupLength { group: 7, characters: 4 });
        let joined = RecoveryCode::parse(&groups.concat()).expect_err("short");
        assert!(matches!(joined, RecoveryCodeError::Length { characters: 69, first_wrong: Some(7 | 8) }), "{joined}");
        assert!(matches!(RecoveryCode::parse(""), Err(RecoveryCodeError::Length { characters: 0, first_wrong: None })));
        let error = RecoveryCode::parse(&text.replace(&text[..1], "u")).expect_err("no such character");
        assert_eq!(error, RecoveryCodeError::Character { group: 1, character: 'u' });
    }

    #[test]
    fn what_is_far_too_long_is_refused_at_the_first_group_too_many() {
        let (_, text) = code(3);
        for times in [2, 19, 1000] {
            let error = RecoveryCode::parse(&text.repeat(times)).expect_err("not one code");
            let characters = times * GROUPS * GROUP_CHARACTERS;
            assert_eq!(error, RecoveryCodeError::Length { characters, first_wrong: Some(GROUPS + 1) });
        }
    }

    #[test]
    fn groups_of_two_codes_do_not_make_one() {
        let ((_, first), (_, second)) = (code(1), code(2));
        let mixed = format!("{}{}", &first[..42], &second[42..]);
        assert_eq!(RecoveryCode::parse(&mixed).expect_err("mixed"), RecoveryCodeError::Checksum);
    }

    /// The groups are those of an encoder in Python that was written from docs/format.md alone.
    #[test]
    fn the_known_answer_is_ours() {
        let counting = Secret::new(std::array::from_fn(|index| index as u8));
        let checksum: String = crypto::recovery_checksum(&counting).iter().map(|byte| format!("{byte:02x}")).collect();
        let code = RecoveryCode { bytes: counting };
        assert_eq!(checksum, KNOWN_CHECKSUM);
        assert_eq!(code.text().as_str(), KNOWN_CODE);
    }

    const KNOWN_CHECKSUM: &str = "efe12e";
    const KNOWN_CODE: &str = "000GC-40R4Y-0M301-E209M-185G2-R38EE-1W810-24GKG-2GAH0-C5RR1-34D1A-P70XT-3RFY5-ZR9E3";
}
