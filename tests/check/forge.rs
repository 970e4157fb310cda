//! A writer without scruples: commits any change of the tree behind the volume's back.

use std::sync::Arc;

use passkeyfs::crypto::NameHasher;
use passkeyfs::format::commit::{ClockEntry, DataFile, VectorClock};
use passkeyfs::format::items::{AttributesRecord, BackReferenceRecord, EntryRecord, ExtentRecord, encode_list};
use passkeyfs::format::segment::SegmentKind;
use passkeyfs::format::tables::SegmentRecord;
use passkeyfs::format::{BlockKind, CommitId, DeviceId, InodeNumber, Key, KeyKind, Pointer, Stamps};
use passkeyfs::history::{CommitDraft, CommitWriter, DeviceState, Head, Heads};
use passkeyfs::segments::{BlockSource, KeyRing, Segments};
use passkeyfs::store::FilePath;
use passkeyfs::tree::{Change, Changes, Tree};

use super::support::World;

/// The newest commit of a vault, open for forging the next.
pub struct Forge {
    pub segments: Arc<Segments>,
    pub tree: Tree,
    pub head: Head,
    pub names: NameHasher,
    device: DeviceId,
    changes: Vec<(Key, Option<Vec<u8>>)>,
    data_files: Vec<DataFile>,
}

impl Forge {
    pub fn open(world: &World) -> Self {
        let device = DeviceState::load(&world.disk).unwrap().unwrap().device;
        Self::open_as(world, device)
    }

    pub fn open_as(world: &World, device: DeviceId) -> Self {
        let keys = world.keys();
        let ring = Arc::new(KeyRing::new(keys.vault.vault(), keys.epochs));
        let (store, randomness) = (Arc::new(world.disk.clone()), world.randomness.clone());
        let segments = Segments::new(store, world.clock.clone(), randomness, ring, device, true, 0).unwrap();
        let segments = Arc::new(segments);
        let heads = Heads::find(&segments).unwrap();
        let head = heads.newest.into_values().next().unwrap();
        let tree = Tree::new(Arc::clone(&segments) as Arc<dyn BlockSource>, 1 << 20);
        let name_key = tree.get(&head.root(), Key::NAME_KEY).unwrap().unwrap().value;
        let names = NameHasher::from_key(name_key.as_ref().try_into().unwrap());
        Self { segments, tree, head, names, device, changes: Vec::new(), data_files: Vec::new() }
    }

    pub fn get(&self, key: Key) -> Vec<u8> {
        self.tree.get(&self.head.root(), key).unwrap().unwrap().value.to_vec()
    }

    pub fn attributes(&self, inode: InodeNumber) -> AttributesRecord {
        AttributesRecord::decode(&self.get(Key::first_of(inode))).unwrap()
    }

    /// Where a block of a file lies.
    pub fn block(&self, inode: InodeNumber, index: u64) -> Pointer {
        match ExtentRecord::decode(&self.get(Key::new(inode, KeyKind::Extent, index))).unwrap() {
            ExtentRecord::Stored(pointer) => pointer,
            ExtentRecord::Inline(_) => panic!("block {index} of {inode} lies inline"),
        }
    }

    pub fn file_of(&self, pointer: &Pointer) -> FilePath {
        self.segments.ledger().find(pointer.segment).unwrap().path
    }

    pub fn entry_key(&self, parent: InodeNumber, name: &[u8]) -> Key {
        Key::new(parent, KeyKind::DirectoryEntry, self.names.name_hash(name))
    }

    pub fn back_key(&self, inode: InodeNumber, parent: InodeNumber, name: &[u8]) -> Key {
        Key::new(inode, KeyKind::BackReference, self.names.hash64(&[&parent.0.to_le_bytes(), name]))
    }

    pub fn put(&mut self, key: Key, value: impl Into<Vec<u8>>) -> &mut Self {
        self.changes.push((key, Some(value.into())));
        self
    }

    pub fn remove(&mut self, key: Key) -> &mut Self {
        self.changes.push((key, None));
        self
    }

    pub fn change_attributes(&mut self, inode: InodeNumber, change: impl FnOnce(&mut AttributesRecord)) -> &mut Self {
        let mut record = self.attributes(inode);
        change(&mut record);
        self.put(Key::first_of(inode), record.encode())
    }

    pub fn put_entry(&mut self, parent: InodeNumber, name: &[u8], inode: InodeNumber, kind: u8) -> &mut Self {
        let key = self.entry_key(parent, name);
        self.put(key, encode_list(&[EntryRecord { inode, kind, name: name.to_vec() }]))
    }

    pub fn put_back_reference(&mut self, inode: InodeNumber, parent: InodeNumber, name: &[u8]) -> &mut Self {
        let key = self.back_key(inode, parent, name);
        self.put(key, encode_list(&[BackReferenceRecord { parent, name: name.to_vec() }]))
    }

    /// Removes an entry and the back reference to it.
    pub fn remove_name(&mut self, inode: InodeNumber, parent: InodeNumber, name: &[u8]) -> &mut Self {
        let (entry, back) = (self.entry_key(parent, name), self.back_key(inode, parent, name));
        self.remove(entry).remove(back)
    }

    /// Changes the tree's total of inodes.
    pub fn count(&mut self, change: i64) -> &mut Self {
        let total = u64::from_le_bytes(self.get(Key::TOTALS).try_into().unwrap());
        self.put(Key::TOTALS, total.wrapping_add_signed(change).to_le_bytes())
    }

    /// Publishes a segment with one block of content; the commit names it only when `is_listed`.
    pub fn write_block(&mut self, bytes: Vec<u8>, is_listed: bool) -> Pointer {
        let mut writer = self.segments.begin(SegmentKind::Data).unwrap();
        let block = self.segments.prepare(BlockKind::Data, bytes);
        let pointer = writer.append(block, InodeNumber(9), 0).unwrap();
        let finished = self.segments.finish(writer, None).unwrap();
        self.segments.publish(&finished).unwrap();
        if is_listed {
            let (segment, sequence) = (finished.header.segment, finished.header.sequence);
            self.data_files.push(DataFile { segment, sequence, bytes: finished.bytes as u32 });
        }
        pointer
    }

    /// Publishes the changes as the device's next commit.
    pub fn commit(&mut self) {
        let head = &self.head;
        let mut record = |segment: u64, sequence, kind, bytes| {
            let record = SegmentRecord::live(head.device, sequence, kind, bytes);
            let key = Key::new(InodeNumber::VAULT, KeyKind::Segment, segment);
            if !self.changes.iter().any(|(changed, _)| *changed == key) {
                self.changes.push((key, Some(record.encode())));
            }
        };
        record(head.segment.0, head.sequence, SegmentKind::Meta, head.bytes);
        for file in &head.page.data_files {
            record(file.segment.0, file.sequence, SegmentKind::Data, u64::from(file.bytes));
        }
        self.changes.sort_by_key(|(key, _)| *key);
        let change = |(key, value): (Key, Option<Vec<u8>>)| match value {
            Some(value) => (key, Change::Put { value: value.into(), stamps: Stamps::default() }),
            None => (key, Change::Remove),
        };
        let items = std::mem::take(&mut self.changes).into_iter().map(change).collect();
        let changes = Changes { removed_ranges: Vec::new(), items };
        let mut writer = CommitWriter::begin(&self.segments).unwrap();
        let root = self.tree.apply(&head.root(), &changes, &mut writer).unwrap();
        let (number, id) = (head.page.number.next(), CommitId([head.page.number.0 as u8; 16]));
        let mut clock = if head.device == self.device { head.clock.clone() } else { VectorClock::default() };
        clock.0.insert(self.device, ClockEntry::of_itself(number, id));
        let data_files = std::mem::take(&mut self.data_files);
        let (parent, seconds) = (head.page.id, head.page.seconds);
        let required = head.page.required;
        let draft = CommitDraft { required, number, id, parent, seconds, nanoseconds: 0, root, data_files };
        let (head, finished) = writer.finish(draft, clock).unwrap();
        self.segments.publish(&finished).unwrap();
        self.head = head;
    }
}
