//! What other devices' commits leave in the state of an open volume.

use std::collections::BTreeMap;

use crate::format::InodeNumber;
use crate::tree::Root;

/// Part of the [`State`](super::generation::State); empty on a volume that is alone.
#[derive(Debug, Default)]
pub(crate) struct Foreign {
    /// Why no changes are taken for now. What was changed before is journaled and published.
    pub held: Option<String>,
    /// Files that were open when a commit was followed whose tree lacks them, each with a tree that has it. They are read
    /// from there until their last handle is closed, and cannot be changed.
    pub left_behind: BTreeMap<InodeNumber, Root>,
    /// The tree before the commit that was followed last.
    pub followed_from: Option<Root>,
    /// Whether the kernel still has names, attributes and content of that tree in its caches.
    pub is_kernel_behind: bool,
}
