//! Checks of the machine: FUSE, its helper, what is installed, the clock, the local state.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;

use super::finding::{Finding, Machine, now_seconds};
use crate::cli::messages::dates::format_seconds;
use crate::cli::options::size::format_size;
use crate::cli::vault_place::disk_use::free_bytes;
use crate::cli::vault_place::state_folder;
use crate::mount::{ALLOWED_PLACES, HELPER_PROFILE, helper_is_confined};

/// A clock before this version was written is wrong: 2026-01-01.
const SECONDS_MIN: i64 = 1_767_225_600;
/// With less free space a journal may not fit.
const FREE_BYTES_MIN: u64 = 1 << 30;

/// All findings about the machine.
pub fn examine(machine: &Machine) -> Vec<Finding> {
    vec![
        fuse(machine),
        fusermount(machine),
        confinement(machine),
        allow_other(machine),
        mount_helper(machine),
        service(machine),
        clock(now_seconds()),
        state(),
    ]
}

fn fuse(machine: &Machine) -> Finding {
    let device = machine.path("/dev/fuse");
    match OpenOptions::new().read(true).write(true).open(&device) {
        Ok(_) => Finding::ok("fuse", format!("{} can be used", device.display())),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Finding::problem(
            "fuse",
            format!("{} cannot be opened: {error}", device.display()),
            "As root: chmod 666 /dev/fuse (udev does so by itself where it runs).",
        ),
        Err(error) => Finding::problem(
            "fuse",
            format!("{} cannot be opened: {error}", device.display()),
            "As root: modprobe fuse; in a container, start it with --device /dev/fuse --cap-add SYS_ADMIN.",
        ),
    }
}

fn fusermount(machine: &Machine) -> Finding {
    const SET_UID: u32 = 0o4000;
    match machine.first_of(&["/usr/bin/fusermount3", "/bin/fusermount3", "/usr/local/bin/fusermount3"]) {
        _ if machine.is_root => Finding::ok("fusermount3", "not needed: root mounts without it"),
        None => Finding::problem("fusermount3", "it is not installed", "Install the package fuse3."),
        Some(helper) => match helper.metadata() {
            Ok(metadata) if metadata.uid() == 0 && metadata.permissions().mode() & SET_UID == 0 => Finding::problem(
                "fusermount3",
                format!("{} is not set-uid root, so it cannot mount for users", helper.display()),
                format!("As root: chmod u+s {}", helper.display()),
            ),
            Ok(_) => Finding::ok("fusermount3", helper.display().to_string()),
            Err(error) => Finding::problem(
                "fusermount3",
                format!("{}: {error}", helper.display()),
                "Install the package fuse3 again.",
            ),
        },
    }
}

fn confinement(machine: &Machine) -> Finding {
    if machine.is_root {
        return Finding::ok("apparmor", "it does not matter: root mounts without fusermount3");
    }
    if !helper_is_confined(&machine.root) {
        return Finding::ok("apparmor", "it does not confine fusermount3");
    }
    Finding::warning(
        "apparmor",
        format!("its profile {HELPER_PROFILE} lets fusermount3 mount only {ALLOWED_PLACES}"),
        "Mount there. If it has to be elsewhere, try it: the error tells the command by which root allows it.",
    )
}

fn allow_other(machine: &Machine) -> Finding {
    let text = std::fs::read_to_string(machine.path("/etc/fuse.conf")).unwrap_or_default();
    match text.lines().any(|line| line.trim() == "user_allow_other") {
        true => Finding::ok("user_allow_other", "users may share a mount with others (-o allow_other)"),
        false if machine.is_root => Finding::ok("user_allow_other", "not needed: root may share a mount without it"),
        false => Finding::warning(
            "user_allow_other",
            "it is not set, so -o allow_other is refused to users",
            "Only if other users are to see the files: put a line user_allow_other into /etc/fuse.conf as root.",
        ),
    }
}

fn mount_helper(machine: &Machine) -> Finding {
    match machine.first_of(&["/sbin/mount.passkeyfs", "/usr/sbin/mount.passkeyfs"]) {
        Some(path) => Finding::ok("mount.passkeyfs", path.display().to_string()),
        None => Finding::warning(
            "mount.passkeyfs",
            "it is not in /sbin, so fstab and mount(8) do not know passkeyfs",
            "Install passkeyfs with scripts/install.sh as root.",
        ),
    }
}

fn service(machine: &Machine) -> Finding {
    const UNIT: &str = "systemd/user/passkeyfs@.service";
    let mut places: Vec<PathBuf> =
        ["/etc", "/usr/local/lib", "/usr/lib", "/lib"].map(|folder| machine.path(folder)).into();
    places.extend(machine.home.iter().flat_map(|home| [home.join(".config"), home.join(".local/share")]));
    match places.iter().map(|folder| folder.join(UNIT)).find(|unit| unit.exists()) {
        Some(unit) => Finding::ok("service", unit.display().to_string()),
        None => Finding::warning(
            "service",
            "the unit passkeyfs@.service is not installed",
            "Only if a vault is to be mounted at login or boot: install passkeyfs with scripts/install.sh as root.",
        ),
    }
}

fn clock(now: i64) -> Finding {
    let shown = format_seconds(now);
    if now >= SECONDS_MIN {
        return Finding::ok("clock", shown);
    }
    let next = "Set the clock (timedatectl set-ntp true): commits and snapshots carry its time.";
    Finding::problem("clock", format!("it says {shown}, and it is later than that"), next)
}

fn state() -> Finding {
    let folder = match state_folder::states_folder() {
        Ok(folder) => folder,
        Err(error) => return Finding::problem("state", error.to_string(), "Set XDG_STATE_HOME."),
    };
    let show = folder.display();
    let existing = folder.ancestors().find(|folder| folder.exists());
    let writable = existing.is_some_and(|folder| {
        nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK).is_ok()
    });
    match free_bytes(&folder) {
        _ if !writable => Finding::problem(
            "state",
            format!("{show} cannot be written"),
            "See to its owner and mode, or set XDG_STATE_HOME to a folder on this machine that is not synced.",
        ),
        Some(bytes) if bytes < FREE_BYTES_MIN => Finding::warning(
            "state",
            format!("{show} has only {} left", format_size(bytes)),
            "Make room there: what is not published yet lies there.",
        ),
        _ => Finding::ok("state", show.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::doctor::finding::Grade;

    fn machine() -> (tempfile::TempDir, Machine) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let machine =
            Machine { root: folder.path().to_owned(), is_root: false, home: Some(folder.path().join("home")) };
        (folder, machine)
    }

    fn put(machine: &Machine, path: &str, text: &str) -> PathBuf {
        let path = machine.path(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(&path, text).expect("written");
        path
    }

    #[test]
    fn a_bare_machine_lacks_fuse_and_its_helper_and_may_do_without_the_rest() {
        let (_folder, machine) = machine();
        for (finding, grade) in [
            (fuse(&machine), Grade::Problem),
            (fusermount(&machine), Grade::Problem),
            (allow_other(&machine), Grade::Warning),
            (mount_helper(&machine), Grade::Warning),
            (service(&machine), Grade::Warning),
        ] {
            assert_eq!(finding.grade, grade, "{finding:?}");
            assert!(finding.next.is_some(), "{finding:?}");
        }
        let root = Machine { is_root: true, ..machine };
        assert_eq!(fusermount(&root).grade, Grade::Ok);
    }

    #[test]
    fn a_machine_with_everything_is_well() {
        let (_folder, machine) = machine();
        put(&machine, "/dev/fuse", "");
        let helper = put(&machine, "/usr/bin/fusermount3", "");
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o4755)).expect("set");
        put(&machine, "/etc/fuse.conf", "# a comment\nuser_allow_other\n");
        put(&machine, "/sbin/mount.passkeyfs", "");
        put(&machine, "/usr/local/lib/systemd/user/passkeyfs@.service", "");
        for finding in
            [fuse(&machine), fusermount(&machine), allow_other(&machine), mount_helper(&machine), service(&machine)]
        {
            assert_eq!(finding.grade, Grade::Ok, "{finding:?}");
        }
    }

    #[test]
    fn a_confined_helper_is_said_to_those_who_need_it() {
        let (_folder, machine) = machine();
        assert_eq!(confinement(&machine).grade, Grade::Ok);
        put(&machine, "/sys/module/apparmor/parameters/enabled", "Y\n");
        put(&machine, HELPER_PROFILE, "profile fusermount3 /usr/bin/fusermount3 {\n}\n");
        let finding = confinement(&machine);
        assert_eq!(finding.grade, Grade::Warning);
        assert!(finding.found.contains("below a home folder (not the home folder itself)"), "{finding:?}");
        assert_eq!(confinement(&Machine { is_root: true, ..machine }).grade, Grade::Ok);
    }

    #[test]
    fn a_commented_line_allows_nothing_and_an_old_clock_is_wrong() {
        let (_folder, machine) = machine();
        put(&machine, "/etc/fuse.conf", "#user_allow_other\n");
        assert_eq!(allow_other(&machine).grade, Grade::Warning);
        assert_eq!(clock(0).grade, Grade::Problem);
        assert_eq!(clock(SECONDS_MIN).grade, Grade::Ok);
    }
}
