//! The vault key of an epoch: sealed to a slot, and opened by it.
//!
//! Relies on HPKE in base mode (`crypto::seal`). A sealed key is bound to vault, slot and epoch, so that no file can stand
//! in for another. Anyone who knows a slot's X25519 public key could seal to it; that key is in the encrypted tree only.
//!
//! Sealing draws nothing: the file of a slot and an epoch is a function of the tree's record and the epoch's key. So who
//! has opened the vault knows every byte of `keys/`, tells an altered file, and writes a lost one again; and two devices
//! that write the same file write the same bytes.
//!
//! An epoch's id is derived from its key. So whoever knows a slot's public key, from when he could read the tree, can seal to
//! it a key of his own choosing, but none for an epoch that is not his.

use thiserror::Error;

use crate::crypto::{self, EpochKey, Randomness, SealingKeyPair, Secret};
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
    /// Draws the vault key of a new epoch.
    pub fn generate(randomness: &dyn Randomness) -> Self {
        Self::of(EpochKey::generate(randomness))
    }

    /// A vault key, with the epoch that it is the key of.
    pub fn of(key: EpochKey) -> Self {
        Self { epoch: EpochId(key.id()), key }
    }

    /// Makes a second holder of the same key.
    pub fn duplicate(&self) -> Self {
        Self { epoch: self.epoch, key: self.key.duplicate() }
    }
}

/// Why a sealed vault key is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SealedKeyError {
    /// It was sealed for anything else, or altered.
    #[error("it does not open with this slot")]
    NotForSlot,
    /// Whoever sealed it put another key into it.
    #[error("it has a key that is not that epoch's")]
    OtherKey,
}

/// Seals an epoch's vault key to a slot: what lets the slot follow a rotation. Equal inputs give equal files.
pub fn seal_epoch_key(vault: VaultId, slot: &SlotRecord, epoch: &EpochKeyEntry) -> EpochKeyFile {
    let info = sealing_info(vault, slot.slot, epoch.epoch);
    let sealed = crypto::seal_repeatably(&slot.public_key, &info, epoch.key.secret());
    let sealed = sealed.try_into().expect("sealing adds 48 bytes to 32");
    EpochKeyFile { vault, slot: slot.slot, epoch: epoch.epoch, sealed }
}

/// Opens a sealed vault key with the slot's key pair.
pub fn open_epoch_key(file: &EpochKeyFile, pair: &SealingKeyPair) -> Result<EpochKeyEntry, SealedKeyError> {
    let info = sealing_info(file.vault, file.slot, file.epoch);
    let opened = crypto::open(pair, &info, &file.sealed).ok_or(SealedKeyError::NotForSlot)?;
    let key = Secret::try_filled(|place| {
        let key = <&[u8; 32]>::try_from(opened.as_slice()).map_err(|_| SealedKeyError::NotForSlot)?;
        place.copy_from_slice(key);
        Ok(())
    })?;
    let entry = EpochKeyEntry::of(EpochKey::from_secret(key));
    if entry.epoch == file.epoch { Ok(entry) } else { Err(SealedKeyError::OtherKey) }
}

fn sealing_info(vault: VaultId, slot: SlotId, epoch: EpochId) -> Vec<u8> {
    [&vault.0[..], &slot.0, &epoch.0].concat()
}
