//! The difference of two trees, found by pointers: a subtree that both share is passed by unread.
//!
//! Relies on an inner node's entry holding the first key of its child, exactly. Two places, one in each tree, move forward
//! together; the one whose next key is smaller, or at equal keys whose node is higher, goes down or on. So a shared subtree
//! is met in both trees at the same time, by its first key and its pointer. Promises that keys are shown in ascending order,
//! each once, and that no node is read that both trees have, but those on the way to a difference.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Root, StoredValue, Tree, TreeError};
use crate::format::node::{KeyBytes, Node, Position, ValueBlock};
use crate::format::{Key, Pointer, Stamps};

/// An item as one of the two trees has it. A value in a block of its own is not read ([`Tree::read_value`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side<'a> {
    /// Who changed it last; the default for kinds that carry none.
    pub stamps: Stamps,
    /// Its value.
    pub value: StoredValue<'a>,
}

/// A key under which the two trees differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference<'a> {
    /// The key.
    pub key: Key,
    /// What the first tree has there; none where the item was added.
    pub before: Option<Side<'a>>,
    /// What the second tree has there; none where the item was removed.
    pub after: Option<Side<'a>>,
}

/// A place in one of the trees: the nodes from the root down, each with the place before the entry that comes next.
struct Place<'a> {
    tree: &'a Tree,
    path: Vec<(Arc<Node>, Position)>,
}

/// What comes next at a place.
struct Next {
    key: KeyBytes,
    level: u8,
    /// The child, unless it is an item.
    child: Option<Pointer>,
}

impl<'a> Place<'a> {
    fn at_start(tree: &'a Tree, root: &Root) -> Result<Self, TreeError> {
        let mut path = Vec::new();
        if let Some(pointer) = root.0 {
            let node = tree.root_node(&pointer)?;
            let start = node.start();
            path.push((node, start));
        }
        Ok(Self { tree, path })
    }

    fn next(&mut self) -> Option<Next> {
        loop {
            let (node, position) = self.path.last()?;
            let mut behind = *position;
            let Some(entry) = node.next(&mut behind) else {
                self.path.pop();
                continue;
            };
            let level = node.level();
            return Some(Next { key: entry.key, level, child: (level > 0).then(|| entry.child()) });
        }
    }

    /// Passes by what comes next.
    fn skip(&mut self) {
        if let Some((node, position)) = self.path.last_mut() {
            node.next(position);
        }
    }

    /// Goes into the child that comes next.
    fn descend(&mut self) -> Result<(), TreeError> {
        let Some((node, position)) = self.path.last_mut() else { return Ok(()) };
        let Some(entry) = node.next(position) else { return Ok(()) };
        let child = self.tree.child_node(node, &entry)?;
        let start = child.start();
        self.path.push((child, start));
        Ok(())
    }
}

/// An item of a leaf, which the side borrows from.
type Leaf = Option<(Arc<Node>, Position)>;

/// Passes by the item that comes next at a place.
fn take(place: &mut Place<'_>) -> Leaf {
    let leaf = place.path.last().map(|(node, position)| (Arc::clone(node), *position));
    place.skip();
    leaf
}

fn side(leaf: &Leaf) -> Option<(Key, Side<'_>)> {
    let (node, mut position) = leaf.as_ref().map(|(node, position)| (node, *position))?;
    let entry = node.next(&mut position)?;
    let (stamps, value) = entry.item();
    Some((entry.key(), Side { stamps, value }))
}

/// Whether two values are equal, as far as leaves tell: one that was stored twice in an epoch has the same tag.
fn is_equal(before: &StoredValue<'_>, after: &StoredValue<'_>) -> bool {
    let content = |block: &ValueBlock| (block.length_bytes, block.pointer.encoding, block.pointer.tag);
    match (before, after) {
        (StoredValue::Block(before), StoredValue::Block(after)) => content(before) == content(after),
        _ => before == after,
    }
}

/// Shows items of one key, unless they are the same.
fn show(
    (before, after): (Leaf, Leaf),
    visit: &mut dyn FnMut(Difference<'_>) -> Result<(), TreeError>,
) -> Result<(), TreeError> {
    let (before, after) = (side(&before), side(&after));
    let key = before.or(after).map(|(key, _)| key);
    let (before, after) = (before.map(|(_, side)| side), after.map(|(_, side)| side));
    let is_same = match (&before, &after) {
        (Some(before), Some(after)) => before.stamps == after.stamps && is_equal(&before.value, &after.value),
        _ => false,
    };
    match key {
        Some(key) if !is_same => visit(Difference { key, before, after }),
        _ => Ok(()),
    }
}

pub(super) fn diff(
    tree: &Tree,
    (before, after): (&Root, &Root),
    visit: &mut dyn FnMut(Difference<'_>) -> Result<(), TreeError>,
) -> Result<(), TreeError> {
    if before == after {
        return Ok(());
    }
    let (mut before, mut after) = (Place::at_start(tree, before)?, Place::at_start(tree, after)?);
    loop {
        let (left, right) = (before.next(), after.next());
        let order = match (&left, &right) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(left), Some(right)) => left.key.cmp(&right.key),
        };
        match (order, left, right) {
            (Ordering::Less, Some(left), _) => match left.child {
                Some(_) => before.descend()?,
                None => show((take(&mut before), None), visit)?,
            },
            (Ordering::Greater, _, Some(right)) => match right.child {
                Some(_) => after.descend()?,
                None => show((None, take(&mut after)), visit)?,
            },
            (_, Some(left), Some(right)) => match (left.child, right.child) {
                (Some(one), Some(other)) if one == other => {
                    before.skip();
                    after.skip();
                }
                (None, None) => show((take(&mut before), take(&mut after)), visit)?,
                _ => {
                    if left.level >= right.level {
                        before.descend()?;
                    }
                    if right.level >= left.level {
                        after.descend()?;
                    }
                }
            },
            _ => return Ok(()),
        }
    }
}
