//! A pair of devices in memory, the steps that can happen to them, and what must be true after each.
//!
//! Every write replaces what the writer sees, and says what that was: it removes the file `doc <parent>`, makes
//! `doc <number>` and `own <number>`, and overwrites the file `shared` in place. So a tree tells which write it shows, and
//! a sound tree shows exactly the writes on the line from that one back to the first: one that was lost, or came from
//! another line, is seen.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use passkeyfs::check::{CheckOptions, Severity, check_vault};
use passkeyfs::format::DeviceId;
use passkeyfs::history::DeviceState;
use passkeyfs::store::{Area, FilePath, MemoryStore};
use passkeyfs::volume::{OpenError, SetAttributes, SetTime, Volume, VolumeError, VolumeOptions};

use super::support::{OWNER, ROOT, World, noise};

/// Size of a file's content: it lies in a data segment, in two blocks.
const CONTENT_BYTES: usize = 6000;

/// One of the two devices.
pub type Which = usize;

/// Something that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The vault is mounted, and a write is made and synced if it takes one.
    Mount(Which),
    /// The vault is mounted read-only.
    MountReadOnly(Which),
    /// Another write, synced.
    Write(Which),
    /// The process is killed.
    Crash(Which),
    Unmount(Which),
    /// The sync client brings a file of the other device's folder, or the rest of it.
    Arrive(Which, FilePath),
    /// It brings the first half of it.
    ArriveHalf(Which, FilePath),
}

struct Device {
    disk: MemoryStore,
    volume: Option<Arc<Volume>>,
}

/// Both devices, and what was written.
pub struct Pair {
    world: World,
    devices: [Device; 2],
    /// For each write that was acknowledged, the one whose state its writer saw.
    parents: BTreeMap<u32, Option<u32>>,
}

/// What a tree shows.
#[derive(Debug, Default, PartialEq, Eq)]
struct Picture {
    docs: BTreeSet<u32>,
    own: BTreeSet<u32>,
    shared: Option<u32>,
}

fn content_of(number: u32) -> Vec<u8> {
    let mut content = noise(u64::from(number) + 1000, CONTENT_BYTES);
    content[..4].copy_from_slice(&number.to_le_bytes());
    content
}

/// The write whose content this is; panics if it is none's, or a mixture.
fn number_in(content: &[u8]) -> u32 {
    let number = u32::from_le_bytes(content[..4].try_into().expect("four bytes"));
    assert!(content == content_of(number), "the content of write {number} is not what was written");
    number
}

fn vault_files(disk: &MemoryStore) -> BTreeMap<FilePath, Vec<u8>> {
    disk.snapshot().into_iter().filter(|(path, _)| path.area == Area::Vault).collect()
}

fn numbered(names: &BTreeSet<String>, kind: &str) -> BTreeSet<u32> {
    let number = |name: &String| name.strip_prefix(kind)?.trim().parse().ok();
    names.iter().filter_map(number).collect()
}

/// What the volume's tree shows. Content that has not arrived is left out.
fn picture(volume: &Volume) -> Picture {
    let mut names = BTreeSet::new();
    let listed = volume.read_directory(ROOT, 0, false, &mut |entry| {
        names.insert(String::from_utf8_lossy(entry.name).into_owned());
        true
    });
    listed.expect("the directory can be listed");
    let read = |name: &str| {
        let found = volume.lookup(ROOT, name.as_bytes()).expect("a name that is listed");
        match volume.read(found.inode, 0, 1 << 20) {
            Ok(content) => Some(number_in(&content)),
            Err(VolumeError::NotArrived(_)) => None,
            Err(error) => panic!("{name}: {error}"),
        }
    };
    let shared = names.contains("shared").then(|| read("shared")).flatten();
    let picture = Picture { docs: numbered(&names, "doc"), own: numbered(&names, "own"), shared };
    for (kind, numbers) in [("doc", &picture.docs), ("own", &picture.own)] {
        for number in numbers {
            let content = read(&format!("{kind} {number}"));
            assert!(content.is_none_or(|found| found == *number), "{kind} {number} holds another content");
        }
    }
    picture
}

fn read_only() -> VolumeOptions {
    VolumeOptions { read_only: true, ..World::options() }
}

impl Pair {
    /// Both devices have the vault, with one write in it, and have mounted it once.
    pub fn new(seed: u64) -> Self {
        let world = World::new(seed);
        let (first, second) = (world.disk.clone(), MemoryStore::with_clock(world.clock.clone()));
        let device = |disk| Device { disk, volume: None };
        let mut pair = Self { world, devices: [device(first), device(second)], parents: BTreeMap::new() };
        pair.step(&Step::Mount(0));
        pair.step(&Step::Unmount(0));
        pair.deliver_all();
        pair.step(&Step::MountReadOnly(1));
        pair.step(&Step::Unmount(1));
        // A read-only mount records nothing: the second device gets its state from one that takes changes.
        let volume = pair.world.try_open(Arc::new(pair.devices[1].disk.clone()), World::options()).unwrap();
        volume.close().unwrap();
        pair
    }

    fn open(&self, disk: &MemoryStore, options: VolumeOptions) -> Result<Arc<Volume>, OpenError> {
        self.world.try_open(Arc::new(disk.clone()), options)
    }

    /// What can happen next.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for which in [0, 1] {
            match &self.devices[which].volume {
                None => steps.extend([Step::Mount(which), Step::MountReadOnly(which)]),
                Some(volume) => {
                    steps.extend([Step::Crash(which), Step::Unmount(which)]);
                    if volume.status().read_only.is_none() {
                        steps.push(Step::Write(which));
                    }
                }
            }
            let (here, there) = (vault_files(&self.devices[which].disk), vault_files(&self.devices[1 - which].disk));
            for (path, bytes) in there {
                match here.get(&path) {
                    None => steps.extend([Step::Arrive(which, path.clone()), Step::ArriveHalf(which, path)]),
                    Some(part) if part.len() < bytes.len() => steps.push(Step::Arrive(which, path)),
                    Some(_) => {}
                }
            }
        }
        steps
    }

    pub fn step(&mut self, step: &Step) {
        match step {
            Step::Mount(which) => {
                self.devices[*which].volume = self.open(&self.devices[*which].disk, World::options()).ok();
                self.write(*which);
            }
            Step::MountReadOnly(which) => {
                self.devices[*which].volume = self.open(&self.devices[*which].disk, read_only()).ok();
            }
            Step::Write(which) => self.write(*which),
            Step::Crash(which) => {
                let device = &mut self.devices[*which];
                device.disk = device.disk.kill();
                device.volume = None;
            }
            Step::Unmount(which) => {
                // One that fails leaves the changes in the journal, as a crash does.
                let _ = self.devices[*which].volume.take().expect("it is mounted").close();
            }
            Step::Arrive(which, path) => self.deliver(*which, path, 1),
            Step::ArriveHalf(which, path) => self.deliver(*which, path, 2),
        }
    }

    fn deliver(&self, which: Which, path: &FilePath, divisor: usize) {
        let bytes = &vault_files(&self.devices[1 - which].disk)[path];
        self.devices[which].disk.deliver(path, &bytes[..bytes.len() / divisor]);
    }

    fn deliver_all(&self) {
        for which in [0, 1] {
            let here = vault_files(&self.devices[which].disk);
            for (path, bytes) in vault_files(&self.devices[1 - which].disk) {
                if here.get(&path).is_none_or(|part| part.len() < bytes.len()) {
                    self.devices[which].disk.deliver(&path, &bytes);
                }
            }
        }
    }

    /// Writes and syncs, where the volume takes changes.
    fn write(&mut self, which: Which) {
        let Some(volume) = self.devices[which].volume.clone() else { return };
        // A first change on its own: whatever it makes the volume look at is seen by the listing below.
        let touch = SetAttributes { modified: Some(SetTime::Now), ..SetAttributes::default() };
        if volume.set_attributes(ROOT, &touch).is_err() {
            return;
        }
        let seen = picture(&volume);
        let number = self.parents.len() as u32;
        let create = |name: String| {
            let inode = volume.create_file(ROOT, name.as_bytes(), &OWNER).expect("a new file").inode;
            volume.write(inode, 0, &content_of(number), false).expect("written");
            volume.close_file(inode);
        };
        seen.docs.iter().for_each(|doc| volume.unlink(ROOT, format!("doc {doc}").as_bytes()).expect("removed"));
        create(format!("doc {number}"));
        create(format!("own {number}"));
        match volume.lookup(ROOT, b"shared") {
            Ok(shared) => volume.write(shared.inode, 0, &content_of(number), false).expect("written"),
            Err(_) => create("shared".into()),
        }
        volume.sync_file(ROOT).expect("synced");
        self.parents.insert(number, seen.docs.first().copied());
    }

    /// The writes on the line that ends with this one.
    fn line_of(&self, number: u32) -> BTreeSet<u32> {
        std::iter::successors(Some(number), |number| self.parents[number]).collect()
    }

    /// Which write a tree shows: exactly its state, with nothing lost and nothing mixed in.
    fn shown_by(&self, volume: &Volume) -> Option<u32> {
        let picture = picture(volume);
        let Some(number) = picture.docs.first().copied() else {
            assert_eq!(picture, Picture::default(), "a tree before the first write");
            return None;
        };
        assert_eq!(picture.docs.len(), 1, "the tree mixes two states: {picture:?}");
        assert_eq!(picture.own, self.line_of(number), "the tree is not the state of write {number}: {picture:?}");
        assert!(picture.shared.is_none_or(|shared| shared == number), "`shared` is of another state: {picture:?}");
        Some(number)
    }

    fn check(&self, disk: &MemoryStore, worst: Severity) {
        let environment = self.world.environment(Arc::new(disk.clone()));
        let options = CheckOptions { data_percent: Some(100), ..CheckOptions::default() };
        let report = check_vault(&environment, self.world.keys(), &options, &mut |_| {}).expect("a vault to check");
        let beyond: Vec<_> = report.issues.iter().filter(|issue| issue.severity > worst).collect();
        assert!(beyond.is_empty(), "check finds {beyond:?}");
    }

    /// What must be true at any moment. Consumes the pair: mounts are made that are no step.
    pub fn verify(mut self) {
        for which in [0, 1] {
            if self.devices[which].volume.is_none() {
                self.verify_mounts(&self.devices[which].disk);
            }
        }
        for which in [0, 1] {
            if self.devices[which].volume.is_some() {
                self.step(&Step::Unmount(which));
            }
        }
        self.verify_in_the_end();
    }

    /// A device that is not mounted can be mounted at least read-only, and shows a sound tree either way.
    fn verify_mounts(&self, disk: &MemoryStore) {
        self.check(disk, Severity::NotArrived);
        let looked_at = disk.fork();
        let volume = self.open(&looked_at, read_only()).expect("it can be mounted read-only");
        self.shown_by(&volume);
        let worked_on = disk.fork();
        if let Ok(volume) = self.open(&worked_on, World::options()) {
            self.shown_by(&volume);
            let _ = volume.close();
        }
        self.check(&worked_on, Severity::NotArrived);
    }

    /// Once every file has arrived everywhere and both devices have mounted, every write that nobody has replaced is
    /// shown by some head, on either device and on a new one.
    fn verify_in_the_end(&self) {
        // Twice: what the journals hold is published by a mount, and must arrive, too.
        for _ in 0..2 {
            self.deliver_all();
            for device in &self.devices {
                if let Ok(volume) = self.open(&device.disk, World::options()) {
                    let _ = volume.close();
                }
            }
        }
        self.deliver_all();
        let new_device = MemoryStore::with_clock(self.world.clock.clone());
        vault_files(&self.devices[0].disk).iter().for_each(|(path, bytes)| new_device.deliver(path, bytes));
        let replaced: BTreeSet<u32> = self.parents.values().flatten().copied().collect();
        let newest: BTreeSet<u32> = self.parents.keys().copied().filter(|number| !replaced.contains(number)).collect();
        let id_of = |device: &Device| DeviceState::load(&device.disk).expect("readable").expect("a state").device;
        let ids: Vec<DeviceId> = self.devices.iter().map(id_of).collect();
        for disk in [&self.devices[0].disk, &self.devices[1].disk, &new_device] {
            self.check(disk, Severity::Warning);
            let shown: BTreeSet<u32> = ids.iter().filter_map(|id| self.shown_by_head(disk, *id)).collect();
            let lost: Vec<_> = newest.difference(&shown).collect();
            assert!(lost.is_empty(), "writes that no head shows: {lost:?}; shown: {shown:?}; {:?}", self.parents);
        }
    }

    fn shown_by_head(&self, disk: &MemoryStore, device: DeviceId) -> Option<u32> {
        let has_written = vault_files(disk).keys().any(|path| path.name.starts_with(&format!("devices/{device}/")));
        if !has_written {
            return None;
        }
        let options = VolumeOptions { head: Some(device.to_string()), ..read_only() };
        let volume = self.open(&disk.fork(), options).expect("a device's newest commit can be mounted");
        self.shown_by(&volume)
    }
}
