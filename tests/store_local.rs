//! What the local store promises beyond the contract of all stores: modes, links, other things' files, missing disks.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use passkeyfs::store::{FilePath, LocalStore, Store, StoreError};
use tempfile::TempDir;

fn store_in(folder: &TempDir) -> LocalStore {
    fs::create_dir(folder.path().join("vault")).expect("created");
    LocalStore::new(folder.path().join("vault"), folder.path().join("made/state"))
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn put(store: &dyn Store, path: &FilePath, bytes: &[u8]) {
    let mut writer = store.create(path).expect("created");
    writer.append(bytes).expect("appended");
    writer.sync().expect("synced");
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().expect("it is there").permissions().mode() & 0o777
}

#[test]
fn a_vault_folder_that_is_missing_is_not_found_and_not_made() {
    let folder = folder();
    let vault = folder.path().join("unmounted");
    let store = LocalStore::new(vault.clone(), folder.path().join("state"));
    put(&store, &FilePath::state("staging/a"), b"content");
    let results = [
        store.create(&FilePath::vault("a")).map(drop),
        store.create(&FilePath::vault("a/b")).map(drop),
        store.open(&FilePath::vault("a")).map(drop),
        store.rename(&FilePath::state("staging/a"), &FilePath::vault("keys/a")),
        store.list(&FilePath::vault("")).map(drop),
        store.list(&FilePath::vault("keys")).map(drop),
        store.space(passkeyfs::store::Area::Vault).map(drop),
    ];
    for result in results {
        assert!(result.expect_err("no vault").is_not_found());
    }
    assert!(!vault.exists());
    assert_eq!(store.list(&FilePath::state("staging")).expect("listed").len(), 1, "the source stays");
}

#[test]
fn another_folder_under_the_vaults_name_is_not_written_to() {
    let folder = folder();
    let (vault, unplugged) = (folder.path().join("vault"), folder.path().join("unplugged"));
    let store = store_in(&folder);
    put(&store, &FilePath::vault("devices/a"), b"content");
    put(&store, &FilePath::state("staging/b"), b"content");
    fs::rename(&vault, &unplugged).expect("renamed");
    fs::create_dir(&vault).expect("an empty mount point");
    let results = [
        store.create(&FilePath::vault("b")).map(drop),
        store.rename(&FilePath::state("staging/b"), &FilePath::vault("devices/b")),
        store.sync_name(&FilePath::vault("devices/a")),
        store.list(&FilePath::vault("devices")).map(drop),
        store.space(passkeyfs::store::Area::Vault).map(drop),
    ];
    for result in results {
        let error = format!("{:?}", result.expect_err("refused"));
        assert!(error.contains("another folder lies under its name now"), "{error}");
    }
    assert_eq!(fs::read_dir(&vault).expect("listed").count(), 0);
    fs::remove_dir(&vault).and_then(|()| fs::rename(&unplugged, &vault)).expect("plugged in again");
    store.rename(&FilePath::state("staging/b"), &FilePath::vault("devices/b")).expect("renamed");
}

#[test]
fn the_state_belongs_to_the_user_alone_and_the_vault_follows_the_umask() {
    let folder = folder();
    let store = store_in(&folder);
    put(&store, &FilePath::state("staging/a"), b"");
    put(&store, &FilePath::vault("direct"), b"");
    fs::write(folder.path().join("umask"), "").expect("written");
    let usual = mode(&folder.path().join("umask"));
    let state = folder.path().join("made/state");
    for path in [folder.path().join("made"), state.clone(), state.join("staging")] {
        assert_eq!(mode(&path), 0o700, "{}", path.display());
    }
    assert_eq!(mode(&state.join("staging/a")), 0o600);
    store.rename(&FilePath::state("staging/a"), &FilePath::vault("keys/a")).expect("renamed");
    assert_eq!(mode(&folder.path().join("vault/keys/a")), usual);
    assert_eq!(mode(&folder.path().join("vault/direct")), usual);
}

#[test]
fn an_error_tells_where_on_the_disk() {
    let folder = folder();
    let store = store_in(&folder);
    let error = store.open(&FilePath::vault("keys/a")).err().expect("not there");
    let on_disk = folder.path().join("vault/keys/a");
    assert_eq!(error.to_string(), format!("{}: not found", on_disk.display()));
}

#[test]
fn what_is_neither_file_nor_folder_is_left_out_and_not_read() {
    let folder = folder();
    let store = store_in(&folder);
    let vault = folder.path().join("vault");
    fs::write(folder.path().join("secret"), "of the user").expect("written");
    symlink(folder.path().join("secret"), vault.join("link")).expect("linked");
    let _socket = UnixListener::bind(vault.join("socket")).expect("bound");
    nix::unistd::mkfifo(&vault.join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("made");
    fs::write(vault.join(std::ffi::OsStr::from_bytes(b"not \xff UTF-8")), "").expect("written");
    put(&store, &FilePath::vault("file"), b"1");
    let listing = store.list(&FilePath::vault("")).expect("listed");
    assert_eq!(listing.iter().map(|entry| &entry.name[..]).collect::<Vec<_>>(), ["file"]);
    for name in ["link", "socket", "fifo"] {
        let error = store.open(&FilePath::vault(name)).err().expect("refused");
        assert!(matches!(error, StoreError::OtherKind { .. }), "{error}");
        let error = store.create(&FilePath::vault(name)).err().expect("something is there");
        assert!(error.is_already_exists(), "{error}");
    }
}

#[test]
fn a_dangling_link_is_not_replaced_or_written_through() {
    let folder = folder();
    let store = store_in(&folder);
    let (vault, elsewhere) = (folder.path().join("vault"), folder.path().join("elsewhere"));
    symlink(&elsewhere, vault.join("a")).expect("linked");
    put(&store, &FilePath::state("a"), b"content");
    assert!(store.create(&FilePath::vault("a")).err().expect("a link is there").is_already_exists());
    let error = store.rename(&FilePath::state("a"), &FilePath::vault("a")).expect_err("a link is there");
    assert!(error.is_already_exists(), "{error}");
    assert!(!elsewhere.exists());
}

#[test]
fn the_vault_folder_may_be_a_symlink() {
    let folder = folder();
    fs::create_dir(folder.path().join("real")).expect("created");
    symlink(folder.path().join("real"), folder.path().join("vault")).expect("linked");
    let store = LocalStore::new(folder.path().join("vault"), folder.path().join("state"));
    put(&store, &FilePath::vault("keys/a"), b"content");
    assert_eq!(store.list(&FilePath::vault("keys")).expect("listed")[0].bytes, 7);
    assert!(folder.path().join("real/keys/a").exists());
}

#[test]
fn a_folder_that_may_not_be_read_is_permission_denied() {
    let folder = folder();
    let store = store_in(&folder);
    put(&store, &FilePath::vault("keys/a"), b"content");
    let keys = folder.path().join("vault/keys");
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o000)).expect("changed");
    // Root may read it nevertheless.
    let is_root = folder.path().metadata().expect("it is there").uid() == 0;
    match store.list(&FilePath::vault("keys")) {
        Err(error) => assert!(matches!(error, StoreError::PermissionDenied { .. }), "{error}"),
        Ok(_) => assert!(is_root),
    }
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o700)).expect("changed");
}

#[test]
fn a_folder_that_a_sync_client_removed_is_made_again() {
    let folder = folder();
    let store = store_in(&folder);
    for name in ["keys/b/a", "keys/b/c"] {
        put(&store, &FilePath::vault(name), b"content");
        fs::remove_dir_all(folder.path().join("vault/keys")).expect("removed");
    }
    put(&store, &FilePath::state("a"), b"content");
    store.rename(&FilePath::state("a"), &FilePath::vault("keys/b/d")).expect("renamed");
    assert!(folder.path().join("vault/keys/b/d").exists());
}

#[test]
fn what_root_makes_in_another_user_s_folders_is_that_user_s() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("not tested: this is not root");
    }
    let folder = folder();
    let store = store_in(&folder);
    let (vault, home) = (folder.path().join("vault"), folder.path().join("made"));
    fs::create_dir(&home).expect("created");
    for (place, user) in [(&vault, 1234), (&home, 5678)] {
        std::os::unix::fs::chown(place, Some(user), Some(user)).expect("given away");
    }
    put(&store, &FilePath::state("journal/a"), b"content");
    let store: &dyn Store = &store;
    store.put_whole(&FilePath::vault("keys/b"), b"content").expect("put");
    store.put_whole(&FilePath::state("device.json"), b"content").expect("put");
    let owner = |path: &Path| path.symlink_metadata().map(|metadata| (metadata.uid(), metadata.gid())).expect("there");
    for name in ["state", "state/journal", "state/journal/a", "state/device.json"] {
        assert_eq!(owner(&home.join(name)), (5678, 5678), "{name}");
    }
    for name in ["keys", "keys/b"] {
        assert_eq!(owner(&vault.join(name)), (1234, 1234), "{name}");
    }
}

#[test]
fn no_link_below_the_vault_folder_is_followed_for_reading_or_for_writing() {
    let folder = folder();
    let store = store_in(&folder);
    let (vault, elsewhere) = (folder.path().join("vault"), folder.path().join("elsewhere"));
    fs::create_dir_all(elsewhere.join("inner")).expect("created");
    fs::write(elsewhere.join("inner/a"), "content").expect("written");
    fs::create_dir(vault.join("devices")).expect("created");
    symlink(&elsewhere, vault.join("keys")).expect("linked");
    symlink(elsewhere.join("inner"), vault.join("devices/d")).expect("linked");
    put(&store, &FilePath::state("new"), b"content");
    for (in_folder, file) in [("keys", "keys/inner/a"), ("devices/d", "devices/d/a")] {
        let listed = store.list(&FilePath::vault(in_folder)).expect_err("a link");
        let opened = store.open(&FilePath::vault(file)).err().expect("behind a link");
        let created = store.create(&FilePath::vault(format!("{file}-new"))).err().expect("behind a link");
        let renamed =
            store.rename(&FilePath::state("new"), &FilePath::vault(format!("{file}-new"))).expect_err("behind");
        let removed = store.remove(&FilePath::vault(file)).expect_err("behind a link");
        for error in [listed, opened, created, renamed, removed] {
            assert!(matches!(error, StoreError::OtherKind { .. }), "{error}");
            assert!(error.to_string().contains(in_folder) && error.to_string().contains("a link"), "{error}");
        }
    }
    assert_eq!(fs::read_dir(elsewhere.join("inner")).expect("listed").count(), 1);
    store.remove(&FilePath::vault("keys")).expect("the link itself can be removed");
    assert!(elsewhere.join("inner/a").exists());
}

#[test]
fn a_state_folder_that_has_gone_is_not_made_again() {
    let folder = folder();
    let store = store_in(&folder);
    put(&store, &FilePath::state("journal/a"), b"content");
    fs::remove_dir_all(folder.path().join("made/state")).expect("removed");
    assert!(store.create(&FilePath::state("journal/b")).err().expect("gone").is_not_found());
    assert!(!folder.path().join("made/state").exists());
}

#[test]
fn a_sync_of_a_state_file_that_is_not_under_its_name_any_more_fails() {
    let folder = folder();
    let store = store_in(&folder);
    let path = FilePath::state("journal/a");
    for replace in [false, true] {
        let mut writer = store.create(&path).expect("created");
        writer.append(b"first").expect("appended");
        writer.sync().expect("synced");
        fs::remove_file(folder.path().join("made/state/journal/a")).expect("removed");
        if replace {
            fs::write(folder.path().join("made/state/journal/a"), "another").expect("written");
        }
        writer.append(b"second").expect("appended");
        assert!(writer.sync().is_err());
        assert!(matches!(writer.append(b"third").expect_err("closed"), StoreError::Poisoned { .. }));
        store.remove(&path).expect("removed");
    }
}
