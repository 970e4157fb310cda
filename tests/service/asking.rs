//! The person's side: a terminal, an askpass program, nobody.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use serde_json::json;

use super::rig::{PIN, Rig, words};
use super::screen::Screen;

#[test]
fn a_pin_typed_at_the_terminal_is_not_shown_and_a_touch_is_announced() {
    let rig = Rig::new();
    let mut screen = Screen::with(&rig, &["key", "test"]);
    screen.wait_for_words("PIN of the software authenticator ");
    assert!(!screen.is_as_before());
    screen.type_keys(&format!("oops\u{15}{PIN}x\u{7f}\r"));
    screen.wait_for_words("unlocks the vault (not hardware)");
    assert_eq!(screen.program.finish().0.code(), Some(0));
    assert!(screen.shows("Touch the software authenticator "));
    assert!(!screen.shows("correct-horse"), "{:?}", screen.text());
    assert!(screen.is_as_before());
}

#[test]
fn a_wrong_pin_at_the_terminal_is_asked_for_again_with_the_tries_left() {
    let rig = Rig::new();
    let mut screen = Screen::with(&rig, &["key", "test"]);
    screen.wait_for_words("PIN of ");
    screen.type_keys("wrong-pin\r");
    screen.wait_for_words("Wrong PIN. PIN of ");
    screen.wait_for_words("(7 tries left)");
    screen.type_keys(&format!("{PIN}\r"));
    assert_eq!(screen.program.finish().0.code(), Some(0));
}

#[test]
fn ctrl_c_at_the_pin_gives_up_and_leaves_the_terminal_as_it_was() {
    let rig = Rig::new();
    for arguments in [&["key", "test"][..], &["check"][..]] {
        let before = rig.pin_tries_left();
        let mut screen = Screen::with(&rig, arguments);
        screen.wait_for_words("PIN of ");
        screen.type_keys("12\u{3}");
        let (status, _) = screen.program.finish();
        assert_eq!(status.code(), Some(4));
        screen.wait_for_words("no PIN or recovery code was given");
        assert!(screen.is_as_before());
        assert_eq!(rig.pin_tries_left(), before);
    }
}

#[test]
fn a_signal_at_the_pin_ends_the_program_and_leaves_the_terminal_as_it_was() {
    let rig = Rig::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut screen = Screen::with(&rig, &["key", "test"]);
        screen.wait_for_words("PIN of ");
        assert!(!screen.is_as_before());
        screen.program.signal(signal);
        let (status, _) = screen.program.finish();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(signal as i32));
        assert!(screen.is_as_before());
    }
}

#[test]
fn ctrl_c_at_the_touch_ends_the_program() {
    let rig = Rig::new();
    rig.set_key_field("touch_delay_ms", json!(25_000));
    let mut screen = Screen::with(&rig, &["key", "test"]);
    screen.wait_for_words("PIN of ");
    screen.type_keys(&format!("{PIN}\r"));
    screen.wait_for_words("Touch the software authenticator ");
    screen.type_keys("\u{3}");
    let (status, _) = screen.program.finish();
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(Signal::SIGINT as i32));
    assert!(screen.is_as_before());
}

#[test]
fn the_last_try_is_spent_only_after_a_yes() {
    let rig = Rig::new();
    rig.set_key_field("pin_tries_left", json!(1));
    let mut screen = Screen::with(&rig, &["key", "test"]);
    screen.wait_for_words("Type yes to go on: ");
    screen.type_keys("no\r");
    assert_eq!(screen.program.finish().0.code(), Some(4));
    assert_eq!(rig.pin_tries_left(), 1);
    let mut screen = Screen::with(&rig, &["key", "test"]);
    screen.wait_for_words("Type yes to go on: ");
    screen.type_keys("yes\r");
    screen.wait_for_words("PIN of ");
    screen.type_keys(&format!("{PIN}\r"));
    assert_eq!(screen.program.finish().0.code(), Some(0));
}

fn program(rig: &Rig, name: &str, script: &str) -> std::path::PathBuf {
    let path = rig.path(name);
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
    path
}

#[test]
fn without_a_terminal_an_askpass_program_is_asked_and_on_a_desktop_the_one_of_ssh() {
    let rig = Rig::new();
    fs::write(rig.path("answer"), PIN).expect("written");
    let askpass = program(
        &rig,
        "askpass",
        &format!("cat '{}'; echo \"$1\" >'{}'", rig.path("answer").display(), rig.path("asked").display()),
    );
    for (name, desktop) in [("PASSKEYFS_ASKPASS", false), ("SSH_ASKPASS", true)] {
        let mut command = rig.command_under("/usr/bin/setsid", &["--wait"]);
        command.args(["key", "test"]).arg(rig.vault()).env(name, &askpass);
        if desktop {
            command.env("DISPLAY", ":99");
        }
        let done = command.output().expect("it runs");
        assert_eq!(done.status.code(), Some(0), "{}", words(&done));
        assert!(words(&done).contains("unlocks the vault"), "{}", words(&done));
        let asked = fs::read_to_string(rig.path("asked")).expect("asked");
        assert!(asked.starts_with("PIN of the software authenticator "), "{asked}");
        fs::remove_file(rig.path("asked")).expect("removed");
    }
}

#[test]
fn where_nobody_can_be_asked_that_is_said_and_no_try_is_used() {
    let rig = Rig::new();
    let before = rig.pin_tries_left();
    let mut command = rig.command_under("/usr/bin/setsid", &["--wait"]);
    // No systemd-ask-password on this path, and none of the desktop's programs.
    let path = rig.path("bin");
    fs::create_dir(&path).expect("made");
    let done = command.args(["key", "test"]).arg(rig.vault()).env("PATH", &path).output().expect("it runs");
    assert_eq!(done.status.code(), Some(4), "{}", words(&done));
    assert!(words(&done).contains("there is no way to ask for a PIN"), "{}", words(&done));
    assert_eq!(rig.pin_tries_left(), before);
}
