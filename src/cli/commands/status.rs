//! `passkeyfs status`: of a vault folder, of a mount, or of all that are mounted. Needs no unlock.
//!
//! The folder gives its id, slots, devices and sizes; the local state, whether and where this device has it mounted; the
//! daemon, how much is unpublished or has not arrived, and why the vault is read-only. Without an unlock nothing of the
//! folder is authenticated.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::check::count;
use crate::cli::advice;
use crate::cli::messages::dates::format_seconds;
use crate::cli::messages::exit::Exit;
use crate::cli::messages::failure::failure;
use crate::cli::messages::output;
use crate::cli::options::args::StatusArguments;
use crate::cli::options::size::format_size;
use crate::cli::vault_place::disk_use::{bytes_below, entries, free_bytes, is_full};
use crate::cli::vault_place::state_folder;
use crate::cli::vault_place::vault::VaultPlace;
use crate::format::DeviceId;
use crate::mount::{DaemonStatus, mount_table, request_status};
use crate::unlock::{UnlockError, VaultFileError, list_slots};

/// The whole report. `None` stands for what is not available.
#[derive(Debug, Serialize)]
struct Report {
    /// The folder.
    folder: Option<FolderReport>,
    /// The local state.
    local: Option<LocalReport>,
    /// The answer of the daemon.
    daemon: Option<DaemonStatus>,
}

/// The content of the vault folder.
#[derive(Debug, Serialize)]
struct FolderReport {
    path: String,
    vault: String,
    block_size_bytes: u32,
    slots: usize,
    slot_problems: Vec<String>,
    data_files: u64,
    data_bytes: u64,
    meta_files: u64,
    meta_bytes: u64,
    free_bytes: Option<u64>,
    /// Too little space is free to write more.
    is_full: bool,
    devices: Vec<DeviceReport>,
}

/// One device's part of the folder.
#[derive(Debug, Serialize)]
struct DeviceReport {
    device: String,
    files: u64,
    bytes: u64,
    /// When its newest file changed, in seconds since 1970.
    newest_seconds: i64,
}

/// The local state.
#[derive(Debug, Serialize)]
struct LocalReport {
    path: String,
    in_use: bool,
    pid: Option<u32>,
    mountpoint: Option<String>,
    /// Bytes of local files: journal, staging, copies.
    bytes: u64,
    free_bytes: Option<u64>,
    /// Too little space is free to write more.
    is_full: bool,
}

/// Runs the command.
pub fn run(arguments: &StatusArguments) -> anyhow::Result<Exit> {
    match &arguments.place {
        Some(place) => {
            let report = look_at(place)?;
            if arguments.json { output::print_json(&report)? } else { output::print(&describe(&report))? }
        }
        None => {
            let mounted = all_mounted()?;
            if arguments.json {
                output::print_json(&mounted.reports)?;
            } else {
                output::print(&mounted.describe())?;
            }
        }
    }
    Ok(Exit::Done)
}

/// A mount point (or a place below it) if it is one, else a vault folder.
fn look_at(place: &Path) -> anyhow::Result<Report> {
    let table = mount_table::read().context("cannot read the list of mounts")?;
    let mount = mount_table::resolve(place).ok().and_then(|path| mount_table::containing(&table, &path).cloned());
    match mount {
        Some(entry) if entry.is_passkeyfs => of_mount(&entry.mountpoint),
        _ => of_folder(place),
    }
}

fn of_mount(mountpoint: &Path) -> anyhow::Result<Report> {
    let daemon = request_status(mountpoint)?;
    // The folder may be gone while the daemon runs.
    let place = VaultPlace::find(&daemon.vault_folder).ok();
    let folder = place.as_ref().and_then(|place| folder_report(place).ok());
    // For root: the local state is that of root, not of the user who mounted.
    let table = mount_table::read().unwrap_or_default();
    let is_ours = mount_table::at(&table, mountpoint).is_none_or(is_ours);
    let local = place.as_ref().filter(|_| is_ours).map(local_report);
    Ok(Report { folder, local, daemon: Some(daemon) })
}

fn of_folder(folder: &Path) -> anyhow::Result<Report> {
    let place = VaultPlace::find(folder).map_err(|error| match error.downcast_ref() {
        Some(UnlockError::VaultFile(VaultFileError::NotAVault)) => failure(
            Exit::NotVault,
            format!("nothing is mounted at {}, and it is no vault folder: it has neither vault.json nor keys", folder.display()),
            "`passkeyfs status` lists what is mounted. If it is a vault folder, let the sync client bring its files first.",
        ),
        _ => error,
    })?;
    let local = local_report(&place);
    let daemon = local.mountpoint.as_ref().and_then(|mountpoint| request_status(Path::new(mountpoint)).ok());
    Ok(Report { folder: Some(folder_report(&place)?), local: Some(local), daemon })
}

/// All vaults that are mounted on this machine.
#[derive(Default)]
struct Mounted {
    /// Reports of those whose daemons answer.
    reports: Vec<Report>,
    /// How many daemons do not answer; each was reported.
    silent: usize,
    /// How many belong to other users, whose daemons answer only them and root.
    foreign: u64,
}

impl Mounted {
    fn describe(&self) -> String {
        let mut texts: Vec<String> = self.reports.iter().map(describe).collect();
        if self.reports.is_empty() && self.silent == 0 {
            let by = if self.foreign == 0 { "" } else { " by this user" };
            texts.push(format!("No vault is mounted{by}.\n"));
        }
        if self.foreign > 0 {
            texts.push(format!("{} of other users, which they and root can look at.\n", count(self.foreign, "vault")));
        }
        texts.join("\n")
    }
}

fn is_ours(entry: &mount_table::MountEntry) -> bool {
    entry.owner.is_none_or(|owner| owner.user == nix::unistd::geteuid().as_raw())
}

fn all_mounted() -> anyhow::Result<Mounted> {
    let table = mount_table::read().context("cannot read the list of mounts")?;
    let mut mounted = Mounted::default();
    for entry in table.iter().filter(|entry| entry.is_passkeyfs) {
        if !is_ours(entry) && !nix::unistd::geteuid().is_root() {
            mounted.foreign += 1;
            continue;
        }
        match of_mount(&entry.mountpoint) {
            Ok(report) => mounted.reports.push(report),
            Err(error) => {
                mounted.silent += 1;
                advice::report(&error);
            }
        }
    }
    Ok(mounted)
}

fn folder_report(place: &VaultPlace) -> anyhow::Result<FolderReport> {
    let slots = list_slots(&*place.store)?;
    let problems = slots.iter().flat_map(|slot| slot.problems.iter().map(|text| format!("slot {}: {text}", slot.slot)));
    let mut report = FolderReport {
        path: place.folder.to_string_lossy().into_owned(),
        vault: place.file.vault().to_string(),
        block_size_bytes: place.file.parameters().block_size_bytes,
        slots: slots.len(),
        slot_problems: problems.collect(),
        data_files: 0,
        data_bytes: 0,
        meta_files: 0,
        meta_bytes: 0,
        free_bytes: free_bytes(&place.folder),
        is_full: is_full(&place.folder),
        devices: Vec::new(),
    };
    for (name, path) in entries(&place.folder.join("devices")) {
        if name.parse::<DeviceId>().is_ok() {
            let device = device_report(name, &path, &mut report);
            report.devices.push(device);
        }
    }
    report.devices.sort_by(|left, right| left.device.cmp(&right.device));
    Ok(report)
}

/// Counts a device's files, and adds them to the totals of the folder.
fn device_report(device: String, folder: &Path, whole: &mut FolderReport) -> DeviceReport {
    let mut report = DeviceReport { device, files: 0, bytes: 0, newest_seconds: 0 };
    for (_, part) in entries(folder) {
        for (name, path) in entries(&part) {
            let Ok(metadata) = path.symlink_metadata() else { continue };
            match Path::new(&name).extension().and_then(|extension| extension.to_str()) {
                Some("data") => {
                    whole.data_files += 1;
                    whole.data_bytes += metadata.len();
                }
                Some("meta") => {
                    whole.meta_files += 1;
                    whole.meta_bytes += metadata.len();
                }
                _ => continue,
            }
            report.files += 1;
            report.bytes += metadata.len();
            report.newest_seconds = report.newest_seconds.max(std::os::unix::fs::MetadataExt::mtime(&metadata));
        }
    }
    report
}

fn local_report(place: &VaultPlace) -> LocalReport {
    let holder = state_folder::holder_of(&place.state);
    let known = holder.clone().flatten();
    LocalReport {
        path: place.state.to_string_lossy().into_owned(),
        in_use: holder.is_some(),
        pid: known.as_ref().map(|holder| holder.pid),
        mountpoint: known.and_then(|holder| holder.mountpoint).map(|path| path.to_string_lossy().into_owned()),
        bytes: bytes_below(&place.state),
        free_bytes: free_bytes(&place.state),
        is_full: is_full(&place.state),
    }
}

fn describe(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12} {value}");
    };
    if let Some(folder) = &report.folder {
        line("vault", folder.vault.clone());
        line("folder", folder.path.clone());
        line("keys", format!("{} (see passkeyfs key list)", folder.slots));
        folder.slot_problems.iter().for_each(|problem| line("warning", problem.clone()));
        line("data", format!("{} in {}", format_size(folder.data_bytes), count(folder.data_files, "file")));
        line("metadata", format!("{} in {}", format_size(folder.meta_bytes), count(folder.meta_files, "file")));
        line("free", describe_room(folder.free_bytes, folder.is_full));
        for device in &folder.devices {
            let newest = format_seconds(device.newest_seconds);
            let size = format_size(device.bytes);
            let files = count(device.files, "file");
            line("device", format!("{}: {size} in {files}, newest {newest}", device.device));
        }
    }
    if let Some(local) = &report.local {
        let room = describe_room(local.free_bytes, local.is_full);
        line("state", format!("{} ({}; free there: {room})", local.path, format_size(local.bytes)));
        line("mounted", mounted(report.daemon.as_ref(), local));
    }
    if let Some(daemon) = &report.daemon {
        let volume = &daemon.volume;
        if report.folder.is_none() {
            line("vault", volume.vault.clone());
            line("folder", daemon.vault_folder.display().to_string());
        }
        if report.local.is_none() {
            line("mounted", format!("{} by process {}", daemon.mountpoint.display(), daemon.pid));
        }
        line("this device", volume.device.clone());
        line(
            "published",
            match volume.published_commit {
                0 => "nothing yet".to_owned(),
                number => format!("commit {number}, {}", format_seconds(volume.published_seconds)),
            },
        );
        if let Some(since) = volume.vault_key_since_seconds {
            line("vault key", format!("in use since {}", format_seconds(i64::try_from(since).unwrap_or(i64::MAX))));
        }
        let dirty = format_size(volume.dirty_bytes);
        line("unpublished", format!("{}, {dirty} not written yet", count(volume.unpublished_items, "item")));
        let have = if volume.awaited_segments == 1 { "has" } else { "have" };
        line("awaited", format!("{} that {have} not arrived", count(volume.awaited_segments, "file")));
        if let Some(reason) = &volume.read_only {
            line("read-only", reason.clone());
        }
        let said = |warning: &&String| volume.read_only.as_ref().is_some_and(|reason| warning.ends_with(reason));
        volume.warnings.iter().filter(|warning| !said(warning)).for_each(|warning| line("warning", warning.clone()));
    }
    text
}

fn describe_room(free_bytes: Option<u64>, is_full: bool) -> String {
    let free = free_bytes.map_or_else(|| "not known".to_owned(), format_size);
    if is_full { format!("{free}, so no changes are taken until there is more") } else { free }
}

fn mounted(daemon: Option<&DaemonStatus>, local: &LocalReport) -> String {
    match (daemon, &local.mountpoint, local.pid) {
        (Some(daemon), _, _) => format!("{} by process {}", daemon.mountpoint.display(), daemon.pid),
        (None, Some(mountpoint), Some(pid)) => format!("{mountpoint} by process {pid}, which does not answer"),
        (None, None, Some(pid)) => format!("no; in use by process {pid}"),
        _ if local.in_use => "no; in use by another process".to_owned(),
        _ => "no".to_owned(),
    }
}
