//! Gives a file of the local filesystem another name, durably, across filesystems too, and without replacing by accident.
//!
//! Order, and what a crash leaves: 1) the target's name appears (a crash: source or target); 2) the target's folder is
//! synced; 3) the source's folder is synced, so that its name stays gone. Across filesystems the file is first copied
//! to `.~<name>.tmp` in the target's folder and synced (a crash: the source, and a temporary file that every reader
//! ignores and that the next attempt overwrites), and the source is removed last (a crash: both, whole).
//!
//! A file that must not be replaced is protected by the kernel (`RENAME_NOREPLACE`). Some filesystems cannot do that:
//! there a hard link stands in, which is as safe, and where there are none either, a check before the rename, which is
//! not: but then only another process that makes a file of the same, randomly drawn name could be hit. What a filesystem
//! answers to a call that it does not have is not agreed upon (an `rclone mount` says EIO to a link, a sandbox EPERM to an
//! unknown call): so whatever the first two say, the plain rename is tried, and its error is the one that counts.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

/// Moves `source` to `target`; durable on return. `target` is replaced only if `replace` is given.
pub(super) fn move_file(source: &Path, target: &Path, replace: bool) -> io::Result<()> {
    let renamed = give_name(source, target, replace);
    let copied = match renamed {
        Err(error) if error.raw_os_error() == Some(libc::EXDEV) => {
            copy_file(source, target, replace)?;
            true
        }
        renamed => {
            renamed?;
            false
        }
    };
    sync_folder(folder_of(target))?;
    if copied {
        fs::remove_file(source)?;
    }
    if copied || folder_of(source) != folder_of(target) {
        sync_folder(folder_of(source))?;
    }
    Ok(())
}

/// Syncs a folder: the names in it are durable on return.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_CLOEXEC).open(folder)?;
    match folder.sync_all() {
        // The filesystem has no such thing, as network ones do: what it does to names is all that can be had.
        Err(error) if is_unknown_for_folders(&error) => Ok(()),
        synced => synced,
    }
}

/// Whether a filesystem says that it cannot sync a folder. EBADF: it can sync only what is open for writing, which a folder
/// never is. EIO is none of these: a disk that loses names says so.
fn is_unknown_for_folders(error: &io::Error) -> bool {
    let unknown = [libc::EINVAL, libc::EOPNOTSUPP, libc::ENOSYS, libc::EBADF, libc::EISDIR, libc::ENOTTY];
    error.raw_os_error().is_some_and(|errno| unknown.contains(&errno))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Renames within one filesystem.
fn give_name(source: &Path, target: &Path, replace: bool) -> io::Result<()> {
    if replace {
        return fs::rename(source, target);
    }
    match renameat2(AT_FDCWD, source, AT_FDCWD, target, RenameFlags::RENAME_NOREPLACE) {
        Ok(()) => Ok(()),
        Err(errno) if is_final(errno) => Err(errno.into()),
        Err(_) => give_name_by_link(source, target),
    }
}

/// Whether an error says something of these files, whichever call it comes from, and not that the call is unknown.
fn is_final(errno: Errno) -> bool {
    use Errno as E;
    matches!(errno, E::EEXIST | E::ENOENT | E::ENOTDIR | E::EISDIR | E::EXDEV | E::ENOSPC | E::EDQUOT | E::EROFS)
}

/// Renames where the kernel cannot promise that nothing is replaced.
fn give_name_by_link(source: &Path, target: &Path) -> io::Result<()> {
    match fs::hard_link(source, target) {
        Ok(()) => fs::remove_file(source),
        Err(error) if is_final(Errno::from_raw(error.raw_os_error().unwrap_or(0))) => Err(error),
        Err(_) => give_name_unless_there(source, target),
    }
}

fn give_name_unless_there(source: &Path, target: &Path) -> io::Result<()> {
    match target.symlink_metadata() {
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EEXIST)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(source, target),
        Err(error) => Err(error),
    }
}

/// Copies `source` to another filesystem, under a temporary name until the copy is whole and synced.
fn copy_file(source: &Path, target: &Path, replace: bool) -> io::Result<()> {
    if !replace && target.symlink_metadata().is_ok() {
        // Told before megabytes are copied in vain; what decides is the rename below.
        return Err(io::Error::from_raw_os_error(libc::EEXIST));
    }
    let temporary = temporary_name(target);
    // An earlier attempt may have left one.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let copied = copy_content(source, &temporary).and_then(|()| give_name(&temporary, target, replace));
    if copied.is_err() {
        // Best effort: the error that counts is the first one.
        let _ = fs::remove_file(&temporary);
    }
    copied
}

fn temporary_name(target: &Path) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".~{name}.tmp"))
}

fn copy_content(source: &Path, target: &Path) -> io::Result<()> {
    let mut source = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(source)?;
    let mode = source.metadata()?.permissions().mode() & 0o777;
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(target)?;
    io::copy(&mut source, &mut target)?;
    // Best effort: some filesystems have no modes.
    let _ = File::set_permissions(&target, fs::Permissions::from_mode(mode));
    target.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stand_in_for_a_rename_without_replacing_replaces_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        fs::write(&source, "new").expect("written");
        give_name_by_link(&source, &target).expect("renamed");
        assert_eq!((fs::read(&target).expect("read"), source.exists()), (b"new".to_vec(), false));

        fs::write(&source, "newer").expect("written");
        let error = give_name_by_link(&source, &target).expect_err("it is there");
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
        assert_eq!(
            (fs::read(&target).expect("read"), fs::read(&source).expect("read")),
            (b"new".into(), b"newer".into())
        );
    }

    #[test]
    fn where_neither_flag_nor_links_are_known_a_file_is_renamed_and_nothing_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let (source, target) = (folder.path().join("source"), folder.path().join("target"));
        fs::write(&source, "new").expect("written");
        give_name_unless_there(&source, &target).expect("renamed");
        assert_eq!((fs::read(&target).expect("read"), source.exists()), (b"new".to_vec(), false));
        fs::write(&source, "newer").expect("written");
        let error = give_name_unless_there(&source, &target).expect_err("it is there");
        assert_eq!((error.raw_os_error(), fs::read(&target).expect("read")), (Some(libc::EEXIST), b"new".to_vec()));
        // What odd filesystems and sandboxes answer to an unknown call, and what stands whichever call it is.
        for errno in [libc::EIO, libc::EPERM, libc::EACCES, libc::EINVAL, libc::ENOSYS, libc::EOPNOTSUPP, libc::EMLINK]
        {
            assert!(!is_final(Errno::from_raw(errno)), "{errno}");
        }
        for errno in [libc::EEXIST, libc::EXDEV, libc::ENOSPC, libc::EROFS, libc::ENOENT] {
            assert!(is_final(Errno::from_raw(errno)), "{errno}");
        }
        assert!(is_unknown_for_folders(&io::Error::from_raw_os_error(libc::EBADF)));
        assert!(!is_unknown_for_folders(&io::Error::from_raw_os_error(libc::EIO)));
    }

    #[test]
    fn a_file_moves_to_another_filesystem_whole() {
        let (near, far) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir_in("/dev/shm"));
        let Ok(far) = far else { return };
        let (source, target) = (near.path().join("source"), far.path().join("target"));
        fs::write(&source, "content").expect("written");
        fs::write(far.path().join(".~target.tmp"), "left by a crash, and longer than the content").expect("written");
        move_file(&source, &target, false).expect("moved");
        assert_eq!((fs::read(&target).expect("read"), source.exists()), (b"content".to_vec(), false));
        assert_eq!(fs::read_dir(far.path()).expect("listed").count(), 1);

        fs::write(&source, "other").expect("written");
        let error = move_file(&source, &target, false).expect_err("it is there");
        assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
        assert_eq!((fs::read(&target).expect("read"), source.exists()), (b"content".to_vec(), true));
        move_file(&source, &target, true).expect("replaced");
        assert_eq!(fs::read(&target).expect("read"), b"other");
    }
}
