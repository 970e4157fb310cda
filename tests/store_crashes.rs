//! What the contract of a store says of crashes, on the simulated disk, and what the test doubles themselves promise.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use passkeyfs::crypto::SeededRandomness;
use passkeyfs::store::faulty::{CallKind, Failure, Fault};
use passkeyfs::store::memory::chosen_by;
use passkeyfs::store::{Area, Clock, FaultyStore, FilePath, MemoryStore, SimulatedClock, Store, StoreError};
use rstest::rstest;

/// The choices of one world: its seed names it.
fn choices(seed: u64) -> impl FnMut(u64) -> u64 {
    let randomness = SeededRandomness::new(seed);
    move |below| chosen_by(&randomness)(below)
}

const WORLDS: u64 = 200;

/// What each of many power losses leaves of the files.
fn worlds(disk: &MemoryStore) -> BTreeSet<Vec<(String, Vec<u8>)>> {
    let world = |seed| {
        let left = disk.fork_after_power_loss(&mut choices(seed)).snapshot();
        left.into_iter().map(|(path, bytes)| (path.key(), bytes)).collect()
    };
    (0..WORLDS).map(world).collect()
}

fn world(files: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
    files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect()
}

fn put(store: &dyn Store, path: &FilePath, bytes: &[u8]) {
    let mut writer = store.create(path).expect("created");
    writer.append(bytes).expect("appended");
    writer.sync().expect("synced");
}

#[test]
fn a_file_never_synced_may_be_lost_or_kept_in_part() {
    let disk = MemoryStore::new();
    let mut writer = disk.create(&FilePath::state("a/b")).expect("created");
    writer.append(b"xy").expect("appended");
    let worlds = worlds(&disk);
    let expected: [&[(&str, &[u8])]; 6] = [
        &[],
        &[("state:a/b", b"")],
        &[("state:a/b", b"x")],
        &[("state:a/b", b"\0")],
        &[("state:a/b", b"xy")],
        &[("state:a/b", b"\0\0")],
    ];
    assert_eq!(worlds, expected.into_iter().map(world).collect());
}

#[test]
fn what_was_synced_survives_with_its_name_and_folders() {
    let disk = MemoryStore::new();
    put(&disk, &FilePath::vault("a/b/c"), b"content");
    assert_eq!(worlds(&disk), [world(&[("vault:a/b/c", b"content")])].into());
    let left = disk.crash(&mut choices(1));
    assert_eq!(left.list(&FilePath::vault("a")).expect("listed")[0].name, "b");
}

#[test]
fn appends_after_a_sync_are_lost_from_the_end_and_never_what_was_synced() {
    let disk = MemoryStore::new();
    let path = FilePath::state("journal");
    let mut writer = disk.create(&path).expect("created");
    writer.append(&[7; 5000]).expect("appended");
    writer.sync().expect("synced");
    writer.append(&[9; 10_000]).expect("appended");
    let mut lengths = BTreeSet::new();
    let mut has_zero_page_before_a_whole_one = false;
    for seed in 0..WORLDS {
        let content = disk.fork_after_power_loss(&mut choices(seed)).snapshot().remove(&path).expect("durable");
        let (synced, rest) = content.split_at(5000);
        assert!(synced.iter().all(|byte| *byte == 7) && rest.iter().all(|byte| [0, 9].contains(byte)));
        has_zero_page_before_a_whole_one |= rest.first() == Some(&0) && rest.last() == Some(&9);
        lengths.insert(content.len());
    }
    assert!(lengths.len() > 100 && has_zero_page_before_a_whole_one, "{lengths:?}");
}

#[test]
fn a_rename_is_durable_on_return_and_what_was_not_synced_is_not() {
    let disk = MemoryStore::new();
    let (source, target) = (FilePath::state("staging/a"), FilePath::vault("devices/a"));
    put(&disk, &source, b"content");
    disk.rename(&source, &target).expect("renamed");
    assert_eq!(worlds(&disk), [world(&[("vault:devices/a", b"content")])].into());

    let mut writer = disk.create(&source).expect("created");
    writer.append(b"!").expect("appended");
    disk.rename(&source, &FilePath::state("b")).expect("renamed");
    let expected = [&b""[..], b"!", b"\0"].map(|left| world(&[("vault:devices/a", b"content"), ("state:b", left)]));
    assert_eq!(worlds(&disk), expected.into());
}

#[test]
fn a_replaced_file_is_the_old_one_or_the_new_one() {
    let disk = MemoryStore::new();
    let path = FilePath::state("seen");
    let store: &dyn Store = &disk;
    store.put_whole(&path, b"old").expect("put");
    let faulty = FaultyStore::new(Arc::new(disk.fork()));
    (&faulty as &dyn Store).put_whole(&path, b"new").expect("put");
    let mut left = BTreeSet::new();
    for point in faulty.change_points().into_iter().chain([faulty.calls().total()]) {
        let crashing = FaultyStore::new(Arc::new(disk.fork()));
        crashing.crash_at(point);
        let put = (&crashing as &dyn Store).put_whole(&path, b"new");
        assert_eq!(put.is_ok(), point == faulty.calls().total());
        for seed in 0..20 {
            let after = crashing.inner().fork_after_power_loss(&mut choices(seed));
            let content = (&after as &dyn Store).read_whole(&path, 100).expect("one of the two");
            assert!(put.is_err() || content == b"new");
            left.insert(content);
        }
    }
    assert_eq!(left, [b"old".to_vec(), b"new".to_vec()].into());
}

#[test]
fn a_removed_file_may_come_back_until_its_folder_is_synced() {
    let disk = MemoryStore::new();
    let path = FilePath::vault("keys/a");
    put(&disk, &path, b"content");
    disk.remove(&path).expect("removed");
    assert_eq!(worlds(&disk), [world(&[]), world(&[("vault:keys/a", b"content")])].into());
    put(&disk, &FilePath::vault("keys/b"), b"");
    assert_eq!(worlds(&disk), [world(&[("vault:keys/b", b"")])].into());
}

#[test]
fn what_a_power_loss_left_is_durable() {
    let disk = MemoryStore::new();
    disk.create(&FilePath::state("a")).expect("created").append(b"content").expect("appended");
    for seed in 0..20 {
        let left = disk.fork_after_power_loss(&mut choices(seed));
        assert_eq!(left.fork_after_power_loss(&mut choices(seed + 1)).snapshot(), left.snapshot());
    }
}

#[rstest]
fn after_a_crash_every_old_handle_fails_for_ever(#[values(false, true)] is_power_loss: bool) {
    let disk = MemoryStore::new();
    let path = FilePath::state("a");
    put(&disk, &path, b"content");
    let mut writer = disk.create(&FilePath::state("b")).expect("created");
    let reader = disk.open(&path).expect("opened");
    let old = disk.clone();
    let new = if is_power_loss { disk.crash(&mut choices(1)) } else { disk.kill() };
    for _ in 0..2 {
        assert!(writer.append(b"late").is_err() && writer.sync().is_err());
        assert!(reader.read_at(0, &mut [0]).is_err() && reader.len().is_err() && reader.changed().is_err());
        assert!(old.open(&path).is_err() && old.create(&FilePath::state("c")).is_err());
        assert!(old.remove(&path).is_err() && old.rename(&path, &FilePath::state("c")).is_err());
        assert!(old.list(&FilePath::state("")).is_err() && old.space(Area::State).is_err());
    }
    assert_eq!((&new as &dyn Store).read_whole(&path, 100).expect("read"), b"content");
}

#[test]
fn a_killed_process_loses_nothing_but_a_power_loss_later_still_does() {
    let disk = MemoryStore::new();
    let mut writer = disk.create(&FilePath::state("a")).expect("created");
    writer.append(b"x").expect("appended");
    let disk = disk.kill();
    assert_eq!(disk.snapshot()[&FilePath::state("a")], b"x");
    assert!(worlds(&disk).contains(&world(&[])));
}

#[test]
fn a_fork_shares_nothing_with_its_origin() {
    let disk = MemoryStore::new();
    let path = FilePath::state("a");
    let mut writer = disk.create(&path).expect("created");
    writer.append(b"x").expect("appended");
    let fork = disk.fork();
    writer.append(b"y").expect("appended");
    fork.corrupt(&path, |bytes| bytes.push(b'z'));
    fork.deliver(&FilePath::vault("new"), b"");
    assert_eq!(disk.snapshot(), [(path.clone(), b"xy".to_vec())].into());
    assert_eq!(fork.snapshot(), [(path, b"xz".to_vec()), (FilePath::vault("new"), vec![])].into());
}

#[test]
fn what_a_sync_client_delivers_or_withdraws_is_durable() {
    let disk = MemoryStore::new();
    put(&disk, &FilePath::vault("keys/a"), b"old");
    disk.deliver(&FilePath::vault("keys/a"), b"new");
    disk.deliver(&FilePath::vault("keys/b"), b"");
    disk.withdraw(&FilePath::vault("keys/b"));
    disk.withdraw(&FilePath::vault("never/there"));
    assert_eq!(worlds(&disk), [world(&[("vault:keys/a", b"new")])].into());
}

#[test]
fn a_full_disk_takes_what_fits_and_closes_the_file_for_ever() {
    let disk = MemoryStore::new();
    disk.set_capacity(Area::State, 4);
    disk.set_capacity(Area::Vault, 1);
    let path = FilePath::state("a");
    let mut writer = disk.create(&path).expect("created");
    writer.append(b"123").expect("fits");
    assert_eq!(disk.space(Area::State).expect("told").free_bytes, 1);
    assert!(matches!(writer.append(b"45").expect_err("full"), StoreError::Full { .. }));
    assert_eq!((writer.len(), &disk.snapshot()[&path][..]), (3, &b"1234"[..]));
    disk.set_capacity(Area::State, 100);
    assert!(matches!(writer.append(b"5").expect_err("poisoned"), StoreError::Poisoned { .. }));
    assert!(matches!(writer.sync().expect_err("poisoned"), StoreError::Poisoned { .. }));
    let error = disk.rename(&path, &FilePath::vault("a")).expect_err("no room there");
    assert!(matches!(error, StoreError::Full { .. }));
    assert_eq!(disk.snapshot().len(), 1);
}

#[test]
fn files_bear_the_time_of_the_disks_clock() {
    let clock = SimulatedClock::default();
    let disk = MemoryStore::with_clock(Arc::new(clock.clone()));
    put(&disk, &FilePath::state("a"), b"");
    let created = clock.now();
    clock.advance(Duration::from_secs(60));
    let changed = |name| disk.open(&FilePath::state(name)).expect("opened").changed().expect("told");
    assert_eq!(changed("a"), created);
    disk.rename(&FilePath::state("a"), &FilePath::state("b")).expect("renamed");
    assert_eq!(changed("b"), clock.now());
}

#[rstest]
#[case(Fault::Before(Failure::Io), b"12")]
#[case(Fault::Halfway(Failure::Full), b"1234")]
#[case(Fault::After(Failure::Io), b"123456")]
fn a_planned_append_fails_with_what_is_planned_of_it_and_closes_the_file(#[case] fault: Fault, #[case] left: &[u8]) {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    store.fail(&[CallKind::Append], 1, fault);
    let path = FilePath::state("a");
    let mut writer = store.create(&path).expect("created");
    writer.append(b"12").expect("not planned");
    let error = writer.append(b"3456").expect_err("planned");
    assert_eq!(matches!(error, StoreError::Full { .. }), fault == Fault::Halfway(Failure::Full));
    assert_eq!((writer.len(), &store.inner().snapshot()[&path][..]), (2, left));
    for result in [writer.append(b"7"), writer.sync()] {
        assert!(matches!(result.expect_err("poisoned"), StoreError::Poisoned { .. }));
    }
}

#[test]
fn a_failed_sync_closes_the_file_and_leaves_its_content_unknown() {
    for (fault, survives) in [(Fault::Before(Failure::Io), false), (Fault::After(Failure::Io), true)] {
        let store = FaultyStore::new(Arc::new(MemoryStore::new()));
        store.fail(&[CallKind::Sync], 0, fault);
        let mut writer = store.create(&FilePath::state("a")).expect("created");
        writer.append(b"x").expect("appended");
        assert!(matches!(writer.sync().expect_err("planned"), StoreError::Io { .. }));
        assert!(matches!(writer.sync().expect_err("poisoned"), StoreError::Poisoned { .. }));
        assert_eq!(!worlds(store.inner()).contains(&world(&[])), survives);
    }
}

#[test]
fn a_rename_that_stops_halfway_leaves_both_names() {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    let (source, target) = (FilePath::state("a"), FilePath::vault("keys/a"));
    put(&store, &source, b"content");
    store.fail(&[CallKind::Rename], 0, Fault::Halfway(Failure::Io));
    assert!(matches!(store.rename(&source, &target).expect_err("planned"), StoreError::Io { .. }));
    let both = world(&[("vault:keys/a", b"content"), ("state:a", b"content")]);
    assert_eq!(worlds(store.inner()), [both].into());
}

#[test]
fn from_a_crash_on_no_call_has_an_effect() {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    let (path, other) = (FilePath::state("a"), FilePath::state("b"));
    put(&store, &path, b"content");
    let reader = store.open(&path).expect("opened");
    let mut writer = store.create(&other).expect("created");
    let before = store.inner().snapshot();
    store.fail(&CallKind::ALL, store.calls().total(), Fault::After(Failure::Io));
    store.crash_at(store.calls().total());
    assert!(writer.append(b"late").is_err() && reader.read_at(0, &mut [0]).is_err());
    assert!(store.remove(&path).is_err() && store.open(&path).is_err());
    assert!(store.create(&FilePath::state("c")).is_err() && store.rename(&path, &other).is_err());
    assert_eq!(store.inner().snapshot(), before);
    store.reset();
    store.remove(&path).expect("there is no plan any more");
}

#[test]
fn an_area_that_is_full_takes_nothing_until_it_is_not() {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    let (path, target) = (FilePath::state("a"), FilePath::vault("a"));
    put(&store, &path, b"content");
    store.set_full(Area::Vault, true);
    assert_eq!(store.space(Area::Vault).expect("told").free_bytes, 0);
    assert!(matches!(store.rename(&path, &target).expect_err("full"), StoreError::Full { .. }));
    assert!(matches!(store.create(&target).err().expect("full"), StoreError::Full { .. }));
    put(&store, &FilePath::state("b"), b"the other area has room");
    store.set_full(Area::Vault, false);
    store.rename(&path, &target).expect("renamed");
}

#[test]
fn calls_are_counted_and_traced_in_order() {
    let store = FaultyStore::new(Arc::new(MemoryStore::new()));
    (&store as &dyn Store).put_whole(&FilePath::vault("keys/a"), b"x").expect("put");
    (&store as &dyn Store).read_whole(&FilePath::vault("keys/a"), 1).expect("read");
    let trace: Vec<String> = store.trace().iter().map(ToString::to_string).collect();
    let expected = [
        "create state:staging/a.0.tmp",
        "append state:staging/a.0.tmp",
        "sync state:staging/a.0.tmp",
        "rename vault:keys/a",
        "open vault:keys/a",
        "len vault:keys/a",
        "readat vault:keys/a",
    ];
    assert_eq!(trace, expected);
    assert_eq!(store.change_points(), [0, 1, 2, 3]);
    assert_eq!((store.calls().total(), store.calls().of(CallKind::Sync)), (7, 1));
    assert_eq!(store.calls().of_any(&[CallKind::Append, CallKind::Rename]), 2);
}
