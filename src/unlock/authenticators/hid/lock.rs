//! One process of ours at a time for each device: a lock on the device itself, so that none is left behind.
//!
//! Other programs do not heed it; their packets are told from ours by channel (`ctaphid.rs`).

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use super::attached::AttachedKey;
use super::explain::explain;
use super::hidraw::failure_of_open;
use crate::unlock::authenticators::authenticator::AuthenticatorError;

/// How long another process of ours is waited for: a user who types a PIN there, and touches the key.
const LOCK_LIMIT: Duration = Duration::from_secs(60);
const LOCK_POLL: Duration = Duration::from_millis(50);

/// The right to use a device, until it is dropped.
pub type DeviceLock = Flock<File>;

/// Takes the right to use a device; waits a moment for who has it.
///
/// # Errors
/// [`AuthenticatorError::NoPermission`], [`AuthenticatorError::Removed`], [`AuthenticatorError::Busy`].
pub fn lock_device(key: &AttachedKey) -> Result<DeviceLock, AuthenticatorError> {
    let deadline = Instant::now() + LOCK_LIMIT;
    let open = || OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&key.path);
    let mut device = open().map_err(|error| explain(key.name(), failure_of_open(&error)))?;
    let mut told = false;
    loop {
        device = match Flock::lock(device, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err(_) if Instant::now() >= deadline => return Err(AuthenticatorError::Busy { authenticator: key.name() }),
            Err((device, _)) => device,
        };
        if !std::mem::replace(&mut told, true) {
            log::warn!("{} is in use by another process: waiting for it", key.name());
        }
        std::thread::sleep(LOCK_POLL);
    }
}
