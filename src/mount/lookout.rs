//! A short look out for the next request, before a thread sleeps for it.
//!
//! A program that works on many small files sends its next request some microseconds after the last reply. A thread that
//! sleeps meanwhile has to be woken, mostly on a processor that has gone idle: in a virtual machine that takes several
//! times as long as the request. So the thread that is left (`readers.rs`) looks out for a moment after each reply, as
//! KVM does before it halts (Documentation/virt/kvm/halt-polling.rst).
//!
//! What that costs: while requests keep coming within [`LOOK_MAX`] of each other, one processor stays awake. Looks in vain
//! run into debt, and there are none until requests and better looks have paid it back: whatever a program does, on the
//! whole they cost no more than [`PAID_BY_REQUEST`] for each request, and [`PAID_BY_LOOK`] for each look that was worth it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;

/// How long a look lasts at most: most programs that send requests in a row are back within half of it.
const LOOK_MAX: Duration = Duration::from_micros(60);

/// How often the connection is looked at: its lock is the one that the sender of a request needs.
const POLL_INTERVAL: Duration = Duration::from_micros(1);

/// What a request pays back of the time that was spent in vain.
const PAID_BY_REQUEST: Duration = Duration::from_micros(3);

/// What a look pays back that ended with a request.
const PAID_BY_LOOK: Duration = Duration::from_micros(10);

/// More is not remembered: a look that ended long after its time, for others wanted the processor, stops looks for a
/// thousand requests.
const DEBT_MAX: Duration = Duration::from_millis(3);

/// At first every thread sleeps for requests, and the kernel wakes one of them for each; looks begin when they have had
/// their turns and are parked.
const DEBT_AT_FIRST: Duration = Duration::from_micros(120);

/// Looks out for requests on one connection.
#[derive(Debug)]
pub(super) struct Lookout {
    connection: OwnedFd,
    debt: Mutex<Debt>,
}

impl Lookout {
    /// On a duplicate of the connection's file descriptor.
    pub fn new(connection: OwnedFd) -> Self {
        Self { connection, debt: Mutex::new(Debt(DEBT_AT_FIRST)) }
    }

    /// A request has been served. Returns when the next one is there (or the connection has ended), or when it is time to
    /// sleep. Takes no request.
    pub fn look(&self) {
        if !self.debt.lock().pay_for_request() {
            return;
        }
        let begun = Instant::now();
        let came = self.look_for(LOOK_MAX);
        self.debt.lock().settle(came, begun.elapsed());
    }

    /// Time spent in vain and not paid back: zero in the long run when there are no looks.
    #[cfg(test)]
    pub fn debt(&self) -> Duration {
        self.debt.lock().0
    }

    fn look_for(&self, length: Duration) -> bool {
        let begun = Instant::now();
        let mut next = begun;
        while !has_request(self.connection.as_fd()) {
            next += POLL_INTERVAL;
            let now = loop {
                let now = Instant::now();
                if now >= next {
                    break now;
                }
                std::hint::spin_loop();
            };
            if now - begun >= length {
                return false;
            }
            next = now;
        }
        true
    }
}

/// Whether a request waits to be read. An error counts as one: who reads it meets it.
pub(super) fn has_request(connection: BorrowedFd<'_>) -> bool {
    poll(&mut [PollFd::new(connection, PollFlags::POLLIN)], PollTimeout::ZERO) != Ok(0)
}

/// The time that was spent in looks in vain, and not paid back yet.
#[derive(Debug)]
struct Debt(Duration);

impl Debt {
    /// Whether there is to be a look after this request.
    fn pay_for_request(&mut self) -> bool {
        self.0 = self.0.saturating_sub(PAID_BY_REQUEST);
        self.0 < LOOK_MAX
    }

    /// A look has ended. What came only after its time did not come in it: others were given the processor.
    fn settle(&mut self, came: bool, spent: Duration) {
        self.0 = match came && spent < LOOK_MAX {
            true => self.0.saturating_sub(PAID_BY_LOOK),
            false => (self.0 + spent).min(DEBT_MAX),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn new_lookout() -> (Lookout, UnixStream) {
        let (ours, kernels) = UnixStream::pair().unwrap();
        (Lookout::new(ours.into()), kernels)
    }

    /// What looks in vain cost for each of many requests, when those after some of them are in vain.
    fn wasted_by(requests: u32, is_vain: impl Fn(u32) -> bool) -> Duration {
        let (mut debt, mut wasted) = (Debt(DEBT_AT_FIRST), Duration::ZERO);
        for request in 0..requests {
            if debt.pay_for_request() {
                let in_vain = is_vain(request);
                let spent = if in_vain { LOOK_MAX } else { LOOK_MAX / 6 };
                debt.settle(!in_vain, spent);
                wasted += if in_vain { spent } else { Duration::ZERO };
            }
        }
        wasted / requests
    }

    #[test]
    fn looks_in_vain_cost_no_more_than_requests_and_better_looks_pay_for() {
        let all_in_vain = wasted_by(10_000, |_| true);
        assert!(all_in_vain <= PAID_BY_REQUEST, "{all_in_vain:?}");
        for period in 2..20 {
            let wasted = wasted_by(10_000, |request| request % period == 0);
            assert!(wasted <= PAID_BY_REQUEST + PAID_BY_LOOK, "{period}: {wasted:?}");
        }
    }

    #[test]
    fn looks_come_back_when_they_are_worth_it_again() {
        let mut debt = Debt(DEBT_MAX);
        let until_a_look = (0..2000).take_while(|_| !debt.pay_for_request()).count();
        assert!((900..1000).contains(&until_a_look), "{until_a_look}");
        debt.settle(true, Duration::from_micros(5));
        assert!(debt.pay_for_request());
        debt.settle(true, LOOK_MAX * 50);
        assert!(!debt.pay_for_request(), "what came long after its time was in vain");
    }

    #[test]
    fn a_look_ends_with_the_first_request_and_leaves_it_to_who_reads() {
        let (lookout, mut kernels) = new_lookout();
        assert!(!lookout.look_for(Duration::from_millis(1)));
        let begun = Instant::now();
        let sender = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            kernels.write_all(b"request").unwrap();
            kernels
        });
        assert!(lookout.look_for(Duration::from_secs(60)));
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert!(has_request(lookout.connection.as_fd()), "it is still there");
        drop(sender.join().unwrap());
    }

    #[test]
    fn a_look_ends_with_the_connection() {
        let (lookout, kernels) = new_lookout();
        drop(kernels);
        assert!(lookout.look_for(Duration::from_secs(60)));
    }
}
