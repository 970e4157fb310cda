//! A user who answers by a script, for tests, and counts what was asked of them.

use std::collections::VecDeque;

use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::interaction::{Interaction, InteractionError, PinRequest};

/// Gives the PINs it was made with, one after the other, and then none.
#[derive(Default)]
pub struct ScriptedInteraction {
    pins: Mutex<VecDeque<Zeroizing<String>>>,
    last_try: bool,
    asked: Mutex<Asked>,
}

/// What a [`ScriptedInteraction`] was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// The PIN prompts, in order.
    pub pins: Vec<PinRequest>,
    /// The questions for a recovery code, each with what was wrong before.
    pub codes: Vec<Option<String>>,
    /// How often the last try was to be confirmed.
    pub last_tries: usize,
    /// How many touches were announced.
    pub touches: usize,
    /// Whether a touch is waited for now.
    pub waiting: bool,
}

impl ScriptedInteraction {
    /// A user who knows no PIN.
    pub fn silent() -> Self {
        Self::default()
    }

    /// A user who gives these PINs, and agrees to use the last try.
    pub fn with_pins(pins: &[&str]) -> Self {
        let pins = pins.iter().map(|pin| Zeroizing::new((*pin).to_owned())).collect();
        Self { pins: Mutex::new(pins), last_try: true, asked: Mutex::default() }
    }

    /// The same user, who does not agree to use the last try.
    pub fn refusing_the_last_try(mut self) -> Self {
        self.last_try = false;
        self
    }

    /// What was asked so far.
    pub fn asked(&self) -> Asked {
        self.asked.lock().clone()
    }
}

impl Interaction for ScriptedInteraction {
    fn ask_pin(&self, request: &PinRequest) -> Result<Zeroizing<String>, InteractionError> {
        self.asked.lock().pins.push(request.clone());
        self.pins.lock().pop_front().ok_or(InteractionError::Cancelled)
    }

    fn ask_recovery_code(&self, wrong_before: Option<&str>) -> Result<Zeroizing<String>, InteractionError> {
        self.asked.lock().codes.push(wrong_before.map(str::to_owned));
        self.pins.lock().pop_front().ok_or(InteractionError::Cancelled)
    }

    fn may_ask_again(&self) -> bool {
        !self.pins.lock().is_empty()
    }

    fn confirm_last_try(&self, _: &str) -> Result<bool, InteractionError> {
        self.asked.lock().last_tries += 1;
        Ok(self.last_try)
    }

    fn ask_new_pin(&self, _: &str, _: bool) -> Result<Zeroizing<String>, InteractionError> {
        self.pins.lock().pop_front().ok_or(InteractionError::Cancelled)
    }

    fn announce_played_touch(&self, authenticator: &str) {
        self.announce_touch(authenticator);
    }

    fn announce_touch(&self, _: &str) {
        let mut asked = self.asked.lock();
        asked.touches += 1;
        asked.waiting = true;
    }

    fn touch_done(&self) {
        self.asked.lock().waiting = false;
    }
}
