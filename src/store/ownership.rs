//! Whose the files are that root makes: the folder's owner's.
//!
//! Root may mount a user's vault, at boot or with `sudo -E`. What it makes in that user's folders, of the local state or of
//! the vault, is given to the user, who could not read, replace or sync it otherwise. Filesystems without owners, and
//! servers that keep root from giving files away, leave it as it is.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

/// Gives a file or folder that was just made to the owner of the folder that it lies in, where root has made it and the
/// folder is another user's.
pub fn give_to_owner_of(folder: &Path, made: &File) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    give(&fs::metadata(folder)?, made, 0)
}

/// Gives what is `giver`'s to the folder's owner.
fn give(owner: &Metadata, made: &File, giver: u32) -> io::Result<()> {
    let own = made.metadata()?;
    // The folder's owner may have put a link to a file of root's in its place: what has another name is not given away.
    let may_be_given = own.uid() == giver && (own.is_dir() || own.nlink() == 1);
    if owner.uid() == 0 || owner.uid() == giver || !may_be_given {
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
    give_to_owner_of(folder, &open_itself(made)?)
}

/// The same for a file that was made in the folder `source` and then moved: it is root's, or was given to the owner of
/// that folder.
pub fn give_moved_to_owner_of(source: &Path, folder: &Path, moved: &Path) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let (owner, file) = (fs::metadata(folder)?, open_itself(moved)?);
    give(&owner, &file, 0)?;
    give(&owner, &file, fs::metadata(source)?.uid())
}

/// Opens what has the name itself: no link is followed, no FIFO waited for.
fn open_itself(made: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags).open(made)
}
