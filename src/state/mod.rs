//! What an open vault holds in memory: the changes that no commit holds yet, above the committed tree.
//!
//! - [`generation`]: the changes that become one commit, and the state that all operations share
//! - [`layers`]: the state with its lock; [`budget`], [`alarm`] and [`warnings`]: who hears of what changed
//! - [`view`]: looking at the state, as if it were one tree; [`edit`] and [`pending`]: changing it, all or nothing
//! - [`blocks`] (of a file), [`overlay`] (changed items), [`dirty`] (written bytes), [`reserved`] (reserved blocks)
//! - [`inode_numbers`] (numbers given out), [`refcounts`] (who uses an inode)
//! - [`foreign`]: what other devices' commits leave here
//! - [`types`] (what operations take and answer), [`error`] and [`reason`] (how they fail)

pub(crate) mod alarm;
pub(crate) mod blocks;
pub(crate) mod budget;
pub(crate) mod dirty;
pub(crate) mod edit;
pub(crate) mod error;
pub(crate) mod foreign;
pub(crate) mod generation;
pub(crate) mod inode_numbers;
pub(crate) mod layers;
pub(crate) mod overlay;
pub(crate) mod pending;
pub(crate) mod reason;
pub(crate) mod refcounts;
pub(crate) mod reserved;
pub(crate) mod types;
pub(crate) mod view;
pub(crate) mod warnings;
