//! What a command and a daemon exchange: the codes of the ioctls, and how a request or an answer lies in them.
//!
//! The ioctl is made on the root directory of the mount. It needs no socket, no pid file and no path but the mount point,
//! ends with the mount, and the kernel itself names the requesting user.
//!
//! ```text
//! code    _IOR(0xB4, request, 8192)        request: 1 status, 2 publish
//!         _IOWR(0xB4, 3, 8192)             the slots, and a change of them; the request stands where the answer goes
//! answer  length u32 LE | JSON of that length: {"Ok": value} or {"Err": "what went wrong"}
//! ```
//!
//! The size of a restricted ioctl has 14 bits, so an answer is at most 8192 bytes; a status with more warnings than fit
//! says how many it leaves out.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::daemon::DaemonStatus;

/// Room for an answer.
pub(super) const ANSWER_BYTES_MAX: usize = 8192;

/// What precedes the JSON in an answer.
pub(super) const LENGTH_BYTES: usize = 4;

/// Marks our ioctls; free in the kernel's list of them.
pub(super) const IOCTL_TYPE: u8 = 0xB4;

pub(super) const STATUS_NUMBER: u8 = 1;
pub(super) const PUBLISH_NUMBER: u8 = 2;
pub(super) const KEYS_NUMBER: u8 = 3;

// The kernel hands the code on as 32 bits, which is all that it has.
pub(super) const STATUS_CODE: u32 = nix::request_code_read!(IOCTL_TYPE, STATUS_NUMBER, ANSWER_BYTES_MAX) as u32;
pub(super) const PUBLISH_CODE: u32 = nix::request_code_read!(IOCTL_TYPE, PUBLISH_NUMBER, ANSWER_BYTES_MAX) as u32;
pub(super) const KEYS_CODE: u32 = nix::request_code_readwrite!(IOCTL_TYPE, KEYS_NUMBER, ANSWER_BYTES_MAX) as u32;

/// A request or an answer.
pub(super) type Answer = [u8; ANSWER_BYTES_MAX];

/// An answer that holds `result`; an error text too long for one is cut.
pub(super) fn pack<T: Serialize>(result: &Result<T, String>) -> Vec<u8> {
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
pub(super) fn pack_status(mut status: DaemonStatus) -> Vec<u8> {
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

/// The result that an answer holds; none if it is malformed.
pub(super) fn unpack<T: DeserializeOwned>(answer: &Answer) -> Option<Result<T, String>> {
    serde_json::from_slice(content(answer)?).ok()
}

/// The JSON in a request or an answer.
pub(super) fn content(packed: &[u8]) -> Option<&[u8]> {
    let (length, rest) = packed.split_first_chunk::<LENGTH_BYTES>()?;
    rest.get(..u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    use std::path::PathBuf;

    use super::*;
    use crate::volume::VolumeStatus;

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
}
