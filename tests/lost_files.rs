//! `vault.json` and `keys/` lost, altered or exchanged all together, with the real program: a device that knows the vault
//! finds its own copies by the segments, opens with them, and writes the files again.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use base64ct::{Base64, Encoding as _};
use serde_json::Value;
use tempfile::TempDir;

/// A vault with a key, and the state of the device that made it.
struct Scene {
    folder: TempDir,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Scene {
    fn new() -> Self {
        let mut scene = Self { folder: TempDir::new().expect("a temporary folder"), files: BTreeMap::new() };
        let made = scene.run(&["init", "vault", "--authenticator", "software:key", "--no-recovery", "-q"]);
        assert!(made.status.success(), "{made:?}");
        scene.files = scene.key_files();
        scene
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_passkeyfs"));
        command.args(arguments).current_dir(self.folder.path()).env("XDG_STATE_HOME", self.folder.path().join("state"));
        command.env("PASSKEYFS_AUTHENTICATOR", "software:key").output().expect("it runs")
    }

    fn vault(&self) -> PathBuf {
        self.folder.path().join("vault")
    }

    /// `vault.json` and the files of `keys/`.
    fn key_files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let keys =
            fs::read_dir(self.vault().join("keys")).expect("a folder").map(|entry| entry.expect("listed").path());
        let paths = keys.chain([self.vault().join("vault.json")]);
        paths.map(|path| (path.clone(), fs::read(path).expect("readable"))).collect()
    }

    /// What was done to the folder costs this device nothing, and the first command that writes undoes it.
    fn judge(&self, what: &str, is_mended: bool) {
        for command in ["key test", "check", "key list"] {
            let arguments: Vec<_> = command.split(' ').chain(["vault"]).collect();
            let done = self.run(&arguments);
            assert!(done.status.success(), "{what}: {command}: {done:?}");
        }
        let rotated = self.run(&["key", "rotate", "vault"]);
        assert!(rotated.status.success(), "{what}: {rotated:?}");
        let said = String::from_utf8_lossy(&rotated.stderr).into_owned();
        assert!(said.contains("vault.json") || said.contains("keys"), "{what}: {said}");
        if is_mended {
            let files = self.key_files();
            let is_back = |(path, bytes): (&PathBuf, &Vec<u8>)| files.get(path) == Some(bytes);
            // The key files of the epoch before are not needed any more.
            let is_needed = |(path, _): &(&PathBuf, &Vec<u8>)| path.extension().is_some_and(|name| name == "json");
            assert!(self.files.iter().filter(is_needed).all(is_back), "{what}: not written again");
            let quiet = self.run(&["check", "vault"]);
            assert!(quiet.status.success() && quiet.stderr.is_empty(), "{what}: {quiet:?}");
        }
    }
}

fn replace_by_pipe(path: &Path) {
    fs::remove_file(path).expect("removed");
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
}

#[test]
fn a_device_that_knows_the_vault_opens_it_with_both_deleted() {
    let scene = Scene::new();
    fs::remove_file(scene.vault().join("vault.json")).expect("removed");
    fs::remove_dir_all(scene.vault().join("keys")).expect("removed");
    scene.judge("both deleted", true);
}

#[test]
fn another_vault_s_id_in_every_file_leads_nobody_astray() {
    let scene = Scene::new();
    let change = |raw: &[u8]| {
        let mut file: Value = serde_json::from_slice(raw).expect("JSON");
        file["vault"] = "00112233445566778899aabbccddeeff".into();
        file.to_string().into_bytes()
    };
    for (path, raw) in &scene.files {
        if path.file_name().is_some_and(|name| name == "vault.json") {
            fs::write(path, change(raw)).expect("written");
        } else if path.extension().is_some_and(|name| name == "json") {
            let mut file: Value = serde_json::from_slice(raw).expect("JSON");
            let copy = Base64::decode_vec(file["vault"].as_str().expect("text")).expect("base64");
            file["vault"] = Base64::encode_string(&change(&copy)).into();
            fs::write(path, file.to_string()).expect("written");
        }
    }
    scene.judge("another id", true);
    // And a segment of such a vault, by its header.
    let device = scene.vault().join("devices/00000000000000aa/0000000");
    fs::create_dir_all(&device).expect("a folder");
    let mut header = [0; 128];
    header[..8].copy_from_slice(b"PKFSSEG1");
    (header[8], header[10]) = (1, 2);
    header[16..32].copy_from_slice(&[
        0, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff,
    ]);
    fs::write(device.join("0000000001-00000000000000bb.data"), header).expect("written");
    fs::write(scene.vault().join("vault.json"), change(&scene.files[&scene.vault().join("vault.json")]))
        .expect("written");
    scene.judge("another id, and a segment of that vault", true);
}

#[test]
fn the_vault_file_of_another_vault_that_this_device_knows_is_put_right() {
    let scene = Scene::new();
    let made = scene.run(&["init", "other", "--authenticator", "software:other key", "--no-recovery", "-q"]);
    assert!(made.status.success(), "{made:?}");
    fs::copy(scene.folder.path().join("other/vault.json"), scene.vault().join("vault.json")).expect("copied");
    scene.judge("another vault's", true);
}

#[test]
fn what_is_no_file_in_the_place_of_the_vault_file_counts_as_damaged() {
    let scene = Scene::new();
    replace_by_pipe(&scene.vault().join("vault.json"));
    scene.judge("a pipe", true);
    let path = scene.vault().join("vault.json");
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("a folder");
    fs::write(path.join("somebody's"), "file").expect("written");
    scene.judge("a folder", false);
    assert!(path.join("somebody's").exists());
}

#[test]
fn what_is_no_folder_in_the_place_of_the_keys_counts_as_damaged() {
    let scene = Scene::new();
    fs::remove_dir_all(scene.vault().join("keys")).expect("removed");
    fs::write(scene.vault().join("keys"), "not a folder").expect("written");
    scene.judge("a file", true);
}

#[test]
fn links_and_pipes_in_the_place_of_files_of_keys_are_replaced() {
    for end in ["json", "key"] {
        for what in ["a pipe", "a link"] {
            let scene = Scene::new();
            let outside = scene.folder.path().join("outside");
            fs::write(&outside, "mine").expect("written");
            let keys = scene.vault().join("keys");
            let is_meant = |path: &&PathBuf| path.starts_with(&keys) && path.extension() == Some(end.as_ref());
            let path = scene.files.keys().find(is_meant).expect("one of them");
            replace_by_pipe(path);
            if what == "a link" {
                fs::remove_file(path).expect("removed");
                std::os::unix::fs::symlink(&outside, path).expect("a link");
            }
            scene.judge(&format!("{what} for {end}"), true);
            assert!(path.symlink_metadata().is_ok_and(|found| found.is_file()), "{what} for {end}");
            assert_eq!(fs::read(&outside).expect("there"), b"mine");
        }
    }
}

#[test]
fn a_link_out_of_the_folder_is_not_followed() {
    let scene = Scene::new();
    let outside = scene.folder.path().join("outside");
    fs::write(&outside, "mine").expect("written");
    let path = scene.vault().join("vault.json");
    fs::remove_file(&path).expect("removed");
    std::os::unix::fs::symlink(&outside, &path).expect("a link");
    scene.judge("a link", true);
    assert_eq!(fs::read(&outside).expect("there"), b"mine");
}

#[test]
fn a_vault_file_that_says_it_is_newer_is_named_and_left_and_believed_by_new_devices_alone() {
    let scene = Scene::new();
    let path = scene.vault().join("vault.json");
    fs::write(&path, br#"{"format": 2}"#).expect("written");
    for command in ["check", "status", "key list", "key test", "key rotate"] {
        let arguments: Vec<_> = command.split(' ').chain(["vault"]).collect();
        let done = scene.run(&arguments);
        assert!(done.status.success(), "{command}: {done:?}");
        assert!(String::from_utf8_lossy(&done.stderr).contains("vault.json"), "{command}: {done:?}");
    }
    assert_eq!(fs::read(&path).expect("there"), br#"{"format": 2}"#);
    fs::rename(scene.folder.path().join("state"), scene.folder.path().join("put aside")).expect("moved");
    let refused = scene.run(&["key", "test", "vault"]);
    assert_eq!(refused.status.code(), Some(6), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("delete vault.json"), "{refused:?}");
    fs::remove_file(&path).expect("removed");
    let done = scene.run(&["key", "test", "vault"]);
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn devices_that_somebody_adds_do_not_hide_which_vault_a_folder_is() {
    let scene = Scene::new();
    for number in 0..40 {
        let device = scene.vault().join(format!("devices/00000000000000{number:02x}/0000000"));
        fs::create_dir_all(&device).expect("a folder");
        fs::write(device.join("0000000001-00000000000000bb.data"), "no segment").expect("written");
    }
    fs::write(scene.vault().join("vault.json"), "no vault").expect("written");
    fs::remove_dir_all(scene.vault().join("keys")).expect("removed");
    let done = scene.run(&["key", "test", "vault"]);
    assert!(done.status.success(), "{done:?}");
}
