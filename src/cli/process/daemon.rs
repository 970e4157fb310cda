//! Processes: the daemon that leaves its terminal, waiting for one to end, and another's mount namespace.
//!
//! ```text
//! parent ── fork ──> child: asks for the PIN (terminal still attached), unlocks, opens, mounts
//!   │ reads pipe      │
//!   │ ── signals ───> │ signals are forwarded to the child; if the parent is killed, the child gets SIGTERM
//!   │ <── 1 byte ──── │ ready: leaves the session, /, the terminal and inherited files; serves
//!   ▼ exit 0          ▼
//! ```
//!
//! The fork comes before the first thread, id or key: threads do not survive it, and an id or key generated earlier would
//! be shared. If the child ends before it is ready, it has printed why, and the parent exits with the child's exit code.
//! The command line stays unchanged, so `ps` and `pgrep` show vault and mount point. Each `unsafe` block here is a system
//! call without a safe wrapper.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, getppid, pipe2, setsid};

use crate::unlock::HeldSignals;

/// In the child: the connection to the waiting parent. If it is dropped without [`Detach::detach`], the parent exits with
/// the exit code of the child.
#[derive(Debug)]
pub struct Detach {
    pipe: File,
    inherited: Vec<RawFd>,
}

/// How the wait for the child ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Started {
    /// The daemon serves in the background.
    Ready,
    /// The child exited with this code and has printed why.
    Exited(i32),
    /// A signal ended it.
    Killed(String),
}

/// Runs `child` in a process of its own and waits until it is ready or gone. `child` answers with its exit code.
/// Must be called while this process has one thread.
pub fn run_in_background(child: impl FnOnce(Detach) -> u8) -> io::Result<Started> {
    let inherited = open_descriptors();
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
    let parent = Pid::this();
    // SAFETY: this process has one thread (no command starts any before it calls this), so the child may do all that a
    // process may do.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(reader);
            // A killed command must not leave a vault open.
            set_pdeathsig(Signal::SIGTERM)?;
            if getppid() != parent {
                std::process::exit(1);
            }
            let code = child(Detach { pipe: File::from(writer), inherited });
            std::process::exit(i32::from(code));
        }
        ForkResult::Parent { child } => {
            drop(writer);
            wait_for_word(File::from(reader), child)
        }
    }
}

fn wait_for_word(mut pipe: File, child: Pid) -> io::Result<Started> {
    let mut signals = HeldSignals::hold()?;
    let mut last_signal = None;
    loop {
        let mut sources =
            [PollFd::new(pipe.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut sources, PollTimeout::NONE) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let told = sources[0].revents().is_some_and(|events| !events.is_empty());
        if let Some(signal) = signals.take() {
            // The child restores the terminal and exits, which closes its pipe.
            let _ = kill(child, signal);
            last_signal = Some(signal);
        }
        if told {
            break;
        }
    }
    if pipe.read_exact(&mut [0]).is_ok() {
        return Ok(Started::Ready);
    }
    let started = wait_for_end(child);
    drop(signals);
    // Now the signal takes its usual effect on this process, mostly to end it.
    last_signal.map_or(Ok(()), raise)?;
    started
}

fn wait_for_end(child: Pid) -> io::Result<Started> {
    loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => return Ok(Started::Exited(code)),
            Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(Started::Killed(signal.to_string())),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

impl Detach {
    /// Tells the parent that the mount is ready, and leaves session, working directory and terminal. Inherited descriptors
    /// are closed, so that a pipe or lock of the calling script does not stay open as long as the mount.
    pub fn detach(mut self) -> io::Result<()> {
        let nowhere = File::options().read(true).write(true).open("/dev/null")?;
        setsid()?;
        chdir("/")?;
        set_pdeathsig(None)?;
        // The parent exits on this byte. If it was killed, the write fails and the mount is given up.
        self.pipe.write_all(&[1])?;
        dup2_stdin(&nowhere)?;
        dup2_stdout(&nowhere)?;
        dup2_stderr(&nowhere)?;
        for descriptor in self.inherited {
            // SAFETY: these were open before the program's first line, so nothing in this process owns them.
            unsafe { libc::close(descriptor) };
        }
        Ok(())
    }
}

/// Descriptors beyond the standard three that this process was started with.
fn open_descriptors() -> Vec<RawFd> {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return Vec::new() };
    let listed: Vec<RawFd> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    // The listing's own descriptor is among them, and closed by now.
    listed.into_iter().filter(|fd| *fd > 2 && is_open(*fd)).collect()
}

fn is_open(descriptor: RawFd) -> bool {
    // SAFETY: F_GETFD reads a flag of a descriptor number; a number that is not open is answered with an error.
    unsafe { libc::fcntl(descriptor, libc::F_GETFD) != -1 }
}

/// Another process, by a pidfd: its id cannot be reused for a third one meanwhile.
#[derive(Debug)]
pub struct Process(OwnedFd);

impl Process {
    /// `None` if it has ended already.
    pub fn open(pid: u32) -> io::Result<Option<Self>> {
        // SAFETY: pidfd_open takes a number and flags, and returns a new descriptor or -1.
        let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
        if descriptor == -1 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::ESRCH) { Ok(None) } else { Err(error) };
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        Ok(Some(Self(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) })))
    }

    /// Waits until it has ended; false if it has not after `time`. `None` waits without limit.
    pub fn wait(&self, time: Option<Duration>) -> io::Result<bool> {
        let timeout = match time {
            Some(time) => PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX),
            None => PollTimeout::NONE,
        };
        loop {
            match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(ready) => return Ok(ready > 0),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Makes a write beyond the file size limit (`ulimit -f`) fail with an error; by default SIGXFSZ ends the process.
pub fn fail_writes_beyond_limits() {
    // SAFETY: ignoring a signal runs no code of ours. Programs that are started from here inherit it.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// Moves this process into another mount namespace: `namespace` is a process id or a file like `/proc/PID/ns/mnt`.
pub fn enter_mount_namespace(namespace: &str) -> io::Result<()> {
    let by_pid = format!("/proc/{namespace}/ns/mnt");
    let is_pid = namespace.bytes().all(|byte| byte.is_ascii_digit());
    let file = File::open(if is_pid { Path::new(&by_pid) } else { Path::new(namespace) })?;
    // SAFETY: setns takes an open descriptor and a flag; this process has one thread, as mount namespaces require.
    match unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNS) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_waited_for_until_it_ends() {
        let mut child = std::process::Command::new("sleep").arg("0.2").spawn().expect("sleep starts");
        let process = Process::open(child.id()).expect("asked").expect("alive");
        assert!(!process.wait(Some(Duration::from_millis(1))).expect("waited"));
        assert!(process.wait(None).expect("waited"));
        child.wait().expect("reaped");
        assert!(Process::open(child.id()).expect("asked").is_none());
    }
}
