//! One security key, through the crate `ctap-hid-fido2`: the only file that names it. Runs in the helper process alone.
//!
//! The crate does what it does well: authenticatorGetInfo, the PIN protocols (one, and two where the key has it), the
//! encryption of `hmac-secret`, and CBOR. It is called for short exchanges only, opened by path for each and closed after
//! it, for its own transport has no time limits, mixes up programs that talk to one key, and loses the answer of a key
//! whose keepalives come faster than it reads them. So commands that wait for a person go out over `ctaphid.rs`; what is
//! to be sent, and how to read what comes back, is a [`Command`] made here.
//!
//! Guarded: a call that hangs ends the process by `SIGALRM`; one that panics on a device's answer is a failure; printing
//! and debugging are off; credentials are always named by id; `uv` is always said; a PIN is normalised and has its length before it comes
//! here (longer ones make the crate panic). What the crate leaves in memory is gone with the process.
//!
//! The version is pinned: `HmacExt` is reached without its name, through the signature of the function that takes it.

use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use ctap_hid_fido2::fidokey::credential_management::credential_management_params::CredentialProtectionPolicy;
use ctap_hid_fido2::fidokey::get_assertion::{get_assertion_command, get_assertion_params, get_assertion_response};
use ctap_hid_fido2::fidokey::make_credential::{
    make_credential_command, make_credential_params, make_credential_response,
};
use ctap_hid_fido2::fidokey::pin;
use ctap_hid_fido2::{Cfg, FidoKeyHid, FidoKeyHidFactory, HidParam};
use nix::unistd::alarm;
use zeroize::{Zeroize, Zeroizing};

use super::hidraw::failure_of_open;
use super::protocol::{DeviceInfo, Failure, Make, Nonsense, Query, Verification};
use super::status;
use crate::crypto::Secret;

/// How long a call into the crate may take: after that the process ends. A multiple of what keys need for a PIN.
const CALL_LIMIT_SECONDS: u32 = 5;
/// Another program's exchange is over after this.
const PAUSE_BEFORE_RETRY: Duration = Duration::from_millis(300);

/// CTAPHID's ERR_CHANNEL_BUSY and ERR_INVALID_CHANNEL, which the crate takes for statuses.
const CHANNEL_ERRORS: [u8; 2] = [0x06, 0x0b];

/// Reads an answer, without its status byte.
type ReadAnswer<T> = dyn FnOnce(&[u8]) -> Result<T, Failure>;

/// A message for the device, and how to read the answer to it.
pub struct Command<T> {
    /// The message.
    pub request: Vec<u8>,
    /// Reads the answer.
    pub read: Box<ReadAnswer<T>>,
}

/// An answer to authenticatorMakeCredential.
pub struct MadeCredential {
    pub credential_id: Vec<u8>,
    pub authenticator_data: Vec<u8>,
}

/// An answer to authenticatorGetAssertion.
pub struct SignedAssertion {
    pub credential_id: Vec<u8>,
    pub authenticator_data: Vec<u8>,
    pub signature: Vec<u8>,
    pub secret: Option<Secret<32>>,
}

/// A security key.
pub struct Device {
    path: String,
    /// The PIN protocol that it is spoken to in.
    protocol: u8,
    /// It knows authenticatorSelection.
    knows_selection: bool,
    pin: Option<Zeroizing<String>>,
}

impl Device {
    /// Asks the device at `path` what it is.
    pub fn open(path: String) -> Result<(Self, DeviceInfo), Failure> {
        let mut device = Self { path, protocol: 1, knows_selection: false, pin: None };
        let answer = device.with_key(FidoKeyHid::get_info);
        let info = match answer {
            Ok(info) => info,
            // A key of the time before FIDO2. It knows none of what is needed, and that is all there is to say of it.
            Err(Failure::Status(status::INVALID_COMMAND)) => return Ok((device, DeviceInfo::default())),
            Err(failure) => return Err(failure),
        };
        // Every authenticator names a version (CTAP 2.1, section 6.4); the crate takes an empty answer for one that knows
        // nothing.
        if info.versions.is_empty() {
            return Err(NOT_UNDERSTOOD);
        }
        if info.pin_uv_auth_protocols.contains(&2) {
            device.protocol = 2;
        }
        device.knows_selection = info.versions.iter().any(|version| version == "FIDO_2_1");
        let option = |name: &str| info.options.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
        let extension = |name: &str| info.extensions.iter().any(|known| known == name);
        let description = DeviceInfo {
            hmac_secret: extension("hmac-secret"),
            credential_protection: extension("credProtect"),
            takes_pin: option("clientPin").is_some(),
            pin_set: option("clientPin") == Some(true),
            pin_change_wanted: info.force_pin_change,
            takes_finger: option("uv").is_some(),
            finger_set: option("uv") == Some(true),
            always_verifies: option("alwaysUv") == Some(true),
            credentials_in_list_max: info.max_credential_count_in_list,
            message_bytes_max: u32::try_from(info.max_msg_size).unwrap_or_default(),
        };
        Ok((device, description))
    }

    /// Where it is.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it has a command for a touch that means nothing else.
    pub fn knows_selection(&self) -> bool {
        self.knows_selection
    }

    /// How many PIN tries are left (authenticatorClientPIN, getPINRetries).
    pub fn pin_tries(&self) -> Result<Command<u32>, Failure> {
        let request = decoded(|| pin::create_payload(pin::SubCommand::GetRetries, self.protocol))?;
        let read = |answer: &[u8]| {
            let tries = decoded(|| pin::parse_cbor_client_pin_get_retries(answer))?.retries;
            u32::try_from(tries).map_err(|_| NOT_UNDERSTOOD)
        };
        Ok(Command { request, read: Box::new(read) })
    }

    /// Checks the PIN, which uses up a try if it is wrong, and keeps it if it is right. Never tries twice: it cannot
    /// know whether a lost answer has cost a try.
    pub fn verify_pin(&mut self, pin: Zeroizing<String>) -> Result<(), Failure> {
        let mut token = self.with_key_once(|key| key.get_pin_token(&pin))?;
        token.key.zeroize();
        self.pin = Some(pin);
        Ok(())
    }

    /// authenticatorMakeCredential, for an ES256 key with `hmac-secret`.
    pub fn make(&self, make: Make, verification: Verification) -> Result<Command<MadeCredential>, Failure> {
        use make_credential_params::Extension;
        let mut params = make_credential_command::Params::new(&make.relying_party, Vec::new(), make.user_id);
        params.client_data_hash = make.client_data_hash.to_vec();
        params.user_name = make.user_name.clone();
        params.user_display_name = make.user_name;
        params.option_rk = make.discoverable;
        params.option_uv = built_in(verification);
        params.pin_auth = self.pin_auth(verification, &make.client_data_hash)?;
        // In the order of canonical CBOR.
        let mut extensions = Vec::new();
        if make.protect {
            extensions.push(Extension::CredProtect(Some(CredentialProtectionPolicy::UserVerificationRequired)));
        }
        extensions.push(Extension::HmacSecret(Some(true)));
        let request = decoded(|| make_credential_command::create_payload(params, Some(&extensions), self.protocol))?;
        let read = |answer: &[u8]| {
            let made = decoded(|| make_credential_response::parse_cbor(answer))?;
            Ok(MadeCredential { credential_id: made.credential_descriptor.id, authenticator_data: made.auth_data })
        };
        Ok(Command { request, read: Box::new(read) })
    }

    /// authenticatorGetAssertion without user presence: which credential of the list it holds.
    pub fn find(&self, query: Query, verification: Verification) -> Result<Command<SignedAssertion>, Failure> {
        let only = only_one(&query);
        let mut params = self.assertion_params(query, verification)?;
        params.option_up = false;
        let request = decoded(|| get_assertion_command::create_payload(params, None, None, self.protocol))?;
        let read = |answer: &[u8]| decoded(|| get_assertion_response::parse_cbor(answer, None)).map(signed(only));
        Ok(Command { request, read: Box::new(read) })
    }

    /// authenticatorGetAssertion with `hmac-secret`.
    pub fn assert(
        &self,
        query: Query,
        salt: &[u8; 32],
        verification: Verification,
    ) -> Result<Command<SignedAssertion>, Failure> {
        let only = only_one(&query);
        let extension = self.with_key(|key| {
            let mut extension = default_of_last(get_assertion_command::create_payload);
            extension.create(key, salt, None).map(|()| extension)
        })?;
        let shared_secret = extension.shared_secret.clone();
        let mut params = self.assertion_params(query, verification)?;
        params.option_up = true;
        let request = decoded(|| get_assertion_command::create_payload(params, None, Some(extension), self.protocol))?;
        let read = |answer: &[u8]| {
            decoded(|| get_assertion_response::parse_cbor(answer, Some(shared_secret))).map(signed(only))
        };
        Ok(Command { request, read: Box::new(read) })
    }

    fn assertion_params(
        &self,
        query: Query,
        verification: Verification,
    ) -> Result<get_assertion_command::Params, Failure> {
        let mut params = get_assertion_command::Params::new(&query.relying_party, Vec::new(), query.allow);
        params.client_data_hash = query.client_data_hash.to_vec();
        params.option_uv = built_in(verification);
        params.pin_auth = self.pin_auth(verification, &query.client_data_hash)?;
        Ok(params)
    }

    /// Proof of the PIN for one command; empty without one.
    fn pin_auth(&self, verification: Verification, client_data_hash: &[u8; 32]) -> Result<Vec<u8>, Failure> {
        match (verification, &self.pin) {
            (Verification::Pin, Some(pin)) => self.with_key(|key| key.create_pin_auth(pin, client_data_hash)),
            (Verification::Pin, None) => Err(Failure::Status(status::PIN_INVALID)),
            (Verification::None | Verification::BuiltIn, _) => Ok(Vec::new()),
        }
    }

    /// Lets the crate talk to the key, and once more when another program talked at the same time: the crate cannot
    /// tell whose answer it got, so anything may look like the fault of the key.
    fn with_key<T, E: Display>(&self, exchange: impl Fn(&FidoKeyHid) -> Result<T, E>) -> Result<T, Failure> {
        match self.with_key_once(&exchange) {
            Err(first @ (Failure::Busy | Failure::Nonsense(_))) => {
                std::thread::sleep(PAUSE_BEFORE_RETRY);
                // What is left of a nonsensical answer looks like another program's.
                self.with_key_once(&exchange).map_err(|second| if second == Failure::Busy { first } else { second })
            }
            result => result,
        }
    }

    fn with_key_once<T, E: Display>(&self, exchange: impl Fn(&FidoKeyHid) -> Result<T, E>) -> Result<T, Failure> {
        // The crate would say no more than that it failed.
        std::fs::File::options().read(true).write(true).open(&self.path).map_err(|error| failure_of_open(&error))?;
        guarded(|| {
            let mut settings = Cfg::init();
            settings.enable_log = false;
            settings.enable_keep_alive_msg = false;
            let key = FidoKeyHidFactory::create_by_params(&[HidParam::Path(self.path.clone())], &settings)
                .map_err(|error| self.failure_of(&error))?
                .with_pin_protocol_version(self.protocol);
            exchange(&key).map_err(|error| self.failure_of(&error))
        })?
    }

    /// The meaning of an error of the crate, which are all text.
    fn failure_of(&self, error: &impl Display) -> Failure {
        let text = error.to_string();
        if let Some(status) = text.strip_prefix("response_status err = 0x") {
            let digits = status.chars().take_while(char::is_ascii_hexdigit).take(2).collect::<String>();
            return match u8::from_str_radix(&digits, 16) {
                Ok(status) if CHANNEL_ERRORS.contains(&status) => Failure::Busy,
                Ok(status) => Failure::Status(status),
                Err(_) => NOT_UNDERSTOOD,
            };
        }
        match text.as_str() {
            "Nonce verification failed" => Failure::Busy,
            _ if !std::path::Path::new(&self.path).exists() => Failure::Removed,
            _ if text.contains("read err") || text.contains("write err") => Failure::Removed,
            _ => NOT_UNDERSTOOD,
        }
    }
}

const NOT_UNDERSTOOD: Failure = Failure::Nonsense(Nonsense::NotUnderstood);

/// Ends the process if `call` hangs, and turns its panic into a failure.
fn guarded<T>(call: impl FnOnce() -> T) -> Result<T, Failure> {
    alarm::set(CALL_LIMIT_SECONDS);
    let result = catch_unwind(AssertUnwindSafe(call));
    alarm::cancel();
    result.map_err(|_| NOT_UNDERSTOOD)
}

/// What the crate makes of bytes; its reasons for making nothing of them help nobody.
fn decoded<T, E>(call: impl FnOnce() -> Result<T, E>) -> Result<T, Failure> {
    guarded(call)?.map_err(|_| NOT_UNDERSTOOD)
}

/// A value of a type that the crate does not name, but takes.
fn default_of_last<A, B, T: Default, C, R>(_: fn(A, B, Option<T>, C) -> R) -> T {
    T::default()
}

fn built_in(verification: Verification) -> Option<bool> {
    (verification == Verification::BuiltIn).then_some(true)
}

/// The credential of a list of one. A device may leave its id out of the answer.
fn only_one(query: &Query) -> Vec<u8> {
    match query.allow.as_slice() {
        [only] => only.clone(),
        _ => Vec::new(),
    }
}

fn signed(only: Vec<u8>) -> impl FnOnce(get_assertion_params::Assertion) -> SignedAssertion {
    use get_assertion_params::Extension;
    |mut answer| {
        let mut secret = None;
        for extension in &mut answer.extensions {
            if let Extension::HmacSecret(Some(output)) = extension {
                secret = Some(Secret::filled(|place| place.copy_from_slice(output)));
                output.zeroize();
            }
        }
        SignedAssertion {
            credential_id: if answer.credential_id.is_empty() { only } else { answer.credential_id },
            authenticator_data: answer.auth_data,
            signature: answer.signature,
            secret,
        }
    }
}
