//! A CTAP 2.1 authenticator in a file: for tests, and for trying passkeyfs without a security key. Not hardware.
//!
//! It behaves as a security key does, down to the bytes of its authenticator data: each credential has a P-256 key, a
//! signature counter and two secrets for `hmac-secret`, one for users who were verified and one for those who were not. A
//! PIN has eight tries, counted down in the file *before* the PIN is compared; after three wrong ones in a row no more are
//! taken until the authenticator is opened again (a key: pulled out and put in). A touch is played by the file's `touch`.
//!
//! What a platform and a key do to hide `hmac-secret` on its way is left out, for there is no way; the authenticator data
//! still holds an encrypted output of the length that PIN protocol two has, so that all readers of it see what keys send.
//!
//! Durable: the signature counter, the PIN counter and a new credential are on the disk before an answer is given.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::assertion::{
    FLAG_ATTESTED_CREDENTIAL, FLAG_EXTENSIONS, FLAG_USER_PRESENT, FLAG_USER_VERIFIED, encode_cose_key,
    hash_relying_party,
};
use super::authenticator::{
    Assertion, Authenticator, AuthenticatorDescription, AuthenticatorError, Credential, GetAssertion, MakeCredential,
    UserVerification,
};
use super::pin::normalize_pin;
use super::software_file::{
    LockedState, PIN_TRIES, PinHash, SecretText, SoftwareFile, SoftwareState, StoredCredential, Touch,
};
use crate::crypto::{KernelRandomness, Randomness, Secret};
use crate::unlock::prompts::interaction::{Interaction, InteractionError, PinRequest};

/// The model that these authenticators say they are.
pub const AAGUID: [u8; 16] = *b"passkeyfs soft 1";

/// `credProtect` of a credential that shows itself to verified users only.
const PROTECTED: u8 = 3;
const UNPROTECTED: u8 = 1;
/// Wrong PINs in a row before a power cycle is wanted.
const WRONG_PINS_IN_A_ROW_MAX: u32 = 3;
/// How long a touch is waited for.
const TOUCH_TIME_LIMIT: Duration = Duration::from_secs(30);

/// A session with a software authenticator, from plugging in to pulling out.
pub struct SoftwareAuthenticator {
    file: SoftwareFile,
    description: AuthenticatorDescription,
    randomness: Arc<dyn Randomness>,
    /// Stands for the secret that platform and key agree on.
    transport_key: Secret<32>,
    user_verified: bool,
    wrong_pins_in_a_row: u32,
}

impl SoftwareAuthenticator {
    /// Opens the authenticator in the file at `path`.
    pub fn open(path: &Path) -> Result<Self, AuthenticatorError> {
        Self::open_with(path, Arc::new(KernelRandomness))
    }

    /// Opens it; makes it first if there is no such file. The new file is durable on return.
    pub fn open_or_create(path: &Path) -> Result<Self, AuthenticatorError> {
        SoftwareFile::at(path).create_if_missing()?;
        Self::open(path)
    }

    /// Opens it with a source of randomness of the caller's choice.
    pub fn open_with(path: &Path, randomness: Arc<dyn Randomness>) -> Result<Self, AuthenticatorError> {
        let file = SoftwareFile::at(path);
        let state = file.read()?;
        let user_verification = match &state.pin {
            Some(_) => UserVerification::Ready,
            None => UserVerification::NotSetUp,
        };
        let description = AuthenticatorDescription {
            name: format!("the software authenticator {} (not hardware)", file.path().display()),
            hardware: false,
            device: Some(file.path().to_owned()),
            user_verification,
            hmac_secret: state.hmac_secret,
            credentials_in_list_max: state.credentials_in_list_max,
        };
        let transport_key = Secret::filled(|place| randomness.fill(place));
        Ok(Self { file, description, randomness, transport_key, user_verified: false, wrong_pins_in_a_row: 0 })
    }

    /// Sets or changes the PIN, with all its tries. Durable on return.
    ///
    /// A real key would ask for the old PIN; whoever can write this file needs none.
    pub fn set_pin(&mut self, pin: &str) -> Result<(), AuthenticatorError> {
        let pin = normalize_pin(pin)?;
        let mut locked = self.file.lock()?;
        let salt = self.randomness.array();
        locked.state.pin = Some(PinHash { salt, hash: SecretText(hash_pin(&salt, &pin)) });
        locked.state.pin_tries_left = PIN_TRIES;
        locked.save()?;
        self.user_verified = false;
        self.description.user_verification = UserVerification::Ready;
        Ok(())
    }

    /// How many of its passkeys answer users who were not verified: a PIN that was set later does not protect these.
    pub fn passkeys_without_pin(&self) -> Result<usize, AuthenticatorError> {
        let is_open = |credential: &&StoredCredential| credential.protection < PROTECTED;
        Ok(self.file.read()?.credentials.iter().filter(is_open).count())
    }

    fn name(&self) -> String {
        self.description.name.clone()
    }

    /// Asks for the PIN and checks it, unless that was done in this session; then locks the file.
    ///
    /// The user is asked before the lock is taken, so that no process waits for another's user.
    fn begin(&mut self, verify_user: bool, interaction: &dyn Interaction) -> Result<LockedState, AuthenticatorError> {
        let state = self.file.read()?;
        let verify_user = verify_user || state.always_verify_user;
        if !verify_user || self.user_verified {
            return self.file.lock();
        }
        if state.pin.is_none() {
            return Err(AuthenticatorError::PinNotSet { authenticator: self.name() });
        }
        self.refuse_without_tries(&state)?;
        let request = PinRequest {
            authenticator: self.name(),
            tries_left: Some(state.pin_tries_left),
            wrong_before: self.wrong_pins_in_a_row > 0,
        };
        if state.pin_tries_left == 1 && !interaction.confirm_last_try(&self.description.name)? {
            return Err(InteractionError::Cancelled.into());
        }
        let pin = normalize_pin(&interaction.ask_pin(&request)?)?;
        let mut locked = self.file.lock()?;
        self.check_pin(&mut locked, &pin)?;
        Ok(locked)
    }

    fn refuse_without_tries(&self, state: &SoftwareState) -> Result<(), AuthenticatorError> {
        if state.pin_tries_left == 0 {
            return Err(AuthenticatorError::PinBlocked { authenticator: self.name() });
        }
        if self.wrong_pins_in_a_row >= WRONG_PINS_IN_A_ROW_MAX {
            let (authenticator, tries_left) = (self.name(), state.pin_tries_left);
            return Err(AuthenticatorError::PinPaused { authenticator, tries_left });
        }
        Ok(())
    }

    fn check_pin(&mut self, locked: &mut LockedState, pin: &str) -> Result<(), AuthenticatorError> {
        self.refuse_without_tries(&locked.state)?;
        // Before the comparison: whoever cuts the power in between has used up the try.
        locked.state.pin_tries_left -= 1;
        locked.save()?;
        let authenticator = self.name();
        let Some(stored) = &locked.state.pin else { return Err(AuthenticatorError::PinNotSet { authenticator }) };
        if bool::from(hash_pin(&stored.salt, pin).ct_eq(&stored.hash.0)) {
            locked.state.pin_tries_left = PIN_TRIES;
            locked.save()?;
            self.wrong_pins_in_a_row = 0;
            self.user_verified = true;
            return Ok(());
        }
        self.wrong_pins_in_a_row += 1;
        self.refuse_without_tries(&locked.state)?;
        Err(AuthenticatorError::PinWrong { authenticator, tries_left: locked.state.pin_tries_left })
    }

    /// Announces a touch, and plays what the file says the user does. A file that plays no user is not to be touched: that it
    /// is used is said instead.
    fn await_touch(&self, state: &SoftwareState, interaction: &dyn Interaction) -> Result<(), AuthenticatorError> {
        let delay = Duration::from_millis(state.touch_delay_ms);
        match state.touch {
            Touch::Approve if delay.is_zero() => interaction.announce_played_touch(&self.description.name),
            _ => interaction.announce_touch(&self.description.name),
        }
        if state.touch != Touch::Timeout {
            std::thread::sleep(delay.min(TOUCH_TIME_LIMIT));
        }
        interaction.touch_done();
        let authenticator = self.name();
        match state.touch {
            Touch::Approve if delay <= TOUCH_TIME_LIMIT => Ok(()),
            Touch::Deny => Err(AuthenticatorError::TouchDenied { authenticator }),
            Touch::Approve | Touch::Timeout => Err(AuthenticatorError::TouchTimedOut { authenticator }),
        }
    }

    fn flags(&self) -> u8 {
        FLAG_USER_PRESENT | if self.user_verified { FLAG_USER_VERIFIED } else { 0 }
    }

    /// Where the credential to answer with is in the list of those stored.
    fn find(&self, state: &SoftwareState, request: &GetAssertion) -> Option<usize> {
        state.credentials.iter().position(|credential| {
            credential.relying_party == request.relying_party
                && request.allow.contains(&credential.id)
                && (credential.protection < PROTECTED || self.user_verified)
        })
    }

    /// A credential with secrets of its own, and its key.
    fn draw_credential(&self, request: &MakeCredential) -> (StoredCredential, SigningKey) {
        // Almost every 32 bytes are a P-256 key; the few that are not are drawn again.
        let (private_key, signing_key) = loop {
            let candidate = self.draw_secret();
            if let Ok(signing_key) = SigningKey::from_slice(candidate.expose()) {
                break (candidate, signing_key);
            }
        };
        let credential = StoredCredential {
            id: (*self.randomness).array::<32>().to_vec(),
            relying_party: request.relying_party.clone(),
            user_id: request.user_id.clone(),
            user_name: request.user_name.clone(),
            discoverable: request.discoverable,
            protection: if request.verify_user { PROTECTED } else { UNPROTECTED },
            sign_counter: 0,
            private_key: SecretText(private_key),
            random_with_verification: SecretText(self.draw_secret()),
            random_without_verification: SecretText(self.draw_secret()),
        };
        (credential, signing_key)
    }

    fn draw_secret(&self) -> Secret<32> {
        Secret::filled(|place| self.randomness.fill(place))
    }

    /// The extensions of an assertion: a CBOR map of `hmac-secret` to 16 bytes of nonce and 32 of ciphertext.
    fn encrypted_output(&self, hmac_secret: &Secret<32>) -> Vec<u8> {
        let nonce: [u8; 16] = self.randomness.array();
        let mut pad = hmac_sha256(self.transport_key.expose(), &nonce);
        let ciphertext: Vec<u8> = pad.iter().zip(hmac_secret.expose()).map(|(pad, byte)| pad ^ byte).collect();
        pad.zeroize();
        [&b"\xa1\x6bhmac-secret\x58\x30"[..], &nonce, &ciphertext].concat()
    }
}

impl Authenticator for SoftwareAuthenticator {
    fn describe(&self) -> AuthenticatorDescription {
        self.description.clone()
    }

    fn make_credential(
        &mut self,
        request: &MakeCredential,
        interaction: &dyn Interaction,
    ) -> Result<Credential, AuthenticatorError> {
        let mut locked = self.begin(request.verify_user, interaction)?;
        self.await_touch(&locked.state, interaction)?;
        let excluded = |stored: &StoredCredential| {
            stored.relying_party == request.relying_party && request.exclude.contains(&stored.id)
        };
        if locked.state.credentials.iter().any(excluded) {
            return Err(AuthenticatorError::AlreadyEnrolled { authenticator: self.name() });
        }
        let (stored, signing_key) = self.draw_credential(request);
        let credential_id = stored.id.clone();
        let protected = stored.protection == PROTECTED;
        locked.state.credentials.push(stored);
        locked.save()?;

        let point = signing_key.verifying_key().to_sec1_point(false);
        let public_key = point.as_bytes()[1..].try_into().expect("an uncompressed point has 65 bytes");
        let flags = self.flags() | FLAG_ATTESTED_CREDENTIAL | FLAG_EXTENSIONS;
        let mut data = authenticator_data(&request.relying_party, flags, 0);
        data.extend_from_slice(&AAGUID);
        data.extend_from_slice(&(credential_id.len() as u16).to_be_bytes());
        data.extend_from_slice(&credential_id);
        data.extend_from_slice(&encode_cose_key(&public_key));
        data.extend_from_slice(if protected {
            b"\xa2\x6bcredProtect\x03\x6bhmac-secret\xf5"
        } else {
            b"\xa1\x6bhmac-secret\xf5"
        });
        Ok(Credential { credential_id, authenticator_data: data })
    }

    fn find_credential(
        &mut self,
        request: &GetAssertion,
        interaction: &dyn Interaction,
    ) -> Result<Option<Vec<u8>>, AuthenticatorError> {
        let locked = self.begin(request.verify_user, interaction)?;
        Ok(self.find(&locked.state, request).map(|index| locked.state.credentials[index].id.clone()))
    }

    fn get_assertion(
        &mut self,
        request: &GetAssertion,
        interaction: &dyn Interaction,
    ) -> Result<Assertion, AuthenticatorError> {
        let mut locked = self.begin(request.verify_user, interaction)?;
        let Some(index) = self.find(&locked.state, request) else {
            return Err(AuthenticatorError::NoCredentials { authenticator: self.name() });
        };
        self.await_touch(&locked.state, interaction)?;
        let credential = &mut locked.state.credentials[index];
        credential.sign_counter = credential.sign_counter.saturating_add(1);
        locked.save()?;

        let credential = &locked.state.credentials[index];
        let random = match self.user_verified {
            true => &credential.random_with_verification,
            false => &credential.random_without_verification,
        };
        let hmac_secret = Secret::new(hmac_sha256(random.0.expose(), &request.hmac_salt));
        let flags = self.flags() | FLAG_EXTENSIONS;
        let mut data = authenticator_data(&request.relying_party, flags, credential.sign_counter);
        data.extend_from_slice(&self.encrypted_output(&hmac_secret));
        let signing_key = SigningKey::from_slice(credential.private_key.0.expose()).map_err(|_| {
            let reason = "a private_key is not a P-256 key".to_owned();
            AuthenticatorError::FileDamaged { path: self.file.path().to_owned(), reason }
        })?;
        let signature: Signature = signing_key.sign(&[&data[..], &request.client_data_hash].concat());
        Ok(Assertion {
            credential_id: credential.id.clone(),
            authenticator_data: data,
            signature: signature.to_der().as_bytes().to_vec(),
            hmac_secret,
        })
    }
}

/// The part of authenticator data that is always there.
fn authenticator_data(relying_party: &str, flags: u8, sign_counter: u32) -> Vec<u8> {
    [&hash_relying_party(relying_party)[..], &[flags], &sign_counter.to_be_bytes()].concat()
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

/// The form in which a PIN is stored. It keeps the PIN from being read over a shoulder; the file's other secrets, in the
/// clear, are worth more than the PIN.
fn hash_pin(salt: &[u8; 16], pin: &str) -> Secret<32> {
    let mut inner: [u8; 32] = Sha256::digest(pin.as_bytes()).into();
    let hash = Secret::new(hmac_sha256(salt, &inner));
    inner.zeroize();
    hash
}
