//! A mount that ends by itself: the key is pulled out, nobody uses it, or a signal comes while files are open.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::rig::{Rig, Running, wait_for};

#[test]
fn pulling_the_key_out_locks_and_cuts_off_who_has_a_file_open_without_losing_what_was_written() {
    let Some(rig) = Rig::where_fuse_works() else { return };
    let mut service = Running::mounted(&rig, &mut rig.mount_in_front("lock-on-removal,publish=3600"));
    let path = rig.mount().join("file");
    let mut open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).expect("open");
    open.write_all(b"written, and never synced").expect("written");
    let pulled_out = rig.path("pulled out");
    fs::rename(rig.key(), &pulled_out).expect("renamed");
    let (status, said) = service.finish();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("the key was removed: locking") && said.contains("cut off"), "{said}");
    assert!(!rig.is_mounted());
    assert!(open.write_all(b"x").and_then(|()| open.sync_all()).is_err() || open.read(&mut [0]).is_err());
    fs::rename(&pulled_out, rig.key()).expect("renamed");
    let mut again = Running::mounted(&rig, &mut rig.mount_in_front(""));
    let content = fs::read_to_string(rig.mount().join("file")).expect("read");
    assert_eq!(content, "written, and never synced");
    again.signal(Signal::SIGTERM);
    assert_eq!(again.finish().0.code(), Some(0));
}

#[test]
fn an_idle_mount_goes_and_one_with_an_open_file_stays() {
    let Some(rig) = Rig::where_fuse_works() else { return };
    let mut service = Running::mounted(&rig, &mut rig.mount_in_front("idle=1"));
    fs::write(rig.mount().join("file"), "content").expect("written");
    let open = File::open(rig.mount().join("file")).expect("open");
    std::thread::sleep(Duration::from_secs(4));
    assert!(service.is_running() && rig.is_mounted());
    drop(open);
    let (status, said) = service.finish();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("idle for 1 s: unmounting"), "{said}");
    assert!(!rig.is_mounted());
}

#[test]
fn a_signal_leaves_open_files_some_time_and_then_cuts_them_off() {
    let Some(rig) = Rig::where_fuse_works() else { return };
    let mut service = Running::mounted(&rig, &mut rig.mount_in_front("publish=3600"));
    let mut open = File::create(rig.mount().join("file")).expect("made");
    open.write_all(b"before;").expect("written");
    let start = Instant::now();
    service.signal(Signal::SIGTERM);
    assert!(wait_for(|| !rig.is_mounted()));
    // Still served: whoever has a file open may write to its end.
    open.write_all(b"in the grace time").expect("written");
    open.sync_all().expect("synced");
    let (status, said) = service.finish();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(start.elapsed() >= Duration::from_secs(9), "{:?}", start.elapsed());
    assert!(said.contains("cut off"), "{said}");
    let mut again = Running::mounted(&rig, &mut rig.mount_in_front(""));
    assert_eq!(fs::read_to_string(rig.mount().join("file")).expect("read"), "before;in the grace time");
    again.signal(Signal::SIGTERM);
    assert_eq!(again.finish().0.code(), Some(0));
}
