//! Making, finding, linking and removing names.
//!
//! Each operation checks everything, gathers its changes, and applies them when nothing can fail any more, under one lock.

use super::acl;
use super::directory::check_name;
use super::{EditGuard, Result, Volume, VolumeError};
use crate::format::items::AttributesRecord;
use crate::format::{InodeNumber, Key, KeyKind};
use crate::history::device::draw_lease;
use crate::state::edit::Edit;
use crate::state::types::{Attributes, FileKind, NewNode};

use crate::state::inode_numbers::InodeNumbers;

/// What Linux allows (PATH_MAX), the final NUL apart.
const SYMLINK_BYTES_MAX: usize = 4095;
pub(super) const SET_GROUP_ID: u16 = 0o2000;

impl Volume {
    /// Finds a name. Takes a reference to the inode; give it back with [`Volume::forget`].
    pub fn lookup(&self, parent: InodeNumber, name: &[u8]) -> Result<Attributes> {
        let guard = self.layers.view();
        let view = guard.view();
        view.directory(parent)?;
        let inode = match name {
            b"." => parent,
            b".." => view.parent_of(parent)?,
            _ => view.entry(parent, name)?.inode,
        };
        let record = view.attributes(inode)?;
        self.layers.refs.lock().reference(inode);
        Ok(self.public_attributes(&view, inode, &record))
    }

    /// Makes a regular file and opens it. Takes a reference.
    pub fn create_file(&self, parent: InodeNumber, name: &[u8], new: &NewNode) -> Result<Attributes> {
        let attributes = self.make(parent, name, new, FileKind::Regular, 0, None)?;
        self.open_created(attributes.inode);
        Ok(attributes)
    }

    /// Makes a directory. Takes a reference.
    pub fn make_directory(&self, parent: InodeNumber, name: &[u8], new: &NewNode) -> Result<Attributes> {
        self.make(parent, name, new, FileKind::Directory, 0, None)
    }

    /// Makes a file, pipe, socket or device node. Takes a reference.
    pub fn make_node(
        &self,
        parent: InodeNumber,
        name: &[u8],
        new: &NewNode,
        kind: FileKind,
        device_number: u32,
    ) -> Result<Attributes> {
        if matches!(kind, FileKind::Directory | FileKind::Symlink) {
            return Err(VolumeError::Invalid("mknod makes neither directories nor symlinks"));
        }
        self.make(parent, name, new, kind, device_number, None)
    }

    /// Makes a symbolic link. Takes a reference.
    pub fn make_symlink(&self, parent: InodeNumber, name: &[u8], target: &[u8], new: &NewNode) -> Result<Attributes> {
        if target.is_empty() {
            return Err(VolumeError::NotFound);
        }
        if target.len() > SYMLINK_BYTES_MAX {
            return Err(VolumeError::NameTooLong);
        }
        let new = NewNode { permissions: 0o777, umask: 0, ..*new };
        self.make(parent, name, &new, FileKind::Symlink, 0, Some(target))
    }

    /// A symbolic link's target.
    pub fn read_symlink(&self, inode: InodeNumber) -> Result<Vec<u8>> {
        let guard = self.layers.view();
        let target = guard.view().get(Key::new(inode, KeyKind::SymlinkTarget, 0))?;
        target.map(|target| target.to_vec()).ok_or(VolumeError::Invalid("not a symbolic link"))
    }

    fn make(
        &self,
        parent: InodeNumber,
        name: &[u8],
        new: &NewNode,
        kind: FileKind,
        device_number: u32,
        target: Option<&[u8]>,
    ) -> Result<Attributes> {
        check_name(name)?;
        let mut guard = self.change()?;
        let mut parent_record = guard.live_directory(parent)?;
        let mut edit = guard.begin_edit();
        if edit.view().find_entry(parent, name)?.is_some() {
            return Err(VolumeError::Exists);
        }
        let inherited = match kind {
            FileKind::Symlink => acl::Inherited::from_mode(new.permissions),
            _ => acl::inherit(&edit.view(), parent, &parent_record, new, kind)?,
        };
        let inode = self.fresh_inode(&mut edit)?;
        let set_group_id = parent_record.permissions & SET_GROUP_ID != 0;
        let is_directory = kind == FileKind::Directory;
        let mut permissions = inherited.permissions;
        if set_group_id && is_directory {
            permissions |= SET_GROUP_ID;
        }
        let record = AttributesRecord {
            kind: kind as u8,
            permissions,
            link_count: if is_directory { 2 } else { 1 },
            user: new.user,
            group: if set_group_id { parent_record.group } else { new.group },
            size_bytes: target.map_or(0, |target| target.len() as u64),
            allocated_bytes: 0,
            device_number,
            accessed: edit.now,
            modified: edit.now,
            changed: edit.now,
            created: edit.now,
            content: edit.stamp(),
            has_extended_attributes: inherited.has_acl(),
            has_reserved_blocks: false,
        };
        edit.add_entry(parent, name, inode, kind as u8)?;
        edit.put_attributes(inode, &record);
        if let Some(target) = target {
            edit.put(Key::new(inode, KeyKind::SymlinkTarget, 0), target);
        }
        inherited.store(&mut edit, inode)?;
        parent_record.link_count = parent_record.link_count.saturating_add(u32::from(is_directory));
        edit.touch_directory(parent, parent_record);
        edit.count_inodes(1);
        edit.apply();
        self.layers.refs.lock().reference(inode);
        let attributes = self.public_attributes(&guard.view(), inode, &record);
        Ok(attributes)
    }

    /// Gives an inode another name. Takes a reference.
    pub fn link(&self, inode: InodeNumber, parent: InodeNumber, name: &[u8]) -> Result<Attributes> {
        check_name(name)?;
        let mut guard = self.change()?;
        let parent_record = guard.live_directory(parent)?;
        let mut edit = guard.begin_edit();
        let mut record = edit.view().attributes(inode)?;
        if record.kind == FileKind::Directory as u8 {
            return Err(VolumeError::IsDirectory);
        }
        if record.link_count == 0 {
            return Err(VolumeError::NotFound);
        }
        if edit.view().find_entry(parent, name)?.is_some() {
            return Err(VolumeError::Exists);
        }
        record.link_count = record.link_count.checked_add(1).ok_or(VolumeError::TooManyLinks)?;
        record.changed = edit.now;
        edit.add_entry(parent, name, inode, record.kind)?;
        edit.put_attributes(inode, &record);
        edit.touch_directory(parent, parent_record);
        edit.apply();
        self.layers.refs.lock().reference(inode);
        let attributes = self.public_attributes(&guard.view(), inode, &record);
        drop(guard);
        self.journal.journal_at_once();
        Ok(attributes)
    }

    /// Removes a name of anything but a directory.
    pub fn unlink(&self, parent: InodeNumber, name: &[u8]) -> Result<()> {
        let mut guard = self.change_that_removes()?;
        let parent_record = guard.live_directory(parent)?;
        let mut edit = guard.begin_edit();
        let entry = edit.view().entry(parent, name)?;
        if entry.kind == FileKind::Directory as u8 {
            return Err(VolumeError::IsDirectory);
        }
        let record = edit.view().attributes(entry.inode)?;
        edit.remove_entry(parent, name, entry.inode)?;
        edit.touch_directory(parent, parent_record);
        self.drop_link(&mut edit, entry.inode, record);
        edit.apply();
        drop(guard);
        self.journal.journal_at_once();
        Ok(())
    }

    /// Removes an empty directory.
    pub fn remove_directory(&self, parent: InodeNumber, name: &[u8]) -> Result<()> {
        let mut guard = self.change_that_removes()?;
        let mut parent_record = guard.live_directory(parent)?;
        let mut edit = guard.begin_edit();
        let entry = edit.view().entry(parent, name)?;
        if entry.kind != FileKind::Directory as u8 {
            return Err(VolumeError::NotDirectory);
        }
        let record = edit.view().attributes(entry.inode)?;
        if !edit.view().is_empty_directory(entry.inode)? {
            return Err(VolumeError::NotEmpty);
        }
        edit.remove_entry(parent, name, entry.inode)?;
        parent_record.link_count = parent_record.link_count.saturating_sub(1);
        edit.touch_directory(parent, parent_record);
        self.drop_link(&mut edit, entry.inode, record);
        edit.apply();
        drop(guard);
        self.journal.journal_at_once();
        Ok(())
    }

    /// One name of an inode was removed: count it, and let the inode go with its last. The last step of an operation: nothing
    /// may fail after it.
    pub(super) fn drop_link(&self, edit: &mut Edit<'_>, inode: InodeNumber, mut record: AttributesRecord) {
        let is_directory = record.kind == FileKind::Directory as u8;
        record.link_count = if is_directory { 0 } else { record.link_count.saturating_sub(1) };
        record.changed = edit.now;
        edit.put_attributes(inode, &record);
        if record.link_count == 0 {
            self.drop_nameless(edit, inode);
        }
    }

    /// An inode number that was never used.
    pub(super) fn fresh_inode(&self, edit: &mut Edit<'_>) -> Result<InodeNumber> {
        while edit.state.numbers.is_spent() {
            let lease = draw_lease(&*self.environment.randomness);
            let (first, last) = InodeNumbers::range_of(lease);
            let taken = edit.context.tree.last_at_or_before(&edit.state.root, Key::last_of(last))?;
            if taken.is_none_or(|key| key.inode < first) {
                edit.state.numbers.renew(lease);
            }
        }
        Ok(edit.state.numbers.take())
    }
}

impl EditGuard<'_> {
    /// The attributes of a directory that still has a name.
    pub(super) fn live_directory(&self, inode: InodeNumber) -> Result<AttributesRecord> {
        let record = self.view().directory(inode)?;
        if record.link_count == 0 {
            return Err(VolumeError::NotFound);
        }
        Ok(record)
    }
}

impl Edit<'_> {
    /// An entry of a directory changed.
    pub(super) fn touch_directory(&mut self, inode: InodeNumber, mut record: AttributesRecord) {
        record.modified = self.now;
        record.changed = self.now;
        self.put_attributes(inode, &record);
    }
}
