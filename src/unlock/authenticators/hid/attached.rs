//! Which security keys are attached: what sysfs says, which needs no permission on the devices.
//!
//! A security key is a hidraw device whose report descriptor begins a collection on the FIDO usage page (CTAP 2.1, section
//! 11.2.8.2). Its name comes from the device, so it is cut to what cannot steer a terminal.

use std::path::{Path, PathBuf};

const HIDRAW_FOLDER: &str = "/sys/class/hidraw";
const DEVICE_FOLDER: &str = "/dev";
const FIDO_USAGE_PAGE: u32 = 0xf1d0;
/// The kernel's own limit for a report descriptor.
const DESCRIPTOR_BYTES_MAX: usize = 4096;
const NAME_CHARACTERS_MAX: usize = 60;

/// A security key that is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttachedKey {
    /// Its device.
    pub path: PathBuf,
    /// What it calls itself.
    pub product: String,
}

impl AttachedKey {
    /// What to call it in prompts and messages: its own name and its device, for there may be two of a kind.
    pub fn name(&self) -> String {
        format!("{} ({})", self.product, self.path.display())
    }
}

/// All security keys that are attached, in the order in which they came.
pub fn attached_keys() -> Vec<AttachedKey> {
    keys_below(Path::new(HIDRAW_FOLDER))
}

/// The security key at `path`, which may be a link; `None` if what is there is none.
pub fn attached_key_at(path: &Path) -> Option<AttachedKey> {
    let device = path.canonicalize().ok()?;
    key_in(&Path::new(HIDRAW_FOLDER).join(device.strip_prefix(DEVICE_FOLDER).ok()?))
}

fn keys_below(folder: &Path) -> Vec<AttachedKey> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<_> = entries.flatten().filter_map(|entry| key_in(&entry.path())).collect();
    // hidraw2 before hidraw10.
    found.sort_by_key(|key| (key.path.as_os_str().len(), key.path.clone()));
    found
}

/// The security key whose folder in sysfs this is.
fn key_in(folder: &Path) -> Option<AttachedKey> {
    let descriptor = std::fs::read(folder.join("device/report_descriptor")).ok()?;
    if !is_fido(&descriptor) {
        return None;
    }
    let uevent = std::fs::read(folder.join("device/uevent")).unwrap_or_default();
    let uevent = String::from_utf8_lossy(&uevent);
    let name = uevent.lines().find_map(|line| line.strip_prefix("HID_NAME=")).unwrap_or_default();
    Some(AttachedKey { path: Path::new(DEVICE_FOLDER).join(folder.file_name()?), product: harmless(name) })
}

fn harmless(name: &str) -> String {
    let is_plain = |character: &char| character.is_alphanumeric() || character.is_ascii_graphic() || *character == ' ';
    let plain: String = name.chars().filter(is_plain).take(NAME_CHARACTERS_MAX).collect();
    if plain.trim().is_empty() { "security key".to_owned() } else { plain.trim().to_owned() }
}

/// Whether a report descriptor names the FIDO usage page (HID 1.11, section 6.2.2).
fn is_fido(descriptor: &[u8]) -> bool {
    let mut rest = &descriptor[..descriptor.len().min(DESCRIPTOR_BYTES_MAX)];
    while let Some((prefix, after)) = rest.split_first() {
        // A long item says its length in the next byte, and has a tag before its data.
        let length = match (prefix, prefix & 3) {
            (0xfe, _) => 2 + usize::from(after.first().copied().unwrap_or_default()),
            (_, 3) => 4,
            (_, length) => usize::from(length),
        };
        let Some((data, after)) = after.split_at_checked(length) else { return false };
        let value = data.iter().rev().fold(0u32, |value, byte| value << 8 | u32::from(*byte));
        if prefix & 0xfc == 0x04 && value == FIDO_USAGE_PAGE {
            return true;
        }
        rest = after;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = &[0x06, 0xd0, 0xf1, 0x09, 0x01, 0xa1, 0x01, 0xc0];
    const MOUSE: &[u8] = &[0x05, 0x01, 0x09, 0x02, 0xa1, 0x01, 0xc0];

    #[test]
    fn keys_are_told_from_other_devices_and_come_in_order() {
        let sysfs = tempfile::tempdir().expect("a temporary folder");
        let devices =
            [("hidraw10", KEY, "HID_ID=0\nHID_NAME=Red \u{1b}[2JKey\n"), ("hidraw2", KEY, ""), ("hidraw1", MOUSE, "")];
        for (name, descriptor, uevent) in devices {
            let device = sysfs.path().join(name).join("device");
            std::fs::create_dir_all(&device).expect("made");
            std::fs::write(device.join("report_descriptor"), descriptor).expect("written");
            std::fs::write(device.join("uevent"), uevent).expect("written");
        }
        let names: Vec<_> = keys_below(sysfs.path()).iter().map(AttachedKey::name).collect();
        assert_eq!(names, ["security key (/dev/hidraw2)", "Red [2JKey (/dev/hidraw10)"]);
        assert_eq!(keys_below(Path::new("/nonexistent")), []);
        assert_eq!(attached_key_at(Path::new("/dev/null")), None);
    }

    #[test]
    fn a_descriptor_is_read_to_its_end_whatever_it_holds() {
        assert!(is_fido(&[&[0xfe, 2, 0x10, 0xd0, 0xf1], KEY].concat()));
        assert!(is_fido(&[0x07, 0xd0, 0xf1, 0, 0]));
        for bad in [&[0xfe][..], &[0xfe, 200, 0], &[0x06, 0xd0], &[0x0a, 0xd0, 0xf1], &[0xff; 300], &[]] {
            assert!(!is_fido(bad), "{bad:?}");
        }
    }
}
