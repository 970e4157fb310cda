//! Names across inodes: each entry has its inode and that inode's back reference, and every directory leads to the root.
//!
//! An entry and its back reference say the same three things: directory, name, inode. Their fingerprint goes into a set
//! when the one is met and out of it when the other is, so a sound tree ends with an empty set, and what is left at the
//! end has no partner. Only then a second walk gives it its name. Fingerprints are 64 bits under a key drawn for this
//! check: by chance, two of a million names share one once in 40 million checks.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};

use super::hidden::Hidden;
use super::issue::{Issue, file_kind_words};
use super::paths::Paths;
use super::report::Findings;
use crate::crypto::NameHasher;
use crate::format::items::{BackReferenceRecord, EntryRecord, decode_list};
use crate::format::{InodeNumber, Key, KeyKind};
use crate::tree::{StoredValue, Tree, TreeError, WalkStep};
use crate::volume::back_reference_key;

/// What is known of an inode from its own items and from entries that name it.
#[derive(Debug, Default, Clone, Copy)]
struct Facts {
    /// The kind of node; 0 without attributes.
    kind: u8,
    /// A bit for each kind that an entry says it is.
    named_as: u8,
}

/// Gathered in one walk.
#[derive(Debug, Default)]
pub(super) struct Links {
    hasher: RandomState,
    unmatched: HashSet<u64>,
    /// Fingerprints of names that were reported already.
    reported: HashSet<u64>,
    facts: HashMap<InodeNumber, Facts>,
    /// Where each directory lies.
    parents: HashMap<InodeNumber, InodeNumber>,
    orphans: HashSet<InodeNumber>,
}

impl Links {
    fn fingerprint(&self, parent: InodeNumber, name: &[u8], inode: InodeNumber) -> u64 {
        self.hasher.hash_one((parent, name, inode))
    }

    /// One half of a name was met. With `is_reported` it is already known to be wrong, and not judged again.
    pub fn meet(&mut self, parent: InodeNumber, name: &[u8], inode: InodeNumber, is_reported: bool) {
        let fingerprint = self.fingerprint(parent, name, inode);
        if is_reported {
            self.reported.insert(fingerprint);
        }
        if !self.unmatched.remove(&fingerprint) {
            self.unmatched.insert(fingerprint);
        }
    }

    /// An entry says that `inode` is of this kind.
    pub fn note_entry(&mut self, inode: InodeNumber, kind: u8) {
        self.facts.entry(inode).or_default().named_as |= 1 << kind;
    }

    /// An inode has attributes, which say that it is of this kind.
    pub fn note_inode(&mut self, inode: InodeNumber, kind: u8) {
        self.facts.entry(inode).or_default().kind = kind;
    }

    pub fn note_directory(&mut self, inode: InodeNumber, parent: InodeNumber) {
        self.parents.insert(inode, parent);
    }

    pub fn note_orphan(&mut self, inode: InodeNumber) {
        self.orphans.insert(inode);
    }

    pub fn is_orphan(&self, inode: InodeNumber) -> bool {
        self.orphans.contains(&inode)
    }

    /// How many inodes have attributes.
    pub fn inodes(&self) -> u64 {
        self.facts.values().filter(|facts| facts.kind != 0).count() as u64
    }

    pub fn kind(&self, inode: InodeNumber) -> Option<u8> {
        self.facts.get(&inode).map(|facts| facts.kind).filter(|kind| *kind != 0)
    }

    /// Called when all items were seen.
    pub fn check(&mut self, names: Option<&NameHasher>, paths: Paths<'_>, hidden: &Hidden, findings: &mut Findings) {
        let mut orphans: Vec<InodeNumber> = self.orphans.iter().copied().collect();
        orphans.sort_unstable();
        for inode in orphans {
            if self.kind(inode).is_none() && !hidden.hides(Key::first_of(inode)) {
                findings.add(Issue::OrphanWithoutInode { inode });
            }
        }
        self.check_cycles(findings);
        // Where the names' hash is not known, keys cannot be computed, and with them what is hidden: then only a tree
        // that is read as a whole is judged.
        if names.is_none() && !hidden.is_empty() {
            return;
        }
        let is_wrong = |facts: &Facts| facts.named_as & !(1 << facts.kind) != 0;
        if self.unmatched.iter().any(|left| !self.reported.contains(left)) || self.facts.values().any(is_wrong) {
            let walk = NameWalk { links: self, names, paths, hidden, findings };
            walk.run(paths.tree);
        }
    }

    /// Directories that lie in each other are reported once, by the least inode number of the circle.
    fn check_cycles(&self, findings: &mut Findings) {
        let mut seen: HashMap<InodeNumber, InodeNumber> = HashMap::with_capacity(self.parents.len());
        let mut cycles = Vec::new();
        for start in self.parents.keys() {
            let mut at = *start;
            // Each directory is marked with where the way began that came to it first.
            while !seen.contains_key(&at) {
                seen.insert(at, *start);
                match self.parents.get(&at) {
                    Some(parent) if *parent != InodeNumber::ROOT => at = *parent,
                    _ => break,
                }
            }
            let is_back = self.parents.get(&at).is_some_and(|parent| *parent != InodeNumber::ROOT);
            if is_back && seen.get(&at) == Some(start) {
                cycles.push(self.least_in_cycle(at));
            }
        }
        cycles.sort_unstable();
        cycles.dedup();
        cycles.into_iter().for_each(|inode| findings.add(Issue::DirectoryCycle { inode }));
    }

    fn least_in_cycle(&self, inode: InodeNumber) -> InodeNumber {
        let next = |at: &InodeNumber| self.parents.get(at).copied().filter(|parent| *parent != inode);
        std::iter::successors(Some(inode), next).min().unwrap_or(inode)
    }
}

/// The second walk: gives a name to what has no partner.
struct NameWalk<'a> {
    links: &'a Links,
    names: Option<&'a NameHasher>,
    paths: Paths<'a>,
    hidden: &'a Hidden,
    findings: &'a mut Findings,
}

impl NameWalk<'_> {
    fn run(mut self, tree: &Tree) {
        let root = self.paths.root;
        let walked = tree.walk(&root, &mut |step| {
            let WalkStep::Item { key, value, .. } = step else { return Ok(()) };
            if matches!(key.kind, KeyKind::DirectoryEntry | KeyKind::BackReference) && key.inode != InodeNumber::VAULT {
                self.item(tree, key, value)?;
            }
            Ok(())
        });
        // What cannot be read was reported by the first walk.
        if let Err(error) = walked {
            log::debug!("the walk for names ended early: {error}");
        }
    }

    fn item(&mut self, tree: &Tree, key: Key, value: StoredValue<'_>) -> Result<(), TreeError> {
        let owned;
        let bytes = match value {
            StoredValue::Inline(bytes) => bytes,
            StoredValue::Block(block) => match tree.read_value(&block) {
                Ok(read) => {
                    owned = read;
                    &owned
                }
                Err(_) => return Ok(()),
            },
        };
        if key.kind == KeyKind::DirectoryEntry {
            decode_list::<EntryRecord>(bytes).unwrap_or_default().iter().for_each(|entry| self.entry(key.inode, entry));
        } else {
            let references = decode_list::<BackReferenceRecord>(bytes).unwrap_or_default();
            references.iter().for_each(|reference| self.back_reference(key.inode, reference));
        }
        Ok(())
    }

    fn is_unmatched(&self, parent: InodeNumber, name: &[u8], inode: InodeNumber) -> bool {
        let fingerprint = self.links.fingerprint(parent, name, inode);
        self.links.unmatched.contains(&fingerprint) && !self.links.reported.contains(&fingerprint)
    }

    fn entry(&mut self, parent: InodeNumber, entry: &EntryRecord) {
        let inode = entry.inode;
        let path = || self.paths.of_name(parent, &entry.name);
        let issue = match self.links.kind(inode) {
            None if self.hidden.hides(Key::first_of(inode)) => None,
            None if self.is_unmatched(parent, &entry.name, inode) => {
                Some(Issue::EntryWithoutInode { path: path(), inode })
            }
            // It refers back, so it has items: that its attributes are missing was said with those.
            None => None,
            Some(kind) if kind != entry.kind => {
                let (entry, node) = (file_kind_words(entry.kind), file_kind_words(kind));
                Some(Issue::EntryKind { path: path(), inode, entry, node })
            }
            Some(_) if self.is_unmatched(parent, &entry.name, inode) => {
                let key = self.names.map(|names| back_reference_key(names, inode, parent, &entry.name));
                let is_hidden = key.is_some_and(|key| self.hidden.hides(key));
                (!is_hidden).then(|| Issue::EntryWithoutBackReference { path: path(), inode })
            }
            Some(_) => None,
        };
        issue.into_iter().for_each(|issue| self.findings.add(issue));
    }

    fn back_reference(&mut self, inode: InodeNumber, reference: &BackReferenceRecord) {
        let (parent, name) = (reference.parent, &reference.name);
        if !self.is_unmatched(parent, name, inode) {
            return;
        }
        let key = self.names.map(|names| Key::new(parent, KeyKind::DirectoryEntry, names.name_hash(name)));
        if key.is_none_or(|key| !self.hidden.hides(key)) {
            self.findings.add(Issue::BackReferenceWithoutEntry { inode, path: self.paths.of_name(parent, name) });
        }
    }
}
