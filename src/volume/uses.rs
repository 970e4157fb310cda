//! The end of inodes: what happens when the last name goes, and when the last use does.

use super::{Result, Volume};
use crate::format::{InodeNumber, Key, KeyKind};
use crate::state::edit::Edit;

impl Volume {
    /// Gives back `references` that name-giving operations took: the kernel forgets the inode.
    pub fn forget(&self, inode: InodeNumber, references: u64) {
        let last = self.layers.refs.lock().release(inode, references, 0);
        if last {
            self.purge(inode);
        }
    }

    /// Counts an open handle: an unlinked inode lives until the last is closed.
    pub fn open_file(&self, inode: InodeNumber) -> Result<()> {
        let guard = self.layers.view();
        guard.view().attributes(inode)?;
        self.layers.refs.lock().open(inode);
        Ok(())
    }

    /// The same for a file that was just created: the caller holds the state.
    pub(super) fn open_created(&self, inode: InodeNumber) {
        self.layers.refs.lock().open(inode);
    }

    /// Closes a handle.
    pub fn close_file(&self, inode: InodeNumber) {
        let last = self.layers.refs.lock().release(inode, 0, 1);
        if last {
            self.purge(inode);
        }
    }

    /// Called when an inode has lost its last name: it goes now, or when its last use does. Nothing may fail between this and
    /// [`Edit::apply`].
    pub(super) fn drop_nameless(&self, edit: &mut Edit<'_>, inode: InodeNumber) {
        if self.layers.refs.lock().unlink(inode) {
            // A crash from here on leaves the orphan item, and the next mount removes the inode.
            edit.put(Key::new(InodeNumber::VAULT, KeyKind::Orphan, inode.0), Vec::new());
        } else {
            remove_inode(edit, inode);
        }
    }

    /// The session is over: what the kernel has not given back is used no more.
    pub(super) fn end_uses(&self) {
        let nameless = self.layers.refs.lock().end();
        self.layers.write().note_orphans(nameless);
    }

    /// Removes the inodes that were left to the next commit.
    pub(super) fn remove_orphans(&self) -> Result<()> {
        let key = |inode: InodeNumber| Key::new(InodeNumber::VAULT, KeyKind::Orphan, inode.0);
        loop {
            let next = self.layers.read().orphans.last().copied();
            let Some(inode) = next else { return Ok(()) };
            let is_orphan = self.layers.view().view().get(key(inode))?.is_some();
            let mut guard = self.layers.edit();
            let mut edit = guard.begin_edit();
            edit.state.orphans.retain(|one| *one != inode);
            edit.state.inode_count += 1;
            if is_orphan {
                edit.remove(key(inode));
                remove_inode(&mut edit, inode);
            }
            edit.apply();
        }
    }

    fn purge(&self, inode: InodeNumber) {
        let mut guard = self.layers.edit();
        if self.layers.refs.lock().is_used(inode) {
            return;
        }
        // Another device has removed it, or nothing more is published: then the next mount removes what has no name.
        if guard.state.foreign.left_behind.remove(&inode).is_some() || guard.state.read_only.is_some() {
            return;
        }
        // It is no reason to write: another device may have published, and this would be beside it.
        let is_clean = guard.state.current.is_empty() && guard.state.frozen.is_none();
        if is_clean || guard.state.foreign.held.is_some() {
            return guard.state.note_orphans(vec![inode]);
        }
        let mut edit = guard.begin_edit();
        edit.remove(Key::new(InodeNumber::VAULT, KeyKind::Orphan, inode.0));
        remove_inode(&mut edit, inode);
        edit.apply();
    }
}

/// Removes all that belongs to an inode, its content included.
fn remove_inode(edit: &mut Edit<'_>, inode: InodeNumber) {
    edit.remove_range(Key::first_of(inode), Key::last_of(inode));
    edit.remove_dirty(inode, 0, u64::MAX);
    edit.count_inodes(-1);
}
