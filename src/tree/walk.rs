//! A walk over all of a tree, for `check` and for reclaiming space.
//!
//! Relies on the source alone: every node is read anew, past the cache. Promises that each node, item and value pointer
//! is shown once, parents before children, keys ascending; that what cannot be read is reported with the range of keys
//! that it hides, and that the walk then goes on behind it.

use super::{Root, Tree, TreeError, check_child, node_error};
use crate::format::node::{KeyBytes, Node, StoredValue};
use crate::format::{FormatError, Key, Pointer, Stamps};

/// What a walk has come to.
#[derive(Debug)]
pub enum WalkStep<'a> {
    /// A pointer to a node, before the node is read.
    Node {
        /// Where it lies.
        pointer: &'a Pointer,
        /// Set it to false to pass by this node and all below it, for instance because another tree's walk saw it.
        descend: &'a mut bool,
    },
    /// An item. Where its value is a block of its own, this is where its pointer is shown.
    Item {
        /// Its key.
        key: Key,
        /// Who changed it last; the default for kinds that carry none.
        stamps: Stamps,
        /// Its value; one in a block of its own is not read ([`Tree::read_value`]).
        value: StoredValue<'a>,
    },
    /// A node that cannot be read or is not valid. The walk goes on behind it.
    Unreadable {
        /// Where the node should be.
        pointer: &'a Pointer,
        /// The first key that it holds; none for the root.
        from: Option<Key>,
        /// The first key behind it; none when it is the last.
        before: Option<Key>,
        /// Why it cannot be read.
        error: TreeError,
    },
}

/// A node that is still to be visited, and what its parent says of it.
struct Unvisited {
    pointer: Pointer,
    parent_level: Option<u8>,
    first: Option<(KeyBytes, Key)>,
    before: Option<(KeyBytes, Key)>,
}

pub(super) fn walk(
    tree: &Tree,
    root: &Root,
    visit: &mut dyn FnMut(WalkStep<'_>) -> Result<(), TreeError>,
) -> Result<(), TreeError> {
    let Some(pointer) = root.0 else { return Ok(()) };
    let mut unvisited = vec![Unvisited { pointer, parent_level: None, first: None, before: None }];
    while let Some(place) = unvisited.pop() {
        let mut descend = true;
        visit(WalkStep::Node { pointer: &place.pointer, descend: &mut descend })?;
        if !descend {
            continue;
        }
        match read(tree, &place) {
            Err(error) => visit(WalkStep::Unreadable {
                pointer: &place.pointer,
                from: place.first.map(|(_, key)| key),
                before: place.before.map(|(_, key)| key),
                error,
            })?,
            Ok(node) if node.level() == 0 => {
                for entry in node.entries() {
                    let (stamps, value) = entry.item();
                    visit(WalkStep::Item { key: entry.key(), stamps, value })?;
                }
            }
            Ok(node) => push_children(&node, &place, &mut unvisited),
        }
    }
    Ok(())
}

/// Reads a node and checks all that its parent says of it; here also that it ends before its neighbour begins.
fn read(tree: &Tree, place: &Unvisited) -> Result<Node, TreeError> {
    let node = tree.read_node(&place.pointer)?;
    if let (Some(parent_level), Some((first, _))) = (place.parent_level, &place.first) {
        check_child(parent_level, first, &place.pointer, &node)?;
    }
    if let (Some((before, _)), Some(last)) = (&place.before, node.entries().last())
        && last.key >= *before
    {
        let source = FormatError::Invalid { structure: "tree node", field: "last key" };
        return Err(node_error(&place.pointer, source));
    }
    Ok(node)
}

/// Puts a node's children on the stack, the first one on top.
fn push_children(node: &Node, place: &Unvisited, unvisited: &mut Vec<Unvisited>) {
    let begin = unvisited.len();
    for entry in node.entries() {
        let first = Some((entry.key, entry.key()));
        if let Some(sibling) = unvisited[begin..].last_mut() {
            sibling.before = first;
        }
        let parent_level = Some(node.level());
        unvisited.push(Unvisited { pointer: entry.child(), parent_level, first, before: place.before });
    }
    unvisited[begin..].reverse();
}
