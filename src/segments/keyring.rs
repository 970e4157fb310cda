//! The vault keys of all epochs that could be opened, with what derives from each.

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
    fn new(epoch: EpochId, key: EpochKey) -> Self {
        let (tagger, pages) = (key.block_tagger(), key.page_authenticator());
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
    /// Makes a ring that writes in the last of `epochs`.
    ///
    /// # Panics
    /// When there is none: unlocking gives at least one.
    pub fn new(vault: VaultId, epochs: Vec<(EpochId, EpochKey)>) -> Self {
        let all: Vec<_> = epochs.into_iter().map(|(epoch, key)| Arc::new(EpochKeys::new(epoch, key))).collect();
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

    /// Adds an older epoch's key, found in the tree.
    pub fn add(&self, epoch: EpochId, key: EpochKey) {
        self.epochs.write().entry(epoch).or_insert_with(|| Arc::new(EpochKeys::new(epoch, key)));
    }
}
