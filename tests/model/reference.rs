//! The reference: a filesystem as plain maps in memory, for comparison with the real one.
//!
//! It knows POSIX and nothing else: no blocks, no journal, no commits. Nodes bear the inode numbers that the volume gave
//! them, so hard links and stability over a mount are compared by number. Cloning it is cheap enough to keep one state
//! for every operation, which is how "some prefix of the operations" is checked after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use passkeyfs::volume::{Allocate, FileKind, RenameMode, SetExtendedAttribute, Timestamp, VolumeError};

/// Why an operation is not done. What the disk does (full, failing) is none of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    NotFound,
    Exists,
    NotDirectory,
    IsDirectory,
    NotEmpty,
    Invalid,
    NoAttribute,
    NameTooLong,
}

impl Refusal {
    /// The volume's error as a refusal; `None` for those that are about the disk.
    pub fn of(error: &VolumeError) -> Option<Self> {
        Some(match error {
            VolumeError::NotFound => Self::NotFound,
            VolumeError::Exists => Self::Exists,
            VolumeError::NotDirectory => Self::NotDirectory,
            VolumeError::IsDirectory => Self::IsDirectory,
            VolumeError::NotEmpty => Self::NotEmpty,
            VolumeError::Invalid(_) => Self::Invalid,
            VolumeError::NoAttribute => Self::NoAttribute,
            VolumeError::NameTooLong => Self::NameTooLong,
            _ => return None,
        })
    }
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    File(Arc<Vec<u8>>),
    Directory(BTreeMap<Vec<u8>, u64>),
    Symlink(Vec<u8>),
    Device(u32),
}

/// A file, directory or anything else with an inode.
#[derive(Debug, Clone)]
pub struct Node {
    pub kind: FileKind,
    pub permissions: u16,
    pub user: u32,
    pub group: u32,
    pub links: u32,
    /// Open handles: what has no name lives as long as one is left.
    pub handles: u32,
    pub accessed: Timestamp,
    pub modified: Timestamp,
    pub changed: Timestamp,
    pub created: Timestamp,
    pub content: Content,
    /// Blocks of a file that are reserved.
    pub reserved: BTreeSet<usize>,
    pub extended_attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Node {
    pub fn bytes(&self) -> &[u8] {
        match &self.content {
            Content::File(bytes) => bytes,
            _ => &[],
        }
    }
}

/// A whole filesystem.
#[derive(Debug, Clone)]
pub struct Reference {
    pub nodes: BTreeMap<u64, Node>,
    pub root: u64,
    pub now: Timestamp,
}

type Result<T = ()> = std::result::Result<T, Refusal>;

impl Reference {
    /// An empty root directory.
    pub fn new(root: u64, permissions: u16, now: Timestamp) -> Self {
        let mut reference = Self { nodes: BTreeMap::new(), root, now };
        let node = reference.node(FileKind::Directory, permissions, Content::Directory(BTreeMap::new()));
        reference.nodes.insert(root, node);
        reference
    }

    fn node(&self, kind: FileKind, permissions: u16, content: Content) -> Node {
        Node {
            kind,
            permissions,
            user: 1000,
            group: 1000,
            links: if kind == FileKind::Directory { 2 } else { 1 },
            handles: 0,
            accessed: self.now,
            modified: self.now,
            changed: self.now,
            created: self.now,
            content,
            reserved: BTreeSet::new(),
            extended_attributes: BTreeMap::new(),
        }
    }

    pub fn get(&self, inode: u64) -> &Node {
        &self.nodes[&inode]
    }

    pub fn change(&mut self, inode: u64) -> &mut Node {
        self.nodes.get_mut(&inode).expect("the tests name nodes that exist")
    }

    pub fn entries(&self, directory: u64) -> &BTreeMap<Vec<u8>, u64> {
        match &self.get(directory).content {
            Content::Directory(entries) => entries,
            other => panic!("not a directory: {other:?}"),
        }
    }

    fn entries_mut(&mut self, directory: u64) -> &mut BTreeMap<Vec<u8>, u64> {
        let now = self.now;
        let node = self.change(directory);
        (node.modified, node.changed) = (now, now);
        match &mut node.content {
            Content::Directory(entries) => entries,
            other => panic!("not a directory: {other:?}"),
        }
    }

    fn entry(&self, directory: u64, name: &[u8]) -> Result<u64> {
        self.entries(directory).get(name).copied().ok_or(Refusal::NotFound)
    }

    fn is_directory(&self, inode: u64) -> bool {
        self.get(inode).kind == FileKind::Directory
    }

    fn check_free(&self, directory: u64, name: &[u8]) -> Result {
        if name.len() > 255 {
            return Err(Refusal::NameTooLong);
        }
        if self.entries(directory).contains_key(name) { Err(Refusal::Exists) } else { Ok(()) }
    }

    /// Makes a node that the volume has given number `inode`.
    pub fn make(
        &mut self,
        parent: u64,
        name: &[u8],
        inode: u64,
        kind: FileKind,
        mode: u16,
        content: Content,
    ) -> Result {
        self.check_free(parent, name)?;
        assert!(!self.nodes.contains_key(&inode), "inode number {inode} was given out twice");
        let node = self.node(kind, mode, content);
        self.nodes.insert(inode, node);
        self.entries_mut(parent).insert(name.to_vec(), inode);
        self.change(parent).links += u32::from(kind == FileKind::Directory);
        Ok(())
    }

    pub fn link(&mut self, inode: u64, parent: u64, name: &[u8]) -> Result {
        if self.is_directory(inode) {
            return Err(Refusal::IsDirectory);
        }
        if self.get(inode).links == 0 {
            return Err(Refusal::NotFound);
        }
        self.check_free(parent, name)?;
        self.entries_mut(parent).insert(name.to_vec(), inode);
        self.change(inode).links += 1;
        self.touch(inode);
        Ok(())
    }

    fn touch(&mut self, inode: u64) {
        let now = self.now;
        self.change(inode).changed = now;
    }

    pub fn unlink(&mut self, parent: u64, name: &[u8]) -> Result {
        let inode = self.entry(parent, name)?;
        if self.is_directory(inode) {
            return Err(Refusal::IsDirectory);
        }
        self.entries_mut(parent).remove(name);
        self.drop_link(inode);
        Ok(())
    }

    pub fn remove_directory(&mut self, parent: u64, name: &[u8]) -> Result {
        let inode = self.entry(parent, name)?;
        if !self.is_directory(inode) {
            return Err(Refusal::NotDirectory);
        }
        if !self.entries(inode).is_empty() {
            return Err(Refusal::NotEmpty);
        }
        self.entries_mut(parent).remove(name);
        self.change(parent).links -= 1;
        self.drop_link(inode);
        Ok(())
    }

    fn drop_link(&mut self, inode: u64) {
        self.touch(inode);
        let node = self.change(inode);
        node.links = if node.kind == FileKind::Directory { 0 } else { node.links - 1 };
        self.drop_unused(inode);
    }

    fn drop_unused(&mut self, inode: u64) {
        let node = self.get(inode);
        if node.links == 0 && node.handles == 0 {
            self.nodes.remove(&inode);
        }
    }

    pub fn close(&mut self, inode: u64) {
        self.change(inode).handles -= 1;
        self.drop_unused(inode);
    }

    /// The process is gone, and with it all handles and what only they kept.
    pub fn drop_handles(&mut self) {
        self.nodes.values_mut().for_each(|node| node.handles = 0);
        self.nodes.retain(|_, node| node.links > 0);
    }

    fn is_within(&self, directory: u64, ancestor: u64) -> bool {
        directory == ancestor
            || self.is_directory(ancestor)
                && self
                    .entries(ancestor)
                    .values()
                    .any(|child| self.is_directory(*child) && self.is_within(directory, *child))
    }

    pub fn rename(&mut self, from: (u64, &[u8]), to: (u64, &[u8]), mode: RenameMode) -> Result {
        if from.1.len() > 255 || to.1.len() > 255 {
            return Err(Refusal::NameTooLong);
        }
        let source = self.entry(from.0, from.1)?;
        let target = self.entry(to.0, to.1).ok();
        if self.is_directory(source) && self.is_within(to.0, source) {
            return Err(Refusal::Invalid);
        }
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return Err(Refusal::Exists),
            (RenameMode::Exchange, None) => return Err(Refusal::NotFound),
            (RenameMode::Exchange, Some(target)) if self.is_directory(target) && self.is_within(from.0, target) => {
                return Err(Refusal::Invalid);
            }
            (_, Some(target)) if target == source => return Ok(()),
            (RenameMode::Exchange, Some(target)) => {
                self.entries_mut(from.0).insert(from.1.to_vec(), target);
                self.entries_mut(to.0).insert(to.1.to_vec(), source);
                self.touch(target);
            }
            (_, target) => {
                if let Some(target) = target {
                    match (self.is_directory(source), self.is_directory(target)) {
                        (true, false) => return Err(Refusal::NotDirectory),
                        (false, true) => return Err(Refusal::IsDirectory),
                        (true, true) => self.remove_directory(to.0, to.1)?,
                        (false, false) => self.unlink(to.0, to.1)?,
                    }
                }
                self.entries_mut(from.0).remove(from.1);
                self.entries_mut(to.0).insert(to.1.to_vec(), source);
            }
        }
        self.touch(source);
        for directory in [from.0, to.0] {
            let children = self.entries(directory).values().filter(|child| self.is_directory(**child)).count();
            self.change(directory).links = 2 + children as u32;
        }
        Ok(())
    }

    /// Changes a file's content.
    pub fn edit(&mut self, inode: u64, edit: impl FnOnce(&mut Vec<u8>)) {
        let now = self.now;
        let node = self.change(inode);
        let Content::File(bytes) = &mut node.content else { panic!("not a file") };
        edit(Arc::make_mut(bytes));
        (node.modified, node.changed) = (now, now);
    }

    pub fn write(&mut self, inode: u64, offset: usize, data: &[u8]) {
        self.edit(inode, |bytes| {
            bytes.resize(bytes.len().max(offset + data.len()), 0);
            bytes[offset..offset + data.len()].copy_from_slice(data);
        });
    }

    pub fn truncate(&mut self, inode: u64, size: usize, block_bytes: usize) {
        if size <= self.get(inode).bytes().len() {
            self.change(inode).reserved.retain(|block| *block < size.div_ceil(block_bytes));
        }
        self.edit(inode, |bytes| bytes.resize(size, 0));
    }

    /// The blocks that are reserved after an allocation.
    fn reserved_after(node: &Node, what: Allocate, offset: usize, end: usize, block_bytes: usize) -> BTreeSet<usize> {
        let (first, count) = (offset / block_bytes, (end - offset) / block_bytes);
        let mut reserved = node.reserved.clone();
        match what {
            Allocate::Reserve | Allocate::ReserveKeepSize | Allocate::Zero | Allocate::ZeroKeepSize => {
                reserved.extend(first..end.div_ceil(block_bytes));
            }
            Allocate::PunchHole => {
                let end = if end >= node.bytes().len() { end.next_multiple_of(block_bytes) } else { end };
                reserved.retain(|block| *block < offset.div_ceil(block_bytes) || *block >= end / block_bytes);
            }
            Allocate::Collapse => {
                let kept = reserved.into_iter().filter(|block| !(first..first + count).contains(block));
                reserved = kept.map(|block| if block < first { block } else { block - count }).collect();
            }
            Allocate::Insert => {
                let moved = reserved.into_iter().map(|block| if block < first { block } else { block + count });
                reserved = moved.collect();
            }
        }
        reserved
    }

    pub fn allocate(&mut self, inode: u64, what: Allocate, offset: usize, length: usize, block_bytes: usize) -> Result {
        let (size, end) = (self.get(inode).bytes().len(), offset + length);
        let aligned = offset.is_multiple_of(block_bytes) && length.is_multiple_of(block_bytes);
        match what {
            _ if length == 0 => return Err(Refusal::Invalid),
            Allocate::Collapse if !aligned || end >= size => return Err(Refusal::Invalid),
            Allocate::Insert if !aligned || offset >= size => return Err(Refusal::Invalid),
            _ => {}
        }
        self.change(inode).reserved = Self::reserved_after(self.get(inode), what, offset, end, block_bytes);
        self.edit(inode, |bytes| match what {
            Allocate::Reserve => bytes.resize(size.max(end), 0),
            Allocate::ReserveKeepSize => {}
            Allocate::PunchHole | Allocate::Zero | Allocate::ZeroKeepSize => {
                bytes[offset.min(size)..end.min(size)].fill(0);
                bytes.resize(if what == Allocate::Zero { size.max(end) } else { size }, 0);
            }
            Allocate::Collapse => drop(bytes.drain(offset..end)),
            Allocate::Insert => drop(bytes.splice(offset..offset, std::iter::repeat_n(0, length))),
        });
        Ok(())
    }

    pub fn set_extended(&mut self, inode: u64, name: &[u8], value: &[u8], mode: SetExtendedAttribute) -> Result {
        let exists = self.get(inode).extended_attributes.contains_key(name);
        match mode {
            SetExtendedAttribute::Create if exists => return Err(Refusal::Exists),
            SetExtendedAttribute::Replace if !exists => return Err(Refusal::NoAttribute),
            _ => {}
        }
        self.change(inode).extended_attributes.insert(name.to_vec(), value.to_vec());
        self.touch(inode);
        Ok(())
    }

    pub fn remove_extended(&mut self, inode: u64, name: &[u8]) -> Result {
        self.change(inode).extended_attributes.remove(name).ok_or(Refusal::NoAttribute)?;
        self.touch(inode);
        Ok(())
    }
}
