//! `passkeyfs hid-helper`: the process that talks to one security key (`unlock/authenticators/hid`). Started by passkeyfs itself,
//! so help, completions and manual leave it out.
//!
//! First it moves its pipe away from standard output, because the crate that it runs prints there. It handles PINs and
//! secrets, so it is hardened like the daemon, and it ends with its parent.

use std::fs::File;
use std::os::fd::AsFd;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{dup, dup2_stdout};

use crate::cli::messages::exit::Exit;
use crate::cli::process::hardening;
use crate::unlock::hid::worker;

/// Runs the helper until its input ends, and returns the exit code.
pub fn main() -> u8 {
    // Errors are not printed: the session sees that its pipe is closed.
    run().map_or(Exit::Failed, |()| Exit::Done).code()
}

fn run() -> anyhow::Result<()> {
    let output = File::from(dup(std::io::stdout().as_fd())?);
    let nowhere = File::options().write(true).open("/dev/null")?;
    dup2_stdout(&nowhere)?;
    hardening::protect_memory();
    // If the parent has ended already, the pipe is closed, which ends the helper as well.
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    let input = File::from(dup(std::io::stdin().as_fd())?);
    worker::serve(input, output)?;
    Ok(())
}
