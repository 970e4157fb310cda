//! Directory entries and back references as items, and reading a directory.
//!
//! An entry lies under the 63-bit hash of its name, which is also the cookie at which reading goes on: a directory can
//! change while it is read, and what stood there all along is given exactly once.

use super::{Result, Volume, VolumeError};
use crate::crypto::NameHasher;
use crate::format::items::{BackReferenceRecord, EntryRecord, decode_list, encode_list};
use crate::format::{InodeNumber, Key, KeyKind};
use crate::state::edit::Edit;
use crate::state::overlay::Found;
use crate::state::types::{DirectoryEntry, FileKind};
use crate::state::view::View;

/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// Cookies of `.` and `..`; those of entries are hashes, which are never below 16.
const COOKIE_SELF: u64 = 1;
const COOKIE_PARENT: u64 = 2;

/// Refuses what no directory can hold.
pub(super) fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > NAME_BYTES_MAX {
        return Err(VolumeError::NameTooLong);
    }
    if name.is_empty() || name == b"." || name == b".." || name.iter().any(|byte| *byte == b'/' || *byte == 0) {
        return Err(VolumeError::Invalid("a name"));
    }
    Ok(())
}

impl View<'_> {
    fn entry_key(&self, parent: InodeNumber, name: &[u8]) -> Key {
        Key::new(parent, KeyKind::DirectoryEntry, self.context.names.name_hash(name))
    }

    fn entries_at(&self, key: Key) -> Result<Vec<EntryRecord>> {
        match self.get(key)? {
            Some(value) => Ok(decode_list(&value)?),
            None => Ok(Vec::new()),
        }
    }

    /// The entry `name` of a directory, if there is one.
    pub fn find_entry(&self, parent: InodeNumber, name: &[u8]) -> Result<Option<EntryRecord>> {
        if name.len() > NAME_BYTES_MAX {
            return Err(VolumeError::NameTooLong);
        }
        let entries = self.entries_at(self.entry_key(parent, name))?;
        Ok(entries.into_iter().find(|entry| entry.name == name))
    }

    /// The entry `name` of a directory.
    pub fn entry(&self, parent: InodeNumber, name: &[u8]) -> Result<EntryRecord> {
        self.find_entry(parent, name)?.ok_or(VolumeError::NotFound)
    }

    /// Whether a directory has no entry.
    pub fn is_empty_directory(&self, inode: InodeNumber) -> Result<bool> {
        let mut empty = true;
        self.scan(
            Key::new(inode, KeyKind::DirectoryEntry, 0),
            Key::new(inode, KeyKind::DirectoryEntry, u64::MAX),
            &mut |_, _| {
                empty = false;
                Ok(false)
            },
        )?;
        Ok(empty)
    }

    /// The directory that holds a directory; the root holds itself.
    pub fn parent_of(&self, inode: InodeNumber) -> Result<InodeNumber> {
        let mut parent = InodeNumber::ROOT;
        let (first, last) =
            (Key::new(inode, KeyKind::BackReference, 0), Key::new(inode, KeyKind::BackReference, u64::MAX));
        self.scan(first, last, &mut |_, value| {
            let references: Vec<BackReferenceRecord> = decode_list(value)?;
            parent = references.first().map_or(parent, |reference| reference.parent);
            Ok(false)
        })?;
        Ok(parent)
    }

    fn back_reference_key(&self, inode: InodeNumber, parent: InodeNumber, name: &[u8]) -> Key {
        back_reference_key(&self.context.names, inode, parent, name)
    }
}

/// Where the back reference of `inode` to its name in `parent` lies.
pub(crate) fn back_reference_key(names: &NameHasher, inode: InodeNumber, parent: InodeNumber, name: &[u8]) -> Key {
    Key::new(inode, KeyKind::BackReference, names.hash64(&[&parent.0.to_le_bytes(), name]))
}

impl Edit<'_> {
    /// Adds a name for an inode, and the back reference to it. The name must not exist.
    pub fn add_entry(&mut self, parent: InodeNumber, name: &[u8], inode: InodeNumber, kind: u8) -> Result<()> {
        let key = self.view().entry_key(parent, name);
        let mut entries = self.view().entries_at(key)?;
        let back_key = self.view().back_reference_key(inode, parent, name);
        let mut references = self.back_references(back_key)?;
        entries.push(EntryRecord { inode, kind, name: name.to_vec() });
        references.push(BackReferenceRecord { parent, name: name.to_vec() });
        self.put(key, encode_list(&entries));
        self.put(back_key, encode_list(&references));
        Ok(())
    }

    /// Removes a name of an inode, and the back reference to it.
    pub fn remove_entry(&mut self, parent: InodeNumber, name: &[u8], inode: InodeNumber) -> Result<()> {
        let key = self.view().entry_key(parent, name);
        let mut entries = self.view().entries_at(key)?;
        let back_key = self.view().back_reference_key(inode, parent, name);
        let mut references = self.back_references(back_key)?;
        entries.retain(|entry| entry.name != name);
        references.retain(|reference| reference.parent != parent || reference.name != name);
        self.put_or_remove(key, &entries);
        self.put_or_remove(back_key, &references);
        Ok(())
    }

    fn back_references(&self, key: Key) -> Result<Vec<BackReferenceRecord>> {
        if self.state.is_new(key.inode) {
            // Made in this generation: nothing below to look for.
            let found = match self.pending.get(&key) {
                Found::Unknown => self.state.current.overlay.get(&key),
                pending => pending,
            };
            return match found {
                Found::Value(value) => Ok(decode_list(&value)?),
                Found::Removed | Found::Unknown => Ok(Vec::new()),
            };
        }
        match self.view().get(key)? {
            Some(value) => Ok(decode_list(&value)?),
            None => Ok(Vec::new()),
        }
    }

    fn put_or_remove<T: crate::format::items::ListElement>(&mut self, key: Key, elements: &[T]) {
        match elements.is_empty() {
            true => self.remove(key),
            false => self.put(key, encode_list(elements)),
        }
    }
}

impl Volume {
    /// Calls `emit` for each entry after `cookie` (0: from the start, `.` and `..` first) until it answers false: that
    /// entry did not fit and counts as not given. With `with_attributes` each entry taken by `emit` takes a reference.
    pub fn read_directory(
        &self,
        inode: InodeNumber,
        cookie: u64,
        with_attributes: bool,
        emit: &mut dyn FnMut(&DirectoryEntry<'_>) -> bool,
    ) -> Result<()> {
        let guard = self.layers.view();
        let view = guard.view();
        view.directory(inode)?;
        let kind = FileKind::Directory;
        if cookie < COOKIE_SELF {
            let entry = DirectoryEntry { name: b".", inode, kind, cookie: COOKIE_SELF, attributes: None };
            if !emit(&entry) {
                return Ok(());
            }
        }
        if cookie < COOKIE_PARENT {
            let inode = view.parent_of(inode)?;
            let entry = DirectoryEntry { name: b"..", inode, kind, cookie: COOKIE_PARENT, attributes: None };
            if !emit(&entry) {
                return Ok(());
            }
        }
        let first = Key::new(inode, KeyKind::DirectoryEntry, cookie.max(COOKIE_PARENT) + 1);
        let last = Key::new(inode, KeyKind::DirectoryEntry, u64::MAX);
        view.scan(first, last, &mut |key, value| {
            let entries: Vec<EntryRecord> = decode_list(value)?;
            for (index, entry) in entries.iter().enumerate() {
                // Names that share a hash: only the last of them lets reading go on behind the hash.
                let cookie = if index + 1 == entries.len() { key.suffix } else { key.suffix - 1 };
                if !self.emit_entry(&view, entry, cookie, with_attributes, emit)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })
    }

    fn emit_entry(
        &self,
        view: &View<'_>,
        entry: &EntryRecord,
        cookie: u64,
        with_attributes: bool,
        emit: &mut dyn FnMut(&DirectoryEntry<'_>) -> bool,
    ) -> Result<bool> {
        let attributes = match with_attributes {
            // Where they cannot be read the entry is still shown: the listing is worth more than one inode.
            true => view.find_attributes(entry.inode).unwrap_or_else(|error| {
                log::warn!("inode {} cannot be read: {error}", entry.inode);
                None
            }),
            false => None,
        };
        let attributes = attributes.map(|record| self.public_attributes(view, entry.inode, &record));
        let taken = emit(&DirectoryEntry {
            name: &entry.name,
            inode: entry.inode,
            kind: FileKind::from_byte(entry.kind),
            cookie,
            attributes: attributes.as_ref(),
        });
        if taken && attributes.is_some() {
            self.layers.refs.lock().reference(entry.inode);
        }
        Ok(taken)
    }
}
