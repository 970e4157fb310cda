//! The daemon's side: answers the ioctls on the root directory of its mount.
//!
//! Only the user who mounted, and root (as that user: `as_owner.rs`), are answered. A publish and a change of keys may take
//! long, so they run on a thread of their own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use fuser::{Errno, INodeNo, ReplyIoctl};
use serde::Serialize;

use super::daemon::DaemonStatus;
use super::key_request::KeyRequest;
use super::protocol::{KEYS_CODE, PUBLISH_CODE, STATUS_CODE, content, pack, pack_status};
use super::published::Published;
use crate::mount::adapter::{Adapter, Call};
use crate::volume::{Volume, VolumeStatus};

impl Adapter {
    /// Answers an ioctl of `user` on `inode`.
    pub(in crate::mount) fn answer_control(
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
        if let Some(vigil) = &self.vigil {
            vigil.leave();
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

/// Does `work`, which may take long, on a thread of its own, which replies: the reader thread goes on at once.
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
        // Dropping the closure dropped the reply, which answers EIO.
        log::error!("no thread for {what} on request: {error}");
    }
}
