//! What the items of one inode say of it, gathered as the walk passes them, and whether it fits together.

use super::issue::{Issue, PlainPath, file_kind_words, kind_words};
use super::links::Links;
use super::paths::Paths;
use super::report::{Findings, Summary};
use crate::check::hidden::Hidden;
use crate::format::items::AttributesRecord;
use crate::format::{FormatError, InodeNumber, Key, KeyKind};
use crate::volume::FileKind;

/// All that was seen of one inode.
#[derive(Debug)]
pub(super) struct InodeItems {
    pub inode: InodeNumber,
    pub attributes: Option<AttributesRecord>,
    pub names: u64,
    pub first_parent: Option<InodeNumber>,
    pub target_bytes: Option<u64>,
    pub has_extended_attributes: bool,
    pub entries: u64,
    pub sub_directories: u64,
    pub extents: u64,
    /// The last block that is reserved, of the runs seen.
    pub reserved_last: Option<u64>,
    /// The first block behind the end, and how many there are.
    pub behind_end: Option<(u64, u64)>,
}

/// What the checks of an inode need besides.
pub(super) struct Surroundings<'a> {
    pub hidden: &'a Hidden,
    pub links: &'a Links,
    pub paths: Paths<'a>,
}

impl InodeItems {
    pub fn new(inode: InodeNumber) -> Self {
        Self {
            inode,
            attributes: None,
            names: 0,
            first_parent: None,
            target_bytes: None,
            has_extended_attributes: false,
            entries: 0,
            sub_directories: 0,
            extents: 0,
            reserved_last: None,
            behind_end: None,
        }
    }

    /// Notes a block of content.
    pub fn add_extent(&mut self, block: u64, block_bytes: u64) {
        self.extents += 1;
        let size_bytes = self.attributes.as_ref().map_or(u64::MAX, |record| record.size_bytes);
        if block.checked_mul(block_bytes).is_none_or(|start| start >= size_bytes) {
            self.behind_end.get_or_insert((block, 0)).1 += 1;
        }
    }

    /// Notes a run of reserved blocks: each lies behind the one before.
    pub fn add_reserved(&mut self, first: u64, last: u64) -> Result<(), FormatError> {
        let overlaps = self.reserved_last.is_some_and(|before| first <= before);
        self.reserved_last = Some(last);
        match overlaps {
            true => Err(FormatError::Invalid { structure: "reserved run", field: "first block" }),
            false => Ok(()),
        }
    }

    /// Called when all items were seen: says what does not fit together.
    pub fn check(&self, around: &Surroundings<'_>, summary: &mut Summary, findings: &mut Findings) {
        let inode = self.inode;
        let Some(record) = &self.attributes else {
            if !around.hidden.hides(Key::first_of(inode)) {
                findings.add(Issue::AttributesMissing { inode, path: around.paths.of(inode) });
            }
            return;
        };
        match record.kind {
            kind if kind == FileKind::Directory as u8 => summary.directories += 1,
            kind if kind == FileKind::Symlink as u8 => summary.symlinks += 1,
            _ => {
                summary.files += 1;
                summary.file_bytes = summary.file_bytes.saturating_add(record.size_bytes);
            }
        }
        self.check_kind(record, around, findings);
        self.check_names(record, around, findings);
        if self.has_extended_attributes && !record.has_extended_attributes {
            findings.add(Issue::ExtendedAttributesUnmarked { inode, path: around.paths.of(inode) });
        }
    }

    /// Whether the items are those of its kind of node.
    fn check_kind(&self, record: &AttributesRecord, around: &Surroundings<'_>, findings: &mut Findings) {
        let inode = self.inode;
        let path = || around.paths.of(inode);
        let is = |kind: FileKind| record.kind == kind as u8;
        let mut foreign = |there: bool, items: KeyKind| {
            if there {
                let (node, items) = (file_kind_words(record.kind), kind_words(items));
                findings.add(Issue::ForeignItems { inode, path: path(), node, items });
            }
        };
        foreign(self.entries > 0 && !is(FileKind::Directory), KeyKind::DirectoryEntry);
        foreign(self.extents > 0 && !is(FileKind::Regular), KeyKind::Extent);
        foreign(self.reserved_last.is_some() && !is(FileKind::Regular), KeyKind::ReservedRun);
        foreign(self.target_bytes.is_some() && !is(FileKind::Symlink), KeyKind::SymlinkTarget);
        if is(FileKind::Symlink) {
            let size_bytes = record.size_bytes;
            match self.target_bytes {
                None if around.hidden.hides_kind(inode, KeyKind::SymlinkTarget) => {}
                None | Some(0) => findings.add(Issue::SymlinkWithoutTarget { inode, path: path() }),
                Some(target_bytes) if target_bytes != size_bytes => {
                    findings.add(Issue::SymlinkLength { inode, path: path(), size_bytes, target_bytes });
                }
                Some(_) => {}
            }
        }
        if let (true, Some((first_block, blocks))) = (is(FileKind::Regular), self.behind_end) {
            let size_bytes = record.size_bytes;
            findings.add(Issue::ExtentsBehindEnd { inode, path: path(), size_bytes, first_block, blocks });
        }
    }

    /// Whether its names are as many as it says. Names are counted by back references, which lie with the inode; that
    /// each has its entry is checked across inodes.
    fn check_names(&self, record: &AttributesRecord, around: &Surroundings<'_>, findings: &mut Findings) {
        let (inode, names, entries) = (self.inode, self.names, self.entries);
        let path = || around.paths.of(inode);
        let is_directory = record.kind == FileKind::Directory as u8;
        if around.hidden.hides_kind(inode, KeyKind::BackReference) {
            return;
        }
        let is_root = inode == InodeNumber::ROOT;
        let is_orphan = around.links.is_orphan(inode);
        if is_orphan && (names > 0 || entries > 0 || is_root) {
            findings.add(Issue::OrphanInUse { inode, path: path(), names, entries });
            return;
        }
        if !is_orphan && !is_root && names == 0 {
            if !around.hidden.hides(Key::new(InodeNumber::VAULT, KeyKind::Orphan, inode.0)) {
                let node = file_kind_words(record.kind);
                findings.add(Issue::InodeWithoutName { inode, node, size_bytes: record.size_bytes });
            }
            return;
        }
        if is_directory && names > u64::from(!is_root) {
            findings.add(Issue::DirectoryNames { inode, path: path(), names });
        }
        let counted = match is_directory {
            true if is_orphan => 0,
            true if around.hidden.hides_kind(inode, KeyKind::DirectoryEntry) => return,
            true => 2 + self.sub_directories,
            false => names,
        };
        if u64::from(record.link_count) != counted {
            findings.add(Issue::LinkCount { inode, path: path(), recorded: record.link_count, counted });
        }
    }
}

/// The path of an item's inode, for items that have one.
pub(super) fn path_of_item(paths: Paths<'_>, key: Key) -> Option<PlainPath> {
    (key.inode != InodeNumber::VAULT).then(|| paths.of(key.inode))
}
