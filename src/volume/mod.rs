//! The filesystem: inodes, directories, files, transactions. Knows no FUSE.
//!
//! Where to look (what lies in memory is in [`state`](crate::state), what is on its way to the disk in
//! [`writeback`](crate::writeback)):
//! - names and directories: [`names`], [`rename`], [`directory`]; attributes and ACLs: [`attributes`], [`xattr`], [`acl`]
//! - content: [`content`] (read, write), [`ranges`] (truncate, punch, seek), [`copy`] (clone); the end of inodes: [`uses`]
//! - keys: [`slots`] (slots added and removed, the vault key rotated), [`key_change`] (what can become of that),
//!   [`followers`] (which slots a rotation is for), [`revived_keys`] (what an older folder that is accepted must not bring back)
//! - commits: [`publish`], [`background`] (when); room on the disks: [`space`]
//! - mounting: [`open`], [`opening`] and [`settle`], [`newest`] (which commit), [`passed_over`] (what of the folder is of no
//!   use), [`unopened`] (what nobody here can read), [`heads`] (of several, and their names), [`unpublished`] (what only
//!   the journal holds, and on which commit it belongs), [`replay`], [`given_up`] (what stays of heads that the user gives up)
//! - other devices while it is open: [`look`] (what they have published), [`follow`] (going on from that)
//!
//! How a write travels: `mount/adapter/filesystem.rs` → [`Volume::write`] puts pieces into the current generation's dirty
//! data → `writeback/flush.rs` encrypts a block into a data segment and puts the pointer into the overlay → [`publish`] writes
//! the overlay into the tree and the commit into a meta segment. `fsync` goes through `writeback/journal_writer.rs` and waits
//! for neither.
//!
//! Locks, in the order in which they are taken: publisher, finishing, syncing, journal, flushing, data segments, state, inode
//! references. I/O happens under the first six only, and no sync under the sixth; but an operation reads under the state lock
//! the tree nodes that say what it is about (entries, attributes, extents), and waits there for the disk where they are in no
//! cache. Nothing else does: folders are listed and synced, disks asked and the segment table read without it.

mod acl;
mod attributes;
mod background;
mod content;
mod copy;
mod directory;
mod follow;
mod followers;
mod given_up;
mod heads;
mod key_change;
mod look;
mod names;
mod newest;
mod open;
mod open_error;
mod opening;
mod passed_over;
mod publish;
mod ranges;
mod rename;
mod replay;
mod revived_keys;
mod settle;
mod slots;
mod space;
mod unopened;
mod unpublished;
mod uses;
mod xattr;

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

pub use crate::state::budget::WaitHook;
pub use crate::state::error::{Result, VolumeError};
pub use crate::state::reason::Reason;
pub use crate::state::types::*;
pub use attributes::SetIdHook;
pub(crate) use directory::back_reference_key;
pub use follow::{FollowHook, Followed, Stale};
pub use heads::DEVICE_DIGITS_MIN;
pub use key_change::{KeyChange, KeyChanged, SlotError, ValidSlot};
pub use newest::{ReadOnlyCause, find_heads, known_keys};
pub use open::{Environment, OpenKeys, VolumeOptions};
pub use open_error::OpenError;
pub use slots::{UsedSlot, check_used_slot};
pub use space::reserve_bytes;

use crate::format::{InodeNumber, VaultFile};
use crate::segments::Segments;
use crate::state::layers::{EditGuard, Layers};
use crate::writeback::data_segments::DataSegments;
use crate::writeback::flush::BlockFlusher;
use crate::writeback::journal_writer::JournalWriter;

/// An open vault.
pub struct Volume {
    layers: Arc<Layers>,
    environment: Environment,
    options: VolumeOptions,
    segments: Arc<Segments>,
    data: Arc<DataSegments>,
    flusher: Arc<BlockFlusher>,
    journal: Arc<JournalWriter>,
    publisher: Mutex<publish::Publisher>,
    room: space::RoomEstimate,
    set_id_hook: OnceLock<SetIdHook>,
    follower: look::Follower,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    vault: VaultFile,
    can_be_accepted: bool,
    cause: Option<ReadOnlyCause>,
}

impl Volume {
    /// Locks the state for an operation that changes something. Waits for memory and checks for room first.
    fn change(&self) -> Result<EditGuard<'_>> {
        self.wait_for_memory()?;
        self.check_room(0)?;
        self.change_at_once()
    }

    /// The same for a change that removes something. It waits for memory while that can be had: a full disk, from which
    /// nothing can be published, must not keep anyone from making room.
    fn change_that_removes(&self) -> Result<EditGuard<'_>> {
        if let Err(error) = self.wait_for_memory() {
            log::debug!("something is removed though memory is short: {error}");
        }
        self.change_at_once()
    }

    /// The same for a change that is too small to matter.
    fn change_at_once(&self) -> Result<EditGuard<'_>> {
        let follows = self.follower.follows.load(Ordering::Relaxed);
        self.look_before_change();
        let mut guard = self.layers.edit();
        let followed_since = self.follower.follows.load(Ordering::Relaxed) != follows;
        guard.is_behind = followed_since || guard.state.foreign.is_kernel_behind;
        match guard.state.read_only.as_ref().or(guard.state.foreign.held.as_ref()) {
            Some(reason) => Err(VolumeError::ReadOnly(reason.clone())),
            None => Ok(guard),
        }
    }

    /// Makes all changes so far durable: the file's, and all that came before them. Durable on return.
    ///
    /// # Errors
    /// Also when no more changes are taken and what was changed before is not durable: the caller of `fsync` must know.
    pub fn sync_file(&self, _inode: InodeNumber) -> Result<()> {
        self.journal.sync_for_program()
    }

    /// A file was closed that may have been written to: what was written outlives this process, at once or in a moment.
    pub fn flush_file(&self) {
        self.journal.note_close();
    }

    /// Takes no more changes from here on, and says why. What is there can still be read.
    pub fn stop_changes(&self, reason: String) {
        self.layers.stop_changes(reason);
    }
}
