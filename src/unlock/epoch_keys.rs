//! The vault key of an epoch: sealed to a slot, and opened by it.
//!
//! Relies on HPKE in base mode (`crypto::seal`). A sealed key is bound to vault, slot and epoch, so that no file can stand
//! in for another. Anyone who knows a slot's X25519 public key could seal to it; that key is in the encrypted tree only.

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

/// Seals an epoch's vault key to a slot: what lets the slot follow a rotation.
pub fn seal_epoch_key(
    vault: VaultId,
    slot: &SlotRecord,
    epoch: &EpochKeyEntry,
    randomness: &dyn Randomness,
) -> EpochKeyFile {
    let info = sealing_info(vault, slot.slot, epoch.epoch);
    let sealed = crypto::seal(&slot.public_key, &info, epoch.key.expose(), randomness);
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
