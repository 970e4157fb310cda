//! The state with its lock: the room that operations and writeback share.
//!
//! The lock is held for looking or for one change. Where it was held for changing, the memory in use is counted and the
//! journal thread hears of the change when it is released: no caller has to remember that.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::alarm::JournalAlarm;
use super::budget::MemoryBudget;
use super::edit::Edit;
use super::generation::{Context, State};
use super::pending::Pending;
use super::refcounts::InodeRefs;
use super::view::{Asker, View};
use super::warnings::Warnings;
use crate::format::items::TimeRecord;
use crate::store::Clock;

/// The state and what is said when it changes.
pub(crate) struct Layers {
    pub context: Context,
    state: RwLock<State>,
    /// Taken after the state, where both are.
    pub refs: Mutex<InodeRefs>,
    pub budget: MemoryBudget,
    pub alarm: JournalAlarm,
    pub warnings: Warnings,
    pub clock: Arc<dyn Clock>,
}

/// The state, locked for looking.
pub(crate) struct ViewGuard<'a> {
    pub state: RwLockReadGuard<'a, State>,
    context: &'a Context,
}

/// The state, locked for a change that is more than an [`Edit`].
pub(crate) struct StateGuard<'a> {
    state: RwLockWriteGuard<'a, State>,
    layers: &'a Layers,
}

/// The state, locked for one operation.
pub(crate) struct EditGuard<'a> {
    pub state: StateGuard<'a>,
    now: TimeRecord,
    monotonic: Duration,
    /// Whether the operation began before the commit was followed that was followed last.
    pub is_behind: bool,
}

impl Layers {
    pub fn new(context: Context, state: State, dirty_bytes_max: usize, clock: Arc<dyn Clock>) -> Self {
        Self {
            context,
            state: RwLock::new(state),
            refs: Mutex::default(),
            budget: MemoryBudget::new(dirty_bytes_max),
            alarm: JournalAlarm::default(),
            warnings: Warnings::default(),
            clock,
        }
    }

    /// The state for looking, item by item.
    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    /// The state for a change of any kind.
    pub fn write(&self) -> StateGuard<'_> {
        StateGuard { state: self.state.write(), layers: self }
    }

    /// The state for looking, as if it were one tree.
    pub fn view(&self) -> ViewGuard<'_> {
        ViewGuard { state: self.state.read(), context: &self.context }
    }

    /// The state for one operation.
    pub fn edit(&self) -> EditGuard<'_> {
        let (now, monotonic) = (self.now(), self.clock.monotonic());
        EditGuard { state: self.write(), now, monotonic, is_behind: false }
    }

    /// The time for timestamps.
    pub fn now(&self) -> TimeRecord {
        match self.clock.now().duration_since(UNIX_EPOCH) {
            Ok(since) => TimeRecord { seconds: since.as_secs() as i64, nanoseconds: since.subsec_nanos() },
            Err(_) => TimeRecord::default(),
        }
    }

    /// Takes no more changes from here on, and says why. What is there can still be read.
    pub fn stop_changes(&self, reason: String) {
        self.warnings.add(format!("no more changes are taken: {reason}"));
        self.write().read_only.get_or_insert(reason);
        self.budget.stop();
    }
}

impl ViewGuard<'_> {
    pub fn view(&self) -> View<'_> {
        View { state: &self.state, context: self.context, below_current: false, asker: Asker::Reader, pending: None }
    }
}

impl Deref for StateGuard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for StateGuard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for StateGuard<'_> {
    fn drop(&mut self) {
        self.layers.alarm.note_change();
        self.layers.budget.note(&self.state);
    }
}

impl EditGuard<'_> {
    pub fn view(&self) -> View<'_> {
        let asker = Asker::Writer { is_behind: self.is_behind };
        let context = &self.state.layers.context;
        View { state: &self.state, context, below_current: false, asker, pending: None }
    }

    /// Begins to gather changes, which take effect with [`Edit::apply`].
    pub fn begin_edit(&mut self) -> Edit<'_> {
        let Self { now, monotonic, is_behind, .. } = *self;
        let context = &self.state.layers.context;
        Edit { state: &mut self.state.state, context, now, monotonic, is_behind, pending: Pending::new() }
    }
}
