//! Answers of a security key that are not what was asked for: of another time, another site, without a touch, or altered.

use std::sync::{Arc, Mutex};

use passkeyfs::store::MemoryStore;
use passkeyfs::unlock::authenticator::{Assertion, AuthenticatorDescription, Credential, GetAssertion, MakeCredential};
use passkeyfs::unlock::{
    Authenticator, AuthenticatorError, Interaction, ScriptedInteraction, SoftwareAuthenticator, UnlockError,
    UnlockedVault, unlock_vault,
};

use crate::rig::Rig;

type Change = Box<dyn FnMut(&mut Assertion) + Send>;

/// A key whose answers somebody changes on their way.
struct Between {
    key: SoftwareAuthenticator,
    change: Change,
}

impl Authenticator for Between {
    fn describe(&self) -> AuthenticatorDescription {
        self.key.describe()
    }

    fn make_credential(
        &mut self,
        request: &MakeCredential,
        interaction: &dyn Interaction,
    ) -> Result<Credential, AuthenticatorError> {
        self.key.make_credential(request, interaction)
    }

    fn find_credential(
        &mut self,
        request: &GetAssertion,
        interaction: &dyn Interaction,
    ) -> Result<Option<Vec<u8>>, AuthenticatorError> {
        self.key.find_credential(request, interaction)
    }

    fn get_assertion(
        &mut self,
        request: &GetAssertion,
        interaction: &dyn Interaction,
    ) -> Result<Assertion, AuthenticatorError> {
        let mut answer = self.key.get_assertion(request, interaction)?;
        (self.change)(&mut answer);
        Ok(answer)
    }
}

fn unlock(rig: &Rig, store: &MemoryStore, change: Change) -> Result<UnlockedVault, UnlockError> {
    let key = Between { key: rig.authenticator("one"), change };
    unlock_vault(store, &mut [Box::new(key)], &ScriptedInteraction::silent(), &*rig.randomness)
}

#[test]
fn the_answer_to_an_earlier_challenge_opens_nothing() {
    let (rig, _) = Rig::with_vault();
    let recorded = Arc::new(Mutex::new(None));
    let record = Arc::clone(&recorded);
    let first = unlock(
        &rig,
        &rig.store,
        Box::new(move |answer| {
            *record.lock().unwrap() = Some((answer.authenticator_data.clone(), answer.signature.clone()));
        }),
    );
    first.expect("unlocked");
    let (data, signature) = recorded.lock().unwrap().take().expect("recorded");
    // With the true secret, even: what is refused is the answer.
    let replayed = unlock(
        &rig,
        &rig.store,
        Box::new(move |answer| {
            (answer.authenticator_data, answer.signature) = (data.clone(), signature.clone());
        }),
    );
    let error = replayed.expect_err("of another challenge");
    assert!(matches!(error, UnlockError::SlotDamaged { .. }), "{error}");
    unlock(&rig, &rig.store, Box::new(|_| ())).expect("a true answer opens");
}

#[test]
fn an_answer_for_another_site_without_a_touch_or_with_an_altered_byte_opens_nothing() {
    let (rig, _) = Rig::with_vault();
    type Altered = fn(&mut Assertion);
    let changes: [(&str, Altered); 5] = [
        ("another relying party", |answer| answer.authenticator_data[0] ^= 1),
        ("without a touch", |answer| answer.authenticator_data[32] &= !1),
        ("", |answer| answer.authenticator_data[32] ^= 4),
        ("", |answer| *answer.signature.last_mut().expect("a byte") ^= 1),
        ("not asked for", |answer| answer.credential_id[0] ^= 1),
    ];
    for (said, change) in changes {
        let error = unlock(&rig, &rig.store, Box::new(change)).expect_err(said);
        assert!(error.to_string().contains(said), "{said}: {error}");
    }
}
