//! The service manager's side: notifications, configuration, credentials, exit codes that stop a restart.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use serde_json::json;

use super::rig::{Rig, Running, ServiceManager, wait_for, words};

fn configure(rig: &Rig, text: &str) {
    let folder = rig.path(".config/passkeyfs");
    fs::create_dir_all(&folder).expect("made");
    fs::write(folder.join("backup.conf"), text).expect("written");
}

#[test]
fn a_service_says_what_it_waits_for_when_it_is_ready_and_that_it_stops() {
    let Some(rig) = Rig::where_fuse_works() else { return };
    rig.set_key_field("touch_delay_ms", json!(300));
    fs::remove_dir(rig.mount()).expect("removed");
    configure(&rig, "# ours\nVAULT = ~/the vault\nMOUNTPOINT=\"%h/mount\"\nOPTIONS=publish=3600\n");
    let manager = ServiceManager::listen(rig.folder.path());
    let mut command = rig.command();
    command.args(["mount", "--foreground", "--config", "backup"]).env("NOTIFY_SOCKET", &manager.path);
    let mut service = Running::mounted(&rig, &mut command);
    assert!(wait_for(|| rig.mount().join(".").exists()));
    let mut told = Vec::new();
    assert!(
        wait_for(|| {
            told.extend(manager.told());
            told.iter().any(|line| line.starts_with("STATUS=mounted on "))
        }),
        "{told:?}"
    );
    let place = |words: &str| {
        let found = told.iter().position(|line| line.starts_with(words));
        found.unwrap_or_else(|| panic!("{words} is not in {told:?}"))
    };
    assert!(place("STATUS=waiting for an answer: PIN of ") < place("STATUS=touch the software authenticator "));
    assert!(place("STATUS=touch ") < place("READY=1"));
    fs::write(rig.mount().join("file"), "content").expect("written");
    service.signal(Signal::SIGTERM);
    let (status, said) = service.finish();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(!rig.is_mounted());
    let mode = fs::metadata(rig.mount()).expect("there").permissions().mode();
    assert_eq!(mode & 0o077, 0, "the mount point that it made is for its user: {mode:o}");
    let told = manager.told();
    for line in ["STOPPING=1", "EXTEND_TIMEOUT_USEC=30000000", "STATUS=publishing"] {
        assert!(told.iter().any(|said| said == line), "{line} is not in {told:?}");
    }
    let mut again = Running::mounted(&rig, rig.command().args(["mount", "-f", "--config", "backup"]));
    assert_eq!(fs::read_to_string(rig.mount().join("file")).expect("read"), "content");
    again.signal(Signal::SIGINT);
    assert_eq!(again.finish().0.code(), Some(0));
}

#[test]
fn a_bad_configuration_is_named_with_file_and_line() {
    let rig = Rig::new();
    let run = || rig.command().args(["mount", "--config", "backup"]).output().expect("it runs");
    let missing = run();
    assert_eq!(missing.status.code(), Some(2));
    assert!(words(&missing).contains("backup.conf: No such file or directory"), "{}", words(&missing));
    for (text, problem) in [
        ("VAULT=~/v\nMOUNT=~/m\n", ".config/passkeyfs/backup.conf, line 2: unknown setting 'MOUNT'"),
        ("VAULT=~/v\n", "backup.conf: MOUNTPOINT is not set"),
    ] {
        configure(&rig, text);
        let refused = run();
        assert_eq!(refused.status.code(), Some(2));
        assert!(words(&refused).contains(problem), "{}", words(&refused));
        assert_eq!(words(&refused).lines().count(), 2, "what happened, and what to do: {}", words(&refused));
    }
    configure(&rig, &format!("VAULT={}\nMOUNTPOINT=~/mount\nOPTIONS=nonsense\n", rig.vault().display()));
    let refused = run();
    assert_eq!(refused.status.code(), Some(2));
    assert!(words(&refused).contains("unknown mount option 'nonsense'"), "{}", words(&refused));
}

#[test]
fn a_wrong_stored_pin_uses_one_try_and_never_the_last() {
    let rig = Rig::new();
    rig.store_pin("wrong-pin");
    let run = || rig.mount_in_front("").output().expect("it runs");
    let before = rig.pin_tries_left();
    let refused = run();
    assert_eq!(refused.status.code(), Some(4), "{}", words(&refused));
    assert_eq!(rig.pin_tries_left(), before - 1);
    rig.set_key_field("pin_tries_left", json!(1));
    let refused = run();
    assert_eq!(refused.status.code(), Some(4), "{}", words(&refused));
    assert_eq!(rig.pin_tries_left(), 1);
}

/// The codes of the unit against those of the program: a new one must not restart, either.
#[test]
fn the_unit_restarts_after_no_failure_that_passkeyfs_itself_reports() {
    let unit = include_str!("../../systemd/passkeyfs@.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("RestartPreventExitStatus=")).expect("a line");
    let codes: Vec<u8> = line.split(' ').map(|code| code.parse().expect("a number")).collect();
    let known: Vec<u8> = passkeyfs::cli::messages::exit::Exit::ALL.iter().map(|(exit, _)| exit.code()).collect();
    assert_eq!(codes, known.into_iter().filter(|code| *code != 0).collect::<Vec<_>>());
}

#[test]
fn the_example_configuration_is_one() {
    let rig = Rig::new();
    configure(&rig, include_str!("../../systemd/example.conf"));
    let refused = rig.command().args(["mount", "--config", "backup"]).output().expect("it runs");
    // It is read; the vault that it names is not there.
    assert!(words(&refused).contains("Sync/vault does not exist"), "{}", words(&refused));
}

/// The unit has no environment but the user manager's: what a shell exported is not there.
#[test]
fn a_service_finds_the_software_authenticator_that_its_options_name_in_the_home_directory() {
    let Some(rig) = Rig::where_fuse_works() else { return };
    configure(&rig, "VAULT=~/the vault\nMOUNTPOINT=~/mount\nOPTIONS=authenticator=software:~/key.json\n");
    let mut command = rig.command();
    command.args(["mount", "--foreground", "--config", "backup"]).env_remove("PASSKEYFS_AUTHENTICATOR");
    let mut service = Running::mounted(&rig, &mut command);
    service.signal(Signal::SIGTERM);
    let (status, said) = service.finish();
    assert_eq!(status.code(), Some(0), "{said}");
}
