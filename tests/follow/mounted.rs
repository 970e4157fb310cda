//! A real mount that nobody writes to, when another device publishes. Runs where `/dev/fuse` can be used.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use passkeyfs::mount::{DaemonInfo, MountOptions, mount};
use passkeyfs::store::{MemoryStore, SystemClock};
use passkeyfs::volume::{Environment, SetAttributes, Volume, VolumeOptions};

use crate::support::{ROOT, World};
use crate::two::{Device, carry};

/// How long what has arrived may take to be seen.
const PATIENCE: Duration = Duration::from_secs(20);

fn open(world: &World, disk: &MemoryStore, background: bool) -> Arc<Volume> {
    let environment = Environment { clock: Arc::new(SystemClock), ..world.environment(Arc::new(disk.clone())) };
    Volume::open(environment, world.keys(), VolumeOptions { background, ..VolumeOptions::default() }).expect("open")
}

fn wait_for(mut condition: impl FnMut() -> bool) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    false
}

#[test]
fn an_idle_mount_shows_what_another_device_has_done_and_is_then_written_on_without_a_fork() {
    if OpenOptions::new().read(true).write(true).open("/dev/fuse").is_err() {
        return eprintln!("not tested: /dev/fuse cannot be used here");
    }
    let world = World::new(3);
    let desk = Device { disk: world.disk.clone(), volume: open(&world, &world.disk, false) };
    let (user, group) = (Some(nix::unistd::getuid().as_raw()), Some(nix::unistd::getgid().as_raw()));
    desk.volume.set_attributes(ROOT, &SetAttributes { user, group, ..SetAttributes::default() }).expect("given");
    desk.make("changed", b"before");
    desk.make("removed", b"x");
    desk.publish();
    let disk = MemoryStore::with_clock(Arc::new(SystemClock));
    carry(&desk.disk, &disk);
    let laptop = Device { volume: open(&world, &disk, true), disk };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let daemon = DaemonInfo { vault_folder: "/the/vault".into(), mountpoint: folder.path().into() };
    let session = mount(laptop.volume.clone(), folder.path(), &MountOptions::default(), daemon).expect("mounted");
    let unmounter = session.unmounter();
    let served = std::thread::spawn(move || session.run());
    let path = |name: &str| folder.path().join(name);

    // The kernel has these in its caches now, for a minute.
    assert_eq!(fs::read(path("changed")).expect("read"), b"before");
    assert!(fs::metadata(path("removed")).is_ok());
    let mut log = OpenOptions::new().append(true).create(true).open(path("log")).expect("opened");
    log.write_all(b"one\n").expect("appended");
    laptop.publish();
    carry(&laptop.disk, &desk.disk);
    desk.publish();
    let inode = desk.volume.lookup(ROOT, b"log").expect("there").inode;
    desk.volume.write(inode, 4, b"two\n", false).expect("written");
    let inode = desk.volume.lookup(ROOT, b"changed").expect("there").inode;
    desk.volume.write(inode, 0, b"behind, and longer", false).expect("written");
    desk.volume.unlink(ROOT, b"removed").expect("removed");
    desk.make("new", b"new");
    desk.publish();
    carry(&desk.disk, &laptop.disk);
    let is_gone = |name: &str| fs::metadata(path(name)).is_err_and(|error| error.kind() == ErrorKind::NotFound);
    let is_seen = || {
        fs::read(path("new")).is_ok_and(|content| content == b"new")
            && fs::read(path("changed")).is_ok_and(|content| content == b"behind, and longer")
            && is_gone("removed")
    };
    assert!(wait_for(is_seen), "it is shown without a write and without a mount");

    // A file that is open to be appended to goes on where the other device has ended.
    log.write_all(b"three\n").expect("appended");
    assert_eq!(fs::read(path("log")).expect("read"), b"one\ntwo\nthree\n");
    drop(log);
    fs::write(path("mine"), "mine").expect("written");
    laptop.publish();
    carry(&laptop.disk, &desk.disk);
    desk.publish();
    assert_eq!(desk.read("log").as_deref(), Some(&b"one\ntwo\nthree\n"[..]));
    assert_eq!(desk.read("mine").as_deref(), Some(&b"mine"[..]));
    assert_eq!(desk.volume.status().read_only, None);
    unmounter.unmount().expect("unmounted");
    served.join().expect("no panic").expect("served");
    laptop.volume.close().expect("closed");
    desk.volume.close().expect("closed");
}
