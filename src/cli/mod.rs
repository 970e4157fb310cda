//! The command line: arguments, commands, the mount helper, and what an error tells the person to do.
//!
//! Relies on everything below; nothing relies on it. Promises the words of the contract: each failure prints what
//! happened and, on a second line, what to do, and ends with a code of [`exit`]. Only here is `anyhow` used, and only
//! here does passkeyfs write to a terminal, but for the PIN prompt, which belongs to `unlock`.
//!
//! | to see how … | read |
//! |---|---|
//! | a command line is defined | `args.rs`; help, completions and manual come from it (`generate.rs`) |
//! | a vault is mounted | `mount.rs`, `daemon.rs`, `read_only.rs`; for mount(8) `mount_helper.rs`, `mount_options.rs` |
//! | a vault is mounted over files | `hidden.rs`: refused |
//! | a mount ends | `umount.rs`, `find_mount.rs`, `publishing.rs`, `holders.rs`, `elsewhere.rs`; by itself: `watch.rs`, `sleep.rs`, `ending.rs` |
//! | its user is told that something is wrong | `trouble.rs` |
//! | it runs as a service | `service_config.rs`, `mount.rs` |
//! | an error becomes two lines and a number | `advice.rs`, `advice_authenticator.rs`, `failure.rs`, `usage.rs`, `exit.rs` |
//! | what unlocks a vault is changed | `key_change.rs`, `rollback.rs`, `key_pin.rs`, `recovery.rs`, `recovery_kit.rs` |
//! | local state is placed and locked | `state_folder.rs`, `staging.rs`; what must not lie in the vault folder: `apart.rs` |

pub mod advice;
mod advice_authenticator;
pub mod allocation;
pub mod apart;
pub mod args;
pub mod check;
pub mod daemon;
pub mod debug;
pub mod doctor;
pub mod doctor_keys;
pub mod doctor_machine;
pub mod doctor_vault;
pub mod elsewhere;
pub mod ending;
pub mod exit;
pub mod failure;
pub mod find_mount;
pub mod generate;
pub mod hardening;
pub mod hid_helper;
pub mod hidden;
pub mod holders;
pub mod init;
pub mod key;
pub mod key_change;
pub mod key_pin;
pub mod logging;
pub mod mount;
pub mod mount_helper;
pub mod mount_options;
pub mod output;
pub mod publishing;
mod read_only;
pub mod recovery;
pub mod recovery_kit;
pub mod rollback;
pub mod service_config;
pub mod size;
pub mod sleep;
pub mod staging;
pub mod state_folder;
pub mod status;
pub mod sync;
pub mod trouble;
pub mod umount;
pub mod usage;
pub mod vault;
pub mod watch;

use std::ffi::OsString;

use clap::Parser;

use args::{Arguments, Command, DebugCommand, KeyCommand, RecoveryCommand};
use exit::Exit;

use crate::unlock::hid::child::HELPER_COMMAND;

/// Runs `passkeyfs` with these arguments (the first is the program's name), and answers with the exit code.
pub fn main(arguments: impl Iterator<Item = OsString>) -> u8 {
    let arguments: Vec<OsString> = arguments.collect();
    if arguments.get(1).is_some_and(|word| word == HELPER_COMMAND) {
        return hid_helper::main();
    }
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return usage::report(&error, Exit::Usage.code()),
    };
    daemon::fail_writes_beyond_limits();
    let foreground_daemon = matches!(&arguments.command, Command::Mount(mount) if mount.foreground);
    logging::start(arguments.verbosity.steps(), foreground_daemon);
    run(&arguments.command).unwrap_or_else(|error| advice::report(&error).code())
}

fn run(command: &Command) -> anyhow::Result<u8> {
    let exit = match command {
        // In the foreground of a daemon that failed, the code comes from there.
        Command::Mount(arguments) => return mount::run(arguments),
        Command::Init(arguments) => init::run(arguments),
        Command::Umount(arguments) => umount::run(arguments),
        Command::Sync(arguments) => sync::run(arguments),
        Command::Status(arguments) => status::run(arguments),
        Command::Key(KeyCommand::List(arguments)) => key::list(arguments),
        Command::Key(KeyCommand::Add(arguments)) => key_change::add(arguments),
        Command::Key(KeyCommand::Remove(arguments)) => key_change::remove(arguments),
        Command::Key(KeyCommand::Test(arguments)) => key::test(arguments),
        Command::Key(KeyCommand::Pin(arguments)) => key_pin::run(arguments),
        Command::Key(KeyCommand::Rotate(arguments)) => key_change::rotate(arguments),
        Command::Recovery(RecoveryCommand::Create(arguments)) => recovery::create(arguments),
        Command::Recovery(RecoveryCommand::Test(arguments)) => recovery::test(arguments),
        Command::Check(arguments) => check::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Debug(DebugCommand::Slots(arguments)) => debug::slots(arguments),
        Command::Debug(DebugCommand::Segment(arguments)) => debug::segment(arguments),
        Command::Debug(DebugCommand::Conformance(arguments)) => debug::conformance(arguments),
        Command::Completions(arguments) => generate::completions(arguments),
        Command::Man(arguments) => generate::manual(arguments),
    };
    exit.map(Exit::code)
}
