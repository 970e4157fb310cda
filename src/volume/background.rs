//! When things happen by themselves: memory kept within its budget, the journal synced every five seconds, commits now and
//! then.
//!
//! Three threads: the *flusher* (`flusher.rs`) writes dirty data to segments before memory is short; the *journal* thread
//! (`journal_thread.rs`) writes changes to the journal; the *publisher* syncs the journal and commits.
//! Writers wait for memory before they take any lock. Without the threads (tests) the same happens at the caller's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{OnceLock, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::space::RoomEstimate;
use super::{Result, Volume, VolumeError};
use crate::state::generation::State;
use crate::state::types::Trouble;

/// How often the journal is synced while there are changes.
const JOURNAL_INTERVAL: Duration = Duration::from_secs(5);
/// New data that starts a commit.
pub(super) const COMMIT_DATA_BYTES: u64 = 256 << 20;
/// Changed items that start a commit, unless memory is shorter.
const COMMIT_ITEM_BYTES: usize = 32 << 20;
/// Data staged for the next commit while one is being made: beyond this, writers wait for it.
const STAGED_BYTES_MAX: u64 = 1 << 30;
/// How much more memory is in use before a flusher that found nothing to flush is called again.
const FLUSHER_CALL_BYTES: usize = 1 << 20;
/// How long a failed publish waits for its next try.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// What the threads and the waiting writers look at.
#[derive(Default)]
pub(super) struct Pressure {
    /// Memory in dirty data and overlays.
    used_bytes: AtomicUsize,
    /// Of it, in the overlay that the next commit will hold.
    item_bytes: AtomicUsize,
    /// Data in the segments that the next commit will publish, and a publish going on.
    staged_bytes: AtomicU64,
    /// Memory in use beyond which the flusher is called.
    call_flusher_at: AtomicUsize,
    stopping: AtomicBool,
    /// No more changes are taken: nothing will be freed either.
    stopped: AtomicBool,
    gate: Mutex<Gate>,
    /// Writers wait here for memory.
    freed: Condvar,
    /// The flusher waits here for work.
    filled: Condvar,
    /// The publisher waits here for its time.
    due: Condvar,
    /// Called by who is about to wait for memory.
    wait_hook: OnceLock<WaitHook>,
    pub room: RoomEstimate,
}

/// What is done before an operation waits for long: whoever serves several lets another one serve meanwhile.
pub type WaitHook = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Gate {
    waiting: usize,
    publish_wanted: bool,
    publish_error: Option<String>,
    flush_error: Option<String>,
}

impl Pressure {
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// From which memory in use a flusher is called again that finds nothing to flush now.
    fn next_flusher_call(&self, flush_from: usize) -> usize {
        flush_from.max(self.used_bytes() + FLUSHER_CALL_BYTES.min(flush_from / 4))
    }

    /// Of these, what only a commit frees.
    pub fn item_bytes(&self) -> usize {
        self.item_bytes.load(Ordering::Relaxed)
    }

    /// The flusher has nothing to do: returns when it may have again.
    pub fn wait_for_flusher_call(&self, flush_from: usize) {
        let mut gate = self.gate.lock();
        self.call_flusher_at.store(self.next_flusher_call(flush_from), Ordering::Relaxed);
        if !self.is_stopping() {
            self.filled.wait_for(&mut gate, Duration::from_millis(500));
        }
    }

    /// Notes how the flusher's last pass ended.
    pub fn note_flush(&self, error: Option<String>) {
        self.gate.lock().flush_error = error;
        self.freed.notify_all();
    }

    /// No more changes are taken: nobody waits for memory any more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.freed.notify_all();
    }

    pub fn publish_error(&self) -> Option<String> {
        self.gate.lock().publish_error.clone()
    }

    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

impl Volume {
    /// Notes what memory is in use, after a change.
    pub(super) fn note_memory(&self, state: &State) {
        self.journal_alarm.note_change();
        let items = state.current.overlay.bytes();
        let frozen = state.frozen.as_ref().map_or(0, |layer| layer.overlay.bytes() + layer.dirty.bytes());
        let used = items + state.current.dirty.bytes() + frozen;
        let before = self.pressure.used_bytes.swap(used, Ordering::Relaxed);
        self.pressure.item_bytes.store(items, Ordering::Relaxed);
        if used < before {
            let call_at = self.pressure.next_flusher_call(self.flush_from_bytes());
            self.pressure.call_flusher_at.fetch_min(call_at, Ordering::Relaxed);
            if self.pressure.gate.lock().waiting > 0 {
                self.pressure.freed.notify_all();
            }
        } else if used > self.pressure.call_flusher_at.load(Ordering::Relaxed) {
            self.pressure.filled.notify_one();
        }
        if items > self.commit_from_bytes() {
            self.want_publish();
        }
    }

    /// Memory in use from which dirty data is flushed.
    pub(super) fn flush_from_bytes(&self) -> usize {
        self.options.dirty_bytes_max / 4
    }

    /// Changed items that start a commit: only that frees them.
    pub(super) fn commit_from_bytes(&self) -> usize {
        COMMIT_ITEM_BYTES.min(self.flush_from_bytes())
    }

    /// Notes how much data is staged for the next commit; the bytes.
    pub(super) fn note_staged(&self) -> u64 {
        let number = self.state.read().current.number;
        let staged = self.data_segments.lock().bytes(number);
        self.pressure.staged_bytes.store(staged, Ordering::Relaxed);
        staged
    }

    /// Notes how a publish ended: writers wait for what it has freed, and do not wait for what cannot happen.
    pub(super) fn note_publish(&self, published: &Result<()>) {
        self.note_staged();
        let is_done = |error: &&VolumeError| self.is_held_back(error) || matches!(error, VolumeError::Forked(_));
        let error = published.as_ref().err().filter(|error| !is_done(error));
        self.pressure.gate.lock().publish_error = error.map(ToString::to_string);
        self.pressure.freed.notify_all();
    }

    /// Whether all is published but blocks that cannot be put together.
    fn is_held_back(&self, error: &VolumeError) -> bool {
        error.is_of_stored_bytes() && self.state.read().frozen.is_none()
    }

    /// What keeps changes out of the vault folder now, if something does.
    pub fn trouble(&self) -> Option<Trouble> {
        let read_only = self.state.read().read_only.clone().map(Trouble::ReadOnly);
        read_only.or_else(|| self.pressure.publish_error().map(Trouble::NotPublished))
    }

    pub(super) fn want_publish(&self) {
        let mut gate = self.pressure.gate.lock();
        if !gate.publish_wanted {
            gate.publish_wanted = true;
            self.pressure.due.notify_one();
        }
    }

    /// Has `hook` called before an operation waits for memory, which may take long. The first one stays.
    pub fn before_waiting(&self, hook: WaitHook) {
        let _ = self.pressure.wait_hook.set(hook);
    }

    /// An operation is about to wait for something that may take long.
    pub(super) fn before_a_wait(&self) {
        if let Some(hook) = self.pressure.wait_hook.get() {
            hook();
        }
    }

    /// Waits until memory is within its budget.
    ///
    /// # Errors
    /// When it cannot become so, because nothing can be published.
    pub(super) fn wait_for_memory(&self) -> Result<()> {
        if self.pressure.used_bytes() <= self.options.dirty_bytes_max && !self.is_staging_full() {
            return Ok(());
        }
        if !self.options.background {
            return self.make_room_now();
        }
        self.before_a_wait();
        let mut gate = self.pressure.gate.lock();
        while self.pressure.used_bytes() > self.options.dirty_bytes_max || self.is_staging_full() {
            self.refuse_to_wait_in_vain(&gate)?;
            gate.waiting += 1;
            gate.publish_wanted |= self.pressure.item_bytes.load(Ordering::Relaxed) > self.commit_from_bytes();
            self.pressure.filled.notify_one();
            self.pressure.due.notify_one();
            self.pressure.freed.wait_for(&mut gate, Duration::from_millis(200));
            gate.waiting -= 1;
            if self.pressure.is_stopping() || self.pressure.stopped.load(Ordering::Relaxed) {
                return Err(VolumeError::ReadOnly("no more changes are taken".into()));
            }
        }
        Ok(())
    }

    /// Memory that only a publish or a flush can free is not waited for while these fail.
    fn refuse_to_wait_in_vain(&self, gate: &Gate) -> Result<()> {
        if let Some(error) = &gate.flush_error {
            return Err(VolumeError::NoSpace(format!("data cannot be written out: {error}").into()));
        }
        let items = self.pressure.item_bytes.load(Ordering::Relaxed);
        let needs_publish = items > self.options.dirty_bytes_max / 2 || self.is_staging_full();
        match &gate.publish_error {
            Some(error) if needs_publish => {
                Err(VolumeError::NoSpace(format!("changes cannot be published: {error}").into()))
            }
            _ => Ok(()),
        }
    }

    fn is_staging_full(&self) -> bool {
        self.pressure.staged_bytes.load(Ordering::Relaxed) > STAGED_BYTES_MAX
    }

    fn make_room_now(&self) -> Result<()> {
        let number = self.state.read().current.number;
        self.flush_generation(number)?;
        if self.pressure.used_bytes() > self.options.dirty_bytes_max {
            self.publish()?;
        }
        Ok(())
    }

    fn run_publisher(volume: &Weak<Self>) {
        let mut schedule = Schedule::default();
        while let Some(volume) = volume.upgrade() {
            {
                let mut gate = volume.pressure.gate.lock();
                let may_try = volume.environment.clock.monotonic() >= schedule.retry_at;
                let has_work = gate.publish_wanted && may_try;
                if !has_work && !volume.pressure.is_stopping() {
                    volume.pressure.due.wait_for(&mut gate, Duration::from_secs(1));
                }
            }
            if volume.pressure.is_stopping() {
                return;
            }
            volume.tick(&mut schedule);
        }
    }

    /// What the publisher does about once a second.
    fn tick(&self, schedule: &mut Schedule) {
        let now = self.environment.clock.monotonic();
        let (is_clean, is_stopped) = {
            let state = self.state.read();
            (state.current.is_empty() && state.frozen.is_none(), state.read_only.is_some())
        };
        if is_clean || is_stopped {
            schedule.changed_since = None;
            self.pressure.gate.lock().publish_wanted = false;
            if is_clean {
                self.look_when_idle();
            }
            return;
        }
        let since = *schedule.changed_since.get_or_insert(now);
        if now >= schedule.journaled_at + JOURNAL_INTERVAL {
            schedule.journaled_at = now;
            if let Err(error) = self.journal_all() {
                self.warn(format!("the journal could not be written: {error}"));
            }
        }
        let interval = self.publisher.lock().interval;
        let wanted = self.pressure.gate.lock().publish_wanted;
        if (wanted || now >= since + interval) && now >= schedule.retry_at {
            self.pressure.gate.lock().publish_wanted = false;
            match self.publish() {
                // The latter was said when it was found.
                Ok(()) | Err(VolumeError::Forked(_)) => schedule.changed_since = None,
                // What has not arrived is waited for at the pace of commits.
                Err(error) if self.is_held_back(&error) => {
                    schedule.changed_since = Some(now);
                    log::info!("not all could be published: {error}");
                }
                Err(error) => {
                    schedule.retry_at = now + RETRY_INTERVAL;
                    self.warn(format!("changes could not be published: {error}"));
                }
            }
        }
    }

    /// Starts the threads.
    pub(super) fn start_threads(self: &std::sync::Arc<Self>) -> std::io::Result<()> {
        let mut threads = self.threads.lock();
        let (flusher, publisher) = (std::sync::Arc::downgrade(self), std::sync::Arc::downgrade(self));
        let journal = std::sync::Arc::downgrade(self);
        let named = |name: &str| std::thread::Builder::new().name(name.into());
        threads.push(named("flusher").spawn(move || Self::stop_on_panic(&flusher, Self::run_flusher))?);
        threads.push(named("journal").spawn(move || Self::stop_on_panic(&journal, Self::run_journal))?);
        threads.push(named("publisher").spawn(move || Self::stop_on_panic(&publisher, Self::run_publisher))?);
        Ok(())
    }

    /// Runs a thread. One that panics must not leave writers waiting for memory that nobody frees any more.
    fn stop_on_panic(volume: &Weak<Self>, run: fn(&Weak<Self>)) {
        if catch_unwind(AssertUnwindSafe(|| run(volume))).is_ok() {
            return;
        }
        if let Some(volume) = volume.upgrade() {
            volume.stop_after_panic("a background thread has failed inside; mount the vault again");
            volume.pressure.note_flush(Some("a background thread has failed".into()));
        }
    }

    /// Publishes what is left and stops the threads.
    ///
    /// # Errors
    /// As [`publish_or_keep`](Self::publish_or_keep): the next mount goes on from what the journal keeps.
    pub fn close(&self) -> Result<()> {
        self.pressure.stopping.store(true, Ordering::Relaxed);
        {
            let _gate = self.pressure.gate.lock();
            self.pressure.filled.notify_all();
            self.pressure.due.notify_all();
            self.pressure.freed.notify_all();
        }
        self.journal_alarm.wake();
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                log::error!("a background thread had panicked");
            }
        }
        self.end_uses();
        self.publish_or_keep()
    }
}

#[derive(Default)]
struct Schedule {
    changed_since: Option<Duration>,
    journaled_at: Duration,
    retry_at: Duration,
}
