//! `mount.passkeyfs`: what mount(8) calls for `mount -t passkeyfs` and for lines of fstab.
//!
//! ```text
//! mount.passkeyfs VAULT MOUNTPOINT [-sfnv] [-N NS] [-t TYPE] [-o OPTIONS]
//! ```
//!
//! If a user runs mount(8) (`user` in fstab), it has dropped its privileges before. So this is `passkeyfs mount` with other
//! arguments and with mount(8)'s exit codes. Without a terminal, as in a systemd unit, systemd asks for the PIN.

use std::ffi::OsString;

use clap::Parser;

use super::mount::{MountRequest, start};
use crate::cli::advice;
use crate::cli::messages::clap_errors;
use crate::cli::messages::exit::HelperExit;
use crate::cli::messages::logging;
use crate::cli::options::args::{DEFAULT_AUTHENTICATOR, HelperArguments, Unlocking};
use crate::cli::options::mount_options::MountChoices;
use crate::cli::process::daemon;

/// Runs the helper, and returns mount(8)'s exit code.
pub fn main(arguments: impl Iterator<Item = OsString>) -> u8 {
    let arguments = match HelperArguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return clap_errors::report(&error, HelperExit::Usage.code()),
    };
    daemon::fail_writes_beyond_limits();
    logging::start(i32::from(arguments.verbose), false);
    run(arguments).unwrap_or_else(|(error, exit)| {
        advice::report(&error);
        exit.code()
    })
}

fn run(mut arguments: HelperArguments) -> Result<u8, (anyhow::Error, HelperExit)> {
    let choices =
        MountChoices::parse(&arguments.options, arguments.sloppy).map_err(|error| (error.into(), HelperExit::Usage))?;
    if arguments.fake {
        return Ok(HelperExit::Mounted.code());
    }
    if let Some(namespace) = &arguments.namespace {
        // The working directory is lost with the namespace.
        for path in [&mut arguments.vault, &mut arguments.mountpoint] {
            *path = std::path::absolute(&*path).map_err(|error| (error.into(), HelperExit::System))?;
        }
        let context = format!("cannot enter the mount namespace {namespace}");
        daemon::enter_mount_namespace(namespace)
            .map_err(|error| (anyhow::Error::new(error).context(context), HelperExit::System))?;
    }
    let from_environment = std::env::var("PASSKEYFS_AUTHENTICATOR").ok().filter(|text| !text.is_empty());
    let request = MountRequest {
        vault: arguments.vault,
        mountpoint: arguments.mountpoint,
        unlocking: Unlocking {
            authenticator: from_environment.unwrap_or_else(|| DEFAULT_AUTHENTICATOR.to_owned()),
            recovery_code_file: None,
        },
        choices,
        foreground: false,
        exit_code: |error| advice::helper_exit(error).code(),
    };
    start(request).map_err(|error| {
        let exit = advice::helper_exit(&error);
        (error, exit)
    })
}
