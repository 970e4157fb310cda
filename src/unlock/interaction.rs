//! How the user is asked for a PIN and told of a waiting touch. Nothing else in the library talks to anybody.
//!
//! [`user_interaction`] takes the first way that is open (design §5):
//!
//! 1. a systemd credential `passkeyfs.pin`, where the service manager passed one;
//! 2. the terminal, when standard input is one;
//! 3. the program `$PASSKEYFS_ASKPASS`, called with the prompt as its one argument, answering on its standard output;
//! 4. the controlling terminal, where there is one though standard input is something else;
//! 5. `systemd-ask-password`.
//!
//! A way that cannot tell a person's second thoughts from a stored answer (1, 3, 5) never repeats a question, so that a
//! service which restarts does not burn PIN tries. PINs live in `Zeroizing` strings. A helper program has two minutes.

use std::path::PathBuf;

use thiserror::Error;
use zeroize::Zeroizing;

pub use super::interaction_ways::{Askpass, StoredPin, SystemdAskPassword, Terminal, user_interaction};

/// What to tell the user with the question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinRequest {
    /// Whose PIN it is.
    pub authenticator: String,
    /// How many tries are left, where the authenticator says so.
    pub tries_left: Option<u32>,
    /// Whether the PIN given before was wrong.
    pub wrong_before: bool,
}

impl PinRequest {
    /// The question in words, without a trailing colon.
    pub fn prompt(&self) -> String {
        let wrong = if self.wrong_before { "Wrong PIN. " } else { "" };
        match self.tries_left {
            Some(1) => format!("{wrong}PIN of {} (last try)", self.authenticator),
            Some(tries_left) if self.wrong_before || tries_left <= 3 => {
                format!("{wrong}PIN of {} ({tries_left} tries left)", self.authenticator)
            }
            _ => format!("{wrong}PIN of {}", self.authenticator),
        }
    }
}

/// A way to reach the user.
pub trait Interaction: Send + Sync {
    /// Asks for an authenticator's PIN.
    fn ask_pin(&self, request: &PinRequest) -> Result<Zeroizing<String>, InteractionError>;

    /// Whether asking again after a wrong PIN may bring another answer.
    fn may_ask_again(&self) -> bool;

    /// Asks whether to use the last try, after which a wrong PIN blocks the authenticator for good.
    fn confirm_last_try(&self, authenticator: &str) -> bool;

    /// Says that `authenticator` waits for a touch.
    fn announce_touch(&self, authenticator: &str);

    /// Says that it waits no longer, touched or not.
    fn touch_done(&self);
}

/// Why the user gave no answer.
#[derive(Debug, Error)]
pub enum InteractionError {
    /// The user gave it up, or did not confirm the last try.
    #[error("no PIN was given")]
    Cancelled,
    /// No answer came in time.
    #[error("no PIN was given in time")]
    TimedOut,
    /// There is nobody to ask.
    #[error("there is no way to ask for a PIN: no terminal, no PASSKEYFS_ASKPASS, no systemd-ask-password")]
    NobodyToAsk,
    /// The helper program failed.
    #[error("{} could not be asked for a PIN: {source}", program.display())]
    Helper {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The terminal failed.
    #[error("the terminal could not be asked for a PIN: {source}")]
    Terminal {
        /// What the system said.
        source: std::io::Error,
    },
}
