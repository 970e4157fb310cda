//! Asking by way of a program: `$PASSKEYFS_ASKPASS` and its like, or `systemd-ask-password` and its agents.
//!
//! The program gets the prompt as its last argument and prints the answer. Promises that nothing secret is in any argument
//! or environment, that no copy of an answer stays in memory, and that a program which takes too long is killed. Such an
//! answer may be stored, so no question is repeated.

use std::ffi::OsString;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::raise;
use zeroize::Zeroizing;

use super::interaction::{Asker, InteractionError, Question};
use super::signals::{HeldSignals, spawn_shielded};

const SYSTEMD_PROGRAM: &str = "systemd-ask-password";
/// No PIN is longer than 63 bytes.
const ANSWER_BYTES_MAX: u64 = 1024;

/// A program that shows its argument and prints the answer.
pub(super) struct Askpass {
    pub(super) program: PathBuf,
}

impl Asker for Askpass {
    fn ask(&self, question: Question, prompt: &str) -> Result<Zeroizing<String>, InteractionError> {
        run(&self.program, [prompt.into()], question.time_limit()).map_err(|failure| failure.error)
    }

    fn may_ask_again(&self) -> bool {
        false
    }
}

/// systemd's agents: the boot splash, other terminals, the desktop.
pub(super) struct SystemdAskPassword;

impl Asker for SystemdAskPassword {
    fn ask(&self, question: Question, prompt: &str) -> Result<Zeroizing<String>, InteractionError> {
        // Only root may ask the system's agents. Those of the user exist since systemd 257.
        let whose = if nix::unistd::geteuid().is_root() { "--id=passkeyfs:pin" } else { "--user" };
        let timeout = format!("--timeout={}", question.time_limit().as_secs());
        let arguments = ["--no-tty", "--icon=dialog-password", whose, &timeout, "--", prompt].map(OsString::from);
        run(Path::new(SYSTEMD_PROGRAM), arguments, question.time_limit()).map_err(|failure| {
            let says = |words: &str| failure.message.contains(words);
            match failure.error {
                InteractionError::Helper { source, .. } if source.kind() == ErrorKind::NotFound => {
                    InteractionError::NobodyToAsk { question }
                }
                InteractionError::Cancelled if says("Timer expired") => InteractionError::TimedOut,
                InteractionError::Cancelled if says("Permission denied") || says("unrecognized option") => {
                    InteractionError::NobodyToAsk { question }
                }
                error => error,
            }
        })
    }

    fn may_ask_again(&self) -> bool {
        false
    }
}

/// A helper that brought no answer.
struct HelperFailure {
    error: InteractionError,
    /// What it said on standard error.
    message: String,
}

/// Runs a program that prints an answer; one that takes too long is killed.
fn run(
    program: &Path,
    arguments: impl IntoIterator<Item = OsString>,
    time_limit: Duration,
) -> Result<Zeroizing<String>, HelperFailure> {
    let silent = |error| HelperFailure { error, message: String::new() };
    let failed = |source| silent(InteractionError::Helper { program: program.to_owned(), source });
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    let (output, errors) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let said = spawn_shielded("askpass-words", move || last_words(errors)).map_err(failed)?;
    match wait(&mut child, time_limit).map_err(failed)? {
        None => Err(silent(InteractionError::TimedOut)),
        Some(status) if !status.success() => {
            // Something that the helper has started may keep the pipe open: its words are not waited for for long.
            std::thread::sleep(Duration::from_millis(50));
            let message = if said.is_finished() { said.join().unwrap_or_default() } else { String::new() };
            if !message.is_empty() {
                log::info!("{} says: {message}", program.display());
            }
            Err(HelperFailure { error: InteractionError::Cancelled, message })
        }
        Some(_) => read_what_is_there(output).map_err(failed),
    }
}

/// The answer of a program that has ended: all of it is in the pipe, which what the program started may keep open.
fn read_what_is_there(output: ChildStdout) -> std::io::Result<Zeroizing<String>> {
    fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    read_answer(output)
}

/// What a program said last, in one line; all of it is read, so that the program never waits for a reader.
fn last_words(mut errors: ChildStderr) -> String {
    let mut text = Vec::new();
    let mut piece = [0; 1024];
    while let Ok(length @ 1..) = errors.read(&mut piece) {
        text.extend_from_slice(&piece[..length]);
        text.drain(..text.len().saturating_sub(4096));
    }
    String::from_utf8_lossy(&text).lines().next_back().unwrap_or_default().trim().to_owned()
}

/// Waits for a child whose output fits the pipe; `None` if it had to be killed.
///
/// A signal that ends this process ends the child first: a dialog that stays would take a PIN for nobody.
fn wait(child: &mut Child, time_limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let mut signals = HeldSignals::hold()?;
    let deadline = Instant::now() + time_limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let signal = signals.take();
        if signal.is_some() || Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            drop(signals);
            signal.map_or(Ok(()), raise)?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Reads one line, without the line's end.
pub(super) fn read_answer(source: impl Read) -> std::io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(ANSWER_BYTES_MAX as usize + 1));
    let mut source = source.take(ANSWER_BYTES_MAX);
    let mut byte = Zeroizing::new([0_u8]);
    // Byte by byte: `read_to_end` tries the end with a small buffer of its own, which nobody overwrites, and a helper's
    // child may keep the pipe open behind the line.
    loop {
        match source.read(&mut *byte) {
            Ok(1) if !matches!(byte[0], b'\n' | b'\r') => bytes.push(byte[0]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            _ => break,
        }
    }
    let text = std::str::from_utf8(&bytes);
    let text = text.map_err(|_| std::io::Error::new(ErrorKind::InvalidData, "the answer is not UTF-8"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::interaction::ANSWER_TIME_LIMIT;
    use super::*;

    fn ask(script: &str) -> Result<Zeroizing<String>, InteractionError> {
        let arguments = ["-c", script, "sh", "the prompt"].map(OsString::from);
        run(Path::new("/bin/sh"), arguments, Duration::from_millis(500)).map_err(|failure| failure.error)
    }

    #[test]
    fn a_helper_answers_with_its_first_line() {
        assert_eq!(ask("echo \"$1\"; echo more").expect("an answer").as_str(), "the prompt");
        assert_eq!(ask("printf 1234").expect("an answer").as_str(), "1234");
        assert_eq!(ask("printf ' 1234 \\r\\n'").expect("an answer").as_str(), " 1234 ");
    }

    #[test]
    fn a_helper_that_fails_cancels_and_one_that_hangs_is_killed() {
        assert!(matches!(ask("echo 1234; exit 1"), Err(InteractionError::Cancelled)));
        assert!(matches!(ask("exec sleep 60"), Err(InteractionError::TimedOut)));
        let missing = Askpass { program: "/nonexistent".into() }.ask(Question::Pin, "PIN");
        assert!(matches!(missing, Err(InteractionError::Helper { .. })));
    }

    #[test]
    fn an_answer_is_not_waited_for_beyond_the_end_of_its_program() {
        let begun = Instant::now();
        assert_eq!(ask("printf 1234; sleep 30 &").expect("an answer").as_str(), "1234");
        assert_eq!(ask("sleep 30 & exit 0").expect("no answer, and no failure").as_str(), "");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }

    #[test]
    fn what_a_failing_helper_says_last_is_kept() {
        let arguments = ["-c", "echo one >&2; echo two >&2; exit 3"].map(OsString::from);
        let failure = run(Path::new("/bin/sh"), arguments, ANSWER_TIME_LIMIT).expect_err("it fails");
        assert_eq!(failure.message, "two");
    }

    #[test]
    fn an_answer_that_is_no_text_is_refused() {
        assert!(matches!(ask("printf '\\377\\n'"), Err(InteractionError::Helper { .. })));
    }
}
