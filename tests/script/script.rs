//! A script of bytes for a whole volume on a disk that fails: operations, failing calls, power losses, reopenings.
//!
//! A model of a dozen files goes along. What must hold, whatever the script:
//!
//! 1. Nothing panics.
//! 2. An operation that reports success has done what it says; one that fails has done nothing.
//! 3. After a power loss, a kill or a failed close, the volume opens (once the disk works again) in a state that it had at
//!    or after the last acknowledged sync or publish: *all* of that state, never a mixture.
//! 4. After a close that reports success it opens in exactly the last state.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::support::{OWNER, ROOT, World};
use passkeyfs::crypto::SeededRandomness;
use passkeyfs::format::InodeNumber;
use passkeyfs::store::faulty::{CallKind, Failure, Fault, FaultyStore};
use passkeyfs::store::{Area, MemoryStore, SimulatedClock};
use passkeyfs::volume::{
    Allocate, Place, RenameMode, Result, SeekTarget, SetAttributes, SetExtendedAttribute, Volume, VolumeError,
};

/// Names that files can have: the first half in the root, the others in the directory "directory".
const NAMES: u8 = 8;
const DIRECTORY: &[u8] = b"directory";
const ATTRIBUTE: &[u8] = b"user.a";
/// Files stay below this, so that a script is quick.
const FILE_BYTES_MAX: u64 = 64 * 1024;
const BLOCK_BYTES: u64 = 4096;

/// A file's content and attribute; shared by all states in which it is the same.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct FileState {
    content: Vec<u8>,
    attribute: Option<u8>,
}

/// Which names there are, which are the same file, and what the files hold.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct State {
    names: BTreeMap<u8, InodeNumber>,
    files: BTreeMap<InodeNumber, Rc<FileState>>,
}

impl State {
    fn drop_unnamed(&mut self) {
        let Self { names, files } = self;
        files.retain(|inode, _| names.values().any(|named| named == inode));
    }
}

/// The bytes of the script, read from the front. Zeros follow the last.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: u8) -> u8 {
        self.byte() % bound
    }

    /// An offset or length: small, near a block's edge, or any.
    fn number(&mut self) -> u64 {
        let (form, value) = (self.byte(), u64::from(self.byte()));
        match form % 4 {
            0 => value,
            1 => value % 14 * BLOCK_BYTES,
            2 => (value % 13 + 1) * BLOCK_BYTES - 8 + value / 16,
            _ => u64::from(form / 4) * 256 + value,
        }
    }
}

struct Run<'a> {
    script: Script<'a>,
    world: World,
    store: FaultyStore<MemoryStore>,
    volume: Arc<Volume>,
    directory: InodeNumber,
    state: State,
    /// States since the last that is durable for certain, which is the first; the present one is the last.
    history: Vec<State>,
}

/// Runs a script. Panics when a promise is broken.
pub fn run(script: &[u8]) {
    let mut run = Run::start(script);
    while !run.script.0.is_empty() {
        run.step();
        if run.history.last() != Some(&run.state) {
            run.history.push(run.state.clone());
        }
    }
    run.store.reset();
    run.check_files();
    run.close();
}

fn base() -> (World, InodeNumber) {
    // Made once for each thread, then copied: making a vault takes longer than most scripts.
    thread_local! {
        static BASE: (MemoryStore, InodeNumber) = {
            let world = World::new(1);
            let volume = world.open();
            let directory = volume.make_directory(ROOT, DIRECTORY, &OWNER).expect("an empty volume").inode;
            volume.close().expect("a disk that works");
            (world.disk.fork(), directory)
        };
    }
    BASE.with(|(disk, directory)| {
        let mut world = World::of_seed(1, BLOCK_BYTES as u32);
        world.disk = disk.fork();
        world.randomness = Arc::new(SeededRandomness::new(2));
        world.clock = Arc::new(SimulatedClock::default());
        (world, *directory)
    })
}

impl<'a> Run<'a> {
    fn start(script: &'a [u8]) -> Self {
        let (world, directory) = base();
        let store = FaultyStore::new(Arc::new(world.disk.clone()));
        let volume = world.try_open(Arc::new(store.clone()), World::options()).expect("a disk that works");
        let history = vec![State::default()];
        Self { script: Script(script), world, store, volume, directory, state: State::default(), history }
    }

    fn step(&mut self) {
        match self.script.below(22) {
            0 | 1 => self.create(),
            2 | 3 => self.write(),
            4 => self.truncate(),
            5 => self.unlink(),
            6 => self.rename(),
            7 => self.link(),
            8 => self.allocate(),
            9 => self.copy(),
            10 => self.set_attribute(),
            11 => self.check_one_file(),
            12 | 13 => self.sync(),
            14 => self.publish(),
            15 => self.plan_fault(),
            16 => self.fill_or_free(),
            17 => self.store.reset(),
            18 => self.lose_power(),
            19 => self.kill(),
            20 => self.close(),
            _ => self.world.clock.advance(Duration::from_secs(self.script.byte().into())),
        }
    }

    fn name(&mut self) -> u8 {
        self.script.below(NAMES)
    }

    fn place(&self, name: u8) -> (InodeNumber, [u8; 1]) {
        (if name < NAMES / 2 { ROOT } else { self.directory }, [b'a' + name])
    }

    /// A file that is there, if any.
    fn file(&mut self) -> Option<InodeNumber> {
        let name = self.name();
        self.state.names.get(&name).copied()
    }

    fn change(&mut self, inode: InodeNumber, change: impl FnOnce(&mut FileState)) {
        change(Rc::make_mut(self.state.files.get_mut(&inode).expect("the model knows the file")));
    }

    fn create(&mut self) {
        let name = self.name();
        let (parent, text) = self.place(name);
        match self.volume.create_file(parent, &text, &OWNER) {
            Ok(attributes) => {
                self.volume.close_file(attributes.inode);
                self.volume.forget(attributes.inode, 1);
                assert!(self.state.names.insert(name, attributes.inode).is_none(), "made again");
                assert!(self.state.files.insert(attributes.inode, Rc::default()).is_none(), "an inode given twice");
            }
            Err(VolumeError::Exists) => assert!(self.state.names.contains_key(&name)),
            Err(error) => self.expect_a_failing_disk(&error),
        }
    }

    fn write(&mut self) {
        let (Some(inode), offset, length) = (self.file(), self.script.number(), self.script.number() % 20_000) else {
            return;
        };
        let fill = self.script.byte();
        let bytes: Vec<u8> = (0..length).map(|at| fill ^ (at / 64 * 7) as u8).collect();
        match self.volume.write(inode, offset, &bytes, false) {
            Ok(()) => self.change(inode, |file| put(&mut file.content, offset as usize, &bytes)),
            Err(error) => self.expect_a_failing_disk(&error),
        }
    }

    fn truncate(&mut self) {
        let (Some(inode), size) = (self.file(), self.script.number()) else { return };
        let set = SetAttributes { size_bytes: Some(size), ..SetAttributes::default() };
        match self.volume.set_attributes(inode, &set) {
            Ok(attributes) => {
                assert_eq!(attributes.size_bytes, size);
                self.change(inode, |file| file.content.resize(size as usize, 0));
            }
            Err(error) => self.expect_a_failing_disk(&error),
        }
    }

    fn unlink(&mut self) {
        let name = self.name();
        let (parent, text) = self.place(name);
        match self.volume.unlink(parent, &text) {
            Ok(()) => {
                assert!(self.state.names.remove(&name).is_some(), "what was not there was removed");
                self.state.drop_unnamed();
            }
            Err(VolumeError::NotFound) => assert!(!self.state.names.contains_key(&name)),
            Err(error) => self.expect_a_failing_disk(&error),
        }
    }

    fn rename(&mut self) {
        let (source, target) = (self.name(), self.name());
        let mode = [RenameMode::Replace, RenameMode::NoReplace, RenameMode::Exchange][self.script.below(3) as usize];
        let ((parent, name), (new_parent, new_name)) = (self.place(source), self.place(target));
        let (moved, replaced) = (self.state.names.get(&source).copied(), self.state.names.get(&target).copied());
        match self.volume.rename(parent, &name, new_parent, &new_name, mode) {
            Ok(()) => {
                let moved = moved.expect("what was not there was renamed");
                // Two names of one file: POSIX has rename do nothing.
                if mode == RenameMode::Replace && replaced != Some(moved) {
                    self.state.names.remove(&source);
                } else if mode == RenameMode::NoReplace {
                    assert!(replaced.is_none(), "a name was replaced");
                    self.state.names.remove(&source);
                } else if mode == RenameMode::Exchange {
                    self.state.names.insert(source, replaced.expect("exchanged with nothing"));
                }
                self.state.names.insert(target, moved);
                self.state.drop_unnamed();
            }
            Err(VolumeError::NotFound) => {
                assert!(moved.is_none() || mode == RenameMode::Exchange && replaced.is_none());
            }
            Err(VolumeError::Exists) => assert!(mode == RenameMode::NoReplace && replaced.is_some()),
            Err(error) => self.expect_a_failing_disk(&error),
        }
    }

    fn link(&mut self) {
        let (Some(inode), name) = (self.file(), self.name()) else { return };
        let (parent, text) = self.place(name);
        match self.volume.link(inode, parent, &text) {
            Ok(attributes) => {
                self.volume.forget(inode, 1);
                assert!(self.state.names.insert(name, inode).is_none(), "a name given twice");
                let links = self.state.names.values().filter(|named| **named == inode).count();
                assert_eq!(attributes.link_count as usize, links);
            }
            Err(VolumeError::Exists) => assert!(self.state.names.contains_key(&name)),
            Err(error) => self.expect_a_failing_disk(&error),
        }
    }

    fn allocate(&mut self) {
        let what = self.script.below(7);
        let (Some(inode), offset, length) = (self.file(), self.script.number(), self.script.number()) else { return };
        let what = [
            Allocate::Reserve,
            Allocate::ReserveKeepSize,
            Allocate::PunchHole,
            Allocate::Zero,
            Allocate::ZeroKeepSize,
            Allocate::Collapse,
            Allocate::Insert,
        ][usize::from(what)];
        let size = self.state.files[&inode].content.len() as u64;
        if what == Allocate::Insert && size + length > FILE_BYTES_MAX {
            return;
        }
        match self.volume.allocate(inode, what, offset, length, false) {
            Ok(()) => self.change(inode, |file| allocated(&mut file.content, what, offset as usize, length as usize)),
            Err(VolumeError::Invalid(_)) => {}
            Err(error) => self.expect_a_failing_disk(&error),
        }
    }

    fn copy(&mut self) {
        let (Some(source), Some(target)) = (self.file(), self.file()) else { return };
        let (from, to, length) = (self.script.number(), self.script.number(), self.script.number());
        match self.volume.copy_range(
            Place { inode: source, offset: from },
            Place { inode: target, offset: to },
            length,
            false,
        ) {
            Ok(copied) => {
                assert!(copied <= length);
                let content = &self.state.files[&source].content;
                let bytes = content.get(from as usize..(from + copied) as usize).unwrap_or_default().to_vec();
                assert_eq!(bytes.len() as u64, copied, "more was copied than there is");
                if copied > 0 {
                    self.change(target, |file| put(&mut file.content, to as usize, &bytes));
                }
            }
            Err(VolumeError::Invalid(_)) => assert_eq!(source, target),
            Err(error) => self.expect_a_failing_disk(&error),
        }
    }

    fn set_attribute(&mut self) {
        let (Some(inode), value) = (self.file(), self.script.byte()) else { return };
        let had = self.state.files[&inode].attribute.is_some();
        let result = if value == 0 {
            self.volume.remove_extended_attribute(inode, ATTRIBUTE)
        } else {
            let bytes = [value].repeat(usize::from(value) * 20);
            self.volume.set_extended_attribute(inode, ATTRIBUTE, &bytes, SetExtendedAttribute::Any, false)
        };
        match result {
            Ok(()) => self.change(inode, |file| file.attribute = Some(value).filter(|value| *value > 0)),
            Err(VolumeError::NoAttribute) => assert!(!had),
            Err(error) => self.expect_a_failing_disk(&error),
        }
    }

    /// A call that was planned to fail may have, or the disk is full, or an earlier failure made the volume read-only.
    fn expect_a_failing_disk(&self, error: &VolumeError) {
        let expected = matches!(
            error,
            VolumeError::Io(_)
                | VolumeError::NoSpace(_)
                | VolumeError::ReadOnly(_)
                | VolumeError::NotArrived(_)
                | VolumeError::FolderGone(_)
                | VolumeError::NotKept { .. }
        );
        assert!(expected, "an operation failed for no reason of the disk's: {error:?}");
    }

    fn sync(&mut self) {
        match self.volume.sync_file(ROOT) {
            Ok(()) => self.history = vec![self.state.clone()],
            Err(error) => self.expect_a_failing_disk(&error),
        }
    }

    fn publish(&mut self) {
        match self.volume.publish() {
            Ok(()) => self.history = vec![self.state.clone()],
            Err(error) => self.expect_a_failing_disk(&error),
        }
    }

    fn plan_fault(&mut self) {
        let number = self.store.calls().total() + u64::from(self.script.byte() % 48);
        // Not `NotFound`: a disk that says so of a file that is there is not one that fails, but another disk.
        let failure =
            [Failure::Full, Failure::Io, Failure::PermissionDenied, Failure::ReadOnly][self.script.below(4) as usize];
        match self.script.below(4) {
            0 => self.store.fail(&CallKind::ALL, number, Fault::Before(failure)),
            1 => self.store.fail(&CallKind::ALL, number, Fault::Halfway(failure)),
            2 => self.store.fail(&CallKind::ALL, number, Fault::After(failure)),
            _ => self.store.gone_from(number),
        }
    }

    fn fill_or_free(&mut self) {
        let choice = self.script.byte();
        let area = if choice & 1 == 0 { Area::Vault } else { Area::State };
        self.store.set_full(area, choice & 2 == 0);
    }

    fn lose_power(&mut self) {
        let script = &mut self.script;
        let disk = self.world.disk.crash(&mut |below| u64::from(script.byte()) % below);
        self.reopen(disk);
        self.history = vec![self.state.clone()];
    }

    fn kill(&mut self) {
        let disk = self.world.disk.kill();
        self.reopen(disk);
        // What a dead process had not synced is not durable yet: the earlier states stay possible.
        self.history.push(self.state.clone());
    }

    /// Opens the volume on what is left of the disk, first with the faults that the script plans.
    fn reopen(&mut self, disk: MemoryStore) {
        self.world.disk = disk;
        self.store = FaultyStore::new(Arc::new(self.world.disk.clone()));
        if self.script.byte().is_multiple_of(4) {
            self.plan_fault();
            // It may fail or not, but must leave everything as it is.
            drop(self.world.try_open(Arc::new(self.store.clone()), World::options()));
            self.store.reset();
        }
        self.volume =
            self.world.try_open(Arc::new(self.store.clone()), World::options()).expect("the disk works again");
        let found = self.look();
        let Some(state) = self.history.iter().rev().find(|state| **state == found) else {
            let (durable, present) = (&self.history[0], &self.state);
            panic!(
                "found {}\nof {} states, of which the durable one is {}\nand the last one {}",
                describe(&found),
                self.history.len(),
                describe(durable),
                describe(present),
            );
        };
        self.state = state.clone();
    }

    fn close(&mut self) {
        let closed = self.volume.close();
        if let Err(error) = &closed {
            self.expect_a_failing_disk(error);
        } else {
            self.history = vec![self.state.clone()];
        }
        self.kill();
    }

    /// All that the volume holds.
    fn look(&self) -> State {
        let mut state = State::default();
        for name in 0..NAMES {
            let (parent, text) = self.place(name);
            let inode = match self.volume.lookup(parent, &text) {
                Ok(attributes) => attributes.inode,
                Err(VolumeError::NotFound) => continue,
                Err(error) => panic!("a name cannot be looked up: {error}"),
            };
            state.names.insert(name, inode);
            let file = self.read_file(inode).unwrap_or_else(|error| panic!("a file cannot be read: {error}"));
            state.files.insert(inode, Rc::new(file));
            self.volume.forget(inode, 1);
        }
        state
    }

    fn read_file(&self, inode: InodeNumber) -> Result<FileState> {
        let size = self.volume.attributes(inode)?.size_bytes;
        let content = self.volume.read(inode, 0, size as usize)?;
        assert_eq!(content.len() as u64, size, "a read ended early");
        let attribute = match self.volume.extended_attribute(inode, ATTRIBUTE) {
            Ok(value) => {
                let first = *value.first().expect("never empty here");
                assert_eq!(value, [first].repeat(usize::from(first) * 20));
                Some(first)
            }
            Err(VolumeError::NoAttribute) => None,
            Err(error) => return Err(error),
        };
        Ok(FileState { content, attribute })
    }

    fn check_one_file(&mut self) {
        let Some(inode) = self.file() else { return };
        match self.read_file(inode) {
            Ok(found) => assert_eq!(describe_file(&found), describe_file(&self.state.files[&inode])),
            Err(error) => self.expect_a_failing_disk(&error),
        }
        let at = self.script.number();
        match self.volume.seek(inode, at, SeekTarget::Data) {
            Ok(data) => {
                let skipped = self.state.files[&inode].content.get(at as usize..data as usize);
                assert!(skipped.expect("data within the file").iter().all(|byte| *byte == 0), "data in a hole");
            }
            Err(VolumeError::NoSuchOffset) => {
                let rest = self.state.files[&inode].content.iter().skip(at as usize);
                assert!(rest.into_iter().all(|byte| *byte == 0), "data where none is said to be");
            }
            Err(error) => self.expect_a_failing_disk(&error),
        }
    }

    fn check_files(&self) {
        let found = self.look();
        assert!(found == self.state, "found {}\ninstead of {}", describe(&found), describe(&self.state));
    }
}

/// Writes over or behind what is there.
fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

fn allocated(content: &mut Vec<u8>, what: Allocate, offset: usize, length: usize) {
    let (size, end) = (content.len(), offset + length);
    match what {
        Allocate::Reserve => content.resize(size.max(end), 0),
        Allocate::ReserveKeepSize => {}
        Allocate::PunchHole | Allocate::Zero | Allocate::ZeroKeepSize => {
            content[offset.min(size)..end.min(size)].fill(0);
            if what == Allocate::Zero {
                content.resize(size.max(end), 0);
            }
        }
        Allocate::Collapse => drop(content.drain(offset..end)),
        Allocate::Insert => drop(content.splice(offset..offset, std::iter::repeat_n(0, length))),
    }
}

fn describe_file(file: &FileState) -> (usize, String, Option<u8>) {
    let hash = passkeyfs::crypto::hash(&file.content);
    (file.content.len(), hash[..4].iter().map(|byte| format!("{byte:02x}")).collect(), file.attribute)
}

fn describe(state: &State) -> String {
    let files: Vec<_> = state.files.iter().map(|(inode, file)| (inode, describe_file(file))).collect();
    format!("names {:?}, files {files:?}", state.names)
}
