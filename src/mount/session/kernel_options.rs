//! The mount options that are the kernel's: the one table of them.

use nix::mount::MsFlags;

use super::error::MountError;
use super::options::MountOptions;

/// Options for the kernel, which the helper knows too: what each sets and clears.
///
/// Those about access times are not among them: the kernel does not move the access times of a FUSE filesystem, whatever
/// they say, and helpers differ in which of them they refuse.
const KERNEL_OPTIONS: [(&str, MsFlags, MsFlags); 11] = [
    ("nodev", MsFlags::MS_NODEV, MsFlags::empty()),
    ("dev", MsFlags::empty(), MsFlags::MS_NODEV),
    ("nosuid", MsFlags::MS_NOSUID, MsFlags::empty()),
    ("suid", MsFlags::empty(), MsFlags::MS_NOSUID),
    ("noexec", MsFlags::MS_NOEXEC, MsFlags::empty()),
    ("exec", MsFlags::empty(), MsFlags::MS_NOEXEC),
    ("sync", MsFlags::MS_SYNCHRONOUS, MsFlags::empty()),
    ("async", MsFlags::empty(), MsFlags::MS_SYNCHRONOUS),
    ("dirsync", MsFlags::MS_DIRSYNC, MsFlags::empty()),
    ("ro", MsFlags::MS_RDONLY, MsFlags::empty()),
    ("rw", MsFlags::empty(), MsFlags::MS_RDONLY),
];

/// Whether [`MountOptions::kernel_options`] may hold `option`.
pub fn is_kernel_option(option: &str) -> bool {
    KERNEL_OPTIONS.iter().any(|(name, ..)| *name == option)
}

/// The flags of mount(2) for the options; one that is not known is refused by name.
pub(super) fn kernel_flags(options: &MountOptions) -> Result<MsFlags, MountError> {
    // As everywhere with FUSE: devices and set-id programs only if asked for.
    let mut flags = MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
    for option in &options.kernel_options {
        let known = KERNEL_OPTIONS.iter().find(|(name, ..)| name == option);
        let (_, set, clear) = known.ok_or_else(|| MountError::UnknownOption { option: option.clone() })?;
        flags = (flags | *set) & !*clear;
    }
    if options.read_only {
        flags |= MsFlags::MS_RDONLY;
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(kernel_options: &[&str]) -> MountOptions {
        let kernel_options = kernel_options.iter().map(|&option| option.to_owned()).collect();
        MountOptions { kernel_options, ..MountOptions::default() }
    }

    #[test]
    fn devices_and_set_id_programs_are_off_unless_asked_for_and_the_last_word_counts() {
        let default = MsFlags::MS_NODEV | MsFlags::MS_NOSUID;
        assert_eq!(kernel_flags(&options(&[])).expect("known"), default);
        assert_eq!(kernel_flags(&options(&["suid", "dev"])).expect("known"), MsFlags::empty());
        assert_eq!(kernel_flags(&options(&["suid", "nosuid"])).expect("known"), default);
        let read_only = MountOptions { read_only: true, ..options(&["noexec"]) };
        assert_eq!(kernel_flags(&read_only).expect("known"), default | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY);
    }

    #[test]
    fn an_unknown_option_is_refused_by_name() {
        let refused = kernel_flags(&options(&["noexec", "nosuch"]));
        assert!(matches!(refused, Err(MountError::UnknownOption { option }) if option == "nosuch"));
        for about_access_times in ["atime", "noatime", "relatime", "strictatime", "lazytime", "nodiratime"] {
            assert!(!is_kernel_option(about_access_times), "{about_access_times}");
        }
    }
}
