//! The driver: does each operation to a volume and to the reference, and compares what they say.
//!
//! After a crash the volume must show some state that the reference went through, at least as new as the last that was
//! acknowledged: the reference's states since then are kept, one an operation.

use std::sync::Arc;

use passkeyfs::crypto::{Randomness, SeededRandomness};
use passkeyfs::format::InodeNumber;
use passkeyfs::store::memory::chosen_by;
use passkeyfs::store::{Clock, MemoryStore, Store};
use passkeyfs::volume::{
    FileKind, NewNode, Place, SetAttributes, SetTime, Timestamp, Volume, VolumeError, VolumeOptions,
};

use super::commit_check;
use super::operations::{Fill, Operation, Which};
use super::picture::{Picture, find_wrong_hole};
use super::reference::{Content, Reference, Refusal};
use super::support::{OWNER, ROOT, World};

/// Size of a block in these tests: the smallest.
pub const BLOCK_BYTES: usize = 4096;
/// Files do not grow beyond this: they are compared often.
const FILE_BYTES_MAX: usize = 20 * BLOCK_BYTES;

/// Why a run ends.
#[derive(Debug)]
pub enum Stop {
    /// The volume is not what it should be.
    Wrong(String),
    /// The disk failed the volume, which said so, and the operation was not done.
    Failed(VolumeError),
}

type Outcome<T = ()> = Result<T, Stop>;

fn wrong<T>(text: impl Into<String>) -> Outcome<T> {
    Err(Stop::Wrong(text.into()))
}

/// A name of the few that operations use: they shall meet often.
pub fn name(index: usize) -> Vec<u8> {
    match index % 8 {
        6 => vec![b'n'; 255],
        7 => vec![0xff, 0xfe, b' ', b'7'],
        small => vec![b'a' + small as u8],
    }
}

/// A disk that fails may keep a volume from being read; nothing else may.
fn unreadable(error: VolumeError) -> Stop {
    match error {
        VolumeError::Io(_) => Stop::Failed(error),
        _ => Stop::Wrong(format!("the volume cannot be looked at: {error}")),
    }
}

fn extended_name(index: usize) -> Vec<u8> {
    format!("user.{index}").into_bytes()
}

/// A volume with its reference.
pub struct Driver {
    pub world: World,
    pub volume: Arc<Volume>,
    pub options: VolumeOptions,
    pub reference: Reference,
    /// The states since the newest that was acknowledged, which is the first.
    pub history: Vec<Reference>,
    /// What the volume writes to, where that is not the world's disk itself.
    pub store: Option<Arc<dyn Store>>,
    /// The disk as the last crash left it, before the volume was opened again.
    pub left: Option<MemoryStore>,
    handles: Vec<u64>,
    seed: u64,
}

impl Driver {
    pub fn new(seed: u64, options: VolumeOptions) -> Self {
        let world = World::with_block_bytes(seed, BLOCK_BYTES as u32);
        let volume = world.try_open(Arc::new(world.disk.clone()), options.clone()).unwrap();
        Self::with(world, volume, options, seed)
    }

    /// The same with a volume that was opened already, and is empty.
    pub fn with(world: World, volume: Arc<Volume>, options: VolumeOptions, seed: u64) -> Self {
        let created = volume.attributes(ROOT).unwrap().created;
        let reference = Reference::new(ROOT.0, OWNER.permissions, created);
        let history = vec![reference.clone()];
        Self { world, volume, options, reference, history, store: None, left: None, handles: Vec::new(), seed }
    }

    /// Another driver on a copy of the disk; its volume is this one's until it is opened again.
    pub fn on_a_copy(&self) -> Self {
        Self {
            world: self.world.fork(),
            volume: Arc::clone(&self.volume),
            options: self.options.clone(),
            reference: self.reference.clone(),
            history: self.history.clone(),
            store: None,
            left: None,
            handles: Vec::new(),
            seed: self.seed,
        }
    }

    fn now(&self) -> Timestamp {
        let since = self.world.clock.now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Timestamp { seconds: since.as_secs() as i64, nanoseconds: since.subsec_nanos() }
    }

    fn files(&self) -> Vec<u64> {
        let is_file = |content: &Content| matches!(content, Content::File(_));
        self.reference.nodes.iter().filter(|(_, node)| is_file(&node.content)).map(|(inode, _)| *inode).collect()
    }

    fn file(&self, which: Which) -> Option<u64> {
        let files = self.files();
        (!files.is_empty()).then(|| files[which % files.len()])
    }

    fn directory(&self, which: Which) -> u64 {
        let nodes = self.reference.nodes.iter();
        let directories: Vec<u64> =
            nodes.filter(|(_, node)| node.kind == FileKind::Directory).map(|(inode, _)| *inode).collect();
        directories[which % directories.len()]
    }

    fn node(&self, which: Which) -> u64 {
        *self.reference.nodes.keys().nth(which % self.reference.nodes.len()).unwrap()
    }

    fn bytes_to_write(&self, file: u64, offset: usize, length: usize, fill: Fill) -> Vec<u8> {
        let mut bytes = vec![0; length];
        match fill {
            Fill::Zeros => {}
            Fill::Byte(byte) => bytes.fill(byte),
            Fill::Noise(seed) => SeededRandomness::new(seed).fill(&mut bytes),
            Fill::Same => {
                let there = self.reference.get(file).bytes();
                if offset < there.len() {
                    let common = length.min(there.len() - offset);
                    bytes[..common].copy_from_slice(&there[offset..offset + common]);
                }
            }
        }
        bytes
    }

    /// Does one operation. `Failed` leaves the reference as it was.
    pub fn step(&mut self, operation: &Operation) -> Outcome {
        self.world.clock.advance(std::time::Duration::from_millis(7));
        self.reference.now = self.now();
        match *operation {
            Operation::Sync { node } => {
                self.volume.sync_file(InodeNumber(self.node(node))).map_err(Stop::Failed)?;
                self.acknowledged();
            }
            Operation::Publish => {
                self.volume.publish().map_err(Stop::Failed)?;
                self.acknowledged();
                self.look(true)?;
                self.check_commit()?;
            }
            Operation::Look => self.look(false)?,
            Operation::Reopen => {
                self.volume.close().map_err(Stop::Failed)?;
                self.acknowledged();
                self.reopen()?;
            }
            Operation::Kill => {
                self.world.disk = self.world.disk.kill();
                self.left = Some(self.world.disk.fork());
                self.recover()?;
            }
            Operation::PowerLoss { seed } => {
                self.world.disk = self.world.disk.crash(&mut chosen_by(&SeededRandomness::new(seed)));
                self.left = Some(self.world.disk.fork());
                self.recover()?;
                self.acknowledged();
            }
            _ => {
                self.change(operation)?;
                self.history.push(self.reference.clone());
            }
        }
        Ok(())
    }

    /// All done so far is durable: the volume said so.
    fn acknowledged(&mut self) {
        self.history = vec![self.reference.clone()];
    }

    /// Does the operation to both, and compares what they say.
    fn change(&mut self, operation: &Operation) -> Outcome {
        let mut next = self.reference.clone();
        if let Some((found, wanted)) = self.change_both(&mut next, operation) {
            match (found, wanted) {
                (Ok(()), Ok(())) => self.reference = next,
                (Err(error), wanted) => match (Refusal::of(&error), wanted) {
                    (None, _) => return Err(Stop::Failed(error)),
                    (Some(found), Err(wanted)) if found == wanted => {}
                    (Some(_), wanted) => return wrong(format!("{operation:?}: {error}, not {wanted:?}")),
                },
                (Ok(()), Err(wanted)) => return wrong(format!("{operation:?}: done, and not {wanted:?}")),
            }
        }
        Ok(())
    }

    /// What the volume and the reference say to an operation; `None` where there is nothing to do it to.
    fn change_both(
        &mut self,
        next: &mut Reference,
        operation: &Operation,
    ) -> Option<(Result<(), VolumeError>, Result<(), Refusal>)> {
        match *operation {
            Operation::Create { .. }
            | Operation::MakeDirectory { .. }
            | Operation::MakeNode { .. }
            | Operation::MakeSymlink { .. } => self.make(next, operation),
            Operation::Link { .. }
            | Operation::Unlink { .. }
            | Operation::RemoveDirectory { .. }
            | Operation::Rename { .. } => self.change_names(next, operation),
            Operation::Write { .. }
            | Operation::Append { .. }
            | Operation::Truncate { .. }
            | Operation::Allocate { .. }
            | Operation::Copy { .. } => self.change_content(next, operation),
            Operation::Open { .. } | Operation::Close { .. } => self.use_handles(next, operation),
            _ => self.change_attributes(next, operation),
        }
    }

    fn make(
        &mut self,
        next: &mut Reference,
        operation: &Operation,
    ) -> Option<(Result<(), VolumeError>, Result<(), Refusal>)> {
        let volume = &self.volume;
        let new = NewNode { permissions: 0o751, ..OWNER };
        let (parent, name, kind, content, made) = match *operation {
            Operation::Create { directory, name: index, .. } => {
                let (parent, name) = (self.directory(directory), name(index));
                let made = volume.create_file(InodeNumber(parent), &name, &new);
                (parent, name, FileKind::Regular, Content::File(Arc::default()), made)
            }
            Operation::MakeDirectory { directory, name: index } => {
                let (parent, name) = (self.directory(directory), name(index));
                let made = volume.make_directory(InodeNumber(parent), &name, &new);
                (parent, name, FileKind::Directory, Content::Directory(Default::default()), made)
            }
            Operation::MakeNode { directory, name: index, kind } => {
                let (parent, name) = (self.directory(directory), name(index));
                let made = volume.make_node(InodeNumber(parent), &name, &new, kind, 0x105);
                (parent, name, kind, Content::Device(0x105), made)
            }
            Operation::MakeSymlink { directory, name: index, bytes } => {
                let (parent, name, target) = (self.directory(directory), name(index), vec![b't'; bytes]);
                let made = volume.make_symlink(InodeNumber(parent), &name, &target, &new);
                (parent, name, FileKind::Symlink, Content::Symlink(target), made)
            }
            _ => return None,
        };
        let mode = if kind == FileKind::Symlink { 0o777 } else { 0o751 };
        let inode = made.as_ref().map_or(0, |attributes| attributes.inode.0);
        let wanted = next.make(parent, &name, inode, kind, mode, content);
        if made.is_ok() && wanted.is_ok() {
            volume.forget(InodeNumber(inode), 1);
            match operation {
                Operation::Create { keep_open: true, .. } => {
                    next.change(inode).handles += 1;
                    self.handles.push(inode);
                }
                Operation::Create { .. } => volume.close_file(InodeNumber(inode)),
                _ => {}
            }
        }
        Some((made.map(drop), wanted))
    }

    fn change_names(
        &mut self,
        next: &mut Reference,
        operation: &Operation,
    ) -> Option<(Result<(), VolumeError>, Result<(), Refusal>)> {
        let volume = &self.volume;
        Some(match *operation {
            Operation::Link { file, directory, name: index } => {
                let (inode, parent, name) = (self.file(file)?, self.directory(directory), name(index));
                let linked = volume.link(InodeNumber(inode), InodeNumber(parent), &name);
                if linked.is_ok() {
                    volume.forget(InodeNumber(inode), 1);
                }
                (linked.map(drop), next.link(inode, parent, &name))
            }
            Operation::Unlink { directory, name: index } => {
                let (parent, name) = (self.directory(directory), name(index));
                (volume.unlink(InodeNumber(parent), &name), next.unlink(parent, &name))
            }
            Operation::RemoveDirectory { directory, name: index } => {
                let (parent, name) = (self.directory(directory), name(index));
                (volume.remove_directory(InodeNumber(parent), &name), next.remove_directory(parent, &name))
            }
            Operation::Rename { from, to, mode } => {
                let (from, source) = (self.directory(from.0), name(from.1));
                let (to, target) = (self.directory(to.0), name(to.1));
                let renamed = volume.rename(InodeNumber(from), &source, InodeNumber(to), &target, mode);
                (renamed, next.rename((from, &source), (to, &target), mode))
            }
            _ => return None,
        })
    }

    fn change_content(
        &mut self,
        next: &mut Reference,
        operation: &Operation,
    ) -> Option<(Result<(), VolumeError>, Result<(), Refusal>)> {
        let volume = &self.volume;
        Some(match *operation {
            Operation::Write { file, offset, length, fill } => {
                let (inode, length) = (self.file(file)?, length.clamp(1, 3 * BLOCK_BYTES + 7));
                let bytes = self.bytes_to_write(inode, offset, length, fill);
                next.write(inode, offset, &bytes);
                (volume.write(InodeNumber(inode), offset as u64, &bytes, false), Ok(()))
            }
            Operation::Append { file, length, fill } => {
                let inode = self.file(file)?;
                let offset = self.reference.get(inode).bytes().len();
                let bytes = self.bytes_to_write(inode, offset, length.clamp(1, FILE_BYTES_MAX), fill);
                if offset + bytes.len() > FILE_BYTES_MAX {
                    return None;
                }
                next.write(inode, offset, &bytes);
                (volume.write(InodeNumber(inode), offset as u64, &bytes, false), Ok(()))
            }
            Operation::Truncate { file, size } => {
                let inode = self.file(file)?;
                next.truncate(inode, size, BLOCK_BYTES);
                let set = SetAttributes { size_bytes: Some(size as u64), ..SetAttributes::default() };
                (volume.set_attributes(InodeNumber(inode), &set).map(drop), Ok(()))
            }
            Operation::Allocate { file, what, offset, length } => {
                let inode = self.file(file)?;
                if self.reference.get(inode).bytes().len() + length > FILE_BYTES_MAX {
                    return None;
                }
                let wanted = next.allocate(inode, what, offset, length, BLOCK_BYTES);
                (volume.allocate(InodeNumber(inode), what, offset as u64, length as u64, false), wanted)
            }
            Operation::Copy { source, from, target, to, length } => {
                let (source, target) = (self.file(source)?, self.file(target)?);
                let there = self.reference.get(source).bytes();
                let length = length.min(there.len().saturating_sub(from));
                if source == target && from < to + length && to < from + length {
                    return None;
                }
                let (source, node) = (InodeNumber(source), InodeNumber(target));
                let copied = volume.copy_range(
                    Place { inode: source, offset: from as u64 },
                    Place { inode: node, offset: to as u64 },
                    length as u64,
                    false,
                );
                if let Ok(copied) = copied {
                    if (length > 0 && copied == 0) || copied > length as u64 {
                        return Some((Ok(()), Err(Refusal::Invalid)));
                    }
                    if copied > 0 {
                        next.write(target, to, &there[from..from + copied as usize]);
                    }
                }
                (copied.map(drop), Ok(()))
            }
            _ => return None,
        })
    }

    fn change_attributes(
        &mut self,
        next: &mut Reference,
        operation: &Operation,
    ) -> Option<(Result<(), VolumeError>, Result<(), Refusal>)> {
        let now = next.now;
        let mut set = SetAttributes::default();
        let inode = match *operation {
            Operation::SetMode { node, permissions } => {
                let inode = self.node(node);
                next.change(inode).permissions = permissions;
                set.permissions = Some(permissions);
                inode
            }
            Operation::SetOwner { node, user } => {
                let inode = self.node(node);
                next.change(inode).user = user;
                set.user = Some(user);
                inode
            }
            Operation::SetTimes { node, seconds } => {
                let inode = self.node(node);
                let time = Timestamp { seconds, nanoseconds: 999_999_999 };
                (next.change(inode).accessed, next.change(inode).modified) = (time, now);
                (set.accessed, set.modified) = (Some(SetTime::At(time)), Some(SetTime::Now));
                inode
            }
            Operation::SetExtended { node, name: index, bytes, mode } => {
                let (inode, name, value) = (self.node(node), extended_name(index), vec![bytes as u8; bytes]);
                let set = self.volume.set_extended_attribute(InodeNumber(inode), &name, &value, mode, false);
                return Some((set, next.set_extended(inode, &name, &value, mode)));
            }
            Operation::RemoveExtended { node, name: index } => {
                let (inode, name) = (self.node(node), extended_name(index));
                let removed = self.volume.remove_extended_attribute(InodeNumber(inode), &name);
                return Some((removed, next.remove_extended(inode, &name)));
            }
            _ => return None,
        };
        next.change(inode).changed = now;
        Some((self.volume.set_attributes(InodeNumber(inode), &set).map(drop), Ok(())))
    }

    fn use_handles(
        &mut self,
        next: &mut Reference,
        operation: &Operation,
    ) -> Option<(Result<(), VolumeError>, Result<(), Refusal>)> {
        match *operation {
            Operation::Open { file } => {
                let inode = self.file(file)?;
                let opened = self.volume.open_file(InodeNumber(inode));
                if opened.is_ok() {
                    next.change(inode).handles += 1;
                    self.handles.push(inode);
                }
                Some((opened, Ok(())))
            }
            Operation::Close { handle } if !self.handles.is_empty() => {
                let inode = self.handles.swap_remove(handle % self.handles.len());
                next.close(inode);
                self.volume.close_file(InodeNumber(inode));
                Some((Ok(()), Ok(())))
            }
            _ => None,
        }
    }

    fn picture(&self) -> Outcome<Picture> {
        Picture::of_volume(&self.volume, ROOT).map_err(unreadable)
    }

    /// Compares everything. `settled`: all is in the tree, so that holes and what is allocated are exact.
    pub fn look(&self, settled: bool) -> Outcome {
        if let Some(difference) = self.picture()?.difference(&Picture::of_reference(&self.reference)) {
            return wrong(difference);
        }
        for inode in self.files() {
            let node = self.reference.get(inode);
            let found = self.volume.read(InodeNumber(inode), 0, FILE_BYTES_MAX * 2).map_err(unreadable)?;
            if found != node.bytes() {
                return wrong(format!("inode {inode}, which has {} names, reads otherwise", node.links));
            }
            let wrong_hole = find_wrong_hole(&self.volume, inode, node, BLOCK_BYTES, settled);
            if let Some(text) = wrong_hole.map_err(unreadable)? {
                return wrong(text);
            }
        }
        let inodes = self.volume.space().map_err(Stop::Failed)?.inodes;
        if inodes != self.reference.nodes.len() as u64 {
            return wrong(format!("{inodes} inodes are counted, not {}", self.reference.nodes.len()));
        }
        Ok(())
    }

    /// Reads the newest commit without the volume, and holds its items against each other.
    pub fn check_commit(&self) -> Outcome {
        commit_check::check(&self.world, BLOCK_BYTES).map(drop).or_else(|text| wrong(format!("the commit: {text}")))
    }

    fn open(&mut self) -> Outcome {
        let store = self.store.take().unwrap_or_else(|| Arc::new(self.world.disk.clone()));
        match self.world.try_open(store, self.options.clone()) {
            Ok(volume) => self.volume = volume,
            Err(error) => return wrong(format!("it cannot be opened: {error}")),
        }
        self.handles.clear();
        let status = self.volume.status();
        match status.read_only.is_some() || !status.warnings.is_empty() {
            true => wrong(format!("after opening: {status:?}")),
            false => Ok(()),
        }
    }

    /// Opens the volume, which must be as it was when it was closed.
    pub fn reopen(&mut self) -> Outcome {
        self.open()?;
        self.reference.drop_handles();
        self.acknowledged();
        self.look(true)
    }

    /// Opens the volume after a crash: it must show one of the states since the last that was acknowledged. After a kill
    /// that state may not be durable yet (a frame was written and not synced): only the next `fsync` acknowledges it.
    pub fn recover(&mut self) -> Outcome {
        self.open()?;
        let picture = self.picture()?;
        let is_shown = |state: &Reference| picture.difference(&Picture::of_reference(state)).is_none();
        let Some(shown) = self.history.iter().rposition(is_shown) else {
            let newest = Picture::of_reference(self.history.last().unwrap());
            let oldest = Picture::of_reference(&self.history[0]);
            return wrong(format!(
                "none of {} states is shown (seed {}); from what was acknowledged it differs in\n{}\nand from the newest in\n{}",
                self.history.len(),
                self.seed,
                picture.difference(&oldest).unwrap(),
                picture.difference(&newest).unwrap(),
            ));
        };
        self.history.truncate(shown + 1);
        self.reference = self.history[shown].clone();
        self.reference.drop_handles();
        self.reference.now = self.now();
        self.look(false)
    }
}
