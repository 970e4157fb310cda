//! The file of a software authenticator: what it holds, and how it is read, locked and replaced.
//!
//! ```json
//! { "format": 1, "kind": "passkeyfs software authenticator",
//!   "pin": null | { "salt": "…", "hash": "…" }, "pin_tries_left": 8,
//!   "always_verify_user": false, "hmac_secret": true, "credentials_in_list_max": 8,
//!   "touch": "approve" | "deny" | "timeout", "touch_delay_ms": 0,
//!   "credentials": [ { "id", "relying_party", "user_id", "user_name", "discoverable", "protection": 1 to 3,
//!                      "sign_counter", "private_key", "random_with_verification", "random_without_verification" } ] }
//! ```
//! It holds secrets in the clear: whoever can read it can unlock. It has mode 0600, and everything read from it is
//! overwritten when dropped. The fields from `always_verify_user` to `touch_delay_ms` may be edited, to play an
//! authenticator of another kind or a user who is slow or says no.
//!
//! A new file gets the old one's owner and mode: root may use the authenticator of a user, who must not lose it by that.
//!
//! Replaced as a whole, durably: a new file is written, synced, locked and renamed over the old one, so a reader without
//! the lock sees one state or the other. The lock moves with the name: who gets a lock checks that the file still has it.
//! A file that does not read is an error, and is never written to.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding as _};
use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::authenticator::AuthenticatorError;
use crate::crypto::Secret;
use crate::format::json;

const STRUCTURE: &str = "software authenticator";
const FORMAT: u32 = 1;
const KIND: &str = "passkeyfs software authenticator";
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// How long to wait for another process: longer than a scripted touch takes.
const LOCK_WAIT: Duration = Duration::from_secs(10);
/// PIN tries of a fresh authenticator, as in CTAP 2.1.
pub const PIN_TRIES: u32 = 8;

/// What the user at the authenticator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Touch {
    /// Touches it, after `touch_delay_ms`.
    #[default]
    Approve,
    /// Refuses.
    Deny,
    /// Is not there. The time limit is not waited for.
    Timeout,
}

/// A secret as base64 text.
pub struct SecretText(pub Secret<32>);

/// The stored form of a PIN.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinHash {
    /// Drawn with each PIN.
    #[serde(with = "json::base64_array")]
    pub salt: [u8; 16],
    /// HMAC-SHA-256 of the PIN under the salt.
    pub hash: SecretText,
}

/// A credential with its secrets.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // the names say it
pub struct StoredCredential {
    #[serde(with = "json::base64")]
    pub id: Vec<u8>,
    pub relying_party: String,
    #[serde(with = "json::base64")]
    pub user_id: Vec<u8>,
    pub user_name: String,
    pub discoverable: bool,
    /// `credProtect` level: 3 is not found without user verification.
    pub protection: u8,
    pub sign_counter: u32,
    pub private_key: SecretText,
    pub random_with_verification: SecretText,
    pub random_without_verification: SecretText,
}

/// All that the authenticator knows.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)] // described at the head of this file
pub struct SoftwareState {
    format: u32,
    kind: String,
    pub pin: Option<PinHash>,
    pub pin_tries_left: u32,
    #[serde(default)]
    pub always_verify_user: bool,
    #[serde(default = "yes")]
    pub hmac_secret: bool,
    #[serde(default = "eight")]
    pub credentials_in_list_max: usize,
    #[serde(default)]
    pub touch: Touch,
    #[serde(default)]
    pub touch_delay_ms: u64,
    pub credentials: Vec<StoredCredential>,
}

fn yes() -> bool {
    true
}

fn eight() -> usize {
    8
}

impl Default for SoftwareState {
    fn default() -> Self {
        Self {
            format: FORMAT,
            kind: KIND.to_owned(),
            pin: None,
            pin_tries_left: PIN_TRIES,
            always_verify_user: false,
            hmac_secret: true,
            credentials_in_list_max: eight(),
            touch: Touch::Approve,
            touch_delay_ms: 0,
            credentials: Vec::new(),
        }
    }
}

impl SoftwareState {
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let state: Self = json::decode(STRUCTURE, FORMAT, &[], bytes).map_err(|error| error.to_string())?;
        let wrong = |field| Err(format!("{field} is not valid"));
        if state.kind != KIND {
            return wrong("kind");
        }
        if state.pin_tries_left > PIN_TRIES {
            return wrong("pin_tries_left");
        }
        if state.credentials_in_list_max == 0 {
            return wrong("credentials_in_list_max");
        }
        if state.credentials.iter().any(|credential| !(1..=3).contains(&credential.protection)) {
            return wrong("protection");
        }
        Ok(state)
    }

    fn encode(&self) -> Zeroizing<Vec<u8>> {
        // Large enough from the start: a vector that grows leaves secrets behind in its former place.
        let texts =
            |one: &StoredCredential| one.relying_party.len() + one.user_name.len() + one.id.len() + one.user_id.len();
        let texts: usize = self.credentials.iter().map(texts).sum();
        let capacity = 4096 + 4096 * self.credentials.len() + 8 * texts;
        let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
        serde_json::to_writer_pretty(&mut *bytes, self).expect("plain structures always have a JSON form");
        bytes.push(b'\n');
        debug_assert!(bytes.len() <= capacity, "the state outgrew its buffer");
        bytes
    }
}

/// A software authenticator's file.
#[derive(Debug, Clone)]
pub struct SoftwareFile {
    path: PathBuf,
}

/// The file's state, locked against other processes until dropped.
pub struct LockedState {
    /// To be changed, then saved.
    pub state: SoftwareState,
    path: PathBuf,
    /// Holds the lock.
    file: File,
}

impl SoftwareFile {
    /// Names the file; a symbolic link is followed once, here, so that replacing the file leaves the link.
    pub fn at(path: &Path) -> Self {
        Self { path: path.canonicalize().unwrap_or_else(|_| path.to_owned()) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the state as it is now.
    pub fn read(&self) -> Result<SoftwareState, AuthenticatorError> {
        read_state(&self.path, &mut self.open()?)
    }

    /// Takes the lock and reads the state.
    ///
    /// **Errors**: [`AuthenticatorError::FileBusy`] when another process keeps the lock for too long.
    pub fn lock(&self) -> Result<LockedState, AuthenticatorError> {
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            let mut file = self.open()?;
            match file.try_lock() {
                Ok(()) if self.is_named(&file)? => {
                    let state = read_state(&self.path, &mut file)?;
                    return Ok(LockedState { state, path: self.path.clone(), file });
                }
                // It was replaced between opening and locking: the new one is the authenticator now.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(AuthenticatorError::FileBusy { path: self.path.clone() });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
                Err(TryLockError::Error(source)) => return Err(io_error(&self.path, "lock", source)),
            }
        }
    }

    /// Makes the file, with no credentials, unless it is there. Durable on return.
    pub fn create_if_missing(&self) -> Result<(), AuthenticatorError> {
        if self.path.symlink_metadata().is_ok() {
            return Ok(());
        }
        let (temporary, _lock) = write_temporary(&self.path, &SoftwareState::default(), None)?;
        // A hard link fails where a rename would replace what another process just made.
        let linked = std::fs::hard_link(&temporary, &self.path);
        let _ = std::fs::remove_file(&temporary);
        match linked {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(io_error(&self.path, "create", error)),
            _ => sync_folder(&self.path),
        }
    }

    fn open(&self) -> Result<File, AuthenticatorError> {
        File::open(&self.path).map_err(|source| match source.kind() {
            ErrorKind::NotFound => AuthenticatorError::FileMissing { path: self.path.clone() },
            _ => io_error(&self.path, "open", source),
        })
    }

    /// Whether `file` is the one that has the name now.
    fn is_named(&self, file: &File) -> Result<bool, AuthenticatorError> {
        let named = match self.path.metadata() {
            Ok(named) => named,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(source) => return Err(io_error(&self.path, "examine", source)),
        };
        let held = file.metadata().map_err(|source| io_error(&self.path, "examine", source))?;
        Ok((named.dev(), named.ino()) == (held.dev(), held.ino()))
    }
}

impl LockedState {
    /// Replaces the file by the state as it is now, and keeps the lock. Durable on return.
    pub fn save(&mut self) -> Result<(), AuthenticatorError> {
        let before = self.file.metadata().map_err(|source| io_error(&self.path, "examine", source))?;
        let (temporary, file) = write_temporary(&self.path, &self.state, Some(&before))?;
        std::fs::rename(&temporary, &self.path).map_err(|source| {
            let _ = std::fs::remove_file(&temporary);
            io_error(&self.path, "replace", source)
        })?;
        self.file = file;
        sync_folder(&self.path)
    }
}

fn io_error(path: &Path, action: &'static str, source: std::io::Error) -> AuthenticatorError {
    AuthenticatorError::Io { path: path.to_owned(), action, source }
}

fn read_state(path: &Path, file: &mut File) -> Result<SoftwareState, AuthenticatorError> {
    let damaged = |reason: String| AuthenticatorError::FileDamaged { path: path.to_owned(), reason };
    let failed = |source| io_error(path, "read", source);
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(damaged("it is not a regular file".to_owned()));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(damaged(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        log::warn!("{} can be read or written by others; it should have mode 0600", path.display());
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    SoftwareState::decode(&bytes).map_err(damaged)
}

/// Writes `state` beside `path`, synced and locked, with the owner and the mode that the file had `before`.
fn write_temporary(
    path: &Path,
    state: &SoftwareState,
    before: Option<&Metadata>,
) -> Result<(PathBuf, File), AuthenticatorError> {
    let Some(name) = path.file_name() else {
        let source = std::io::Error::from(ErrorKind::IsADirectory);
        return Err(io_error(path, "create", source));
    };
    let mut temporary_name = name.to_owned();
    temporary_name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(temporary_name);
    let written = || -> std::io::Result<File> {
        // What a crashed process of the same number left is no use to anyone.
        let _ = std::fs::remove_file(&temporary);
        let mut file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.lock()?;
        file.write_all(&state.encode())?;
        if let Some(before) = before {
            give_back(&file, before)?;
        }
        file.sync_all()?;
        Ok(file)
    };
    match written() {
        Ok(file) => Ok((temporary, file)),
        Err(source) => {
            let _ = std::fs::remove_file(&temporary);
            Err(io_error(path, "write", source))
        }
    }
}

/// Gives a new file the owner and the mode of the one that it replaces. Only root can give files away: for others the file
/// becomes their own, as before.
fn give_back(file: &File, before: &Metadata) -> std::io::Result<()> {
    let new = file.metadata()?;
    if (new.uid(), new.gid()) != (before.uid(), before.gid()) {
        match std::os::unix::fs::fchown(file, Some(before.uid()), Some(before.gid())) {
            Err(error) if error.kind() != ErrorKind::PermissionDenied => return Err(error),
            _ => {}
        }
    }
    // Without set-id bits, and after the owner: changing that would clear them anyway.
    file.set_permissions(std::fs::Permissions::from_mode(before.permissions().mode() & 0o777))
}

fn sync_folder(path: &Path) -> Result<(), AuthenticatorError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| io_error(path, "sync", source))
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = Zeroizing::new([0; 44]);
        let text = Base64::encode(self.0.expose(), &mut *text).expect("44 characters hold 32 bytes");
        serializer.serialize_str(text)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = SecretText;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("32 bytes of base64")
            }

            // Not `String`: the text is decoded where it lies, and no copy of it is left behind.
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SecretText, E> {
                Secret::try_filled(|place| match Base64::decode(text, place) {
                    Ok(decoded) if decoded.len() == 32 => Ok(()),
                    _ => Err(E::custom("not 32 bytes of base64")),
                })
                .map(SecretText)
            }
        }
        deserializer.deserialize_str(Text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_ids_fit_the_buffer_that_must_not_grow() {
        let secret = || SecretText(Secret::new([0xFF; 32]));
        let credential = StoredCredential {
            id: vec![1; 10_000],
            relying_party: "\n".repeat(1000),
            user_id: vec![2; 10_000],
            user_name: "\0".repeat(1000),
            discoverable: true,
            protection: 3,
            sign_counter: u32::MAX,
            private_key: secret(),
            random_with_verification: secret(),
            random_without_verification: secret(),
        };
        let state = SoftwareState { credentials: vec![credential], ..SoftwareState::default() };
        let bytes = state.encode();
        assert!(bytes.len() > 30_000 && SoftwareState::decode(&bytes).is_ok());
    }
}
