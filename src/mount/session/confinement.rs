//! Whether AppArmor confines `fusermount3`, the helper that mounts for users, and where it then may mount.
//!
//! Ubuntu (from 25.04) and others ship a profile that lets the helper mount below a few folders only. It fails elsewhere
//! with nothing but "Permission denied". What the profile says is known here as AppArmor ships it; an administrator may
//! have added to it, so this explains a refusal and does not foretell one.

use std::path::{Component, Path};

/// The profile. What a machine adds to it lies in `local/` beside it.
pub const PROFILE: &str = "/etc/apparmor.d/fusermount3";

/// Where the profile lets the helper mount, in words.
pub const ALLOWED_PLACES: &str =
    "below a home folder (not the home folder itself), /mnt, /media, /tmp or /run/user/<your id>";

/// Whether the profile is in force on the machine whose `/` is `root`.
pub fn helper_is_confined(root: &Path) -> bool {
    let path = |absolute: &str| root.join(absolute.trim_start_matches('/'));
    let text = |absolute: &str| std::fs::read_to_string(path(absolute)).ok();
    let is_on = text("/sys/module/apparmor/parameters/enabled").is_some_and(|enabled| enabled.trim() == "Y");
    if !is_on {
        return false;
    }
    // What is loaded; as a rule only root may read it.
    if let Some(loaded) = text("/sys/kernel/security/apparmor/profiles") {
        return loaded.lines().any(|line| {
            line.strip_suffix(" (enforce)").is_some_and(|name| name.rsplit('/').next() == Some("fusermount3"))
        });
    }
    let Some(profile) = text(PROFILE) else { return false };
    let head = profile.lines().find(|line| line.trim_start().starts_with("profile ")).unwrap_or_default();
    let is_set_aside = ["disable", "force-complain"]
        .iter()
        .any(|folder| path(&format!("/etc/apparmor.d/{folder}/fusermount3")).symlink_metadata().is_ok());
    !is_set_aside && !head.contains("complain") && !head.contains("unconfined")
}

/// Whether the profile as it is shipped lets the helper mount at `mountpoint` (absolute).
pub fn is_allowed_place(mountpoint: &Path) -> bool {
    let names: Vec<&str> = mountpoint
        .components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_str().unwrap_or("?")),
            _ => None,
        })
        .collect();
    matches!(
        names.as_slice(),
        ["mnt", ..] | ["media" | "tmp" | "root", _, ..] | ["home", _, _, ..] | ["run", "user", _, _, ..]
    )
}

/// The command by which root lets the helper mount at `mountpoint` too: lines in `local/` beside the profile.
pub fn allow_place_command(mountpoint: &Path) -> String {
    let place = mountpoint.display().to_string().replace('\'', "'\\''");
    let mount =
        format!("mount fstype=fuse.passkeyfs options=(nosuid,nodev) options in (ro,rw,noexec,sync) -> \"{place}/\",");
    let umount = format!("umount \"{place}/\",");
    format!("printf '%s\\n' '{mount}' '{umount}' >>/etc/apparmor.d/local/fusermount3 && apparmor_parser -r {PROFILE}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine with AppArmor and these files.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary folder");
        for (path, text) in [("/sys/module/apparmor/parameters/enabled", "Y\n")].iter().chain(files) {
            let path = root.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        root
    }

    const ENFORCING: (&str, &str) = (PROFILE, "abi <abi/4.0>,\nprofile fusermount3 /usr/bin/fusermount3 {\n}\n");

    #[test]
    fn a_profile_in_force_confines_the_helper_and_one_set_aside_does_not() {
        assert!(helper_is_confined(machine(&[ENFORCING]).path()));
        assert!(!helper_is_confined(machine(&[]).path()));
        for (path, text) in [
            ("/sys/module/apparmor/parameters/enabled", "N\n"),
            ("/etc/apparmor.d/disable/fusermount3", ""),
            ("/etc/apparmor.d/force-complain/fusermount3", ""),
            (PROFILE, "profile fusermount3 /usr/bin/fusermount3 flags=(complain) {\n}\n"),
        ] {
            assert!(!helper_is_confined(machine(&[ENFORCING, (path, text)]).path()), "{path}");
        }
    }

    #[test]
    fn what_is_loaded_counts_where_it_can_be_read() {
        let loaded = "/sys/kernel/security/apparmor/profiles";
        for (text, confined) in [
            ("pasta (enforce)\nfusermount3 (enforce)\n", true),
            ("/usr/bin/fusermount3 (enforce)\n", true),
            ("fusermount3 (complain)\n", false),
            ("pasta (enforce)\n", false),
        ] {
            assert_eq!(helper_is_confined(machine(&[ENFORCING, (loaded, text)]).path()), confined, "{text}");
        }
    }

    #[test]
    fn the_places_are_those_of_the_profile() {
        for place in ["/home/me/Backup", "/root/b", "/mnt", "/mnt/a/b", "/media/me", "/tmp/x", "/run/user/1000/v"] {
            assert!(is_allowed_place(Path::new(place)), "{place}");
        }
        for place in ["/home/me", "/home", "/root", "/srv/backup", "/tmp", "/media", "/run/user/1000", "/", "/data"] {
            assert!(!is_allowed_place(Path::new(place)), "{place}");
        }
        let command = allow_place_command(Path::new("/srv/my backup"));
        assert!(command.contains("-> \"/srv/my backup/\",' 'umount \"/srv/my backup/\",' >>"), "{command}");
    }
}
