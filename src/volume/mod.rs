//! The filesystem: inodes, directories, files, transactions. Knows no FUSE.
//!
//! Where to look:
//! - names and directories: [`names`], [`rename`], [`directory`]; attributes and ACLs: [`attributes`], [`xattr`], [`acl`]
//! - content: [`content`] (read, write), [`ranges`] (truncate, punch, seek), [`reserved`] (reserve), [`copy`] (clone)
//! - the state in memory: [`state`] (generations, views, edits), [`pending`] (an operation's changes), [`overlay`], [`dirty`],
//!   [`uses`], [`inode_numbers`]
//! - keys: [`slots`] (slots added and removed, the vault key rotated, `keys/` kept as the tree says), [`key_change`] (what
//!   can become of that), [`followers`] (which slots a rotation is for), [`revived_keys`] (what an older folder that is
//!   accepted must not bring back)
//! - on its way to the disk: [`flush`] (dirty blocks into segments), [`data_segments`] (those segments, also when a disk
//!   fails), [`journaling`] and [`journal_state`] (fsync, and what outlives the process), [`publish`] (commits), [`flusher`],
//!   [`journal_thread`] and [`background`] (when)
//! - errors: [`error`], [`open_error`], [`reason`] (words and their cause)
//! - mounting: [`open`] and [`opening`], [`newest`] (which commit), [`passed_over`] (what of the folder is of no use),
//!   [`unopened`] (of it nobody here can read), [`heads`] (of several, and their names), [`unpublished`] (what only the
//!   journal holds, and on which commit it belongs) and [`replay`]
//!   [`given_up`] (what stays of heads that the user gives up)
//! - other devices while it is open: [`look`] (what they have published), [`follow`] (going on from that), [`foreign`]
//!
//! How a write travels: `mount::adapter` → [`Volume::write`] puts pieces into the current generation's dirty data →
//! `flush` encrypts a block into a data segment and puts the pointer into the overlay → `publish` writes the overlay into
//! the tree and the commit into a meta segment. `fsync` goes through `journaling` and waits for neither.
//!
//! Locks, in the order in which they are taken: publisher, finishing, syncing, journal, flushing, data segments, state, uses. I/O
//! happens under the first six only (and no sync under the sixth), but for tree nodes that are not cached: an operation reads under the state lock the nodes that
//! say what it is about (entries, attributes, extents), and waits there for the disk where they are in no cache. Nothing
//! else does: folders are listed and synced, disks asked and the segment table read without it.

mod acl;
mod attributes;
mod background;
mod content;
mod copy;
mod data_segments;
mod directory;
mod flush;
mod flusher;
mod follow;
mod followers;
mod given_up;
mod heads;
mod journal_state;
mod journal_thread;
mod journaling;
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
use std::time::{Duration, UNIX_EPOCH};

use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

pub use crate::state::error::{Result, VolumeError};
pub use crate::state::reason::Reason;
pub use crate::state::types::*;
pub use attributes::SetIdHook;
pub use background::WaitHook;
pub(crate) use directory::back_reference_key;
pub use follow::{FollowHook, Followed, Stale};
pub use heads::DEVICE_DIGITS_MIN;
pub use key_change::{KeyChange, KeyChanged, SlotError, ValidSlot};
pub use newest::{ReadOnlyCause, find_heads, known_keys};
pub use open::{Environment, OpenKeys, VolumeOptions};
pub use open_error::OpenError;
pub use slots::{UsedSlot, check_used_slot};
pub use space::reserve_bytes;

use crate::format::VaultFile;
use crate::format::items::TimeRecord;
use crate::segments::Segments;
use crate::state::edit::Edit;
use crate::state::generation::{Context, State};
use crate::state::pending::Pending;
use crate::state::refcounts::Uses;
use crate::state::view::{Asker, View};

/// How many warnings `status` shows: the newest.
const WARNINGS_MAX: usize = 100;

/// An open vault.
pub struct Volume {
    context: Context,
    environment: Environment,
    options: VolumeOptions,
    segments: Arc<Segments>,
    state: RwLock<State>,
    uses: Mutex<Uses>,
    /// Held while a block is flushed: two threads would append it twice.
    flushing: Mutex<()>,
    /// Held while full data segments are finished.
    finishing: Mutex<()>,
    data_segments: Mutex<data_segments::DataSegments>,
    /// Held while the journal is synced.
    syncing: Mutex<()>,
    journal: Mutex<journal_state::JournalState>,
    journal_alarm: journal_thread::JournalAlarm,
    publisher: Mutex<publish::Publisher>,
    pressure: background::Pressure,
    set_id_hook: OnceLock<SetIdHook>,
    follower: look::Follower,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
    warnings: Mutex<Vec<String>>,
    vault: VaultFile,
    can_be_accepted: bool,
    cause: Option<ReadOnlyCause>,
}

/// The state, locked for looking.
struct ViewGuard<'a> {
    state: RwLockReadGuard<'a, State>,
    context: &'a Context,
}

impl ViewGuard<'_> {
    fn view(&self) -> View<'_> {
        View { state: &self.state, context: self.context, below_current: false, asker: Asker::Reader, pending: None }
    }
}

/// The state, locked for one change.
struct EditGuard<'a> {
    state: RwLockWriteGuard<'a, State>,
    context: &'a Context,
    now: TimeRecord,
    monotonic: Duration,
    is_behind: bool,
}

impl EditGuard<'_> {
    fn view(&self) -> View<'_> {
        let asker = Asker::Writer { is_behind: self.is_behind };
        View { state: &self.state, context: self.context, below_current: false, asker, pending: None }
    }

    /// Begins to gather changes, which take effect with [`Edit::apply`].
    fn begin_edit(&mut self) -> Edit<'_> {
        let Self { context, now, monotonic, is_behind, .. } = *self;
        Edit { state: &mut self.state, context, now, monotonic, is_behind, pending: Pending::new() }
    }
}

impl Volume {
    fn view(&self) -> ViewGuard<'_> {
        ViewGuard { state: self.state.read(), context: &self.context }
    }

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
        let mut guard = self.edit_guard();
        let followed_since = self.follower.follows.load(Ordering::Relaxed) != follows;
        guard.is_behind = followed_since || guard.state.foreign.is_kernel_behind;
        match guard.state.read_only.as_ref().or(guard.state.foreign.held.as_ref()) {
            Some(reason) => Err(VolumeError::ReadOnly(reason.clone())),
            None => Ok(guard),
        }
    }

    fn edit_guard(&self) -> EditGuard<'_> {
        let now = self.now();
        let monotonic = self.environment.clock.monotonic();
        EditGuard { state: self.state.write(), context: &self.context, now, monotonic, is_behind: false }
    }

    fn now(&self) -> TimeRecord {
        let now = self.environment.clock.now();
        match now.duration_since(UNIX_EPOCH) {
            Ok(since) => TimeRecord { seconds: since.as_secs() as i64, nanoseconds: since.subsec_nanos() },
            Err(_) => TimeRecord::default(),
        }
    }

    /// Notes something that a person should see in `status`.
    fn warn(&self, warning: String) {
        log::warn!("{warning}");
        let mut warnings = self.warnings.lock();
        if !warnings.contains(&warning) {
            // The log has them all.
            if warnings.len() == WARNINGS_MAX {
                warnings.remove(0);
            }
            warnings.push(warning);
        }
    }
}
