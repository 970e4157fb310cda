//! Blocks that `fallocate` has reserved.
//!
//! A log cannot hold room back for a block: what is written goes to a new place, whenever it comes. What reserving promises
//! here is what programs look at: a reserved block counts as allocated (`st_blocks`), and stays so however often it is
//! written, until it is punched out or cut off. It reads as zeros and is a hole to `lseek` until it is written.
//!
//! The tree holds one item for each run of reserved blocks of a file, under its last block; the value is the first one. So
//! a reserve of a tebibyte is one item. Runs are disjoint. What is *stored* of a run does not matter to it: writing changes
//! no run, and a file's allocated bytes count the blocks that are stored or reserved.
//!
//! A file whose attributes do not bear the mark has no runs, and is not searched for them.

use super::edit::Edit;
use super::error::Result;
use super::view::View;
use crate::format::items::{AttributesRecord, ReservedRecord};
use crate::format::{InodeNumber, Key, KeyKind};

/// A run of blocks, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub first: u64,
    pub last: u64,
}

/// How reserved runs and the count of allocated blocks change; found without changing anything.
#[derive(Debug, Default)]
pub(crate) struct RunChange {
    removed: Vec<Run>,
    added: Vec<Run>,
    /// How many blocks count as allocated from now on that did not, or no longer do.
    blocks: i64,
}

impl Run {
    fn overlap(self, other: Run) -> Option<Run> {
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (first <= last).then_some(Run { first, last })
    }

    /// All blocks behind it.
    fn behind(self) -> Run {
        Run { first: self.last + 1, last: u64::MAX }
    }

    fn blocks(self) -> u64 {
        self.last - self.first + 1
    }

    fn key(self, inode: InodeNumber) -> Key {
        Key::new(inode, KeyKind::ReservedRun, self.last)
    }
}

/// The blocks that lie wholly in `start..end`.
pub(crate) fn whole_blocks(start: u64, end: u64, block_bytes: u64) -> Option<Run> {
    let (first, end) = (start.div_ceil(block_bytes), end / block_bytes);
    (first < end).then(|| Run { first, last: end - 1 })
}

/// The blocks that `start..end`, which is not empty, touches.
pub(crate) fn touched_blocks(start: u64, end: u64, block_bytes: u64) -> Run {
    Run { first: start / block_bytes, last: (end - 1) / block_bytes }
}

impl View<'_> {
    /// The reserved runs that `window` meets, in order.
    pub fn reserved_runs(&self, inode: InodeNumber, record: &AttributesRecord, window: Run) -> Result<Vec<Run>> {
        let mut runs = Vec::new();
        if !record.has_reserved_blocks {
            return Ok(runs);
        }
        let key = |block| Key::new(inode, KeyKind::ReservedRun, block);
        self.scan(key(window.first), key(u64::MAX), &mut |key, value| {
            let run = Run { first: ReservedRecord::decode(key, value)?.first_block, last: key.suffix };
            let meets = run.first <= window.last;
            runs.extend(meets.then_some(run));
            Ok(meets)
        })?;
        Ok(runs)
    }

    /// Whether a block is reserved.
    pub fn is_reserved(&self, inode: InodeNumber, record: &AttributesRecord, block: u64) -> Result<bool> {
        Ok(!self.reserved_runs(inode, record, Run { first: block, last: block })?.is_empty())
    }

    fn count_extents(&self, inode: InodeNumber, window: Run) -> Result<u64> {
        let mut count = 0;
        let key = |block| Key::new(inode, KeyKind::Extent, block);
        self.scan(key(window.first), key(window.last), &mut |_, _| {
            count += 1;
            Ok(true)
        })?;
        Ok(count)
    }

    fn count_not_stored(&self, inode: InodeNumber, run: Run) -> Result<u64> {
        Ok(run.blocks() - self.count_extents(inode, run)?)
    }

    /// What it takes to reserve the blocks of `window`.
    pub fn plan_reserve(&self, inode: InodeNumber, record: &AttributesRecord, window: Run) -> Result<RunChange> {
        let touching = Run { first: window.first.saturating_sub(1), last: window.last.saturating_add(1) };
        let removed = self.reserved_runs(inode, record, touching)?;
        let (mut blocks, mut next, mut whole) = (0, window.first, window);
        for run in &removed {
            if run.first > next {
                blocks += self.count_not_stored(inode, Run { first: next, last: run.first - 1 })?;
            }
            next = next.max(run.last.saturating_add(1));
            whole = Run { first: whole.first.min(run.first), last: whole.last.max(run.last) };
        }
        if next <= window.last {
            blocks += self.count_not_stored(inode, Run { first: next, last: window.last })?;
        }
        Ok(RunChange { removed, added: vec![whole], blocks: blocks as i64 })
    }

    /// What it takes that no block of `window` is stored or reserved any more. The caller removes the extents.
    pub fn plan_clear(&self, inode: InodeNumber, record: &AttributesRecord, window: Run) -> Result<RunChange> {
        let mut change = self.plan_cut(inode, record, window)?;
        change.blocks -= self.count_extents(inode, window)? as i64;
        Ok(change)
    }

    /// What it takes that no block of `window` is reserved any more.
    fn plan_cut(&self, inode: InodeNumber, record: &AttributesRecord, window: Run) -> Result<RunChange> {
        let mut change = RunChange { removed: self.reserved_runs(inode, record, window)?, ..RunChange::default() };
        for run in &change.removed {
            let gone = run.overlap(window).expect("it meets the window");
            change.blocks -= self.count_not_stored(inode, gone)? as i64;
            if run.first < gone.first {
                change.added.push(Run { first: run.first, last: gone.first - 1 });
            }
            if run.last > gone.last {
                change.added.push(Run { first: gone.last + 1, last: run.last });
            }
        }
        Ok(change)
    }

    /// What it takes that the blocks of `gone` are taken out of the file, and those behind them move down. The caller moves
    /// the extents, and counts those that go.
    pub fn plan_collapse(&self, inode: InodeNumber, record: &AttributesRecord, gone: Run) -> Result<RunChange> {
        let mut change = self.plan_cut(inode, record, gone)?;
        // What is left behind `gone` of a run that it cuts moves down as the other runs there do.
        change.added.retain(|run| run.last < gone.first);
        let moved = self.reserved_runs(inode, record, gone.behind())?;
        change.removed.extend(moved.iter().filter(|run| run.first > gone.last));
        let down = |block: u64| block.max(gone.last + 1) - gone.blocks();
        change.added.extend(moved.iter().map(|run| Run { first: down(run.first), last: down(run.last) }));
        Ok(change)
    }

    /// What it takes that the blocks from `from` on move up by `count`. A run that begins before is split. The caller moves
    /// the extents.
    pub fn plan_insert(
        &self,
        inode: InodeNumber,
        record: &AttributesRecord,
        from: u64,
        count: u64,
    ) -> Result<RunChange> {
        let window = Run { first: from, last: u64::MAX };
        let mut change = RunChange { removed: self.reserved_runs(inode, record, window)?, ..RunChange::default() };
        for run in &change.removed {
            if run.first < from {
                change.added.push(Run { first: run.first, last: from - 1 });
            }
            change.added.push(Run { first: run.first.max(from) + count, last: run.last + count });
        }
        Ok(change)
    }
}

impl Edit<'_> {
    /// Makes a planned change. The caller stores the attributes.
    pub fn change_runs(&mut self, inode: InodeNumber, record: &mut AttributesRecord, change: RunChange) {
        let bytes = change.blocks.saturating_mul(self.context.block_bytes as i64);
        record.allocated_bytes = record.allocated_bytes.saturating_add_signed(bytes);
        record.has_reserved_blocks |= !change.added.is_empty();
        for run in change.removed {
            self.remove(run.key(inode));
        }
        for run in change.added {
            self.put(run.key(inode), ReservedRecord { first_block: run.first }.encode().as_slice());
        }
    }

    /// Forgets all runs of a file that becomes empty, and counts nothing as allocated. The caller removes the extents.
    pub fn forget_runs(&mut self, inode: InodeNumber, record: &mut AttributesRecord) {
        if record.has_reserved_blocks {
            let key = |block| Key::new(inode, KeyKind::ReservedRun, block);
            self.remove_range(key(0), key(u64::MAX));
        }
        record.has_reserved_blocks = false;
        record.allocated_bytes = 0;
    }
}
