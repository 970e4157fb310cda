//! Nothing secret stays in the daemon's memory, and nothing secret ever is in an argument or environment.
//!
//! As root, who alone may read the memory of a process that has protected itself: every readable page is searched for the
//! PIN, for the recovery code and for the software authenticator's secrets, in the forms in which they could lie there; and
//! so is a core dump that root makes (`gcore`). The vault keys, which a daemon needs, lie on locked pages and nowhere else.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64ct::{Base64, Encoding};
use nix::sys::signal::Signal;
use passkeyfs::crypto::KernelRandomness;
use passkeyfs::store::LocalStore;
use passkeyfs::unlock::recovery_code::GROUPS;
use passkeyfs::unlock::{
    Authenticator, EpochKeyEntry, RecoveryCode, ScriptedInteraction, SoftwareAuthenticator, unlock_vault,
};
use serde_json::json;

use super::rig::{PIN, Rig, Running, words};

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

/// What is found in a core dump of a process, as root makes one; none where there is no `gcore`.
fn found_in_core_dump(rig: &Rig, pid: u32, needles: &[Needle]) -> BTreeSet<String> {
    let made = Command::new("gcore").arg("-o").arg(rig.path("core")).arg(pid.to_string()).output();
    let Ok(made) = made else {
        eprintln!("not tested: there is no gcore here (package gdb)");
        return BTreeSet::new();
    };
    let path = rig.path(&format!("core.{pid}"));
    let core = fs::read(&path).unwrap_or_else(|error| panic!("no core dump: {error}; {}", words(&made)));
    fs::remove_file(&path).expect("removed");
    // What the daemon does hold is found: its memory is in there.
    let control = ("the vault's path".to_owned(), rig.vault().into_os_string().into_vec());
    assert!(!search(&core, &[control]).is_empty(), "{} bytes are no core dump", core.len());
    search(&core, needles).into_iter().map(|what| format!("{what} in the core dump")).collect()
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

/// Where needles are found in a process: on pages that are locked and left out of dumps, and elsewhere.
fn found_by_pages(pid: u32, needles: &[Needle]) -> (BTreeSet<String>, BTreeSet<String>) {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("the process is there");
    let memory = File::open(format!("/proc/{pid}/mem")).expect("root may read it");
    let (mut locked, mut elsewhere) = (BTreeSet::new(), BTreeSet::new());
    let mut range = 0..0;
    for line in smaps.lines() {
        let first = line.split_ascii_whitespace().next().unwrap_or_default();
        if let Some((start, end)) = first.split_once('-') {
            let address = |text: &str| u64::from_str_radix(text, 16).expect("an address");
            range = address(start)..address(end);
        }
        // The last line of a mapping.
        let Some(flags) = line.strip_prefix("VmFlags:") else { continue };
        let mut bytes = vec![0; (range.end - range.start) as usize];
        if memory.read_exact_at(&mut bytes, range.start).is_err() {
            continue;
        }
        let has = |flag| flags.split_ascii_whitespace().any(|other| other == flag);
        let place = if has("lo") && has("dd") { &mut locked } else { &mut elsewhere };
        place.extend(search(&bytes, needles).into_iter().map(str::to_owned));
    }
    (locked, elsewhere)
}

/// The vault keys that the first key opens, as needles: each half by itself.
fn vault_keys(rig: &Rig) -> Vec<Needle> {
    let store = LocalStore::new(rig.vault(), rig.path("no state"));
    let mut key: Vec<Box<dyn Authenticator>> =
        vec![Box::new(SoftwareAuthenticator::open_or_create(&rig.key()).expect("there"))];
    let interaction = ScriptedInteraction::with_pins(&[PIN]);
    let unlocked = unlock_vault(&store, &mut key, &interaction, &KernelRandomness).expect("unlocked");
    let halves = |entry: &EpochKeyEntry| {
        let name = |half| format!("{half} half of the vault key of epoch {}", entry.epoch);
        let (first, second) = entry.key.expose().split_at(16);
        [(name("first"), first.to_vec()), (name("second"), second.to_vec())]
    };
    unlocked.epochs.iter().flat_map(halves).collect()
}

#[test]
fn the_vault_keys_of_all_epochs_lie_on_locked_pages_and_nowhere_else() {
    if !can_read_memory() {
        return;
    }
    let Some(rig) = Rig::where_fuse_works() else { return };
    let is_sheltered = |service: &Running, keys: &[Needle], what: &str| {
        let (locked, elsewhere) = found_by_pages(service.child.id(), keys);
        assert!(elsewhere.is_empty(), "{what}: {elsewhere:#?}");
        assert_eq!(locked.len(), keys.len(), "{what}: {locked:#?}");
    };
    let stop = |mut service: Running| {
        service.signal(Signal::SIGTERM);
        assert_eq!(service.finish().0.code(), Some(0));
    };
    let service = Running::mounted(&rig, &mut rig.mount_in_front(""));
    for round in 0..2 {
        fs::write(rig.mount().join(format!("file {round}")), vec![7; 200_000]).expect("written");
        let rotated = rig.command().args(["key", "rotate"]).arg(rig.vault()).output().expect("it runs");
        assert!(rotated.status.success(), "{}", words(&rotated));
    }
    let keys = vault_keys(&rig);
    assert_eq!(keys.len(), 6, "two epochs that were replaced, and the present one");
    is_sheltered(&service, &keys, "where they were replaced");
    stop(service);
    // The slot's files of the older epochs go: their keys come from the tree.
    let is_old = |name: &str| name.ends_with(".key") && !name.contains(&present_epoch(&rig));
    for entry in fs::read_dir(rig.vault().join("keys")).expect("listed").map(|entry| entry.expect("an entry")) {
        if is_old(&entry.file_name().to_string_lossy()) {
            fs::remove_file(entry.path()).expect("removed");
        }
    }
    fs::remove_dir_all(rig.path(".local")).expect("a device that is new");
    let service = Running::mounted(&rig, &mut rig.mount_in_front(""));
    assert_eq!(fs::read(rig.mount().join("file 0")).expect("read").len(), 200_000);
    is_sheltered(&service, &keys, "where they were read from the tree");
    stop(service);
}

/// The epoch of the newest commit, by the header of the newest file of the only device.
fn present_epoch(rig: &Rig) -> String {
    let mut files = Vec::new();
    let mut folders = vec![rig.vault().join("devices")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("listed").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() { folders.push(entry) } else { files.push(entry) }
        }
    }
    files.sort();
    let newest = fs::read(files.last().expect("a segment")).expect("read");
    newest[32..48].iter().map(|byte| format!("{byte:02x}")).collect()
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
    let mut child = Command::new("/bin/sh");
    let mut child =
        child.args(["-c", "secret=$1; read answer", "sh", &secret]).stdin(Stdio::piped()).spawn().expect("it starts");
    std::thread::sleep(std::time::Duration::from_millis(200));
    let (found, searched) = found_in_memory(child.id(), &[("it".to_owned(), secret.into_bytes())]);
    child.kill().expect("killed");
    child.wait().expect("reaped");
    assert!(!found.is_empty() && searched > 100_000, "{found:?} in {searched} bytes");
}

/// Mounts with a command, uses the mount, and finds nothing: not in the daemon, and in no process's arguments or environment.
fn mounts_and_keeps_nothing(rig: &Rig, command: &mut Command, needles: &[Needle]) {
    let stop = Arc::new(AtomicBool::new(false));
    let watch = std::thread::spawn({
        let (needles, stop) = (needles.to_vec(), stop.clone());
        move || watch_processes(needles, stop)
    });
    let mut service = Running::mounted(rig, command);
    fs::write(rig.mount().join("file"), vec![7; 200_000]).expect("written");
    assert!(fs::read(rig.mount().join("file")).expect("read").len() == 200_000);
    let (mut found, searched) = found_in_memory(service.child.id(), needles);
    found.extend(found_in_core_dump(rig, service.child.id(), needles));
    stop.store(true, Ordering::Relaxed);
    let seen = watch.join().expect("watched");
    service.signal(Signal::SIGTERM);
    assert_eq!(service.finish().0.code(), Some(0));
    assert!(searched > 1_000_000, "{searched} bytes");
    assert!(found.is_empty(), "{found:#?}");
    assert!(seen.is_empty(), "{seen:#?}");
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
    mounts_and_keeps_nothing(&rig, &mut rig.mount_in_front(""), &needles);
    let mut by_askpass = rig.command_under("/usr/bin/setsid", &["--wait"]);
    by_askpass.args(["mount", "-f"]).arg(rig.vault()).arg(rig.mount()).env("PASSKEYFS_ASKPASS", &askpass);
    mounts_and_keeps_nothing(&rig, &mut by_askpass, &needles);
}

#[test]
fn no_recovery_code_is_in_the_memory_of_a_daemon_that_it_unlocked() {
    if !can_read_memory() {
        return;
    }
    let Some(rig) = Rig::where_fuse_works() else { return };
    let kit = rig.path("kit.html");
    let made =
        rig.command().args(["recovery", "create"]).arg(rig.vault()).arg("--kit").arg(&kit).output().expect("it runs");
    assert!(made.status.success(), "{}", words(&made));
    let groups = groups_of(&fs::read_to_string(&kit).expect("a kit"));
    let (text, code) = (groups.join("-"), groups.concat());
    let read = RecoveryCode::parse(&text).expect("a code");
    let mut needles = vec![
        ("half the code with dashes".to_owned(), text.as_bytes()[..text.len() / 2].to_vec()),
        ("the other half with dashes".to_owned(), text.as_bytes()[text.len() / 2..].to_vec()),
        ("half the code without dashes".to_owned(), code.as_bytes()[..code.len() / 2].to_vec()),
        ("the other half without dashes".to_owned(), code.as_bytes()[code.len() / 2..].to_vec()),
    ];
    for (name, bytes) in [("the code's bytes", bits_of(&groups)), ("its secret", read.secret().expose().to_vec())] {
        needles.extend(bytes.chunks(16).map(|half| (format!("half of {name}"), half.to_vec())));
    }
    fs::write(rig.path("code"), text).expect("written");
    let from = |place: &dyn AsRef<std::ffi::OsStr>| {
        let mut command = rig.mount_in_front("");
        command.arg("--recovery-code-file").arg(place);
        command
    };
    mounts_and_keeps_nothing(&rig, &mut from(&rig.path("code")), &needles);
    let input = File::open(rig.path("code")).expect("there");
    mounts_and_keeps_nothing(&rig, from(&"-").stdin(input), &needles);
}

/// The groups of a recovery code, as a kit shows them: numbered, one to a line of a list.
fn groups_of(kit: &str) -> Vec<String> {
    let rows = kit.split("</small> ").skip(1);
    let groups: Vec<String> = rows.map(|row| row.split('<').next().expect("a group").to_owned()).collect();
    assert_eq!(groups.len(), GROUPS, "{groups:?}");
    groups
}

/// The 32 bytes that a code spells: five bits for each of its characters but the last of a group.
fn bits_of(groups: &[String]) -> Vec<u8> {
    let value = |character| "0123456789ABCDEFGHJKMNPQRSTVWXYZ".find(character).expect("a character of a code");
    let bits = groups.iter().flat_map(|group| group.chars().take(4).map(value));
    let bits: Vec<bool> = bits.flat_map(|value| (0..5).rev().map(move |bit| value >> bit & 1 == 1)).collect();
    bits.chunks(8).take(32).map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | u8::from(*bit))).collect()
}
