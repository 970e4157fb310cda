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

/// The threads that read requests.
#[derive(Default)]
pub(super) struct Readers {
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
    /// Parked threads that were called back and have not woken yet.
    calls: usize,
    /// The connection has ended: nobody parks any more.
    ended: bool,
}

/// How long an operation may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Memory only, or a node from the disk at worst.
    Quick,
    /// It may wait for a disk, or work on much data.
    Slow,
    /// As quick, but nobody waits for it, and the request may hold more of its kind: no place to park.
    Unanswered,
}

/// One request being served by this thread.
pub(super) struct Turn<'a> {
    readers: &'a Readers,
    pace: Pace,
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
    pub fn new(poller: Option<RequestPoller>) -> Self {
        Self { poller, ..Self::default() }
    }

    /// This thread has taken a request. Dropping the turn, after the reply, ends it.
    pub fn begin(self: &Arc<Self>, pace: Pace) -> Turn<'_> {
        let was_known = KNOWN.with_borrow_mut(|known| {
            let is_known = known.is_some();
            known.get_or_insert_with(|| Known(Arc::clone(self)));
            is_known
        });
        let mut state = self.state.lock();
        if was_known {
            state.waiting = state.waiting.saturating_sub(1);
        }
        if pace == Pace::Slow {
            self.call_one_back(&mut state);
        }
        Turn { readers: self, pace }
    }

    /// An operation that seemed quick is about to wait: another thread is to serve meanwhile.
    pub fn hand_over(&self) {
        self.call_one_back(&mut self.state.lock());
    }

    fn call_one_back(&self, state: &mut State) {
        if state.waiting == 0 && state.parked > state.calls {
            state.calls += 1;
            self.called.notify_one();
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.readers.state.lock();
        if self.pace == Pace::Quick && state.waiting > 0 && !state.ended {
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
                drop(readers.begin(Pace::Quick));
                drop(readers.begin(Pace::Quick));
            }
        });
        wait_until(|| readers.state.lock().parked > 0);
        other
    }

    #[test]
    fn a_quick_operation_that_waits_after_all_calls_a_parked_thread_back() {
        let readers = Arc::new(Readers::default());
        drop(readers.begin(Pace::Quick));
        let parked = park_another(&readers);
        let turn = readers.begin(Pace::Quick);
        assert_eq!(readers.state.lock().waiting, 0, "nobody else takes requests");
        readers.hand_over();
        wait_until(|| readers.state.lock().waiting > 0 || parked.is_finished());
        readers.state.lock().ended = true;
        readers.called.notify_all();
        drop(turn);
        parked.join().unwrap();
    }

    #[test]
    fn a_quick_thread_parks_beside_a_waiting_one_and_comes_back_for_a_slow_one_or_the_end() {
        let readers = Arc::new(Readers::default());
        drop(readers.begin(Pace::Quick));
        assert_eq!(readers.state.lock().waiting, 1, "the only thread never parks");
        let other = park_another(&readers);
        let turn = readers.begin(Pace::Slow);
        wait_until(|| readers.state.lock().waiting > 0 || other.is_finished());
        drop(turn);
        // The other thread ends (its second turn may park again, until this one ends like a connection does).
        readers.state.lock().ended = true;
        readers.called.notify_all();
        other.join().unwrap();
    }

    #[test]
    fn only_a_thread_that_is_alone_polls_for_requests() {
        let (ours, _kernels) = std::os::unix::net::UnixStream::pair().unwrap();
        let readers = Arc::new(Readers::new(Some(RequestPoller::new(ours.into()))));
        let debt_after_turns = || {
            (0..200).for_each(|_| drop(readers.begin(Pace::Slow)));
            readers.poller.as_ref().unwrap().debt()
        };
        let debt = debt_after_turns();
        assert!(debt > Duration::ZERO, "no request ever comes: polls fail");
        readers.state.lock().waiting += 1;
        assert_eq!(debt_after_turns(), debt, "another thread waits in the kernel, which wakes it");
    }

    #[test]
    fn nobody_parks_between_two_operations_of_one_request() {
        let readers = Arc::new(Readers::default());
        drop(readers.begin(Pace::Quick));
        readers.state.lock().waiting += 1;
        drop(readers.begin(Pace::Unanswered));
        drop(readers.begin(Pace::Unanswered));
        assert_eq!(readers.state.lock().waiting, 2);
    }
}
