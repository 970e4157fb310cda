//! `stat` and what changes it: chmod, chown, truncate, utimensat.

use super::acl::{ACCESS, Acl};
use super::state::{Edit, View};
use super::types::{Attributes, FileKind, SetAttributes, SetTime};
use super::{Result, Volume};
use crate::format::InodeNumber;
use crate::format::items::{AttributesRecord, TimeRecord};

const SET_USER_ID: u16 = 0o4000;
const SET_GROUP_ID: u16 = 0o2000;
const GROUP_EXECUTE: u16 = 0o0010;
const CAPABILITY: &[u8] = b"security.capability";

impl Volume {
    /// An inode's attributes.
    pub fn attributes(&self, inode: InodeNumber) -> Result<Attributes> {
        let guard = self.view();
        let record = guard.view().attributes(inode)?;
        Ok(self.public_attributes(&guard.view(), inode, &record))
    }

    pub(super) fn public_attributes(
        &self,
        view: &View<'_>,
        inode: InodeNumber,
        record: &AttributesRecord,
    ) -> Attributes {
        let kind = FileKind::from_byte(record.kind);
        Attributes {
            inode,
            kind,
            permissions: record.permissions,
            link_count: record.link_count,
            user: record.user,
            group: record.group,
            size_bytes: record.size_bytes,
            allocated_bytes: if kind == FileKind::Regular { self.allocated_bytes(view, inode, record) } else { 0 },
            device_number: record.device_number,
            accessed: record.accessed.into(),
            modified: record.modified.into(),
            changed: record.changed.into(),
            created: record.created.into(),
        }
    }

    /// Stored blocks and dirty ones, but not more than the file is long: a block is allocated whole.
    fn allocated_bytes(&self, view: &View<'_>, inode: InodeNumber, record: &AttributesRecord) -> u64 {
        let block_bytes = self.context.block_bytes as u64;
        let dirty: usize =
            view.generations().map(|generation| generation.dirty.range(inode, 0, u64::MAX).count()).sum();
        (record.allocated_bytes + dirty as u64 * block_bytes).min(record.size_bytes.next_multiple_of(4096))
    }

    /// Changes attributes. A change of owner drops set-id bits and capabilities; a change of mode moves the ACL's mask.
    pub fn set_attributes(&self, inode: InodeNumber, set: &SetAttributes) -> Result<Attributes> {
        let mut guard = match set.size_bytes {
            Some(_) => self.change()?,
            None => self.change_at_once()?,
        };
        let mut edit = guard.edit();
        let mut record = match set.size_bytes {
            Some(_) => edit.view().regular_file(inode)?,
            None => edit.view().attributes(inode)?,
        };
        let now = edit.now;
        if let Some(size_bytes) = set.size_bytes {
            self.truncate(&mut edit, inode, &mut record, size_bytes)?;
            edit.touch_content(&mut record);
            edit.drop_capability(inode, &record)?;
            if set.drop_set_id {
                drop_set_id(&mut record);
            }
        }
        // `chown(-1, -1)` keeps set-id bits, against ext4: it comes as a change of nothing, as does root's write to a file
        // with capabilities, which must keep them.
        if set.user.is_some() || set.group.is_some() {
            record.user = set.user.unwrap_or(record.user);
            record.group = set.group.unwrap_or(record.group);
            if record.kind != FileKind::Directory as u8 {
                drop_set_id(&mut record);
                edit.drop_capability(inode, &record)?;
            }
        }
        if let Some(permissions) = set.permissions {
            record.permissions = permissions & 0o7777;
            edit.change_acl_mode(inode, &record)?;
        }
        record.accessed = set.accessed.map_or(record.accessed, |time| time.resolve(now));
        record.modified = set.modified.map_or(record.modified, |time| time.resolve(now));
        record.changed = set.changed.map_or(now, TimeRecord::from);
        edit.put_attributes(inode, &record);
        let attributes = self.public_attributes(&edit.view(), inode, &record);
        self.note_memory(&guard.state);
        Ok(attributes)
    }
}

impl SetTime {
    fn resolve(self, now: TimeRecord) -> TimeRecord {
        match self {
            Self::Now => now,
            Self::At(time) => time.into(),
        }
    }
}

/// As Linux does when a file is written or given away: set-user-id always goes, set-group-id where it would execute.
pub(super) fn drop_set_id(record: &mut AttributesRecord) {
    record.permissions &= !SET_USER_ID;
    if record.permissions & GROUP_EXECUTE != 0 {
        record.permissions &= !SET_GROUP_ID;
    }
}

impl Edit<'_> {
    /// File capabilities do not survive a change of content or owner.
    pub fn drop_capability(&mut self, inode: InodeNumber, record: &AttributesRecord) -> Result<()> {
        if record.has_extended_attributes && self.view().find_extended_attribute(inode, CAPABILITY)?.is_some() {
            self.store_extended_attribute(inode, CAPABILITY, None)?;
        }
        Ok(())
    }

    fn change_acl_mode(&mut self, inode: InodeNumber, record: &AttributesRecord) -> Result<()> {
        if !record.has_extended_attributes {
            return Ok(());
        }
        if let Some(value) = self.view().find_extended_attribute(inode, ACCESS)? {
            let mut acl = Acl::decode(&value)?;
            acl.change_mode(record.permissions);
            self.store_extended_attribute(inode, ACCESS, Some(&acl.encode()))?;
        }
        Ok(())
    }
}
