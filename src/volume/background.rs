//! When things happen by themselves: memory kept within its budget, the journal synced every five seconds, commits now and
//! then.
//!
//! Three threads: the *flusher* (`flusher.rs`) writes dirty data to segments before memory is short; the *journal* thread
//! (`journal_thread.rs`) writes changes to the journal; the *publisher* syncs the journal and commits.
//! Writers wait for memory before they take any lock. Without the threads (tests) the same happens at the caller's.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::{Result, Volume, VolumeError};
use crate::state::budget::WaitHook;
use crate::state::types::Trouble;
use crate::writeback::{flusher, journal_thread};

/// How often the journal is synced while there are changes.
const JOURNAL_INTERVAL: Duration = Duration::from_secs(5);
/// How long a failed publish waits for its next try.
const RETRY_INTERVAL: Duration = Duration::from_secs(10);

impl Volume {
    /// Notes how a publish ended: writers wait for what it has freed, and do not wait for what cannot happen.
    pub(super) fn note_publish(&self, published: &Result<()>) {
        self.data.note_staged();
        let is_done = |error: &&VolumeError| self.is_held_back(error) || matches!(error, VolumeError::Forked(_));
        let error = published.as_ref().err().filter(|error| !is_done(error));
        self.layers.budget.note_publish(error.map(ToString::to_string));
    }

    /// Whether all is published but blocks that cannot be put together.
    fn is_held_back(&self, error: &VolumeError) -> bool {
        error.is_of_stored_bytes() && self.layers.read().frozen.is_none()
    }

    /// What keeps changes out of the vault folder now, if something does.
    pub fn trouble(&self) -> Option<Trouble> {
        let read_only = self.layers.read().read_only.clone().map(Trouble::ReadOnly);
        read_only.or_else(|| self.layers.budget.publish_error().map(Trouble::NotPublished))
    }

    /// Has `hook` called before an operation waits for memory, which may take long. The first one stays.
    pub fn before_waiting(&self, hook: WaitHook) {
        self.layers.budget.before_waiting(hook);
    }

    /// Waits until memory is within its budget.
    ///
    /// # Errors
    /// When it cannot become so, because nothing can be published.
    pub(super) fn wait_for_memory(&self) -> Result<()> {
        let budget = &self.layers.budget;
        match budget.is_exceeded() || budget.is_staging_full() {
            false => Ok(()),
            true if self.options.background => budget.wait(),
            true => self.make_room_now(),
        }
    }

    fn make_room_now(&self) -> Result<()> {
        let number = self.layers.read().current.number;
        self.flusher.flush_generation(number)?;
        if self.layers.budget.is_exceeded() {
            self.publish()?;
        }
        Ok(())
    }

    fn run_publisher(volume: &Weak<Self>) {
        let mut schedule = Schedule::default();
        while let Some(volume) = volume.upgrade() {
            let may_try = volume.environment.clock.monotonic() >= schedule.retry_at;
            volume.layers.budget.wait_for_publish_time(may_try);
            if volume.layers.budget.is_stopping() {
                return;
            }
            volume.tick(&mut schedule);
        }
    }

    /// What the publisher does about once a second.
    fn tick(&self, schedule: &mut Schedule) {
        let now = self.environment.clock.monotonic();
        let (is_clean, is_stopped) = {
            let state = self.layers.read();
            (state.current.is_empty() && state.frozen.is_none(), state.read_only.is_some())
        };
        if is_clean || is_stopped {
            schedule.changed_since = None;
            self.layers.budget.drop_publish_wish();
            if is_clean {
                self.look_when_idle();
            }
            return;
        }
        let since = *schedule.changed_since.get_or_insert(now);
        if now >= schedule.journaled_at + JOURNAL_INTERVAL {
            schedule.journaled_at = now;
            if let Err(error) = self.journal.journal_all() {
                self.layers.warnings.add(format!("the journal could not be written: {error}"));
            }
        }
        let interval = self.publisher.lock().interval;
        let wanted = self.layers.budget.is_publish_wanted();
        if (wanted || now >= since + interval) && now >= schedule.retry_at {
            self.layers.budget.drop_publish_wish();
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
                    self.layers.warnings.add(format!("changes could not be published: {error}"));
                }
            }
        }
    }

    /// Starts the threads.
    pub(super) fn start_threads(self: &Arc<Self>) -> std::io::Result<()> {
        let volume = Arc::downgrade(self);
        let (flusher, journal, publisher) =
            (Arc::downgrade(&self.flusher), Arc::downgrade(&self.journal), volume.clone());
        let start = |name: &str, run: Box<dyn FnOnce() + Send>| {
            let volume = volume.clone();
            std::thread::Builder::new().name(name.into()).spawn(move || Self::stop_on_panic(&volume, run))
        };
        let mut threads = self.threads.lock();
        threads.push(start("flusher", Box::new(move || flusher::run(&flusher)))?);
        threads.push(start("journal", Box::new(move || journal_thread::run(&journal)))?);
        threads.push(start("publisher", Box::new(move || Self::run_publisher(&publisher)))?);
        Ok(())
    }

    /// Runs a thread. One that panics must not leave writers waiting for memory that nobody frees any more.
    fn stop_on_panic(volume: &Weak<Self>, run: Box<dyn FnOnce() + Send>) {
        if catch_unwind(AssertUnwindSafe(run)).is_ok() {
            return;
        }
        if let Some(volume) = volume.upgrade() {
            volume.journal.stop_after_panic("a background thread has failed inside; mount the vault again");
            volume.layers.budget.note_flush(Some("a background thread has failed".into()));
        }
    }

    /// Publishes what is left and stops the threads.
    ///
    /// # Errors
    /// As [`publish_or_keep`](Self::publish_or_keep): the next mount goes on from what the journal keeps.
    pub fn close(&self) -> Result<()> {
        self.layers.budget.begin_stop();
        self.layers.alarm.wake();
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
