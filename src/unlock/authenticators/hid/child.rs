//! The helper process from the outside: started, asked, and ended, whatever it does.
//!
//! Promises that no call waits beyond its limit, that a helper which floods, babbles, stops in the middle of a frame or
//! dies is an error and no more, and that it is gone when this is dropped: its pipe is closed, upon which it tells the
//! device to stop blinking and ends; if it has not a moment later, it is killed.

use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zeroize::Zeroizing;

use super::protocol::{FRAME_BYTES_MAX, LENGTH_BYTES, Reply, Request};

/// The hidden command under which this program is the helper.
pub const HELPER_COMMAND: &str = "hid-helper";
/// How long a helper may take to end by itself: the time in which a device heeds a cancel.
const END_LIMIT: Duration = Duration::from_millis(1500);
const END_POLL: Duration = Duration::from_millis(10);

/// How to start a helper.
#[derive(Debug, Clone)]
pub struct HelperProgram {
    /// The program.
    pub program: PathBuf,
    /// Its arguments. Never a secret.
    pub arguments: Vec<OsString>,
}

impl HelperProgram {
    /// This program itself, even if its file has been replaced meanwhile.
    pub fn this_program() -> Self {
        Self { program: "/proc/self/exe".into(), arguments: vec![HELPER_COMMAND.into()] }
    }
}

/// Why a helper gave no reply.
#[derive(Debug)]
pub enum HelperError {
    /// The limit was reached.
    TimedOut,
    /// It ended, or closed its pipe; by `SIGALRM` when a device did not answer it.
    Ended {
        /// Whether a device had kept it waiting.
        device_was_silent: bool,
    },
    /// It said what no helper says.
    Violation,
    /// The system failed.
    System(std::io::Error),
}

/// A running helper.
pub struct HelperChild {
    process: Child,
    requests: Option<ChildStdin>,
    replies: ChildStdout,
    /// What came and was not taken yet. Never longer than one frame.
    received: Zeroizing<Vec<u8>>,
}

impl HelperChild {
    /// Starts a helper.
    pub fn start(program: &HelperProgram) -> std::io::Result<Self> {
        let mut command = Command::new(&program.program);
        command.arg0("passkeyfs").args(&program.arguments).env_clear();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn()?;
        let (Some(requests), Some(replies)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(std::io::Error::other("the helper has no pipes"));
        };
        // Reserved at once: what grows leaves copies behind.
        let received = Zeroizing::new(Vec::with_capacity(LENGTH_BYTES + FRAME_BYTES_MAX));
        Ok(Self { process, requests: Some(requests), replies, received })
    }

    /// Sends a request. Does not wait: a pipe takes more than a frame, and there is never more than one under way.
    pub fn send(&mut self, request: &Request) -> Result<(), HelperError> {
        let frame = request.encode().ok_or(HelperError::Violation)?;
        let requests = self.requests.as_mut().ok_or(HelperError::Violation)?;
        match requests.write_all(&frame) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(self.ended()),
            result => result.map_err(HelperError::System),
        }
    }

    /// The next reply, if it comes before `deadline`.
    pub fn receive(&mut self, deadline: Instant) -> Result<Reply, HelperError> {
        loop {
            if let Some(reply) = self.take_frame()? {
                return Ok(reply);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(HelperError::TimedOut);
            }
            let mut watched = [PollFd::new(self.replies.as_fd(), PollFlags::POLLIN)];
            // Rounded up, lest the last millisecond be spent in a tight loop.
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            match poll(&mut watched, timeout) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Err(error) => return Err(HelperError::System(error.into())),
                Ok(_) => self.read_some()?,
            }
        }
    }

    fn read_some(&mut self) -> Result<(), HelperError> {
        let have = self.received.len();
        let room = self.received.capacity() - have;
        self.received.resize(have + room, 0);
        let read = self.replies.read(&mut self.received[have..]);
        self.received.truncate(have + *read.as_ref().unwrap_or(&0));
        match read {
            Ok(0) => Err(self.ended()),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(HelperError::System(error)),
        }
    }

    /// Takes a whole frame off what was received.
    fn take_frame(&mut self) -> Result<Option<Reply>, HelperError> {
        let Some(length) = self.received.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let end = LENGTH_BYTES + u32::from_le_bytes(*length) as usize;
        if end > LENGTH_BYTES + FRAME_BYTES_MAX {
            return Err(HelperError::Violation);
        }
        let Some(frame) = self.received.get(LENGTH_BYTES..end) else { return Ok(None) };
        let reply = Reply::decode(frame).map_err(|_| HelperError::Violation);
        // What is moved to the front leaves its old place as it was: that is overwritten first.
        let rest = Zeroizing::new(self.received[end..].to_vec());
        self.received.fill(0);
        self.received.clear();
        self.received.extend_from_slice(&rest);
        reply.map(Some)
    }

    fn ended(&mut self) -> HelperError {
        let status = self.wait_for_end();
        HelperError::Ended { device_was_silent: status.and_then(|status| status.signal()) == Some(libc::SIGALRM) }
    }

    /// Closes the pipe, and waits a moment. `None` if it does not end.
    fn wait_for_end(&mut self) -> Option<std::process::ExitStatus> {
        self.requests = None;
        let deadline = Instant::now() + END_LIMIT;
        loop {
            match self.process.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(END_POLL),
                _ => return None,
            }
        }
    }
}

impl Drop for HelperChild {
    fn drop(&mut self) {
        if self.wait_for_end().is_none() {
            // It cannot be told apart any more whether it heard; nothing is left but to end it.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}
