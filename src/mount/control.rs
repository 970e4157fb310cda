//! How another process speaks with the daemon: an ioctl on the root directory of the mount.
//!
//! Both sides lie here. The ioctl needs no socket, no pid file and no path but the mount point, ends with the mount, and
//! the kernel itself says who is asking. Only the user who mounted, and root (as that user: `as_owner.rs`), are answered.
//!
//! ```text
//! code    _IOR(0xB4, request, 8192)        request: 1 status, 2 publish
//!         _IOWR(0xB4, 3, 8192)             the slots, and a change of them; the request stands where the answer goes
//! answer  length u32 LE | JSON of that length: {"Ok": value} or {"Err": "what went wrong"}
//! ```
//!
//! A change of keys must be asked for by one who has unlocked the vault himself with a slot that it has: the request carries
//! a tag under the vault key, for the newest commit (`key_request.rs`). The user's other programs can read the files, and cannot let anyone else in.
//!
//! The size of a restricted ioctl has 14 bits, so an answer is at most 8192 bytes; a status with more warnings than fit
//! says how many it leaves out. A publish takes as long as it takes, on a thread of its own.

#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fuser::{Errno, INodeNo, ReplyIoctl};
use nix::sys::statfs::{FUSE_SUPER_MAGIC, fstatfs};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::answer::{Adapter, Call};
use super::as_owner::as_owner;
use super::key_request::{ChangeRequest, KeyAnswer, KeyRequest};
use super::mountinfo::{self, mounted_at};
use super::published::Published;
use crate::format::{CommitId, EpochId};
use crate::unlock::EpochKeyEntry;
use crate::volume::{KeyChange, KeyChanged, SlotError, UsedSlot, ValidSlot, Volume, VolumeError, VolumeStatus};

/// Room for an answer.
const ANSWER_BYTES_MAX: usize = 8192;

/// A change of keys is asked for so often, each time for the commit that was the newest in the answer before.
const KEY_CHANGE_TRIES_MAX: usize = 20;

/// What precedes the JSON in an answer.
const LENGTH_BYTES: usize = 4;

/// Marks our ioctls; free in the kernel's list of them.
const IOCTL_TYPE: u8 = 0xB4;

const STATUS_NUMBER: u8 = 1;
const PUBLISH_NUMBER: u8 = 2;
const KEYS_NUMBER: u8 = 3;

// The kernel hands the code on as 32 bits, which is all that it has.
const STATUS_CODE: u32 = nix::request_code_read!(IOCTL_TYPE, STATUS_NUMBER, ANSWER_BYTES_MAX) as u32;
const PUBLISH_CODE: u32 = nix::request_code_read!(IOCTL_TYPE, PUBLISH_NUMBER, ANSWER_BYTES_MAX) as u32;
const KEYS_CODE: u32 = nix::request_code_readwrite!(IOCTL_TYPE, KEYS_NUMBER, ANSWER_BYTES_MAX) as u32;

mod raw {
    //! The three ioctls; `nix` checks their codes against the type of the answer.
    nix::ioctl_read!(status, super::IOCTL_TYPE, super::STATUS_NUMBER, [u8; super::ANSWER_BYTES_MAX]);
    nix::ioctl_read!(publish, super::IOCTL_TYPE, super::PUBLISH_NUMBER, [u8; super::ANSWER_BYTES_MAX]);
    nix::ioctl_readwrite!(change_keys, super::IOCTL_TYPE, super::KEYS_NUMBER, [u8; super::ANSWER_BYTES_MAX]);
}

/// What a daemon knows of itself beyond its volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonInfo {
    /// The folder that holds the vault.
    pub vault_folder: PathBuf,
    /// Where it is mounted.
    pub mountpoint: PathBuf,
}

/// What a daemon answers when asked how it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Its process, as it sees itself.
    pub pid: u32,
    /// The folder that holds the vault.
    #[serde(with = "super::path_in_json")]
    pub vault_folder: PathBuf,
    /// Where it is mounted.
    #[serde(with = "super::path_in_json")]
    pub mountpoint: PathBuf,
    /// The volume.
    pub volume: VolumeStatus,
}

/// Why a daemon could not be asked, or could not do it.
#[derive(Debug, Error)]
pub enum ControlError {
    /// No passkeyfs is mounted exactly there.
    #[error("{} is not the mount point of a passkeyfs", mountpoint.display())]
    NotPasskeyfs {
        /// Where it was looked for.
        mountpoint: PathBuf,
    },
    /// The daemon has died and left its mount behind.
    #[error("the daemon of {} is gone; its mount is dead", mountpoint.display())]
    Dead {
        /// Where the dead mount is.
        mountpoint: PathBuf,
    },
    /// Somebody else mounted it.
    #[error("only root and the user who mounted {} may do that", mountpoint.display())]
    NotAllowed {
        /// Where it is mounted.
        mountpoint: PathBuf,
    },
    /// The daemon tried, and says why it did not succeed.
    #[error("{message}")]
    Failed {
        /// The daemon's words.
        message: String,
    },
    /// Not all could be published.
    #[error("{message}")]
    NotPublished {
        /// The daemon's words.
        message: String,
        /// Whether the journal keeps the rest; if not, it is in the daemon's memory only.
        is_kept: bool,
    },
    /// All is published, and the vault folder is not there any more.
    #[error("{message}")]
    FolderGone {
        /// The daemon's words.
        message: String,
    },
    /// All is published, beside another device's newest commit.
    #[error("{message}")]
    Forked {
        /// The daemon's words.
        message: String,
    },
    /// The daemon refused a change of keys, or did not finish it.
    #[error(transparent)]
    Refused(SlotError),
    /// The daemon was asked to change keys, and could not say what became of it.
    #[error("the daemon failed amid a change of keys: {message}")]
    KeysFailed {
        /// The daemon's words.
        message: String,
    },
    /// The mount point cannot be reached, or the daemon's answer makes no sense.
    #[error("{} cannot be asked: {source}", mountpoint.display())]
    Io {
        /// Where it was looked for.
        mountpoint: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
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

type Answer = [u8; ANSWER_BYTES_MAX];

/// Asks; where root is kept out of the mount of another user, as that user.
fn ask<T: DeserializeOwned + Send>(
    mountpoint: &Path,
    request: Answer,
    ioctl: impl Fn(&File, &mut Answer) -> nix::Result<i32> + Sync,
) -> Result<T, ControlError> {
    let ask = || ask_directly(mountpoint, request, &ioctl);
    match ask() {
        Err(error @ ControlError::NotAllowed { .. }) if is_root() => {
            let entry = mountinfo::resolve(mountpoint).and_then(|resolved| mounted_at(&resolved));
            let Some(owner) = entry.ok().flatten().and_then(|entry| entry.owner) else { return Err(error) };
            as_owner(owner, ask).unwrap_or(Err(error))
        }
        answer => answer,
    }
}

/// Whether this thread uses filesystems as root. Asked for with an id that nobody has, which changes nothing.
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

impl Adapter {
    /// Answers an ioctl of `user` on `inode`.
    pub(super) fn answer_control(
        &self,
        call: Call,
        user: u32,
        inode: INodeNo,
        command: u32,
        input: &[u8],
        reply: ReplyIoctl,
    ) {
        let known = [STATUS_CODE, PUBLISH_CODE, KEYS_CODE].contains(&command);
        if inode != INodeNo::ROOT || !known {
            return reply.error(Errno::ENOTTY);
        }
        if user != self.owner && user != 0 {
            return reply.error(Errno::EPERM);
        }
        if command == STATUS_CODE {
            match self.perform(call, |volume| Ok(volume.status())) {
                Ok(volume) => reply.ioctl(0, &pack_status(self.status(volume))),
                Err(errno) => reply.error(errno),
            }
        } else if command == PUBLISH_CODE {
            answer_apart(self.volume.clone(), "publishing", reply, |volume| Ok(Published::by(volume)));
        } else {
            let request = content(input).map(<[u8]>::to_vec);
            answer_apart(self.volume.clone(), "a question about keys", reply, move |volume| {
                KeyRequest::answer(request.as_deref(), volume)
            });
        }
    }

    fn status(&self, volume: VolumeStatus) -> DaemonStatus {
        DaemonStatus {
            pid: std::process::id(),
            vault_folder: self.daemon.vault_folder.clone(),
            mountpoint: self.daemon.mountpoint.clone(),
            volume,
        }
    }
}

/// Does what takes its time on a thread of its own, which replies: the reader thread goes on at once.
fn answer_apart<T: Serialize>(
    volume: Arc<Volume>,
    what: &'static str,
    reply: ReplyIoctl,
    work: impl FnOnce(&Volume) -> Result<T, String> + Send + 'static,
) {
    let answer = move || {
        let result = catch_unwind(AssertUnwindSafe(|| work(&volume)))
            .unwrap_or_else(|_| Err(format!("{what} panicked; the daemon's log has more")));
        if let Err(message) = &result {
            log::error!("{what} on request: {message}");
        }
        reply.ioctl(0, &pack(&result));
    };
    if let Err(error) = std::thread::Builder::new().name("publish".into()).spawn(answer) {
        // The reply went down with the closure, which answers EIO.
        log::error!("no thread for {what} on request: {error}");
    }
}

/// An answer that holds `result`; an error text too long for one is cut.
fn pack<T: Serialize>(result: &Result<T, String>) -> Vec<u8> {
    let room = ANSWER_BYTES_MAX - LENGTH_BYTES;
    let json = match serde_json::to_vec(result) {
        Ok(json) if json.len() <= room => json,
        _ => match result {
            Ok(_) => br#"{"Err":"the answer is too long"}"#.to_vec(),
            // A character is at most six bytes in JSON.
            Err(message) => {
                let cut: Result<(), String> = Err(message.chars().take(room / 6 - 2).collect());
                serde_json::to_vec(&cut).unwrap_or_default()
            }
        },
    };
    let mut answer = (json.len() as u32).to_le_bytes().to_vec();
    answer.extend_from_slice(&json);
    answer
}

fn json_bytes(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX / 2, |json| json.len())
}

/// The same for a status, which leaves out warnings that do not fit. Each is encoded once.
fn pack_status(mut status: DaemonStatus) -> Vec<u8> {
    let warnings = std::mem::take(&mut status.volume.warnings);
    let note = |left_out: usize| format!("{left_out} more warnings are in the log");
    let mut room = ANSWER_BYTES_MAX - LENGTH_BYTES;
    room = room.saturating_sub(json_bytes(&Ok::<_, String>(&status)));
    // A comma follows each but the last, which has none or is the note.
    let all: usize = warnings.iter().map(|warning| json_bytes(warning) + 1).sum();
    let note_bytes = if all <= room { 0 } else { json_bytes(&note(warnings.len())) + 1 };
    let mut count = 0;
    for warning in &warnings {
        let bytes = json_bytes(warning) + 1;
        if bytes + note_bytes > room {
            break;
        }
        room -= bytes;
        count += 1;
    }
    let left_out = warnings.len() - count;
    status.volume.warnings = warnings;
    status.volume.warnings.truncate(count);
    status.volume.warnings.extend((left_out > 0).then(|| note(left_out)));
    pack(&Ok(status))
}

fn unpack<T: DeserializeOwned>(answer: &Answer) -> Option<Result<T, String>> {
    serde_json::from_slice(content(answer)?).ok()
}

/// The JSON in a request or an answer.
fn content(packed: &[u8]) -> Option<&[u8]> {
    let (length, rest) = packed.split_first_chunk::<LENGTH_BYTES>()?;
    rest.get(..u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn status(warnings: Vec<String>) -> DaemonStatus {
        let volume = VolumeStatus {
            vault: "ab".repeat(16),
            device: "cd".repeat(8),
            published_commit: 7,
            published_seconds: -1,
            vault_key_since_seconds: Some(1_800_000_000),
            dirty_bytes: u64::MAX,
            unpublished_items: 0,
            read_only: Some("the folder is older than what this device has seen".into()),
            forked: None,
            warnings,
            awaited_segments: 0,
        };
        let vault_folder = PathBuf::from(OsString::from_vec(b"/not \xff text".to_vec()));
        DaemonStatus { pid: 1, vault_folder, mountpoint: "/mnt".into(), volume }
    }

    fn received(packed: &[u8]) -> Answer {
        let mut answer = [0; ANSWER_BYTES_MAX];
        answer[..packed.len()].copy_from_slice(packed);
        answer
    }

    #[test]
    fn a_status_arrives_as_it_was_sent_even_with_paths_that_are_no_text() {
        let sent = status(vec!["a \"warning\"".into()]);
        assert_eq!(unpack(&received(&pack_status(sent.clone()))), Some(Ok(sent)));
    }

    #[test]
    fn a_status_with_too_many_warnings_says_how_many_it_leaves_out() {
        let warnings: Vec<_> = (0..5_000).map(|number| format!("{number} {}", "é\n".repeat(50))).collect();
        let began = std::time::Instant::now();
        let packed = pack_status(status(warnings.clone()));
        assert!(began.elapsed() < std::time::Duration::from_secs(1), "each warning is encoded once");
        let arrived: DaemonStatus = unpack(&received(&packed)).expect("an answer").expect("a status");
        let (note, kept) = arrived.volume.warnings.split_last().expect("a note");
        assert_eq!(kept, &warnings[..kept.len()]);
        assert_eq!(*note, format!("{} more warnings are in the log", warnings.len() - kept.len()));
        assert!(!kept.is_empty());
    }

    #[test]
    fn an_error_text_arrives_and_is_cut_where_it_is_too_long() {
        let long: String = "\u{1}".repeat(20_000);
        for text in ["the folder is full", &long] {
            let arrived = unpack::<()>(&received(&pack::<()>(&Err(text.to_owned()))));
            let message = arrived.expect("an answer").expect_err("an error");
            assert!(text.starts_with(&message) && message.len() >= text.len().min(1000), "{}", message.len());
        }
    }

    #[test]
    fn an_answer_that_is_none_is_refused() {
        assert_eq!(unpack::<()>(&[0; ANSWER_BYTES_MAX]), None);
        assert_eq!(unpack::<()>(&[0xff; ANSWER_BYTES_MAX]), None);
    }

    #[test]
    fn a_folder_that_is_no_mount_is_not_asked() {
        let refused = request_status(&std::env::temp_dir());
        assert!(matches!(refused, Err(ControlError::NotPasskeyfs { .. })), "{refused:?}");
    }
}
