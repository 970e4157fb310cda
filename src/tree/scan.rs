//! A scan: the items of a range of keys, leaf by leaf.
//!
//! Relies on the tree's nodes. Promises that nothing is read before the first item is asked for, that each node is taken
//! up once, and that no item outside the range is shown. It holds one node a level, and no lock.

use std::sync::Arc;

use super::{Item, Root, Tree, TreeError};
use crate::format::node::{KeyBytes, Node, Position, key_bytes};
use crate::format::{Key, Pointer};

/// The items of a range, by ascending key. See [`Tree::scan`].
pub struct Scan<'a> {
    tree: &'a Tree,
    /// The root that is still to be opened.
    unopened: Option<Pointer>,
    from: KeyBytes,
    to: KeyBytes,
    /// The nodes from the root down, each with the place behind the entry that was taken last.
    path: Vec<(Arc<Node>, Position)>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(tree: &'a Tree, root: &Root, from: Key, to: Key) -> Self {
        let unopened = root.0.filter(|_| from <= to);
        Self { tree, unopened, from: key_bytes(from), to: key_bytes(to), path: Vec::new() }
    }

    fn open(&mut self, root: &Pointer) -> Result<(), TreeError> {
        let mut node = self.tree.root_node(root)?;
        while node.level() > 0 {
            let mut position = node.floor(&self.from).unwrap_or_else(|| node.start());
            let Some(entry) = node.next(&mut position) else { return Ok(()) };
            let child = self.tree.child_node(&node, &entry)?;
            self.path.push((node, position));
            node = child;
        }
        let position = node.seek(&self.from);
        self.path.push((node, position));
        Ok(())
    }

    fn advance(&mut self) -> Result<Option<(Key, Item)>, TreeError> {
        if let Some(root) = self.unopened.take() {
            self.open(&root)?;
        }
        while let Some((node, position)) = self.path.last_mut() {
            let Some(entry) = node.next(position) else {
                self.path.pop();
                continue;
            };
            if entry.key > self.to {
                break;
            }
            if node.level() == 0 {
                return Ok(Some((entry.key(), self.tree.item(&entry)?)));
            }
            let child = self.tree.child_node(node, &entry)?;
            let start = child.start();
            self.path.push((child, start));
        }
        self.path.clear();
        Ok(None)
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<(Key, Item), TreeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.advance();
        if step.is_err() {
            self.path.clear();
        }
        step.transpose()
    }
}

impl std::iter::FusedIterator for Scan<'_> {}
