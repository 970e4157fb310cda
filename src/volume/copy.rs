//! Copying ranges between files, or within one: whole aligned blocks by their pointers, the rest byte by byte.
//!
//! A clone costs no data: both files point to the same stored block. A crash amid a copy leaves a beginning of it.

use super::attributes::drop_set_id;
use super::content::FILE_BYTES_MAX;
use super::ranges::extent;
use super::{Result, Volume, VolumeError};
use crate::format::InodeNumber;
use crate::format::items::{AttributesRecord, ExtentRecord};
use crate::state::edit::Edit;
use crate::state::types::Place;
use crate::state::view::BlockBase;

/// How many blocks one step of a clone handles under the lock.
const CLONED_BLOCKS_A_STEP: u64 = 1024;
/// How much one call of [`Volume::copy_range`] copies at the most where it cannot clone.
const COPIED_BYTES_A_CALL: u64 = 4 << 20;

impl Volume {
    /// Copies `length` bytes. Returns how many were copied, which may be less than asked for.
    ///
    /// # Errors
    /// [`VolumeError::Invalid`] when both places lie in one file and overlap.
    pub fn copy_range(&self, source: Place, target: Place, length: u64, drop_set_id_bits: bool) -> Result<u64> {
        let block_bytes = self.layers.context.block_bytes as u64;
        let source_size = self.layers.view().view().regular_file(source.inode)?.size_bytes;
        let length = length.min(source_size.saturating_sub(source.offset));
        if length == 0 {
            return Ok(0);
        }
        target.offset.checked_add(length).filter(|end| *end <= FILE_BYTES_MAX).ok_or(VolumeError::FileTooLarge)?;
        let overlap = source.offset < target.offset + length && target.offset < source.offset + length;
        if source.inode == target.inode && overlap {
            return Err(VolumeError::Invalid("ranges that overlap"));
        }
        let aligned = source.offset % block_bytes == target.offset % block_bytes;
        let head = (block_bytes - source.offset % block_bytes) % block_bytes;
        if !aligned || length < head + block_bytes && source.offset + length < source_size {
            return self.copy_bytes(source, target, length, drop_set_id_bits);
        }
        if head > 0 {
            return self.copy_bytes(source, target, head.min(length), drop_set_id_bits);
        }
        self.flusher.flush_file(source.inode)?;
        match self.clone_blocks(source, target, length, drop_set_id_bits)? {
            0 => self.copy_bytes(source, target, length.min(block_bytes), drop_set_id_bits),
            cloned => Ok(cloned),
        }
    }

    fn copy_bytes(&self, source: Place, target: Place, length: u64, drop_set_id_bits: bool) -> Result<u64> {
        let bytes = self.read(source.inode, source.offset, length.min(COPIED_BYTES_A_CALL) as usize)?;
        self.write(target.inode, target.offset, &bytes, drop_set_id_bits)?;
        Ok(bytes.len() as u64)
    }

    /// Clones whole blocks, in steps that each leave a valid state; stops at the first block that cannot be cloned.
    fn clone_blocks(&self, source: Place, target: Place, length: u64, drop_set_id_bits: bool) -> Result<u64> {
        let mut done = 0;
        while done < length {
            let mut guard = match self.change() {
                // What was cloned stays cloned: the caller hears how much, and of the error when it goes on.
                Err(_) if done > 0 => break,
                guard => guard?,
            };
            let mut edit = guard.begin_edit();
            let mut record = edit.view().regular_file(target.inode)?;
            let cloned = clone_step(&mut edit, source.behind(done), target.behind(done), length - done, &mut record)?;
            let mut dropped = false;
            if cloned > 0 {
                edit.drop_capability(target.inode, &record)?;
                dropped = drop_set_id_bits && drop_set_id(&mut record);
                edit.touch_content(&mut record);
                edit.put_attributes(target.inode, &record);
            }
            edit.apply();
            drop(guard);
            self.tell_of_set_id(target.inode, dropped);
            done += cloned;
            if cloned == 0 {
                break;
            }
        }
        Ok(done)
    }
}

/// Clones so many blocks as one hold of the lock should; returns how many bytes that were.
fn clone_step(
    edit: &mut Edit<'_>,
    source: Place,
    target: Place,
    length: u64,
    record: &mut AttributesRecord,
) -> Result<u64> {
    let block_bytes = edit.context.block_bytes as u64;
    let source_size = edit.view().regular_file(source.inode)?.size_bytes;
    let mut done = 0;
    for _ in 0..CLONED_BLOCKS_A_STEP {
        let (from, to) = (source.behind(done), target.behind(done));
        let step = block_bytes.min(length - done);
        // A part of a block is cloned only where it is the end of both files.
        let ends_both = from.offset + step >= source_size && to.offset + step >= record.size_bytes;
        let block = from.offset / block_bytes;
        if step == 0 || (step < block_bytes && !ends_both) || edit.view().is_dirty(source.inode, block) {
            break;
        }
        let base = edit.view().block_base(source.inode, block)?;
        clone_block(edit, target.inode, to.offset / block_bytes, base, record)?;
        done += step;
        record.size_bytes = record.size_bytes.max(target.offset + done);
    }
    Ok(done)
}

fn clone_block(
    edit: &mut Edit<'_>,
    target: InodeNumber,
    block: u64,
    base: BlockBase,
    record: &mut AttributesRecord,
) -> Result<()> {
    let block_bytes = edit.context.block_bytes as u64;
    let had = edit.view().block_base(target, block)? != BlockBase::Hole;
    if base == BlockBase::Hole && !had && !edit.view().is_dirty(target, block) {
        // A hole over a hole: nothing to remember, however many there are.
        return Ok(());
    }
    let is_reserved = edit.view().is_reserved(target, record, block)?;
    edit.remove_dirty(target, block, block);
    let key = extent(target, block);
    match &base {
        BlockBase::Hole => edit.remove(key),
        BlockBase::Inline(bytes) => edit.put(key, ExtentRecord::Inline(bytes).encode()),
        BlockBase::Stored(pointer) => edit.put(key, ExtentRecord::Stored(*pointer).encode()),
    }
    match (had, base != BlockBase::Hole) {
        // Counted in any case.
        _ if is_reserved => {}
        (false, true) => record.allocated_bytes = record.allocated_bytes.saturating_add(block_bytes),
        (true, false) => record.allocated_bytes = record.allocated_bytes.saturating_sub(block_bytes),
        _ => {}
    }
    Ok(())
}
