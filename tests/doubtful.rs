//! A data segment to which a write has failed is relied on no more, and kept as long as anything durable points into it.

mod support;

use std::sync::Arc;

use passkeyfs::crypto::SeededRandomness;
use passkeyfs::format::InodeNumber;
use passkeyfs::store::faulty::{Call, CallKind, Failure, Fault};
use passkeyfs::store::memory::chosen_by;
use passkeyfs::store::{Area, FaultyStore, MemoryStore};
use passkeyfs::volume::{Place, Volume};
use support::{ROOT, World, create, noise};

/// More than a journal frame holds: it goes to a data segment, and the frame points there.
const DATA_BYTES: usize = 300_000;
const POWER_CUTS: u64 = 4;

/// A commit that waits for room in the folder, and behind it changes that an `fsync` has acknowledged. The segment that their
/// frame points into has failed since, and where their data was moved no durable frame says.
fn with_moved_blocks() -> (World, FaultyStore<MemoryStore>, Arc<Volume>) {
    let world = World::new(21);
    let store = FaultyStore::new(Arc::new(world.disk.clone()));
    let volume = world.try_open(Arc::new(store.clone()), World::options()).unwrap();
    let [kept, other, copy] = ["kept", "other", "copy"].map(|name| create(&volume, name));
    store.set_full(Area::Vault, true);
    volume.publish().unwrap_err();
    volume.write(kept, 0, &noise(1, DATA_BYTES), false).unwrap();
    volume.sync_file(kept).unwrap();
    volume.write(other, 0, &noise(2, 10_000), false).unwrap();
    store.reset();
    store.set_full(Area::Vault, true);
    store.fail(&[CallKind::Append], 0, Fault::Halfway(Failure::Io));
    let place = |inode: InodeNumber| Place { inode, offset: 0 };
    volume.copy_range(place(other), place(copy), 10_000, false).unwrap_err();
    // A frame that is written and not synced.
    volume.flush_file();
    store.reset();
    (world, store, volume)
}

fn assert_kept(volume: &Volume, what: &str) {
    let kept = volume.lookup(ROOT, b"kept").unwrap_or_else(|error| panic!("{what}: {error}"));
    let content = volume.read(kept.inode, 0, DATA_BYTES).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(content == noise(1, DATA_BYTES), "{what}: another content");
}

#[test]
fn a_power_cut_at_any_call_of_a_publish_finds_what_was_acknowledged_though_its_segment_had_failed() {
    let (_, store, volume) = with_moved_blocks();
    volume.publish().unwrap();
    let trace = store.trace();
    let is_removal = |call: &Call| call.kind == CallKind::Remove && call.path.name.ends_with(".data");
    assert!(trace.iter().any(is_removal), "the segment that failed is removed");
    let points = store.change_points().into_iter().chain([trace.len() as u64]);
    for point in points {
        let (world, store, volume) = with_moved_blocks();
        store.crash_at(point);
        let _ = volume.publish();
        for seed in 0..POWER_CUTS {
            let what = format!("call {point}, power cut {seed}");
            let mut left = world.fork();
            left.disk = world.disk.fork_after_power_loss(&mut chosen_by(&SeededRandomness::new(seed)));
            let volume = left.open();
            assert_kept(&volume, &what);
            volume.close().unwrap_or_else(|error| panic!("{what}: {error}"));
            assert_kept(&left.open(), &what);
        }
    }
}
