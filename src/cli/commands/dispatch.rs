//! The program `passkeyfs`: parses its arguments, starts logging, runs the command, and reports a failure.

use std::ffi::OsString;

use clap::Parser;

use super::{check, debug, doctor, generate, hid_helper, init, key, mount, recovery, status, sync, umount};
use crate::cli::advice;
use crate::cli::messages::exit::Exit;
use crate::cli::messages::{clap_errors, logging};
use crate::cli::options::args::{Arguments, Command, DebugCommand, KeyCommand, RecoveryCommand};
use crate::cli::process::daemon;
use crate::unlock::hid::child::HELPER_COMMAND;

/// Runs `passkeyfs` with these arguments (the first is the program's name), and returns the exit code.
pub fn main(arguments: impl Iterator<Item = OsString>) -> u8 {
    let arguments: Vec<OsString> = arguments.collect();
    if arguments.get(1).is_some_and(|word| word == HELPER_COMMAND) {
        return hid_helper::main();
    }
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return clap_errors::report(&error, Exit::Usage.code()),
    };
    daemon::fail_writes_beyond_limits();
    let foreground_daemon = matches!(&arguments.command, Command::Mount(mount) if mount.foreground);
    logging::start(arguments.verbosity.steps(), foreground_daemon);
    run(&arguments.command).unwrap_or_else(|error| advice::report(&error).code())
}

fn run(command: &Command) -> anyhow::Result<u8> {
    let exit = match command {
        // If the daemon failed, this is its exit code.
        Command::Mount(arguments) => return mount::run(arguments),
        Command::Init(arguments) => init::run(arguments),
        Command::Umount(arguments) => umount::run(arguments),
        Command::Sync(arguments) => sync::run(arguments),
        Command::Status(arguments) => status::run(arguments),
        Command::Key(KeyCommand::List(arguments)) => key::list::list(arguments),
        Command::Key(KeyCommand::Add(arguments)) => key::add::add(arguments),
        Command::Key(KeyCommand::Remove(arguments)) => key::remove::remove(arguments),
        Command::Key(KeyCommand::Test(arguments)) => key::test::test(arguments),
        Command::Key(KeyCommand::Pin(arguments)) => key::pin::run(arguments),
        Command::Key(KeyCommand::Rotate(arguments)) => key::rotate::rotate(arguments),
        Command::Recovery(RecoveryCommand::Create(arguments)) => recovery::create::create(arguments),
        Command::Recovery(RecoveryCommand::Test(arguments)) => recovery::create::test(arguments),
        Command::Check(arguments) => check::run(arguments),
        Command::Doctor(arguments) => doctor::run::run(arguments),
        Command::Debug(DebugCommand::Slots(arguments)) => debug::slots(arguments),
        Command::Debug(DebugCommand::Segment(arguments)) => debug::segment(arguments),
        Command::Debug(DebugCommand::Conformance(arguments)) => debug::conformance(arguments),
        Command::Completions(arguments) => generate::completions(arguments),
        Command::Man(arguments) => generate::manual(arguments),
    };
    exit.map(Exit::code)
}
