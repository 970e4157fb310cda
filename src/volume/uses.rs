//! Who uses an inode: the kernel's references and open handles. An inode without a name lives as long as one is left.

use std::collections::{BTreeSet, HashMap};

use super::state::Edit;
use super::{Result, Volume};
use crate::format::{InodeNumber, Key, KeyKind};
use crate::tree::Root;

/// Uses of one inode. Small: the kernel may know a million inodes.
#[derive(Debug, Default, Clone)]
struct Use {
    references: u64,
    handles: u32,
    /// It lost its last name; its orphan item stands.
    unlinked: bool,
}

/// Uses of all inodes that have any.
#[derive(Debug, Default)]
pub(super) struct Uses {
    uses: HashMap<InodeNumber, Use>,
    /// The tree that still holds the extents a truncation took away: a rewrite of the file is compared with them.
    compared: HashMap<InodeNumber, Root>,
}

impl Uses {
    pub fn reference(&mut self, inode: InodeNumber) {
        self.uses.entry(inode).or_default().references += 1;
    }

    fn open(&mut self, inode: InodeNumber) {
        self.uses.entry(inode).or_default().handles += 1;
    }

    pub fn is_used(&self, inode: InodeNumber) -> bool {
        self.uses.get(&inode).is_some_and(|uses| uses.references > 0 || uses.handles > 0)
    }

    /// Notes that an inode in use lost its last name; false where it is not in use.
    fn unlink(&mut self, inode: InodeNumber) -> bool {
        let used = self.is_used(inode);
        if let Some(uses) = self.uses.get_mut(&inode) {
            uses.unlinked = true;
        }
        used
    }

    /// Gives uses back; true when the last is gone of an inode that has no name.
    fn release(&mut self, inode: InodeNumber, references: u64, handles: u32) -> bool {
        let Some(uses) = self.uses.get_mut(&inode) else { return false };
        uses.references = uses.references.saturating_sub(references);
        uses.handles = uses.handles.saturating_sub(handles);
        if uses.references > 0 || uses.handles > 0 {
            return false;
        }
        self.uses.remove(&inode).is_some_and(|uses| uses.unlinked)
    }

    /// Ends all uses: nobody is left who could give them back. Answers the inodes that have no name.
    fn end(&mut self) -> Vec<InodeNumber> {
        let ended = std::mem::take(&mut self.uses);
        ended.into_iter().filter(|(_, uses)| uses.unlinked).map(|(inode, _)| inode).collect()
    }

    /// Keeps `root` to compare a rewrite of the file with, unless an older one is kept already.
    pub fn keep_compare(&mut self, inode: InodeNumber, root: Root) {
        self.compared.entry(inode).or_insert(root);
    }

    pub fn compare(&self, inode: InodeNumber) -> Option<Root> {
        self.compared.get(&inode).copied()
    }

    /// The inodes that something hangs on beyond the kernel's references: those that are open, and those without a name.
    pub fn in_question(&self) -> BTreeSet<InodeNumber> {
        let is_one = |uses: &Use| uses.handles > 0 || uses.unlinked;
        self.uses.iter().filter(|(_, uses)| is_one(uses)).map(|(inode, _)| *inode).collect()
    }

    /// Whether an inode has an open handle.
    pub fn is_open(&self, inode: InodeNumber) -> bool {
        self.uses.get(&inode).is_some_and(|uses| uses.handles > 0)
    }

    /// All inodes in use.
    pub fn all(&self) -> Vec<InodeNumber> {
        self.uses.keys().copied().collect()
    }

    /// The tree that is followed lacks an inode. True where it is open: then its last use ends what is left of it. Where it
    /// is not, nothing is left that could be removed.
    pub fn leave_behind(&mut self, inode: InodeNumber) -> bool {
        let Some(uses) = self.uses.get_mut(&inode) else { return false };
        uses.unlinked = uses.handles > 0;
        uses.unlinked
    }

    /// Another tree was followed: nothing that a truncation took away is in it for certain.
    pub fn drop_all_compares(&mut self) {
        self.compared.clear();
    }

    /// After a commit: files that no one has open are not being rewritten.
    pub fn drop_compares(&mut self) {
        let uses = &self.uses;
        self.compared.retain(|inode, _| uses.get(inode).is_some_and(|uses| uses.handles > 0));
    }
}

impl Volume {
    /// Gives back `references` that name-giving operations took: the kernel forgets the inode.
    pub fn forget(&self, inode: InodeNumber, references: u64) {
        let last = self.uses.lock().release(inode, references, 0);
        if last {
            self.purge(inode);
        }
    }

    /// Counts an open handle: an unlinked inode lives until the last is closed.
    pub fn open_file(&self, inode: InodeNumber) -> Result<()> {
        let guard = self.view();
        guard.view().attributes(inode)?;
        self.uses.lock().open(inode);
        Ok(())
    }

    /// The same for a file that was just created: the caller holds the state.
    pub(super) fn open_created(&self, inode: InodeNumber) {
        self.uses.lock().open(inode);
    }

    /// Closes a handle.
    pub fn close_file(&self, inode: InodeNumber) {
        let last = self.uses.lock().release(inode, 0, 1);
        if last {
            self.purge(inode);
        }
    }

    /// Called when an inode has lost its last name: it goes now, or when its last use does. Nothing may fail between this and
    /// [`Edit::apply`].
    pub(super) fn drop_nameless(&self, edit: &mut Edit<'_>, inode: InodeNumber) {
        if self.uses.lock().unlink(inode) {
            // A crash from here on leaves the orphan item, and the next mount removes the inode.
            edit.put(Key::new(InodeNumber::VAULT, KeyKind::Orphan, inode.0), Vec::new());
        } else {
            remove_inode(edit, inode);
        }
    }

    /// The session is over: what the kernel has not given back is used no more.
    pub(super) fn end_uses(&self) {
        let nameless = self.uses.lock().end();
        self.state.write().note_orphans(nameless);
    }

    /// Removes the inodes that were left to the next commit.
    pub(super) fn remove_orphans(&self) -> Result<()> {
        let key = |inode: InodeNumber| Key::new(InodeNumber::VAULT, KeyKind::Orphan, inode.0);
        loop {
            let next = self.state.read().orphans.last().copied();
            let Some(inode) = next else { return Ok(()) };
            let is_orphan = self.view().view().get(key(inode))?.is_some();
            let mut guard = self.edit_guard();
            let mut edit = guard.begin_edit();
            edit.state.orphans.retain(|one| *one != inode);
            edit.state.inode_count += 1;
            if is_orphan {
                edit.remove(key(inode));
                remove_inode(&mut edit, inode);
            }
            edit.apply();
            self.note_memory(&guard.state);
        }
    }

    fn purge(&self, inode: InodeNumber) {
        let mut guard = self.edit_guard();
        if self.uses.lock().is_used(inode) {
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
        self.note_memory(&guard.state);
    }
}

/// Removes all that belongs to an inode, its content included.
fn remove_inode(edit: &mut Edit<'_>, inode: InodeNumber) {
    edit.remove_range(Key::first_of(inode), Key::last_of(inode));
    edit.remove_dirty(inode, 0, u64::MAX);
    edit.count_inodes(-1);
}
