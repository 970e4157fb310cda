//! What a mount is refused for, what it says, and what a person sees who waits for it to be written out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::rig::{Rig, Running, words};
use super::screen::Screen;

fn run(rig: &Rig, arguments: &[&Path]) -> Output {
    rig.command().args(arguments).output().expect("it runs")
}

/// Takes a mount off that a failed test has left.
struct Clean(PathBuf);

impl Drop for Clean {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = Command::new("umount").arg("-l").arg(&self.0).stderr(Stdio::null()).status();
        }
    }
}

/// Mounts by hand, with the daemon in the background.
fn mount(rig: &Rig, options: &str) -> Output {
    let mut command = rig.command();
    command.arg("mount").arg(rig.vault()).arg(rig.mount());
    if !options.is_empty() {
        command.args(["-o", options]);
    }
    command.output().expect("it runs")
}

fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", words(output));
}

fn is_refused(output: &Output, code: i32, said: &[&str]) {
    let text = words(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    said.iter().for_each(|part| assert!(text.contains(part), "{part} is not in {text}"));
}

fn umount(rig: &Rig) {
    succeeds(&run(rig, &[Path::new("umount"), &rig.mount()]));
}

#[test]
fn a_mount_hides_no_files_unless_it_is_told_to() {
    let Some(rig) = Rig::where_fuse_works() else { return };
    let _clean = Clean(rig.mount());
    fs::create_dir(rig.mount().join("empty")).expect("made");
    fs::write(rig.mount().join("NOT-MOUNTED"), "").expect("written");
    succeeds(&mount(&rig, ""));
    umount(&rig);
    fs::write(rig.mount().join("empty/letter"), "written while nothing was mounted").expect("written");
    is_refused(&mount(&rig, ""), 1, &["is not empty", "empty/letter", "-o nonempty"]);
    succeeds(&mount(&rig, "nonempty"));
    assert!(!rig.mount().join("empty/letter").exists());
    umount(&rig);
    assert!(rig.mount().join("empty/letter").exists());
}

#[test]
fn a_mount_point_in_the_vault_folder_or_around_it_is_refused_and_a_twisted_way_to_another_is_not() {
    let Some(rig) = Rig::where_fuse_works() else { return };
    let _clean = Clean(rig.mount());
    let at = |mountpoint: &Path| {
        let (mount, vault, nonempty) = (Path::new("mount"), rig.vault(), [Path::new("-o"), Path::new("nonempty")]);
        run(&rig, &[&[mount, &vault, mountpoint], &nonempty[..]].concat())
    };
    let inner = rig.vault().join("inner");
    fs::create_dir(&inner).expect("made");
    for (mountpoint, said) in [
        (rig.vault(), "lies in the vault folder"),
        (inner.clone(), "lies in the vault folder"),
        (rig.mount().join("../the vault/inner"), "lies in the vault folder"),
        (rig.folder.path().to_owned(), "the vault folder lies in"),
    ] {
        is_refused(&at(&mountpoint), 1, &[said, "apart from the vault"]);
    }
    assert!(!rig.is_mounted() && fs::read_dir(&inner).expect("listed").next().is_none());
    succeeds(&at(&rig.vault().join("../mount/../the vault/../mount")));
    umount(&rig);
}

#[test]
fn a_vault_in_a_mounted_vault_keeps_what_is_written_to_it() {
    let Some(rig) = Rig::where_fuse_works() else { return };
    let (_clean, inner_mount) = (Clean(rig.mount()), rig.path("inner mount"));
    let _clean_inner = Clean(inner_mount.clone());
    fs::create_dir(&inner_mount).expect("made");
    succeeds(&mount(&rig, ""));
    let inner = rig.mount().join("inner");
    succeeds(&run(&rig, &[Path::new("init"), &inner, Path::new("--no-recovery")]));
    for round in 0..2 {
        succeeds(&run(&rig, &[Path::new("mount"), &inner, &inner_mount]));
        match round {
            0 => fs::write(inner_mount.join("file"), "deep").expect("written"),
            _ => assert_eq!(fs::read(inner_mount.join("file")).expect("read"), b"deep"),
        }
        succeeds(&run(&rig, &[Path::new("sync"), &inner_mount]));
        succeeds(&run(&rig, &[Path::new("umount"), &inner_mount]));
        umount(&rig);
        succeeds(&mount(&rig, ""));
    }
    umount(&rig);
}

#[test]
fn who_names_the_vault_folder_or_a_place_in_the_mount_is_told_the_mount_point() {
    let Some(rig) = Rig::where_fuse_works() else { return };
    let _clean = Clean(rig.mount());
    succeeds(&mount(&rig, ""));
    fs::create_dir(rig.mount().join("inner")).expect("made");
    let mountpoint = format!("'{}'", rig.mount().display());
    for command in ["sync", "umount"] {
        let next = format!("passkeyfs {command} {mountpoint}");
        is_refused(&run(&rig, &[Path::new(command), &rig.vault()]), 1, &["is the folder of the vault", &next]);
    }
    succeeds(&run(&rig, &[Path::new("sync"), &rig.mount().join("inner")]));
    let inner = run(&rig, &[Path::new("umount"), &rig.mount().join("inner")]);
    is_refused(&inner, 1, &["lies in the vault that is mounted", &format!("passkeyfs umount {mountpoint}")]);
    umount(&rig);
    is_refused(&run(&rig, &[Path::new("status"), &rig.mount()]), 6, &["nothing is mounted at"]);
}

#[test]
fn a_vault_on_a_read_only_filesystem_is_said_to_be_so_before_it_is_mounted() {
    let Some(rig) = Rig::where_fuse_works() else { return };
    let _clean = Clean(rig.mount());
    let bind = |arguments: &[&str]| {
        let done = Command::new("mount").args(arguments).arg(rig.vault()).arg(rig.vault()).output();
        done.is_ok_and(|done| done.status.success())
    };
    if !bind(&["--bind"]) || !bind(&["-o", "remount,bind,ro"]) {
        return eprintln!("not tested: this user cannot make a read-only mount");
    }
    let (writing, reading) = (mount(&rig, ""), mount(&rig, "ro"));
    if rig.is_mounted() {
        run(&rig, &[Path::new("umount"), &rig.mount()]);
    }
    let detached = Command::new("umount").arg("-l").arg(rig.vault()).status().expect("it runs");
    assert!(detached.success());
    is_refused(&writing, 1, &["lies on a read-only filesystem", "-o ro"]);
    succeeds(&reading);
}

#[test]
fn a_folder_that_was_rolled_back_is_mounted_read_only_and_refused_by_what_would_judge_or_change_it() {
    let Some(rig) = Rig::where_fuse_works() else { return };
    let _clean = Clean(rig.mount());
    let write = |text: &str| {
        succeeds(&mount(&rig, ""));
        fs::write(rig.mount().join("file"), text).expect("written");
        umount(&rig);
    };
    let old = rig.path("old");
    write("one");
    succeeds(&Command::new("cp").arg("-a").arg(rig.vault()).arg(&old).output().expect("it runs"));
    write("two");
    fs::remove_dir_all(rig.vault()).expect("removed");
    fs::rename(&old, rig.vault()).expect("brought back");
    let mounted = mount(&rig, "");
    succeeds(&mounted);
    assert!(words(&mounted).contains("mounted read-only"), "{}", words(&mounted));
    assert!(fs::write(rig.mount().join("file"), "three").is_err());
    umount(&rig);
    is_refused(&run(&rig, &[Path::new("check"), &rig.vault()]), 8, &["older than what this device has seen"]);
    let rotated = run(&rig, &[Path::new("key"), Path::new("rotate"), &rig.vault()]);
    is_refused(&rotated, 8, &["the keys cannot be changed"]);
}

#[test]
fn a_person_who_waits_for_a_publish_sees_that_it_goes_on_and_a_pipe_gets_nothing() {
    let Some(rig) = Rig::where_fuse_works() else { return };
    let _clean = Clean(rig.mount());
    let mut daemon = Running::mounted(&rig, &mut rig.mount_in_front("publish=3600"));
    fs::write(rig.mount().join("file"), "x").expect("written");
    let mut screen = {
        daemon.signal(Signal::SIGSTOP);
        let mut sync = rig.command_under("/usr/bin/setsid", &["--ctty", "--wait"]);
        Screen::of(&rig, sync.env("TERM", "xterm").arg("sync").arg(rig.mount()))
    };
    screen.wait_for_words("publishing");
    daemon.signal(Signal::SIGCONT);
    let (status, said) = screen.program.finish();
    assert!(status.success(), "{said} {}", screen.text());
    let mut piped = rig.command();
    let child = piped.arg("sync").arg(rig.mount()).spawn();
    daemon.signal(Signal::SIGSTOP);
    std::thread::sleep(Duration::from_secs(2));
    daemon.signal(Signal::SIGCONT);
    let piped = child.expect("it starts").wait_with_output().expect("it ends");
    assert!(piped.status.success() && words(&piped).is_empty(), "{}", words(&piped));
    daemon.signal(Signal::SIGTERM);
    let (status, said) = daemon.finish();
    assert_eq!(status.code(), Some(0), "{said}");
}

#[test]
fn the_daily_use_in_the_readme_works_as_it_is_written_there() {
    if Rig::where_fuse_works().is_none() {
        return;
    }
    let home = tempfile::tempdir().expect("a temporary folder");
    let _clean = Clean(home.path().join("files"));
    let readme = include_str!("../../README.md");
    let section = readme.split("\n## Daily use\n").nth(1).expect("a section");
    let lines = section.split("```\n").nth(1).expect("a block");
    let program = Path::new(env!("CARGO_BIN_EXE_passkeyfs")).parent().expect("a folder");
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("bash");
    command.args(["-e", "-c", lines]).env_clear().env("HOME", home.path()).env("PATH", path).stdin(Stdio::null());
    let done = command.output().expect("it runs");
    succeeds(&done);
    let shown = String::from_utf8_lossy(&done.stdout);
    assert!(shown.trim_end().ends_with("no damage found; everything has arrived"), "{shown}");
}
