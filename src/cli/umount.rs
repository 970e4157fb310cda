//! `passkeyfs umount`: publish, detach, and wait until the daemon is gone.
//!
//! Refuses while somebody uses the mount, and names who. If the folder is full or gone, publishing fails; the mount is
//! detached all the same, since the journal keeps every change, and that is said. On success all lies in the vault folder
//! and no process holds the vault: a copy of it may be taken at once.

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::args::UmountArguments;
use super::daemon::Process;
use super::exit::Exit;
use super::failure::failure;
use super::find_mount::{self, Names};
use super::holders::{self, How};
use super::output::shell_word;
use super::{mount_table, output, publishing, state_folder};
use crate::mount::{ControlError, UnmountError, request_status, unmount};

/// How long a wait is before a person at a terminal is told about it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs the command.
pub fn run(arguments: &UmountArguments) -> anyhow::Result<Exit> {
    // Outline: 1) find the mount, 2) publish, 3) detach, or refuse where it is busy, 4) wait for the daemon.
    let mountpoint = find_mount::find(&arguments.mountpoint, Names::MountPoint, "umount")?;
    // Called from inside the mount, this process would be in its own way.
    std::env::set_current_dir("/").context("cannot enter /")?;
    let show = mountpoint.display();
    let daemon = match request_status(&mountpoint) {
        Ok(status) => status.pid,
        Err(ControlError::Dead { .. }) => {
            unmount(&mountpoint)?;
            output::notice(&format!(
                "unmounted {show}, whose daemon had died\nThe next mount brings back what was synced from the journal."
            ));
            return Ok(Exit::Done);
        }
        // A vault folder that is gone can keep the daemon from answering: who holds the lock is the daemon.
        Err(error @ ControlError::Io { .. }) => match state_folder::holder_at(&mountpoint) {
            Some(holder) => holder.pid,
            None => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    // Held before the detach: afterwards the number could come to mean another process.
    let process = Process::open(daemon).context("cannot watch the daemon")?;
    let published = publishing::publish(&mountpoint);
    if let Err(error @ ControlError::NotPublished { is_kept: false, .. }) = &published {
        return Err(failure(
            Exit::Failed,
            format!("{show} stays mounted, for its last changes would be lost: {error}"),
            format!(
                "Make room on both disks or see to them, then try again. To give the changes up: umount {}",
                shell_word(&mountpoint)
            ),
        ));
    }
    unmount(&mountpoint).map_err(|error| match error {
        UnmountError::Busy { .. } => busy(&mountpoint, daemon),
        other => other.into(),
    })?;
    if let Some(process) = process {
        wait_until_gone(&process, daemon)?;
    }
    published.map_err(|error| {
        failure(
            Exit::Failed,
            format!("unmounted {show}, but the last changes are not in the vault folder: {error}"),
            "Nothing is lost: the journal on this device keeps them. See to the folder's disk, then mount again.",
        )
    })?;
    Ok(Exit::Done)
}

/// Who is in the way, as far as it can be seen.
fn busy(mountpoint: &Path, daemon: u32) -> anyhow::Error {
    let show = mountpoint.display();
    let table = mount_table::read().unwrap_or_default();
    if let Some(entry) = mount_table::below(&table, mountpoint).last() {
        let inner = entry.mountpoint.display();
        let what = format!("{show} is busy: something is mounted at {inner}");
        return failure(Exit::Failed, what, format!("Unmount that first: umount {}", shell_word(&entry.mountpoint)));
    }
    let holders = holders::find(mountpoint, &[daemon, std::process::id()]);
    let what = match holders.as_slice() {
        [] => format!("{show} is busy"),
        [one] => format!("{show} is busy: {one}"),
        [first, others @ ..] => format!("{show} is busy: {first}; and {} more", others.len()),
    };
    let shell = std::os::unix::process::parent_id();
    let next = if holders.is_empty() {
        format!("Run `fuser -vm {}` as root to see who uses it; end that, then try again.", shell_word(mountpoint))
    } else if holders.iter().any(|holder| holder.pid == shell && holder.how == How::WorkingDirectory) {
        "Leave that folder (`cd`), then try again.".to_owned()
    } else {
        "Close those files or end those programs, then try again.".to_owned()
    };
    failure(Exit::Failed, what, next)
}

/// Waits without limit: the daemon may have much to write. Says so where a person looks on.
fn wait_until_gone(process: &Process, daemon: u32) -> anyhow::Result<()> {
    if process.wait(Some(PATIENCE))? {
        return Ok(());
    }
    if std::io::stderr().is_terminal() {
        output::notice(&format!("waiting for the daemon (process {daemon}) to write what is left"));
    }
    process.wait(None)?;
    Ok(())
}
