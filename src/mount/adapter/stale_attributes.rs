//! Tells the kernel that the attributes it holds of an inode are no longer right.
//!
//! The kernel holds attributes for a minute ([`super::answer::VALIDITY`]) and forgets by itself what its own requests
//! change: size and times after a write. It does not forget the mode, which a write, `fallocate` or `copy_file_range`
//! changes where it drops set-id bits, and it does not know of access times. A set-id program that somebody has just
//! changed would go on running as its owner.
//!
//! Promises: [`StaleAttributes::tell`] takes no lock of ours and waits for no request, so it may be called by a thread
//! that serves one, and is called before the reply: whoever asks after the reply sees the new attributes. An answer to an
//! older request that is still under way does not bring the old ones back (the kernel counts versions).

use std::sync::OnceLock;

use fuser::{INodeNo, Notifier};

use crate::format::InodeNumber;

/// The way to the kernel, once the connection stands.
#[derive(Debug, Default)]
pub(in crate::mount) struct StaleAttributes(OnceLock<Notifier>);

impl StaleAttributes {
    /// Sets the connection. Before that the kernel has no attributes.
    pub(in crate::mount) fn connect(&self, notifier: Notifier) {
        self.0.set(notifier).ok();
    }

    /// Has the kernel ask for the attributes of `inode` when it needs them next. Its content stays cached.
    pub(super) fn tell(&self, inode: InodeNumber) {
        let Some(notifier) = self.0.get() else { return };
        // An offset below zero: attributes alone.
        if let Err(error) = notifier.inval_inode(INodeNo(inode.0), -1, 0) {
            log::error!("the kernel could not be told that inode {inode} has other attributes: {error}");
        }
    }
}
