//! Asks authenticators for the vault's credentials: one PIN and one touch, whichever key is there.
//!
//! [`Asking`] gives one answer after the other, as data; the caller tries to open a slot with each and stops when one opens.
//! An answer that opens nothing is not the end: an added file in `keys/` may have caused it.
//!
//! The order: credentials enrolled without user verification come first, because an authenticator that holds none of them
//! says so without PIN or touch; then those with. Where this device has copies of slot files, credentials without a copy come
//! last. A list longer than the device accepts is probed in parts without a touch, and only the credential that was found
//! is asserted.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::error::UnlockError;
use crate::crypto::Randomness;
use crate::format::VaultFile;
use crate::format::slot_file::RELYING_PARTY;
use crate::store::Area;
use crate::unlock::authenticators::assertion;
use crate::unlock::authenticators::authenticator::{
    Assertion, Authenticator, AuthenticatorDescription, AuthenticatorError, GetAssertion, retry_wrong_pins,
};
use crate::unlock::key_files::folder::SlotCandidate;
use crate::unlock::prompts::interaction::Interaction;

/// What an authenticator answered, not checked yet.
pub(super) struct Answer {
    /// The authenticator.
    pub description: AuthenticatorDescription,
    /// What it was asked.
    pub request: GetAssertion,
    /// What it answered.
    pub assertion: Assertion,
}

/// Whether the credential is unknown to this device, and whether it requires user verification. Lower classes are asked for
/// first.
type Class = (bool, bool);

/// The credential ids to ask for, by class.
///
/// A credential of which this device has a copy is asked for as the copy says, so an added file does not change how it
/// answers. Where there are copies, all other credentials count as unknown.
fn classes(slots: &[&SlotCandidate]) -> BTreeMap<Class, Vec<Vec<u8>>> {
    let is_copy = |slot: &&SlotCandidate| slot.path.area == Area::State;
    let passkeys = |of_copies: bool| {
        let slots = slots.iter().copied().filter(move |slot| is_copy(slot) == of_copies);
        slots.filter_map(|slot| slot.file.public().passkey())
    };
    let copied: HashSet<&[u8]> = passkeys(true).map(|one| one.credential_id.as_slice()).collect();
    let others = passkeys(false).filter(|passkey| !copied.contains(passkey.credential_id.as_slice()));
    let others = others.map(|passkey| (!copied.is_empty(), passkey));
    let (mut classes, mut listed) = (BTreeMap::<Class, Vec<Vec<u8>>>::new(), HashSet::new());
    for (is_unknown, passkey) in passkeys(true).map(|passkey| (false, passkey)).chain(others) {
        let class = (is_unknown, passkey.user_verified);
        if listed.insert((class, passkey.credential_id.as_slice())) {
            classes.entry(class).or_default().push(passkey.credential_id.clone());
        }
    }
    classes
}

/// A round of questions to some authenticators, for the credentials of some slots.
pub(super) struct Asking<'a> {
    authenticators: &'a mut [Box<dyn Authenticator>],
    interaction: &'a dyn Interaction,
    randomness: &'a dyn Randomness,
    hmac_salt: [u8; 32],
    /// The credentials that were not asserted yet, by class; the current class is first.
    classes: BTreeMap<Class, Vec<Vec<u8>>>,
    /// The index of the authenticator that is asked next.
    next: usize,
    /// The names of authenticators that need a PIN for a class and have none set.
    without_pin: BTreeSet<String>,
    /// The first error of an authenticator that can answer nothing.
    unable: Option<AuthenticatorError>,
}

impl<'a> Asking<'a> {
    /// Prepares to ask for the credentials of `slots`, with the vault's salt.
    ///
    /// **Errors**: [`UnlockError::NoAuthenticator`].
    pub fn new(
        vault: &VaultFile,
        slots: &[&SlotCandidate],
        authenticators: &'a mut [Box<dyn Authenticator>],
        interaction: &'a dyn Interaction,
        randomness: &'a dyn Randomness,
    ) -> Result<Self, UnlockError> {
        if authenticators.is_empty() {
            return Err(UnlockError::NoAuthenticator);
        }
        Ok(Self {
            authenticators,
            interaction,
            randomness,
            hmac_salt: assertion::map_salt(vault.salt()),
            classes: classes(slots),
            next: 0,
            without_pin: BTreeSet::new(),
            unable: None,
        })
    }

    /// The next answer: each authenticator is asked for all credentials of a class before the next class. A credential that
    /// has answered is not asked for again. `None` once nothing is left to ask for.
    ///
    /// **Errors**: what an authenticator or the user refused. No further question follows.
    pub fn next_answer(&mut self) -> Result<Option<Answer>, AuthenticatorError> {
        while let Some(mut class) = self.classes.first_entry() {
            let (_, verify_user) = *class.key();
            let allow = class.get_mut();
            let authenticator = self.authenticators.get_mut(self.next).filter(|_| !allow.is_empty());
            let Some(authenticator) = authenticator else {
                class.remove();
                self.next = 0;
                continue;
            };
            let request = GetAssertion {
                client_data_hash: assertion::fresh_client_data_hash(self.randomness),
                relying_party: RELYING_PARTY.to_owned(),
                allow: allow.clone(),
                hmac_salt: self.hmac_salt,
                verify_user,
            };
            match assert_any(authenticator.as_mut(), &request, self.interaction) {
                Ok(assertion) => {
                    allow.retain(|one| *one != assertion.credential_id);
                    return Ok(Some(Answer { description: authenticator.describe(), request, assertion }));
                }
                Err(AuthenticatorError::NoCredentials { .. }) => {}
                // Credentials enrolled with a PIN are lost with the PIN: only a reset removes either (CTAP 2.1 §6.6).
                Err(AuthenticatorError::PinNotSet { authenticator }) => drop(self.without_pin.insert(authenticator)),
                // It may be the wrong key: this is the error only if no other authenticator answers.
                Err(error @ AuthenticatorError::NoHmacSecret { .. }) => {
                    self.unable = self.unable.take().or(Some(error))
                }
                Err(error) => return Err(error),
            }
            self.next += 1;
        }
        Ok(None)
    }

    /// Why no authenticator answered.
    pub fn no_answer(self) -> UnlockError {
        let with_what_it_lacks = |name: String| match self.without_pin.contains(&name) {
            true => format!("{name}, which has no PIN"),
            false => name,
        };
        let names = self.authenticators.iter().map(|authenticator| with_what_it_lacks(authenticator.describe().name));
        let none_enrolled = || UnlockError::NoneEnrolledHere { asked: names.collect() };
        self.unable.map_or_else(none_enrolled, UnlockError::from)
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
