//! Files that say that they are commits which cannot be read here, and whether to write beside them.
//!
//! One may be a newer commit: what is written beside it under the old vault key every device will pass over. Or anybody may have
//! put it there, to keep this device from writing. Nobody can tell, so a person decides, and not by the option that is for older
//! folders: who names the head to go on with (`head` with `accept_rollback`) sets aside the files that are there then, and no
//! later ones.

use std::collections::BTreeSet;

use super::VolumeOptions;
use super::heads::newest_of;
use crate::history::{AcceptedHeads, DeviceState, Head, SET_ASIDE_MAX, UnopenedCommit, WhyUnopened};

/// What becomes of such files.
pub(super) enum Unopened {
    /// There is none, or all were set aside before.
    None,
    /// They are set aside now, with those that were before and are still there: all of these.
    SetAside(BTreeSet<String>),
    /// Nothing may be written, for this reason; `newer`: where it is that a newer version has written.
    Shut { reason: String, newer: Option<String> },
}

impl Unopened {
    pub fn judge(accepted: &AcceptedHeads, own: &DeviceState, options: &VolumeOptions) -> Self {
        let heads = &accepted.heads;
        let left: Vec<&UnopenedCommit> = heads.unopened_for(Some(own)).collect();
        let Some(first) = left.first() else { return Self::None };
        let count = heads.unopened.len();
        if names_the_head(options) && count <= SET_ASIDE_MAX {
            return Self::SetAside(heads.unopened.iter().map(|commit| commit.file.name.clone()).collect());
        }
        let next = match (count <= SET_ASIDE_MAX, newest_head(accepted)) {
            (false, _) => format!("there are {count} such files; no device has made so many: delete them"),
            (_, None) => "if no device of yours wrote it, delete the file".into(),
            (_, Some(head)) => format!(
                "if no device of yours wrote it, delete the file, or go on without it with -o head={},accept-rollback",
                head.device
            ),
        };
        let newer = left.iter().find(|commit| commit.is_newer());
        let newer = newer.map(|commit| format!("{commit}; {next}"));
        Self::Shut { reason: newer.clone().unwrap_or_else(|| format!("{first}; {next}")), newer }
    }
}

fn names_the_head(options: &VolumeOptions) -> bool {
    options.head.is_some() && options.accept_rollback
}

/// The head to go on with, for who does not know one.
fn newest_head(accepted: &AcceptedHeads) -> Option<Head> {
    let heads: Vec<Head> = accepted.uncovered().into_iter().cloned().collect();
    newest_of(&heads).cloned()
}

/// Why an open volume may not publish, for such a file that has come.
pub(super) fn shut_in_words(commit: &UnopenedCommit) -> String {
    let next = "unmount, and mount again, which says what to do where no device of yours wrote that";
    match &commit.why {
        WhyUnopened::Newer(_) | WhyUnopened::Features { .. } => {
            format!("a newer version of passkeyfs has written here: {commit}: {next}")
        }
        WhyUnopened::Epoch(epoch) => format!(
            "device {} has replaced the vault key (epoch {epoch}), and it is not open here (file {}): {next}",
            commit.device, commit.file.name
        ),
    }
}
