//! Asking authenticators for the vault's credentials: one PIN and one touch, whichever key is there.
//!
//! Credentials that were enrolled without user verification are asked for first, for who has none of them says so without
//! PIN or touch; then those with. An answer that opens nothing is not the last word: a file that somebody added may have
//! brought it about. Where this device knows the vault, credentials that it does not know come last. A list longer than the device takes is probed in pieces without a touch, and only the credential that
//! is there is asserted.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::error::UnlockError;
use crate::crypto::Randomness;
use crate::format::VaultFile;
use crate::format::slot_file::{PasskeyMethod, RELYING_PARTY};
use crate::store::Area;
use crate::unlock::authenticators::assertion::{self, AuthenticatorData};
use crate::unlock::authenticators::authenticator::{
    Assertion, Authenticator, AuthenticatorDescription, AuthenticatorError, GetAssertion, retry_wrong_pins,
};
use crate::unlock::key_files::folder::SlotCandidate;
use crate::unlock::prompts::interaction::Interaction;

/// An authenticator's answer, whose form was checked.
pub(super) struct Answer {
    pub description: AuthenticatorDescription,
    pub assertion: Assertion,
    pub client_data_hash: [u8; 32],
    pub user_verified: bool,
}

/// The passkey that opens a slot, if one does.
pub(super) fn passkey(slot: &SlotCandidate) -> Option<&PasskeyMethod> {
    slot.file.public().passkey()
}

/// How late a credential is asked for: whether it is a stranger's, and whether it wants user verification.
type Class = (bool, bool);

/// The credentials to ask for, by class; those without user verification come before those with.
///
/// A credential of which this device has a copy is asked for as the copy says: a file that somebody added does not make it
/// answer in another way. Where there are copies, other credentials are strangers', and asked for last.
fn classes(slots: &[&SlotCandidate]) -> BTreeMap<Class, Vec<Vec<u8>>> {
    let is_copy = |slot: &&SlotCandidate| slot.path.area == Area::State;
    let passkeys =
        |of_copies: bool| slots.iter().copied().filter(move |slot| is_copy(slot) == of_copies).filter_map(passkey);
    let copied: HashSet<&[u8]> = passkeys(true).map(|one| one.credential_id.as_slice()).collect();
    let others = passkeys(false).filter(|passkey| !copied.contains(passkey.credential_id.as_slice()));
    let of_strangers = others.map(|passkey| (!copied.is_empty(), passkey));
    let (mut classes, mut listed) = (BTreeMap::<Class, Vec<Vec<u8>>>::new(), HashSet::new());
    for (is_strangers, passkey) in passkeys(true).map(|passkey| (false, passkey)).chain(of_strangers) {
        let class = (is_strangers, passkey.user_verified);
        if listed.insert((class, passkey.credential_id.as_slice())) {
            classes.entry(class).or_default().push(passkey.credential_id.clone());
        }
    }
    classes
}

/// Whether a file that somebody put into `keys/` can be why a slot did not open, so that another may yet.
fn may_be_of_a_false_file(error: &UnlockError) -> bool {
    use UnlockError as E;
    matches!(
        error,
        E::UserVerificationDiffers { .. }
            | E::WrongSecret { .. }
            | E::SlotDamaged { .. }
            | E::VaultFileChanged { .. }
            | E::AnswerInvalid { .. }
    )
}

/// What authenticators are asked.
pub(super) struct Question<'a> {
    pub vault: &'a VaultFile,
    pub slots: &'a [&'a SlotCandidate],
    pub interaction: &'a dyn Interaction,
    pub randomness: &'a dyn Randomness,
}

impl Question<'_> {
    /// Asks each authenticator for any of the slots' credentials, one class of user verification after the other, until
    /// one opens a slot. What does not is not asked for again, and is the error if nothing else opens.
    pub fn ask<T>(
        &self,
        authenticators: &mut [Box<dyn Authenticator>],
        mut open: impl FnMut(&Answer) -> Result<T, UnlockError>,
    ) -> Result<(T, AuthenticatorDescription), UnlockError> {
        if authenticators.is_empty() {
            return Err(UnlockError::NoAuthenticator);
        }
        let (mut failure, mut unable) = (None, None);
        let mut without_pin = BTreeSet::new();
        for ((_, verify_user), mut allow) in classes(self.slots) {
            for authenticator in authenticators.iter_mut() {
                while !allow.is_empty() {
                    let request = self.request(&allow, verify_user);
                    let error = match assert_any(authenticator.as_mut(), &request, self.interaction) {
                        Ok(assertion) => {
                            let credential = assertion.credential_id.clone();
                            let answer = check_answer(authenticator.describe(), request, assertion)?;
                            match open(&answer) {
                                Ok(opened) => return Ok((opened, answer.description)),
                                Err(error) if may_be_of_a_false_file(&error) => failure = failure.or(Some(error)),
                                Err(error) => return Err(error),
                            }
                            allow.retain(|one| *one != credential);
                            continue;
                        }
                        Err(error) => error,
                    };
                    match error {
                        AuthenticatorError::NoCredentials { .. } => {}
                        // What was enrolled with a PIN went when the PIN did: only a reset takes either away (CTAP 2.1 §6.6).
                        AuthenticatorError::PinNotSet { authenticator } => drop(without_pin.insert(authenticator)),
                        // It may be the wrong key: what it lacks matters only if no other will do.
                        AuthenticatorError::NoHmacSecret { .. } => unable = unable.or(Some(error)),
                        other => return Err(failure.unwrap_or_else(|| other.into())),
                    }
                    break;
                }
            }
        }
        let with_what_it_lacks = |name: String| match without_pin.contains(&name) {
            true => format!("{name}, which has no PIN"),
            false => name,
        };
        let names = authenticators.iter().map(|authenticator| with_what_it_lacks(authenticator.describe().name));
        let none = || UnlockError::NoneEnrolledHere { asked: names.collect() };
        Err(failure.or(unable.map(UnlockError::from)).unwrap_or_else(none))
    }

    fn request(&self, allow: &[Vec<u8>], verify_user: bool) -> GetAssertion {
        GetAssertion {
            client_data_hash: assertion::fresh_client_data_hash(self.randomness),
            relying_party: RELYING_PARTY.to_owned(),
            allow: allow.to_vec(),
            hmac_salt: assertion::map_salt(self.vault.salt()),
            verify_user,
        }
    }
}

/// One assertion by whichever credential of the list the authenticator holds.
fn assert_any(
    authenticator: &mut dyn Authenticator,
    request: &GetAssertion,
    interaction: &dyn Interaction,
) -> Result<Assertion, AuthenticatorError> {
    let description = authenticator.describe();
    let name = || description.name.clone();
    if !description.hmac_secret {
        return Err(AuthenticatorError::NoHmacSecret { authenticator: name() });
    }
    let chunk_length = description.credentials_in_list_max.max(1);
    let mut request = request.clone();
    if request.allow.len() > chunk_length {
        let mut found = None;
        for chunk in request.allow.chunks(chunk_length) {
            let probe = GetAssertion { allow: chunk.to_vec(), ..request.clone() };
            found = retry_wrong_pins(interaction, || authenticator.find_credential(&probe, interaction))?;
            if found.is_some() {
                break;
            }
        }
        request.allow = vec![found.ok_or_else(|| AuthenticatorError::NoCredentials { authenticator: name() })?];
    }
    retry_wrong_pins(interaction, || authenticator.get_assertion(&request, interaction))
}

/// Checks what can be checked before it is known whose slot it is.
fn check_answer(
    description: AuthenticatorDescription,
    request: GetAssertion,
    assertion: Assertion,
) -> Result<Answer, UnlockError> {
    let invalid = |what| UnlockError::AnswerInvalid { authenticator: description.name.clone(), what };
    let data = AuthenticatorData::decode(&assertion.authenticator_data).map_err(invalid)?;
    data.check(&request.relying_party).map_err(invalid)?;
    if !request.allow.contains(&assertion.credential_id) {
        return Err(invalid("it answered with a credential that was not asked for"));
    }
    let client_data_hash = request.client_data_hash;
    Ok(Answer { user_verified: data.user_verified(), description, assertion, client_data_hash })
}
