//! Whose the files are that root makes: the folder's owner's.
//!
//! Root may mount a user's vault, at boot or with `sudo -E`. What it makes in that user's folders, of the local state or of
//! the vault, is given to the user, who could not read, replace or sync it otherwise. Filesystems without owners, and
//! servers that keep root from giving files away, leave it as it is.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

/// Gives a file or folder that was just made to the owner of the folder that it lies in, where root has made it and the
/// folder is another user's.
pub fn give_to_owner_of(folder: &Path, made: &File) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let (owner, own) = (fs::metadata(folder)?, made.metadata()?);
    // The folder's owner may have put a link to a file of root's in its place: what has another name is not given away.
    let is_root_made = own.uid() == 0 && (own.is_dir() || own.nlink() == 1);
    if owner.uid() == 0 || !is_root_made {
        return Ok(());
    }
    match fchown(made, Some(owner.uid()), Some(owner.gid())) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EPERM | libc::EINVAL | libc::EOPNOTSUPP)) => {
            Err(error)
        }
        _ => Ok(()),
    }
}

/// The same for what was made under a name. A link that took its place meanwhile is not followed.
pub fn give_name_to_owner_of(folder: &Path, made: &Path) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
    give_to_owner_of(folder, &OpenOptions::new().read(true).custom_flags(flags).open(made)?)
}
