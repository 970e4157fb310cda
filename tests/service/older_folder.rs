//! Key commands on a folder that is older than what this device has seen: refused, with a way on that works as it is said.

use std::fs;
use std::path::Path;
use std::process::Output;

use super::rig::{Rig, words};

fn run(rig: &Rig, arguments: &[&str]) -> Output {
    let (command, rest) = arguments.split_at(2);
    rig.command().args(command).arg(rig.vault()).args(rest).output().expect("it runs")
}

fn done(rig: &Rig, arguments: &[&str]) -> String {
    let output = run(rig, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", words(&output));
    words(&output)
}

fn refused(rig: &Rig, code: i32, arguments: &[&str]) -> String {
    let output = run(rig, arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", words(&output));
    words(&output)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("listed").map(|entry| entry.expect("an entry")) {
        match entry.file_type().expect("known").is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).expect("copied")),
        }
    }
}

#[test]
fn keys_are_changed_in_an_older_folder_when_that_is_accepted_and_a_removed_key_stays_out() {
    let rig = Rig::new();
    let stolen = format!("software:{}", rig.path("stolen.json").display());
    let first = format!("software:{}", rig.key().display());
    done(&rig, &["key", "add", "--authenticator", &stolen, "--with", &first, "--label", "stolen"]);
    copy(&rig.vault(), &rig.path("before"));
    done(&rig, &["key", "remove", "stolen", "--rotate"]);
    fs::remove_dir_all(rig.vault()).expect("removed");
    copy(&rig.path("before"), &rig.vault());

    let kit = rig.path("kit.html").display().to_string();
    let create = ["recovery", "create", "--kit", &kit];
    for command in [&["key", "rotate"][..], &["key", "remove", "stolen", "--rotate"], &create] {
        let said = refused(&rig, 8, command);
        assert!(said.contains("add --accept-rollback") && said.contains("(stolen), which was removed"), "{said}");
    }
    let said = done(&rig, &["key", "rotate", "--accept-rollback"]);
    assert!(said.contains("(stolen), which was removed") && said.contains("the vault key was replaced"), "{said}");
    refused(&rig, 3, &["key", "test", "--authenticator", &stolen]);
    let said = done(&rig, &["key", "list"]);
    assert!(!said.contains("stolen"), "{said}");
    // Nothing is left to be accepted.
    done(&rig, &["key", "rotate"]);
}
