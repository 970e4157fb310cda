//! Ranges of a file: truncating, punching, inserting and collapsing, seeking holes.
//!
//! Whole blocks go by one range removal; parts of blocks are overwritten with zeros as dirty pieces. So what lies behind
//! the end of a file always reads as zero, and extending it later shows nothing old. Which blocks count as allocated is
//! planned in `reserved.rs` before anything is changed.

use super::attributes::drop_set_id;
use super::content::FILE_BYTES_MAX;
use super::{Result, Volume, VolumeError};
use crate::format::items::AttributesRecord;
use crate::format::{InodeNumber, Key, KeyKind};
use crate::state::blocks::block_parts;
use crate::state::edit::Edit;
use crate::state::reserved::{Run, touched_blocks, whole_blocks};
use crate::state::types::{Allocate, SeekTarget};
use crate::state::view::View;

pub(super) fn extent(inode: InodeNumber, block: u64) -> Key {
    Key::new(inode, KeyKind::Extent, block)
}

impl Volume {
    /// Sets a file's length. Blocks that are reserved behind it go, as on ext4, unless it grows. The caller stores the
    /// attributes.
    pub(super) fn truncate(
        &self,
        edit: &mut Edit<'_>,
        inode: InodeNumber,
        record: &mut AttributesRecord,
        size_bytes: u64,
    ) -> Result<()> {
        if size_bytes > FILE_BYTES_MAX {
            return Err(VolumeError::FileTooLarge);
        }
        if size_bytes == 0 {
            edit.forget_runs(inode, record);
        } else if size_bytes < record.size_bytes || size_bytes == record.size_bytes && record.has_reserved_blocks {
            let behind = Run { first: size_bytes.div_ceil(self.layers.context.block_bytes as u64), last: u64::MAX };
            let change = edit.view().plan_clear(inode, record, behind)?;
            edit.change_runs(inode, record, change);
        }
        if size_bytes < record.size_bytes {
            self.layers.refs.lock().keep_compare(inode, edit.state.root);
            self.clear_range(edit, inode, record.size_bytes, size_bytes, record.size_bytes)?;
        }
        record.size_bytes = size_bytes;
        Ok(())
    }

    /// The whole blocks that become holes when `start..end` is cleared in a file of that size: at its end, with the last
    /// one, of which nothing is left.
    fn cleared_blocks(&self, size_bytes: u64, start: u64, end: u64) -> Option<Run> {
        let block_bytes = self.layers.context.block_bytes as u64;
        let end = if end >= size_bytes { end.next_multiple_of(block_bytes) } else { end };
        whole_blocks(start, end, block_bytes)
    }

    /// Makes `start..end` read as zeros, in a file of `size_bytes`: whole blocks become holes. The caller counts them.
    fn clear_range(
        &self,
        edit: &mut Edit<'_>,
        inode: InodeNumber,
        size_bytes: u64,
        start: u64,
        end: u64,
    ) -> Result<()> {
        let block_bytes = self.layers.context.block_bytes as u64;
        let end_of_file = end >= size_bytes;
        let first_whole = start.div_ceil(block_bytes);
        let end_whole = if end_of_file { u64::MAX } else { end / block_bytes };
        if end_whole > first_whole {
            edit.remove_range(extent(inode, first_whole), extent(inode, end_whole - 1));
            edit.remove_dirty(inode, first_whole, end_whole - 1);
        }
        // At most two blocks are touched in part: the one the range begins in and the one it ends in.
        if !start.is_multiple_of(block_bytes) {
            let until = end.min(first_whole * block_bytes);
            self.clear_part(edit, inode, start, until)?;
        }
        if !end_of_file && !end.is_multiple_of(block_bytes) && end / block_bytes >= first_whole {
            self.clear_part(edit, inode, end - end % block_bytes, end)?;
        }
        Ok(())
    }

    /// Makes a part of one block read as zeros.
    fn clear_part(&self, edit: &mut Edit<'_>, inode: InodeNumber, start: u64, end: u64) -> Result<()> {
        for part in block_parts(self.layers.context.block_bytes, start, end - start) {
            if edit.view().has_block(inode, part.block)? {
                let zeros = vec![0; part.length];
                edit.write_dirty((inode, part.block), part.start, zeros);
            }
        }
        Ok(())
    }

    /// `fallocate`.
    ///
    /// # Errors
    /// [`VolumeError::NoSpace`] when the range to reserve is larger than what is free.
    pub fn allocate(
        &self,
        inode: InodeNumber,
        what: Allocate,
        offset: u64,
        length: u64,
        drop_set_id_bits: bool,
    ) -> Result<()> {
        let end = offset.checked_add(length).filter(|end| *end <= FILE_BYTES_MAX).ok_or(VolumeError::FileTooLarge)?;
        let block_bytes = self.layers.context.block_bytes as u64;
        if length == 0 {
            return Err(VolumeError::Invalid("an empty range"));
        }
        if matches!(what, Allocate::Reserve | Allocate::ReserveKeepSize) {
            self.check_room(length)?;
        }
        let moves_blocks = matches!(what, Allocate::Collapse | Allocate::Insert);
        let mut guard = loop {
            if moves_blocks {
                self.flusher.flush_file(inode)?;
            }
            let guard = self.change()?;
            // Only stored blocks can be moved: what was written meanwhile must be written out, too.
            if !moves_blocks || !guard.view().has_dirty_blocks(inode) {
                break guard;
            }
        };
        let mut edit = guard.begin_edit();
        let mut record = edit.view().regular_file(inode)?;
        let size_bytes = record.size_bytes;
        // What the range to clear holds of the file.
        let until = end.min(size_bytes).max(offset);
        let reserves = !matches!(what, Allocate::PunchHole | Allocate::Collapse | Allocate::Insert);
        let change = match what {
            _ if reserves => {
                Some(edit.view().plan_reserve(inode, &record, touched_blocks(offset, end, block_bytes))?)
            }
            Allocate::PunchHole => {
                let cleared = self.cleared_blocks(size_bytes, offset, end);
                cleared.map(|cleared| edit.view().plan_clear(inode, &record, cleared)).transpose()?
            }
            _ => None,
        };
        change.into_iter().for_each(|change| edit.change_runs(inode, &mut record, change));
        match what {
            Allocate::Reserve => record.size_bytes = size_bytes.max(end),
            Allocate::ReserveKeepSize => {}
            Allocate::PunchHole | Allocate::ZeroKeepSize | Allocate::Zero => {
                if offset < until {
                    self.clear_range(&mut edit, inode, size_bytes, offset, until)?;
                }
                if what == Allocate::Zero {
                    record.size_bytes = size_bytes.max(end);
                }
            }
            Allocate::Collapse => self.collapse(&mut edit, inode, &mut record, offset, length)?,
            Allocate::Insert => self.insert(&mut edit, inode, &mut record, offset, length)?,
        }
        edit.drop_capability(inode, &record)?;
        let dropped = drop_set_id_bits && drop_set_id(&mut record);
        edit.touch_content(&mut record);
        edit.put_attributes(inode, &record);
        edit.apply();
        drop(guard);
        self.tell_of_set_id(inode, dropped);
        Ok(())
    }

    fn collapse(
        &self,
        edit: &mut Edit<'_>,
        inode: InodeNumber,
        record: &mut AttributesRecord,
        offset: u64,
        length: u64,
    ) -> Result<()> {
        let block_bytes = self.layers.context.block_bytes as u64;
        if !offset.is_multiple_of(block_bytes)
            || !length.is_multiple_of(block_bytes)
            || offset + length >= record.size_bytes
        {
            return Err(VolumeError::Invalid("a range to collapse"));
        }
        let (first, count) = (offset / block_bytes, length / block_bytes);
        let change = edit.view().plan_collapse(inode, record, Run { first, last: first + count - 1 })?;
        let moved = take_extents(edit, inode, first)?;
        edit.change_runs(inode, record, change);
        for (block, value) in moved {
            match block.checked_sub(count).filter(|target| *target >= first) {
                Some(target) => edit.put(extent(inode, target), value),
                None => record.allocated_bytes = record.allocated_bytes.saturating_sub(block_bytes),
            }
        }
        record.size_bytes -= length;
        Ok(())
    }

    fn insert(
        &self,
        edit: &mut Edit<'_>,
        inode: InodeNumber,
        record: &mut AttributesRecord,
        offset: u64,
        length: u64,
    ) -> Result<()> {
        let block_bytes = self.layers.context.block_bytes as u64;
        if !offset.is_multiple_of(block_bytes) || !length.is_multiple_of(block_bytes) || offset >= record.size_bytes {
            return Err(VolumeError::Invalid("a range to insert"));
        }
        if record.size_bytes + length > FILE_BYTES_MAX {
            return Err(VolumeError::FileTooLarge);
        }
        let change = edit.view().plan_insert(inode, record, offset / block_bytes, length / block_bytes)?;
        let moved = take_extents(edit, inode, offset / block_bytes)?;
        edit.change_runs(inode, record, change);
        for (block, value) in moved {
            edit.put(extent(inode, block + length / block_bytes), value);
        }
        record.size_bytes += length;
        Ok(())
    }

    /// The next data or hole at or after `offset`; the end of the file is a hole.
    ///
    /// # Errors
    /// [`VolumeError::NoSuchOffset`] at or behind the end of the file, or when no data follows.
    pub fn seek(&self, inode: InodeNumber, offset: u64, target: SeekTarget) -> Result<u64> {
        let guard = self.layers.view();
        let view = guard.view();
        let size_bytes = view.regular_file(inode)?.size_bytes;
        if offset >= size_bytes {
            return Err(VolumeError::NoSuchOffset);
        }
        let block_bytes = self.layers.context.block_bytes as u64;
        let first = offset / block_bytes;
        let found = match target {
            SeekTarget::Data => next_data(&view, inode, first)?.map(|block| (block * block_bytes).max(offset)),
            SeekTarget::Hole => {
                let mut block = first;
                while next_data(&view, inode, block)? == Some(block) && block * block_bytes < size_bytes {
                    block = end_of_run(&view, inode, block)?;
                }
                Some((block * block_bytes).max(offset).min(size_bytes))
            }
        };
        found.filter(|at| *at < size_bytes || target == SeekTarget::Hole).ok_or(VolumeError::NoSuchOffset)
    }
}

/// Removes and returns the extents from `first` on.
fn take_extents(edit: &mut Edit<'_>, inode: InodeNumber, first: u64) -> Result<Vec<(u64, Vec<u8>)>> {
    let mut taken = Vec::new();
    let (from, to) = (extent(inode, first), extent(inode, u64::MAX));
    edit.view().scan(from, to, &mut |key, value| {
        taken.push((key.suffix, value.to_vec()));
        Ok(true)
    })?;
    edit.remove_range(from, to);
    Ok(taken)
}

/// The first block at or after `first` that is stored or dirty.
fn next_data(view: &View<'_>, inode: InodeNumber, first: u64) -> Result<Option<u64>> {
    let dirty = view.generations().filter_map(|generation| generation.dirty.range(inode, first, u64::MAX).next());
    let mut found = dirty.map(|(block, _)| block).min();
    let last = found.unwrap_or(u64::MAX);
    view.scan(extent(inode, first), extent(inode, last), &mut |key, _| {
        found = Some(key.suffix);
        Ok(false)
    })?;
    Ok(found)
}

/// The first block after `block` that is not followed on without a gap; what lies between is data.
fn end_of_run(view: &View<'_>, inode: InodeNumber, block: u64) -> Result<u64> {
    let mut next = block + 1;
    view.scan(extent(inode, next), extent(inode, u64::MAX), &mut |key, _| {
        let adjoins = key.suffix == next;
        next += u64::from(adjoins);
        Ok(adjoins)
    })?;
    Ok(next)
}
