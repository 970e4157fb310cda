//! passkeyfs: an encrypted view of a backup, unlocked by a passkey, kept as write-once files any sync client can carry.
//!
//! # The map of the source
//!
//! Imports go only downwards; things side by side never import each other (`tests/tidy.rs` checks it).
//!
//! | layer | what it is | begin with |
//! | --- | --- | --- |
//! | [`cli`] | arguments, commands, the mount helper, what an error tells the user to do | `cli/mod.rs`, `cli/options/args.rs` |
//! | [`mount`] and [`check`] | the only place that knows FUSE; looking through a vault for damage | `mount/adapter/filesystem.rs` |
//! | [`volume`] | the filesystem: operations, mounting, commits, other devices | `volume/mod.rs` |
//! | `writeback` | data segments, flusher and journal writer: types with locks of their own | `writeback/mod.rs` |
//! | `state` | what an open vault holds in memory: generations, views, edits, the memory budget | `state/mod.rs` |
//! | [`history`] | journal, commits, what this device has seen | `history/mod.rs` |
//! | [`tree`] | the copy-on-write B+tree that holds all metadata | `tree/mod.rs` |
//! | [`segments`] and [`unlock`] | blocks in segments; slots, authenticators, asking the user | `segments/mod.rs`, `unlock/mod.rs` |
//! | [`store`] | files on a local disk, in memory, or failing on purpose; time | `store/mod.rs` |
//! | [`format`](mod@format) | every on-disk structure and its version, and nothing else | `docs/format.md` |
//! | [`crypto`] | keys, XTS, tags, wrapping, secrets | `crypto/mod.rs` |
//!
//! Threads, locks and more ways: `docs/architecture.md`.
//!
//! # How a write travels
//!
//! 1. The kernel's request reaches `mount/adapter/filesystem.rs`, which calls [`volume::Volume::write`] (`volume/content.rs`): the bytes
//!    become dirty pieces of the current generation, under one lock, and the reply goes out.
//! 2. `writeback/flush.rs`, called by the flusher thread (`writeback/flusher.rs`) or by a commit, puts a block together,
//!    compresses, tags, and appends it to a data segment: `segments/writer.rs` encrypts it. The pointer goes to the
//!    generation's overlay.
//! 3. `volume/publish.rs` freezes the generation, writes its overlay into the tree (`tree/edit.rs`) and the commit page
//!    into a meta segment (`history/commit.rs`), and renames both into the vault folder (`store/local.rs`).
//!
//! `fsync` waits for none of that: `writeback/journal_writer.rs` appends one sealed frame to the local journal
//! (`history/journal.rs`), and a mount replays it (`volume/open.rs`, `volume/replay.rs`).
//!
//! # How an unlock travels
//!
//! 1. `cli/vault_place/vault.rs` finds the vault and calls [`unlock::unlock_vault`] (`unlock/flows/open.rs`): it reads `vault.json` and the
//!    slot files, and asks an [`unlock::Authenticator`] for an assertion with `hmac-secret` by one of the slots' credentials.
//! 2. The secret and the slot's public bytes give the key that unwraps the slot's X25519 key (`crypto/wrap.rs`); that one
//!    opens the sealed vault key of each epoch.
//! 3. [`volume::Volume::open`] derives everything else from these (`segments/keyring.rs`, `crypto/keys.rs`).

pub mod check;
pub mod cli;
pub mod crypto;
pub mod format;
pub mod history;
pub mod mount;
pub mod segments;
mod state;
pub mod store;
pub mod tree;
pub mod unlock;
pub mod volume;
mod writeback;
