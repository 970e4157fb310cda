//! Room: what the disks of vault and state still take, and what is waiting to go there.
//!
//! `ENOSPC` must come at `write`, not when it is too late: a change is refused when what is dirty, what is staged and a
//! reserve for the journal and the next commit would no longer fit. The disks are asked at most every half second.

use std::time::Duration;

use parking_lot::Mutex;

use super::{Result, Volume, VolumeError};
use crate::state::types::VolumeSpace;
use crate::store::{Area, Space};

/// How long an answer of the disks is good for.
const ANSWER_AGE_MAX: Duration = Duration::from_millis(500);
/// What is kept free for journal and commit, at the most; on a small disk a sixteenth of it.
const RESERVE_BYTES_MAX: u64 = 32 << 20;

/// The disks' last answer, and what was promised since.
#[derive(Debug, Default)]
pub(super) struct RoomEstimate {
    answer: Mutex<Option<Answer>>,
    /// Held by who asks the disks. Others go on with the last answer, unless room is tight by that.
    asking: Mutex<()>,
}

#[derive(Debug, Clone, Copy)]
struct Answer {
    at: Duration,
    free_bytes: u64,
    promised_bytes: u64,
}

impl Volume {
    /// Room in the volume: the smaller of the vault's disk and the state's.
    pub fn space(&self) -> Result<VolumeSpace> {
        let space = self.smaller_space()?;
        let state = self.layers.read();
        let waiting = (state.current.dirty.bytes() + state.current.overlay.bytes()) as u64;
        Ok(VolumeSpace {
            total_bytes: space.total_bytes,
            free_bytes: space.free_bytes.saturating_sub(waiting + reserve_bytes(&space)),
            inodes: state.inode_count,
            block_bytes: self.layers.context.block_bytes as u32,
        })
    }

    fn smaller_space(&self) -> Result<Space> {
        let store = &self.environment.store;
        let (vault, state) = (store.space(Area::Vault)?, store.space(Area::State)?);
        Ok(if vault.free_bytes <= state.free_bytes { vault } else { state })
    }

    /// Refuses a change that needs `bytes` more than there is room for.
    pub(super) fn check_room(&self, bytes: u64) -> Result<()> {
        let now = self.environment.clock.monotonic();
        let last = *self.room.answer.lock();
        let usable = last.filter(|answer| !answer.is_tight(bytes));
        let is_fresh = usable.is_some_and(|answer| now < answer.at + ANSWER_AGE_MAX);
        if !is_fresh {
            let asking = match usable {
                Some(_) => self.room.asking.try_lock(),
                None => Some(self.room.asking.lock()),
            };
            if asking.is_some() {
                let answer = self.ask_for_room(now)?;
                *self.room.answer.lock() = Some(answer);
            }
        }
        let mut answer = self.room.answer.lock();
        let answer = answer.as_mut().expect("answered above, or before");
        if answer.free_bytes < answer.promised_bytes + bytes.max(1) {
            return Err(VolumeError::NoSpace("the disk of the vault or of the local state is full".into()));
        }
        answer.promised_bytes += bytes;
        Ok(())
    }

    /// Asks the disks. None but those who ask wait for that.
    fn ask_for_room(&self, now: Duration) -> Result<Answer> {
        let space = self.smaller_space()?;
        let state = self.layers.read();
        let generations = state.frozen.iter().chain([&state.current]);
        let waiting: usize = generations.map(|layer| layer.dirty.bytes() + layer.overlay.bytes()).sum();
        let taken = waiting as u64 + waiting as u64 / 8 + reserve_bytes(&space);
        Ok(Answer { at: now, free_bytes: space.free_bytes.saturating_sub(taken), promised_bytes: 0 })
    }
}

impl Answer {
    /// Whether a fresh answer could matter.
    fn is_tight(&self, bytes: u64) -> bool {
        self.free_bytes < self.promised_bytes + bytes + RESERVE_BYTES_MAX
    }
}

/// How much of a disk is kept free: with no more than this, changes are refused.
pub fn reserve_bytes(space: &Space) -> u64 {
    RESERVE_BYTES_MAX.min(space.total_bytes / 16)
}
