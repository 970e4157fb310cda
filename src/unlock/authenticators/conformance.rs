//! What every [`Authenticator`] must do, as claims that are tried on one: a suite for those of this crate, and for the key
//! on the user's desk (`passkeyfs debug conformance`).
//!
//! It makes credentials that are not discoverable, so nothing stays on a key. It gives a wrong PIN once, and the right one
//! after it, which gives the key its tries back; with fewer than four tries left it does not. The PIN is asked for once:
//! the suite keeps it, for it opens several sessions.

use std::fmt::Display;

use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::assertion::{AuthenticatorData, fresh_client_data_hash, signature_holds};
use super::authenticator::{
    Assertion, Authenticator, AuthenticatorError, Credential, GetAssertion, MakeCredential, UserVerification,
};
use crate::crypto::Randomness;
use crate::unlock::prompts::interaction::{Interaction, InteractionError, PinRequest};

/// A relying party of its own: what the suite makes has nothing to do with any vault.
const RELYING_PARTY: &str = "passkeyfs-conformance";
/// With fewer PIN tries left none is given away.
const TRIES_TO_SPARE: u32 = 4;

/// How a claim came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Held,
    /// It does not, for this reason.
    Failed(String),
    /// It could not be tried, for this reason.
    PassedOver(String),
}

/// A claim and how it came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimReport {
    /// The claim.
    pub claim: &'static str,
    /// How it came out.
    pub outcome: Outcome,
}

/// Opens the authenticator to be tried, as a session of its own.
type Open<'a> = dyn FnMut(&dyn Interaction) -> Opened<Miss> + 'a;
/// A session, or why there is none.
type Opened<E> = Result<Box<dyn Authenticator>, E>;

/// Tries all claims on the authenticator that `open` opens, a session each time.
pub fn try_all<E: Display>(
    open: &mut dyn FnMut(&dyn Interaction) -> Opened<E>,
    interaction: &dyn Interaction,
    randomness: &dyn Randomness,
) -> Vec<ClaimReport> {
    let mut open = |user: &dyn Interaction| open(user).map_err(|error| Miss::Failed(error.to_string()));
    let watched = Watched { inner: interaction, seen: Mutex::default() };
    let mut suite = Suite { open: &mut open, user: &watched, randomness, verify_user: false, made: None, secret: None };
    CLAIMS
        .iter()
        .map(|(claim, attempt)| {
            let outcome = match attempt(&mut suite) {
                Ok(()) => Outcome::Held,
                Err(Miss::Failed(reason)) => Outcome::Failed(reason),
                Err(Miss::PassedOver(reason)) => Outcome::PassedOver(reason),
            };
            ClaimReport { claim, outcome }
        })
        .collect()
}

type Attempt = fn(&mut Suite<'_>) -> Result<(), Miss>;

const CLAIMS: &[(&str, Attempt)] = &[
    ("it knows hmac-secret, and takes at least one credential in a list", describes_itself),
    ("a new credential attests its key, for its relying party, after one touch", makes_a_credential),
    ("an assertion is signed by that key, after one touch", signs),
    ("the same salt gives the same secret in another session", is_steady),
    ("another salt gives another secret", depends_on_the_salt),
    ("another credential gives another secret", depends_on_the_credential),
    ("a credential is found among strangers, without a touch", finds_its_own),
    ("who holds none of a list says so, without a touch", says_when_it_holds_none),
    ("a credential is not found for another relying party", keeps_relying_parties_apart),
    ("a credential on the exclude list is recognised", recognises_what_is_excluded),
    ("a protected credential hides from users who are not verified", hides_what_is_protected),
    ("the PIN is asked for once in a session, however many commands follow", asks_for_the_pin_once),
    ("a PIN that is too short costs no try", refuses_short_pins),
    ("a wrong PIN uses up one try and says how many are left; the right one serves again", counts_wrong_pins),
];

/// Why a claim did not hold.
enum Miss {
    Failed(String),
    PassedOver(String),
}

impl From<AuthenticatorError> for Miss {
    fn from(error: AuthenticatorError) -> Self {
        Self::Failed(error.to_string())
    }
}

fn claim(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Miss> {
    if holds { Ok(()) } else { Err(Miss::Failed(otherwise())) }
}

fn pass_over<T>(reason: &str) -> Result<T, Miss> {
    Err(Miss::PassedOver(reason.to_owned()))
}

/// What the claims share.
struct Suite<'a> {
    open: &'a mut Open<'a>,
    user: &'a Watched<'a>,
    randomness: &'a dyn Randomness,
    verify_user: bool,
    made: Option<Made>,
    /// What the first credential's secret for the first salt is.
    secret: Option<[u8; 32]>,
}

#[derive(Clone)]
struct Made {
    credential_id: Vec<u8>,
    public_key: [u8; 64],
}

impl Suite<'_> {
    fn session(&mut self) -> Result<Box<dyn Authenticator>, Miss> {
        let session = (self.open)(self.user)?;
        self.user.forget_counts();
        Ok(session)
    }

    fn make_request(&self) -> MakeCredential {
        MakeCredential {
            client_data_hash: fresh_client_data_hash(self.randomness),
            relying_party: RELYING_PARTY.to_owned(),
            user_id: self.randomness.array::<32>().to_vec(),
            user_name: "passkeyfs".to_owned(),
            discoverable: false,
            verify_user: self.verify_user,
            exclude: Vec::new(),
        }
    }

    fn request(&self, allow: Vec<Vec<u8>>) -> GetAssertion {
        GetAssertion {
            client_data_hash: fresh_client_data_hash(self.randomness),
            relying_party: RELYING_PARTY.to_owned(),
            allow,
            hmac_salt: [1; 32],
            verify_user: self.verify_user,
        }
    }

    /// The credential that the suite made.
    fn made(&self) -> Result<Made, Miss> {
        self.made.clone().map_or_else(|| pass_over("no credential could be made"), Ok)
    }

    /// A credential id that nobody made, of a usual length.
    fn stranger(&self) -> Vec<u8> {
        self.randomness.array::<64>().to_vec()
    }

    fn assert_once(&mut self, change: impl FnOnce(&mut GetAssertion)) -> Result<Assertion, Miss> {
        let made = self.made()?;
        let mut request = self.request(vec![made.credential_id]);
        change(&mut request);
        Ok(self.session()?.get_assertion(&request, self.user)?)
    }

    /// Passes a claim over where no PIN is asked for.
    fn needs_a_pin(&self) -> Result<(), Miss> {
        match (self.verify_user, self.user.knows_the_pin()) {
            (true, true) => Ok(()),
            (true, false) => pass_over("it verifies its user by itself"),
            (false, _) => pass_over("it has no PIN"),
        }
    }
}

fn describes_itself(suite: &mut Suite<'_>) -> Result<(), Miss> {
    let description = suite.session()?.describe();
    suite.verify_user = description.user_verification == UserVerification::Ready;
    claim(description.hmac_secret, || "it does not know hmac-secret".to_owned())?;
    claim(description.credentials_in_list_max >= 1, || "it takes no credential".to_owned())
}

fn check_made(suite: &Suite<'_>, credential: &Credential) -> Result<Made, Miss> {
    let failed = |what: &str| Miss::Failed(what.to_owned());
    let data = AuthenticatorData::decode(&credential.authenticator_data).map_err(failed)?;
    data.check(RELYING_PARTY).map_err(failed)?;
    claim(!suite.verify_user || data.user_verified(), || "the user was not verified".to_owned())?;
    let attested = data.attested.ok_or_else(|| failed("it attests no credential"))?;
    claim(attested.credential_id == credential.credential_id, || "it attests another credential".to_owned())?;
    Ok(Made { credential_id: attested.credential_id, public_key: attested.public_key })
}

fn makes_a_credential(suite: &mut Suite<'_>) -> Result<(), Miss> {
    let mut session = suite.session()?;
    let credential = session.make_credential(&suite.make_request(), suite.user)?;
    suite.made = Some(check_made(suite, &credential)?);
    suite.user.touches_are(1)
}

fn signs(suite: &mut Suite<'_>) -> Result<(), Miss> {
    let made = suite.made()?;
    let request = suite.request(vec![made.credential_id.clone()]);
    let answer = suite.session()?.get_assertion(&request, suite.user)?;
    let raw = &answer.authenticator_data;
    let data = AuthenticatorData::decode(raw).map_err(|what| Miss::Failed(what.to_owned()))?;
    data.check(RELYING_PARTY).map_err(|what| Miss::Failed(what.to_owned()))?;
    claim(data.user_verified() || !suite.verify_user, || "the user was not verified".to_owned())?;
    claim(answer.credential_id == made.credential_id, || "another credential answered".to_owned())?;
    claim(signature_holds(&made.public_key, raw, &request.client_data_hash, &answer.signature), || {
        "its signature does not hold".to_owned()
    })?;
    suite.secret = Some(*answer.hmac_secret.expose());
    suite.user.touches_are(1)
}

fn is_steady(suite: &mut Suite<'_>) -> Result<(), Miss> {
    let secret = suite.assert_once(|_| {})?.hmac_secret;
    claim(Some(*secret.expose()) == suite.secret, || "it is another one".to_owned())
}

fn depends_on_the_salt(suite: &mut Suite<'_>) -> Result<(), Miss> {
    let secret = suite.assert_once(|request| request.hmac_salt = [2; 32])?.hmac_secret;
    claim(Some(*secret.expose()) != suite.secret, || "it is the same".to_owned())
}

fn depends_on_the_credential(suite: &mut Suite<'_>) -> Result<(), Miss> {
    let mut session = suite.session()?;
    let credential = session.make_credential(&suite.make_request(), suite.user)?;
    let other = check_made(suite, &credential)?;
    let secret = session.get_assertion(&suite.request(vec![other.credential_id]), suite.user)?.hmac_secret;
    claim(Some(*secret.expose()) != suite.secret, || "it is the same".to_owned())
}

fn finds_its_own(suite: &mut Suite<'_>) -> Result<(), Miss> {
    let made = suite.made()?;
    let mut session = suite.session()?;
    let mut allow = vec![made.credential_id.clone()];
    if session.describe().credentials_in_list_max > 1 {
        allow.insert(0, suite.stranger());
    }
    let found = session.find_credential(&suite.request(allow), suite.user)?;
    claim(found == Some(made.credential_id), || {
        format!("it found {}", if found.is_some() { "another" } else { "none" })
    })?;
    suite.user.touches_are(0)
}

fn says_when_it_holds_none(suite: &mut Suite<'_>) -> Result<(), Miss> {
    let request = suite.request(vec![suite.stranger()]);
    let mut session = suite.session()?;
    let found = session.find_credential(&request, suite.user)?;
    claim(found.is_none(), || "it found a credential that nobody made".to_owned())?;
    match session.get_assertion(&request, suite.user) {
        Err(AuthenticatorError::NoCredentials { .. }) => suite.user.touches_are(0),
        Err(error) => Err(error.into()),
        Ok(_) => Err(Miss::Failed("it signed with a credential that nobody made".to_owned())),
    }
}

fn keeps_relying_parties_apart(suite: &mut Suite<'_>) -> Result<(), Miss> {
    let mut request = suite.request(vec![suite.made()?.credential_id]);
    request.relying_party = "passkeyfs-conformance-elsewhere".to_owned();
    let found = suite.session()?.find_credential(&request, suite.user)?;
    claim(found.is_none(), || "it was found".to_owned())
}

fn recognises_what_is_excluded(suite: &mut Suite<'_>) -> Result<(), Miss> {
    let request = MakeCredential { exclude: vec![suite.made()?.credential_id], ..suite.make_request() };
    match suite.session()?.make_credential(&request, suite.user) {
        Err(AuthenticatorError::AlreadyEnrolled { .. }) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => Err(Miss::Failed("it made another".to_owned())),
    }
}

fn hides_what_is_protected(suite: &mut Suite<'_>) -> Result<(), Miss> {
    if !suite.verify_user {
        return pass_over("it does not verify users");
    }
    let request = GetAssertion { verify_user: false, ..suite.request(vec![suite.made()?.credential_id]) };
    let found = suite.session()?.find_credential(&request, suite.user)?;
    match (found, suite.user.pins_asked()) {
        (None, _) => Ok(()),
        (Some(_), 1..) => pass_over("it always verifies its user"),
        // credProtect is optional in CTAP 2.1; the secret of an unverified user is another one all the same.
        (Some(_), 0) => pass_over("it does not know credProtect"),
    }
}

fn asks_for_the_pin_once(suite: &mut Suite<'_>) -> Result<(), Miss> {
    suite.needs_a_pin()?;
    let request = suite.request(vec![suite.made()?.credential_id]);
    let mut session = suite.session()?;
    for _ in 0..2 {
        session.find_credential(&request, suite.user)?;
        session.get_assertion(&request, suite.user)?;
    }
    let asked = suite.user.pins_asked();
    claim(asked == 1, || format!("it was asked for {asked} times"))
}

fn refuses_short_pins(suite: &mut Suite<'_>) -> Result<(), Miss> {
    suite.needs_a_pin()?;
    let request = suite.request(vec![suite.made()?.credential_id]);
    let mut session = suite.session()?;
    suite.user.give_instead("123");
    match session.find_credential(&request, suite.user) {
        Err(AuthenticatorError::PinUnusable) => {}
        Err(error) => return Err(error.into()),
        Ok(_) => return Err(Miss::Failed("it took it".to_owned())),
    }
    let before = suite.user.tries_left();
    session.find_credential(&request, suite.user)?;
    claim(suite.user.tries_left() == before, || "a try is gone".to_owned())
}

fn counts_wrong_pins(suite: &mut Suite<'_>) -> Result<(), Miss> {
    suite.needs_a_pin()?;
    let request = suite.request(vec![suite.made()?.credential_id]);
    let before = match suite.user.tries_left() {
        Some(tries) if tries >= TRIES_TO_SPARE => tries,
        _ => return pass_over("it has too few PIN tries left"),
    };
    let mut session = suite.session()?;
    suite.user.give_a_wrong_pin();
    match session.find_credential(&request, suite.user) {
        Err(AuthenticatorError::PinWrong { tries_left, .. }) => {
            claim(tries_left + 1 == before, || format!("{before} tries became {tries_left}"))?;
        }
        Err(error) => return Err(error.into()),
        Ok(_) => return Err(Miss::Failed("it took a wrong PIN".to_owned())),
    }
    session.find_credential(&request, suite.user)?;
    drop(session);
    suite.session()?.find_credential(&request, suite.user)?;
    claim(suite.user.tries_left() == Some(before), || "the tries did not come back".to_owned())
}

/// A user who is asked for the PIN once, and whose prompts are counted.
struct Watched<'a> {
    inner: &'a dyn Interaction,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    pin: Option<Zeroizing<String>>,
    instead: Option<Zeroizing<String>>,
    tries_left: Option<u32>,
    pins_asked: usize,
    touches: usize,
}

impl Watched<'_> {
    fn forget_counts(&self) {
        let mut seen = self.seen.lock();
        (seen.pins_asked, seen.touches) = (0, 0);
    }

    fn pins_asked(&self) -> usize {
        self.seen.lock().pins_asked
    }

    fn knows_the_pin(&self) -> bool {
        self.seen.lock().pin.is_some()
    }

    /// How many tries were left when the PIN was last asked for.
    fn tries_left(&self) -> Option<u32> {
        self.seen.lock().tries_left
    }

    fn touches_are(&self, expected: usize) -> Result<(), Miss> {
        let touches = self.seen.lock().touches;
        claim(touches == expected, || format!("{touches} touches were asked for"))
    }

    fn give_instead(&self, pin: &str) {
        self.seen.lock().instead = Some(Zeroizing::new(pin.to_owned()));
    }

    /// As long as the right one, and different in its last character.
    fn give_a_wrong_pin(&self) {
        let mut seen = self.seen.lock();
        let mut wrong = seen.pin.clone().unwrap_or_default();
        let last = wrong.pop();
        wrong.push(if last == Some('1') { '2' } else { '1' });
        seen.instead = Some(wrong);
    }
}

impl Interaction for Watched<'_> {
    fn ask_pin(&self, request: &PinRequest) -> Result<Zeroizing<String>, InteractionError> {
        let mut seen = self.seen.lock();
        seen.pins_asked += 1;
        seen.tries_left = request.tries_left;
        if let Some(instead) = seen.instead.take() {
            return Ok(instead);
        }
        if seen.pin.is_none() {
            seen.pin = Some(self.inner.ask_pin(request)?);
        }
        seen.pin.clone().ok_or(InteractionError::Cancelled)
    }

    fn ask_recovery_code(&self, wrong_before: Option<&str>) -> Result<Zeroizing<String>, InteractionError> {
        self.inner.ask_recovery_code(wrong_before)
    }

    fn may_ask_again(&self) -> bool {
        false
    }

    fn confirm_last_try(&self, authenticator: &str) -> Result<bool, InteractionError> {
        self.inner.confirm_last_try(authenticator)
    }

    fn ask_new_pin(&self, authenticator: &str, again: bool) -> Result<Zeroizing<String>, InteractionError> {
        self.inner.ask_new_pin(authenticator, again)
    }

    fn announce_played_touch(&self, authenticator: &str) {
        self.seen.lock().touches += 1;
        self.inner.announce_played_touch(authenticator);
    }

    fn announce_touch(&self, authenticator: &str) {
        self.seen.lock().touches += 1;
        self.inner.announce_touch(authenticator);
    }

    fn touch_done(&self) {
        self.inner.touch_done();
    }
}
