//! An inode's path, put together from back references: names for people, not for finding anything.

use super::issue::PlainPath;
use crate::format::items::{BackReferenceRecord, decode_list};
use crate::format::{InodeNumber, Key, KeyKind};
use crate::tree::{Root, Tree};

/// Deeper than any path that a system call takes.
const DEPTH_MAX: usize = 4096;

/// Finds paths in one state of the tree.
#[derive(Clone, Copy)]
pub(super) struct Paths<'a> {
    pub tree: &'a Tree,
    pub root: Root,
}

impl Paths<'_> {
    /// A path of `inode`: by the first of its names. Where the way to the root is broken, it begins with an inode number.
    pub fn of(&self, inode: InodeNumber) -> PlainPath {
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut at = inode;
        while at != InodeNumber::ROOT {
            match self.name_of(at) {
                Some(reference) if names.len() < DEPTH_MAX => {
                    names.push(reference.name);
                    at = reference.parent;
                }
                _ => {
                    names.push(format!("<inode {at}>").into_bytes());
                    names.reverse();
                    return PlainPath(names.join(&b'/'));
                }
            }
        }
        names.reverse();
        PlainPath([b"/".as_slice(), &names.join(&b'/')].concat())
    }

    /// The path of a name in a directory.
    pub fn of_name(&self, parent: InodeNumber, name: &[u8]) -> PlainPath {
        let mut path = self.of(parent).0;
        if path != b"/" {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        PlainPath(path)
    }

    fn name_of(&self, inode: InodeNumber) -> Option<BackReferenceRecord> {
        let key = |suffix| Key::new(inode, KeyKind::BackReference, suffix);
        let (_, item) = self.tree.scan(&self.root, key(0), key(u64::MAX)).next()?.ok()?;
        decode_list(&item.value).ok()?.into_iter().next()
    }
}
