//! Packets to and from `/dev/hidraw*`, in the helper: with deadlines, and ended early when nobody waits any more.
//!
//! The helper's session may end at any time: its pipe closes then, or a signal comes (Ctrl-C reaches the whole foreground
//! group). Both end a wait at once, so that the device can be told to stop blinking.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::ctaphid::{LinkError, PACKET_BYTES, Packets};
use super::protocol::Failure;

/// What ends a wait early: the session's pipe, when it is closed, and signals.
pub struct Stops<'a> {
    session: BorrowedFd<'a>,
    signals: UnixStream,
}

impl<'a> Stops<'a> {
    /// Watches `session`, and from now on catches the signals that ask a process to end.
    pub fn new(session: BorrowedFd<'a>) -> std::io::Result<Self> {
        let (signals, written_by_handler) = UnixStream::pair()?;
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
            signal_hook::low_level::pipe::register(signal, written_by_handler.try_clone()?)?;
        }
        Ok(Self { session, signals })
    }
}

/// An open device.
pub struct Hidraw<'a> {
    file: File,
    stops: &'a Stops<'a>,
}

impl<'a> Hidraw<'a> {
    /// Opens the device at `path`. Packets that came before are not seen.
    pub fn open(path: &str, stops: &'a Stops<'a>) -> Result<Self, Failure> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path);
        file.map(|file| Self { file, stops }).map_err(|error| failure_of_open(&error))
    }
}

/// What it means that a device cannot be opened.
pub fn failure_of_open(error: &std::io::Error) -> Failure {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => Failure::NoPermission,
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO | libc::EIO) => Failure::Removed,
        Some(libc::EBUSY) => Failure::Busy,
        // Out of descriptors or memory, say: the device is there and did not answer.
        _ => Failure::Silent,
    }
}

impl Packets for Hidraw<'_> {
    fn send(&mut self, packet: &[u8; PACKET_BYTES]) -> Result<(), LinkError> {
        // hidraw wants the number of the report first: zero, for these devices number none.
        let mut report = [0; PACKET_BYTES + 1];
        report[1..].copy_from_slice(packet);
        self.file.write_all(&report).map_err(|_| LinkError::Removed)
    }

    fn receive(&mut self, deadline: Instant) -> Result<Option<[u8; PACKET_BYTES]>, LinkError> {
        loop {
            let mut packet = [0; PACKET_BYTES];
            match self.file.read(&mut packet) {
                // A shorter report is no packet.
                Ok(PACKET_BYTES) => return Ok(Some(packet)),
                Ok(0) => return Err(LinkError::Removed),
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => return Err(LinkError::Removed),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.wait(left)?;
        }
    }
}

impl Hidraw<'_> {
    fn wait(&self, limit: Duration) -> Result<(), LinkError> {
        let mut watched = [
            PollFd::new(self.file.as_fd(), PollFlags::POLLIN),
            // Without events: only that the other end is closed.
            PollFd::new(self.stops.session, PollFlags::empty()),
            PollFd::new(self.stops.signals.as_fd(), PollFlags::POLLIN),
        ];
        // Rounded up, lest the last millisecond be spent in a tight loop.
        let timeout = PollTimeout::try_from(limit + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        match poll(&mut watched, timeout) {
            Err(Errno::EINTR) => return Ok(()),
            Err(_) => return Err(LinkError::Removed),
            Ok(_) => {}
        }
        let happened = |index: usize| watched[index].revents().is_some_and(|events| !events.is_empty());
        if happened(1) || happened(2) {
            return Err(LinkError::Stopped);
        }
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
        if watched[0].revents().is_some_and(|events| events.intersects(gone)) {
            return Err(LinkError::Removed);
        }
        Ok(())
    }
}
