//! Nothing secret stays in the daemon's memory, and nothing secret ever is in an argument or environment.
//!
//! As root, who alone may read the memory of a process that has protected itself: every readable page is searched for the
//! PIN and for the software authenticator's secrets, in the forms in which they could lie there.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64ct::{Base64, Encoding};
use nix::sys::signal::Signal;
use serde_json::json;

use super::rig::{PIN, Rig, Running};

/// A name for a secret, and bytes that must not be found.
type Needle = (String, Vec<u8>);

/// What no page may hold: the PIN, the authenticator's private key, and both secrets of `hmac-secret`.
fn needles(rig: &Rig) -> Vec<Needle> {
    let state: serde_json::Value = serde_json::from_slice(&fs::read(rig.key()).expect("read")).expect("JSON");
    let mut needles = vec![("the PIN".to_owned(), PIN.as_bytes().to_vec())];
    for name in ["private_key", "random_with_verification", "random_without_verification"] {
        let text = state["credentials"][0][name].as_str().expect("text");
        let bytes = Base64::decode_vec(text).expect("base64");
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        needles.push((format!("{name} in base64"), text.trim_end_matches('=').as_bytes().to_vec()));
        needles.push((format!("{name} in hexadecimal"), hex.into_bytes()));
        // Half of it is a find as well: what a cipher or a number leaves behind may be cut.
        needles.push((format!("{name}, first half"), bytes[..16].to_vec()));
        needles.push((format!("{name}, second half"), bytes[16..].to_vec()));
        let reversed: Vec<u8> = bytes.iter().rev().copied().collect();
        needles.push((format!("{name}, as a number of 64-bit digits"), reversed[..16].to_vec()));
    }
    needles
}

/// Which of them are in there: looked for all at once, in one pass.
fn search<'a>(haystack: &[u8], needles: &'a [Needle]) -> BTreeSet<&'a str> {
    let mut by_first_byte: [Vec<&Needle>; 256] = std::array::from_fn(|_| Vec::new());
    needles.iter().for_each(|needle| by_first_byte[usize::from(needle.1[0])].push(needle));
    let mut found = BTreeSet::new();
    for (at, byte) in haystack.iter().enumerate() {
        for (what, needle) in &by_first_byte[usize::from(*byte)] {
            if haystack[at..].starts_with(needle) {
                found.insert(what.as_str());
            }
        }
    }
    found
}

/// What is found in the readable memory of a process, and where; and how many bytes were searched.
fn found_in_memory(pid: u32, needles: &[Needle]) -> (BTreeSet<String>, usize) {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the process is there");
    let memory = File::open(format!("/proc/{pid}/mem")).expect("root may read it");
    let (mut found, mut searched) = (BTreeSet::new(), 0);
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (range, rights) = (fields.next().expect("a range"), fields.next().expect("rights"));
        let name = fields.nth(3).unwrap_or("anonymous");
        let (start, end) = range.split_once('-').expect("two ends");
        let address = |text: &str| u64::from_str_radix(text, 16).expect("an address");
        let mut bytes = vec![0; (address(end) - address(start)) as usize];
        // Special pages ([vvar]) and those that were never touched beyond a file's end cannot be read.
        if !rights.starts_with('r') || memory.read_exact_at(&mut bytes, address(start)).is_err() {
            continue;
        }
        searched += bytes.len();
        found.extend(search(&bytes, needles).into_iter().map(|what| format!("{what} in {name}")));
    }
    (found, searched)
}

/// Looks at the arguments and environments of all processes, over and over, for the PIN and the like.
fn watch_processes(needles: Vec<Needle>, stop: Arc<AtomicBool>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    while !stop.load(Ordering::Relaxed) {
        for entry in fs::read_dir("/proc").expect("processes").flatten() {
            if !entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()) {
                continue;
            }
            for kind in ["cmdline", "environ"] {
                let bytes = fs::read(entry.path().join(kind)).unwrap_or_default();
                let place = entry.path().display().to_string();
                found.extend(search(&bytes, &needles).into_iter().map(|what| format!("{what} in {kind} of {place}")));
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    found
}

fn can_read_memory() -> bool {
    let is_root = nix::unistd::geteuid().is_root();
    if !is_root {
        eprintln!("not tested: only root may read the daemon's memory");
    }
    is_root
}

#[test]
fn the_search_finds_what_is_there() {
    if !can_read_memory() {
        return;
    }
    let secret = format!("a secret that is kept for this test {}", std::process::id());
    let mut child = std::process::Command::new("/bin/sh");
    let mut child =
        child.args(["-c", "secret=$1; read answer", "sh", &secret]).stdin(Stdio::piped()).spawn().expect("it starts");
    std::thread::sleep(std::time::Duration::from_millis(200));
    let (found, searched) = found_in_memory(child.id(), &[("it".to_owned(), secret.into_bytes())]);
    child.kill().expect("killed");
    child.wait().expect("reaped");
    assert!(!found.is_empty() && searched > 100_000, "{found:?} in {searched} bytes");
}

#[test]
fn no_pin_and_no_secret_of_the_authenticator_is_in_the_daemons_memory_arguments_or_environment() {
    if !can_read_memory() {
        return;
    }
    let Some(rig) = Rig::where_fuse_works() else { return };
    rig.set_key_field("touch_delay_ms", json!(500));
    fs::write(rig.path("answer"), PIN).expect("written");
    let askpass = rig.path("askpass");
    fs::write(&askpass, format!("#!/bin/sh\ncat '{}'\n", rig.path("answer").display())).expect("written");
    fs::set_permissions(&askpass, fs::Permissions::from_mode(0o755)).expect("set");
    let needles = needles(&rig);
    for by_credential in [true, false] {
        let stop = Arc::new(AtomicBool::new(false));
        let watch = std::thread::spawn({
            let (needles, stop) = (needles.clone(), stop.clone());
            move || watch_processes(needles, stop)
        });
        let mut command = if by_credential {
            rig.mount_in_front("")
        } else {
            let mut command = rig.command_under("/usr/bin/setsid", &["--wait"]);
            command.args(["mount", "-f"]).arg(rig.vault()).arg(rig.mount()).env("PASSKEYFS_ASKPASS", &askpass);
            command
        };
        let mut service = Running::mounted(&rig, &mut command);
        fs::write(rig.mount().join("file"), vec![7; 200_000]).expect("written");
        assert!(fs::read(rig.mount().join("file")).expect("read").len() == 200_000);
        let (found, searched) = found_in_memory(service.child.id(), &needles);
        stop.store(true, Ordering::Relaxed);
        let seen = watch.join().expect("watched");
        service.signal(Signal::SIGTERM);
        assert_eq!(service.finish().0.code(), Some(0));
        assert!(searched > 1_000_000, "{searched} bytes");
        assert!(found.is_empty(), "by credential: {by_credential}: {found:#?}");
        assert!(seen.is_empty(), "by credential: {by_credential}: {seen:#?}");
    }
}
