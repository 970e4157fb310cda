//! PINs as CTAP 2.1 has them (section 6.5.1): Unicode in normalisation form C, at least 4 code points, at most 63 bytes of
//! UTF-8.
//!
//! The platform normalises, not the key: keyboards and programs send the same letters as different bytes, and a key compares
//! bytes. Relies on the tables of `unicode-normalization`, which keeps a few characters in a buffer that it does not
//! overwrite; a PIN that is in form C already, as all of ASCII is, does not pass through it.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use zeroize::Zeroizing;

use super::authenticator::AuthenticatorError;

const CODE_POINTS_MIN: usize = 4;
const BYTES_MAX: usize = 63;
/// No character becomes longer than this many times its bytes when it is put into form C.
const GROWTH_MAX: usize = 3;

/// The PIN in the form in which keys get it, or that no key can have such a PIN.
pub(super) fn normalize_pin(pin: &str) -> Result<Zeroizing<String>, AuthenticatorError> {
    // Large enough from the start: a string that grows leaves the PIN behind in its former place.
    let mut normalized = Zeroizing::new(String::with_capacity(GROWTH_MAX * pin.len()));
    match is_nfc_quick(pin.chars()) {
        IsNormalized::Yes => normalized.push_str(pin),
        IsNormalized::No | IsNormalized::Maybe => normalized.extend(pin.nfc()),
    }
    if normalized.chars().count() < CODE_POINTS_MIN || normalized.len() > BYTES_MAX {
        return Err(AuthenticatorError::PinUnusable);
    }
    Ok(normalized)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalized(pin: &str) -> Option<String> {
        normalize_pin(pin).ok().map(|pin| pin.to_string())
    }

    #[test]
    fn a_pin_is_normalised_to_form_c_before_a_key_gets_it() {
        for (typed, sent) in [
            ("2468", "2468"),
            ("pa\u{308}sswo\u{308}rd", "pässwörd"),
            ("pässwörd", "pässwörd"),
            // Hangul by its letters, the sign for ohm, and a letter that form C takes apart.
            ("\u{1112}\u{1161}\u{11ab}1234", "한1234"),
            ("\u{2126}123", "Ω123"),
            ("\u{958}123", "\u{915}\u{93c}123"),
            (" a b ", " a b "),
        ] {
            assert_eq!(normalized(typed).as_deref(), Some(sent), "{typed}");
        }
    }

    #[test]
    fn a_pin_has_four_code_points_or_more_and_63_bytes_or_fewer() {
        let (longest, too_long) = ("x".repeat(63), "x".repeat(64));
        for usable in ["1234", "äöüß", "🔑🔑🔑🔑", &longest, &"🔑".repeat(15)] {
            assert!(normalized(usable).is_some(), "{usable}");
        }
        // Three characters of two bytes, four code points that become two, and one byte too many.
        for unusable in ["", "123", "äöü", "a\u{308}o\u{308}", &too_long, &"🔑".repeat(16)] {
            assert!(normalized(unusable).is_none(), "{unusable}");
        }
        // 66 bytes as typed, 44 as sent.
        assert!(normalized(&"a\u{308}".repeat(22)).is_some());
    }

    #[test]
    fn no_character_outgrows_the_place_for_it() {
        for character in '\0'..=char::MAX {
            let text = character.to_string();
            assert!(text.nfc().map(char::len_utf8).sum::<usize>() <= GROWTH_MAX * text.len(), "{character:?}");
        }
    }
}
