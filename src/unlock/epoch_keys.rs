//! The vault key of an epoch: sealed to a slot, and opened by it.
//!
//! Relies on HPKE in base mode (`crypto::seal`). A sealed key is bound to vault, slot and epoch, so that no file can stand
//! in for another. Anyone who knows a slot's X25519 public key could seal to it; that key is in the encrypted tree only.
//!
//! Sealing draws nothing: the file of a slot and an epoch is a function of the tree's record and the epoch's key. So who
//! has opened the vault knows every byte of `keys/`, tells an altered file, and writes a lost one again; and two devices
//! that write the same file write the same bytes.

use crate::crypto::{self, EpochKey, SealingKeyPair, Secret};
use crate::format::{EpochId, EpochKeyFile, SlotId, SlotRecord, VaultId};

/// An epoch and its vault key.
#[derive(Debug)]
pub struct EpochKeyEntry {
    /// The epoch.
    pub epoch: EpochId,
    /// Its vault key.
    pub key: EpochKey,
}

impl EpochKeyEntry {
    /// Makes a second holder of the same key.
    pub fn duplicate(&self) -> Self {
        Self { epoch: self.epoch, key: self.key.duplicate() }
    }
}

/// Seals an epoch's vault key to a slot: what lets the slot follow a rotation. Equal inputs give equal files.
pub fn seal_epoch_key(vault: VaultId, slot: &SlotRecord, epoch: &EpochKeyEntry) -> EpochKeyFile {
    let info = sealing_info(vault, slot.slot, epoch.epoch);
    let sealed = crypto::seal_repeatably(&slot.public_key, &info, epoch.key.secret());
    let sealed = sealed.try_into().expect("sealing adds 48 bytes to 32");
    EpochKeyFile { vault, slot: slot.slot, epoch: epoch.epoch, sealed }
}

/// Opens a sealed vault key with the slot's key pair; `None` if it was sealed for anything else, or altered.
pub fn open_epoch_key(file: &EpochKeyFile, pair: &SealingKeyPair) -> Option<EpochKeyEntry> {
    let info = sealing_info(file.vault, file.slot, file.epoch);
    let opened = crypto::open(pair, &info, &file.sealed)?;
    let key = Secret::try_filled(|place| {
        <&[u8; 32]>::try_from(opened.as_slice()).map(|key| place.copy_from_slice(key)).map_err(drop)
    })
    .ok()?;
    Some(EpochKeyEntry { epoch: file.epoch, key: EpochKey::from_secret(key) })
}

fn sealing_info(vault: VaultId, slot: SlotId, epoch: EpochId) -> Vec<u8> {
    [&vault.0[..], &slot.0, &epoch.0].concat()
}
