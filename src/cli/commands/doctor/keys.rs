//! Checks of security keys: which are attached, whether this user may use them, and whether they are suitable.
//!
//! A FIDO key is recognised by its report descriptor (usage page 0xF1D0), which every user may read in sysfs: so a key that
//! this user may not open is found, too.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use super::finding::{Finding, Machine};
use crate::unlock::authenticator::{AuthenticatorDescription, UserVerification};
use crate::unlock::interaction::plain;
use crate::unlock::{AuthenticatorChoice, Purpose, open_authenticators, user_interaction};

const ABOUT: &str = "keys";
const RULE: &str = "70-passkeyfs.rules";
/// How a report descriptor begins a collection of the FIDO alliance's usage page.
const FIDO_USAGE_PAGE: [u8; 3] = [0x06, 0xd0, 0xf1];

/// A device node that may be a key.
struct Device {
    node: PathBuf,
    /// Its own name.
    name: String,
}

/// All findings about keys.
pub fn examine(machine: &Machine) -> Vec<Finding> {
    let devices = fido_devices(machine);
    if devices.is_empty() {
        let next = "Plug one in to see what it can do; without, only the recovery code unlocks a vault.";
        return vec![Finding::warning(ABOUT, "no security key is attached", next)];
    }
    devices
        .iter()
        .flat_map(|device| access(device).map_or_else(|| abilities(device), |finding| vec![finding]))
        .collect()
}

fn fido_devices(machine: &Machine) -> Vec<Device> {
    let entries = std::fs::read_dir(machine.path("/sys/class/hidraw")).into_iter().flatten().flatten();
    let mut devices: Vec<Device> = entries
        .filter(|entry| {
            let descriptor = std::fs::read(entry.path().join("device/report_descriptor")).unwrap_or_default();
            descriptor.windows(FIDO_USAGE_PAGE.len()).any(|window| window == FIDO_USAGE_PAGE)
        })
        .map(|entry| Device {
            node: machine.path("/dev").join(entry.file_name()),
            name: device_name(&entry.path()).unwrap_or_else(|| "a security key".to_owned()),
        })
        .collect();
    devices.sort_by(|left, right| left.node.cmp(&right.node));
    devices
}

fn device_name(folder: &Path) -> Option<String> {
    let text = std::fs::read_to_string(folder.join("device/uevent")).ok()?;
    text.lines().find_map(|line| line.strip_prefix("HID_NAME=")).map(plain)
}

/// The finding, if this user cannot open the device.
fn access(device: &Device) -> Option<Finding> {
    let error = OpenOptions::new().read(true).write(true).open(&device.node).err()?;
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).ok().flatten();
    let user = user.map_or_else(|| "this user".to_owned(), |user| user.name);
    let found = format!("{} ({}) cannot be opened by {user}: {error}", device.node.display(), device.name);
    if error.kind() != std::io::ErrorKind::PermissionDenied {
        let next = "Pull the key out, put it in again, and try once more. In a container the device must be passed in.";
        return Some(Finding::problem(ABOUT, found, next));
    }
    let next = format!(
        "Who sits at the machine may use it. Anybody else needs the udev rule {RULE} (scripts/install.sh installs it) and the \
         group plugdev: as root, usermod --append --groups plugdev {user}; then log in again."
    );
    Some(Finding::problem(ABOUT, found, next))
}

/// What the key supports, as it reports without a touch.
fn abilities(device: &Device) -> Vec<Finding> {
    // Opening a named device asks the user nothing.
    let choice = AuthenticatorChoice::Hid(device.node.clone());
    match open_authenticators(&choice, Purpose::Unlock, &*user_interaction()) {
        Ok(authenticators) => authenticators.iter().map(|one| judge(&one.describe())).collect(),
        Err(error) => {
            let found = format!("{} ({}): {error}", device.node.display(), device.name);
            vec![Finding::problem(ABOUT, found, "Pull the key out, put it in again, and try once more.")]
        }
    }
}

fn judge(description: &AuthenticatorDescription) -> Finding {
    // It has the device in it.
    let name = plain(&description.name);
    if !description.hmac_secret {
        let next = "Use a FIDO2 key with the hmac-secret extension (most made since 2019 have it).";
        return Finding::problem(ABOUT, format!("{name} does not know hmac-secret, and cannot unlock a vault"), next);
    }
    match description.user_verification {
        UserVerification::Ready => Finding::ok(ABOUT, format!("{name}: hmac-secret, PIN or fingerprint set")),
        UserVerification::Unsupported => Finding::ok(ABOUT, format!("{name}: hmac-secret; it knows no PIN")),
        UserVerification::NotSetUp => Finding::warning(
            ABOUT,
            format!("{name}: hmac-secret, but no PIN is set, so whoever has it can use it"),
            "Set a PIN with its maker's program or `fido2-token -S DEVICE`, before it is enrolled: a PIN changes the secret.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::doctor::finding::Grade;

    fn put(machine: &Machine, path: &str, bytes: &[u8]) {
        let path = machine.path(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, bytes).expect("written");
    }

    #[test]
    fn keys_are_found_among_other_devices_and_one_that_cannot_be_opened_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let machine = Machine { root: folder.path().to_owned(), is_root: false, home: None };
        assert_eq!(examine(&machine)[0].grade, Grade::Warning);
        put(&machine, "/sys/class/hidraw/hidraw0/device/report_descriptor", &[0x05, 0x01, 0x09, 0x06]);
        put(&machine, "/sys/class/hidraw/hidraw3/device/report_descriptor", &[0x06, 0xd0, 0xf1, 0x09, 0x01]);
        put(&machine, "/sys/class/hidraw/hidraw3/device/uevent", b"DRIVER=hid\nHID_NAME=Some\x1b Key\n");
        // There is no such node, as in a container: it cannot be opened.
        let findings = examine(&machine);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].grade, Grade::Problem);
        assert!(findings[0].found.contains("dev/hidraw3 (Some\u{fffd} Key) cannot be opened by"), "{findings:?}");
        assert!(findings[0].next.as_ref().is_some_and(|next| next.contains("container")), "{findings:?}");
    }

    #[test]
    fn a_key_is_judged_by_hmac_secret_and_pin() {
        let description = |hmac_secret, user_verification| AuthenticatorDescription {
            name: "Key".into(),
            hardware: true,
            device: None,
            user_verification,
            hmac_secret,
            credentials_in_list_max: 8,
        };
        for (hmac_secret, verification, grade) in [
            (true, UserVerification::Ready, Grade::Ok),
            (true, UserVerification::Unsupported, Grade::Ok),
            (true, UserVerification::NotSetUp, Grade::Warning),
            (false, UserVerification::Ready, Grade::Problem),
        ] {
            assert_eq!(judge(&description(hmac_secret, verification)).grade, grade);
        }
    }
}
