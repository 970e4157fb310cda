//! The walk over all metadata: every node and value is read, every item decoded, and handed to the checks it is for.
//!
//! Keys ascend, so the vault's own items come first (the names' hash key, the segment table, the orphans), and the items
//! of one inode come together.

use super::Progress;
use super::folder::SegmentUse;
use super::hidden::Hidden;
use super::inode::{InodeItems, Surroundings, path_of_item};
use super::issue::{Fault, Issue, ItemPlace, PlainPath};
use super::links::Links;
use super::paths::Paths;
use super::report::{Findings, Summary};
use crate::crypto::NameHasher;
use crate::format::items::{
    AttributesRecord, BackReferenceRecord, EntryRecord, ExtendedAttributeRecord, ExtentRecord, ReservedRecord,
    decode_list,
};
use crate::format::snapshot::SnapshotRecord;
use crate::format::tables::{DeviceRecord, SegmentRecord};
use crate::format::{
    ByteReader, EpochRecord, EpochStart, FormatError, InodeNumber, Key, KeyKind, Pointer, SegmentId, SlotRecord,
};
use crate::tree::{Root, StoredValue, Tree, WalkStep};
use crate::volume::{FileKind, back_reference_key};

/// How many items pass between two words of progress.
const PROGRESS_INTERVAL_ITEMS: u64 = 4096;

/// Walks the tree at `root` and reports all that is wrong with it. Answers what damage hides.
pub(super) fn check_tree(
    tree: &Tree,
    root: Root,
    block_bytes: u64,
    usage: &mut SegmentUse,
    summary: &mut Summary,
    findings: &mut Findings,
    progress: &mut dyn FnMut(Progress),
) -> Hidden {
    let mut pass = TreePass {
        tree,
        paths: Paths { tree, root },
        block_bytes,
        usage,
        summary,
        findings,
        progress,
        hidden: Hidden::default(),
        links: Links::default(),
        names: None,
        inodes_total: None,
        inode: None,
        inodes: 0,
        items: 0,
    };
    let walked = tree.walk(&root, &mut |step| {
        pass.step(step);
        Ok(())
    });
    debug_assert!(walked.is_ok(), "a walk ends only when it is told to");
    pass.finish()
}

struct TreePass<'a> {
    tree: &'a Tree,
    paths: Paths<'a>,
    block_bytes: u64,
    usage: &'a mut SegmentUse,
    summary: &'a mut Summary,
    findings: &'a mut Findings,
    progress: &'a mut dyn FnMut(Progress),
    hidden: Hidden,
    links: Links,
    names: Option<NameHasher>,
    inodes_total: Option<u64>,
    /// The inode whose items are passing.
    inode: Option<InodeItems>,
    inodes: u64,
    items: u64,
}

impl TreePass<'_> {
    fn step(&mut self, step: WalkStep<'_>) {
        match step {
            WalkStep::Node { pointer, .. } => self.metadata_block(pointer),
            WalkStep::Item { key, value, .. } => self.item(key, value),
            WalkStep::Unreadable { pointer, from, before, error } => {
                self.hidden.add(from, before);
                self.summary.metadata_blocks -= 1;
                self.findings.add(Issue::NodeUnreadable {
                    segment: pointer.segment,
                    offset_bytes: pointer.offset_bytes(),
                    from: from.map(ItemPlace),
                    before: before.map(ItemPlace),
                    fault: (&error).into(),
                });
            }
        }
    }

    fn metadata_block(&mut self, pointer: &Pointer) {
        self.usage.note_metadata(pointer);
        self.summary.metadata_blocks += 1;
    }

    fn item(&mut self, key: Key, value: StoredValue<'_>) {
        self.items += 1;
        if self.items.is_multiple_of(PROGRESS_INTERVAL_ITEMS) {
            (self.progress)(Progress::Metadata { inodes: self.inodes, inodes_total: self.inodes_total });
        }
        if key.inode != InodeNumber::VAULT
            && !key.kind.is_kept()
            && self.inode.as_ref().is_none_or(|items| items.inode != key.inode)
        {
            self.finish_inode();
            self.inode = Some(InodeItems::new(key.inode));
            self.inodes += 1;
        }
        let owned;
        let bytes = match value {
            StoredValue::Inline(bytes) => bytes,
            StoredValue::Block(block) => {
                self.metadata_block(&block.pointer);
                match self.tree.read_value(&block) {
                    Ok(read) => owned = read,
                    Err(error) => {
                        self.summary.metadata_blocks -= 1;
                        self.hidden.add_item(key);
                        let (item, path) = (ItemPlace(key), path_of_item(self.paths, key));
                        self.findings.add(Issue::ValueUnreadable { item, path, fault: (&error).into() });
                        return;
                    }
                }
                &owned
            }
        };
        if key.kind.is_kept() {
            self.summary.kept_items += 1;
            return;
        }
        let checked = match key.inode {
            InodeNumber::VAULT => self.vault_item(key, bytes),
            _ => self.inode_item(key, bytes),
        };
        if let Err(error) = checked {
            self.hidden.add_item(key);
            let (item, path) = (ItemPlace(key), path_of_item(self.paths, key));
            self.findings.add(match error.is_newer() {
                true => Issue::ValueUnreadable { item, path, fault: Fault::Newer(error.to_string()) },
                false => Issue::ItemInvalid { item, path, detail: error.to_string() },
            });
        }
    }

    fn vault_item(&mut self, key: Key, bytes: &[u8]) -> Result<(), FormatError> {
        match key.kind {
            KeyKind::VaultRecord if key == Key::NAME_KEY => {
                let mut reader = ByteReader::new("key of the names' hash", bytes);
                self.names = Some(NameHasher::from_key(reader.array()?));
                reader.finish()?;
            }
            KeyKind::VaultRecord if key == Key::TOTALS => {
                let mut reader = ByteReader::new("totals", bytes);
                self.inodes_total = Some(reader.u64()?);
                reader.finish()?;
            }
            KeyKind::VaultRecord if key == Key::EPOCH_START => drop(EpochStart::decode(bytes)?),
            KeyKind::Slot => drop(SlotRecord::decode(bytes)?),
            KeyKind::EpochRecord => drop(EpochRecord::decode(bytes)?),
            KeyKind::Device => drop(DeviceRecord::decode(bytes)?),
            KeyKind::Segment => self.usage.note_record(SegmentId(key.suffix), SegmentRecord::decode(bytes)?),
            KeyKind::Orphan => self.links.note_orphan(InodeNumber(key.suffix)),
            KeyKind::Snapshot => drop(SnapshotRecord::decode(bytes)?),
            // Further records are the concern of those who write them.
            KeyKind::VaultRecord => {}
            _ => self.findings.add(Issue::ItemMisplaced { item: ItemPlace(key) }),
        }
        Ok(())
    }

    fn inode_item(&mut self, key: Key, bytes: &[u8]) -> Result<(), FormatError> {
        let is_single = matches!(key.kind, KeyKind::Attributes | KeyKind::SymlinkTarget);
        if key.kind > KeyKind::ReservedRun || (is_single && key.suffix != 0) {
            self.findings.add(Issue::ItemMisplaced { item: ItemPlace(key) });
            return Ok(());
        }
        match key.kind {
            KeyKind::Attributes => {
                let record = AttributesRecord::decode(bytes)?;
                self.links.note_inode(key.inode, record.kind);
                self.items_of(key.inode).attributes = Some(record);
            }
            KeyKind::SymlinkTarget => self.items_of(key.inode).target_bytes = Some(bytes.len() as u64),
            KeyKind::BackReference => self.back_references(key, &decode_list(bytes)?),
            KeyKind::ExtendedAttribute => self.extended_attributes(key, &decode_list(bytes)?),
            KeyKind::DirectoryEntry => self.entries(key, &decode_list(bytes)?),
            KeyKind::ReservedRun => {
                let run = ReservedRecord::decode(key, bytes)?;
                return self.items_of(key.inode).add_reserved(run.first_block, key.suffix);
            }
            _ => self.extent(key, &ExtentRecord::decode(bytes)?),
        }
        Ok(())
    }

    fn items_of(&mut self, inode: InodeNumber) -> &mut InodeItems {
        self.inode.get_or_insert_with(|| InodeItems::new(inode))
    }

    fn back_references(&mut self, key: Key, references: &[BackReferenceRecord]) {
        for (index, reference) in references.iter().enumerate() {
            let (parent, name) = (reference.parent, &reference.name);
            if references[..index].contains(reference) {
                self.add_name_issue(key, self.paths.of(key.inode), name, true);
                continue;
            }
            let expected = self.names.as_ref().map(|names| back_reference_key(names, key.inode, parent, name));
            let is_misplaced = expected.is_some_and(|expected| expected != key);
            if is_misplaced {
                self.add_name_issue(key, self.paths.of(key.inode), name, false);
            }
            self.links.meet(parent, name, key.inode, is_misplaced);
            let items = self.items_of(key.inode);
            items.names += 1;
            items.first_parent.get_or_insert(parent);
        }
    }

    fn extended_attributes(&mut self, key: Key, attributes: &[ExtendedAttributeRecord]) {
        self.items_of(key.inode).has_extended_attributes = true;
        for (index, attribute) in attributes.iter().enumerate() {
            let is_twice = attributes[..index].iter().any(|other| other.name == attribute.name);
            if is_twice || self.is_under_wrong_hash(key, &attribute.name) {
                self.add_name_issue(key, self.paths.of(key.inode), &attribute.name, is_twice);
            }
        }
    }

    fn entries(&mut self, key: Key, entries: &[EntryRecord]) {
        let parent = key.inode;
        for (index, entry) in entries.iter().enumerate() {
            if entries[..index].iter().any(|other| other.name == entry.name) {
                self.add_name_issue(key, self.paths.of(parent), &entry.name, true);
                continue;
            }
            let is_misplaced = self.is_under_wrong_hash(key, &entry.name);
            if is_misplaced {
                self.add_name_issue(key, self.paths.of(parent), &entry.name, false);
            }
            self.links.meet(parent, &entry.name, entry.inode, is_misplaced);
            self.links.note_entry(entry.inode, entry.kind);
            let items = self.items_of(parent);
            items.entries += 1;
            items.sub_directories += u64::from(entry.kind == FileKind::Directory as u8);
        }
    }

    fn is_under_wrong_hash(&self, key: Key, name: &[u8]) -> bool {
        self.names.as_ref().is_some_and(|names| names.name_hash(name) != key.suffix)
    }

    fn add_name_issue(&mut self, key: Key, path: PlainPath, name: &[u8], is_twice: bool) {
        let (item, name) = (ItemPlace(key), PlainPath(name.to_vec()));
        self.findings.add(match is_twice {
            true => Issue::NameTwice { item, path, name },
            false => Issue::NameHash { item, path, name },
        });
    }

    fn extent(&mut self, key: Key, extent: &ExtentRecord<'_>) {
        let block_bytes = self.block_bytes;
        self.items_of(key.inode).add_extent(key.suffix, block_bytes);
        if let ExtentRecord::Stored(pointer) = extent {
            self.usage.note_content(pointer);
            self.summary.content_blocks += 1;
        }
    }

    fn finish_inode(&mut self) {
        let Some(items) = self.inode.take() else { return };
        let is_directory = items.attributes.as_ref().is_some_and(|record| record.kind == FileKind::Directory as u8);
        if let (true, Some(parent)) = (is_directory, items.first_parent) {
            self.links.note_directory(items.inode, parent);
        }
        let around = Surroundings { hidden: &self.hidden, links: &self.links, paths: self.paths };
        items.check(&around, self.summary, self.findings);
    }

    fn finish(mut self) -> Hidden {
        self.finish_inode();
        let hidden = self.hidden;
        if self.names.is_none() && !hidden.hides(Key::NAME_KEY) {
            self.findings.add(Issue::NameKeyMissing);
        }
        match self.links.kind(InodeNumber::ROOT) {
            Some(kind) if kind == FileKind::Directory as u8 => {}
            None if hidden.hides(Key::first_of(InodeNumber::ROOT)) => {}
            _ => self.findings.add(Issue::RootMissing),
        }
        let (recorded, counted) = (self.inodes_total, self.links.inodes());
        if recorded != Some(counted) && hidden.is_empty() {
            self.findings.add(Issue::InodeTotal { recorded, counted });
        }
        self.links.check(self.names.as_ref(), self.paths, &hidden, self.findings);
        (self.progress)(Progress::Metadata { inodes: self.inodes, inodes_total: self.inodes_total });
        hidden
    }
}
