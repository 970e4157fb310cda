//! Renaming: move, replace, swap, and leave a whiteout. Changes are gathered and take effect together, so a read that fails
//! changes nothing.
//!
//! A whiteout is what an overlay filesystem (of containers) leaves in its upper folder to hide a name of the lower one: a
//! character device 0:0. It asks for one in the place of what it moves away, in one step with the move.

use super::directory::check_name;
use super::names::SET_GROUP_ID;
use super::{Result, Volume, VolumeError};
use crate::format::InodeNumber;
use crate::format::items::{AttributesRecord, EntryRecord};
use crate::state::edit::Edit;
use crate::state::types::{FileKind, NewNode, RenameMode};

/// A place in the tree of directories.
#[derive(Clone, Copy)]
struct Place<'a> {
    parent: InodeNumber,
    name: &'a [u8],
}

fn is_directory(entry: &EntryRecord) -> bool {
    entry.kind == FileKind::Directory as u8
}

impl Volume {
    /// Moves a name, replacing or swapping as `mode` says.
    pub fn rename(
        &self,
        parent: InodeNumber,
        name: &[u8],
        new_parent: InodeNumber,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<()> {
        self.rename_names(Place { parent, name }, Place { parent: new_parent, name: new_name }, mode, None)
    }

    /// Moves a name, and leaves a whiteout in its place, made as `whiteout` says.
    ///
    /// # Errors
    /// [`VolumeError::Invalid`] with [`RenameMode::Exchange`], which leaves no place.
    pub fn rename_leaving_whiteout(
        &self,
        parent: InodeNumber,
        name: &[u8],
        new_parent: InodeNumber,
        new_name: &[u8],
        mode: RenameMode,
        whiteout: &NewNode,
    ) -> Result<()> {
        if mode == RenameMode::Exchange {
            return Err(VolumeError::Invalid("a whiteout where names are swapped"));
        }
        self.rename_names(Place { parent, name }, Place { parent: new_parent, name: new_name }, mode, Some(whiteout))
    }

    fn rename_names(&self, from: Place<'_>, to: Place<'_>, mode: RenameMode, whiteout: Option<&NewNode>) -> Result<()> {
        let (Place { parent, name }, Place { parent: new_parent, name: new_name }) = (from, to);
        check_name(name)?;
        check_name(new_name)?;
        let mut guard = self.change()?;
        guard.live_directory(parent)?;
        guard.live_directory(new_parent)?;
        let mut edit = guard.begin_edit();
        let source = edit.view().entry(parent, name)?;
        let target = edit.view().find_entry(new_parent, new_name)?;
        refuse_cycle(&edit, &source, new_parent)?;
        match (mode, target) {
            (RenameMode::NoReplace, Some(_)) => return Err(VolumeError::Exists),
            (RenameMode::Exchange, None) => return Err(VolumeError::NotFound),
            (RenameMode::Exchange, Some(target)) => {
                refuse_cycle(&edit, &target, parent)?;
                exchange(&mut edit, from, to, &source, &target)?;
            }
            (_, Some(target)) if target.inode == source.inode => return Ok(()),
            (_, target) => {
                let whiteout = whiteout.map(|new| self.plan_whiteout(&mut edit, parent, new)).transpose()?;
                self.replace(&mut edit, from, to, &source, target)?;
                if let Some((inode, record)) = whiteout {
                    edit.add_entry(parent, name, inode, record.kind)?;
                    edit.put_attributes(inode, &record);
                    edit.count_inodes(1);
                }
            }
        }
        edit.apply();
        drop(guard);
        self.journal.journal_at_once();
        Ok(())
    }

    /// The inode of a whiteout in `parent`: a number, and attributes that are not stored yet.
    fn plan_whiteout(
        &self,
        edit: &mut Edit<'_>,
        parent: InodeNumber,
        new: &NewNode,
    ) -> Result<(InodeNumber, AttributesRecord)> {
        let parent_record = edit.view().attributes(parent)?;
        let inherits_group = parent_record.permissions & SET_GROUP_ID != 0;
        let record = AttributesRecord {
            kind: FileKind::CharacterDevice as u8,
            permissions: new.permissions,
            link_count: 1,
            user: new.user,
            group: if inherits_group { parent_record.group } else { new.group },
            size_bytes: 0,
            allocated_bytes: 0,
            device_number: 0,
            accessed: edit.now,
            modified: edit.now,
            changed: edit.now,
            created: edit.now,
            content: edit.stamp(),
            has_extended_attributes: false,
            has_reserved_blocks: false,
        };
        Ok((self.fresh_inode(edit)?, record))
    }

    fn replace(
        &self,
        edit: &mut Edit<'_>,
        from: Place<'_>,
        to: Place<'_>,
        source: &EntryRecord,
        target: Option<EntryRecord>,
    ) -> Result<()> {
        let mut replaced = None;
        if let Some(target) = &target {
            match (is_directory(source), is_directory(target)) {
                (false, true) => return Err(VolumeError::IsDirectory),
                (true, false) => return Err(VolumeError::NotDirectory),
                (true, true) if !edit.view().is_empty_directory(target.inode)? => return Err(VolumeError::NotEmpty),
                _ => {}
            }
            replaced = Some((target, edit.view().attributes(target.inode)?));
        }
        let mut moved = edit.view().attributes(source.inode)?;
        moved.changed = edit.now;
        if let Some((target, _)) = &replaced {
            edit.remove_entry(to.parent, to.name, target.inode)?;
            if is_directory(target) {
                add_links(edit, to.parent, -1)?;
            }
        }
        edit.remove_entry(from.parent, from.name, source.inode)?;
        edit.add_entry(to.parent, to.name, source.inode, source.kind)?;
        edit.put_attributes(source.inode, &moved);
        if is_directory(source) && from.parent != to.parent {
            add_links(edit, from.parent, -1)?;
            add_links(edit, to.parent, 1)?;
        }
        touch(edit, from.parent)?;
        touch(edit, to.parent)?;
        if let Some((target, record)) = replaced {
            self.drop_link(edit, target.inode, record);
        }
        Ok(())
    }
}

/// A directory must not become its own ancestor.
fn refuse_cycle(edit: &Edit<'_>, moved: &EntryRecord, new_parent: InodeNumber) -> Result<()> {
    if !is_directory(moved) {
        return Ok(());
    }
    let mut inode = new_parent;
    loop {
        if inode == moved.inode {
            return Err(VolumeError::Invalid("a directory cannot move into itself"));
        }
        if inode == InodeNumber::ROOT {
            return Ok(());
        }
        inode = edit.view().parent_of(inode)?;
    }
}

fn exchange(
    edit: &mut Edit<'_>,
    from: Place<'_>,
    to: Place<'_>,
    source: &EntryRecord,
    target: &EntryRecord,
) -> Result<()> {
    if source.inode == target.inode {
        return Ok(());
    }
    let records: [(InodeNumber, AttributesRecord); 2] =
        [(source.inode, edit.view().attributes(source.inode)?), (target.inode, edit.view().attributes(target.inode)?)];
    edit.remove_entry(from.parent, from.name, source.inode)?;
    edit.remove_entry(to.parent, to.name, target.inode)?;
    edit.add_entry(to.parent, to.name, source.inode, source.kind)?;
    edit.add_entry(from.parent, from.name, target.inode, target.kind)?;
    for (inode, mut record) in records {
        record.changed = edit.now;
        edit.put_attributes(inode, &record);
    }
    if from.parent != to.parent && is_directory(source) != is_directory(target) {
        let gained = if is_directory(source) { 1 } else { -1 };
        add_links(edit, to.parent, gained)?;
        add_links(edit, from.parent, -gained)?;
    }
    touch(edit, from.parent)?;
    touch(edit, to.parent)
}

fn add_links(edit: &mut Edit<'_>, inode: InodeNumber, count: i32) -> Result<()> {
    let mut record = edit.view().attributes(inode)?;
    record.link_count = record.link_count.saturating_add_signed(count);
    edit.put_attributes(inode, &record);
    Ok(())
}

fn touch(edit: &mut Edit<'_>, inode: InodeNumber) -> Result<()> {
    let record = edit.view().attributes(inode)?;
    edit.touch_directory(inode, record);
    Ok(())
}
