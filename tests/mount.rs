//! A volume behind a real mount: what programs see through the kernel, and how a mount comes and goes.
//!
//! Runs where `/dev/fuse` can be used; elsewhere each test says so and passes. What the volume itself promises is
//! tested without a kernel: here it is about what lies between the two.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::fcntl::{AT_FDCWD, FallocateFlags, RenameFlags, fallocate, renameat2};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, makedev, mknod, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Whence, lseek};
use passkeyfs::mount::{
    ControlError, DaemonInfo, MountError, MountOptions, MountSession, UnmountError, Unmounter, mount, request_publish,
    request_status, unmount,
};
use passkeyfs::store::{Area, FaultyStore, MemoryStore, SystemClock};
use passkeyfs::volume::{Environment, SetAttributes, Volume, VolumeOptions};

mod support;

use support::{ROOT, World};

/// A new, empty volume over a disk in memory, whose root belongs to whoever runs the test; and the faults of the disk.
fn new_volume() -> (Arc<Volume>, Arc<FaultyStore<MemoryStore>>) {
    let world = World::with_block_bytes(1, 65_536);
    let disk = Arc::new(FaultyStore::new(Arc::new(world.disk.clone())));
    let environment = Environment { clock: Arc::new(SystemClock), ..world.environment(disk.clone()) };
    let volume = Volume::open(environment, world.keys(), VolumeOptions::default()).expect("opened");
    let (user, group) = (Some(nix::unistd::getuid().as_raw()), Some(nix::unistd::getgid().as_raw()));
    volume.set_attributes(ROOT, &SetAttributes { user, group, ..SetAttributes::default() }).expect("given");
    (volume, disk)
}

/// Mounts a new volume; it is closed with the test's process.
fn mount_new(mountpoint: &Path, options: &MountOptions) -> Result<MountSession, MountError> {
    let daemon = DaemonInfo { vault_folder: "/the/vault".into(), mountpoint: mountpoint.into() };
    mount(new_volume().0, mountpoint, options, daemon)
}

/// A volume mounted in a folder of its own, unmounted and closed at the end.
struct Mounted {
    folder: tempfile::TempDir,
    volume: Arc<Volume>,
    disk: Arc<FaultyStore<MemoryStore>>,
    unmounter: Unmounter,
    daemon: Option<JoinHandle<Result<(), MountError>>>,
}

impl Mounted {
    fn new() -> Option<Self> {
        Self::with(&MountOptions::default())
    }

    /// `None` where nothing can be mounted on this machine.
    fn with(options: &MountOptions) -> Option<Self> {
        if OpenOptions::new().read(true).write(true).open("/dev/fuse").is_err() {
            eprintln!("not tested: /dev/fuse cannot be used here");
            return None;
        }
        let folder = tempfile::tempdir().expect("a temporary folder");
        let options = MountOptions { source: "a source, with a comma".into(), ..options.clone() };
        let (volume, disk) = new_volume();
        let daemon = DaemonInfo { vault_folder: "/the/vault".into(), mountpoint: folder.path().into() };
        let session = match mount(volume.clone(), folder.path(), &options, daemon) {
            Ok(session) => session,
            Err(error @ (MountError::NoFusermount | MountError::Helper { .. })) => {
                eprintln!("not tested: {error}");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let unmounter = session.unmounter();
        let daemon = std::thread::spawn(move || session.run());
        Some(Self { folder, volume, disk, unmounter, daemon: Some(daemon) })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn root(&self) -> &Path {
        self.folder.path()
    }

    fn finish(&mut self) -> Option<Result<(), MountError>> {
        self.daemon.take().map(|daemon| daemon.join().expect("the daemon did not panic"))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.unmounter.unmount().expect("the mount can be taken off");
        if let Some(served) = self.finish() {
            assert!(std::thread::panicking() || served.is_ok(), "{served:?}");
        }
        self.disk.reset();
        self.volume.close().expect("closed");
    }
}

fn errno<T: std::fmt::Debug>(result: std::io::Result<T>) -> Option<i32> {
    result.expect_err("it fails").raw_os_error()
}

fn mount_line(mountpoint: &Path) -> Option<String> {
    let table = fs::read_to_string("/proc/self/mounts").expect("the mount table");
    let path = mountpoint.canonicalize().ok()?.to_str()?.to_owned();
    table.lines().find(|line| line.split(' ').nth(1) == Some(&path)).map(str::to_owned)
}

#[test]
fn the_mount_table_shows_type_source_and_options() {
    let options = MountOptions { kernel_options: vec!["noexec".into(), "dirsync".into()], ..MountOptions::default() };
    let Some(mounted) = Mounted::with(&options) else { return };
    let line = mount_line(mounted.root()).expect("it is mounted");
    let fields: Vec<_> = line.split(' ').collect();
    assert_eq!(fields[0], "a\\040source,\\040with\\040a\\040comma");
    assert_eq!(fields[2], "fuse.passkeyfs");
    let shown: BTreeSet<_> = fields[3].split(',').collect();
    for option in ["rw", "nosuid", "nodev", "noexec", "dirsync", "default_permissions"] {
        assert!(shown.contains(option), "{option} in {line}");
    }
}

#[test]
fn a_large_file_is_read_as_it_was_written_also_through_a_map_of_another_process() {
    let Some(mounted) = Mounted::new() else { return };
    let content: Vec<u8> = (0..5_000_000_u32).map(|index| (index / 7) as u8).collect();
    let path = mounted.path("large");
    fs::write(&path, &content).expect("written");
    assert!(fs::read(&path).expect("read") == content);
    let file = OpenOptions::new().read(true).write(true).open(&path).expect("opened");
    file.write_all_at(b"changed", 4_999_990).expect("written within");
    file.sync_all().expect("synced");
    let mut tail = Vec::new();
    File::open(&path).expect("opened").read_to_end(&mut tail).expect("read");
    assert_eq!(&tail[4_999_990..4_999_997], b"changed");
    assert_eq!(tail.len(), content.len());
    file.set_len(3).expect("truncated");
    assert_eq!(fs::read(&path).expect("read"), &content[..3]);
    let metadata = fs::metadata(&path).expect("there");
    assert_eq!((metadata.len(), metadata.blksize()), (3, 1 << 16));
}

#[test]
fn times_before_1970_and_to_the_nanosecond_come_back() {
    let Some(mounted) = Mounted::new() else { return };
    let path = mounted.path("old");
    fs::write(&path, "").expect("written");
    for (seconds, nanoseconds) in [(-1, 500_000_000), (-86_400, 0), (0, 1), (1 << 33, 999_999_999), (-1, 1)] {
        let time = TimeSpec::new(seconds, nanoseconds);
        utimensat(AT_FDCWD, &path, &time, &time, UtimensatFlags::FollowSymlink).expect("set");
        let metadata = fs::metadata(&path).expect("there");
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (seconds, nanoseconds));
        assert_eq!((metadata.atime(), metadata.atime_nsec()), (seconds, nanoseconds));
    }
}

#[test]
fn nodes_of_every_kind_are_what_they_were_made_as() {
    let Some(mounted) = Mounted::new() else { return };
    let mode = Mode::from_bits_truncate(0o640);
    mknod(&mounted.path("pipe"), SFlag::S_IFIFO, mode, 0).expect("a pipe");
    mknod(&mounted.path("plain"), SFlag::S_IFREG, mode, 0).expect("a file");
    let _socket = std::os::unix::net::UnixListener::bind(mounted.path("socket")).expect("a socket");
    symlink("some/where", mounted.path("link")).expect("a symlink");
    fs::create_dir(mounted.path("folder")).expect("a folder");
    let kind = |name: &str| fs::symlink_metadata(mounted.path(name)).expect("there").file_type();
    assert!(kind("pipe").is_fifo() && kind("socket").is_socket() && kind("plain").is_file());
    assert!(kind("link").is_symlink() && kind("folder").is_dir());
    assert_eq!(fs::read_link(mounted.path("link")).expect("read"), Path::new("some/where"));
    if nix::unistd::geteuid().is_root() {
        let number = makedev(259, 70_000);
        mknod(&mounted.path("device"), SFlag::S_IFBLK, mode, number).expect("a device");
        assert_eq!(fs::metadata(mounted.path("device")).expect("there").rdev(), number);
    }
}

#[test]
fn a_file_that_was_renamed_linked_or_unlinked_is_still_itself() {
    let Some(mounted) = Mounted::new() else { return };
    let (one, two) = (mounted.path("one"), mounted.path("two"));
    fs::write(&one, "1").expect("written");
    fs::write(&two, "2").expect("written");
    let renamed = |flags| renameat2(AT_FDCWD, &one, AT_FDCWD, &two, flags);
    assert_eq!(renamed(RenameFlags::RENAME_NOREPLACE), Err(nix::errno::Errno::EEXIST));
    renamed(RenameFlags::RENAME_EXCHANGE).expect("exchanged");
    assert_eq!((fs::read(&one).expect("read"), fs::read(&two).expect("read")), (b"2".to_vec(), b"1".to_vec()));
    fs::hard_link(&one, mounted.path("three")).expect("linked");
    let (first, second) = (fs::metadata(&one).expect("there"), fs::metadata(mounted.path("three")).expect("there"));
    assert_eq!((first.ino(), first.nlink()), (second.ino(), 2));
    let mut open = File::open(&two).expect("opened");
    fs::remove_file(&two).expect("removed");
    let mut content = String::new();
    open.read_to_string(&mut content).expect("read");
    assert_eq!((content.as_str(), open.metadata().expect("there").nlink()), ("1", 0));
    assert_eq!(errno(fs::metadata(&two)), Some(libc::ENOENT));
    fs::write(&two, "again").expect("a name that did not exist is not remembered");
}

#[test]
fn a_folder_with_thousands_of_entries_is_listed_once_each() {
    let Some(mounted) = Mounted::new() else { return };
    let folder = mounted.path("many");
    fs::create_dir(&folder).expect("made");
    let names: BTreeSet<Vec<u8>> = (0..3000_u32)
        .map(|number| {
            let filler = vec![0x80 + (number % 64) as u8; (number % 240) as usize];
            [number.to_string().as_bytes(), &filler].concat()
        })
        .collect();
    for name in &names {
        File::create(folder.join(OsStr::from_bytes(name))).expect("created");
    }
    // Twice: with attributes, and when the kernel has them already; then while entries are removed.
    for _ in 0..2 {
        let listed: Vec<_> = fs::read_dir(&folder).expect("listed").map(|entry| entry.expect("an entry")).collect();
        assert!(listed.iter().all(|entry| entry.metadata().expect("there").is_file()));
        assert_eq!(listed.len(), names.len());
        let listed: BTreeSet<_> = listed.iter().map(|entry| entry.file_name().as_bytes().to_vec()).collect();
        assert_eq!(listed, names);
    }
    let mut removed = 0;
    for entry in fs::read_dir(&folder).expect("listed") {
        fs::remove_file(entry.expect("an entry").path()).expect("removed");
        removed += 1;
    }
    assert_eq!(removed, names.len());
    fs::remove_dir(&folder).expect("empty");
}

#[test]
fn attributes_follow_the_protocol_of_sizes_and_namespaces() {
    let Some(mounted) = Mounted::new() else { return };
    let path = mounted.path("file");
    fs::write(&path, "").expect("written");
    assert_eq!(set_attribute(&path, "user.a", b"value", 0), Ok(()));
    assert_eq!(set_attribute(&path, "user.a", b"other", libc::XATTR_CREATE), Err(libc::EEXIST));
    assert_eq!(set_attribute(&path, "user.b", b"", libc::XATTR_REPLACE), Err(libc::ENODATA));
    assert_eq!(set_attribute(&path, "system.other", b"x", 0), Err(libc::EOPNOTSUPP));
    assert_eq!(get_attribute(&path, "user.a", 0), Ok((5, vec![])));
    assert_eq!(get_attribute(&path, "user.a", 4), Err(libc::ERANGE));
    assert_eq!(get_attribute(&path, "user.a", 5), Ok((5, b"value".to_vec())));
    assert_eq!(get_attribute(&path, "user.b", 5), Err(libc::ENODATA));
}

#[test]
fn ranges_are_allocated_punched_sought_and_copied() {
    let Some(mounted) = Mounted::new() else { return };
    let file = File::options().read(true).write(true).create_new(true).open(mounted.path("file")).expect("created");
    file.write_all_at(&[7; 200_000], 0).expect("written");
    let change = |flags, offset, length| fallocate(&file, flags, offset, length);
    let keep_size = FallocateFlags::FALLOC_FL_KEEP_SIZE;
    change(FallocateFlags::FALLOC_FL_PUNCH_HOLE | keep_size, 65_536, 65_536).expect("punched");
    change(keep_size, 0, 1 << 20).expect("reserved");
    assert_eq!(file.metadata().expect("there").len(), 200_000);
    change(FallocateFlags::empty(), 0, 300_000).expect("extended");
    let mut content = vec![1; 300_000];
    file.read_exact_at(&mut content, 0).expect("read");
    assert!(content[..65_536].iter().all(|&byte| byte == 7) && content[65_536..131_072].iter().all(|&byte| byte == 0));
    assert!(content[200_000..].iter().all(|&byte| byte == 0));
    assert_eq!(lseek(&file, 400_000, Whence::SeekData), Err(nix::errno::Errno::ENXIO));
    assert!(lseek(&file, 0, Whence::SeekHole).expect("a hole, at least at the end") <= 300_000);
    let copy = File::options().read(true).write(true).create_new(true).open(mounted.path("copy")).expect("created");
    copy_range(&file, 65_536, &copy, 134_464);
    let mut copied = Vec::new();
    File::open(mounted.path("copy")).expect("opened").read_to_end(&mut copied).expect("read");
    assert!(copied == content[65_536..200_000]);
}

#[test]
fn set_id_bits_stay_for_who_may_keep_them_and_go_for_who_may_not() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("not tested: only root can act as another user");
    }
    let Some(mounted) = Mounted::with(&MountOptions { allow_other: true, ..MountOptions::default() }) else { return };
    let path = mounted.path("program");
    let script = |action: &str| format!("{action} \"$0\"");
    // Each changes the file without a write that would say itself what to drop.
    for action in ["truncate -s 10", "fallocate -l 20", "sh -c 'echo x >> \"$0\"'"] {
        for (as_nobody, expected) in [(false, 0o6777), (true, 0o777)] {
            fs::write(&path, "content").expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o6777)).expect("set");
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(script(action)).arg(&path);
            if as_nobody {
                std::os::unix::process::CommandExt::uid(&mut shell, 65_534);
                std::os::unix::process::CommandExt::gid(&mut shell, 65_534);
            }
            // The folder above is ours alone: nobody reaches the file from within it.
            fs::set_permissions(mounted.root(), fs::Permissions::from_mode(0o755)).expect("set");
            let status = shell.status().expect("run");
            assert!(status.success(), "{action}");
            let mode = fs::metadata(&path).expect("there").permissions().mode() & 0o7777;
            assert_eq!(mode, expected, "{action}, as nobody: {as_nobody}");
        }
    }
}

#[test]
fn room_is_reported_in_one_unit() {
    let Some(mounted) = Mounted::new() else { return };
    let room = nix::sys::statvfs::statvfs(mounted.root()).expect("room");
    assert_eq!((room.block_size(), room.fragment_size(), room.name_max()), (4096, 4096, 255));
    assert!(room.blocks_available() > 0 && room.blocks() >= room.blocks_free() && room.files() > room.files_free());
}

#[test]
fn a_mount_read_only_refuses_changes() {
    let Some(mounted) = Mounted::with(&MountOptions { read_only: true, ..MountOptions::default() }) else { return };
    assert_eq!(errno(fs::write(mounted.path("new"), "")), Some(libc::EROFS));
}

#[test]
fn with_writeback_what_is_written_is_read_and_its_times_survive_a_sync() {
    let Some(mounted) = Mounted::with(&MountOptions { writeback: true, ..MountOptions::default() }) else { return };
    let path = mounted.path("file");
    let mut file = File::create(&path).expect("created");
    for number in 0..1000_u32 {
        file.write_all(&number.to_le_bytes()).expect("written");
    }
    file.sync_all().expect("synced");
    assert_eq!(fs::read(&path).expect("read").len(), 4000);
    let age = fs::metadata(&path).expect("there").modified().expect("a time").elapsed().expect("in the past");
    assert!(age < Duration::from_secs(60), "{age:?}");
}

#[test]
fn a_daemon_is_asked_through_the_root_of_its_mount_and_nowhere_else() {
    let Some(mounted) = Mounted::new() else { return };
    let status = request_status(mounted.root()).expect("a status");
    assert_eq!((status.pid, status.vault_folder.as_path()), (std::process::id(), Path::new("/the/vault")));
    assert_eq!(status.mountpoint, mounted.root());
    request_publish(mounted.root()).expect("published");
    let folder = mounted.path("folder");
    fs::create_dir(&folder).expect("made");
    mounted.disk.set_full(Area::Vault, true);
    let refused = request_publish(mounted.root());
    let says = |message: &str| message.contains("space");
    assert!(
        matches!(&refused, Err(ControlError::NotPublished { message, is_kept: true }) if says(message)),
        "{refused:?}"
    );
    fs::create_dir(mounted.path("another")).expect("made");
    mounted.disk.set_full(Area::State, true);
    let refused = request_publish(mounted.root());
    assert!(matches!(&refused, Err(ControlError::NotPublished { is_kept: false, .. })), "{refused:?}");
    mounted.disk.set_full(Area::State, false);
    mounted.disk.set_full(Area::Vault, false);
    request_publish(mounted.root()).expect("published");
    assert!(matches!(request_status(&folder), Err(ControlError::NotPasskeyfs { .. })));
    assert!(matches!(request_publish(&folder), Err(ControlError::NotPasskeyfs { .. })));
}

#[test]
fn a_busy_mount_is_not_taken_off_from_outside_and_an_idle_one_ends_its_daemon() {
    let Some(mut mounted) = Mounted::new() else { return };
    let file = File::create(mounted.path("file")).expect("created");
    assert!(matches!(unmount(mounted.root()), Err(UnmountError::Busy { .. })));
    drop(file);
    // The kernel lets go of a closed file a moment later.
    let patience = Instant::now() + Duration::from_secs(10);
    while let Err(error) = unmount(mounted.root()) {
        assert!(matches!(error, UnmountError::Busy { .. }) && Instant::now() < patience, "{error}");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(matches!(mounted.finish(), Some(Ok(()))));
    assert!(matches!(unmount(mounted.root()), Err(UnmountError::NotMounted { .. })));
}

#[test]
fn a_detached_mount_serves_open_files_until_they_are_closed() {
    let Some(mut mounted) = Mounted::new() else { return };
    let mut file = File::create(mounted.path("file")).expect("created");
    mounted.unmounter.unmount().expect("detached");
    assert_eq!(mount_line(mounted.root()), None);
    file.write_all(b"still here").expect("written");
    assert_eq!(file.metadata().expect("there").len(), 10);
    drop(file);
    assert!(matches!(mounted.finish(), Some(Ok(()))));
}

#[test]
fn an_aborted_connection_ends_the_daemon_although_a_file_is_open() {
    let Some(mut mounted) = Mounted::new() else { return };
    let file = File::create(mounted.path("file")).expect("created");
    mounted.unmounter.unmount().expect("detached");
    if let Err(error) = mounted.unmounter.abort() {
        return eprintln!("not tested: {error}");
    }
    assert!(matches!(mounted.finish(), Some(Ok(()))));
    assert_eq!(errno(file.sync_all()), Some(libc::ENOTCONN));
}

#[test]
fn a_user_who_did_not_mount_it_may_not_control_the_daemon() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("not tested: only root can act as another user");
    }
    let Some(mounted) = Mounted::with(&MountOptions { allow_other: true, ..MountOptions::default() }) else { return };
    fs::set_permissions(mounted.root(), fs::Permissions::from_mode(0o755)).expect("set");
    let root = mounted.root().to_path_buf();
    let refused = std::thread::spawn(move || {
        // Of this thread alone: as whom it uses filesystems.
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65_534));
        (request_status(&root), request_publish(&root))
    });
    let (status, publish) = refused.join().expect("asked");
    assert!(matches!(status, Err(ControlError::NotAllowed { .. })), "{status:?}");
    assert!(matches!(publish, Err(ControlError::NotAllowed { .. })), "{publish:?}");
}

#[test]
fn an_acl_set_from_outside_the_files_group_drops_its_set_group_id_bit() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("not tested: only root can act as another user");
    }
    let Some(mounted) = Mounted::with(&MountOptions { allow_other: true, ..MountOptions::default() }) else { return };
    fs::set_permissions(mounted.root(), fs::Permissions::from_mode(0o755)).expect("set");
    let path = mounted.path("file");
    // Version 2; then owner rwx, user 7 r-x, group r-x, mask rwx, others ---: (tag, permissions, id) each.
    let mut acl = vec![2, 0, 0, 0];
    for (tag, permissions, id) in [(1, 7, !0), (2, 5, 7), (4, 5, !0), (16, 7, !0), (32, 0, !0_u32)] {
        acl.extend([tag, 0, permissions, 0]);
        acl.extend(id.to_le_bytes());
    }
    for (group, kept) in [(65_534, true), (0, false)] {
        fs::write(&path, "").expect("written");
        std::os::unix::fs::chown(&path, Some(65_534), Some(group)).expect("given away");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o2755)).expect("set");
        let (path, acl) = (path.clone(), acl.clone());
        let set = move || {
            nix::unistd::setfsgid(nix::unistd::Gid::from_raw(65_534));
            nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65_534));
            drop_capability_to_keep_set_id();
            let set = set_attribute(&path, "system.posix_acl_access", &acl, 0);
            (set, fs::metadata(&path).expect("there").permissions().mode() & 0o7777)
        };
        let (set, mode) = std::thread::spawn(set).join().expect("tried");
        assert_eq!((set, mode), (Ok(()), if kept { 0o2770 } else { 0o770 }));
    }
}

/// Takes all effective capabilities from this thread.
#[allow(unsafe_code)]
fn drop_capability_to_keep_set_id() {
    let header: [u32; 2] = [0x2008_0522, 0];
    let none: [u32; 6] = [0; 6];
    // SAFETY: version 3 of the call reads a header of two words and two triples.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

#[test]
fn a_mount_point_in_use_or_unfit_is_refused() {
    let Some(mounted) = Mounted::new() else { return };
    let options = MountOptions::default();
    let again = mount_new(mounted.root(), &options);
    assert!(matches!(again.map(drop), Err(MountError::AlreadyMounted { .. })));
    let folder = tempfile::tempdir().expect("a folder");
    let missing = mount_new(&folder.path().join("missing"), &options);
    assert!(matches!(missing.map(drop), Err(MountError::Mountpoint { .. })));
    let file = folder.path().join("file");
    fs::write(&file, "").expect("written");
    let on_file = mount_new(&file, &options);
    assert!(matches!(on_file.map(drop), Err(MountError::Mountpoint { .. })));
    let unknown = MountOptions { kernel_options: vec!["nosuch".into()], ..MountOptions::default() };
    let refused = mount_new(folder.path(), &unknown);
    assert!(matches!(refused.map(drop), Err(MountError::UnknownOption { .. })));
}

#[test]
fn a_session_that_is_never_run_leaves_no_mount_and_nobody_waiting() {
    if Mounted::new().is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let (volume, _) = new_volume();
    let daemon = DaemonInfo { vault_folder: "/the/vault".into(), mountpoint: folder.path().into() };
    // The volume outlives the session: what it knows of the session must not keep the connection open.
    let session = mount(volume.clone(), folder.path(), &MountOptions::default(), daemon).expect("mounted");
    let (begun, has_begun) = std::sync::mpsc::channel();
    let waits = std::thread::spawn({
        let path = folder.path().join("name");
        move || {
            begun.send(()).expect("somebody listens");
            fs::symlink_metadata(path).map(drop)
        }
    });
    has_begun.recv().expect("begun");
    std::thread::sleep(Duration::from_millis(100));
    assert!(!waits.is_finished(), "nobody answers it");
    drop(session);
    let patience = Instant::now() + Duration::from_secs(30);
    while !waits.is_finished() {
        assert!(Instant::now() < patience, "a program still waits for a session that is gone");
        std::thread::sleep(Duration::from_millis(10));
    }
    waits.join().expect("not panicked").expect_err("there is nobody to answer");
    assert_eq!(mount_line(folder.path()), None);
    drop(volume);
    folder.close().expect("nothing is mounted on it");
}

/// Tells the test binary, started again as a daemon, where to mount.
const DAEMON_MOUNTPOINT: &str = "PASSKEYFS_TEST_DAEMON_MOUNTPOINT";

#[test]
#[ignore = "the daemon that another test starts and kills"]
fn daemon_for_another_test() {
    let Some(mountpoint) = std::env::var_os(DAEMON_MOUNTPOINT).map(PathBuf::from) else { return };
    let options = MountOptions { source: "/the/vault".into(), ..MountOptions::default() };
    let session = mount_new(&mountpoint, &options).expect("mounted");
    println!("mounted");
    session.run().expect("served");
}

#[test]
fn the_mount_of_a_killed_daemon_is_recognised_as_dead_and_cleared() {
    if Mounted::new().is_none() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let leave_dead_mount = || {
        let mut daemon = Command::new(std::env::current_exe().expect("our own path"))
            .args(["--ignored", "--exact", "--nocapture", "daemon_for_another_test"])
            .env(DAEMON_MOUNTPOINT, folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("started");
        let patience = Instant::now() + Duration::from_secs(30);
        while request_status(folder.path()).is_err() {
            assert!(Instant::now() < patience, "the daemon does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon.kill().expect("killed");
        daemon.wait().expect("gone");
    };
    leave_dead_mount();
    assert!(matches!(request_status(folder.path()), Err(ControlError::Dead { .. })));
    let options = MountOptions::default();
    let session = mount_new(folder.path(), &options).expect("mounted");
    drop(session);
    leave_dead_mount();
    unmount(folder.path()).expect("a dead mount can be taken off");
    folder.close().expect("nothing is mounted on it");
}

fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).expect("no NUL")
}

#[allow(unsafe_code)]
fn set_attribute(path: &Path, name: &str, value: &[u8], flags: i32) -> Result<(), i32> {
    let (path, name) = (c_path(path), CString::new(name).expect("no NUL"));
    // SAFETY: both strings end in NUL, and the value is as long as is said.
    let result = unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags) };
    if result == 0 { Ok(()) } else { Err(nix::errno::Errno::last_raw()) }
}

#[allow(unsafe_code)]
fn get_attribute(path: &Path, name: &str, room: usize) -> Result<(usize, Vec<u8>), i32> {
    let file = File::open(path).expect("opened");
    let name = CString::new(name).expect("no NUL");
    let mut value = vec![0; room];
    // SAFETY: the name ends in NUL, and the value has as much room as is said.
    let result = unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), room) };
    usize::try_from(result).map(|length| (length, value)).map_err(|_| nix::errno::Errno::last_raw())
}

/// Copies to the start of `target` by `copy_file_range` alone.
#[allow(unsafe_code)]
fn copy_range(source: &File, mut offset: i64, target: &File, mut length: usize) {
    let mut target_offset = 0;
    while length > 0 {
        let (from, to) = (&raw mut offset, &raw mut target_offset);
        // SAFETY: both offsets live through the call.
        let copied = unsafe { libc::copy_file_range(source.as_raw_fd(), from, target.as_raw_fd(), to, length, 0) };
        assert!(copied > 0, "{}", std::io::Error::last_os_error());
        length -= copied as usize;
    }
}
