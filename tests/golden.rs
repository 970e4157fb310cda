//! What was written once is read for ever: the bytes of every structure, and a whole vault of each format version.
//!
//! - `golden/layout.txt` holds a sample of every on-disk structure in hex. It differs when a byte of a structure moves.
//! - `golden/v<N>/` is an encrypted vault of format version N, with the software authenticator that unlocks it (no PIN)
//!   and `manifest.txt`, which says what must be found in it. It is opened for real, on a disk, by a device that is new to
//!   it. A format version without such a vault fails the test.
//!
//! `PASSKEYFS_WRITE_GOLDEN=1 cargo test --test golden` writes both anew, for the present version. **Do that only before a
//! version is released, or for a new version**: a vault of a released version is never written again, for it stands for
//! those that people have.

#[path = "golden_support/contents.rs"]
mod contents;
#[path = "decoders/samples.rs"]
mod samples;
mod support;
#[path = "golden_support/walk.rs"]
mod walk;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use passkeyfs::crypto::SeededRandomness;
use passkeyfs::format::{FORMAT_VERSION, VaultId, VaultParameters};
use passkeyfs::store::{LocalStore, SimulatedClock};
use passkeyfs::unlock::enroll::{NewSlot, NewVault};
use passkeyfs::unlock::software_file::SoftwareFile;
use passkeyfs::unlock::{Authenticator, ScriptedInteraction, SoftwareAuthenticator, create_vault, unlock_vault};
use passkeyfs::volume::{Environment, OpenKeys, UsedSlot, Volume, VolumeOptions};

/// The golden vaults together stay below this.
const VAULT_BYTES_MAX: u64 = 200_000;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn is_writing() -> bool {
    std::env::var_os("PASSKEYFS_WRITE_GOLDEN").is_some_and(|value| value == "1")
}

fn read_text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The first line in which two texts differ: whole texts say too much.
fn first_difference(found: &str, wanted: &str) -> Option<String> {
    let (mut found, mut wanted) = (found.lines(), wanted.lines());
    for number in 1.. {
        match (found.next(), wanted.next()) {
            (None, None) => return None,
            (found, wanted) if found == wanted => {}
            (found, wanted) => return Some(format!("line {number}: found {found:?} instead of {wanted:?}")),
        }
    }
    None
}

/// 32 bytes a line; lines that repeat the one before are left out, as hexdump does.
fn hex_lines(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut before: &[u8] = &[];
    for (number, line) in bytes.chunks(32).enumerate() {
        if line != before {
            let hex: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(text, "{:5} {hex}", number * 32).expect("memory");
        }
        before = line;
    }
    writeln!(text, "{:5}", bytes.len()).expect("memory");
    text
}

#[test]
fn every_structure_is_encoded_as_ever() {
    // What another library or the kernel lays out, and what is no file of ours, is not here.
    let foreign = ["compressed block", "access control list", "authenticator data", "signature", "packets of a device"];
    let pipes = ["request to the helper", "reply of the helper"];
    let texts =
        ["mount options", "size", "authenticator choice", "segment file name", "key file name", "ids", "recovery code"];
    let mut layout =
        String::from("Samples of every on-disk structure: offset, then up to 32 bytes; last the length.\n");
    for (name, bytes) in samples::samples() {
        if foreign.contains(&name) || pipes.contains(&name) || texts.contains(&name) {
            continue;
        }
        let readable = bytes.starts_with(b"{").then(|| String::from_utf8_lossy(&bytes).into_owned());
        let shown = readable.map_or_else(|| hex_lines(&bytes), |text| format!("{}\n", text.trim_end()));
        write!(layout, "\n{name}\n{shown}").expect("memory");
    }
    let path = golden().join("layout.txt");
    if is_writing() {
        std::fs::write(&path, &layout).expect("a folder that can be written");
    }
    let difference = first_difference(&layout, &read_text(&path));
    assert_eq!(difference, None, "a structure changed: that is a new format version (see the head of this test)");
}

/// Everything that a golden vault is drawn from stands still.
fn environment(vault: &Path, state: &Path, seed: u64) -> Environment {
    Environment {
        store: Arc::new(LocalStore::new(vault.to_owned(), state.to_owned())),
        clock: Arc::new(SimulatedClock::new(UNIX_EPOCH + Duration::from_secs(1_800_000_000))),
        randomness: Arc::new(SeededRandomness::new(seed)),
        identity: format!("machine {seed}"),
        device_name: format!("device {seed}"),
    }
}

fn options() -> VolumeOptions {
    VolumeOptions { background: false, ..VolumeOptions::default() }
}

/// Makes a vault with the golden contents: the vault in `folder`, the key in `key_file`.
fn make_vault(folder: &Path, state: &Path, key_file: &Path) {
    let environment = environment(folder, state, 1);
    let randomness = Arc::clone(&environment.randomness);
    SoftwareFile::at(key_file).create_if_missing().expect("a folder that can be written");
    let mut authenticator = SoftwareAuthenticator::open_with(key_file, Arc::clone(&randomness)).expect("just made");
    let id: [u8; 16] = std::array::from_fn(|_| randomness.u64() as u8);
    let parameters = VaultParameters { block_size_bytes: 4096, ..VaultParameters::default() };
    let created = create_vault(
        &*environment.store,
        NewVault { vault: VaultId(id), parameters },
        &NewSlot { label: Some("golden"), ..NewSlot::default() },
        &mut authenticator,
        &ScriptedInteraction::silent(),
        &*randomness,
        &*environment.clock,
    )
    .expect("a new vault");
    let keys = || OpenKeys { vault: created.vault.clone(), epochs: vec![created.epoch.key.duplicate()], slot: None };
    Volume::create(environment.clone(), keys(), created.slots.clone(), support::OWNER).expect("a first commit");
    let volume = Volume::open(environment.clone(), keys(), options()).expect("the vault just made");
    contents::write_first(&volume);
    volume.publish().expect("a disk with room");
    contents::write_second(&volume);
    volume.close().expect("a disk with room");
}

/// Unlocks and opens the vault as a device does that has never seen it.
fn open_vault(folder: &Path, state: &Path, key_file: &Path) -> Arc<Volume> {
    let environment = environment(folder, state, 2);
    let authenticator = SoftwareAuthenticator::open(key_file).expect("the golden authenticator");
    let mut authenticators: Vec<Box<dyn Authenticator>> = vec![Box::new(authenticator)];
    let silent = ScriptedInteraction::silent();
    let unlocked = unlock_vault(&*environment.store, &mut authenticators, &silent, &*environment.randomness)
        .expect("the golden authenticator opens the golden vault");
    let epochs = unlocked.epochs.into_iter().map(|entry| entry.key).collect();
    let slot = Some(UsedSlot { slot: unlocked.slot, public_key: unlocked.slot_public_key });
    let keys = OpenKeys { vault: unlocked.vault, epochs, slot };
    Volume::open(environment, keys, options()).expect("a golden vault opens")
}

fn copy_folder(source: &Path, target: &Path) -> u64 {
    std::fs::create_dir_all(target).expect("a folder that can be written");
    let mut bytes = 0;
    for entry in std::fs::read_dir(source).unwrap_or_else(|error| panic!("{}: {error}", source.display())) {
        let entry = entry.expect("a folder that can be read");
        let target = target.join(entry.file_name());
        if entry.file_type().expect("its type").is_dir() {
            bytes += copy_folder(&entry.path(), &target);
        } else {
            bytes += std::fs::copy(entry.path(), target).expect("room for a copy");
        }
    }
    bytes
}

/// The versions that have a golden vault.
fn versions() -> Vec<u16> {
    let entries = std::fs::read_dir(golden()).expect("the golden folder");
    let names = entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned());
    names.filter_map(|name| name.strip_prefix('v')?.parse().ok()).collect()
}

#[test]
fn golden_vaults_of_all_versions_open_and_hold_what_they_held() {
    let work = tempfile::tempdir().expect("a temporary folder");
    if is_writing() {
        write_golden_vault(&work.path().join("new"));
    }
    let versions = versions();
    assert!(versions.contains(&FORMAT_VERSION), "format version {FORMAT_VERSION} has no golden vault");
    for version in versions {
        let source = golden().join(format!("v{version}"));
        let copy = work.path().join(format!("v{version}"));
        let bytes = copy_folder(&source, &copy);
        assert!(bytes < VAULT_BYTES_MAX, "the golden vault of version {version} has {bytes} bytes");
        let volume = open_vault(&copy.join("vault"), &copy.join("state"), &copy.join("authenticator.json"));
        assert_eq!(volume.status().warnings, Vec::<String>::new());
        let difference = first_difference(&walk::describe(&volume), &read_text(&source.join("manifest.txt")));
        assert_eq!(difference, None, "the vault of version {version} holds something else");
        // It can be written to, and keeps what was there.
        let before = walk::describe(&volume);
        let made =
            volume.make_directory(support::ROOT, b"new", &support::OWNER).expect("a golden vault is not read-only");
        volume.close().expect("a disk with room");
        drop(volume);
        let volume = open_vault(&copy.join("vault"), &copy.join("state"), &copy.join("authenticator.json"));
        assert_eq!(volume.lookup(support::ROOT, b"new").expect("published").inode, made.inode);
        volume.remove_directory(support::ROOT, b"new").expect("an empty directory");
        let after = walk::describe(&volume);
        let but_the_root = |text: &str| text.lines().skip(1).collect::<Vec<_>>().join("\n");
        assert_eq!(first_difference(&but_the_root(&after), &but_the_root(&before)), None);
    }
}

#[test]
fn the_manifest_says_what_the_present_code_writes() {
    let work = tempfile::tempdir().expect("a temporary folder");
    let (folder, state, key) = (work.path().join("vault"), work.path().join("state"), work.path().join("key.json"));
    std::fs::create_dir(&folder).expect("a folder");
    make_vault(&folder, &state, &key);
    let volume = open_vault(&folder, &work.path().join("other state"), &key);
    contents::check(&volume);
    if is_writing() {
        return;
    }
    let manifest = read_text(&golden().join(format!("v{FORMAT_VERSION}/manifest.txt")));
    // Inode numbers hang on how much randomness was drawn before, which is no part of the format.
    let but_inodes = |text: &str| -> String {
        let words = |line: &str| line.split(' ').filter(|word| !is_inode(word)).collect::<Vec<_>>().join(" ");
        text.lines().map(|line| words(line) + "\n").collect()
    };
    assert_eq!(first_difference(&but_inodes(&walk::describe(&volume)), &but_inodes(&manifest)), None);
}

fn is_inode(word: &str) -> bool {
    word.len() == 16 && word.parse::<passkeyfs::format::InodeNumber>().is_ok()
}

fn write_golden_vault(work: &Path) {
    let target = golden().join(format!("v{FORMAT_VERSION}"));
    let _ = std::fs::remove_dir_all(&target);
    std::fs::create_dir_all(work.join("vault")).expect("a folder");
    make_vault(&work.join("vault"), &work.join("state"), &work.join("authenticator.json"));
    copy_folder(&work.join("vault"), &target.join("vault"));
    std::fs::copy(work.join("authenticator.json"), target.join("authenticator.json")).expect("room for a copy");
    let volume = open_vault(&work.join("vault"), &work.join("other state"), &target.join("authenticator.json"));
    std::fs::write(target.join("manifest.txt"), walk::describe(&volume)).expect("room for the manifest");
}
