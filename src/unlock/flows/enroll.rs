//! Making ways to unlock: a new slot, and a new vault with its first one.
//!
//! A slot is made without writing anything ([`enroll_slot`]), then written ([`write_slot`]). Promises an order of writes
//! by which no crash leaves a slot file without its key:
//!
//! ```text
//! keys/<slot>-<epoch>.key    alone it means nothing; `init` may start over beside it
//! keys/<slot>.json           from here on the slot opens, and holds a copy of vault.json
//! vault.json                 for a new vault, last
//! copies in the local state, and the pinned hash of vault.json
//! ```
//! Whether the vault also has a first commit is the caller's concern: it writes one, or calls [`discard_created_vault`].

use std::time::UNIX_EPOCH;

use subtle::ConstantTimeEq;

use super::error::UnlockError;
use crate::crypto::{self, Randomness, SealingKeyPair, Secret};
use crate::format::slot_file::{PasskeyMethod, RELYING_PARTY, SlotMethod, epoch_key_file_name, slot_file_name};
use crate::format::{
    EpochKeyFile, FormatError, SlotFile, SlotId, SlotPublic, SlotRecord, VaultFile, VaultId, VaultParameters,
};
use crate::store::{Clock, Store, StoreError};
use crate::unlock::authenticators::assertion::{self, AuthenticatorData};
use crate::unlock::authenticators::authenticator::{
    Assertion, Authenticator, AuthenticatorDescription, AuthenticatorError, GetAssertion, MakeCredential,
    UserVerification, retry_wrong_pins,
};
use crate::unlock::key_files::epoch_keys::{EpochKeyEntry, seal_epoch_key};
use crate::unlock::key_files::folder;
use crate::unlock::key_files::vault_json;
use crate::unlock::prompts::interaction::Interaction;

/// What is chosen for a new vault.
#[derive(Debug, Clone, Copy)]
pub struct NewVault {
    /// The vault's id, drawn by the caller, who needs it to place the local state.
    pub vault: VaultId,
    /// Block size and compression.
    pub parameters: VaultParameters,
}

/// What is chosen for a new slot.
#[derive(Debug, Clone, Default)]
pub struct NewSlot<'a> {
    /// What the user calls it.
    pub label: Option<&'a str>,
    /// Whether the credential is kept on the device.
    pub discoverable: bool,
    /// The credentials enrolled already: their authenticators are refused.
    pub enrolled: Vec<Vec<u8>>,
}

/// A slot that was made, and is not written yet.
#[derive(Debug, Clone)]
pub struct EnrolledSlot {
    /// What the tree keeps.
    pub record: SlotRecord,
    /// The key of the epoch it was made for, sealed to it.
    pub epoch_key: EpochKeyFile,
}

/// A vault that was created, and has no commit yet.
#[derive(Debug)]
pub struct CreatedVault {
    /// Its `vault.json`.
    pub vault: VaultFile,
    /// Its first epoch.
    pub epoch: EpochKeyEntry,
    /// Its slots, for the tree.
    pub slots: Vec<SlotRecord>,
}

/// Creates a vault with one slot.
///
/// **Durability**: all files are durable on return; a crash before leaves what the order above shows.
/// **Errors**: [`AlreadyAVault`](crate::unlock::VaultFileError::AlreadyAVault) if anything of a vault is in the folder.
pub fn create_vault(
    store: &dyn Store,
    new_vault: NewVault,
    new_slot: &NewSlot<'_>,
    authenticator: &mut dyn Authenticator,
    interaction: &dyn Interaction,
    randomness: &dyn Randomness,
    clock: &dyn Clock,
) -> Result<CreatedVault, UnlockError> {
    vault_json::refuse_a_vault(store)?;
    let vault = VaultFile::new(new_vault.vault, randomness.array(), new_vault.parameters)?;
    let epoch = EpochKeyEntry::generate(randomness);
    let slot = enroll_slot(&vault, &epoch, new_slot, authenticator, interaction, randomness, clock)?;
    // Someone may have brought a vault while the user was looking for the key.
    vault_json::refuse_a_vault(store)?;
    write_slot(store, &slot)?;
    store.put_whole(&folder::vault_file_path(), vault.raw())?;
    vault_json::pin_vault_file(store, &vault)?;
    Ok(CreatedVault { vault, epoch, slots: vec![slot.record] })
}

/// Takes back a vault that was just created, when its first commit could not be written. Best effort.
pub fn discard_created_vault(store: &dyn Store, created: &CreatedVault) -> Result<(), StoreError> {
    store.remove(&folder::vault_file_path())?;
    for record in &created.slots {
        let names = [slot_file_name(record.slot), epoch_key_file_name(record.slot, created.epoch.epoch)];
        for name in names {
            store.remove(&folder::keys_folder().join(&name))?;
            store.remove(&folder::copies_folder().join(&name))?;
        }
    }
    store.remove(&folder::pin_path())
}

/// Makes a slot on `authenticator`, for the vault key of `epoch`. Writes nothing.
///
/// Outline: 1) a credential, 2) two assertions that must agree, 3) a key pair wrapped under their secret, 4) the epoch key
/// sealed to it.
pub fn enroll_slot(
    vault: &VaultFile,
    epoch: &EpochKeyEntry,
    new_slot: &NewSlot<'_>,
    authenticator: &mut dyn Authenticator,
    interaction: &dyn Interaction,
    randomness: &dyn Randomness,
    clock: &dyn Clock,
) -> Result<EnrolledSlot, UnlockError> {
    if !new_slot.label.is_none_or(SlotPublic::label_is_valid) {
        return Err(FormatError::Invalid { structure: "slot", field: "label" }.into());
    }
    let (passkey, secret) = enroll_passkey(vault, new_slot, authenticator, interaction, randomness)?;
    let public = SlotPublic {
        slot: SlotId(randomness.array()),
        method: SlotMethod::Passkey(passkey),
        label: new_slot.label.map(str::to_owned),
        created_seconds: clock.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
    };
    self::new_slot(vault, epoch, &public, &secret, randomness).map_err(|_| UnlockError::AnswerInvalid {
        authenticator: authenticator.describe().name,
        what: "its credential id is empty or too long",
    })
}

/// A slot that `secret` opens: a new key pair, wrapped, and the epoch's key sealed to it.
pub(super) fn new_slot(
    vault: &VaultFile,
    epoch: &EpochKeyEntry,
    public: &SlotPublic,
    secret: &Secret<32>,
    randomness: &dyn Randomness,
) -> Result<EnrolledSlot, FormatError> {
    if !public.label.as_deref().is_none_or(SlotPublic::label_is_valid) {
        return Err(FormatError::Invalid { structure: "slot", field: "label" });
    }
    let pair = SealingKeyPair::generate(randomness);
    let public_raw = public.encode();
    let wrapping_key = crypto::slot_wrapping_key(secret, &crypto::hash(vault.raw()), &public_raw);
    let wrapped = crypto::wrap_key(&wrapping_key, &pair.secret);
    let file = SlotFile::new(public_raw, wrapped, vault.raw())
        .map_err(|_| FormatError::Invalid { structure: "slot", field: "public part" })?;
    let record = SlotRecord { slot: public.slot, public_key: pair.public, slot_file: file.encode() };
    let epoch_key = seal_epoch_key(vault.vault(), &record, epoch);
    Ok(EnrolledSlot { record, epoch_key })
}

/// Writes a slot's files, and this device's copies of them.
///
/// **Durability**: durable on return; the key file is so before the slot file appears.
pub fn write_slot(store: &dyn Store, slot: &EnrolledSlot) -> Result<(), StoreError> {
    let key_name = epoch_key_file_name(slot.record.slot, slot.epoch_key.epoch);
    let key = slot.epoch_key.encode();
    store.put_whole(&folder::keys_folder().join(&key_name), &key)?;
    store.put_whole(&folder::keys_folder().join(&slot_file_name(slot.record.slot)), &slot.record.slot_file)?;
    store.put_whole(&folder::copies_folder().join(&key_name), &key)?;
    folder::write_slot_copy(store, &slot.record)
}

/// Makes a credential, and learns its secret for this vault's salt.
fn enroll_passkey(
    vault: &VaultFile,
    new_slot: &NewSlot<'_>,
    authenticator: &mut dyn Authenticator,
    interaction: &dyn Interaction,
    randomness: &dyn Randomness,
) -> Result<(PasskeyMethod, Secret<32>), UnlockError> {
    let description = authenticator.describe();
    let name = description.name.clone();
    if !description.hmac_secret {
        return Err(AuthenticatorError::NoHmacSecret { authenticator: name }.into());
    }
    let verify_user = description.user_verification == UserVerification::Ready;
    if !verify_user {
        log::warn!("{name} cannot verify its user: whoever holds it can unlock the vault");
    }
    let request = MakeCredential {
        client_data_hash: assertion::fresh_client_data_hash(randomness),
        relying_party: RELYING_PARTY.to_owned(),
        user_id: randomness.array::<32>().to_vec(),
        user_name: format!("passkeyfs {}", &vault.vault().to_string()[..8]),
        discoverable: new_slot.discoverable,
        verify_user,
        exclude: new_slot.enrolled.clone(),
    };
    let credential = retry_wrong_pins(interaction, || authenticator.make_credential(&request, interaction))?;
    let invalid = |what| UnlockError::AnswerInvalid { authenticator: name.clone(), what };
    let data = AuthenticatorData::decode(&credential.authenticator_data).map_err(invalid)?;
    data.check(RELYING_PARTY).map_err(invalid)?;
    let attested = data.attested.ok_or_else(|| invalid("it made no credential"))?;
    if attested.credential_id != credential.credential_id {
        return Err(invalid("it named two credentials for one"));
    }
    let mut passkey = PasskeyMethod {
        credential_id: attested.credential_id,
        public_key: attested.public_key,
        relying_party: RELYING_PARTY.to_owned(),
        user_verified: verify_user,
        discoverable: new_slot.discoverable,
        hardware: description.hardware,
        aaguid: attested.aaguid,
    };
    let mut ask = || first_secret(vault, &passkey, &description, authenticator, interaction, randomness);
    let (first, first_verified) = ask()?;
    let (second, second_verified) = ask()?;
    if !bool::from(first.ct_eq(&second)) || first_verified != second_verified {
        return Err(UnlockError::Unsteady { authenticator: name });
    }
    passkey.user_verified = first_verified;
    Ok((passkey, first))
}

/// Asks a credential that was just made for its secret; also tells whether the user was verified.
fn first_secret(
    vault: &VaultFile,
    passkey: &PasskeyMethod,
    description: &AuthenticatorDescription,
    authenticator: &mut dyn Authenticator,
    interaction: &dyn Interaction,
    randomness: &dyn Randomness,
) -> Result<(Secret<32>, bool), UnlockError> {
    let request = GetAssertion {
        client_data_hash: assertion::fresh_client_data_hash(randomness),
        relying_party: passkey.relying_party.clone(),
        allow: vec![passkey.credential_id.clone()],
        hmac_salt: assertion::map_salt(vault.salt()),
        verify_user: passkey.user_verified,
    };
    let answer: Assertion = retry_wrong_pins(interaction, || authenticator.get_assertion(&request, interaction))?;
    let invalid = |what| UnlockError::AnswerInvalid { authenticator: description.name.clone(), what };
    let data = AuthenticatorData::decode(&answer.authenticator_data).map_err(invalid)?;
    data.check(&passkey.relying_party).map_err(invalid)?;
    let raw = &answer.authenticator_data;
    if !assertion::signature_holds(&passkey.public_key, raw, &request.client_data_hash, &answer.signature) {
        return Err(invalid("its signature does not hold"));
    }
    Ok((answer.hmac_secret, data.user_verified()))
}
