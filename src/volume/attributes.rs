//! `stat` and what changes it: chmod, chown, truncate, utimensat.

use super::acl::{ACCESS, Acl};
use super::{Result, Volume};
use crate::format::InodeNumber;
use crate::format::items::{AttributesRecord, TimeRecord};
use crate::state::edit::Edit;
use crate::state::reserved::Run;
use crate::state::types::{AccessTimes, Attributes, FileKind, SetAttributes, SetTime};
use crate::state::view::View;

const SET_USER_ID: u16 = 0o4000;
const SET_GROUP_ID: u16 = 0o2000;
const GROUP_EXECUTE: u16 = 0o0010;
/// An access time that old is moved under `relatime` though nothing has changed.
const ACCESS_AGE_SECONDS_MAX: i64 = 24 * 60 * 60;
const CAPABILITY: &[u8] = b"security.capability";

/// What is done when a change of content has dropped set-id bits of an inode: who shows its mode from a cache learns of it.
pub type SetIdHook = Box<dyn Fn(InodeNumber) + Send + Sync>;

impl Volume {
    /// Has `hook` called after each change of content that dropped set-id bits, before the operation returns and with no
    /// lock held. The first hook stays. (What [`Volume::set_attributes`] drops, it answers with.)
    pub fn after_dropping_set_id(&self, hook: SetIdHook) {
        let _ = self.set_id_hook.set(hook);
    }

    /// Called by an operation that has given the lock back: whether it `dropped` set-id bits of `inode`.
    pub(super) fn tell_of_set_id(&self, inode: InodeNumber, dropped: bool) {
        if let Some(hook) = self.set_id_hook.get().filter(|_| dropped) {
            hook(inode);
        }
    }

    /// An inode's attributes.
    pub fn attributes(&self, inode: InodeNumber) -> Result<Attributes> {
        let guard = self.layers.view();
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

    /// Stored or reserved blocks and dirty ones, but not more than the file, or its reserve, is long: a block is allocated
    /// whole.
    fn allocated_bytes(&self, view: &View<'_>, inode: InodeNumber, record: &AttributesRecord) -> u64 {
        let block_bytes = self.layers.context.block_bytes as u64;
        let everything = Run { first: 0, last: u64::MAX };
        let runs = view.reserved_runs(inode, record, everything).unwrap_or_else(|error| {
            log::warn!("the reserved blocks of inode {inode} cannot be read: {error}");
            Vec::new()
        });
        let is_reserved =
            |block: u64| runs.get(runs.partition_point(|run| run.last < block)).is_some_and(|run| run.first <= block);
        let dirty = view.generations().flat_map(|generation| generation.dirty.range(inode, 0, u64::MAX));
        let dirty = dirty.filter(|(block, _)| !is_reserved(*block)).count() as u64;
        let reserve_end = runs.last().map_or(0, |run| run.last.saturating_add(1).saturating_mul(block_bytes));
        let end = record.size_bytes.checked_next_multiple_of(4096).unwrap_or(u64::MAX).max(reserve_end);
        record.allocated_bytes.saturating_add(dirty * block_bytes).min(end)
    }

    /// Changes attributes. A change of owner drops set-id bits and capabilities; a change of mode moves the ACL's mask.
    pub fn set_attributes(&self, inode: InodeNumber, set: &SetAttributes) -> Result<Attributes> {
        let mut guard = match set.size_bytes {
            Some(_) => self.change()?,
            None => self.change_at_once()?,
        };
        let mut edit = guard.begin_edit();
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
        edit.apply();
        let attributes = self.public_attributes(&guard.view(), inode, &record);
        Ok(attributes)
    }

    /// Somebody begins to read an inode: moves its access time where `times` say so. Whether it was moved.
    pub fn note_access(&self, inode: InodeNumber, times: AccessTimes) -> Result<bool> {
        if times == AccessTimes::Never
            || !is_access_due(times, &self.layers.view().view().attributes(inode)?, self.layers.now())
        {
            return Ok(false);
        }
        let mut guard = self.change()?;
        let mut edit = guard.begin_edit();
        let mut record = edit.view().attributes(inode)?;
        if !is_access_due(times, &record, edit.now) {
            return Ok(false);
        }
        record.accessed = edit.now;
        edit.put_attributes(inode, &record);
        edit.apply();
        Ok(true)
    }
}

/// Whether an access time has to move when the inode is read `now`.
fn is_access_due(times: AccessTimes, record: &AttributesRecord, now: TimeRecord) -> bool {
    let order = |time: TimeRecord| (time.seconds, time.nanoseconds);
    let accessed = order(record.accessed);
    match times {
        AccessTimes::Never => false,
        AccessTimes::Relative => {
            let is_old = now.seconds.saturating_sub(record.accessed.seconds) >= ACCESS_AGE_SECONDS_MAX;
            is_old || accessed <= order(record.modified) || accessed <= order(record.changed)
        }
        AccessTimes::Always => accessed != order(now),
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
/// Whether any was there to go.
pub(super) fn drop_set_id(record: &mut AttributesRecord) -> bool {
    let before = record.permissions;
    record.permissions &= !SET_USER_ID;
    if record.permissions & GROUP_EXECUTE != 0 {
        record.permissions &= !SET_GROUP_ID;
    }
    record.permissions != before
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
