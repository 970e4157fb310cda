//! What whoever has the folder does to true files: exchanges what is in them, or withholds them. What is read is then an error,
//! never zeros and never other bytes. And what he sees in them.

use passkeyfs::store::{Area, FilePath};
use passkeyfs::volume::VolumeError;

use crate::scene::{new_device, read, vault_files, write};
use crate::support::{World, create, noise};

const BLOCK_BYTES: usize = 4096;
/// Where the first block of a segment lies.
const FIRST: usize = 128;

/// A vault with two files of two blocks each, in a segment and a commit of their own.
fn two_files() -> World {
    let world = World::new(40);
    for (seed, name) in [(1, "a"), (2, "b")] {
        let volume = world.open();
        create(&volume, name);
        write(&volume, name, &content(seed)).expect("written");
        volume.close().expect("closed");
    }
    world
}

fn content(seed: u64) -> Vec<u8> {
    noise(seed, 2 * BLOCK_BYTES)
}

/// Exchanges a range of one file with a range of another.
fn exchange(world: &World, (path, from): (&FilePath, usize), (other, to): (&FilePath, usize), bytes: usize) {
    let snapshot = world.disk.snapshot();
    let [one, two] = [&snapshot[path][from..from + bytes], &snapshot[other][to..to + bytes]].map(<[u8]>::to_vec);
    world.disk.corrupt(path, |file| file[from..from + bytes].copy_from_slice(&two));
    world.disk.corrupt(other, |file| file[to..to + bytes].copy_from_slice(&one));
}

#[test]
fn exchanged_blocks_and_segments_are_errors_and_never_other_content() {
    type Change = fn(&World, &FilePath, &FilePath);
    let changes: [(&str, bool, bool, Change); 4] = [
        ("two blocks of a segment", false, true, |world, one, _| {
            exchange(world, (one, FIRST), (one, FIRST + BLOCK_BYTES), BLOCK_BYTES);
        }),
        ("two blocks in the same place of two segments", false, false, |world, one, other| {
            exchange(world, (one, FIRST), (other, FIRST), BLOCK_BYTES);
        }),
        ("all but the headers of two segments", false, false, |world, one, other| {
            let bytes = world.disk.snapshot()[one].len() - FIRST;
            exchange(world, (one, FIRST), (other, FIRST), bytes);
        }),
        // The header says whose it is.
        ("two whole segments", true, true, |world, one, other| {
            let bytes = world.disk.snapshot()[one].len();
            exchange(world, (one, 0), (other, 0), bytes);
        }),
    ];
    for (what, a_may_be_read, b_may_be_read, change) in changes {
        let world = two_files();
        let [one, other] = vault_files(&world.disk, ".data").try_into().expect("two segments");
        assert_eq!(world.disk.snapshot()[&one].len(), world.disk.snapshot()[&other].len());
        change(&world, &one, &other);
        for device in [&world, &new_device(&world)] {
            let volume = device.open();
            for (seed, name, may_be_read) in [(1, "a", a_may_be_read), (2, "b", b_may_be_read)] {
                match read(&volume, name) {
                    Ok(found) => assert!(may_be_read && found == content(seed), "{what}: {name}"),
                    Err(error) => assert!(!matches!(error, VolumeError::NotFound), "{what}: {name}: {error}"),
                }
            }
        }
    }
}

#[test]
fn what_lay_in_a_file_that_is_withheld_is_said_not_to_have_arrived_and_is_never_zeros() {
    let whole = two_files();
    let files = whole.disk.snapshot().into_keys().filter(|path| path.area == Area::Vault);
    let (mut missing, mut older) = (0, 0);
    for path in files {
        let world = whole.fork();
        world.disk.withdraw(&path);
        let volume = world.open();
        let is_said = volume.status().read_only.is_some();
        for (seed, name) in [(1, "a"), (2, "b")] {
            match read(&volume, name) {
                Ok(found) => assert!(found == content(seed), "{path}: {name}"),
                Err(VolumeError::NotArrived(_)) => missing += 1,
                Err(VolumeError::NotFound) if is_said => older += 1,
                Err(error) => panic!("{path}: {name}: {error}"),
            }
        }
    }
    assert!(missing >= 2 && older > 0, "{missing} not arrived, {older} of an older commit");
}

#[test]
fn neither_contents_nor_names_are_in_the_folder_or_the_state() {
    let world = World::new(41);
    let volume = world.open();
    let words = ["a name that nobody is to see", "content that nobody is to see, however short"];
    let inode = create(&volume, words[0]);
    volume.write(inode, 0, words[1].as_bytes(), false).expect("written");
    let text = format!("{} ", words[1]).repeat(5_000);
    create(&volume, "long");
    write(&volume, "long", text.as_bytes()).expect("written");
    volume.sync_file(inode).expect("synced");
    let journaled = world.disk.snapshot();
    assert!(journaled.keys().any(|path| path.name.starts_with("journal/")));
    volume.close().expect("closed");
    for (path, bytes) in journaled.into_iter().chain(world.disk.snapshot()) {
        for word in words {
            let is_there = bytes.windows(16).any(|window| window == &word.as_bytes()[..16]);
            assert!(!is_there, "{path} shows {word:?}");
        }
    }
}
