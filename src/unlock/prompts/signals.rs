//! Signals that end a process, kept back while that would leave the terminal in disorder.
//!
//! A signal to a process goes to any of its threads that lets it through. So it is not enough that the thread which asks a
//! question holds it back: every other thread must, too, from its birth ([`spawn_shielded`]).

use std::os::fd::{AsFd, BorrowedFd};
use std::thread::JoinHandle;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals that end a process, after which it could put nothing in order.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Signals that would end the process, kept back from this thread until the drop.
pub struct HeldSignals {
    arrived: SignalFd,
    before: SigSet,
}

impl HeldSignals {
    /// Keeps them back from now on.
    pub fn hold() -> nix::Result<Self> {
        let ending: SigSet = ENDING.into_iter().collect();
        let before = SigSet::thread_get_mask()?;
        ending.thread_block()?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        match SignalFd::with_flags(&ending, flags) {
            Ok(arrived) => Ok(Self { arrived, before }),
            Err(error) => {
                before.thread_set_mask()?;
                Err(error)
            }
        }
    }

    /// The signal that has arrived, if one has.
    pub fn take(&mut self) -> Option<Signal> {
        let information = self.arrived.read_signal().ok()??;
        Signal::try_from(information.ssi_signo as i32).ok()
    }
}

impl AsFd for HeldSignals {
    /// Readable when a signal has arrived.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.arrived.as_fd()
    }
}

impl Drop for HeldSignals {
    fn drop(&mut self) {
        if let Err(error) = self.before.thread_set_mask() {
            log::warn!("signals cannot be let through again: {error}");
        }
    }
}

/// Starts a thread that these signals never go to, nor to any thread that it starts.
pub fn spawn_shielded<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<JoinHandle<T>> {
    let before = ENDING.into_iter().collect::<SigSet>().thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)?;
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(body);
    before.thread_set_mask()?;
    started
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shielded_thread_and_those_that_it_starts_hold_the_signals_back_and_its_parent_does_not() {
        let masks = spawn_shielded("shielded", || {
            let child = std::thread::spawn(|| SigSet::thread_get_mask().expect("a mask"));
            (SigSet::thread_get_mask().expect("a mask"), child.join().expect("joined"))
        });
        let (own, childs) = masks.expect("started").join().expect("joined");
        let parents = SigSet::thread_get_mask().expect("a mask");
        for signal in ENDING {
            assert!(own.contains(signal) && childs.contains(signal) && !parents.contains(signal), "{signal}");
        }
    }
}
