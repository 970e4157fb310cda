//! STAND-IN, not part of the product: a `Volume` kept in memory, so that `mount/` compiles and can be tried before
//! the real one is merged. The lead's `Volume` replaces this file; the commit that adds it is meant to be dropped.

use std::collections::{BTreeMap, HashMap};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::*;
use crate::format::InodeNumber;

/// What every operation gives.
pub type Result<T> = std::result::Result<T, VolumeError>;

#[derive(Clone)]
struct Node {
    attributes: Attributes,
    entries: BTreeMap<Vec<u8>, InodeNumber>,
    parent: InodeNumber,
    content: Vec<u8>,
    extended: BTreeMap<Vec<u8>, Vec<u8>>,
}

#[derive(Default)]
struct State {
    nodes: HashMap<InodeNumber, Node>,
    next: u64,
}

/// A filesystem in memory.
pub struct Volume {
    state: Mutex<State>,
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is right");
    Timestamp { seconds: now.as_secs() as i64, nanoseconds: now.subsec_nanos() }
}

impl State {
    fn node(&mut self, inode: InodeNumber) -> Result<&mut Node> {
        self.nodes.get_mut(&inode).ok_or(VolumeError::NotFound)
    }

    fn add(&mut self, parent: InodeNumber, name: &[u8], new: &NewNode, kind: FileKind) -> Result<InodeNumber> {
        if name.len() > 255 {
            return Err(VolumeError::NameTooLong);
        }
        let directory = self.node(parent)?;
        if directory.entries.contains_key(name) {
            return Err(VolumeError::Exists);
        }
        let set_group = directory.attributes.permissions & 0o2000 != 0;
        let group = if set_group { directory.attributes.group } else { new.group };
        self.next += 1;
        let inode = InodeNumber(self.next);
        let time = now();
        let directory = self.node(parent)?;
        directory.entries.insert(name.to_vec(), inode);
        directory.attributes.modified = time;
        directory.attributes.changed = time;
        if kind == FileKind::Directory {
            directory.attributes.link_count += 1;
        }
        let mut permissions = if kind == FileKind::Symlink { 0o777 } else { new.permissions & !new.umask };
        if kind == FileKind::Directory && set_group {
            permissions |= 0o2000;
        }
        let attributes = Attributes {
            inode,
            kind,
            permissions,
            link_count: if kind == FileKind::Directory { 2 } else { 1 },
            user: new.user,
            group,
            size_bytes: 0,
            allocated_bytes: 0,
            device_number: 0,
            accessed: time,
            modified: time,
            changed: time,
            created: time,
        };
        let node =
            Node { attributes, entries: BTreeMap::new(), parent, content: Vec::new(), extended: BTreeMap::new() };
        self.nodes.insert(inode, node);
        Ok(inode)
    }

    fn take(&mut self, parent: InodeNumber, name: &[u8]) -> Result<InodeNumber> {
        let time = now();
        let directory = self.node(parent)?;
        let inode = directory.entries.remove(name).ok_or(VolumeError::NotFound)?;
        directory.attributes.modified = time;
        directory.attributes.changed = time;
        let node = self.node(inode)?;
        node.attributes.changed = time;
        if node.attributes.kind == FileKind::Directory {
            node.attributes.link_count = 0;
            self.node(parent)?.attributes.link_count -= 1;
        } else {
            node.attributes.link_count -= 1;
        }
        Ok(inode)
    }

    fn changed(&mut self, inode: InodeNumber, drop_set_id: bool) -> Result<()> {
        let node = self.node(inode)?;
        node.attributes.size_bytes = node.content.len() as u64;
        node.attributes.allocated_bytes = node.content.len().next_multiple_of(4096) as u64;
        node.attributes.modified = now();
        node.attributes.changed = node.attributes.modified;
        if drop_set_id {
            node.drop_set_id();
        }
        Ok(())
    }
}

impl Node {
    fn drop_set_id(&mut self) {
        self.attributes.permissions &= !0o4000;
        if self.attributes.permissions & 0o010 != 0 {
            self.attributes.permissions &= !0o2000;
        }
    }
}

#[allow(missing_docs)]
impl Volume {
    pub fn in_memory(user: u32, group: u32) -> Self {
        let time = now();
        let attributes = Attributes {
            inode: InodeNumber::ROOT,
            kind: FileKind::Directory,
            permissions: 0o755,
            link_count: 2,
            user,
            group,
            size_bytes: 0,
            allocated_bytes: 0,
            device_number: 0,
            accessed: time,
            modified: time,
            changed: time,
            created: time,
        };
        let node = Node {
            attributes,
            entries: BTreeMap::new(),
            parent: InodeNumber::ROOT,
            content: Vec::new(),
            extended: BTreeMap::new(),
        };
        let state = State { nodes: HashMap::from([(InodeNumber::ROOT, node)]), next: 1 };
        Self { state: Mutex::new(state) }
    }

    pub fn lookup(&self, parent: InodeNumber, name: &[u8]) -> Result<Attributes> {
        let mut state = self.state.lock();
        if name.len() > 255 {
            return Err(VolumeError::NameTooLong);
        }
        let inode = *state.node(parent)?.entries.get(name).ok_or(VolumeError::NotFound)?;
        Ok(state.node(inode)?.attributes)
    }

    pub fn forget(&self, _inode: InodeNumber, _references: u64) {}

    pub fn create_file(&self, parent: InodeNumber, name: &[u8], new: &NewNode) -> Result<Attributes> {
        self.make_node(parent, name, new, FileKind::Regular, 0)
    }

    pub fn make_directory(&self, parent: InodeNumber, name: &[u8], new: &NewNode) -> Result<Attributes> {
        self.make_node(parent, name, new, FileKind::Directory, 0)
    }

    pub fn make_node(
        &self,
        parent: InodeNumber,
        name: &[u8],
        new: &NewNode,
        kind: FileKind,
        device_number: u32,
    ) -> Result<Attributes> {
        let mut state = self.state.lock();
        let inode = state.add(parent, name, new, kind)?;
        let node = state.node(inode)?;
        node.attributes.device_number = device_number;
        Ok(node.attributes)
    }

    pub fn make_symlink(&self, parent: InodeNumber, name: &[u8], target: &[u8], new: &NewNode) -> Result<Attributes> {
        let mut state = self.state.lock();
        let inode = state.add(parent, name, new, FileKind::Symlink)?;
        let node = state.node(inode)?;
        node.content = target.to_vec();
        node.attributes.size_bytes = target.len() as u64;
        Ok(node.attributes)
    }

    pub fn link(&self, inode: InodeNumber, parent: InodeNumber, name: &[u8]) -> Result<Attributes> {
        let mut state = self.state.lock();
        if name.len() > 255 {
            return Err(VolumeError::NameTooLong);
        }
        let time = now();
        let directory = state.node(parent)?;
        if directory.entries.insert(name.to_vec(), inode).is_some() {
            return Err(VolumeError::Exists);
        }
        directory.attributes.modified = time;
        directory.attributes.changed = time;
        let node = state.node(inode)?;
        node.attributes.link_count += 1;
        node.attributes.changed = time;
        Ok(node.attributes)
    }

    pub fn unlink(&self, parent: InodeNumber, name: &[u8]) -> Result<()> {
        self.state.lock().take(parent, name).map(drop)
    }

    pub fn remove_directory(&self, parent: InodeNumber, name: &[u8]) -> Result<()> {
        let mut state = self.state.lock();
        let inode = *state.node(parent)?.entries.get(name).ok_or(VolumeError::NotFound)?;
        if !state.node(inode)?.entries.is_empty() {
            return Err(VolumeError::NotEmpty);
        }
        state.take(parent, name).map(drop)
    }

    pub fn rename(
        &self,
        parent: InodeNumber,
        name: &[u8],
        new_parent: InodeNumber,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        let mut state = self.state.lock();
        if new_name.len() > 255 {
            return Err(VolumeError::NameTooLong);
        }
        let inode = *state.node(parent)?.entries.get(name).ok_or(VolumeError::NotFound)?;
        let replaced = state.node(new_parent)?.entries.get(new_name).copied();
        match (mode, replaced) {
            (RenameMode::NoReplace, Some(_)) => return Err(VolumeError::Exists),
            (RenameMode::Exchange, None) => return Err(VolumeError::NotFound),
            (RenameMode::Replace, Some(replaced)) if replaced == inode => return Ok(()),
            (RenameMode::Replace, Some(replaced)) => {
                if !state.node(replaced)?.entries.is_empty() {
                    return Err(VolumeError::NotEmpty);
                }
                state.take(new_parent, new_name)?;
            }
            _ => {}
        }
        let time = now();
        if mode == RenameMode::Exchange {
            let other = replaced.ok_or(VolumeError::NotFound)?;
            state.node(parent)?.entries.insert(name.to_vec(), other);
            state.node(other)?.attributes.changed = time;
        } else {
            state.node(parent)?.entries.remove(name);
            if state.node(inode)?.attributes.kind == FileKind::Directory && parent != new_parent {
                state.node(parent)?.attributes.link_count -= 1;
                state.node(new_parent)?.attributes.link_count += 1;
            }
        }
        state.node(new_parent)?.entries.insert(new_name.to_vec(), inode);
        for directory in [parent, new_parent] {
            let attributes = &mut state.node(directory)?.attributes;
            attributes.modified = time;
            attributes.changed = time;
        }
        let node = state.node(inode)?;
        node.parent = new_parent;
        node.attributes.changed = time;
        Ok(())
    }

    pub fn read_symlink(&self, inode: InodeNumber) -> Result<Vec<u8>> {
        Ok(self.state.lock().node(inode)?.content.clone())
    }

    pub fn read_directory(
        &self,
        inode: InodeNumber,
        cookie: u64,
        with_attributes: bool,
        emit: &mut dyn FnMut(&DirectoryEntry<'_>) -> bool,
    ) -> Result<()> {
        let mut state = self.state.lock();
        let node = state.node(inode)?.clone();
        for (place, name, inode) in [(1, &b"."[..], inode), (2, b"..", node.parent)] {
            let entry = DirectoryEntry { name, inode, kind: FileKind::Directory, cookie: place, attributes: None };
            if cookie < place && !emit(&entry) {
                return Ok(());
            }
        }
        for (name, &inode) in &node.entries {
            let attributes = state.node(inode)?.attributes;
            let place = inode.0 + 2;
            let shown = with_attributes.then_some(&attributes);
            let entry = DirectoryEntry { name, inode, kind: attributes.kind, cookie: place, attributes: shown };
            if cookie < place && !emit(&entry) {
                return Ok(());
            }
        }
        Ok(())
    }

    pub fn attributes(&self, inode: InodeNumber) -> Result<Attributes> {
        Ok(self.state.lock().node(inode)?.attributes)
    }

    pub fn set_attributes(&self, inode: InodeNumber, set: &SetAttributes) -> Result<Attributes> {
        let mut state = self.state.lock();
        let node = state.node(inode)?;
        let time = now();
        if let Some(size_bytes) = set.size_bytes {
            node.content.resize(size_bytes as usize, 0);
            state.changed(inode, set.drop_set_id)?;
        }
        let node = state.node(inode)?;
        if set.user.is_some() || set.group.is_some() {
            if node.attributes.kind != FileKind::Directory {
                node.drop_set_id();
            }
            node.attributes.user = set.user.unwrap_or(node.attributes.user);
            node.attributes.group = set.group.unwrap_or(node.attributes.group);
        }
        let attributes = &mut node.attributes;
        attributes.permissions = set.permissions.unwrap_or(attributes.permissions);
        let at = |set: SetTime| match set {
            SetTime::Now => time,
            SetTime::At(given) => given,
        };
        attributes.accessed = set.accessed.map_or(attributes.accessed, at);
        attributes.modified = set.modified.map_or(attributes.modified, at);
        attributes.changed = set.changed.unwrap_or(time);
        Ok(*attributes)
    }

    pub fn extended_attribute(&self, inode: InodeNumber, name: &[u8]) -> Result<Vec<u8>> {
        self.state.lock().node(inode)?.extended.get(name).cloned().ok_or(VolumeError::NoAttribute)
    }

    pub fn extended_attributes(&self, inode: InodeNumber) -> Result<Vec<Vec<u8>>> {
        Ok(self.state.lock().node(inode)?.extended.keys().cloned().collect())
    }

    pub fn set_extended_attribute(
        &self,
        inode: InodeNumber,
        name: &[u8],
        value: &[u8],
        mode: SetExtendedAttribute,
        drop_set_group_id: bool,
    ) -> Result<()> {
        let mut state = self.state.lock();
        let node = state.node(inode)?;
        match (mode, node.extended.contains_key(name)) {
            (SetExtendedAttribute::Create, true) => return Err(VolumeError::Exists),
            (SetExtendedAttribute::Replace, false) => return Err(VolumeError::NoAttribute),
            _ => {}
        }
        if drop_set_group_id {
            node.attributes.permissions &= !0o2000;
        }
        node.extended.insert(name.to_vec(), value.to_vec());
        Ok(())
    }

    pub fn remove_extended_attribute(&self, inode: InodeNumber, name: &[u8]) -> Result<()> {
        self.state.lock().node(inode)?.extended.remove(name).map(drop).ok_or(VolumeError::NoAttribute)
    }

    pub fn open_file(&self, inode: InodeNumber) -> Result<()> {
        self.attributes(inode).map(drop)
    }

    pub fn close_file(&self, _inode: InodeNumber) {}

    pub fn read(&self, inode: InodeNumber, offset: u64, length: usize) -> Result<Vec<u8>> {
        let mut state = self.state.lock();
        let content = &state.node(inode)?.content;
        let start = content.len().min(offset as usize);
        Ok(content[start..content.len().min(start + length)].to_vec())
    }

    pub fn write(&self, inode: InodeNumber, offset: u64, data: &[u8], drop_set_id: bool) -> Result<()> {
        let mut state = self.state.lock();
        let content = &mut state.node(inode)?.content;
        let end = offset as usize + data.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset as usize..end].copy_from_slice(data);
        state.changed(inode, drop_set_id)
    }

    pub fn allocate(
        &self,
        inode: InodeNumber,
        what: Allocate,
        offset: u64,
        length: u64,
        drop_set_id: bool,
    ) -> Result<()> {
        let mut state = self.state.lock();
        let content = &mut state.node(inode)?.content;
        let end = (offset + length) as usize;
        if matches!(what, Allocate::Reserve | Allocate::Zero) && content.len() < end {
            content.resize(end, 0);
        }
        let end = end.min(content.len());
        match what {
            Allocate::Reserve | Allocate::ReserveKeepSize => {}
            Allocate::PunchHole | Allocate::Zero | Allocate::ZeroKeepSize if (offset as usize) < end => {
                content[offset as usize..end].fill(0);
            }
            Allocate::PunchHole | Allocate::Zero | Allocate::ZeroKeepSize => {}
            Allocate::Collapse | Allocate::Insert => return Err(VolumeError::NotSupported),
        }
        state.changed(inode, drop_set_id)
    }

    pub fn seek(&self, inode: InodeNumber, offset: u64, target: SeekTarget) -> Result<u64> {
        let size_bytes = self.attributes(inode)?.size_bytes;
        match target {
            _ if offset >= size_bytes => Err(VolumeError::NoSuchOffset),
            SeekTarget::Data => Ok(offset),
            SeekTarget::Hole => Ok(size_bytes),
        }
    }

    pub fn copy_range(
        &self,
        source: InodeNumber,
        source_offset: u64,
        target: InodeNumber,
        target_offset: u64,
        length: u64,
        drop_set_id: bool,
    ) -> Result<u64> {
        let data = self.read(source, source_offset, length as usize)?;
        self.write(target, target_offset, &data, drop_set_id)?;
        Ok(data.len() as u64)
    }

    pub fn sync_file(&self, _inode: InodeNumber) -> Result<()> {
        Ok(())
    }

    pub fn space(&self) -> Result<VolumeSpace> {
        let inodes = self.state.lock().nodes.len() as u64;
        Ok(VolumeSpace { total_bytes: 1 << 34, free_bytes: 1 << 33, inodes, block_bytes: 65536 })
    }

    pub fn publish(&self) -> Result<()> {
        match self.state.lock().node(InodeNumber::ROOT)?.entries.contains_key(&b"the folder is full"[..]) {
            true => Err(VolumeError::NoSpace("the vault folder's disk is full".into())),
            false => Ok(()),
        }
    }

    pub fn status(&self) -> VolumeStatus {
        VolumeStatus {
            vault: "00".repeat(16),
            device: "00".repeat(8),
            published_commit: 0,
            published_seconds: 0,
            dirty_bytes: 0,
            unpublished_items: 0,
            read_only: None,
            warnings: Vec::new(),
            awaited_segments: 0,
        }
    }

    pub fn close(&self) -> Result<()> {
        Ok(())
    }
}
