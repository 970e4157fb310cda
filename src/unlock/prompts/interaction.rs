//! How the user is asked for a PIN or a recovery code, and told of a touch that is waited for. Nothing else in the library
//! addresses the user.
//!
//! ```text
//! Interaction ── User ──┬─ one Asker: terminal.rs, askpass.rs, systemd_credentials.rs   (which one: prompt_selection.rs)
//!                       └─ all StatusNotifiers that reach somebody: status_notifiers.rs, desktop.rs
//! ```
//!
//! An answer is asked for once, by the first way that is open; a waiting touch is announced on every way, for nobody
//! knows where the person looks. Answers live in `Zeroizing` strings, and each question has a time limit
//! ([`ANSWER_TIME_LIMIT`]).

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use parking_lot::Mutex;
use thiserror::Error;
use zeroize::Zeroizing;

/// How long a question waits for its answer: a person who has gone for the key, and back.
pub const ANSWER_TIME_LIMIT: Duration = Duration::from_secs(120);
/// The same for a recovery code, which somebody reads aloud from paper and types.
pub const CODE_TIME_LIMIT: Duration = Duration::from_secs(600);

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

/// The question for a recovery code, without a trailing colon.
fn recovery_prompt(wrong_before: Option<&str>) -> String {
    match wrong_before {
        Some(wrong) => format!("{wrong}. Recovery code"),
        None => "Recovery code".to_owned(),
    }
}

/// A way to reach the user.
pub trait Interaction: Send + Sync {
    /// Asks for an authenticator's PIN.
    fn ask_pin(&self, request: &PinRequest) -> Result<Zeroizing<String>, InteractionError>;

    /// Asks for a recovery code; `wrong_before` says what was wrong with the one that was typed before.
    fn ask_recovery_code(&self, wrong_before: Option<&str>) -> Result<Zeroizing<String>, InteractionError>;

    /// Whether asking again after a wrong PIN may bring another answer.
    fn may_ask_again(&self) -> bool;

    /// Asks whether to use the last try, after which a wrong PIN blocks the authenticator for good.
    fn confirm_last_try(&self, authenticator: &str) -> Result<bool, InteractionError>;

    /// Asks for a PIN that an authenticator is to have from now on; `again` to see that it was typed right.
    fn ask_new_pin(&self, authenticator: &str, again: bool) -> Result<Zeroizing<String>, InteractionError>;

    /// Says that `authenticator` waits for a touch.
    fn announce_touch(&self, authenticator: &str);

    /// Says that `authenticator` is used, which nobody can touch: it plays the touch. Followed by
    /// [`touch_done`](Self::touch_done), as a touch is.
    fn announce_played_touch(&self, authenticator: &str);

    /// Says that it waits no longer, touched or not.
    fn touch_done(&self);
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// An authenticator's PIN.
    Pin,
    /// The word `yes`, before the last PIN try is spent.
    LastTry,
    /// A PIN that an authenticator is to have.
    NewPin,
    /// A recovery code.
    RecoveryCode,
}

impl Question {
    /// What is asked for, in words.
    fn what(self) -> &'static str {
        match self {
            Self::Pin => "a PIN",
            Self::NewPin => "a new PIN",
            Self::LastTry => "consent to the last PIN try",
            Self::RecoveryCode => "the recovery code",
        }
    }

    /// How long it waits for its answer.
    pub fn time_limit(self) -> Duration {
        match self {
            Self::Pin | Self::LastTry | Self::NewPin => ANSWER_TIME_LIMIT,
            Self::RecoveryCode => CODE_TIME_LIMIT,
        }
    }
}

/// One way to get an answer.
pub trait Asker: Send + Sync {
    /// Asks, with `prompt` as the words of the question (without a trailing colon). An empty answer is none.
    fn ask(&self, question: Question, prompt: &str) -> Result<Zeroizing<String>, InteractionError>;

    /// Whether a person thinks anew each time, so that asking again may bring another answer.
    fn may_ask_again(&self) -> bool;
}

/// One way to tell the user something. Never fails, and never waits longer than half a second.
pub trait StatusNotifier: Send + Sync {
    /// An answer is being asked for.
    fn asking(&self, _prompt: &str) {}

    /// `authenticator` waits for a touch.
    fn touch_wanted(&self, authenticator: &str);

    /// It waits no longer, touched or not.
    fn touch_done(&self) {}

    /// `authenticator`, which nobody can touch, is used.
    fn in_use(&self, _authenticator: &str) {}
}

/// A person who is asked in one way and told things in several.
pub struct User {
    /// Who brings the answers.
    pub asker: Box<dyn Asker>,
    /// Who is told.
    pub notifiers: Vec<Box<dyn StatusNotifier>>,
    /// Which authenticators that nobody can touch were told of.
    used: Mutex<BTreeSet<String>>,
}

impl User {
    /// Somebody whom `asker` asks and `notifiers` tell.
    pub fn new(asker: Box<dyn Asker>, notifiers: Vec<Box<dyn StatusNotifier>>) -> Self {
        Self { asker, notifiers, used: Mutex::default() }
    }

    fn ask(&self, question: Question, prompt: &str) -> Result<Zeroizing<String>, InteractionError> {
        self.notifiers.iter().for_each(|notifier| notifier.asking(prompt));
        match self.asker.ask(question, prompt)? {
            answer if answer.is_empty() => Err(InteractionError::Cancelled),
            answer => Ok(answer),
        }
    }
}

impl Interaction for User {
    fn ask_pin(&self, request: &PinRequest) -> Result<Zeroizing<String>, InteractionError> {
        self.ask(Question::Pin, &request.prompt())
    }

    fn ask_recovery_code(&self, wrong_before: Option<&str>) -> Result<Zeroizing<String>, InteractionError> {
        self.ask(Question::RecoveryCode, &recovery_prompt(wrong_before))
    }

    fn may_ask_again(&self) -> bool {
        self.asker.may_ask_again()
    }

    fn confirm_last_try(&self, authenticator: &str) -> Result<bool, InteractionError> {
        let prompt =
            format!("One PIN try is left. If it is wrong, {authenticator} is blocked for good. Type yes to go on");
        match self.ask(Question::LastTry, &prompt) {
            Err(interrupted @ InteractionError::Interrupted) => Err(interrupted),
            answer => Ok(answer.is_ok_and(|answer| answer.as_str() == "yes")),
        }
    }

    fn ask_new_pin(&self, authenticator: &str, again: bool) -> Result<Zeroizing<String>, InteractionError> {
        let prompt = if again { "The same PIN again".to_owned() } else { format!("New PIN of {authenticator}") };
        self.ask(Question::NewPin, &prompt)
    }

    fn announce_touch(&self, authenticator: &str) {
        self.notifiers.iter().for_each(|notifier| notifier.touch_wanted(authenticator));
    }

    fn announce_played_touch(&self, authenticator: &str) {
        if self.used.lock().insert(authenticator.to_owned()) {
            self.notifiers.iter().for_each(|notifier| notifier.in_use(authenticator));
        }
    }

    fn touch_done(&self) {
        self.notifiers.iter().for_each(|notifier| notifier.touch_done());
    }
}

/// A device's name without what could steer a terminal or end a line.
pub fn plain(name: &str) -> String {
    name.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

/// Why the user gave no answer.
#[derive(Debug, Error)]
pub enum InteractionError {
    /// The user gave it up, or did not confirm the last try.
    #[error("no PIN or recovery code was given")]
    Cancelled,
    /// The user pressed Ctrl-C at the question.
    #[error("interrupted; nothing was changed")]
    Interrupted,
    /// No answer came in time.
    #[error("no PIN or recovery code was given in time")]
    TimedOut,
    /// There is nobody to ask.
    #[error(
        "there is no way to ask for {}: no terminal, no PASSKEYFS_ASKPASS, nobody whom systemd may ask",
        question.what()
    )]
    NobodyToAsk {
        /// What was to be asked for.
        question: Question,
    },
    /// The helper program failed.
    #[error("{} could not be asked: {source}", program.display())]
    Helper {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The terminal failed.
    #[error("the terminal could not be asked: {source}")]
    Terminal {
        /// What the system said.
        source: std::io::Error,
    },
}
