//! The contract of a store: each sentence of the trait's documentation as a test against every implementation.
//!
//! What the contract says of crashes is in `store_crashes.rs`, for only a simulated disk can lose power on demand.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use passkeyfs::store::{Area, FaultyStore, FilePath, LocalStore, MemoryStore, Store, StoreError};
use rstest::rstest;
use tempfile::TempDir;

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Both areas on one filesystem.
    Local,
    /// The state folder on another filesystem than the vault folder, where the machine has one.
    LocalAcross,
    Memory,
    /// A faulty store without a plan.
    Faulty,
}

use Kind::*;

struct Fixture {
    store: Arc<dyn Store>,
    /// Vault and state, if they are on the disk.
    folders: Option<(TempDir, TempDir)>,
}

fn fixture(kind: Kind) -> Fixture {
    let near = || tempfile::tempdir().expect("a temporary folder");
    let far = || tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| near());
    let folders = match kind {
        Local => Some((near(), near())),
        LocalAcross => Some((near(), far())),
        Memory | Faulty => None,
    };
    let store: Arc<dyn Store> = match (&folders, kind) {
        (Some((vault, state)), _) => {
            Arc::new(LocalStore::new(vault.path().to_owned(), state.path().join("made/when/needed")))
        }
        (None, Faulty) => Arc::new(FaultyStore::new(Arc::new(MemoryStore::new()))),
        (None, _) => Arc::new(MemoryStore::new()),
    };
    Fixture { store, folders }
}

fn put(store: &dyn Store, path: &FilePath, bytes: &[u8]) {
    let mut writer = store.create(path).expect("created");
    writer.append(bytes).expect("appended");
    writer.sync().expect("synced");
}

fn get(store: &dyn Store, path: &FilePath) -> Vec<u8> {
    store.read_whole(path, 1 << 20).expect("read")
}

fn names(store: &dyn Store, folder: &FilePath) -> Vec<String> {
    store.list(folder).expect("listed").into_iter().map(|entry| entry.name).collect()
}

#[rstest]
fn a_new_file_is_empty_and_its_folders_are_made(
    #[values(Local, LocalAcross, Memory, Faulty)] kind: Kind,
    #[values(Area::Vault, Area::State)] area: Area,
) {
    let Fixture { store, folders: _guard } = fixture(kind);
    let path = FilePath { area, name: "devices/ab/0000000/file".into() };
    let writer = store.create(&path).expect("created");
    assert_eq!(writer.len(), 0);
    assert_eq!(store.open(&path).expect("opened").len().expect("a length"), 0);
    assert_eq!(names(&*store, &FilePath { area, name: "devices/ab".into() }), ["0000000"]);
}

#[rstest]
fn a_file_is_created_only_once(#[values(Local, LocalAcross, Memory, Faulty)] kind: Kind) {
    let Fixture { store, folders: _guard } = fixture(kind);
    for path in [FilePath::vault("folder/file"), FilePath::state("folder/file")] {
        put(&*store, &path, b"first");
        let error = store.create(&path).err().expect("it is there");
        assert!(matches!(&error, StoreError::AlreadyExists { .. }), "{error}");
        assert_eq!(error.path(), &path);
        assert_eq!(get(&*store, &path), b"first");
        let folder = path.folder().expect("its folder");
        assert!(store.create(&folder).err().expect("a folder is there").is_already_exists());
    }
}

#[rstest]
fn a_file_cannot_hold_files(#[values(Local, LocalAcross, Memory, Faulty)] kind: Kind) {
    let Fixture { store, folders: _guard } = fixture(kind);
    put(&*store, &FilePath::vault("file"), b"content");
    for result in [
        store.create(&FilePath::vault("file/below")).map(drop),
        store.list(&FilePath::vault("file")).map(drop),
        store.open(&FilePath::vault("file/below")).map(drop),
        store.remove(&FilePath::vault("file/below")),
        store.rename(&FilePath::vault("file/below"), &FilePath::vault("other")),
        store.rename(&FilePath::vault("file"), &FilePath::vault("file/below")),
    ] {
        let error = result.expect_err("not a folder");
        assert!(matches!(error, StoreError::Io { .. } | StoreError::OtherKind { .. }), "{error}");
    }
    assert_eq!(get(&*store, &FilePath::vault("file")), b"content");
}

#[rstest]
fn what_is_appended_is_read_at_once(#[values(Local, LocalAcross, Memory, Faulty)] kind: Kind) {
    let Fixture { store, folders: _guard } = fixture(kind);
    let path = FilePath::state("journal/000");
    let mut writer = store.create(&path).expect("created");
    let reader = store.open(&path).expect("opened");
    writer.append(b"one").expect("appended");
    writer.append(b"").expect("appended");
    writer.append(b"two").expect("appended");
    assert_eq!((writer.len(), reader.len().expect("a length")), (6, 6));
    let mut buffer = [0; 4];
    reader.read_at(1, &mut buffer).expect("read");
    assert_eq!(&buffer, b"netw");
    writer.sync().expect("synced");
    writer.append(b"three").expect("appended after a sync");
    writer.sync().expect("synced again");
    assert_eq!(get(&*store, &path), b"onetwothree");
}

#[rstest]
fn a_large_append_arrives_whole(#[values(Local, LocalAcross, Memory, Faulty)] kind: Kind) {
    let Fixture { store, folders: _guard } = fixture(kind);
    let path = FilePath::vault("large");
    let content: Vec<u8> = (0..3_000_001_u32).map(|number| (number % 251) as u8).collect();
    put(&*store, &path, &content);
    assert_eq!(store.read_whole(&path, 1 << 30).expect("read"), content);
}

#[rstest]
fn reading_past_the_end_is_short(
    #[values(Local, LocalAcross, Memory, Faulty)] kind: Kind,
    #[values(8, 11, 1 << 40, i64::MAX as u64 - 1, u64::MAX - 1, u64::MAX)] offset: u64,
) {
    let Fixture { store, folders: _guard } = fixture(kind);
    let path = FilePath::vault("file");
    put(&*store, &path, b"0123456789");
    let error = store.open(&path).expect("opened").read_at(offset, &mut [0; 3]).expect_err("past the end");
    let wanted = (offset, 3);
    assert!(
        matches!(error, StoreError::Short { offset, wanted_bytes, .. } if (offset, wanted_bytes) == wanted),
        "{error}"
    );
}

#[rstest]
fn a_file_that_is_not_there_is_not_found(#[values(Local, LocalAcross, Memory, Faulty)] kind: Kind) {
    let Fixture { store, folders: _guard } = fixture(kind);
    for path in [FilePath::vault("keys/ab.json"), FilePath::state("ab.json")] {
        assert!(store.open(&path).err().expect("not there").is_not_found());
        let error = store.rename(&path, &FilePath::vault("other")).expect_err("not there");
        assert!(error.is_not_found());
        assert_eq!(error.path(), &path);
        assert_eq!(names(&*store, &FilePath::vault("")), [""; 0]);
    }
}

#[rstest]
fn a_reader_keeps_its_file_when_that_is_renamed_replaced_or_removed(
    #[values(Local, LocalAcross, Memory, Faulty)] kind: Kind,
) {
    let Fixture { store, folders: _guard } = fixture(kind);
    let (path, other) = (FilePath::state("file"), FilePath::state("other"));
    put(&*store, &path, b"first");
    put(&*store, &other, b"other");
    let reader = store.open(&path).expect("opened");
    store.rename(&other, &path).expect("replaced");
    assert_eq!(get(&*store, &path), b"other");
    let moved = store.open(&path).expect("opened");
    store.rename(&path, &FilePath::vault("moved")).expect("renamed");
    store.remove(&FilePath::vault("moved")).expect("removed");
    for (reader, content) in [(reader, b"first"), (moved, b"other")] {
        let mut buffer = [0; 5];
        reader.read_at(0, &mut buffer).expect("read");
        assert_eq!(&buffer, content);
    }
}

#[rstest]
fn a_rename_moves_the_file_and_makes_the_folders(
    #[values(Local, LocalAcross, Memory, Faulty)] kind: Kind,
    #[values(Area::Vault, Area::State)] source_area: Area,
    #[values(Area::Vault, Area::State)] target_area: Area,
) {
    let Fixture { store, folders: _guard } = fixture(kind);
    let source = FilePath { area: source_area, name: "staging/one".into() };
    let target = FilePath { area: target_area, name: "devices/ab/0000000/one".into() };
    put(&*store, &source, b"content");
    store.rename(&source, &target).expect("renamed");
    assert_eq!(get(&*store, &target), b"content");
    assert!(store.open(&source).err().expect("gone").is_not_found());
    let folder = target.folder().expect("its folder");
    assert_eq!(names(&*store, &folder), ["one"], "no temporary file stays");
    assert_eq!(names(&*store, &source.folder().expect("its folder")), [""; 0]);
}

#[rstest]
fn a_rename_replaces_in_the_state_and_never_in_the_vault(
    #[values(Local, LocalAcross, Memory, Faulty)] kind: Kind,
    #[values(Area::Vault, Area::State)] source_area: Area,
) {
    let Fixture { store, folders: _guard } = fixture(kind);
    let source = FilePath { area: source_area, name: "new".into() };
    let (kept, replaced) = (FilePath::vault("keys/old"), FilePath::state("keys/old"));
    for path in [&source, &kept, &replaced] {
        put(&*store, path, path.file_name().as_bytes());
    }
    let error = store.rename(&source, &kept).expect_err("it is there");
    assert!(error.is_already_exists(), "{error}");
    assert_eq!(error.path(), &kept);
    assert_eq!((get(&*store, &source), get(&*store, &kept)), (b"new".into(), b"old".into()));

    store.rename(&source, &replaced).expect("replaced");
    assert_eq!(get(&*store, &replaced), b"new");
    assert!(store.open(&source).err().expect("gone").is_not_found());
}

#[rstest]
fn a_rename_onto_itself_changes_nothing(#[values(Local, LocalAcross, Memory, Faulty)] kind: Kind) {
    let Fixture { store, folders: _guard } = fixture(kind);
    let path = FilePath::state("file");
    put(&*store, &path, b"content");
    store.rename(&path, &path).expect("renamed");
    assert_eq!(get(&*store, &path), b"content");
}

#[rstest]
fn a_listing_tells_names_and_sizes_in_order(#[values(Local, LocalAcross, Memory, Faulty)] kind: Kind) {
    let Fixture { store, folders: _guard } = fixture(kind);
    for (name, content) in [("b", "12"), ("a", "1"), ("c/below", "123"), ("c/d/e", ""), ("cc", "")] {
        put(&*store, &FilePath::vault(name), content.as_bytes());
    }
    put(&*store, &FilePath::state("elsewhere"), b"");
    let told = |folder: &str| -> Vec<(String, bool, u64)> {
        let entries = store.list(&FilePath::vault(folder)).expect("listed");
        entries.into_iter().map(|entry| (entry.name, entry.is_folder, entry.bytes)).collect()
    };
    let file = |name: &str, bytes| (name.to_owned(), false, bytes);
    let folder = |name: &str| (name.to_owned(), true, 0);
    assert_eq!(told(""), [file("a", 1), file("b", 2), folder("c"), file("cc", 0)]);
    assert_eq!(told("c"), [file("below", 3), folder("d")]);
}

#[rstest]
fn a_missing_folder_is_empty(#[values(Local, LocalAcross, Memory, Faulty)] kind: Kind) {
    let Fixture { store, folders: _guard } = fixture(kind);
    for folder in [FilePath::vault("not/there"), FilePath::state("not/there"), FilePath::state("")] {
        assert_eq!(store.list(&folder).expect("listed"), []);
    }
}

#[rstest]
fn a_removed_file_is_gone_and_removing_it_again_is_no_error(#[values(Local, LocalAcross, Memory, Faulty)] kind: Kind) {
    let Fixture { store, folders: _guard } = fixture(kind);
    for path in [FilePath::vault("folder/file"), FilePath::state("folder/file")] {
        store.remove(&path).expect("not there is no error");
        put(&*store, &path, b"content");
        store.remove(&path).expect("removed");
        assert!(store.open(&path).err().expect("gone").is_not_found());
        store.remove(&path).expect("not there is no error");
        put(&*store, &path, b"another");
        assert!(store.remove(&path.folder().expect("its folder")).is_err(), "only files are removed");
        assert_eq!(get(&*store, &path), b"another");
    }
}

#[rstest]
fn the_free_space_is_no_more_than_the_total(
    #[values(Local, LocalAcross, Memory, Faulty)] kind: Kind,
    #[values(Area::Vault, Area::State)] area: Area,
) {
    let Fixture { store, folders: _guard } = fixture(kind);
    let space = store.space(area).expect("told");
    assert!(space.free_bytes > 0 && space.free_bytes + space.reserved_bytes <= space.total_bytes, "{space:?}");
}

#[rstest]
fn a_file_says_when_it_was_changed(#[values(Local, LocalAcross, Memory, Faulty)] kind: Kind) {
    let Fixture { store, folders: _guard } = fixture(kind);
    let path = FilePath::vault("file");
    // The kernel stamps files by a coarser clock than the one it tells us.
    let before = SystemTime::now() - Duration::from_secs(1);
    put(&*store, &path, b"content");
    let changed = store.open(&path).expect("opened").changed().expect("told");
    assert!(changed >= before && changed <= SystemTime::now(), "{changed:?}");
}

#[rstest]
fn a_path_that_could_leave_its_area_is_refused_by_every_call(
    #[values(Local, LocalAcross, Memory, Faulty)] kind: Kind,
    #[values("/etc/passwd", "..", "a/../b", "a//b", "a/", "./a", "a\0b", ".")] name: &str,
) {
    let Fixture { store, folders: _guard } = fixture(kind);
    let (path, good) = (FilePath::state(name), FilePath::state("good"));
    put(&*store, &good, b"content");
    let results = [
        store.create(&path).map(drop),
        store.open(&path).map(drop),
        store.rename(&good, &path),
        store.rename(&path, &good),
        store.list(&path).map(drop),
        store.remove(&path),
        store.put_whole(&path, b""),
    ];
    for result in results {
        let error = result.expect_err("refused");
        assert!(matches!(error, StoreError::Io { action: "use this name", .. }), "{error}");
        assert_eq!(error.path(), &path);
    }
    assert_eq!(names(&*store, &FilePath::state("")), ["good"]);
}

#[rstest]
fn an_areas_own_folder_can_only_be_listed(#[values(Local, LocalAcross, Memory, Faulty)] kind: Kind) {
    let Fixture { store, folders: _guard } = fixture(kind);
    let root = FilePath::state("");
    assert_eq!(store.list(&root).expect("listed"), []);
    assert!(store.create(&root).is_err() && store.open(&root).is_err() && store.remove(&root).is_err());
}

#[rstest]
fn a_file_is_read_whole_unless_it_is_too_long(#[values(Local, LocalAcross, Memory, Faulty)] kind: Kind) {
    let Fixture { store, folders: _guard } = fixture(kind);
    let path = FilePath::vault("vault.json");
    put(&*store, &path, b"content");
    assert_eq!(store.read_whole(&path, 7).expect("read"), b"content");
    let error = store.read_whole(&path, 6).expect_err("too long");
    assert!(matches!(error, StoreError::TooLong { bytes: 7, bytes_max: 6, .. }), "{error}");
}

#[rstest]
fn a_whole_file_is_put_replacing_in_the_state_and_never_in_the_vault(
    #[values(Local, LocalAcross, Memory, Faulty)] kind: Kind,
) {
    let Fixture { store, folders: _guard } = fixture(kind);
    let (vault, state) = (FilePath::vault("keys/ab.json"), FilePath::state("device/seen"));
    put(&*store, &FilePath::state("staging/seen.0.tmp"), b"left by a crash");
    for path in [&vault, &state] {
        store.put_whole(path, b"first").expect("put");
        assert_eq!(get(&*store, path), b"first");
    }
    store.put_whole(&state, b"second").expect("replaced");
    assert_eq!(get(&*store, &state), b"second");
    assert!(store.put_whole(&vault, b"second").expect_err("it is there").is_already_exists());
    assert_eq!(get(&*store, &vault), b"first");
    assert_eq!(names(&*store, &FilePath::state("staging")), ["seen.0.tmp"]);
}

#[rstest]
fn threads_may_put_a_file_of_one_name_at_once(#[values(Local, LocalAcross, Memory, Faulty)] kind: Kind) {
    let Fixture { store, folders: _guard } = fixture(kind);
    let path = FilePath::state("seen");
    std::thread::scope(|scope| {
        for content in [b"1111", b"2222", b"3333", b"4444"] {
            let (store, path) = (&store, &path);
            scope.spawn(move || (0..10).for_each(|_| store.put_whole(path, content).expect("put")));
        }
    });
    let content = get(&*store, &path);
    assert!(content.len() == 4 && content.iter().all(|byte| *byte == content[0]), "{content:?}");
    assert_eq!(names(&*store, &FilePath::state("staging")), [""; 0]);
}
