//! A short, bounded poll for the next request before a thread sleeps in the kernel.
//!
//! A program that works on many small files sends its next request some microseconds after the last reply. Waking a
//! thread that sleeps meanwhile, mostly on an idle processor, can take several times as long as serving the request, above
//! all in a virtual machine. So the reader thread polls for a moment after each reply, as KVM does before it halts a
//! processor (Documentation/virt/kvm/halt-polling.rst). The mount option `nospin` turns it off.
//!
//! What it costs: while requests come within [`POLL_MAX`] of each other, one processor stays awake. The time of failed
//! polls adds to a debt; polling stops until requests and successful polls have repaid it. So failed polls cost at most
//! [`REPAID_BY_REQUEST`] for each request and [`REPAID_BY_SUCCESS`] for each successful poll on average.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;

/// Longest poll: most programs that send requests in sequence send the next one within half of it.
const POLL_MAX: Duration = Duration::from_micros(60);

/// Time between two looks at the connection: each takes the lock that the sender of a request needs.
const POLL_INTERVAL: Duration = Duration::from_micros(1);

/// How much debt a request repays.
const REPAID_BY_REQUEST: Duration = Duration::from_micros(3);

/// How much debt a successful poll repays.
const REPAID_BY_SUCCESS: Duration = Duration::from_micros(10);

/// Largest debt: a poll that ended late, because the thread was descheduled, stops polling for a thousand requests.
const DEBT_MAX: Duration = Duration::from_millis(3);

/// Debt of a new connection. At first every thread sleeps in the kernel, which wakes one of them for each request; polls
/// begin once the others have parked.
const DEBT_AT_FIRST: Duration = Duration::from_micros(120);

/// Polls one connection for requests.
#[derive(Debug)]
pub(in crate::mount) struct RequestPoller {
    connection: OwnedFd,
    debt: Mutex<Debt>,
}

impl RequestPoller {
    /// For a duplicate of the connection's file descriptor.
    pub(in crate::mount) fn new(connection: OwnedFd) -> Self {
        Self { connection, debt: Mutex::new(Debt(DEBT_AT_FIRST)) }
    }

    /// Called after a request has been served. Returns when the next one can be read, when the connection has ended, or
    /// after [`POLL_MAX`]. Reads nothing.
    pub(super) fn poll_before_sleep(&self) {
        if !self.debt.lock().repay_by_request() {
            return;
        }
        let begun = Instant::now();
        let found = self.poll_for(POLL_MAX);
        self.debt.lock().note_poll(found, begun.elapsed());
    }

    /// Time of failed polls that is not repaid.
    #[cfg(test)]
    pub(super) fn debt(&self) -> Duration {
        self.debt.lock().0
    }

    fn poll_for(&self, length: Duration) -> bool {
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

/// Whether a request can be read. True also after an error, which the next read then reports.
pub(super) fn has_request(connection: BorrowedFd<'_>) -> bool {
    poll(&mut [PollFd::new(connection, PollFlags::POLLIN)], PollTimeout::ZERO) != Ok(0)
}

/// The time of failed polls that is not repaid.
#[derive(Debug)]
struct Debt(Duration);

impl Debt {
    /// Counts a request. Whether to poll after it.
    fn repay_by_request(&mut self) -> bool {
        self.0 = self.0.saturating_sub(REPAID_BY_REQUEST);
        self.0 < POLL_MAX
    }

    /// Counts a poll. A request found after [`POLL_MAX`] does not count as found: the thread was descheduled meanwhile.
    fn note_poll(&mut self, found: bool, spent: Duration) {
        self.0 = match found && spent < POLL_MAX {
            true => self.0.saturating_sub(REPAID_BY_SUCCESS),
            false => (self.0 + spent).min(DEBT_MAX),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn new_poller() -> (RequestPoller, UnixStream) {
        let (ours, kernels) = UnixStream::pair().unwrap();
        (RequestPoller::new(ours.into()), kernels)
    }

    /// The time of failed polls per request, when the polls after some of many requests fail.
    fn wasted_by(requests: u32, fails: impl Fn(u32) -> bool) -> Duration {
        let (mut debt, mut wasted) = (Debt(DEBT_AT_FIRST), Duration::ZERO);
        for request in 0..requests {
            if debt.repay_by_request() {
                let is_failed = fails(request);
                let spent = if is_failed { POLL_MAX } else { POLL_MAX / 6 };
                debt.note_poll(!is_failed, spent);
                wasted += if is_failed { spent } else { Duration::ZERO };
            }
        }
        wasted / requests
    }

    #[test]
    fn failed_polls_cost_no_more_than_requests_and_successful_polls_repay() {
        let all_failed = wasted_by(10_000, |_| true);
        assert!(all_failed <= REPAID_BY_REQUEST, "{all_failed:?}");
        for period in 2..20 {
            let wasted = wasted_by(10_000, |request| request % period == 0);
            assert!(wasted <= REPAID_BY_REQUEST + REPAID_BY_SUCCESS, "{period}: {wasted:?}");
        }
    }

    #[test]
    fn polling_begins_again_when_the_debt_is_repaid() {
        let mut debt = Debt(DEBT_MAX);
        let until_a_poll = (0..2000).take_while(|_| !debt.repay_by_request()).count();
        assert!((900..1000).contains(&until_a_poll), "{until_a_poll}");
        debt.note_poll(true, Duration::from_micros(5));
        assert!(debt.repay_by_request());
        debt.note_poll(true, POLL_MAX * 50);
        assert!(!debt.repay_by_request(), "a request found long after the limit counts as a failed poll");
    }

    #[test]
    fn a_poll_ends_with_the_first_request_and_does_not_read_it() {
        let (poller, mut kernels) = new_poller();
        assert!(!poller.poll_for(Duration::from_millis(1)));
        let begun = Instant::now();
        let sender = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            kernels.write_all(b"request").unwrap();
            kernels
        });
        assert!(poller.poll_for(Duration::from_secs(60)));
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert!(has_request(poller.connection.as_fd()), "it is still there");
        drop(sender.join().unwrap());
    }

    #[test]
    fn a_poll_ends_with_the_connection() {
        let (poller, kernels) = new_poller();
        drop(kernels);
        assert!(poller.poll_for(Duration::from_secs(60)));
    }
}
