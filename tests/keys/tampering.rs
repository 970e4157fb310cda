//! What whoever runs the cloud does to `vault.json` and `keys/`: it is reported by name, opens nothing wrongly, and costs
//! nobody access that this device's copies, the tree or the recovery code do not bring back.
//!
//! Fields are found by looking into the files, so that a new one is covered by itself.

use base64ct::{Base64, Encoding as _};
use passkeyfs::format::{EpochKeyFile, FormatError, SlotFile, VaultFile};
use passkeyfs::store::{FilePath, MemoryStore};
use passkeyfs::unlock::{RecoveryCode, SlotState, UnlockError, VaultFileError, list_slots};
use serde_json::{Value, json};

use crate::outcomes::newer;
use crate::rig::{Folder, Rig, Shut, folder_of, key_files, read, replace, write};

/// A vault with two keys and a recovery code.
struct Scene {
    rig: Rig,
    disk: MemoryStore,
    code: RecoveryCode,
}

fn scene() -> Scene {
    let (rig, disk) = Rig::with_vault();
    let volume = rig.open(&disk, "one").expect("open");
    rig.add(&disk, &volume, "two");
    let (code, _) = rig.add_recovery(&disk, &volume);
    write(&volume, "a", b"content");
    volume.close().expect("closed");
    Scene { rig, disk, code }
}

/// What was done to the folder, and in which files it must be named.
struct Tampering {
    what: String,
    files: Vec<(FilePath, Option<Vec<u8>>)>,
}

impl Tampering {
    fn of(what: String, path: &FilePath, bytes: Option<Vec<u8>>) -> Self {
        Self { what, files: vec![(path.clone(), bytes)] }
    }

    fn calls_the_vault_newer(&self) -> bool {
        let newer = |bytes: &[u8]| VaultFile::decode(bytes).is_err_and(|error| error.is_newer());
        self.files.iter().any(|(path, bytes)| path.name == "vault.json" && bytes.as_deref().is_some_and(newer))
    }

    /// What should lie in the folder once this was mended: a file that says it is of a newer format stays.
    fn mended(&self, true_files: &Folder) -> Folder {
        let newer = |path: &FilePath, bytes: &[u8]| match path.name.ends_with(".key") {
            true => matches!(EpochKeyFile::decode(bytes), Err(FormatError::Newer { .. })),
            false => SlotFile::decode(bytes).is_err_and(|error| error.is_newer()),
        };
        let mut files = true_files.clone();
        for (path, bytes) in &self.files {
            let kept = bytes.as_ref().filter(|bytes| path.name.starts_with("keys/") && newer(path, bytes));
            files.extend(kept.map(|bytes| (path.clone(), bytes.clone())));
        }
        files
    }

    fn apply(&self, disk: &MemoryStore) {
        for (path, bytes) in &self.files {
            disk.withdraw(path);
            bytes.iter().for_each(|bytes| disk.deliver(path, bytes));
        }
    }
}

impl Scene {
    /// Checks one tampering: with this device's state, and on a device that is new to the vault.
    fn judge(&self, tampering: &Tampering) {
        let what = &tampering.what;
        let mended_files = tampering.mended(&key_files(&self.disk));
        let is_all_mended = mended_files == key_files(&self.disk);
        // This device: every key opens, the file is named, and is what it was.
        let disk = self.disk.fork();
        tampering.apply(&disk);
        if tampering.calls_the_vault_newer() {
            return self.expect_newer(&disk, what);
        }
        let volume = self.rig.open(&disk, "one").unwrap_or_else(|shut| panic!("{what}: {shut:?}"));
        assert_eq!(read(&volume, "a").as_deref(), Some(&b"content"[..]), "{what}");
        let warnings = volume.status().warnings;
        for (path, _) in &tampering.files {
            assert!(warnings.iter().any(|text| text.contains(&path.name)), "{what}: not named in {warnings:?}");
        }
        drop(volume);
        assert!(key_files(&disk) == mended_files, "{what}: not mended");
        let warnings = self.rig.open(&disk, "two").expect("mended").status().warnings;
        assert_eq!(warnings.is_empty(), is_all_mended, "{what}: {warnings:?}");

        // A new device: opened rightly or not at all, and some way in mends it for all the others.
        let fresh = self.rig.new_device(&folder_of(&self.disk));
        tampering.apply(&fresh);
        let opens: Vec<bool> =
            ["one", "two"].iter().map(|name| self.opens_rightly(&fresh.fork(), name, what)).collect();
        let recovered = self.rig.recover(&fresh.fork(), &self.code);
        assert!(opens.contains(&true) || recovered.is_ok(), "{what}: nothing opens: {:?}", recovered.err());
        let mended = fresh.fork();
        if let Ok(volume) = self.rig.recover(&mended, &self.code) {
            drop(volume);
        } else {
            let name = if opens[0] { "one" } else { "two" };
            drop(self.rig.open(&mended, name).expect("it did before"));
        }
        assert!(key_files(&mended) == mended_files, "{what}: not mended on a new device");
        assert!(self.opens_rightly(&mended, "one", what) && self.opens_rightly(&mended, "two", what), "{what}");
    }

    /// A `vault.json` that says it is of a newer format: this device opens with its copy, names the file and leaves it; a
    /// new device believes it, writes nothing, and opens once the file is put back or deleted.
    fn expect_newer(&self, disk: &MemoryStore, what: &str) {
        let (before, path) = (folder_of(disk), FilePath::vault("vault.json"));
        let fresh = self.rig.new_device(&before);
        match self.rig.open(&fresh, "one") {
            Err(Shut::Unlock(UnlockError::VaultFile(VaultFileError::NewerFormat { .. }))) => {}
            Err(shut) => panic!("{what}: {shut:?}"),
            Ok(_) => panic!("{what}: opened"),
        }
        assert!(folder_of(&fresh) == before, "{what}: written");
        let deleted = fresh.fork();
        deleted.withdraw(&path);
        assert!(self.opens_rightly(&deleted, "one", what), "{what}: deleted");
        replace(&fresh, &path, &key_files(&self.disk)[&path]);
        assert!(self.opens_rightly(&fresh, "two", what), "{what}: put back");

        let volume = self.rig.open(disk, "one").unwrap_or_else(|shut| panic!("{what}: {shut:?}"));
        assert_eq!(read(&volume, "a").as_deref(), Some(&b"content"[..]), "{what}");
        let warnings = volume.status().warnings;
        assert!(warnings.iter().any(|text| text.contains("vault.json")), "{what}: not named in {warnings:?}");
        drop(volume);
        assert!(folder_of(disk)[&path] == before[&path], "{what}: not left as it is");
    }

    fn opens_rightly(&self, disk: &MemoryStore, name: &str, what: &str) -> bool {
        match self.rig.open(disk, name) {
            Ok(volume) => {
                assert_eq!(read(&volume, "a").as_deref(), Some(&b"content"[..]), "{what}: {name}");
                true
            }
            Err(_) => false,
        }
    }
}

/// Every way to change one field of a JSON value: each leaf changed, each member left out, one added.
fn changes(value: &Value, at: &str, found: &mut Vec<(String, Value)>) {
    let mut push = |name: String, changed: Value| found.push((name, changed));
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let mut inner = Vec::new();
                changes(field, &format!("{at}.{name}"), &mut inner);
                for (place, changed) in inner {
                    let mut whole = fields.clone();
                    whole.insert(name.clone(), changed);
                    push(place, Value::Object(whole));
                }
                let mut without = fields.clone();
                without.remove(name);
                push(format!("{at}.{name} left out"), Value::Object(without));
            }
            let mut with = fields.clone();
            with.insert("colour".to_owned(), json!(1));
            push(format!("{at} with a field more"), Value::Object(with));
        }
        Value::Array(items) => {
            let mut more = items.clone();
            more.push(json!("tape"));
            push(format!("{at} longer"), Value::Array(more));
        }
        Value::String(text) => {
            push(format!("{at} empty"), json!(""));
            match Base64::decode_vec(text) {
                Ok(bytes) if !bytes.is_empty() => {
                    for index in [0, bytes.len() / 2, bytes.len() - 1] {
                        let mut other = bytes.clone();
                        other[index] ^= 4;
                        push(format!("{at} byte {index}"), json!(Base64::encode_string(&other)));
                    }
                    push(format!("{at} shorter"), json!(Base64::encode_string(&bytes[1..])));
                    // What is JSON inside has fields of its own.
                    if let Ok(inside) = serde_json::from_slice::<Value>(&bytes) {
                        let mut inner = Vec::new();
                        changes(&inside, &format!("{at}:"), &mut inner);
                        for (place, changed) in inner {
                            push(place, json!(Base64::encode_string(changed.to_string().as_bytes())));
                        }
                    }
                }
                _ => {
                    let flipped: String = text.chars().map(|one| if one == '0' { '1' } else { '0' }).collect();
                    push(format!("{at} other"), json!(flipped));
                }
            }
        }
        Value::Number(number) => {
            push(format!("{at} zero"), json!(0));
            push(format!("{at} more"), json!(number.as_u64().unwrap_or(0) * 2 + 1));
        }
        Value::Bool(truth) => push(format!("{at} other"), json!(!truth)),
        Value::Null => push(format!("{at} other"), json!(1)),
    }
}

/// Every change of one file.
fn tamperings(path: &FilePath, bytes: &[u8]) -> Vec<Tampering> {
    let mut list = vec![
        Tampering::of(format!("{path} deleted"), path, None),
        Tampering::of(format!("{path} empty"), path, Some(Vec::new())),
        Tampering::of(format!("{path} cut in half"), path, Some(bytes[..bytes.len() / 2].to_vec())),
        Tampering::of(format!("{path} longer"), path, Some([bytes, b" x"].concat())),
        Tampering::of(format!("{path} huge"), path, Some(vec![b' '; 100_000])),
        Tampering::of(format!("{path} not text"), path, Some(vec![0xff; 300])),
    ];
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) => {
            let mut found = Vec::new();
            changes(&value, "", &mut found);
            for (place, changed) in found {
                let bytes = changed.to_string().into_bytes();
                list.push(Tampering::of(format!("{path}{place}"), path, Some(bytes)));
            }
        }
        Err(_) => {
            for index in 0..bytes.len() {
                let mut changed = bytes.to_vec();
                changed[index] ^= 1;
                list.push(Tampering::of(format!("{path} byte {index}"), path, Some(changed)));
            }
        }
    }
    list
}

#[test]
fn whatever_is_done_to_one_file_is_named_and_mended() {
    let scene = scene();
    let mut count = 0;
    for (path, bytes) in key_files(&scene.disk) {
        let all = tamperings(&path, &bytes);
        // Of a key file each byte is alike: some of them will do here, all of them in `unlock/tampering.rs`.
        let step = if path.name.ends_with(".key") { 13 } else { 1 };
        for tampering in all.iter().step_by(step) {
            count += 1;
            scene.judge(tampering);
        }
    }
    assert!(count > 150, "{count} ways");
}

#[test]
fn two_slot_files_that_were_exchanged_are_named_and_put_back() {
    let scene = scene();
    let files: Vec<_> = key_files(&scene.disk).into_iter().collect();
    for suffix in [".json", ".key"] {
        let of_keys = |path: &FilePath| path.name.starts_with("keys/") && path.name.ends_with(suffix);
        let these: Vec<_> = files.iter().filter(|(path, _)| of_keys(path)).collect();
        for (index, (first, bytes)) in these.iter().enumerate() {
            let (second, other) = these[(index + 1) % these.len()];
            let files = vec![(first.clone(), Some(other.clone())), (second.clone(), Some(bytes.clone()))];
            scene.judge(&Tampering { what: format!("{first} and {second} exchanged"), files });
        }
    }
}

#[test]
fn the_vault_file_of_another_vault_is_named_and_put_back() {
    let scene = scene();
    let (_, other) = Rig::with_vault_of(6);
    let path = FilePath::vault("vault.json");
    let theirs = folder_of(&other)[&path].clone();
    scene.judge(&Tampering::of("another vault's".to_owned(), &path, Some(theirs)));
}

#[test]
fn a_slot_file_of_an_earlier_try_is_named_and_put_right() {
    // A slot's file is written once, so no older state of it exists; one of the same slot with other keys is the nearest.
    let scene = scene();
    let path = slot_file_of(&scene.disk);
    let mut value: Value = serde_json::from_slice(&key_files(&scene.disk)[&path]).expect("JSON");
    value["wrapped"] = json!(Base64::encode_string(&[7; 40]));
    scene.judge(&Tampering::of(format!("{path} of an earlier try"), &path, Some(value.to_string().into_bytes())));
}

fn slot_file_of(disk: &MemoryStore) -> FilePath {
    key_files(disk)
        .into_keys()
        .find(|path| path.name.starts_with("keys/") && path.name.ends_with(".json"))
        .expect("one")
}

#[test]
fn a_stranger_s_slot_opens_nothing_and_is_named() {
    let scene = scene();
    let (stranger, theirs) = Rig::with_vault_of(6);
    // A whole slot of his own, for his own authenticator: made for our vault.json, with a vault key that he chose.
    let volume = stranger.open(&theirs, "one").expect("his vault");
    let record = {
        let disk = scene.rig.new_device(&folder_of(&scene.disk));
        stranger.new_slot(&disk, &volume, "stranger")
    };
    let slot = record.slot;
    let epoch = volume.current_epoch();
    let vault = passkeyfs::unlock::read_vault_file(&scene.disk).expect("ours").vault();
    let key = passkeyfs::unlock::seal_epoch_key(vault, &record, &epoch).encode();
    let json_path = FilePath::vault(format!("keys/{slot}.json"));
    scene.disk.deliver(&json_path, &record.slot_file);
    scene.disk.deliver(&FilePath::vault(format!("keys/{slot}-{}.key", epoch.epoch)), &key);

    let listed = list_slots(&scene.disk).expect("a list");
    assert_eq!(listed.iter().find(|one| one.slot == slot).expect("listed").state, SlotState::Stranger);
    for disk in [scene.disk.fork(), scene.rig.new_device(&folder_of(&scene.disk))] {
        let volume = scene.rig.open(&disk, "one").expect("open");
        let warnings = volume.status().warnings;
        assert!(warnings.iter().any(|text| text.contains(&slot.to_string())), "{warnings:?}");
        drop(volume);
        // His key unlocks his own slot, and nothing in the folder is under his vault key.
        assert!(matches!(stranger.open(&disk, "stranger"), Err(Shut::Open(_))));
    }
}

#[test]
fn newer_versions_are_called_newer_and_cost_nothing_here() {
    let scene = scene();
    for (path, bytes) in key_files(&scene.disk) {
        let newer = newer(&bytes);
        let disk = scene.disk.fork();
        replace(&disk, &path, &newer);
        if path.name == "vault.json" {
            scene.expect_newer(&disk, "vault.json");
            continue;
        }
        let volume = scene.rig.open(&disk, "one").expect("open");
        assert!(volume.status().warnings.iter().any(|text| text.contains(&path.name)), "{path}");
        drop(volume);
        // Whoever wrote it may have more to bring: it is not put back to what this version knows.
        assert!(key_files(&disk)[&path] == newer, "{path}");
        assert!(scene.opens_rightly(&disk, "two", &path.name), "{path}");
    }
}

#[test]
fn a_crowd_of_files_in_keys_is_one_notice_and_keeps_nobody_out() {
    let scene = scene();
    let slot_file = key_files(&scene.disk)[&slot_file_of(&scene.disk)].clone();
    let mut long = slot_file;
    long.resize(60_000, b' ');
    // Half of them sort before every true one.
    for number in 0..2000_u64 {
        let id = if number % 2 == 0 { number } else { u64::MAX - number };
        scene.disk.deliver(&FilePath::vault(format!("keys/{id:016x}.json")), &long);
        scene.disk.deliver(&FilePath::vault(format!("keys/{id:016x}-{id:032x}.key")), &long[..200]);
    }
    for name in ["one", "two"] {
        let disk = scene.disk.fork();
        let volume = scene.rig.open(&disk, name).expect("open");
        assert_eq!(read(&volume, "a").as_deref(), Some(&b"content"[..]));
        let warnings = volume.status().warnings;
        assert!(warnings.iter().any(|text| text.contains("crowded")) && warnings.len() < 50, "{}", warnings.len());
    }
    let listed = list_slots(&scene.disk).expect("a list");
    assert!(listed.len() < 300, "{}", listed.len());
    assert_eq!(listed.iter().filter(|slot| slot.state == SlotState::Valid).count(), 3);
}
