//! The vault keys of all epochs that could be opened, with what derives from each.
//!
//! An epoch's id is derived from its key, and the ring derives it: so it holds a key for no other epoch, wherever the key was
//! found. A tree that nobody has judged yet can name true keys only, and whoever wants a key for an id finds the true one.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::crypto::{BlockTagger, EpochKey, PageAuthenticator, UnitCipher};
use crate::format::segment::SegmentHeader;
use crate::format::{EpochId, VaultId};

/// One epoch's keys.
pub struct EpochKeys {
    /// Which epoch.
    pub epoch: EpochId,
    key: EpochKey,
    /// Tags blocks.
    pub tagger: BlockTagger,
    /// Tags last pages and journal frames.
    pub pages: PageAuthenticator,
}

impl EpochKeys {
    fn new(key: EpochKey) -> Self {
        let (epoch, tagger, pages) = (EpochId(key.id()), key.block_tagger(), key.page_authenticator());
        Self { epoch, key, tagger, pages }
    }

    /// The cipher of the segment or journal file with this header.
    pub fn cipher(&self, header: &SegmentHeader) -> UnitCipher {
        self.key.unit_cipher(header.segment.0, &header.salt)
    }

    /// The epoch's vault key: for sealing it to a slot, and for the record in the tree.
    pub fn key(&self) -> &EpochKey {
        &self.key
    }
}

/// All epochs of one vault that this session can read, and the one it writes in.
pub struct KeyRing {
    /// The vault they belong to.
    pub vault: VaultId,
    epochs: RwLock<HashMap<EpochId, Arc<EpochKeys>>>,
    current: RwLock<Arc<EpochKeys>>,
}

impl KeyRing {
    /// Makes a ring that writes in the epoch of the last of `keys`.
    ///
    /// # Panics
    /// When there is none: unlocking gives at least one.
    pub fn new(vault: VaultId, keys: Vec<EpochKey>) -> Self {
        let all: Vec<_> = keys.into_iter().map(|key| Arc::new(EpochKeys::new(key))).collect();
        let current = Arc::clone(all.last().expect("an unlocked vault has an epoch"));
        let epochs = all.into_iter().map(|keys| (keys.epoch, keys)).collect();
        Self { vault, epochs: RwLock::new(epochs), current: RwLock::new(current) }
    }

    /// The keys of an epoch, where they were opened.
    pub fn epoch(&self, epoch: EpochId) -> Option<Arc<EpochKeys>> {
        self.epochs.read().get(&epoch).cloned()
    }

    /// All epochs whose keys were opened.
    pub fn epochs(&self) -> Vec<EpochId> {
        self.epochs.read().keys().copied().collect()
    }

    /// The epoch that is written in.
    pub fn current(&self) -> Arc<EpochKeys> {
        Arc::clone(&self.current.read())
    }

    /// Writes in `epoch` from now on; false where its key was not opened.
    pub fn write_in(&self, epoch: EpochId) -> bool {
        let Some(keys) = self.epoch(epoch) else { return false };
        *self.current.write() = keys;
        true
    }

    /// Adds the key of another epoch. Answers which.
    pub fn add(&self, key: EpochKey) -> EpochId {
        let keys = Arc::new(EpochKeys::new(key));
        let epoch = keys.epoch;
        self.epochs.write().entry(epoch).or_insert(keys);
        epoch
    }
}
