//! Who uses an inode: the kernel's references and open handles. An inode without a name lives as long as one is left.

use std::collections::{BTreeSet, HashMap};

use crate::format::InodeNumber;
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
pub(crate) struct InodeRefs {
    uses: HashMap<InodeNumber, Use>,
    /// The tree that still holds the extents a truncation took away: a rewrite of the file is compared with them.
    compared: HashMap<InodeNumber, Root>,
}

impl InodeRefs {
    pub fn reference(&mut self, inode: InodeNumber) {
        self.uses.entry(inode).or_default().references += 1;
    }

    pub fn open(&mut self, inode: InodeNumber) {
        self.uses.entry(inode).or_default().handles += 1;
    }

    pub fn is_used(&self, inode: InodeNumber) -> bool {
        self.uses.get(&inode).is_some_and(|uses| uses.references > 0 || uses.handles > 0)
    }

    /// Notes that an inode in use lost its last name; false where it is not in use.
    pub fn unlink(&mut self, inode: InodeNumber) -> bool {
        let used = self.is_used(inode);
        if let Some(uses) = self.uses.get_mut(&inode) {
            uses.unlinked = true;
        }
        used
    }

    /// Gives uses back; true when the last is gone of an inode that has no name.
    pub fn release(&mut self, inode: InodeNumber, references: u64, handles: u32) -> bool {
        let Some(uses) = self.uses.get_mut(&inode) else { return false };
        uses.references = uses.references.saturating_sub(references);
        uses.handles = uses.handles.saturating_sub(handles);
        if uses.references > 0 || uses.handles > 0 {
            return false;
        }
        self.uses.remove(&inode).is_some_and(|uses| uses.unlinked)
    }

    /// Ends all uses: nobody is left who could give them back. Answers the inodes that have no name.
    pub fn end(&mut self) -> Vec<InodeNumber> {
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
