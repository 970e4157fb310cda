//! The memory budget: what changes take in memory, and who waits for it to become less.
//!
//! Writers wait here before they take any lock. The flusher and the publisher are called from here when there is work.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::error::{Result, VolumeError};
use super::generation::State;

/// Changed items that start a commit, unless memory is shorter.
const COMMIT_ITEM_BYTES: usize = 32 << 20;
/// New data that starts a commit.
const COMMIT_DATA_BYTES: u64 = 256 << 20;
/// Data staged for the next commit while one is being made: beyond this, writers wait for it.
const STAGED_BYTES_MAX: u64 = 1 << 30;
/// How much more memory is in use before a flusher that found nothing to flush is called again.
const FLUSHER_CALL_BYTES: usize = 1 << 20;

/// What is done before an operation waits for long: the FUSE layer wakes another reader.
pub type WaitHook = Box<dyn Fn() + Send + Sync>;

/// What the background threads and the waiting writers look at.
pub(crate) struct MemoryBudget {
    /// The most that dirty data and overlays may take.
    dirty_bytes_max: usize,
    /// Memory in dirty data and overlays.
    used_bytes: AtomicUsize,
    /// Of it, in the overlay that the next commit will hold: only a commit frees that.
    item_bytes: AtomicUsize,
    /// Data in the segments that the next commit will publish.
    staged_bytes: AtomicU64,
    /// Memory in use beyond which the flusher is called.
    call_flusher_at: AtomicUsize,
    is_stopping: AtomicBool,
    /// No more changes are taken: nothing will be freed either.
    has_stopped: AtomicBool,
    gate: Mutex<Gate>,
    /// Writers wait here for memory.
    freed: Condvar,
    /// The flusher waits here for work.
    filled: Condvar,
    /// The publisher waits here for its time.
    due: Condvar,
    wait_hook: OnceLock<WaitHook>,
}

#[derive(Default)]
struct Gate {
    waiting: usize,
    publish_wanted: bool,
    publish_error: Option<String>,
    flush_error: Option<String>,
}

impl MemoryBudget {
    pub fn new(dirty_bytes_max: usize) -> Self {
        Self {
            dirty_bytes_max,
            used_bytes: AtomicUsize::default(),
            item_bytes: AtomicUsize::default(),
            staged_bytes: AtomicU64::default(),
            call_flusher_at: AtomicUsize::default(),
            is_stopping: AtomicBool::default(),
            has_stopped: AtomicBool::default(),
            gate: Mutex::default(),
            freed: Condvar::new(),
            filled: Condvar::new(),
            due: Condvar::new(),
            wait_hook: OnceLock::new(),
        }
    }

    /// Notes what memory is in use, after a change.
    pub fn note(&self, state: &State) {
        let items = state.current.overlay.bytes();
        let frozen = state.frozen.as_ref().map_or(0, |layer| layer.overlay.bytes() + layer.dirty.bytes());
        let used = items + state.current.dirty.bytes() + frozen;
        let before = self.used_bytes.swap(used, Ordering::Relaxed);
        self.item_bytes.store(items, Ordering::Relaxed);
        if used < before {
            let call_at = self.next_flusher_call();
            self.call_flusher_at.fetch_min(call_at, Ordering::Relaxed);
            if self.gate.lock().waiting > 0 {
                self.freed.notify_all();
            }
        } else if used > self.call_flusher_at.load(Ordering::Relaxed) {
            self.filled.notify_one();
        }
        if items > self.commit_from_bytes() {
            self.want_publish();
        }
    }

    /// Memory in dirty data and overlays.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Whether writers have to wait, or make room themselves.
    pub fn is_exceeded(&self) -> bool {
        self.used_bytes() > self.dirty_bytes_max
    }

    /// Whether more than half of the budget is in use: then the flusher takes every block.
    pub fn is_short(&self) -> bool {
        self.used_bytes() > self.dirty_bytes_max / 2
    }

    /// Whether there is enough for the flusher to do.
    pub fn has_work_for_flusher(&self) -> bool {
        self.used_bytes() > self.flush_from_bytes()
    }

    /// Whether items take so much memory that a commit is due.
    pub fn wants_commit(&self) -> bool {
        self.item_bytes.load(Ordering::Relaxed) > self.commit_from_bytes()
    }

    /// Memory in use from which dirty data is flushed.
    fn flush_from_bytes(&self) -> usize {
        self.dirty_bytes_max / 4
    }

    fn commit_from_bytes(&self) -> usize {
        COMMIT_ITEM_BYTES.min(self.flush_from_bytes())
    }

    /// From which memory in use a flusher is called again that finds nothing to flush now.
    fn next_flusher_call(&self) -> usize {
        let flush_from = self.flush_from_bytes();
        flush_from.max(self.used_bytes() + FLUSHER_CALL_BYTES.min(flush_from / 4))
    }

    /// The flusher has nothing to do: returns when it may have again.
    pub fn wait_for_flusher_call(&self) {
        let mut gate = self.gate.lock();
        self.call_flusher_at.store(self.next_flusher_call(), Ordering::Relaxed);
        if !self.is_stopping() {
            self.filled.wait_for(&mut gate, Duration::from_millis(500));
        }
    }

    /// Notes how the flusher's last pass ended.
    pub fn note_flush(&self, error: Option<String>) {
        self.gate.lock().flush_error = error;
        self.freed.notify_all();
    }

    /// Notes how much data is staged for the next commit; much of it starts one.
    pub fn note_staged(&self, bytes: u64) {
        self.staged_bytes.store(bytes, Ordering::Relaxed);
        if bytes > COMMIT_DATA_BYTES {
            self.want_publish();
        }
    }

    /// Whether so much data is staged that writers wait for a commit.
    pub fn is_staging_full(&self) -> bool {
        self.staged_bytes.load(Ordering::Relaxed) > STAGED_BYTES_MAX
    }

    /// Notes how a publish ended: writers wait for what it has freed, and do not wait for what cannot happen.
    pub fn note_publish(&self, error: Option<String>) {
        self.gate.lock().publish_error = error;
        self.freed.notify_all();
    }

    /// Why the last publish failed.
    pub fn publish_error(&self) -> Option<String> {
        self.gate.lock().publish_error.clone()
    }

    /// Has the publisher publish soon.
    pub fn want_publish(&self) {
        let mut gate = self.gate.lock();
        if !gate.publish_wanted {
            gate.publish_wanted = true;
            self.due.notify_one();
        }
    }

    /// The publisher waits for its time: a second at most, less where a publish is wanted and it `may_try`.
    pub fn wait_for_publish_time(&self, may_try: bool) {
        let mut gate = self.gate.lock();
        let has_work = gate.publish_wanted && may_try;
        if !has_work && !self.is_stopping() {
            self.due.wait_for(&mut gate, Duration::from_secs(1));
        }
    }

    /// Whether a publish is wanted.
    pub fn is_publish_wanted(&self) -> bool {
        self.gate.lock().publish_wanted
    }

    /// Notes that no publish is wanted any more.
    pub fn drop_publish_wish(&self) {
        self.gate.lock().publish_wanted = false;
    }

    /// No more changes are taken: nobody waits for memory any more.
    pub fn stop(&self) {
        self.has_stopped.store(true, Ordering::Relaxed);
        self.freed.notify_all();
    }

    /// The volume is being closed: the threads end.
    pub fn begin_stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
        let _gate = self.gate.lock();
        self.filled.notify_all();
        self.due.notify_all();
        self.freed.notify_all();
    }

    /// Whether the volume is being closed.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }

    /// Has `hook` called before an operation waits for long. The first one stays.
    pub fn before_waiting(&self, hook: WaitHook) {
        let _ = self.wait_hook.set(hook);
    }

    /// An operation is about to wait for something that may take long.
    pub fn call_wait_hook(&self) {
        if let Some(hook) = self.wait_hook.get() {
            hook();
        }
    }

    /// Waits until memory is within its budget; the background threads see to that.
    ///
    /// # Errors
    /// When it cannot become so, because nothing can be published.
    pub fn wait(&self) -> Result<()> {
        self.call_wait_hook();
        let mut gate = self.gate.lock();
        while self.is_exceeded() || self.is_staging_full() {
            self.refuse_to_wait_in_vain(&gate)?;
            gate.waiting += 1;
            gate.publish_wanted |= self.wants_commit();
            self.filled.notify_one();
            self.due.notify_one();
            self.freed.wait_for(&mut gate, Duration::from_millis(200));
            gate.waiting -= 1;
            if self.is_stopping() || self.has_stopped.load(Ordering::Relaxed) {
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
        let items = self.item_bytes.load(Ordering::Relaxed);
        let needs_publish = items > self.dirty_bytes_max / 2 || self.is_staging_full();
        match &gate.publish_error {
            Some(error) if needs_publish => {
                Err(VolumeError::NoSpace(format!("changes cannot be published: {error}").into()))
            }
            _ => Ok(()),
        }
    }
}
