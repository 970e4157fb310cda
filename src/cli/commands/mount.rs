//! `passkeyfs mount`: from options to a served mount, in the foreground or as a daemon.
//!
//! ```text
//! places looked at ──> fork (unless -f) ──> lock ──> unlock ──> Volume::open ──> mount ──> detach ──> serve ──> close
//! ```
//!
//! The lock is taken before the PIN is asked for. `serving/lock_triggers.rs` watches for what ends the mount, and
//! `serving/shutdown.rs` ends it; [`serve`] returns when the mount is gone. Closing the volume publishes for the last time:
//! changes that cannot be published stay in the journal, and an error says so. A service manager (`NOTIFY_SOCKET`) is told
//! of every step.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use nix::unistd::AccessFlags;
use sd_notify::NotifyState;

use super::hidden_files;
use crate::cli::advice;
use crate::cli::messages::dates::format_seconds;
use crate::cli::messages::exit::Exit;
use crate::cli::messages::failure::failure;
use crate::cli::messages::logging;
use crate::cli::messages::output;
use crate::cli::messages::output::shell_word;
use crate::cli::messages::read_only;
use crate::cli::options::args::{MountArguments, Unlocking};
use crate::cli::options::mount_options::MountChoices;
use crate::cli::process::allocation;
use crate::cli::process::daemon::{self, Detach, Started};
use crate::cli::serving::lock_triggers::{self, LockTriggers};
use crate::cli::serving::service_config;
use crate::cli::serving::shutdown::{MoreTime, Shutdown, where_changes_are};
use crate::cli::serving::trouble;
use crate::cli::vault_place::outside_vault;
use crate::cli::vault_place::staging;
use crate::cli::vault_place::vault::{VaultPlace, open_keys};
use crate::mount::{DaemonInfo, MountOptions, MountSession, is_dead, mount, mount_table, unmount};
use crate::unlock::{KnownKeys, set_service_status, tell_service_manager};
use crate::volume::{Volume, VolumeError, VolumeOptions};

/// What to mount, where, and how: from the command line or from mount(8).
#[derive(Debug)]
pub struct MountRequest {
    /// The vault folder, as given.
    pub vault: PathBuf,
    /// The mount point, as given.
    pub mountpoint: PathBuf,
    /// How to unlock, unless the options say it.
    pub unlocking: Unlocking,
    /// The options.
    pub choices: MountChoices,
    /// No daemon.
    pub foreground: bool,
    /// The exit code for a failure.
    pub exit_code: fn(&anyhow::Error) -> u8,
}

/// Runs the command.
pub fn run(arguments: &MountArguments) -> anyhow::Result<u8> {
    let mut options = arguments.options.clone();
    let (vault, mountpoint) = match (&arguments.config, &arguments.vault, &arguments.mountpoint) {
        (Some(name), ..) => {
            let config = service_config::read(name)?;
            make_mountpoint(&config.mountpoint)?;
            // Options of the command line come later and take precedence.
            options.insert(0, config.options);
            (config.vault, config.mountpoint)
        }
        (None, Some(vault), Some(mountpoint)) => (vault.clone(), mountpoint.clone()),
        _ => return Err(failure(Exit::Usage, "vault and mount point are missing", "See passkeyfs mount --help.")),
    };
    start(MountRequest {
        vault,
        mountpoint,
        unlocking: arguments.authenticator.unlocking(),
        choices: MountChoices::parse(&options, false)?,
        foreground: arguments.foreground,
        exit_code: |error| advice::of(error).exit.code(),
    })
}

/// Creates the mount point of a service. Its parent must exist.
fn make_mountpoint(path: &Path) -> anyhow::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        // Also for a dead mount.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failure(
            Exit::Failed,
            format!("cannot make the mount point {}: {error}", path.display()),
            "Make the folder yourself, or name another as MOUNTPOINT.",
        )),
    }
}

/// Mounts, and returns the exit code: when the daemon is ready, or in the foreground when the mount has ended.
pub fn start(request: MountRequest) -> anyhow::Result<u8> {
    let place = VaultPlace::find(&request.vault)?;
    let mountpoint = look_at_mountpoint(&request.mountpoint, &place, request.choices.nonempty)?;
    if !request.choices.read_only {
        refuse_unwritable(&place.folder)?;
    }
    let authenticator = request.choices.authenticator.as_ref().unwrap_or(&request.unlocking.authenticator);
    outside_vault::refuse_in_vault(&place, authenticator, request.choices.staging.as_deref())?;
    if request.foreground {
        return serve(&request, &place, &mountpoint, None).map(|()| Exit::Done.code());
    }
    let child = |detach| match serve(&request, &place, &mountpoint, Some(detach)) {
        Ok(()) => Exit::Done.code(),
        Err(error) => {
            if logging::is_in_background() {
                log::error!("{}", advice::what_happened(&error));
            } else {
                advice::report(&error);
            }
            (request.exit_code)(&error)
        }
    };
    match daemon::run_in_background(child).context("cannot start the daemon")? {
        Started::Ready => Ok(Exit::Done.code()),
        Started::Exited(code) => Ok(u8::try_from(code).unwrap_or(Exit::Failed.code())),
        Started::Killed(signal) => Err(failure(
            Exit::Failed,
            format!("the daemon was ended by {signal} before it was ready"),
            "See the kernel's log (`dmesg`), then try again; nothing was changed.",
        )),
    }
}

/// The absolute path of a folder that can be mounted on. A dead mount is unmounted first.
fn look_at_mountpoint(mountpoint: &Path, place: &VaultPlace, nonempty: bool) -> anyhow::Result<PathBuf> {
    let show = mountpoint.display();
    let make = "Give an existing, empty folder (make one with mkdir): the files appear in it.";
    let path = mount_table::resolve(mountpoint)
        .map_err(|error| failure(Exit::Failed, format!("cannot mount on {show}: {error}"), make))?;
    let table = mount_table::read().context("cannot read the list of mounts")?;
    match mount_table::at(&table, &path) {
        Some(entry) if entry.is_passkeyfs && is_dead(&path) => {
            log::warn!("clearing {show}, where the daemon of an earlier mount has died");
            unmount(&path)?;
        }
        Some(entry) if entry.is_passkeyfs => {
            let what = format!("{show} is a mounted vault already ({})", entry.source.to_string_lossy());
            let next = format!("Use the files there, or unmount it first: passkeyfs umount {}", shell_word(&path));
            return Err(failure(Exit::AlreadyMounted, what, next));
        }
        _ => {}
    }
    if !path.is_dir() {
        return Err(failure(Exit::Failed, format!("{show} is not a folder"), make));
    }
    let apart =
        "Choose a mount point apart from the vault: the folder is for the sync client, the mount point for you.";
    if path.starts_with(&place.folder) {
        return Err(failure(Exit::Failed, format!("{show} lies in the vault folder"), apart));
    }
    if place.folder.starts_with(&path) {
        return Err(failure(Exit::Failed, format!("the vault folder lies in {show}"), apart));
    }
    if let Some(found) = hidden_files::find(&path).filter(|_| !nonempty) {
        return Err(failure(
            Exit::Failed,
            format!("{show} is not empty: the mount would hide {}", found.display()),
            "Move what is there to another place, or choose an empty folder; -o nonempty mounts all the same.",
        ));
    }
    Ok(path)
}

/// Refuses a vault folder that cannot be written, before a PIN is asked for.
fn refuse_unwritable(folder: &Path) -> anyhow::Result<()> {
    let show = folder.display();
    let (what, next) = match nix::unistd::access(folder, AccessFlags::W_OK) {
        Err(nix::errno::Errno::EROFS) => (
            format!("the vault folder {show} lies on a read-only filesystem"),
            "Mount it with -o ro to read the files; or see to that disk (an error may have made it read-only).",
        ),
        Err(nix::errno::Errno::EACCES) => (
            format!("this user may not write to the vault folder {show}"),
            "Mount it with -o ro to read the files; or run the command as the user who owns the folder.",
        ),
        _ => return Ok(()),
    };
    Err(failure(Exit::Failed, what, next))
}

/// Unlocks, opens, mounts, reports that it is ready, and serves until the mount is gone.
fn serve(request: &MountRequest, place: &VaultPlace, mountpoint: &Path, detach: Option<Detach>) -> anyhow::Result<()> {
    allocation::prepare_for_a_daemon();
    let choices = &request.choices;
    let lock = match choices.is_read_only() {
        true => None,
        false => Some(place.lock()?),
    };
    staging::place(&place.state, choices.staging.as_deref())?;
    let triggers = LockTriggers::prepare(choices)?;
    let authenticator = choices.authenticator.clone().unwrap_or_else(|| request.unlocking.authenticator.clone());
    let unlocked = place.unlock(&Unlocking { authenticator, ..request.unlocking.clone() })?;
    let device = unlocked.device.clone();
    set_service_status("opening the vault");
    let is_first_time = matches!(KnownKeys::load(&*place.store), Ok(None));
    let volume = Volume::open(place.environment(), open_keys(unlocked), volume_options(choices))?;
    if is_first_time {
        say_what_cannot_be_known(&volume);
    }
    // A journal that a read-only mount cannot publish is not a failure at the end.
    let opened_read_only = volume.status().read_only.is_some();
    let mounted = mount_and_watch(place, mountpoint, choices, &volume, triggers, device.as_deref());
    let told = mounted.and_then(|mounted| {
        lock.as_ref().map_or(Ok(()), |lock| lock.name_mountpoint(mountpoint))?;
        leave_terminal(detach).map(|()| mounted)
    });
    let told = told.and_then(|mounted| {
        // The user of a service has not seen its notices.
        let knows_read_only = opened_read_only && (choices.read_only || std::env::var_os("NOTIFY_SOCKET").is_none());
        trouble::watch(&volume, mountpoint, choices.notify, knows_read_only).map(|()| mounted)
    });
    let (session, shutdown) = match told {
        Ok(mounted) => mounted,
        Err(error) => {
            // Nothing was written through the mount, so a failure to close loses nothing.
            volume.close().unwrap_or_else(|error| log::warn!("{error}"));
            return Err(error);
        }
    };
    tell_service_manager(&[NotifyState::Ready]);
    set_service_status(&format!("mounted on {}", mountpoint.display()));
    log::info!("mounted {} on {}", place.folder.display(), mountpoint.display());
    let served = session.run();
    if let Some(lock) = &lock {
        // `umount` waits for this.
        lock.forget_mountpoint().unwrap_or_else(|error| log::warn!("{error}"));
    }
    shutdown.note_served();
    tell_service_manager(&[NotifyState::Stopping]);
    set_service_status("publishing");
    let _more_time = MoreTime::ask();
    let closed = match volume.close() {
        Err(VolumeError::ReadOnly(_)) if opened_read_only => Ok(()),
        // All is published.
        Err(error @ VolumeError::Forked(_)) => return Err(error.into()),
        closed => closed,
    };
    served?;
    closed.map_err(|error| {
        let what = where_changes_are(&error);
        anyhow::Error::new(error).context(what)
    })?;
    log::info!("unmounted {}", mountpoint.display());
    Ok(())
}

/// On a first mount no rollback can be detected: prints the date of the vault key, by which the user can.
fn say_what_cannot_be_known(volume: &Volume) {
    if let Ok(Some(seconds)) = volume.epoch_start() {
        let since = format_seconds(i64::try_from(seconds).unwrap_or(i64::MAX));
        output::notice(&format!(
            "First mount on this device: there is nothing yet to compare the folder with. The vault key is of {since}; if you \
             know of a later rotation, the folder is an old one: unmount it, and let the sync client finish."
        ));
    }
}

/// Tells the parent that the daemon is ready, and detaches from the terminal.
fn leave_terminal(detach: Option<Detach>) -> anyhow::Result<()> {
    if let Some(detach) = detach {
        detach.detach().context("cannot leave the terminal")?;
        logging::switch_to_syslog();
    }
    Ok(())
}

fn mount_and_watch(
    place: &VaultPlace,
    mountpoint: &Path,
    choices: &MountChoices,
    volume: &Arc<Volume>,
    triggers: LockTriggers,
    device: Option<&Path>,
) -> anyhow::Result<(MountSession, Arc<Shutdown>)> {
    let read_only = is_read_only(volume, choices);
    let info = DaemonInfo { vault_folder: place.folder.clone(), mountpoint: mountpoint.to_owned() };
    let options = mount_options(choices, read_only, place);
    // From here on a signal is queued until the mount can be detached.
    let signals = lock_triggers::catch_signals()?;
    let session = mount(volume.clone(), mountpoint, &options, info)?;
    let shutdown = Arc::new(Shutdown::new(volume.clone(), session.unmounter()));
    triggers.start(signals, device, session.use_count(), &shutdown)?;
    Ok((session, shutdown))
}

/// Whether the mount is read-only. Prints the reason if the user did not ask for it; the volume logs other warnings.
fn is_read_only(volume: &Volume, choices: &MountChoices) -> bool {
    let reason = volume.status().read_only;
    if let (Some(reason), false) = (&reason, choices.is_read_only()) {
        output::notice(&format!("mounted read-only: {reason}\n{}", read_only::next_step(volume)));
    }
    choices.is_read_only() || reason.is_some()
}

fn volume_options(choices: &MountChoices) -> VolumeOptions {
    let usual = VolumeOptions::default();
    VolumeOptions {
        dirty_bytes_max: choices.dirty_bytes_max.unwrap_or(usual.dirty_bytes_max),
        cache_bytes_max: choices.cache_bytes_max.unwrap_or(usual.cache_bytes_max),
        publish_interval: choices.publish_interval.unwrap_or(usual.publish_interval),
        accept_rollback: choices.accept_rollback,
        head: choices.head.clone(),
        read_only: choices.read_only,
        follows: !choices.writeback,
        background: true,
    }
}

fn mount_options(choices: &MountChoices, read_only: bool, place: &VaultPlace) -> MountOptions {
    MountOptions {
        allow_other: choices.allow_other,
        read_only,
        kernel_options: choices.kernel_options.clone(),
        source: choices.source.clone().unwrap_or_else(|| place.folder.to_string_lossy().into_owned()),
        // 0: chosen by the mount.
        threads: choices.threads.unwrap_or(0),
        sleep_at_once: choices.sleep_at_once,
        writeback: choices.writeback,
        access_times: choices.access_times,
        directory_access_times: choices.directory_access_times(),
    }
}
