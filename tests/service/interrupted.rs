//! Commands that are ended in the middle of a question: nothing stays behind, least of all an open vault.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use passkeyfs::unlock::SoftwareAuthenticator;
use serde_json::json;

use super::rig::{PIN, Rig, Running, SilentBus, wait_for, words};
use super::screen::Screen;

/// A shell on a terminal that mounts without `-f`.
fn mount_from_a_shell(rig: &Rig) -> Screen {
    let script = "\"$@\"; echo the shell goes on; exec sleep 120";
    let mut command = rig.command_under("/usr/bin/setsid", &["--ctty", "--wait", "/bin/sh", "-c", script, "sh"]);
    Screen::of(rig, command.arg("mount").arg(rig.vault()).arg(rig.mount()))
}

/// The process that the shell waits for.
fn front_process(screen: &Screen) -> Pid {
    let shell = screen.program.child.id();
    let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).expect("children");
    Pid::from_raw(children.split_whitespace().next().expect("a child").parse().expect("a number"))
}

/// Processes that were started with this vault, but for the shell itself.
fn processes_left(rig: &Rig, screen: &Screen) -> usize {
    let vault = rig.vault().display().to_string();
    let is_ours = |folder: &fs::DirEntry| {
        let is_shell = folder.file_name().to_string_lossy() == screen.program.child.id().to_string();
        let line = fs::read(folder.path().join("cmdline")).unwrap_or_default();
        !is_shell && String::from_utf8_lossy(&line).contains(&vault)
    };
    fs::read_dir("/proc").expect("processes").flatten().filter(is_ours).count()
}

#[test]
fn a_mount_that_is_ended_at_its_pin_leaves_terminal_and_vault_as_they_were() {
    let Some(rig) = Rig::where_fuse_works() else { return };
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGKILL] {
        let screen = mount_from_a_shell(&rig);
        screen.wait_for_words("PIN of ");
        assert!(!screen.is_as_before());
        kill(front_process(&screen), signal).expect("sent");
        screen.wait_for_words("the shell goes on");
        assert!(
            wait_for(|| screen.is_as_before() && processes_left(&rig, &screen) == 0),
            "{signal}: {}",
            screen.text()
        );
        assert!(!screen.shows("settings"), "{signal}: {}", screen.text());
    }
    let mut again = Running::mounted(&rig, &mut rig.mount_in_front(""));
    again.signal(Signal::SIGTERM);
    assert_eq!(again.finish().0.code(), Some(0));
}

#[test]
fn a_mount_whose_command_is_killed_at_the_touch_does_not_come_about() {
    let Some(rig) = Rig::where_fuse_works() else { return };
    rig.set_key_field("touch_delay_ms", json!(2000));
    let mut screen = mount_from_a_shell(&rig);
    screen.wait_for_words("PIN of ");
    screen.type_keys(&format!("{PIN}\r"));
    screen.wait_for_words("Touch the software authenticator ");
    kill(front_process(&screen), Signal::SIGKILL).expect("sent");
    screen.wait_for_words("the shell goes on");
    assert!(wait_for(|| processes_left(&rig, &screen) == 0), "{}", screen.text());
    assert!(!rig.is_mounted());
}

#[test]
fn a_signal_at_a_second_pin_leaves_the_terminal_as_it_was_though_a_thread_talks_with_the_desktop() {
    let rig = Rig::new();
    let (bus, other) = (SilentBus::listen(), rig.path("other key.json"));
    SoftwareAuthenticator::open_or_create(&other).expect("made").set_pin("other-pin").expect("set");
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        let mut command = rig.command_under("/usr/bin/setsid", &["--ctty", "--wait"]);
        command.args(["key", "add"]).arg(rig.vault()).arg("--authenticator");
        command.arg(format!("software:{}", other.display()));
        let mut screen = Screen::of(&rig, command.env("DBUS_SESSION_BUS_ADDRESS", &bus.address));
        screen.wait_for_words("PIN of ");
        screen.type_keys(&format!("{PIN}\r"));
        screen.wait_for_words("other key.json");
        assert!(wait_for(|| !screen.is_as_before()));
        screen.program.signal(signal);
        let (status, _) = screen.program.finish();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(signal as i32));
        assert!(screen.is_as_before(), "{signal}: {}", screen.text());
    }
}

#[test]
fn an_askpass_program_does_not_outlive_the_command_that_it_asks_for() {
    let rig = Rig::new();
    let (script, pid) = (rig.path("askpass"), rig.path("pid"));
    fs::write(&script, format!("#!/bin/sh\necho $$ >'{}'\nexec sleep 100\n", pid.display())).expect("written");
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let mut command = rig.command_under("/usr/bin/setsid", &["--wait"]);
    let mut program =
        Running::start(&rig, command.args(["key", "test"]).arg(rig.vault()).env("PASSKEYFS_ASKPASS", &script));
    let asked = || fs::read_to_string(&pid).ok().and_then(|text| text.trim().parse::<i32>().ok());
    assert!(wait_for(|| asked().is_some()));
    program.signal(Signal::SIGTERM);
    program.finish();
    assert!(wait_for(|| kill(Pid::from_raw(asked().expect("a number")), None).is_err()));
}

#[test]
fn a_system_bus_that_takes_the_connection_and_says_nothing_is_given_up() {
    let rig = Rig::new();
    let (bus, begun) = (SilentBus::listen(), Instant::now());
    let mut command = rig.mount_in_front("lock-on-suspend");
    let refused = command.env("DBUS_SYSTEM_BUS_ADDRESS", &bus.address).output().expect("it runs");
    assert_eq!(refused.status.code(), Some(1), "{}", words(&refused));
    assert!(words(&refused).contains("it did not answer within 10 seconds"), "{}", words(&refused));
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
}
