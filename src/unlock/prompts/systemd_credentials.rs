//! Systemd credentials: answers that the service manager has stored (systemd.exec(5), `LoadCredential=`).
//!
//! Promises that a stored answer is given once in a process: a wrong one is not tried again, and the last PIN try is never
//! spent on it. So a service that cannot be asked does not block a key.

use std::fs::File;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::askpass::read_answer;
use super::interaction::{Asker, InteractionError, Question};

/// The credential that holds a PIN.
const PIN_CREDENTIAL: &str = "passkeyfs.pin";
/// The credential that holds a recovery code.
const CODE_CREDENTIAL: &str = "passkeyfs.recovery-code";

/// The service manager's folder of credentials; an answer that is not in it is asked for in another way.
pub(super) struct SystemdCredentials {
    folder: PathBuf,
    otherwise: Box<dyn Asker>,
}

impl SystemdCredentials {
    /// Answers from `folder` what it has an answer to, and has `otherwise` asked for the rest.
    pub(super) fn new(folder: &Path, otherwise: Box<dyn Asker>) -> Self {
        Self { folder: folder.to_owned(), otherwise }
    }

    fn has(&self, name: &str) -> bool {
        self.folder.join(name).symlink_metadata().is_ok()
    }
}

impl Asker for SystemdCredentials {
    fn ask(&self, question: Question, prompt: &str) -> Result<Zeroizing<String>, InteractionError> {
        let name = match question {
            Question::Pin | Question::LastTry | Question::NewPin => PIN_CREDENTIAL,
            Question::RecoveryCode => CODE_CREDENTIAL,
        };
        if !self.has(name) {
            return self.otherwise.ask(question, prompt);
        }
        if question == Question::LastTry {
            log::error!("the last PIN try is not spent on a stored PIN");
            return Err(InteractionError::Cancelled);
        }
        let path = self.folder.join(name);
        let failed = |source| InteractionError::Helper { program: path.clone(), source };
        File::open(&path).and_then(read_answer).map_err(failed)
    }

    fn may_ask_again(&self) -> bool {
        // Either stored answer may be the wrong one.
        let all_from_elsewhere = ![PIN_CREDENTIAL, CODE_CREDENTIAL].into_iter().any(|name| self.has(name));
        all_from_elsewhere && self.otherwise.may_ask_again()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers everything with one word.
    struct Echo;

    impl Asker for Echo {
        fn ask(&self, _: Question, _: &str) -> Result<Zeroizing<String>, InteractionError> {
            Ok(Zeroizing::new("asked".to_owned()))
        }

        fn may_ask_again(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_credential_is_the_pin_and_never_the_consent_to_the_last_try() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let stored = SystemdCredentials::new(folder.path(), Box::new(Echo));
        assert!(stored.may_ask_again());
        std::fs::write(folder.path().join(PIN_CREDENTIAL), "yes\n").expect("written");
        assert_eq!(stored.ask(Question::Pin, "PIN").expect("an answer").as_str(), "yes");
        assert!(matches!(stored.ask(Question::LastTry, "?"), Err(InteractionError::Cancelled)));
        assert!(!stored.may_ask_again());
    }

    #[test]
    fn what_is_not_stored_is_asked_for_in_another_way() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join(CODE_CREDENTIAL), "CODE\n").expect("written");
        let stored = SystemdCredentials::new(folder.path(), Box::new(Echo));
        assert_eq!(stored.ask(Question::RecoveryCode, "code").expect("an answer").as_str(), "CODE");
        for question in [Question::Pin, Question::LastTry] {
            assert_eq!(stored.ask(question, "PIN").expect("an answer").as_str(), "asked");
        }
    }
}
