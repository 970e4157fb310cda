//! The local state folder of a vault, and the lock by which one process at a time may write.
//!
//! ```text
//! $XDG_STATE_HOME/passkeyfs/<vault id>/          mode 0700; never synced
//!     lock                                       flock'ed by the process that has the vault open for writing:
//!                                                "<pid>\n<mount point, raw bytes>\n"; empty without a holder. The mount point
//!                                                is empty until the vault is mounted.
//! ```
//!
//! The kernel releases the lock when its holder ends, also after a crash: the text counts only while the file is locked.
//! The lock is per device; several devices may write at the same time.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Seek};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::format::VaultId;
use crate::store::ownership::{give_name_to_owner_of, give_to_owner_of};

/// Why the state folder cannot be used.
#[derive(Debug, Error)]
pub enum StateError {
    /// Neither `XDG_STATE_HOME` nor a home directory is known.
    #[error("this user has no home directory, so there is no place for the local state")]
    NoHome,
    /// The folder or the lock in it cannot be made or read.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the vault open for writing.
    #[error("the vault is in use already{}", describe_holder(holder.as_ref()))]
    InUse {
        /// The process, as the lock file names it.
        holder: Option<LockHolder>,
    },
}

/// The process that has a vault open for writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockHolder {
    /// Its process id.
    pub pid: u32,
    /// Where it has mounted the vault; `None` for a command that does not mount, or has not mounted yet.
    pub mountpoint: Option<PathBuf>,
    /// The owner of the lock file, who is the only user that can have written it.
    pub owner: u32,
}

fn describe_holder(holder: Option<&LockHolder>) -> String {
    match holder {
        Some(LockHolder { pid, mountpoint: Some(path), .. }) => {
            format!(": mounted at {} by process {pid}", path.display())
        }
        Some(LockHolder { pid, mountpoint: None, .. }) => format!(" by process {pid}"),
        None => String::new(),
    }
}

/// The folder in which the states of all vaults lie, whether it exists or not.
pub fn states_folder() -> Result<PathBuf, StateError> {
    // The XDG specification has relative paths ignored.
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(home) = absolute("XDG_STATE_HOME") {
        return Ok(home.join("passkeyfs"));
    }
    let home = absolute("HOME").or_else(|| {
        let user = nix::unistd::User::from_uid(nix::unistd::Uid::effective());
        user.ok().flatten().map(|user| user.dir)
    });
    Ok(home.ok_or(StateError::NoHome)?.join(".local/state/passkeyfs"))
}

/// The state folder of one vault, whether it exists or not.
pub fn path_of(vault: VaultId) -> Result<PathBuf, StateError> {
    Ok(states_folder()?.join(vault.to_string()))
}

/// The vaults of which this device has state.
pub fn known_vaults() -> Vec<VaultId> {
    let entries =
        states_folder().ok().and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Creates the folder if it does not exist, with mode 0700, and sets that mode on an existing one. A folder that root
/// creates in the home of a user gets that user as owner.
pub fn create(folder: &Path) -> Result<(), StateError> {
    let failed = |action, source| StateError::Io { action, path: folder.to_owned(), source };
    let missing: Vec<&Path> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
    for missing in missing.into_iter().rev() {
        let made = DirBuilder::new().mode(0o700).create(missing);
        let given = made.and_then(|()| give_name_to_owner_of(missing.parent().unwrap_or(Path::new(".")), missing));
        match given {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => return Err(failed("create", source)),
            _ => {}
        }
    }
    // No link is followed: root may run this in a folder of another user.
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let made = OpenOptions::new().read(true).custom_flags(flags).open(folder);
    made.and_then(|made| made.set_permissions(Permissions::from_mode(0o700)))
        .map_err(|source| failed("set the mode of", source))
}

/// Identifies a state folder, so that a copy of it on this or another machine is recognised: a hash of the machine id, and
/// the inode number of the folder.
pub fn identity(state: &Path) -> String {
    let machine = std::fs::read("/etc/machine-id").unwrap_or_default();
    let hash = crate::crypto::hash(&[b"passkeyfs state of machine ", machine.as_slice()].concat());
    let machine: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let inode = std::fs::metadata(state).map_or(0, |metadata| metadata.ino());
    format!("{machine}-{inode}")
}

/// The right to write to a vault from this device; released when dropped, or when the process ends.
#[derive(Debug)]
pub struct StateLock {
    file: File,
    path: PathBuf,
}

impl StateLock {
    /// Takes the lock in an existing state folder, and writes the id of this process into it.
    ///
    /// # Errors
    /// [`StateError::InUse`] if another process holds it.
    pub fn take(folder: &Path) -> Result<Self, StateError> {
        let path = folder.join("lock");
        let failed = |action, source| StateError::Io { action, path: path.clone(), source };
        let mut file = open_lock(&path).map_err(|source| failed("open", source))?;
        // `holder_of` holds the lock for an instant: hence several tries.
        for tries_left in (0..10).rev() {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(source)) => return Err(failed("lock", source)),
                Err(TryLockError::WouldBlock) if tries_left == 0 => {
                    return Err(StateError::InUse { holder: read_holder(&mut file) });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        let lock = Self { file, path };
        lock.forget_mountpoint()?;
        Ok(lock)
    }

    /// Records where the vault is mounted.
    pub fn name_mountpoint(&self, mountpoint: &Path) -> Result<(), StateError> {
        self.write(Some(mountpoint))
    }

    /// Records that the vault is no longer mounted.
    pub fn forget_mountpoint(&self) -> Result<(), StateError> {
        self.write(None)
    }

    fn write(&self, mountpoint: Option<&Path>) -> Result<(), StateError> {
        let failed = |source| StateError::Io { action: "write", path: self.path.clone(), source };
        // Truncated after the write, so that a reader finds the old text or the new one.
        let text = holder_text(mountpoint);
        let written = self.file.write_all_at(&text, 0).and_then(|()| self.file.set_len(text.len() as u64));
        written.map_err(failed)
    }
}

impl Drop for StateLock {
    fn drop(&mut self) {
        // For people who read the file: without the lock its text means nothing.
        let _ = self.file.set_len(0);
    }
}

/// The process that has the vault of this state folder open for writing. `None`: no process. `Some(None)`: an unknown one.
pub fn holder_of(folder: &Path) -> Option<Option<LockHolder>> {
    let mut file = File::open(folder.join("lock")).ok()?;
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => Some(read_holder(&mut file)),
        Ok(()) | Err(TryLockError::Error(_)) => None,
    }
}

/// The process that has a vault mounted there according to its lock file, for use when the daemon does not answer.
pub fn holder_at(mountpoint: &Path) -> Option<LockHolder> {
    state_at(mountpoint).map(|(_, holder)| holder)
}

/// The same, with the state folder of that vault.
pub fn state_at(mountpoint: &Path) -> Option<(PathBuf, LockHolder)> {
    let states = std::fs::read_dir(states_folder().ok()?).ok()?;
    let mut holders = states.flatten().filter_map(|state| Some((state.path(), holder_of(&state.path()).flatten()?)));
    holders.find(|(_, holder)| holder.mountpoint.as_deref() == Some(mountpoint))
}

/// Whether a state holds a journal: changes that may not be published.
pub fn has_journal(state: &Path) -> bool {
    std::fs::read_dir(state.join("journal")).is_ok_and(|mut entries| entries.next().is_some())
}

fn open_lock(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut options = OpenOptions::new();
    let file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.nlink() != 1 {
        return Err(io::Error::other("it is not a file of its own, but a link or another kind"));
    }
    give_to_owner_of(path.parent().unwrap_or(Path::new(".")), &file)?;
    Ok(file)
}

fn holder_text(mountpoint: Option<&Path>) -> Vec<u8> {
    let mut text = format!("{}\n", std::process::id()).into_bytes();
    text.extend_from_slice(mountpoint.map_or(b"".as_slice(), |path| path.as_os_str().as_bytes()));
    text.push(b'\n');
    text
}

fn read_holder(file: &mut File) -> Option<LockHolder> {
    let mut text = Vec::new();
    let owner = file.metadata().ok()?.uid();
    file.rewind().ok()?;
    file.take(16_384).read_to_end(&mut text).ok()?;
    let end = text.iter().position(|byte| *byte == b'\n')?;
    let pid = std::str::from_utf8(&text[..end]).ok()?.parse().ok()?;
    let path = text[end + 1..].strip_suffix(b"\n")?;
    let mountpoint = (!path.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(path)));
    Some(LockHolder { pid, mountpoint, owner })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_the_place_of_the_lock_or_the_folder_is_not_followed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let target = folder.path().join("target");
        std::fs::write(&target, "of somebody").expect("written");
        for hard in [false, true] {
            let state = folder.path().join(format!("state {hard}"));
            std::fs::create_dir(&state).expect("made");
            match hard {
                true => std::fs::hard_link(&target, state.join("lock")).expect("linked"),
                false => std::os::unix::fs::symlink(&target, state.join("lock")).expect("linked"),
            }
            assert!(StateLock::take(&state).is_err());
            assert_eq!(std::fs::read(&target).expect("there"), b"of somebody");
        }
        let (open, link) = (folder.path().join("open"), folder.path().join("link"));
        DirBuilder::new().mode(0o755).create(&open).expect("made");
        std::os::unix::fs::symlink(&open, &link).expect("linked");
        assert!(create(&link).is_err());
        assert_eq!(std::fs::metadata(&open).expect("there").mode() & 0o777, 0o755);
    }

    #[test]
    fn a_second_writer_is_told_who_the_first_is() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let lock = StateLock::take(folder.path()).expect("free");
        let Err(StateError::InUse { holder }) = StateLock::take(folder.path()) else { panic!("taken twice") };
        let (pid, owner) = (std::process::id(), nix::unistd::geteuid().as_raw());
        assert_eq!(holder, Some(LockHolder { pid, mountpoint: None, owner }));
        lock.name_mountpoint(Path::new("/mnt/two\nlines")).expect("written");
        let Err(StateError::InUse { holder }) = StateLock::take(folder.path()) else { panic!("taken twice") };
        let first = LockHolder { pid, mountpoint: Some(PathBuf::from("/mnt/two\nlines")), owner };
        assert_eq!(holder, Some(first.clone()));
        assert_eq!(holder_of(folder.path()), Some(Some(first)));
        drop(lock);
        assert_eq!(holder_of(folder.path()), None);
        StateLock::take(folder.path()).expect("free again");
    }

    #[test]
    fn what_root_makes_in_a_home_is_that_home_s_owner_s() {
        if !nix::unistd::geteuid().is_root() {
            return eprintln!("not tested: this is not root");
        }
        let home = tempfile::tempdir().expect("a temporary folder");
        std::os::unix::fs::chown(home.path(), Some(1234), Some(4321)).expect("given away");
        let state = home.path().join(".local/state/passkeyfs/id");
        create(&state).expect("created");
        drop(StateLock::take(&state).expect("free"));
        for made in [".local", ".local/state", ".local/state/passkeyfs/id", ".local/state/passkeyfs/id/lock"] {
            let metadata = std::fs::metadata(home.path().join(made)).expect("there");
            assert_eq!((metadata.uid(), metadata.gid()), (1234, 4321), "{made}");
        }
    }

    #[test]
    fn the_folder_is_for_its_user_alone() {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let folder = parent.path().join("a/b");
        create(&folder).expect("created");
        std::fs::set_permissions(&folder, Permissions::from_mode(0o755)).expect("opened up");
        create(&folder).expect("there already");
        let mode = std::fs::metadata(&folder).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
