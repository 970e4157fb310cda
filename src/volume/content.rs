//! Reading and writing a file's content.
//!
//! A write leaves pieces in the current generation's dirty data and reads nothing. A read takes its pieces and pointers
//! under the lock and fetches stored blocks after it.

use super::attributes::drop_set_id;
use super::{Result, Volume, VolumeError};
use crate::format::{Encoding, InodeNumber, Pointer};
use crate::state::blocks::{BlockPart, block_parts, fill_block};
use crate::state::dirty::Piece;
use crate::state::view::{BlockBase, BlockPlan};

/// The longest file: what a signed 64-bit offset can say.
pub(super) const FILE_BYTES_MAX: u64 = i64::MAX as u64;

/// The leading blocks that are wanted whole, are stored plain, and lie one behind the other: one read gets them all.
fn run_of(plans: &[(BlockPart, BlockPlan)]) -> Vec<Pointer> {
    let mut run: Vec<Pointer> = Vec::new();
    for (part, plan) in plans {
        let BlockBase::Stored(pointer) = plan.base else { break };
        let is_whole = part.start == 0 && pointer.stored_bytes as usize == part.length && plan.patches.is_empty();
        // Without filling: the next block begins where this one's bytes end.
        let is_plain = pointer.encoding == Encoding::Plain && part.length % 16 == 0;
        let follows = run.last().is_none_or(|last| {
            let end = last.offset_bytes() + u64::from(last.stored_bytes);
            last.segment == pointer.segment && end == pointer.offset_bytes()
        });
        if !is_whole || !is_plain || !follows {
            break;
        }
        run.push(pointer);
    }
    run
}

impl Volume {
    /// Reads up to `length` bytes at `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    /// *Not arrived* or *damaged* when a stored block cannot be had: never other bytes than were written.
    pub fn read(&self, inode: InodeNumber, offset: u64, length: usize) -> Result<Vec<u8>> {
        match self.read_once(inode, offset, length) {
            // A block may have been moved since it was looked up, and its old segment be gone.
            Err(VolumeError::NotArrived(_)) => self.read_once(inode, offset, length),
            read => read,
        }
    }

    fn read_once(&self, inode: InodeNumber, offset: u64, length: usize) -> Result<Vec<u8>> {
        let (plans, length) = {
            let guard = self.layers.view();
            let view = guard.view();
            let size_bytes = view.regular_file(inode)?.size_bytes;
            let length = (length as u64).min(size_bytes.saturating_sub(offset)) as usize;
            let mut plans = Vec::new();
            for part in block_parts(self.layers.context.block_bytes, offset, length as u64) {
                plans.push((part, view.plan_block(inode, part.block, part.start, part.length)?));
            }
            (plans, length)
        };
        let mut bytes = vec![0; length];
        let mut rest = bytes.as_mut_slice();
        let mut plans = plans.as_slice();
        while let Some((part, plan)) = plans.first() {
            let run = run_of(plans);
            let run_bytes =
                if run.is_empty() { part.length } else { run.iter().map(|at| at.stored_bytes as usize).sum() };
            let (buffer, behind) = rest.split_at_mut(run_bytes);
            match run.is_empty() {
                true => fill_block(&self.segments, plan, part.start, buffer)?,
                false => self.segments.read_run(&run, buffer)?,
            }
            rest = behind;
            plans = &plans[run.len().max(1)..];
        }
        Ok(bytes)
    }

    /// Writes `data` at `offset`, all or nothing. Durable after [`Volume::sync_file`]. Waits while too much is dirty.
    ///
    /// # Errors
    /// [`VolumeError::NoSpace`] when the disk of the vault or of the state could not take it.
    pub fn write(&self, inode: InodeNumber, offset: u64, data: &[u8], drop_set_id_bits: bool) -> Result<()> {
        let end = offset.checked_add(data.len() as u64).filter(|end| *end <= FILE_BYTES_MAX);
        let end = end.ok_or(VolumeError::FileTooLarge)?;
        if data.is_empty() {
            return Ok(());
        }
        // Copied before the lock is taken, so that it is held for a few pointers only.
        let mut rest = data;
        let pieces: Vec<(u64, Piece)> = block_parts(self.layers.context.block_bytes, offset, data.len() as u64)
            .map(|part| {
                let (bytes, behind) = rest.split_at(part.length);
                rest = behind;
                (part.block, Piece { start: part.start, bytes: bytes.to_vec() })
            })
            .collect();
        self.wait_for_memory()?;
        self.check_room(data.len() as u64)?;
        let mut guard = self.change_at_once()?;
        let mut edit = guard.begin_edit();
        let mut record = edit.view().regular_file(inode)?;
        edit.drop_capability(inode, &record)?;
        let dropped = drop_set_id_bits && drop_set_id(&mut record);
        record.size_bytes = record.size_bytes.max(end);
        edit.touch_content(&mut record);
        edit.put_attributes(inode, &record);
        for (block, piece) in pieces {
            edit.write_dirty((inode, block), piece.start, piece.bytes);
        }
        edit.apply();
        drop(guard);
        self.tell_of_set_id(inode, dropped);
        Ok(())
    }
}
