//! The volume's state in memory: the committed root, the generation that is being committed, and the one that changes.
//!
//! ```text
//!   current   overlay + dirty data     takes every change            will become commit n + 1
//!   frozen    overlay + dirty data     read-only, being published    is becoming commit n
//!   root      the committed tree                                     commit n - 1
//! ```
//! A reader sees the three as one: what a generation says stands above what lies below it. All of it lies behind one
//! lock: an operation holds it shared to look and exclusively to change, so no operation is ever split by a commit.

use super::dirty::DirtyData;
use super::foreign::Foreign;
use super::inode_numbers::InodeNumbers;
use super::overlay::Overlay;
use crate::crypto::NameHasher;
use crate::format::commit::CommitReference;
use crate::format::{CommitId, CommitNumber, DeviceId, InodeNumber};
use crate::tree::{Root, Tree};

/// Changes that will be published together.
#[derive(Debug)]
pub(crate) struct Generation {
    /// The commit it will become: its number and its id, which the journal of the next generation names before the commit
    /// is made.
    pub number: CommitNumber,
    pub id: CommitId,
    pub overlay: Overlay,
    pub dirty: DirtyData,
    /// The first inode number given out in it: inodes from there on do not exist below.
    pub first_inode: InodeNumber,
    /// Inodes in use at its end: known when it is frozen.
    pub inode_count: u64,
}

impl Generation {
    pub fn new(number: CommitNumber, id: CommitId, first_inode: InodeNumber) -> Self {
        Self { number, id, overlay: Overlay::default(), dirty: DirtyData::default(), first_inode, inode_count: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.overlay.is_empty() && self.dirty.is_empty()
    }
}

/// All that changes.
#[derive(Debug)]
pub(crate) struct State {
    pub root: Root,
    /// The commit whose tree `root` is; both change together. `None` before the vault's first.
    pub commit: Option<CommitReference>,
    pub frozen: Option<Generation>,
    pub current: Generation,
    pub numbers: InodeNumbers,
    pub inode_count: u64,
    /// Inodes without a name that nobody uses, left by an earlier process or by the end of this session. The next commit
    /// removes them; `inode_count` does not count them.
    pub orphans: Vec<InodeNumber>,
    /// Counts changes; the journal says up to which it holds them.
    pub changes: u64,
    /// Counts extents that came from elsewhere (clones, moved ranges): what they point to was not flushed for their place,
    /// so a generation that was found settled may not be any more.
    pub clones: u64,
    /// Why nothing can be changed.
    pub read_only: Option<String>,
    pub foreign: Foreign,
}

impl State {
    /// Whether an inode was made in the current generation, so that nothing of it lies below.
    pub fn is_new(&self, inode: InodeNumber) -> bool {
        self.numbers.is_from(inode, self.current.first_inode)
    }

    /// Leaves inodes to the next commit to remove.
    pub fn note_orphans(&mut self, orphans: Vec<InodeNumber>) {
        self.inode_count = self.inode_count.saturating_sub(orphans.len() as u64);
        self.orphans.extend(orphans);
    }

    /// The commit on which a generation stands: the one that the frozen generation will become, where there is one.
    ///
    /// That one may never be published. If it has changes, its own journal comes before this generation's; if it has none (a
    /// change of keys alone), the commit below it will do as well, and is named second.
    pub fn bases_of(&self, number: CommitNumber, device: DeviceId) -> Vec<CommitReference> {
        let frozen = self.frozen.as_ref().filter(|frozen| frozen.number != number);
        let published = self.commit.filter(|_| frozen.is_none_or(Generation::is_empty));
        let named = |frozen: &Generation| CommitReference { device, number: frozen.number, id: frozen.id };
        frozen.map(named).into_iter().chain(published).collect()
    }

    pub fn generation_mut(&mut self, number: CommitNumber) -> Option<&mut Generation> {
        if self.current.number == number {
            return Some(&mut self.current);
        }
        self.frozen.as_mut().filter(|frozen| frozen.number == number)
    }

    /// The tree that holds what is committed of an inode.
    pub fn root_of(&self, inode: InodeNumber) -> &Root {
        // Mostly there is none, and this is asked for every look-up.
        match self.foreign.left_behind.is_empty() {
            true => &self.root,
            false => self.foreign.left_behind.get(&inode).unwrap_or(&self.root),
        }
    }

    pub fn generation(&self, number: CommitNumber) -> Option<&Generation> {
        if self.current.number == number {
            return Some(&self.current);
        }
        self.frozen.as_ref().filter(|frozen| frozen.number == number)
    }
}

/// What never changes while a volume is open.
pub(crate) struct Context {
    pub tree: Tree,
    pub names: NameHasher,
    pub block_bytes: usize,
    pub device: DeviceId,
}
