//! `passkeyfs hid-helper`: the process that talks to one security key (`unlock/authenticators/hid`). Started by passkeyfs
//! itself, and no command of a person's: help, completions and manual do not know it.
//!
//! Before anything else it moves its pipe away from standard output, for the crate that it runs prints there; it keeps
//! PINs and secrets, so it is sheltered as the daemon is; and it ends when its parent does.

use std::fs::File;
use std::os::fd::AsFd;

use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{dup, dup2_stdout};

use crate::cli::messages::exit::Exit;
use crate::cli::process::hardening;
use crate::unlock::hid::worker;

/// Runs the helper until its input ends, and answers with the exit code.
pub fn main() -> u8 {
    // There is nobody to tell: the session sees that its pipe is closed.
    run().map_or(Exit::Failed, |()| Exit::Done).code()
}

fn run() -> anyhow::Result<()> {
    let output = File::from(dup(std::io::stdout().as_fd())?);
    let nowhere = File::options().write(true).open("/dev/null")?;
    dup2_stdout(&nowhere)?;
    hardening::protect_memory();
    // A parent that is gone by now has closed the pipe, which ends the helper as well.
    prctl::set_pdeathsig(Signal::SIGTERM)?;
    let input = File::from(dup(std::io::stdin().as_fd())?);
    worker::serve(input, output)?;
    Ok(())
}
