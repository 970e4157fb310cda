//! Answers that the service manager has stored: systemd credentials (systemd.exec(5), `LoadCredential=`).
//!
//! Promises that a stored answer is given once in a process: a wrong one is not tried again, and the last PIN try is never
//! spent on it. So a service that cannot be asked does not block a key.

use std::fs::File;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::helpers::read_answer;
use super::interaction::{Asker, InteractionError, Question};

/// The credential that holds a PIN.
const PIN_CREDENTIAL: &str = "passkeyfs.pin";
/// The credential that holds a recovery code.
const CODE_CREDENTIAL: &str = "passkeyfs.recovery-code";

/// The service manager's folder of credentials.
pub(super) struct StoredAnswers {
    folder: PathBuf,
}

impl StoredAnswers {
    /// The folder, if it holds an answer of ours.
    pub(super) fn in_folder(folder: &Path) -> Option<Self> {
        let is_there = |name: &&str| folder.join(name).exists();
        [PIN_CREDENTIAL, CODE_CREDENTIAL].iter().any(is_there).then(|| Self { folder: folder.to_owned() })
    }
}

impl Asker for StoredAnswers {
    fn ask(&self, question: Question, _: &str) -> Result<Zeroizing<String>, InteractionError> {
        let path = match question {
            Question::Pin => self.folder.join(PIN_CREDENTIAL),
            Question::RecoveryCode => self.folder.join(CODE_CREDENTIAL),
            Question::LastTry => {
                log::error!("the last PIN try is not spent on a stored PIN");
                return Err(InteractionError::Cancelled);
            }
        };
        let failed = |source| InteractionError::Helper { program: path.clone(), source };
        File::open(&path).and_then(read_answer).map_err(failed)
    }

    fn may_ask_again(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_the_pin_and_never_the_consent_to_the_last_try() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(StoredAnswers::in_folder(folder.path()).is_none());
        std::fs::write(folder.path().join(PIN_CREDENTIAL), "yes\n").expect("written");
        let stored = StoredAnswers::in_folder(folder.path()).expect("found");
        assert_eq!(stored.ask(Question::Pin, "PIN").expect("an answer").as_str(), "yes");
        assert!(matches!(stored.ask(Question::LastTry, "?"), Err(InteractionError::Cancelled)));
        assert!(!stored.may_ask_again());
    }
}
