//! `passkeyfs umount`: publish, detach, and wait until the daemon is gone.
//!
//! Refuses while processes use the mount, and names them. If the folder is full or gone, publishing fails; the mount is
//! then detached only if the daemon reports that the journal has every change, and an error says so. On success everything
//! is in the vault folder and no process has the vault open: it may be copied at once.
//!
//! A bind mount or another mount namespace keeps the filesystem mounted and the vault unlocked: the error names these
//! mounts, and a second call ends the daemon.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::cli::advice;
use crate::cli::messages::exit::Exit;
use crate::cli::messages::failure::failure;
use crate::cli::messages::output;
use crate::cli::messages::output::shell_word;
use crate::cli::options::args::UmountArguments;
use crate::cli::process::busy_processes::{self, Use};
use crate::cli::process::daemon::Process;
use crate::cli::serving::publishing;
use crate::cli::vault_place::elsewhere::{self, Place};
use crate::cli::vault_place::find_mount::{self, Names};
use crate::cli::vault_place::state_folder::{self, LockHolder};
use crate::mount::{ControlError, UnmountError, mount_table, request_status, unmount};

/// A longer wait is reported on a terminal.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long detaching is retried while the mount is busy.
const BUSY_PATIENCE: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(50);
/// How long the kernel may take to end the connection after the last unmount.
const DETACH_PATIENCE: Duration = Duration::from_secs(1);
/// At most this many other mounts are named.
const PLACES_SHOWN: usize = 3;

/// Runs the command.
pub fn run(arguments: &UmountArguments) -> anyhow::Result<Exit> {
    // Outline: 1) find the mount, 2) publish, 3) detach, or refuse where it is busy, 4) wait for the daemon.
    if let Some((mountpoint, state, daemon)) = living_elsewhere(&arguments.mountpoint) {
        return cut_off(&mountpoint, &state, &daemon);
    }
    let mountpoint = find_mount::find(&arguments.mountpoint, Names::MountPoint, "umount")?;
    let table = mount_table::read().context("cannot read the list of mounts")?;
    let device = mount_table::at(&table, &mountpoint).map(|entry| entry.device.clone()).unwrap_or_default();
    // The working directory of this process may keep the mount busy.
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
        // A vault folder that is gone can block the daemon: the lock file names it.
        Err(error @ ControlError::Io { .. }) => match state_folder::holder_at(&mountpoint) {
            Some(holder) => holder.pid,
            None => return Err(error.into()),
        },
        Err(error) => return Err(error.into()),
    };
    // Opened before the detach: afterwards the id could be reused.
    let process = Process::open(daemon).context("cannot watch the daemon")?;
    let published = publishing::publish(&mountpoint);
    if let Err(error @ (ControlError::NotPublished { is_kept: false, .. } | ControlError::Failed { .. })) = &published {
        return Err(failure(
            Exit::Failed,
            format!("{show} stays mounted, for its last changes would be lost: {error}"),
            format!(
                "Make room on both disks or see to them, then try again. To give the changes up: umount {}",
                shell_word(&mountpoint)
            ),
        ));
    }
    detach(&mountpoint, daemon)?;
    if let Some(process) = process
        && let Ended::LivesOn(places) = wait_until_gone(&process, daemon, &mountpoint, &device)?
    {
        return Err(lives_on(&mountpoint, &places, daemon, published.err()));
    }
    published.map_err(|error| not_all_published(&mountpoint, &error))?;
    Ok(Exit::Done)
}

/// Detaches the mount. Programs like `df` or a file manager make it busy for a moment, so it is tried again for a while.
fn detach(mountpoint: &Path, daemon: u32) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        match unmount(mountpoint) {
            Err(UnmountError::Busy { .. }) if began.elapsed() < BUSY_PATIENCE => std::thread::sleep(STEP),
            Err(UnmountError::Busy { .. }) => return Err(busy(mountpoint, daemon)),
            other => return Ok(other?),
        }
    }
}

/// The error after an unmount without a complete publish.
fn not_all_published(mountpoint: &Path, error: &ControlError) -> anyhow::Error {
    let show = mountpoint.display();
    match error {
        ControlError::FolderGone { .. } => failure(
            Exit::Failed,
            format!("unmounted {show}, but its vault folder cannot be reached: {error}"),
            "Everything had been published there before. Bring the folder back to its place (or its disk) before you mount \
             again.",
        ),
        ControlError::Forked { message } => failure(
            Exit::Failed,
            format!("unmounted {show}, and all changes are in the vault folder, but {message}"),
            advice::TWO_NEWEST_STATES,
        ),
        ControlError::NotPublished { is_kept: true, .. } => failure(
            Exit::Failed,
            format!("unmounted {show}, but the last changes are not in the vault folder: {error}"),
            "Nothing is lost: the journal on this device keeps them. See to the folder's disk, then mount again.",
        ),
        _ => failure(
            Exit::Failed,
            format!("unmounted {show}, but the daemon could not be asked whether all is in the vault folder: {error}"),
            "What it could not publish is in the journal on this device, unless its log (`journalctl -t passkeyfs`) says \
             that the changes are lost. See to the folder's disk, then mount again.",
        ),
    }
}

/// The error after an unmount of a filesystem that has other mounts: the daemon goes on.
fn lives_on(mountpoint: &Path, places: &[Place], daemon: u32, not_published: Option<ControlError>) -> anyhow::Error {
    let show = mountpoint.display();
    let mut place_list: Vec<String> = places.iter().take(PLACES_SHOWN).map(ToString::to_string).collect();
    match places.len().saturating_sub(PLACES_SHOWN) {
        0 => {}
        more => place_list.push(format!("in {more} more places")),
    }
    if place_list.is_empty() {
        place_list.push("in another mount namespace, which this user cannot see".to_owned());
    }
    let published =
        not_published.map_or_else(String::new, |error| format!("; the last changes are not published: {error}"));
    let first = match places.first() {
        Some(Place { path, process: None }) => format!("umount {}", shell_word(path)),
        Some(Place { process: Some((pid, _)), .. }) => format!("end process {pid}"),
        None => "end the container or service that has it".to_owned(),
    };
    // A read-only mount has no lock, by which a second call could find it.
    let cut_off = match state_folder::holder_at(mountpoint) {
        Some(_) => format!("run `passkeyfs umount {}` again", shell_word(mountpoint)),
        None => format!("end its daemon (kill {daemon})"),
    };
    failure(
        Exit::Failed,
        format!(
            "{show} is unmounted here, but the vault is not locked: it is still mounted {}{published}",
            place_list.join(", ")
        ),
        format!("Take it off there ({first}), or {cut_off}, which cuts that off."),
    )
}

/// Ends the daemon of a filesystem that is unmounted here and has other mounts. Programs that use these get errors.
fn cut_off(mountpoint: &Path, state: &Path, holder: &LockHolder) -> anyhow::Result<Exit> {
    let (show, daemon) = (mountpoint.display(), holder.pid);
    let Some(process) = Process::open(daemon).context("cannot watch the daemon")? else { return Ok(Exit::Done) };
    // For root: another user may have written the id of any process into the lock file.
    if user_of(daemon) != Some(holder.owner) {
        return Err(failure(
            Exit::Failed,
            format!("the local state names process {daemon} as the daemon of {show}, and it belongs to another user"),
            format!(
                "Look at it (ps {daemon}), and remove {} if no passkeyfs is running.",
                state.join("lock").display()
            ),
        ));
    }
    output::notice(&format!("{show} is mounted in other places only: they are cut off"));
    let pid = nix::unistd::Pid::from_raw(daemon as i32);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)
        .with_context(|| format!("cannot end the daemon (process {daemon})"))?;
    process.wait(None)?;
    if state_folder::has_journal(state) {
        return Err(failure(
            Exit::Failed,
            format!("{show} is locked, but the last changes are not in the vault folder"),
            "The journal on this device keeps them. See to the folder's disk, then mount again.",
        ));
    }
    Ok(Exit::Done)
}

/// The user id of a process.
fn user_of(process: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?.parse().ok()
}

/// Path, state and daemon of a vault that was unmounted there and still has other mounts.
fn living_elsewhere(mountpoint: &Path) -> Option<(PathBuf, PathBuf, LockHolder)> {
    let path = mount_table::resolve(mountpoint).ok()?;
    let table = mount_table::read().ok()?;
    if mount_table::at(&table, &path).is_some() {
        return None;
    }
    let (state, holder) = state_folder::state_at(&path)?;
    Some((path, state, holder))
}

/// The error for a busy mount, with the processes that this user can see.
fn busy(mountpoint: &Path, daemon: u32) -> anyhow::Error {
    let show = mountpoint.display();
    let table = mount_table::read().unwrap_or_default();
    if let Some(entry) = mount_table::below(&table, mountpoint).last() {
        let inner = entry.mountpoint.display();
        let what = format!("{show} is busy: something is mounted at {inner}");
        return failure(Exit::Failed, what, format!("Unmount that first: umount {}", shell_word(&entry.mountpoint)));
    }
    let processes = busy_processes::find(mountpoint, &[daemon, std::process::id()]);
    let what = match processes.as_slice() {
        [] => format!("{show} is busy"),
        [one] => format!("{show} is busy: {one}"),
        [first, others @ ..] => format!("{show} is busy: {first}; and {} more", others.len()),
    };
    let shell = std::os::unix::process::parent_id();
    let next = if processes.is_empty() {
        format!("Run `fuser -vm {}` as root to see who uses it; end that, then try again.", shell_word(mountpoint))
    } else if processes.iter().any(|process| process.pid == shell && process.used_as == Use::WorkingDirectory) {
        "Leave that folder (`cd`), then try again.".to_owned()
    } else {
        "Close those files or end those programs, then try again.".to_owned()
    };
    failure(Exit::Failed, what, next)
}

/// How a wait for the daemon ended.
enum Ended {
    Gone,
    /// It still serves: the filesystem has these other mounts, as far as this user can see them.
    LivesOn(Vec<Place>),
}

/// Waits while the daemon writes, and reports that on a terminal. Does not wait while it still serves another mount.
fn wait_until_gone(process: &Process, daemon: u32, mountpoint: &Path, device: &str) -> anyhow::Result<Ended> {
    if process.wait(Some(DETACH_PATIENCE))? {
        return Ok(Ended::Gone);
    }
    let mut is_told = !std::io::stderr().is_terminal();
    let began = Instant::now();
    loop {
        let places = elsewhere::places(device);
        if !places.is_empty() || elsewhere::is_connected(device) {
            return Ok(Ended::LivesOn(places));
        }
        if began.elapsed() >= PATIENCE {
            // The daemon removes the mount point from the lock file when it serves no longer.
            if state_folder::holder_at(mountpoint).is_some_and(|holder| holder.pid == daemon) {
                return Ok(Ended::LivesOn(places));
            }
            if !is_told {
                output::notice(&format!("waiting for the daemon (process {daemon}) to write what is left"));
                is_told = true;
            }
        }
        if process.wait(Some(DETACH_PATIENCE))? {
            return Ok(Ended::Gone);
        }
    }
}
