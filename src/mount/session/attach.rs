//! Attaching a FUSE connection to a path, and detaching it: mount(2) where we may, else the helper `fusermount3`.
//!
//! Not left to `fuser`, because it gives root's mounts no subtype, tells its errors apart by text, does not escape
//! commas in names for the helper, and filters requests by user although the kernel does that better.
//!
//! Promises: what is detached is our own mount and not one that has taken its place. A mount that a crashed daemon
//! left behind is cleared before a new one is made, if it is a passkeyfs.

#![allow(unsafe_code)]

use std::fs::OpenOptions;
use std::io;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use super::confinement::{helper_is_confined, is_allowed_place};
use super::error::{MountError, UnmountError};
use super::kernel_options::kernel_flags;
use super::mount_table::{FILESYSTEM_TYPE, is_dead, mounted_at, resolve};
use super::options::MountOptions;

const SUBTYPE: &str = "passkeyfs";
const FUSE_DEVICE: &str = "/dev/fuse";

/// Where the helper may be: on the search path, or where services that have none would find it.
const HELPERS: [&str; 4] = ["fusermount3", "/usr/bin/fusermount3", "/bin/fusermount3", "fusermount"];

/// Tells the helper on which file descriptor to send the connection.
const HELPER_SOCKET_VARIABLE: &str = "_FUSE_COMMFD";

/// A mount that we made.
#[derive(Debug)]
pub(super) struct Attachment {
    mountpoint: PathBuf,
    device: String,
}

/// Attaches a new connection at `mountpoint`, clearing a dead passkeyfs that is there.
pub(super) fn attach(mountpoint: &Path, options: &MountOptions) -> Result<(OwnedFd, Attachment), MountError> {
    let unusable = |source: io::Error| MountError::Mountpoint { mountpoint: mountpoint.into(), source };
    let resolved = resolve(mountpoint).map_err(unusable)?;
    if mounted_at(&resolved).map_err(unusable)?.is_some_and(|entry| entry.is_passkeyfs) {
        if !is_dead(&resolved) {
            return Err(MountError::AlreadyMounted { mountpoint: resolved });
        }
        clear_dead(&resolved)?;
    }
    let metadata = std::fs::metadata(&resolved).map_err(unusable)?;
    if !metadata.is_dir() {
        return Err(unusable(io::ErrorKind::NotADirectory.into()));
    }
    let flags = kernel_flags(options)?;
    let connection = match attach_directly(&resolved, options, flags, metadata.mode())? {
        Some(connection) => connection,
        None => attach_by_helper(&resolved, options)?,
    };
    let entry = mounted_at(&resolved).map_err(unusable)?.filter(|entry| entry.is_passkeyfs);
    let Some(entry) = entry else {
        return Err(unusable(io::Error::other("the mount is not in the mount table")));
    };
    Ok((connection, Attachment { mountpoint: resolved, device: entry.device }))
}

impl Attachment {
    /// Where it is attached.
    pub(super) fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Takes the mount off its path, if it is still there; files that are open stay usable until they are closed.
    pub(super) fn detach(&self) -> Result<(), UnmountError> {
        let found = mounted_at(&self.mountpoint).map_err(|source| UnmountError::io(&self.mountpoint, source))?;
        match found {
            Some(entry) if entry.device == self.device => detach(&self.mountpoint, true),
            _ => Ok(()),
        }
    }

    /// Ends the connection: programs that have a file open get errors. Works where fusectl is mounted.
    pub(super) fn abort(&self) -> io::Result<()> {
        let minor = self.device.split(':').next_back().unwrap_or_default();
        std::fs::write(format!("/sys/fs/fuse/connections/{minor}/abort"), "1")
    }

    /// Lets the kernel read ahead by `bytes`, where we may (root): its default for FUSE is 128 KiB.
    pub(super) fn read_ahead(&self, bytes: u32) {
        let file = format!("/sys/class/bdi/{}/read_ahead_kb", self.device);
        if let Err(error) = std::fs::write(file, (bytes / 1024).to_string()) {
            log::debug!("the kernel's readahead stays as it is: {error}");
        }
    }
}

/// Detaches what is mounted at `mountpoint` (absolute, without symlinks): at once when `lazily`, else only if idle.
pub(super) fn detach(mountpoint: &Path, lazily: bool) -> Result<(), UnmountError> {
    let how = if lazily { MntFlags::MNT_DETACH } else { MntFlags::empty() };
    match nix::mount::umount2(mountpoint, how | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM) => detach_by_helper(mountpoint, lazily),
        Err(Errno::EBUSY) => Err(UnmountError::Busy { mountpoint: mountpoint.into() }),
        Err(Errno::EINVAL) => Err(UnmountError::NotMounted { mountpoint: mountpoint.into() }),
        Err(errno) => Err(UnmountError::io(mountpoint, errno.into())),
    }
}

fn clear_dead(mountpoint: &Path) -> Result<(), MountError> {
    log::warn!("clearing the mount that a crashed daemon left at {}", mountpoint.display());
    detach(mountpoint, true).map_err(|source| MountError::Dead { mountpoint: mountpoint.into(), source })
}

/// Mounts by mount(2); `None` when we may not and the helper has to.
fn attach_directly(
    mountpoint: &Path,
    options: &MountOptions,
    flags: MsFlags,
    mode: u32,
) -> Result<Option<OwnedFd>, MountError> {
    let device = match OpenOptions::new().read(true).write(true).open(FUSE_DEVICE) {
        Ok(device) => device,
        Err(error) => return device_error(error).map(|()| None),
    };
    let (user, group) = (nix::unistd::getuid(), nix::unistd::getgid());
    let allow_other = if options.allow_other { ",allow_other" } else { "" };
    let data = format!(
        "fd={},rootmode={:o},user_id={user},group_id={group},default_permissions{allow_other}",
        device.as_raw_fd(),
        mode & libc::S_IFMT
    );
    match nix::mount::mount(Some(shown_source(options)), mountpoint, Some(FILESYSTEM_TYPE), flags, Some(data.as_str()))
    {
        Ok(()) => Ok(Some(device.into())),
        Err(Errno::EPERM) => Ok(None),
        Err(errno) => Err(MountError::Kernel { mountpoint: mountpoint.into(), source: errno.into() }),
    }
}

/// What it means that `/dev/fuse` cannot be opened: the helper may still be able to when it is a matter of permission.
fn device_error(error: io::Error) -> Result<(), MountError> {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Err(MountError::NoFuseDevice),
        Some(libc::EACCES | libc::EPERM) => Ok(()),
        _ => Err(MountError::FuseDevice { source: error }),
    }
}

/// Has the helper mount, which sends the connection through a socket.
fn attach_by_helper(mountpoint: &Path, options: &MountOptions) -> Result<OwnedFd, MountError> {
    let failed = |source: io::Error| MountError::Helper { message: source.to_string() };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    // The socket is the helper's standard input: so no other program inherits it.
    let output = run_helper(|helper| {
        let theirs = theirs.try_clone()?;
        helper.arg("-o").arg(helper_options(options)).arg("--").arg(mountpoint);
        helper.env(HELPER_SOCKET_VARIABLE, "0").stdin(Stdio::from(OwnedFd::from(theirs)));
        Ok(())
    })
    .map_err(failed)?
    .ok_or(MountError::NoFusermount)?;
    drop(theirs);
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(helper_error(&message, mountpoint, || helper_is_confined(Path::new("/"))));
    }
    // The helper is done and was the last to hold the other end, so this does not wait.
    receive_connection(&ours).map_err(failed)
}

/// `is_confined`: whether AppArmor confines the helper. Asked only if that could be the reason.
fn helper_error(message: &str, mountpoint: &Path, is_confined: impl FnOnce() -> bool) -> MountError {
    let is_refused = message.contains("mount failed") && message.contains("Permission denied");
    if message.contains("user_allow_other") {
        MountError::AllowOtherForbidden
    } else if message.contains("/dev/fuse") && message.contains("Permission denied") {
        MountError::FuseDevice { source: io::ErrorKind::PermissionDenied.into() }
    } else if is_refused && !is_allowed_place(mountpoint) && is_confined() {
        MountError::HelperConfined { mountpoint: mountpoint.into() }
    } else {
        MountError::Helper { message: message.trim().to_owned() }
    }
}

/// The kernel refuses an empty name.
fn shown_source(options: &MountOptions) -> &str {
    if options.source.is_empty() { SUBTYPE } else { &options.source }
}

/// The helper's options: it splits at commas, so those in the source's name are escaped.
fn helper_options(options: &MountOptions) -> String {
    let source = shown_source(options).replace('\\', "\\\\").replace(',', "\\,");
    let mut list = vec![format!("fsname={source}"), format!("subtype={SUBTYPE}"), "default_permissions".to_owned()];
    list.extend(options.kernel_options.iter().cloned());
    list.extend(options.read_only.then(|| "ro".to_owned()));
    list.extend(options.allow_other.then(|| "allow_other".to_owned()));
    list.join(",")
}

fn detach_by_helper(mountpoint: &Path, lazily: bool) -> Result<(), UnmountError> {
    let output = run_helper(|helper| {
        helper.arg("-u").args(lazily.then_some("-z")).arg("--").arg(mountpoint).stdin(Stdio::null());
        Ok(())
    })
    .map_err(|source| UnmountError::io(mountpoint, source))?
    .ok_or(UnmountError::NoFusermount)?;
    let message = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(())
    } else if message.contains("busy") {
        Err(UnmountError::Busy { mountpoint: mountpoint.into() })
    } else if message.contains("not found in") || message.contains("not mounted") {
        Err(UnmountError::NotMounted { mountpoint: mountpoint.into() })
    } else {
        Err(UnmountError::io(mountpoint, io::Error::other(message.trim().to_owned())))
    }
}

/// Runs the helper to its end, or `None` when there is none on this machine.
fn run_helper(prepare: impl Fn(&mut Command) -> io::Result<()>) -> io::Result<Option<Output>> {
    for path in HELPERS {
        let mut helper = Command::new(path);
        // Its messages are read: they must be in the words looked for.
        helper.env("LC_ALL", "C").stdout(Stdio::null());
        prepare(&mut helper)?;
        match helper.output() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => return done.map(Some),
        }
    }
    Ok(None)
}

/// Takes the connection's file descriptor out of the socket.
fn receive_connection(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut byte = [0_u8];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut control = nix::cmsg_space!(RawFd);
    let received = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(Errno::EINTR) => {}
            received => break received?,
        }
    };
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = message
            && let Some(&descriptor) = descriptors.first()
        {
            // SAFETY: the kernel has just made this descriptor for us, and no other code has it.
            return Ok(unsafe { OwnedFd::from_raw_fd(descriptor) });
        }
    }
    Err(io::Error::other("the helper sent no connection"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(kernel_options: &[&str]) -> MountOptions {
        MountOptions {
            kernel_options: kernel_options.iter().map(|&option| option.to_owned()).collect(),
            source: "/home/me/a,b\\c".into(),
            ..MountOptions::default()
        }
    }

    #[test]
    fn a_comma_in_the_source_adds_no_option() {
        let list = helper_options(&options(&["noexec"]));
        assert_eq!(list, "fsname=/home/me/a\\,b\\\\c,subtype=passkeyfs,default_permissions,noexec");
    }

    #[test]
    fn what_the_helper_says_is_understood() {
        let elsewhere = Path::new("/srv/backup");
        let helper_error = |message| super::helper_error(message, elsewhere, || false);
        let words = "fusermount3: option allow_other only allowed if 'user_allow_other' is set in /etc/fuse.conf\n";
        assert!(matches!(helper_error(words), MountError::AllowOtherForbidden));
        let words = "fusermount3: failed to open /dev/fuse: Permission denied\n";
        assert!(matches!(helper_error(words), MountError::FuseDevice { .. }));
        assert!(matches!(helper_error("else\n"), MountError::Helper { message } if message == "else"));
    }

    #[test]
    fn a_refusal_by_apparmor_is_named_where_its_profile_is_in_force_and_does_not_allow_the_place() {
        let words = "fusermount3: mount failed: Permission denied\n";
        let error = |place: &str, confined: bool| helper_error(words, Path::new(place), || confined);
        let named = error("/srv/backup", true);
        assert!(matches!(&named, MountError::HelperConfined { mountpoint } if mountpoint == Path::new("/srv/backup")));
        assert!(named.to_string().contains("AppArmor does not let fusermount3 mount at /srv/backup"), "{named}");
        assert!(matches!(error("/home/me", true), MountError::HelperConfined { .. }));
        assert!(matches!(error("/home/me/backup", true), MountError::Helper { .. }));
        assert!(matches!(error("/srv/backup", false), MountError::Helper { .. }));
        let busy = super::helper_error("fusermount3: else\n", Path::new("/srv"), || panic!("nobody need be asked"));
        assert!(matches!(busy, MountError::Helper { .. }));
    }
}
