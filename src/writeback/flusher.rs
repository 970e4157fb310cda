//! The flusher: a thread that writes dirty data to segments before memory is short.
//!
//! Worth flushing are whole blocks, and those that nobody has written to for a while; when memory gets short, all. Blocks
//! are looked at in the order of their last writes: once when they are new, and again when they are old. So what a pass
//! costs does not grow with the number of blocks that are left for later.

use std::sync::Weak;
use std::time::Duration;

use super::flush::BlockFlusher;
use crate::format::CommitNumber;
use crate::state::dirty::{BlockAddress, DirtyBlock, DirtyData};
use crate::state::error::{Result, VolumeError};

/// A block that was not written for this long is taken as done.
const BLOCK_IDLE_MIN: Duration = Duration::from_secs(1);
/// How many blocks are flushed in one pass.
const FLUSH_BATCH: usize = 64;
/// How many new blocks are looked at in one pass: the state is locked meanwhile.
const LOOK_BATCH: usize = 1024;

/// A walk over the dirty blocks of a generation, the oldest first, again and again.
#[derive(Debug, Default)]
struct Round {
    generation: Option<CommitNumber>,
    /// The version of the last block that was taken for its age in this round.
    taken: u64,
    /// The version of the last block that was looked at when it was new, in whatever round.
    looked_at: u64,
    has_flushed: bool,
    /// Why a block could not be put together.
    stuck: Option<VolumeError>,
}

impl Round {
    /// The next blocks worth flushing, by file and place. None when all have been looked at.
    fn choose(
        &mut self,
        dirty: &DirtyData,
        is_old: impl Fn(&DirtyBlock) -> bool,
        is_whole: impl Fn(&DirtyBlock) -> bool,
    ) -> Option<Vec<BlockAddress>> {
        let mut chosen = Vec::with_capacity(FLUSH_BATCH);
        for (at, block) in dirty.written_after(self.taken).take_while(|(_, block)| is_old(block)).take(FLUSH_BATCH) {
            self.taken = block.version;
            chosen.push(at);
        }
        let is_more_than_old = chosen.len() < FLUSH_BATCH;
        let mut new = dirty.written_after(self.looked_at.max(self.taken)).take(LOOK_BATCH).peekable();
        if chosen.is_empty() && new.peek().is_none() {
            return None;
        }
        for (at, block) in new.take_while(|_| is_more_than_old) {
            self.looked_at = block.version;
            if is_whole(block) {
                chosen.push(at);
            }
            if chosen.len() == FLUSH_BATCH {
                break;
            }
        }
        chosen.sort_unstable();
        Some(chosen)
    }
}

/// One pass over blocks that are worth flushing now; whether there may be more to do at once.
///
/// # Errors
/// When the disk fails, or when in a whole round nothing could be flushed, for what lies below it cannot be had.
fn flush_pass(flusher: &BlockFlusher, round: &mut Round) -> Result<bool> {
    if !flusher.layers().budget.has_work_for_flusher() {
        return Ok(false);
    }
    let is_short = flusher.layers().budget.is_short();
    let now = flusher.layers().clock.monotonic();
    let (number, chosen) = {
        let state = flusher.layers().read();
        let number = state.current.number;
        if round.generation != Some(number) {
            *round = Round { generation: Some(number), ..Round::default() };
        }
        let is_old = |block: &DirtyBlock| is_short || now.saturating_sub(block.written_at) > BLOCK_IDLE_MIN;
        let is_whole = |block: &DirtyBlock| block.covers(flusher.layers().context.block_bytes);
        (number, round.choose(&state.current.dirty, is_old, is_whole))
    };
    let Some(chosen) = chosen else {
        let ended = std::mem::take(round);
        (round.generation, round.looked_at) = (ended.generation, ended.looked_at);
        // Where items take the memory a commit frees it, whatever is stuck.
        let waits_for_commit = flusher.layers().budget.wants_commit();
        return match ended.stuck {
            Some(error) if !ended.has_flushed && !waits_for_commit => Err(error),
            _ => Ok(ended.has_flushed),
        };
    };
    for at in chosen {
        match flusher.flush_block(number, at) {
            Ok(()) => round.has_flushed = true,
            Err(error) if error.is_of_stored_bytes() => round.stuck = Some(error),
            Err(error) => {
                // The disk: what is left of these blocks is as new as before.
                *round = Round { generation: Some(number), ..Round::default() };
                return Err(error);
            }
        }
    }
    flusher.data().finish_full(number)?;
    flusher.data().note_staged();
    Ok(true)
}

/// Flushes until the volume is closed.
pub(crate) fn run(flusher: &Weak<BlockFlusher>) {
    let (mut round, mut error_before) = (Round::default(), None);
    while let Some(flusher) = flusher.upgrade() {
        let layers = flusher.layers();
        if layers.budget.is_stopping() {
            return;
        }
        let passed = flush_pass(&flusher, &mut round);
        let error = passed.as_ref().err().map(ToString::to_string);
        layers.budget.note_flush(error.clone());
        match &error {
            None if matches!(passed, Ok(true)) => continue,
            Some(text) if error != error_before => {
                layers.warnings.add(format!("data could not be written out: {text}"));
            }
            _ => {}
        }
        if error.is_some() {
            flusher.data().discard_unmentioned();
        }
        error_before = error;
        layers.budget.wait_for_flusher_call();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::format::InodeNumber;

    const BLOCK_BYTES: usize = 100;

    fn write(dirty: &mut DirtyData, inode: u64, length: usize, seconds: u64) -> BlockAddress {
        let at = (InodeNumber(inode), 0);
        dirty.write(at, 0, vec![1; length], Duration::from_secs(seconds));
        at
    }

    fn is_whole(block: &DirtyBlock) -> bool {
        block.covers(BLOCK_BYTES)
    }

    fn written_before(seconds: u64) -> impl Fn(&DirtyBlock) -> bool {
        move |block| block.written_at < Duration::from_secs(seconds)
    }

    #[test]
    fn whole_blocks_are_flushed_at_once_and_parts_when_they_are_old() {
        let (mut dirty, mut round) = (DirtyData::default(), Round::default());
        let part = write(&mut dirty, 1, BLOCK_BYTES - 1, 5);
        let whole = write(&mut dirty, 2, BLOCK_BYTES, 6);
        assert_eq!(round.choose(&dirty, written_before(5), is_whole), Some(vec![whole]));
        dirty.remove(whole);
        assert_eq!(round.choose(&dirty, written_before(5), is_whole), None);
        assert_eq!(round.choose(&dirty, written_before(6), is_whole), Some(vec![part]));
    }

    #[test]
    fn a_block_that_is_written_to_again_is_looked_at_again() {
        let (mut dirty, mut round) = (DirtyData::default(), Round::default());
        let at = write(&mut dirty, 1, BLOCK_BYTES - 1, 0);
        write(&mut dirty, 2, 1, 0);
        assert_eq!(round.choose(&dirty, |_| false, is_whole), Some(vec![]));
        write(&mut dirty, 1, BLOCK_BYTES, 0);
        assert_eq!(round.choose(&dirty, |_| false, is_whole), Some(vec![at]));
    }

    #[test]
    fn what_is_left_for_later_is_not_looked_at_in_every_pass() {
        let (mut dirty, mut round, looks) = (DirtyData::default(), Round::default(), Cell::new(0));
        for inode in 1..=5000 {
            write(&mut dirty, inode, 1, 0);
            let counted = |block: &DirtyBlock| {
                looks.set(looks.get() + 1);
                is_whole(block)
            };
            round.choose(&dirty, |_| false, counted);
        }
        assert_eq!(looks.get(), 5000);
    }

    #[test]
    fn when_memory_is_short_a_round_takes_every_block_once_and_the_oldest_first() {
        let (mut dirty, mut round) = (DirtyData::default(), Round::default());
        for inode in (1..=200).rev() {
            write(&mut dirty, inode, 1, 200 - inode);
        }
        // None can be flushed: all stay dirty.
        let mut taken = Vec::new();
        while let Some(chosen) = round.choose(&dirty, |_| true, is_whole) {
            assert!(!chosen.is_empty() && chosen.len() <= FLUSH_BATCH && chosen.is_sorted());
            assert!(taken.iter().all(|before| chosen.iter().all(|at| at < before)), "older ones have greater numbers");
            taken.extend(chosen);
        }
        assert_eq!(taken.len(), 200);
    }

    #[test]
    fn many_new_blocks_are_looked_at_in_several_passes() {
        let (mut dirty, mut round) = (DirtyData::default(), Round::default());
        (1..=3 * LOOK_BATCH as u64).for_each(|inode| _ = write(&mut dirty, inode, 1, 0));
        let looks = Cell::new(0);
        let counted = |_: &DirtyBlock| {
            looks.set(looks.get() + 1);
            false
        };
        assert_eq!(round.choose(&dirty, |_| false, counted), Some(vec![]));
        assert_eq!(looks.get(), LOOK_BATCH);
        while round.choose(&dirty, |_| false, counted).is_some() {}
        assert_eq!(looks.get(), 3 * LOOK_BATCH);
    }
}
