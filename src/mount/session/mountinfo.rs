//! What is mounted where, from `/proc/self/mountinfo`: reading it asks no filesystem anything, so it works for a dead
//! mount, and for our own from inside its daemon.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The type that the kernel shows for a mounted vault.
pub(super) const FILESYSTEM_TYPE: &str = "fuse.passkeyfs";

/// One line of the table, as far as it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::mount) struct MountEntry {
    /// The filesystem's device number, `major:minor`: ours alone for as long as it is mounted.
    pub(in crate::mount) device: String,
    /// Where it is.
    pub(in crate::mount) mountpoint: PathBuf,
    /// Its type.
    pub(in crate::mount) kind: String,
    /// Of a FUSE filesystem: who mounted it.
    pub(in crate::mount) owner: Option<Owner>,
}

/// The user and the group that a FUSE filesystem belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::mount) struct Owner {
    /// The user's number.
    pub(in crate::mount) user: u32,
    /// The group's number.
    pub(in crate::mount) group: u32,
}

/// The mount that is seen at `mountpoint` (the last one made there), which must be an absolute path without symlinks.
pub(in crate::mount) fn mounted_at(mountpoint: &Path) -> io::Result<Option<MountEntry>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    Ok(entries(&table).filter(|entry| entry.mountpoint == mountpoint).last())
}

/// Whether the daemon of the mount at `mountpoint` is dead.
///
/// Asks for the free space, which the kernel never answers itself: a folder's attributes it remembers for a while, of a
/// dead mount, too.
pub fn is_dead(mountpoint: &Path) -> bool {
    nix::sys::statfs::statfs(mountpoint).is_err_and(|errno| errno == nix::errno::Errno::ENOTCONN)
}

/// The absolute path of a mount point, even of a dead one, on which `canonicalize` itself would fail.
pub(in crate::mount) fn resolve(mountpoint: &Path) -> io::Result<PathBuf> {
    match mountpoint.canonicalize() {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTCONN | libc::EACCES)) => {
            let name = mountpoint.file_name().ok_or(error)?;
            let parent = mountpoint.parent().filter(|parent| !parent.as_os_str().is_empty());
            Ok(parent.unwrap_or(Path::new(".")).canonicalize()?.join(name))
        }
        resolved => resolved,
    }
}

fn entries(table: &[u8]) -> impl Iterator<Item = MountEntry> + '_ {
    table.split(|&byte| byte == b'\n').filter_map(entry)
}

/// `id parent major:minor root mountpoint options [optional…] - type source options`
fn entry(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|&byte| byte == b' ');
    let device = fields.nth(2)?;
    let mountpoint = fields.nth(1)?;
    let mut behind_dash = fields.skip_while(|field| field != b"-").skip(1);
    let kind = behind_dash.next()?;
    Some(MountEntry {
        device: String::from_utf8(device.to_vec()).ok()?,
        mountpoint: PathBuf::from(OsString::from_vec(unescape(mountpoint))),
        kind: String::from_utf8(kind.to_vec()).ok()?,
        owner: behind_dash.nth(1).and_then(owner),
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
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let octal = match after.first_chunk::<3>() {
            Some(digits) if byte == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit)) => Some(digits),
            _ => None,
        };
        if let Some(digits) = octal {
            plain.push(digits.iter().fold(0, |value: u8, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
            rest = &after[3..];
        } else {
            plain.push(byte);
            rest = after;
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[u8] = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        99 22 0:51 / /mnt/my\\040vault\\134x rw,nosuid shared:2 master:3 - fuse.passkeyfs /home/me/vault rw,user_id=0,group_id=7\n\
        not a line\n";

    #[test]
    fn a_mount_point_with_spaces_and_backslashes_is_found() {
        let found: Vec<_> = entries(TABLE).collect();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1].mountpoint, Path::new("/mnt/my vault\\x"));
        assert_eq!((found[1].device.as_str(), found[1].kind.as_str()), ("0:51", "fuse.passkeyfs"));
        assert_eq!((found[0].owner, found[1].owner), (None, Some(Owner { user: 0, group: 7 })));
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
}
