//! Which key to use: the one that is named, the only one, or the one that the user touches.
//!
//! With several attached, all wait for a touch at once; the first that is touched is taken, the others are told to stop
//! (CTAP 2.1, section 6.9, authenticatorSelection). Keys that cannot be used at all are passed over while another can.

use std::path::Path;
use std::time::{Duration, Instant};

use super::attached::{AttachedKey, attached_key_at, attached_keys};
use super::session::HidAuthenticator;
use crate::unlock::authenticators::authenticator::{Authenticator, AuthenticatorError};
use crate::unlock::prompts::interaction::Interaction;

/// How long one key's helper is listened to before it is the next one's turn.
const TURN: Duration = Duration::from_millis(20);
/// What the keys are called before it is known which one it is.
const THE_KEY_TO_USE: &str = "the security key to use";

/// Opens the security key at `path`.
pub fn open_hid_at(path: &Path) -> Result<HidAuthenticator, AuthenticatorError> {
    match attached_key_at(path) {
        Some(key) => HidAuthenticator::open(&key),
        None if path.exists() => Err(AuthenticatorError::NotASecurityKey { path: path.to_owned() }),
        None => Err(AuthenticatorError::NotThere { path: path.to_owned() }),
    }
}

/// Opens whichever security key is attached; of several the one that the user touches. `None` if none is attached.
pub fn open_attached_hid(interaction: &dyn Interaction) -> Result<Option<HidAuthenticator>, AuthenticatorError> {
    open_one_of(&attached_keys(), interaction)
}

fn open_one_of(
    keys: &[AttachedKey],
    interaction: &dyn Interaction,
) -> Result<Option<HidAuthenticator>, AuthenticatorError> {
    let (mut usable, mut without_secret, mut unable) = (Vec::new(), Vec::new(), None);
    for key in keys {
        match HidAuthenticator::open(key) {
            Ok(session) if session.describe().hmac_secret => usable.push(session),
            Ok(session) => without_secret.push(session),
            Err(error) => {
                log::warn!("{error}");
                unable = unable.or(Some(error));
            }
        }
    }
    if let (true, Some(session)) = (usable.is_empty(), without_secret.pop()) {
        return Ok(Some(session));
    }
    match (usable.len(), usable.pop()) {
        (1, Some(only)) => Ok(Some(only)),
        (_, Some(last)) => {
            usable.push(last);
            choose(usable, interaction).map(Some)
        }
        (_, None) => unable.map_or(Ok(None), Err),
    }
}

/// The session whose key is touched first. The others end.
pub fn choose(
    mut sessions: Vec<HidAuthenticator>,
    interaction: &dyn Interaction,
) -> Result<HidAuthenticator, AuthenticatorError> {
    let limit = sessions.iter().map(HidAuthenticator::touch_limit).max().unwrap_or_default();
    let count = sessions.len();
    let mut last_error = AuthenticatorError::TouchTimedOut { authenticator: THE_KEY_TO_USE.to_owned() };
    sessions.retain_mut(|session| session.begin_selection().map_err(|error| last_error = error).is_ok());
    interaction.announce_touch(&format!("{THE_KEY_TO_USE} ({count} are attached)"));
    let deadline = Instant::now() + limit;
    let mut chosen = None;
    while chosen.is_none() && !sessions.is_empty() && Instant::now() < deadline {
        let mut index = 0;
        while chosen.is_none() && index < sessions.len() {
            match sessions[index].selected(Instant::now() + TURN) {
                Ok(true) => chosen = Some(sessions.swap_remove(index)),
                Ok(false) => index += 1,
                Err(error) => {
                    // Out of the contest: the others still wait. A key that nobody touched says so by its own name.
                    log::debug!("{error}");
                    if !matches!(error, AuthenticatorError::TouchTimedOut { .. }) {
                        last_error = error;
                    }
                    sessions.swap_remove(index);
                }
            }
        }
    }
    interaction.touch_done();
    chosen.ok_or(last_error)
}
