//! The person's side: a terminal, an askpass program, nobody.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use serde_json::json;

use super::rig::{PIN, Rig, words};
use super::screen::Screen;

#[test]
fn a_pin_typed_at_the_terminal_is_not_shown_and_what_nobody_can_touch_is_named_once() {
    let rig = Rig::new();
    let mut screen = Screen::with(&rig, &["key", "test"]);
    screen.wait_for_words("PIN of the software authenticator ");
    assert!(!screen.is_as_before());
    screen.type_keys(&format!("oops\u{15}{PIN}x\u{7f}\r"));
    screen.wait_for_words("unlocks the vault (not hardware)");
    assert_eq!(screen.program.finish().0.code(), Some(0));
    assert_eq!(screen.text().matches("Using the software authenticator ").count(), 1, "{:?}", screen.text());
    assert!(!screen.shows("Touch "), "{:?}", screen.text());
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
fn ctrl_c_at_the_pin_interrupts_and_leaves_the_terminal_as_it_was() {
    let rig = Rig::new();
    for arguments in [&["key", "test"][..], &["check"][..]] {
        let before = rig.pin_tries_left();
        let mut screen = Screen::with(&rig, arguments);
        screen.wait_for_words("PIN of ");
        screen.type_keys("12\u{3}");
        let (status, _) = screen.program.finish();
        assert_eq!(status.code(), Some(130));
        screen.wait_for_words("interrupted; nothing was changed");
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

#[test]
fn a_recovery_code_that_cannot_be_asked_for_may_come_from_a_file_as_the_message_says() {
    let rig = Rig::new();
    let path = rig.path("bin");
    fs::create_dir(&path).expect("made");
    let mut command = rig.command_under("/usr/bin/setsid", &["--wait"]);
    command.args(["key", "test", "--authenticator", "recovery"]).arg(rig.vault()).env("PATH", &path);
    let done = command.output().expect("it runs");
    assert_eq!(done.status.code(), Some(4), "{}", words(&done));
    let said = words(&done);
    assert!(said.contains("no way to ask for the recovery code"), "{said}");
    assert!(said.contains("--recovery-code-file FILE"), "{said}");
}

/// `key pin`, with a terminal in front of it.
fn set_pin(rig: &Rig, file: &str, answers: [&str; 2]) -> (Option<i32>, String) {
    let mut command = rig.command_under("/usr/bin/setsid", &["--ctty", "--wait"]);
    let authenticator = format!("software:{}", rig.path(file).display());
    let mut screen = Screen::of(rig, command.args(["key", "pin", "--authenticator", &authenticator]));
    screen.wait_for_words("New PIN of the software authenticator ");
    screen.type_keys(&format!("{}\r", answers[0]));
    screen.wait_for_words("The same PIN again");
    screen.type_keys(&format!("{}\r", answers[1]));
    let code = screen.program.finish().0.code();
    // What it wrote last may still be on its way through the terminal.
    let mut text = screen.text();
    loop {
        std::thread::sleep(std::time::Duration::from_millis(300));
        let now = screen.text();
        if now == text {
            return (code, text);
        }
        text = now;
    }
}

#[test]
fn the_pin_of_a_software_authenticator_is_set_by_a_command_that_asks_twice() {
    let rig = Rig::new();
    let (code, text) = set_pin(&rig, "fresh", ["typed once", "typed otherwise"]);
    assert!(code == Some(4) && text.contains("the two PINs differ; nothing was changed"), "{text}");
    assert!(!rig.path("fresh").exists() && !text.contains("typed once"), "{text}");
    let (code, text) = set_pin(&rig, "fresh", ["secret 1", "secret 1"]);
    assert!(code == Some(0) && !text.contains("Vaults in which"), "{text}");
    let (code, text) = set_pin(&rig, "fresh", ["123", "123"]);
    assert!(code == Some(4) && text.contains("a PIN has at least 4 characters"), "{text}");

    // The vault's key gets another one, and opens the vault with it.
    let (code, text) = set_pin(&rig, "key.json", ["another PIN", "another PIN"]);
    assert!(code == Some(0) && text.contains("is set"), "{text}");
    rig.store_pin("another PIN");
    let done = rig.command().args(["key", "test"]).arg(rig.vault()).output().expect("it runs");
    assert!(done.status.success(), "{}", words(&done));

    // What was enrolled before there was a PIN opens without one, which is said.
    let key = format!("software:{}", rig.path("no pin").display());
    let made = rig.command().args(["init", "--no-recovery", "--authenticator", &key]).arg(rig.path("second")).output();
    assert!(made.expect("it runs").status.success());
    let (code, text) = set_pin(&rig, "no pin", ["secret 2", "secret 2"]);
    assert!(code == Some(0) && text.contains("enrol it again with `passkeyfs key add`"), "{text}");

    let hardware = rig.command().args(["key", "pin", "--authenticator", "hid"]).output().expect("it runs");
    assert!(hardware.status.code() == Some(2) && words(&hardware).contains("fido2-token"), "{}", words(&hardware));
}
