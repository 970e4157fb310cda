//! The ways to reach a user that `interaction.rs` names: a stored PIN, the terminal, and helper programs.
//!
//! Relies on `rpassword` for a terminal without echo. Promises that no answer is left in memory or in any argument or
//! environment, and that a helper which hangs is killed.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, ErrorKind, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::interaction::{Interaction, InteractionError, PinRequest};

const TERMINAL: &str = "/dev/tty";
const SYSTEMD_PROGRAM: &str = "systemd-ask-password";
/// The name under which a service manager passes a PIN.
const CREDENTIAL_NAME: &str = "passkeyfs.pin";
/// How long a helper may take: a user who has gone for the key, and back.
const HELPER_TIME_LIMIT: Duration = Duration::from_secs(120);
/// No PIN is longer than 63 bytes.
const ANSWER_BYTES_MAX: u64 = 1024;

/// The way to reach whoever started this process: the first of the list in `interaction.rs` that is open.
pub fn user_interaction() -> Box<dyn Interaction> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    if let Some(path) = credentials.map(|folder| folder.join(CREDENTIAL_NAME)).filter(|path| path.exists()) {
        return Box::new(StoredPin { path });
    }
    let has_terminal = OpenOptions::new().read(true).write(true).open(TERMINAL).is_ok();
    if has_terminal && std::io::stdin().is_terminal() {
        return Box::new(Terminal);
    }
    match std::env::var_os("PASSKEYFS_ASKPASS").filter(|program| !program.is_empty()) {
        Some(program) => Box::new(Askpass { program: program.into() }),
        None if has_terminal => Box::new(Terminal),
        None => Box::new(SystemdAskPassword),
    }
}

/// A PIN in a file that the service manager provides. Used once: a wrong one is not tried again.
pub struct StoredPin {
    /// The file.
    pub path: PathBuf,
}

/// The controlling terminal.
pub struct Terminal;

/// A program that shows its argument and prints the answer.
pub struct Askpass {
    /// The program.
    pub program: PathBuf,
}

/// systemd's agents: the boot splash, other terminals, the desktop.
pub struct SystemdAskPassword;

impl Interaction for StoredPin {
    fn ask_pin(&self, _: &PinRequest) -> Result<Zeroizing<String>, InteractionError> {
        let failed = |source| InteractionError::Helper { program: self.path.clone(), source };
        let file = std::fs::File::open(&self.path).map_err(failed)?;
        read_answer(file).map_err(failed)
    }

    fn may_ask_again(&self) -> bool {
        false
    }

    fn confirm_last_try(&self, authenticator: &str) -> bool {
        log::error!("the last PIN try of {authenticator} is not spent on a stored PIN");
        false
    }

    fn announce_touch(&self, authenticator: &str) {
        log::info!("touch {authenticator}");
    }

    fn touch_done(&self) {}
}

impl Terminal {
    fn say(&self, line: &str) {
        // Best effort: what cannot be shown is still in the log.
        let shown = OpenOptions::new().write(true).open(TERMINAL).and_then(|mut tty| writeln!(tty, "{line}"));
        if let Err(error) = shown {
            log::info!("{line} (the terminal is gone: {error})");
        }
    }
}

impl Interaction for Terminal {
    fn ask_pin(&self, request: &PinRequest) -> Result<Zeroizing<String>, InteractionError> {
        match rpassword::prompt_password(format!("{}: ", request.prompt())) {
            Ok(pin) if pin.is_empty() => Err(InteractionError::Cancelled),
            Ok(pin) => Ok(Zeroizing::new(pin)),
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::UnexpectedEof) => {
                Err(InteractionError::Cancelled)
            }
            Err(source) => Err(InteractionError::Terminal { source }),
        }
    }

    fn may_ask_again(&self) -> bool {
        true
    }

    fn confirm_last_try(&self, authenticator: &str) -> bool {
        self.say(&last_try_question(authenticator));
        let mut answer = String::new();
        let read = std::fs::File::open(TERMINAL).and_then(|tty| BufReader::new(tty).read_line(&mut answer));
        read.is_ok() && answer.trim() == "yes"
    }

    fn announce_touch(&self, authenticator: &str) {
        self.say(&format!("Touch {authenticator} now."));
    }

    fn touch_done(&self) {}
}

impl Interaction for Askpass {
    fn ask_pin(&self, request: &PinRequest) -> Result<Zeroizing<String>, InteractionError> {
        ask_helper(&self.program, [request.prompt().into()])
    }

    fn may_ask_again(&self) -> bool {
        false
    }

    fn confirm_last_try(&self, authenticator: &str) -> bool {
        confirmed(ask_helper(&self.program, [last_try_question(authenticator).into()]))
    }

    fn announce_touch(&self, authenticator: &str) {
        log::info!("touch {authenticator}");
    }

    fn touch_done(&self) {}
}

impl SystemdAskPassword {
    fn ask(&self, prompt: &str) -> Result<Zeroizing<String>, InteractionError> {
        let timeout = format!("--timeout={}", HELPER_TIME_LIMIT.as_secs());
        let arguments = ["--id=passkeyfs:pin", "--icon=dialog-password", &timeout, prompt].map(OsString::from);
        match ask_helper(Path::new(SYSTEMD_PROGRAM), arguments) {
            Err(InteractionError::Helper { source, .. }) if source.kind() == ErrorKind::NotFound => {
                Err(InteractionError::NobodyToAsk)
            }
            other => other,
        }
    }
}

impl Interaction for SystemdAskPassword {
    fn ask_pin(&self, request: &PinRequest) -> Result<Zeroizing<String>, InteractionError> {
        self.ask(&request.prompt())
    }

    fn may_ask_again(&self) -> bool {
        false
    }

    fn confirm_last_try(&self, authenticator: &str) -> bool {
        confirmed(self.ask(&last_try_question(authenticator)))
    }

    fn announce_touch(&self, authenticator: &str) {
        log::info!("touch {authenticator}");
    }

    fn touch_done(&self) {}
}

fn last_try_question(authenticator: &str) -> String {
    format!("One PIN try is left. If it is wrong, {authenticator} is blocked for good. Type yes to go on")
}

fn confirmed(answer: Result<Zeroizing<String>, InteractionError>) -> bool {
    answer.is_ok_and(|answer| answer.as_str() == "yes")
}

/// Runs a program that prints an answer; one that takes too long is killed.
fn ask_helper(
    program: &Path,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Zeroizing<String>, InteractionError> {
    let failed = |source| InteractionError::Helper { program: program.to_owned(), source };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let output = child.stdout.take().expect("its output is a pipe");
    match wait(&mut child).map_err(failed)? {
        None => Err(InteractionError::TimedOut),
        Some(status) if !status.success() => Err(InteractionError::Cancelled),
        Some(_) => {
            let answer = read_answer(output).map_err(failed)?;
            if answer.is_empty() { Err(InteractionError::Cancelled) } else { Ok(answer) }
        }
    }
}

/// Waits for a child whose output fits the pipe; `None` if it had to be killed.
fn wait(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + HELPER_TIME_LIMIT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Reads one line, without the line's end.
fn read_answer(source: impl Read) -> std::io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(ANSWER_BYTES_MAX as usize));
    source.take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
    let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(bytes.len());
    let text = std::str::from_utf8(&bytes[..end]);
    let text = text.map_err(|_| std::io::Error::new(ErrorKind::InvalidData, "the answer is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(script: &str) -> Result<Zeroizing<String>, InteractionError> {
        ask_helper(Path::new("/bin/sh"), ["-c", script, "sh", "the prompt"].map(OsString::from))
    }

    #[test]
    fn a_helper_answers_with_its_first_line() {
        assert_eq!(ask("echo \"$1\"; echo more").expect("an answer").as_str(), "the prompt");
        assert_eq!(ask("printf 1234").expect("an answer").as_str(), "1234");
    }

    #[test]
    fn a_helper_that_fails_or_says_nothing_cancels() {
        assert!(matches!(ask("echo 1234; exit 1"), Err(InteractionError::Cancelled)));
        assert!(matches!(ask("true"), Err(InteractionError::Cancelled)));
        let missing = ask_helper(Path::new("/nonexistent/askpass"), []);
        assert!(matches!(missing, Err(InteractionError::Helper { .. })));
    }

    #[test]
    fn the_prompt_warns_when_tries_run_out() {
        let prompt = |tries_left, wrong_before| {
            PinRequest { authenticator: "K".to_owned(), tries_left: Some(tries_left), wrong_before }.prompt()
        };
        assert_eq!(prompt(8, false), "PIN of K");
        assert_eq!(prompt(7, true), "Wrong PIN. PIN of K (7 tries left)");
        assert_eq!(prompt(1, false), "PIN of K (last try)");
    }
}
