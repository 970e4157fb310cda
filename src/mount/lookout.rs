//! A short look out for the next request, before a thread sleeps for it.
//!
//! A program that works on many small files sends its next request some microseconds after the last reply. A thread that
//! sleeps meanwhile has to be woken, mostly on a processor that has gone idle: in a virtual machine that takes several
//! times as long as the request. So the thread that is left (`readers.rs`) looks out for a moment after each reply, as
//! KVM does before it halts (Documentation/virt/kvm/halt-polling.rst). Looks in vain become shorter, then rare: a
//! slow program, or a machine with no processor to spare, costs a few microseconds a request.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use parking_lot::Mutex;

/// How long a look lasts at most: most programs that send requests in a row are back within half of it.
const LOOK_MAX: Duration = Duration::from_micros(60);

/// Below this a look is not worth its system calls.
const LOOK_MIN: Duration = Duration::from_micros(8);

/// How many requests go by without a look, once looks were in vain.
const REQUESTS_BETWEEN_TRIALS: u32 = 32;

/// How many pauses of the processor between two looks at the connection, whose lock the sender of a request needs.
const PAUSES: u32 = 20;

/// Looks out for requests on one connection.
#[derive(Debug)]
pub(super) struct Lookout {
    connection: OwnedFd,
    patience: Mutex<Patience>,
}

impl Lookout {
    /// On a duplicate of the connection's file descriptor.
    pub fn new(connection: OwnedFd) -> Self {
        Self { connection, patience: Mutex::default() }
    }

    /// Returns when a request is there (or the connection has ended), or when it is time to sleep. Takes no request.
    #[allow(dead_code)]
    pub fn look(&self) {
        let length = self.patience.lock().next_look();
        if length.is_zero() {
            return;
        }
        let end = Instant::now() + length;
        let mut came = self.is_readable();
        while !came && Instant::now() < end {
            for _ in 0..PAUSES {
                std::hint::spin_loop();
            }
            came = self.is_readable();
        }
        self.patience.lock().learn(came);
    }

    /// An error counts as a request: who reads it meets it.
    pub fn is_readable(&self) -> bool {
        let mut connection = [PollFd::new(self.connection.as_fd(), PollFlags::POLLIN)];
        poll(&mut connection, PollTimeout::ZERO) != Ok(0)
    }
}

/// How long to look, learnt from how the last looks ended.
#[derive(Debug)]
struct Patience {
    length: Duration,
    /// Requests since the last look, while there are no looks.
    gone_by: u32,
}

impl Default for Patience {
    fn default() -> Self {
        Self { length: LOOK_MAX, gone_by: 0 }
    }
}

impl Patience {
    /// How long the next look is to last; zero: none.
    fn next_look(&mut self) -> Duration {
        if self.length.is_zero() {
            self.gone_by += 1;
            if self.gone_by == REQUESTS_BETWEEN_TRIALS {
                *self = Self::default();
            }
        }
        self.length
    }

    fn learn(&mut self, came: bool) {
        self.length = match self.length / 2 {
            _ if came => LOOK_MAX,
            half if half >= LOOK_MIN => half,
            _ => Duration::ZERO,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn looks_in_vain_cost_a_few_microseconds_a_request_and_one_that_is_not_brings_them_back() {
        let mut patience = Patience::default();
        let mut spent = Duration::ZERO;
        for _ in 0..1000 {
            let length = patience.next_look();
            spent += length;
            if !length.is_zero() {
                patience.learn(false);
            }
        }
        assert!(spent < Duration::from_micros(4) * 1000, "{spent:?}");
        while patience.next_look().is_zero() {}
        patience.learn(true);
        assert_eq!(patience.next_look(), LOOK_MAX);
    }

    #[test]
    fn a_look_ends_with_the_first_request_or_the_end_of_the_connection_and_takes_nothing() {
        let (ours, mut kernels) = std::os::unix::net::UnixStream::pair().unwrap();
        let lookout = Lookout::new(ours.try_clone().unwrap().into());
        lookout.look();
        assert_eq!(lookout.patience.lock().length, LOOK_MAX / 2, "in vain");
        kernels.write_all(b"request").unwrap();
        lookout.look();
        assert_eq!(lookout.patience.lock().length, LOOK_MAX);
        assert!(lookout.is_readable(), "it is still there");
        let (ours, kernels) = std::os::unix::net::UnixStream::pair().unwrap();
        drop(kernels);
        assert!(Lookout::new(ours.into()).is_readable(), "whoever reads now learns of the end");
    }
}
