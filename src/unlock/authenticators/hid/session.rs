//! A security key as an [`Authenticator`]: asks the user for PIN and touch, and says what went wrong in words.
//!
//! Relies on a helper process for everything that touches the device. Promises what the trait does, and besides:
//! - a step that passes its limit, a helper that breaks off or says nonsense, ends the helper and is an error;
//! - a touch is asked for only when the key holds the credential: who holds none of a list says so without blinking;
//! - while it lives no other process of ours uses the device.
//!
//! Where the key verifies its user by itself (a finger) and is set up to, it is asked to; when it does not recognise the
//! finger any more the PIN is asked for.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::attached::AttachedKey;
use super::child::{HelperChild, HelperError, HelperProgram};
use super::explain::{explain, explain_helper};
use super::limits::{SILENCE_LIMIT, TOUCH_LIMIT};
use super::lock::{DeviceLock, lock_device};
use super::protocol::{DeviceInfo, Failure, HelperPin, Make, Query, Reply, Request, Verification};
use super::status;
use crate::unlock::authenticators::authenticator::{
    Assertion, Authenticator, AuthenticatorDescription, AuthenticatorError, Credential, GetAssertion, MakeCredential,
    UserVerification,
};
use crate::unlock::authenticators::pin::normalize_pin;
use crate::unlock::prompts::interaction::{Interaction, InteractionError, PinRequest};

/// More than any command announces.
const EVENTS_MAX: usize = 16;
/// What a message needs besides its list of credentials, and for each of them besides its id.
const MESSAGE_BYTES_BESIDES: usize = 320;
const ENTRY_BYTES_BESIDES: usize = 24;
/// What a device takes that does not say how much (CTAP 2.1, section 6.4, maxMsgSize).
const MESSAGE_BYTES_DEFAULT: u32 = 1024;

/// How long the parts of a session may take.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// How long the helper may take for a request, apart from waiting for a touch. The helper itself gives each exchange
    /// with the device five seconds; a request is a few of them.
    pub answer: Duration,
    /// How long a touch is waited for.
    pub touch: Duration,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self { answer: 4 * SILENCE_LIMIT, touch: TOUCH_LIMIT }
    }
}

type CredentialId = Vec<u8>;

/// A session with a security key.
pub struct HidAuthenticator {
    name: String,
    path: PathBuf,
    /// Gone once it broke off: the session is over then.
    child: Option<HelperChild>,
    limits: SessionLimits,
    info: DeviceInfo,
    pin_verified: bool,
    wrong_pins_in_a_row: u32,
    finger_refused: bool,
    _lock: Option<DeviceLock>,
}

/// Why a request brought no answer.
enum Unanswered {
    /// The helper says that it failed.
    Failed(Failure),
    /// There is no helper any more.
    Over(AuthenticatorError),
}

impl HidAuthenticator {
    /// Opens the key, waiting a moment for another process of ours that uses it.
    pub fn open(key: &AttachedKey) -> Result<Self, AuthenticatorError> {
        let lock = lock_device(key)?;
        let mut session = Self::connect(key, &HelperProgram::this_program(), SessionLimits::default())?;
        session._lock = Some(lock);
        Ok(session)
    }

    /// The same without the lock, with a helper and limits of the caller's choice.
    pub fn connect(
        key: &AttachedKey,
        helper: &HelperProgram,
        limits: SessionLimits,
    ) -> Result<Self, AuthenticatorError> {
        let child = HelperChild::start(helper).map_err(|source| AuthenticatorError::Helper { source })?;
        let mut session = Self {
            name: key.name(),
            path: key.path.clone(),
            child: Some(child),
            limits,
            info: DeviceInfo::default(),
            pin_verified: false,
            wrong_pins_in_a_row: 0,
            finger_refused: false,
            _lock: None,
        };
        let path = key.path.display().to_string();
        match session.request(&Request::Open { path }, limits.answer, None)? {
            Reply::Opened(info) => session.info = info,
            _ => return Err(session.not_an_answer()),
        }
        Ok(session)
    }

    /// Lets the key wait for a touch that means *this one*; [`selected`](Self::selected) tells when it came.
    pub fn begin_selection(&mut self) -> Result<(), AuthenticatorError> {
        let request = Request::Select { touch: self.limits.touch };
        let sent = self.child.as_mut().map_or(Err(HelperError::TimedOut), |child| child.send(&request));
        sent.map_err(|error| self.give_up(error))
    }

    /// Whether the key was touched by `deadline`.
    pub fn selected(&mut self, deadline: Instant) -> Result<bool, AuthenticatorError> {
        let reply = match &mut self.child {
            Some(child) => child.receive(deadline),
            None => Err(HelperError::Ended { device_was_silent: false }),
        };
        match reply {
            Ok(Reply::Done) => Ok(true),
            Ok(Reply::TouchWanted) | Err(HelperError::TimedOut) => Ok(false),
            Ok(Reply::Failed(failure)) => Err(self.explain(failure)),
            Ok(_) => Err(self.not_an_answer()),
            Err(error) => Err(self.give_up(error)),
        }
    }

    /// How long a touch is waited for, with what the helper may take besides.
    pub fn touch_limit(&self) -> Duration {
        self.limits.touch + self.limits.answer
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    /// Gives a request and waits for its answer. A touch is announced with a command that always takes one, and otherwise
    /// when the key waits for one.
    fn ask(
        &mut self,
        request: &Request,
        limit: Duration,
        interaction: Option<&dyn Interaction>,
    ) -> Result<Reply, Unanswered> {
        let (name, mut announced) = (&self.name, false);
        let mut announce = || {
            if !std::mem::replace(&mut announced, true) {
                interaction.inspect(|interaction| interaction.announce_touch(name));
            }
        };
        if matches!(request, Request::Make { .. } | Request::Assert { .. }) {
            announce();
        }
        let result = match &mut self.child {
            Some(child) => converse(child, request, Instant::now() + limit, announce),
            None => Err(HelperError::Ended { device_was_silent: false }),
        };
        if let (true, Some(interaction)) = (announced, interaction) {
            interaction.touch_done();
        }
        match result {
            Ok(Reply::Failed(failure)) => Err(Unanswered::Failed(failure)),
            Ok(reply) => Ok(reply),
            Err(error) => Err(Unanswered::Over(self.give_up(error))),
        }
    }

    /// The same, with the failure in words.
    fn request(
        &mut self,
        request: &Request,
        limit: Duration,
        interaction: Option<&dyn Interaction>,
    ) -> Result<Reply, AuthenticatorError> {
        self.ask(request, limit, interaction).map_err(|unanswered| self.in_words(unanswered))
    }

    fn in_words(&self, unanswered: Unanswered) -> AuthenticatorError {
        match unanswered {
            Unanswered::Failed(failure) => self.explain(failure),
            Unanswered::Over(error) => error,
        }
    }

    fn explain(&self, failure: Failure) -> AuthenticatorError {
        explain(self.name(), failure)
    }

    /// Ends the session: a helper that broke off is not asked again.
    fn give_up(&mut self, error: HelperError) -> AuthenticatorError {
        self.child = None;
        explain_helper(self.name(), error)
    }

    fn not_an_answer(&mut self) -> AuthenticatorError {
        self.give_up(HelperError::Violation)
    }

    /// How the user is verified for a command; asks for the PIN unless that was done in this session.
    fn begin(&mut self, verify_user: bool, interaction: &dyn Interaction) -> Result<Verification, AuthenticatorError> {
        let authenticator = self.name();
        if !verify_user && !self.info.always_verifies {
            return Ok(Verification::None);
        }
        if self.info.finger_set && !self.finger_refused {
            return Ok(Verification::BuiltIn);
        }
        if self.pin_verified {
            return Ok(Verification::Pin);
        }
        if !self.info.pin_set {
            return Err(AuthenticatorError::PinNotSet { authenticator });
        }
        if self.info.pin_change_wanted {
            return Err(AuthenticatorError::PinChangeWanted { authenticator });
        }
        let tries_left = self.pin_tries()?;
        if tries_left == 0 {
            return Err(AuthenticatorError::PinBlocked { authenticator });
        }
        if tries_left == 1 && !interaction.confirm_last_try(&authenticator)? {
            return Err(InteractionError::Cancelled.into());
        }
        let wrong_before = self.wrong_pins_in_a_row > 0;
        let pin = interaction.ask_pin(&PinRequest { authenticator, tries_left: Some(tries_left), wrong_before })?;
        self.verify_pin(normalize_pin(&pin)?)?;
        Ok(Verification::Pin)
    }

    fn pin_tries(&mut self) -> Result<u32, AuthenticatorError> {
        match self.request(&Request::PinTries, self.limits.answer, None)? {
            Reply::PinTries(tries) => Ok(tries),
            _ => Err(self.not_an_answer()),
        }
    }

    fn verify_pin(&mut self, pin: Zeroizing<String>) -> Result<(), AuthenticatorError> {
        let authenticator = self.name();
        match self.ask(&Request::VerifyPin { pin: HelperPin(pin) }, self.limits.answer, None) {
            Ok(Reply::Done) => {
                self.pin_verified = true;
                self.wrong_pins_in_a_row = 0;
                Ok(())
            }
            Ok(_) => Err(self.not_an_answer()),
            Err(Unanswered::Failed(Failure::Status(status::PIN_INVALID))) => {
                self.wrong_pins_in_a_row += 1;
                match self.pin_tries()? {
                    0 => Err(AuthenticatorError::PinBlocked { authenticator }),
                    tries_left => Err(AuthenticatorError::PinWrong { authenticator, tries_left }),
                }
            }
            Err(Unanswered::Failed(Failure::Status(status::PIN_AUTH_BLOCKED))) => match self.pin_tries()? {
                0 => Err(AuthenticatorError::PinBlocked { authenticator }),
                tries_left => Err(AuthenticatorError::PinPaused { authenticator, tries_left }),
            },
            Err(unanswered) => Err(self.in_words(unanswered)),
        }
    }

    /// Gives a command that verifies the user; with the PIN instead of a finger that is not recognised.
    fn verified(
        &mut self,
        verify_user: bool,
        interaction: &dyn Interaction,
        mut command: impl FnMut(&mut Self, Verification) -> Result<Reply, Unanswered>,
    ) -> Result<Reply, AuthenticatorError> {
        let verification = self.begin(verify_user, interaction)?;
        match command(self, verification) {
            Err(Unanswered::Failed(Failure::Status(status::UV_BLOCKED | status::UV_INVALID)))
                if verification == Verification::BuiltIn && self.info.pin_set =>
            {
                self.finger_refused = true;
                let verification = self.begin(verify_user, interaction)?;
                command(self, verification).map_err(|unanswered| self.in_words(unanswered))
            }
            result => result.map_err(|unanswered| self.in_words(unanswered)),
        }
    }

    /// Which credential of the list it holds, without a touch (but with a finger, where that verifies the user).
    fn find(
        &mut self,
        query: &Query,
        verification: Verification,
        interaction: &dyn Interaction,
    ) -> Result<Option<Vec<u8>>, Unanswered> {
        for part in self.parts_of(&query.allow) {
            let query = Query { allow: part, ..query.clone() };
            let request = Request::Find { query, verification, touch: self.limits.touch };
            let limit = match verification {
                Verification::BuiltIn => self.touch_limit(),
                Verification::None | Verification::Pin => self.limits.answer,
            };
            match self.ask(&request, limit, Some(interaction))? {
                Reply::Found(None) => {}
                Reply::Found(found) => return Ok(found),
                _ => return Err(Unanswered::Over(self.not_an_answer())),
            }
        }
        Ok(None)
    }

    /// Splits a list of credentials into lists that the device takes, by their number and by their bytes.
    fn parts_of(&self, ids: &[CredentialId]) -> Vec<Vec<CredentialId>> {
        let message_bytes = match self.info.message_bytes_max {
            0 => MESSAGE_BYTES_DEFAULT,
            bytes => bytes,
        };
        let bytes_max = (message_bytes as usize).saturating_sub(MESSAGE_BYTES_BESIDES);
        let count_max = self.credentials_in_list_max();
        let (mut parts, mut part, mut bytes) = (Vec::new(), Vec::<CredentialId>::new(), 0);
        for id in ids {
            let more_bytes = id.len() + ENTRY_BYTES_BESIDES;
            if !part.is_empty() && (part.len() == count_max || bytes + more_bytes > bytes_max) {
                parts.push(std::mem::take(&mut part));
                bytes = 0;
            }
            part.push(id.clone());
            bytes += more_bytes;
        }
        parts.push(part);
        parts
    }

    fn credentials_in_list_max(&self) -> usize {
        // A device that does not say how many it takes takes one for sure.
        self.info.credentials_in_list_max.max(1) as usize
    }
}

impl Authenticator for HidAuthenticator {
    fn describe(&self) -> AuthenticatorDescription {
        let info = &self.info;
        let user_verification = match (info.pin_set || info.finger_set, info.takes_pin || info.takes_finger) {
            (true, _) => UserVerification::Ready,
            (false, true) => UserVerification::NotSetUp,
            (false, false) => UserVerification::Unsupported,
        };
        AuthenticatorDescription {
            name: self.name(),
            hardware: true,
            device: Some(self.path.clone()),
            user_verification,
            hmac_secret: info.hmac_secret,
            credentials_in_list_max: self.credentials_in_list_max(),
        }
    }

    fn make_credential(
        &mut self,
        request: &MakeCredential,
        interaction: &dyn Interaction,
    ) -> Result<Credential, AuthenticatorError> {
        let make = Make {
            client_data_hash: request.client_data_hash,
            relying_party: request.relying_party.clone(),
            user_id: request.user_id.clone(),
            user_name: request.user_name.clone(),
            discoverable: request.discoverable,
            protect: request.verify_user && self.info.credential_protection,
        };
        let excluded = Query {
            client_data_hash: request.client_data_hash,
            relying_party: request.relying_party.clone(),
            allow: request.exclude.clone(),
        };
        let limit = self.touch_limit();
        let reply = self.verified(request.verify_user, interaction, |session, verification| {
            // Looked for beforehand: a list of any length will do, and nobody touches a key in vain.
            if !excluded.allow.is_empty() && session.find(&excluded, verification, interaction)?.is_some() {
                let authenticator = session.name();
                return Err(Unanswered::Over(AuthenticatorError::AlreadyEnrolled { authenticator }));
            }
            let request = Request::Make { make: make.clone(), verification, touch: session.limits.touch };
            session.ask(&request, limit, Some(interaction))
        })?;
        match reply {
            Reply::Credential { credential_id, authenticator_data } => {
                Ok(Credential { credential_id, authenticator_data })
            }
            _ => Err(self.not_an_answer()),
        }
    }

    fn find_credential(
        &mut self,
        request: &GetAssertion,
        interaction: &dyn Interaction,
    ) -> Result<Option<Vec<u8>>, AuthenticatorError> {
        let query = query_of(request);
        let reply = self.verified(request.verify_user, interaction, |session, verification| {
            session.find(&query, verification, interaction).map(Reply::Found)
        })?;
        match reply {
            Reply::Found(found) => Ok(found),
            _ => Err(self.not_an_answer()),
        }
    }

    fn get_assertion(
        &mut self,
        request: &GetAssertion,
        interaction: &dyn Interaction,
    ) -> Result<Assertion, AuthenticatorError> {
        let (query, limit) = (query_of(request), self.touch_limit());
        let reply = self.verified(request.verify_user, interaction, |session, verification| {
            let mut query = query.clone();
            // With a finger every look would ask for one.
            if verification != Verification::BuiltIn {
                match session.find(&query, verification, interaction) {
                    Ok(Some(found)) => query.allow = vec![found],
                    Ok(None) => return Err(Unanswered::Failed(Failure::Status(status::NO_CREDENTIALS))),
                    // It cannot be asked without a touch: then with one.
                    Err(Unanswered::Failed(Failure::Status(
                        status::UNSUPPORTED_OPTION | status::INVALID_OPTION | status::USER_PRESENCE_REQUIRED,
                    ))) => {}
                    Err(unanswered) => return Err(unanswered),
                }
            }
            let (salt, touch) = (request.hmac_salt, session.limits.touch);
            session.ask(&Request::Assert { query, salt, verification, touch }, limit, Some(interaction))
        })?;
        match reply {
            Reply::Assertion { credential_id, authenticator_data, signature, secret } => {
                Ok(Assertion { credential_id, authenticator_data, signature, hmac_secret: secret })
            }
            _ => Err(self.not_an_answer()),
        }
    }
}

fn query_of(request: &GetAssertion) -> Query {
    let (client_data_hash, relying_party) = (request.client_data_hash, request.relying_party.clone());
    Query { client_data_hash, relying_party, allow: request.allow.clone() }
}

/// Sends a request and receives until its answer comes; calls `announce` for each word of a touch.
fn converse(
    child: &mut HelperChild,
    request: &Request,
    deadline: Instant,
    mut announce: impl FnMut(),
) -> Result<Reply, HelperError> {
    child.send(request)?;
    for _ in 0..EVENTS_MAX {
        match child.receive(deadline)? {
            Reply::TouchWanted => announce(),
            reply => return Ok(reply),
        }
    }
    Err(HelperError::Violation)
}
