//! Keys added, removed and replaced while the vault is mounted: the daemon makes the change, for a command that has unlocked
//! the vault with a key that the vault has.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use base64ct::{Base64, Encoding};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::rig::{Rig, Running, words};

/// The second key: a file without a PIN.
fn spare(rig: &Rig) -> String {
    format!("software:{}", rig.path("spare.json").display())
}

fn first(rig: &Rig) -> String {
    format!("software:{}", rig.key().display())
}

fn run(rig: &Rig, arguments: &[&str]) -> Output {
    let (command, rest) = arguments.split_at(2);
    rig.command().args(command).arg(rig.vault()).args(rest).output().expect("it runs")
}

/// Runs a command that must succeed.
fn done(rig: &Rig, arguments: &[&str]) -> String {
    let output = run(rig, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", words(&output));
    words(&output)
}

/// Runs a command that must be refused with this code.
fn refused(rig: &Rig, code: i32, arguments: &[&str]) -> String {
    let output = run(rig, arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", words(&output));
    words(&output)
}

/// The slots in `key list`: id and label.
fn slots(rig: &Rig) -> Vec<(String, Option<String>)> {
    let list: Value = serde_json::from_str(&done(rig, &["key", "list", "--json"])).expect("JSON");
    let text = |slot: &Value, field: &str| slot[field].as_str().map(str::to_owned);
    let rows = list.as_array().expect("rows");
    rows.iter().map(|slot| (text(slot, "slot").expect("an id"), text(slot, "label"))).collect()
}

fn id_of(rig: &Rig, label: Option<&str>) -> String {
    let slots = slots(rig);
    let found = slots.iter().find(|slot| slot.1.as_deref() == label);
    found.unwrap_or_else(|| panic!("{label:?} is not in {slots:?}")).0.clone()
}

/// The files of a slot in `keys/`.
fn files_of(rig: &Rig, slot: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(rig.vault().join("keys")).expect("listed").map(|entry| entry.expect("an entry").path());
    let is_its = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(slot));
    entries.filter(is_its).map(|path| (path.clone(), fs::read(path).expect("read"))).collect()
}

fn unmount(mut mounted: Running) {
    mounted.signal(Signal::SIGTERM);
    let (status, said) = mounted.finish();
    assert_eq!(status.code(), Some(0), "{said}");
}

fn mount(rig: &Rig) -> Running {
    Running::mounted(rig, &mut rig.mount_in_front("publish=3600"))
}

fn add_spare(rig: &Rig) -> String {
    done(rig, &["key", "add", "--authenticator", &spare(rig), "--with", &first(rig), "--label", "spare"])
}

#[test]
fn keys_are_exchanged_under_a_mounted_vault_and_what_was_written_before_and_after_is_there() {
    let Some(rig) = Rig::where_fuse_works() else { return };
    let mounted = mount(&rig);
    fs::write(rig.mount().join("before"), "before").expect("written");
    assert!(add_spare(&rig).contains("unlocks the vault from now on (not hardware)"));
    assert!(refused(&rig, 1, &["key", "add", "--authenticator", &spare(&rig)]).contains("already"));
    fs::write(rig.mount().join("between"), "between").expect("written");
    let (old, new) = (id_of(&rig, None), id_of(&rig, Some("spare")));
    let removed = done(&rig, &["key", "remove", &old[..6], "--rotate", "--authenticator", &spare(&rig)]);
    assert!(removed.contains(&format!("slot {old} unlocks the vault no more")), "{removed}");
    done(&rig, &["key", "rotate", "--authenticator", &spare(&rig)]);
    fs::write(rig.mount().join("after"), "after").expect("written");
    assert_eq!(slots(&rig), [(new.clone(), Some("spare".to_owned()))]);
    assert!(files_of(&rig, &old).is_empty());

    // The same words and codes as without a daemon.
    let last = refused(&rig, 1, &["key", "remove", &new, "--no-rotate", "--authenticator", &spare(&rig)]);
    assert!(last.contains("is the only one that unlocks this vault") && last.contains("passkeyfs key add"), "{last}");
    let nobody = refused(&rig, 1, &["key", "remove", "nobody", "--rotate", "--authenticator", &spare(&rig)]);
    assert!(nobody.contains("no slot of this vault is called \"nobody\""), "{nobody}");
    refused(&rig, 3, &["key", "rotate", "--authenticator", &first(&rig)]);
    unmount(mounted);
    assert_eq!(last, refused(&rig, 1, &["key", "remove", &new, "--no-rotate", "--authenticator", &spare(&rig)]));

    let shut_out = rig.mount_in_front("").output().expect("it runs");
    assert_eq!(shut_out.status.code(), Some(3), "{}", words(&shut_out));
    let mut again = rig.mount_in_front("");
    let mounted = Running::mounted(&rig, again.env("PASSKEYFS_AUTHENTICATOR", spare(&rig)));
    for name in ["before", "between", "after"] {
        assert_eq!(fs::read_to_string(rig.mount().join(name)).expect("read"), name);
    }
    unmount(mounted);
}

#[test]
fn a_removed_key_changes_no_keys_of_a_mounted_vault_though_it_knows_the_vault_key() {
    let Some(rig) = Rig::where_fuse_works() else { return };
    let mounted = mount(&rig);
    add_spare(&rig);
    let spare_slot = id_of(&rig, Some("spare"));
    let files = files_of(&rig, &spare_slot);
    done(&rig, &["key", "remove", "spare", "--no-rotate"]);
    files.iter().for_each(|(path, bytes)| fs::write(path, bytes).expect("brought back"));
    let third = format!("software:{}", rig.path("third.json").display());
    let said = refused(&rig, 3, &["key", "add", "--authenticator", &third, "--with", &spare(&rig)]);
    assert!(said.contains(&format!("slot {spare_slot} unlocks this vault no more: it was removed")), "{said}");
    assert!(!rig.path("third.json").exists(), "what was made for a slot that is none is left");
    refused(&rig, 3, &["key", "remove", &id_of(&rig, None), "--rotate", "--authenticator", &spare(&rig)]);
    refused(&rig, 3, &["key", "rotate", "--authenticator", &spare(&rig)]);
    unmount(mounted);
    let mounted = mount(&rig);
    unmount(mounted);
}

/// Gives a slot file another label, as one who can write to the folder and not unlock can.
fn relabel(path: &Path, label: Option<&str>) {
    let mut file: Value = serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON");
    let public = Base64::decode_vec(file["public"].as_str().expect("text")).expect("base64");
    let mut public: Value = serde_json::from_slice(&public).expect("JSON");
    match label {
        Some(label) => public["label"] = label.into(),
        None => drop(public.as_object_mut().expect("an object").remove("label")),
    }
    file["public"] = Base64::encode_string(public.to_string().as_bytes()).into();
    fs::write(path, file.to_string()).expect("written");
}

#[test]
fn labels_that_the_cloud_exchanged_do_not_make_it_remove_the_other_key() {
    for is_mounted in [true, false] {
        let Some(rig) = Rig::where_fuse_works() else { return };
        let mounted = is_mounted.then(|| mount(&rig));
        add_spare(&rig);
        let (good, stolen) = (id_of(&rig, None), id_of(&rig, Some("spare")));
        let slot_file = |slot: &str| rig.vault().join(format!("keys/{slot}.json"));
        relabel(&slot_file(&good), Some("spare"));
        relabel(&slot_file(&stolen), None);
        assert_eq!(id_of(&rig, Some("spare")), good, "the folder says so, and only the folder");
        let removed = done(&rig, &["key", "remove", "spare", "--rotate"]);
        assert!(removed.contains(&format!("slot {stolen} (spare) unlocks the vault no more")), "{removed}");
        done(&rig, &["key", "test"]);
        refused(&rig, 3, &["key", "test", "--authenticator", &spare(&rig)]);
        mounted.into_iter().for_each(unmount);
    }
}

#[test]
fn a_kit_stays_when_its_slot_is_made_and_other_files_in_keys_cannot_be() {
    for is_mounted in [true, false] {
        let Some(rig) = Rig::where_fuse_works() else { return };
        add_spare(&rig);
        let spare_slot = id_of(&rig, Some("spare"));
        let mounted = is_mounted.then(|| mount(&rig));
        let squatted = rig.vault().join(format!("keys/{spare_slot}.json"));
        fs::remove_file(&squatted).expect("removed");
        fs::create_dir(&squatted).expect("made");
        let kit = rig.path("kit.html");
        let said = done(&rig, &["recovery", "create", "--kit", &kit.display().to_string()]);
        assert!(said.contains("not all files in keys/ follow") && said.contains(&spare_slot), "{said}");
        assert!(kit.exists(), "the kit of a slot that unlocks the vault");
        assert_eq!(files_of(&rig, &slot_in(&said)).len(), 2, "its files are there");
        // A pipe is nothing that must stay.
        fs::remove_dir(&squatted).expect("removed");
        nix::unistd::mkfifo(&squatted, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("made");
        done(&rig, &["key", "rotate"]);
        assert!(squatted.is_file());
        mounted.into_iter().for_each(unmount);
        done(&rig, &["key", "test", "--authenticator", &spare(&rig)]);
    }
}

/// The slot that a command says it made.
fn slot_in(said: &str) -> String {
    let after = said.split("recovery slot ").nth(1).expect("it is said");
    after.split(' ').next().expect("a word").to_owned()
}

#[test]
fn what_was_made_for_a_slot_that_will_never_be_goes_and_for_one_that_may_still_be_stays() {
    let Some(rig) = Rig::where_fuse_works() else { return };
    let kit = rig.path("kit.html");
    let create = ["recovery", "create", "--kit", &kit.display().to_string()];
    let mounted = mount(&rig);
    // No commit can be staged.
    let hurdle = Hurdle::before(&only_folder_in(&rig.path(".local/state/passkeyfs")).join("staging"), &rig);
    let said = refused(&rig, 1, &create);
    assert!(!said.contains("may unlock") && !said.contains("journal"), "{said}");
    refused(&rig, 1, &["key", "add", "--authenticator", &spare(&rig)]);
    assert!(!kit.exists() && !rig.path("spare.json").exists());
    hurdle.clear();
    sync(&rig);

    // The commit is whole, and finds no folder for it.
    let device = only_folder_in(&rig.vault().join("devices"));
    let hurdle = Hurdle::before(&only_folder_in(&device), &rig);
    let said = refused(&rig, 1, &create);
    assert!(said.contains("may unlock the vault now or later") && said.contains("kit.html is kept"), "{said}");
    assert!(kit.exists());
    assert_eq!(slots(&rig).len(), 1);
    hurdle.clear();
    sync(&rig);
    let slot = said.split("passkeyfs: slot ").nth(1).and_then(|rest| rest.split(' ').next()).expect("it is named");
    let listed: Vec<_> = slots(&rig).into_iter().map(|(id, _)| id).collect();
    assert!(listed.len() == 2 && listed.iter().any(|id| id == slot), "{slot} is none of {listed:?}");
    assert_eq!(files_of(&rig, slot).len(), 2);
    unmount(mounted);
}

/// Has the daemon publish.
fn sync(rig: &Rig) {
    let synced = rig.command().arg("sync").arg(rig.mount()).output().expect("it runs");
    assert!(synced.status.success(), "{}", words(&synced));
}

/// A file that stands where a folder was.
struct Hurdle {
    folder: PathBuf,
    aside: PathBuf,
}

impl Hurdle {
    fn before(folder: &Path, rig: &Rig) -> Self {
        let hurdle = Self { folder: folder.to_owned(), aside: rig.path("aside") };
        fs::rename(&hurdle.folder, &hurdle.aside).expect("moved");
        fs::write(&hurdle.folder, "x").expect("written");
        hurdle
    }

    fn clear(self) {
        fs::remove_file(&self.folder).expect("removed");
        fs::rename(&self.aside, &self.folder).expect("moved back");
    }
}

fn only_folder_in(folder: &Path) -> PathBuf {
    let mut entries = fs::read_dir(folder).expect("listed").map(|entry| entry.expect("an entry").path());
    entries.find(|path| path.is_dir()).expect("one folder")
}
