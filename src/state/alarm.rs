//! Wakes the journal thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Wakes the journal thread at the first change.
#[derive(Default)]
pub(crate) struct JournalAlarm {
    /// The thread waits for a change, or is about to.
    is_waiting: AtomicBool,
    /// Somebody would like it to write now.
    is_urgent: AtomicBool,
    lock: Mutex<()>,
    woken: Condvar,
}

impl JournalAlarm {
    /// Called with each change.
    pub fn note_change(&self) {
        if self.is_waiting.load(Ordering::SeqCst) && self.is_waiting.swap(false, Ordering::SeqCst) {
            // The thread is past its look at the flag, or has not come to it.
            drop(self.lock.lock());
            self.woken.notify_all();
        }
    }

    /// Has what was changed written at once, by the thread.
    pub fn hurry(&self) {
        self.is_urgent.store(true, Ordering::SeqCst);
        self.note_change();
        self.woken.notify_all();
    }

    /// Ends a sleep.
    pub fn wake(&self) {
        self.is_waiting.store(false, Ordering::SeqCst);
        drop(self.lock.lock());
        self.woken.notify_all();
    }

    /// Sleeps so long, or until it is woken; not at all where `until` is so.
    pub fn sleep(&self, duration: Duration, until: impl Fn() -> bool) {
        let mut lock = self.lock.lock();
        if !until() {
            self.woken.wait_for(&mut lock, duration);
        }
    }

    /// The thread is about to sleep until the first change: a change from here on wakes it.
    pub fn await_change(&self) {
        self.is_waiting.store(true, Ordering::SeqCst);
    }

    /// Whether no change has come since [`await_change`](Self::await_change).
    pub fn is_awaiting(&self) -> bool {
        self.is_waiting.load(Ordering::SeqCst)
    }

    /// The thread is awake.
    pub fn awake(&self) {
        self.is_waiting.store(false, Ordering::SeqCst);
    }

    /// Whether the thread was to write at once; the wish is taken.
    pub fn take_urgency(&self) -> bool {
        self.is_urgent.swap(false, Ordering::SeqCst)
    }

    /// Whether the thread is to write at once.
    pub fn is_urgent(&self) -> bool {
        self.is_urgent.load(Ordering::SeqCst)
    }
}
