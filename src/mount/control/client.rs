//! The command's side: asks the daemon of a mount, by an ioctl on the mount's root directory.
//!
//! The requester of a key change must itself have unlocked the vault with one of its slots: the request carries a tag under
//! the vault key, for the newest commit (`key_request.rs`). Other programs of the user can read the files, but cannot add
//! keys.

#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::sys::statfs::{FUSE_SUPER_MAGIC, fstatfs};
use serde::de::DeserializeOwned;

use super::as_owner::as_owner;
use super::daemon::DaemonStatus;
use super::error::ControlError;
use super::key_request::{ChangeRequest, KeyAnswer, KeyRequest};
use super::protocol::{ANSWER_BYTES_MAX, Answer, LENGTH_BYTES, unpack};
use super::published::Published;
use crate::format::{CommitId, EpochId};
use crate::mount::session::mount_table::{self, mounted_at};
use crate::unlock::EpochKeyEntry;
use crate::volume::{KeyChange, KeyChanged, UsedSlot, ValidSlot, VolumeError};

/// How often a key change is requested, each time for the commit that the previous answer named as the newest.
const KEY_CHANGE_TRIES_MAX: usize = 20;

mod raw {
    //! The three ioctls; `nix` checks their codes against the type of the answer.
    use super::super::protocol::{ANSWER_BYTES_MAX, IOCTL_TYPE, KEYS_NUMBER, PUBLISH_NUMBER, STATUS_NUMBER};

    nix::ioctl_read!(status, IOCTL_TYPE, STATUS_NUMBER, [u8; ANSWER_BYTES_MAX]);
    nix::ioctl_read!(publish, IOCTL_TYPE, PUBLISH_NUMBER, [u8; ANSWER_BYTES_MAX]);
    nix::ioctl_readwrite!(change_keys, IOCTL_TYPE, KEYS_NUMBER, [u8; ANSWER_BYTES_MAX]);
}

/// Asks the daemon of the passkeyfs mounted at `mountpoint` how it is.
pub fn request_status(mountpoint: &Path) -> Result<DaemonStatus, ControlError> {
    // SAFETY: the code of the ioctl names the size of the array that it fills.
    ask(mountpoint, [0; ANSWER_BYTES_MAX], |root, answer| unsafe { raw::status(root.as_raw_fd(), answer) })
}

/// Has the daemon of the passkeyfs mounted at `mountpoint` journal and publish everything: on return all that was
/// written before lies in the vault folder. A failure carries the daemon's own words.
pub fn request_publish(mountpoint: &Path) -> Result<(), ControlError> {
    // SAFETY: the code of the ioctl names the size of the array that it fills.
    let answer =
        ask(mountpoint, [0; ANSWER_BYTES_MAX], |root, answer| unsafe { raw::publish(root.as_raw_fd(), answer) });
    match answer? {
        Published::All => Ok(()),
        Published::NotAll { message, is_kept } => Err(ControlError::NotPublished { message, is_kept }),
        Published::FolderGone { message } => Err(ControlError::FolderGone { message }),
        Published::Beside { message } => Err(ControlError::Forked { message }),
    }
}

/// Asks the daemon of the passkeyfs mounted at `mountpoint` for the vault's slots, as the tree has them, and for the epoch
/// that it writes in.
pub fn request_slots(mountpoint: &Path) -> Result<(Vec<ValidSlot>, EpochId), ControlError> {
    let mut slots = Vec::new();
    loop {
        match ask_about_keys(mountpoint, &KeyRequest::Slot { number: slots.len() })? {
            KeyAnswer::Slot { slot: Some(slot), .. } => slots.push(slot),
            KeyAnswer::Slot { slot: None, epoch } => return Ok((slots, epoch)),
            _ => return Err(answer_of_another_kind(mountpoint)),
        }
    }
}

/// Has the daemon of the passkeyfs mounted at `mountpoint` change what unlocks the vault; published on return. `asker` is
/// the slot that unlocked it, and `epoch` the vault key in use: it proves that to the daemon, and is not sent.
pub fn request_key_change(
    mountpoint: &Path,
    change: &KeyChange,
    asker: &UsedSlot,
    epoch: &EpochKeyEntry,
) -> Result<KeyChanged, ControlError> {
    let mut commit = CommitId::default();
    for _ in 0..KEY_CHANGE_TRIES_MAX {
        match ask_about_keys(mountpoint, &KeyRequest::Change(ChangeRequest::new(change, commit, asker, epoch)))? {
            KeyAnswer::Changed(changed) => return Ok(changed),
            KeyAnswer::Refused(refusal) => return Err(ControlError::Refused(refusal.into())),
            KeyAnswer::Newer { commit: newest } => commit = newest,
            KeyAnswer::Slot { .. } => return Err(answer_of_another_kind(mountpoint)),
        }
    }
    let busy = "another commit was made each time that the change was asked for".to_owned();
    Err(ControlError::Refused(VolumeError::Io(busy.into()).into()))
}

fn ask_about_keys(mountpoint: &Path, request: &KeyRequest) -> Result<KeyAnswer, ControlError> {
    const ROOM: usize = ANSWER_BYTES_MAX - LENGTH_BYTES;
    let json = request.encode();
    if json.len() > ROOM {
        return Err(ControlError::Refused(VolumeError::TooLarge { limit_bytes: ROOM }.into()));
    }
    let mut request = [0; ANSWER_BYTES_MAX];
    request[..LENGTH_BYTES].copy_from_slice(&(json.len() as u32).to_le_bytes());
    request[LENGTH_BYTES..LENGTH_BYTES + json.len()].copy_from_slice(&json);
    // SAFETY: the code of the ioctl names the size of the array that it reads and fills.
    let answer = ask(mountpoint, request, |root, answer| unsafe { raw::change_keys(root.as_raw_fd(), answer) });
    answer.map_err(|error| match error {
        ControlError::Failed { message } => ControlError::KeysFailed { message },
        other => other,
    })
}

fn answer_of_another_kind(mountpoint: &Path) -> ControlError {
    let source = io::Error::new(io::ErrorKind::InvalidData, "an answer of another kind");
    ControlError::Io { mountpoint: mountpoint.into(), source }
}

/// Asks; where root is kept out of the mount of another user, as that user.
fn ask<T: DeserializeOwned + Send>(
    mountpoint: &Path,
    request: Answer,
    ioctl: impl Fn(&File, &mut Answer) -> nix::Result<i32> + Sync,
) -> Result<T, ControlError> {
    let ask = || ask_directly(mountpoint, request, &ioctl);
    match ask() {
        Err(error @ ControlError::NotAllowed { .. }) if is_root() => {
            let entry = mount_table::resolve(mountpoint).and_then(|resolved| mounted_at(&resolved));
            let Some(owner) = entry.ok().flatten().and_then(|entry| entry.owner) else { return Err(error) };
            as_owner(owner, ask).unwrap_or(Err(error))
        }
        answer => answer,
    }
}

/// Whether this thread uses filesystems as root. Queried by setting an id that does not exist, which changes nothing.
fn is_root() -> bool {
    nix::unistd::setfsuid(nix::unistd::Uid::from_raw(u32::MAX)).is_root()
}

fn ask_directly<T: DeserializeOwned>(
    mountpoint: &Path,
    mut answer: Answer,
    ioctl: &impl Fn(&File, &mut Answer) -> nix::Result<i32>,
) -> Result<T, ControlError> {
    let name = |source: io::Error| name_error(mountpoint, source);
    let root = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(mountpoint).map_err(name)?;
    // Not every filesystem is polite about an ioctl that it does not know: only FUSE ones are asked. One of ours whose
    // vault folder has gone cannot tell its space, and fails with EIO, but answers here.
    match fstatfs(&root) {
        Ok(status) if status.filesystem_type() != FUSE_SUPER_MAGIC => {
            return Err(ControlError::NotPasskeyfs { mountpoint: mountpoint.into() });
        }
        Err(errno) if errno != nix::Error::EIO => return Err(name(errno.into())),
        _ => {}
    }
    ioctl(&root, &mut answer).map_err(|errno| name(errno.into()))?;
    let result: Result<T, String> = unpack(&answer).ok_or_else(|| answer_of_another_kind(mountpoint))?;
    result.map_err(|message| ControlError::Failed { message })
}

fn name_error(mountpoint: &Path, source: io::Error) -> ControlError {
    let mountpoint = mountpoint.to_path_buf();
    match source.raw_os_error() {
        Some(libc::ENOTCONN | libc::ECONNABORTED | libc::ENODEV) => ControlError::Dead { mountpoint },
        Some(libc::EPERM | libc::EACCES) => ControlError::NotAllowed { mountpoint },
        Some(libc::ENOTTY | libc::ENOTDIR | libc::ENOSYS | libc::EINVAL) => ControlError::NotPasskeyfs { mountpoint },
        _ => ControlError::Io { mountpoint, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_no_mount_is_not_asked() {
        let refused = request_status(&std::env::temp_dir());
        assert!(matches!(refused, Err(ControlError::NotPasskeyfs { .. })), "{refused:?}");
    }
}
