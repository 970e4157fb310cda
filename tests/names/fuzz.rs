//! Random folders: files are planted, renamed, emptied, cut and duplicated by name. Whatever is done: no panic, no hang, no
//! wrong bytes; and when it is undone, all that was synced is there and can be written on.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use passkeyfs::crypto::{Randomness, SeededRandomness};
use passkeyfs::store::{Area, FilePath};
use passkeyfs::volume::{Volume, VolumeError};

use crate::scene::{new_device, open_writable, read, write};
use crate::support::{World, noise};

/// How many folders are tried; `PASSKEYFS_TEST_FOLDERS` says another number, or one seed as `=17`.
const FOLDERS: u64 = 60;
const TIME_MAX: Duration = Duration::from_secs(5);

type Files = BTreeMap<FilePath, Vec<u8>>;
/// By name, what a file held at any time: the last is what was synced.
type Contents = BTreeMap<String, Vec<Vec<u8>>>;

struct Draw(SeededRandomness);

impl Draw {
    fn below(&self, below: u64) -> u64 {
        self.0.u64() % below
    }

    fn of<'a, T>(&self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }
}

fn vault_of(world: &World) -> Files {
    world.disk.snapshot().into_iter().filter(|(path, _)| path.area == Area::Vault).collect()
}

/// A vault with commits of two devices, of which the first has seen all, and something that is in its journal only.
fn make(draw: &Draw, seed: u64) -> (World, Contents) {
    let mut world = World::new(seed);
    let mut contents = Contents::new();
    let mut put = |volume: &Volume, name: String, content: Vec<u8>| {
        write(volume, &name, &content).expect("written");
        contents.entry(name).or_default().push(content);
    };
    for round in 0..2 + draw.below(3) {
        let other = new_device(&world);
        let writes_elsewhere = draw.below(3) == 0;
        let device = if writes_elsewhere { &other } else { &world };
        let volume = device.open();
        for _ in 0..1 + draw.below(3) {
            let bytes = *draw.of(&[3, 500, 20_000]);
            put(&volume, format!("file {}", draw.below(4)), noise(draw.0.u64(), bytes));
        }
        volume.close().unwrap_or_else(|error| panic!("round {round}: {error}"));
        drop(volume);
        if writes_elsewhere {
            vault_of(&other).iter().for_each(|(path, bytes)| world.disk.deliver(path, bytes));
        }
    }
    let volume = world.open();
    if draw.below(2) == 0 {
        put(&volume, "file 0".to_owned(), noise(draw.0.u64(), 5000));
        volume.sync_file(crate::support::ROOT).expect("in the journal");
    }
    world.disk = world.disk.kill();
    // All of the old files are old: a wrong one is not taken for one on its way.
    world.clock.advance(Duration::from_secs(3600));
    (world, contents)
}

/// A name for a file that may be taken for a segment, or not.
fn draw_name(draw: &Draw, files: &Files) -> FilePath {
    let paths: Vec<&FilePath> = files.keys().filter(|path| path.name.starts_with("devices/")).collect();
    let truth: Vec<&str> = draw.of(&paths).name.split('/').collect();
    let (sequence, rest) = truth[3].split_once('-').expect("a segment's name");
    let (id, extension) = rest.split_once('.').expect("an extension");
    let number = u64::from_str_radix(sequence, 16).expect("a number");
    let sequence = match draw.below(7) {
        0 => (1 << 40) - 1 - draw.below(3),
        1 => draw.below(1 << 40),
        2 => number + 1 + draw.below(3),
        3 => number.saturating_sub(draw.below(4)),
        4 => number + 999,
        _ => number,
    };
    let id = if draw.below(3) == 0 { format!("{:016x}", draw.0.u64()) } else { id.to_owned() };
    let extension = *draw.of(&[extension, "meta", "data", "sync-conflict-1.meta", "tmp", "meta.part"]);
    let stranger = format!("{:016x}", draw.0.u64());
    let device = *draw.of(&[truth[1], truth[1], &stranger, "0000000000000000", "0000000000000001", "not a device"]);
    let range = format!("{:07x}", sequence / 1000);
    let range = *draw.of(&[truth[2], &range, "fffffff", "x"]);
    FilePath::vault(match draw.below(8) {
        0 => format!("devices/{device}/{range}/{sequence:010x}-{id} (conflicted copy).{extension}"),
        1 => format!("devices/{device}/{range}/.syncthing.{sequence:010x}-{id}.{extension}.tmp"),
        _ => format!("devices/{device}/{range}/{sequence:010x}-{id}.{extension}"),
    })
}

fn draw_content(draw: &Draw, files: &Files) -> Vec<u8> {
    let all: Vec<&Vec<u8>> = files.values().collect();
    let truth = *draw.of(&all);
    match draw.below(6) {
        0 => noise(draw.0.u64(), *draw.of(&[1, 127, 128, 4095, 4224, 6000])),
        1 => truth[..truth.len().min(128)].to_vec(),
        2 => truth[..draw.below(truth.len() as u64 + 1) as usize].to_vec(),
        3 => truth.clone(),
        _ => Vec::new(),
    }
}

/// Does things to the folder; the paths that were touched.
fn meddle(draw: &Draw, world: &World, files: &Files) -> Vec<FilePath> {
    let paths: Vec<&FilePath> = files.keys().collect();
    let mut touched = Vec::new();
    let can_lie = |name: &FilePath| {
        let now = vault_of(world);
        let is_folder = now.keys().any(|path| path.name.starts_with(&format!("{}/", name.name)));
        !is_folder && !name.folders().any(|folder| now.contains_key(&folder))
    };
    for _ in 0..1 + draw.below(12) {
        let (truth, name) = ((*draw.of(&paths)).clone(), draw_name(draw, files));
        if !can_lie(&name) {
            continue;
        }
        match draw.below(10) {
            0..=4 => {
                world.disk.deliver(&name, &draw_content(draw, files));
                touched.push(name);
            }
            5 => {
                world.disk.withdraw(&truth);
                world.disk.deliver(&name, &files[&truth]);
                touched.extend([truth, name]);
            }
            6 => {
                world.disk.deliver(&name, &files[&truth]);
                touched.push(name);
            }
            7 => {
                world.disk.deliver(&truth, b"");
                touched.push(truth);
            }
            8 => {
                world.disk.deliver(&truth, &files[&truth][..files[&truth].len() / 2]);
                touched.push(truth);
            }
            _ => {
                world.disk.withdraw(&truth);
                touched.push(truth);
            }
        }
    }
    touched
}

/// No file shows anything that was never in it.
fn is_never_wrong(volume: &Volume, contents: &Contents) {
    for (name, versions) in contents {
        match read(volume, name) {
            Ok(content) => assert!(versions.contains(&content), "{name} shows what was never written"),
            Err(VolumeError::Damaged(_) | VolumeError::NotArrived(_) | VolumeError::NotFound) => {}
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

/// What a device does while the folder is as it should not be.
fn live_with_it(world: &World, contents: &mut Contents, seed: u64, writes: bool) {
    let Ok(volume) = world.try_open(Arc::new(world.disk.clone()), World::options()) else { return };
    is_never_wrong(&volume, contents);
    let status = volume.status();
    assert!(status.warnings.len() <= 100);
    if status.read_only.is_none() && writes {
        let content = noise(seed, 700);
        match write(&volume, "file 9", &content) {
            Ok(()) => {
                let kept = volume.publish_or_keep();
                assert!(!matches!(kept, Err(VolumeError::NotKept { .. })), "{kept:?}");
                contents.entry("file 9".to_owned()).or_default().push(content);
            }
            Err(VolumeError::Damaged(_) | VolumeError::NotArrived(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let closed = volume.close();
    assert!(!matches!(closed, Err(VolumeError::NotKept { .. })), "{closed:?}");
}

fn one_folder(seed: u64) {
    let draw = Draw(SeededRandomness::new(1_000_000 + seed));
    let (world, mut contents) = make(&draw, seed);
    let before = vault_of(&world);
    let touched = meddle(&draw, &world, &before);
    let timed = |what: &str, act: &mut dyn FnMut()| {
        let began = Instant::now();
        act();
        assert!(began.elapsed() < TIME_MAX, "{what} took {:?}", began.elapsed());
    };
    timed("a new device", &mut || live_with_it(&new_device(&world), &mut contents.clone(), seed, true));
    timed("the known device", &mut || live_with_it(&world, &mut contents, seed, true));
    for path in touched {
        match before.get(&path) {
            Some(bytes) => world.disk.deliver(&path, bytes),
            None => world.disk.withdraw(&path),
        }
    }
    world.clock.advance(Duration::from_secs(60));
    timed("the known device, when it is undone", &mut || {
        let volume = open_writable(&world);
        for (name, versions) in &contents {
            let content = read(&volume, name).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(Some(&content), versions.last(), "{name} is not what was synced");
        }
        write(&volume, "after", b"all").expect("written");
        volume.close().expect("published");
        assert_eq!(read(&open_writable(&world), "after").expect("read"), b"all");
    });
}

#[test]
fn whatever_is_done_to_names_nothing_panics_hangs_or_is_lost() {
    let text = std::env::var("PASSKEYFS_TEST_FOLDERS").unwrap_or_default();
    let seeds = match text.strip_prefix('=') {
        Some(seed) => seed.parse().map(|seed| seed..seed + 1).expect("a seed"),
        None => 0..text.parse().unwrap_or(FOLDERS),
    };
    let mut failed = Vec::new();
    for seed in seeds {
        if catch_unwind(AssertUnwindSafe(|| one_folder(seed))).is_err() {
            failed.push(seed);
        }
    }
    assert!(failed.is_empty(), "seeds {failed:?}: run one alone with PASSKEYFS_TEST_FOLDERS==SEED");
}
