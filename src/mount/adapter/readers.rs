//! One reader thread at a time while operations are quick.
//!
//! The kernel wakes the threads that wait for requests in turn, each on another processor with cold caches: for small
//! requests that costs more than the work. So a thread that has done a quick operation, and sees another one waiting for
//! requests, parks. The remaining thread serves request after request, and polls a moment for the next one before it
//! sleeps (`poll_before_sleep.rs`). Before an operation that may take long (large reads and writes, syncs), and when a
//! quick one has to wait for memory, a parked thread is woken to read the next requests.
//!
//! Invariant: a thread parks only while another *known* thread (one that has served before) waits for requests. When the
//! connection ends that one leaves its loop, and the destructor of its thread local wakes all others.

use std::cell::RefCell;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::poll_before_sleep::RequestPoller;
use super::processors;

/// The threads that read requests.
#[derive(Default)]
pub(in crate::mount) struct Readers {
    state: Mutex<State>,
    called: Condvar,
    /// None where polling is off, or cannot gain.
    poller: Option<RequestPoller>,
}

#[derive(Default)]
struct State {
    /// Known threads that wait for requests in the kernel.
    waiting: usize,
    parked: usize,
    /// Parked threads that were woken and do not run yet.
    calls: usize,
    /// The connection has ended: no thread parks any more.
    ended: bool,
}

/// How long an operation may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    /// Memory only, or a node from the disk at worst.
    Quick,
    /// It may wait for a disk, or work on much data.
    Slow,
    /// As quick, but without a reply, and one of several in a request: the thread does not park after it.
    Unanswered,
}

/// Held while this thread serves a request.
pub(super) struct RequestGuard<'a> {
    readers: &'a Readers,
    cost: Cost,
}

struct Known(Arc<Readers>);

thread_local! {
    static KNOWN: RefCell<Option<Known>> = const { RefCell::new(None) };
}

impl Drop for Known {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.ended = true;
        self.0.called.notify_all();
    }
}

impl Readers {
    /// The threads of one connection. Without a poller they sleep for the next request at once.
    pub(in crate::mount) fn new(poller: Option<RequestPoller>) -> Self {
        Self { poller, ..Self::default() }
    }

    /// Called when this thread has read a request. The guard is dropped after the reply.
    pub(super) fn begin(self: &Arc<Self>, cost: Cost) -> RequestGuard<'_> {
        let was_known = KNOWN.with_borrow_mut(|known| {
            let is_known = known.is_some();
            known.get_or_insert_with(|| Known(Arc::clone(self)));
            is_known
        });
        let mut state = self.state.lock();
        if was_known {
            state.waiting = state.waiting.saturating_sub(1);
        }
        if cost == Cost::Slow {
            self.wake_parked(&mut state);
        }
        RequestGuard { readers: self, cost }
    }

    /// Called before a quick operation waits after all: wakes a parked thread to read requests meanwhile.
    pub(super) fn wake_reader(&self) {
        self.wake_parked(&mut self.state.lock());
    }

    fn wake_parked(&self, state: &mut State) {
        if state.waiting == 0 && state.parked > state.calls {
            state.calls += 1;
            self.called.notify_one();
        }
    }
}

impl Drop for RequestGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.readers.state.lock();
        if self.cost == Cost::Quick && state.waiting > 0 && !state.ended {
            state.parked += 1;
            while state.calls == 0 && !state.ended {
                self.readers.called.wait(&mut state);
            }
            state.calls = state.calls.saturating_sub(1);
            state.parked -= 1;
        }
        let is_alone = state.waiting == 0;
        state.waiting += 1;
        drop(state);
        if let Some(poller) = &self.readers.poller
            && is_alone
            // Bound, it would only keep the program from its processor.
            && !processors::is_bound()
        {
            poller.poll_before_sleep();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn wait_until(condition: impl Fn() -> bool) {
        while !condition() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Another thread that has served a quick operation, and is parked.
    fn park_another(readers: &Arc<Readers>) -> std::thread::JoinHandle<()> {
        let other = std::thread::spawn({
            let readers = Arc::clone(readers);
            move || {
                drop(readers.begin(Cost::Quick));
                drop(readers.begin(Cost::Quick));
            }
        });
        wait_until(|| readers.state.lock().parked > 0);
        other
    }

    #[test]
    fn a_quick_operation_that_waits_after_all_wakes_a_parked_thread() {
        let readers = Arc::new(Readers::default());
        drop(readers.begin(Cost::Quick));
        let parked = park_another(&readers);
        let guard = readers.begin(Cost::Quick);
        assert_eq!(readers.state.lock().waiting, 0, "nobody else takes requests");
        readers.wake_reader();
        wait_until(|| readers.state.lock().waiting > 0 || parked.is_finished());
        readers.state.lock().ended = true;
        readers.called.notify_all();
        drop(guard);
        parked.join().unwrap();
    }

    #[test]
    fn a_quick_thread_parks_beside_a_waiting_one_and_comes_back_for_a_slow_one_or_the_end() {
        let readers = Arc::new(Readers::default());
        drop(readers.begin(Cost::Quick));
        assert_eq!(readers.state.lock().waiting, 1, "the only thread never parks");
        let other = park_another(&readers);
        let guard = readers.begin(Cost::Slow);
        wait_until(|| readers.state.lock().waiting > 0 || other.is_finished());
        drop(guard);
        // The other thread ends (its second request may park again, until this one ends like a connection does).
        readers.state.lock().ended = true;
        readers.called.notify_all();
        other.join().unwrap();
    }

    #[test]
    fn only_a_thread_that_is_alone_polls_for_requests() {
        let (ours, _kernels) = std::os::unix::net::UnixStream::pair().unwrap();
        let readers = Arc::new(Readers::new(Some(RequestPoller::new(ours.into()))));
        let debt_after_requests = || {
            (0..200).for_each(|_| drop(readers.begin(Cost::Slow)));
            readers.poller.as_ref().unwrap().debt()
        };
        let debt = debt_after_requests();
        assert!(debt > Duration::ZERO, "no request ever comes: polls fail");
        readers.state.lock().waiting += 1;
        assert_eq!(debt_after_requests(), debt, "another thread waits in the kernel, which wakes it");
    }

    #[test]
    fn nobody_parks_between_two_operations_of_one_request() {
        let readers = Arc::new(Readers::default());
        drop(readers.begin(Cost::Quick));
        readers.state.lock().waiting += 1;
        drop(readers.begin(Cost::Unanswered));
        drop(readers.begin(Cost::Unanswered));
        assert_eq!(readers.state.lock().waiting, 2);
    }
}
