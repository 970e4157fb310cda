//! What is mounted where, from `/proc/self/mountinfo`, and paths resolved without touching a dead mount.
//!
//! Each line of mountinfo (proc(5)) is
//!
//! ```text
//! 36 35 98:0 /root /mount/point rw,noatime master:1 - fuse.passkeyfs source rw,user_id=0
//! (1)(2)(3)  (4)   (5)          (6)        (7)...   - type           source super options
//! ```
//!
//! with blank, tab, newline and backslash written in octal. Reading it asks no filesystem, so it works for a dead mount,
//! and for our own from inside its daemon. A mount whose daemon died answers every call with `ENOTCONN`, so its path is
//! never opened or listed here.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The type that the kernel shows for a mounted vault.
pub(super) const FILESYSTEM_TYPE: &str = "fuse.passkeyfs";

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Where it is mounted.
    pub mountpoint: PathBuf,
    /// What is mounted: for a vault its folder, or what `fsname=` said.
    pub source: OsString,
    /// It is a mounted vault.
    pub is_passkeyfs: bool,
    /// Of a FUSE filesystem: who mounted it.
    pub owner: Option<Owner>,
    /// The filesystem's device number, `major:minor`: the same wherever it is mounted, and no other's meanwhile.
    pub device: String,
}

/// The user and the group that a FUSE filesystem belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user's number.
    pub user: u32,
    /// The group's number.
    pub group: u32,
}

/// All mounts that this process sees, in the order in which they were made.
pub fn read() -> io::Result<Vec<MountEntry>> {
    Ok(parse(&std::fs::read("/proc/self/mountinfo")?))
}

/// All mounts that another process sees.
pub fn read_of(pid: u32) -> io::Result<Vec<MountEntry>> {
    Ok(parse(&std::fs::read(format!("/proc/{pid}/mountinfo"))?))
}

fn parse(table: &[u8]) -> Vec<MountEntry> {
    table.split(|byte| *byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let dash = fields.iter().skip(6).position(|field| *field == b"-")? + 6;
    let (kind, source) = (*fields.get(dash + 1)?, *fields.get(dash + 2)?);
    Some(MountEntry {
        mountpoint: PathBuf::from(OsString::from_vec(unescape(fields[4]))),
        source: OsString::from_vec(unescape(source)),
        is_passkeyfs: kind == FILESYSTEM_TYPE.as_bytes(),
        owner: fields.get(dash + 3).and_then(|options| owner(options)),
        device: String::from_utf8_lossy(fields[2]).into_owned(),
    })
}

/// `rw,user_id=1000,group_id=1000,…`
fn owner(options: &[u8]) -> Option<Owner> {
    let options = std::str::from_utf8(options).ok()?;
    let number = |name: &str| options.split(',').find_map(|option| option.strip_prefix(name)?.parse().ok());
    Some(Owner { user: number("user_id=")?, group: number("group_id=")? })
}

/// Undoes the kernel's `\040` for a space (and tab, newline, backslash).
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        if let Some(digits) = octal {
            bytes.push(digits.iter().fold(0u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
            rest = &after[3..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    bytes
}

/// The mount on top at this path, which must be absolute and without symlinks.
pub(in crate::mount) fn mounted_at(mountpoint: &Path) -> io::Result<Option<MountEntry>> {
    Ok(at(&read()?, mountpoint).cloned())
}

/// Whether the daemon of the mount at `mountpoint` is dead.
///
/// Asks for the free space, which the kernel never answers from a cache: attributes it remembers for a while, also of a
/// dead mount.
pub fn is_dead(mountpoint: &Path) -> bool {
    nix::sys::statfs::statfs(mountpoint).is_err_and(|errno| errno == nix::errno::Errno::ENOTCONN)
}

/// The mount on top at exactly this (resolved) path.
pub fn at<'a>(table: &'a [MountEntry], path: &Path) -> Option<&'a MountEntry> {
    table.iter().rev().find(|entry| entry.mountpoint == path)
}

/// The mount that this (resolved) path lies in: the deepest one, the latest of several at one place.
pub fn containing<'a>(table: &'a [MountEntry], path: &Path) -> Option<&'a MountEntry> {
    let depth = |entry: &MountEntry| entry.mountpoint.as_os_str().as_bytes().len();
    table.iter().filter(|entry| path.starts_with(&entry.mountpoint)).max_by_key(|entry| depth(entry))
}

/// Mounts below this one: while there are any, it cannot be detached.
pub fn below<'a>(table: &'a [MountEntry], mountpoint: &Path) -> Vec<&'a MountEntry> {
    table.iter().filter(|entry| entry.mountpoint != mountpoint && entry.mountpoint.starts_with(mountpoint)).collect()
}

/// The absolute path without symlinks, dots and trailing slashes. Also for a mount point whose daemon is dead, where
/// only the folders above it can be asked; and for root at the mount point of a user, which it may not look at.
pub fn resolve(path: &Path) -> io::Result<PathBuf> {
    let mut path = std::path::absolute(path)?;
    for _ in 0..40 {
        let error = match path.canonicalize() {
            Ok(path) => return Ok(path),
            Err(error) => error,
        };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(error) };
        let parent = parent.canonicalize()?;
        let here = parent.join(name);
        match here.read_link() {
            Ok(target) => path = parent.join(target),
            Err(_) if matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::EACCES)) => return Ok(here),
            Err(_) => return Err(error),
        }
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda rw\n\
        90 22 0:50 / /mnt/my\\040files rw,nosuid,nodev master:1 shared:2 - fuse.passkeyfs /home/a\\134b rw,user_id=1000,group_id=7\n\
        91 90 0:51 / /mnt/my\\040files/inner rw - tmpfs tmpfs rw\n\
        cut line\n";

    #[test]
    fn a_mounted_vault_is_found_by_its_path_and_from_below() {
        let table = parse(TABLE);
        assert_eq!(table.len(), 3);
        let vault = at(&table, Path::new("/mnt/my files")).expect("in the table");
        assert!(vault.is_passkeyfs);
        assert_eq!((vault.source.to_str(), vault.device.as_str()), (Some("/home/a\\b"), "0:50"));
        assert_eq!(vault.owner, Some(Owner { user: 1000, group: 7 }));
        assert_eq!(table[0].owner, None);
        assert_eq!(containing(&table, Path::new("/mnt/my files/deep/er")), Some(vault));
        assert_eq!(containing(&table, Path::new("/mnt/my filesystem")).map(|e| e.is_passkeyfs), Some(false));
        assert_eq!(below(&table, Path::new("/mnt/my files")).len(), 1);
    }

    #[test]
    fn an_escape_cut_short_is_left_as_it_is() {
        assert_eq!(unescape(b"a\\04"), b"a\\04");
        assert_eq!(unescape(b"\\089"), b"\\089");
    }

    #[test]
    fn the_root_is_mounted_and_a_temporary_folder_is_not() {
        assert!(mounted_at(Path::new("/")).expect("the table can be read").is_some());
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(mounted_at(&resolve(folder.path()).expect("it is there")).expect("the table can be read"), None);
    }

    #[test]
    fn a_path_is_resolved_through_links_and_slashes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let base = folder.path().canonicalize().expect("there");
        std::fs::create_dir(base.join("real")).expect("made");
        std::os::unix::fs::symlink("real", base.join("link")).expect("made");
        assert_eq!(resolve(&base.join("link/")).expect("resolved"), base.join("real"));
        assert!(resolve(&base.join("absent")).is_err());
        std::os::unix::fs::symlink("loop", base.join("loop")).expect("made");
        assert!(resolve(&base.join("loop")).is_err());
    }
}
