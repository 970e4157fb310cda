//! Who unlocks a vault, over its life: slots added and removed, the vault key rotated, recovery, and whatever the cloud
//! does to `keys/` and `vault.json` meanwhile.

mod altered_records;
mod arrivals;
mod crashes;
mod false_keys;
mod following;
mod forging;
mod given_up;
mod newer_records;
mod outcomes;
mod pins;
mod recovery;
mod rig;
mod rollbacks;
mod rotation;
mod tampering;
mod thieves;
