//! The controlling terminal: asking on it without showing what is typed, and telling things.
//!
//! Promises that the terminal's settings come back however the question ends: answered, Ctrl-C, Ctrl-D, time limit, or a
//! signal that ends the process. The terminal does not turn Ctrl-C into a signal meanwhile: it is a key like others, so
//! that nobody dies of it with the echo off, and the process that waits in front of the daemon's is not hit. Ctrl-U and
//! backspace work; other control keys do nothing.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::interaction::{Asker, InteractionError, Question, StatusNotifier, plain};
use super::signals::HeldSignals;

const TERMINAL: &str = "/dev/tty";
/// Longer than any answer; what is typed beyond it is dropped.
const LINE_BYTES_MAX: usize = 1024;

/// Whether this process has a controlling terminal.
pub(super) fn is_there() -> bool {
    open().is_ok()
}

fn open() -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).open(TERMINAL)
}

/// The controlling terminal.
pub(super) struct Terminal;

impl Asker for Terminal {
    fn ask(&self, question: Question, prompt: &str) -> Result<Zeroizing<String>, InteractionError> {
        let echo = match question {
            Question::Pin | Question::NewPin => Echo::Hidden,
            // Nobody types seventy characters blindly.
            Question::LastTry | Question::RecoveryCode => Echo::Shown,
        };
        let mut terminal = open().map_err(|source| InteractionError::Terminal { source })?;
        ask_line(&mut terminal, &plain(prompt), echo, question.time_limit())
    }

    fn may_ask_again(&self) -> bool {
        true
    }
}

impl StatusNotifier for Terminal {
    fn touch_wanted(&self, authenticator: &str) {
        say(&format!("Touch {} now.", plain(authenticator)));
    }

    fn in_use(&self, authenticator: &str) {
        say(&format!("Using {}.", plain(authenticator)));
    }
}

/// Best effort: what cannot be shown is still in the log.
fn say(line: &str) {
    if let Err(error) = open().and_then(|mut terminal| writeln!(terminal, "{line}")) {
        log::info!("{line} (the terminal is gone: {error})");
    }
}

/// Asks something that is no secret, on the controlling terminal. An empty answer is an answer.
pub fn ask_on_terminal(prompt: &str, time_limit: Duration) -> Result<Zeroizing<String>, InteractionError> {
    let mut terminal = open().map_err(|source| InteractionError::Terminal { source })?;
    ask_line(&mut terminal, &plain(prompt), Echo::Shown, time_limit)
}

/// Whether the terminal shows what is typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Echo {
    Shown,
    Hidden,
}

/// A terminal that hands on each key at once, and shows none. The settings come back with the drop.
struct QuietTerminal {
    terminal: File,
    before: Termios,
}

impl QuietTerminal {
    fn enter(terminal: &File) -> std::io::Result<Self> {
        let terminal = terminal.try_clone()?;
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet.local_flags &=
            !(LocalFlags::ECHO | LocalFlags::ECHONL | LocalFlags::ICANON | LocalFlags::ISIG | LocalFlags::IEXTEN);
        quiet.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        quiet.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        tcsetattr(&terminal, SetArg::TCSADRAIN, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for QuietTerminal {
    fn drop(&mut self) {
        // A process in the background is stopped when it sets the terminal, unless it holds SIGTTOU back; and whoever was
        // in front may be gone by now.
        let before = [Signal::SIGTTOU].into_iter().collect::<SigSet>().thread_swap_mask(SigmaskHow::SIG_BLOCK);
        let put_back = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before);
        let _ = before.and_then(|before| before.thread_set_mask());
        if let Err(error) = put_back {
            log::warn!("the terminal's settings cannot be put back: {error}");
        }
        let _ = self.terminal.write_all(b"\n");
    }
}

/// Asks a question and reads one line.
fn ask_line(
    terminal: &mut File,
    prompt: &str,
    echo: Echo,
    time_limit: Duration,
) -> Result<Zeroizing<String>, InteractionError> {
    let failed = |source| InteractionError::Terminal { source };
    let mut signals = HeldSignals::hold().map_err(|error| failed(error.into()))?;
    let quiet = QuietTerminal::enter(terminal).map_err(failed)?;
    write!(terminal, "{prompt}: ").map_err(failed)?;
    let deadline = Instant::now() + time_limit;
    let mut line = Line::default();
    loop {
        let pressed = wait_for_key(terminal, &signals, deadline).map_err(failed)?;
        if let Some(signal) = signals.take() {
            drop(quiet);
            drop(signals);
            // Whatever this process does on that signal, mostly to end, it does now.
            raise(signal).map_err(|error| failed(error.into()))?;
            return Err(InteractionError::Cancelled);
        }
        if !pressed {
            return Err(InteractionError::TimedOut);
        }
        let mut key = Zeroizing::new([0]);
        match terminal.read(&mut *key) {
            Ok(1) => {}
            // The terminal is gone.
            _ => return Err(InteractionError::Cancelled),
        }
        match line.press(key[0]) {
            Pressed::Cancelled => return Err(InteractionError::Cancelled),
            Pressed::Interrupted => return Err(InteractionError::Interrupted),
            Pressed::Finished => return line.finish().map_err(failed),
            Pressed::Added if echo == Echo::Shown => terminal.write_all(&*key).map_err(failed)?,
            Pressed::Erased if echo == Echo::Shown => {
                let line_again = Zeroizing::new([b"\r\x1b[K", prompt.as_bytes(), b": ", &line.bytes].concat());
                terminal.write_all(&line_again).map_err(failed)?;
            }
            Pressed::Added | Pressed::Erased | Pressed::Nothing => {}
        }
    }
}

/// Waits for a key, until the deadline; true when one (or a signal) has come.
fn wait_for_key(terminal: &File, signals: &HeldSignals, deadline: Instant) -> std::io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut sources =
            [PollFd::new(terminal.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut sources, timeout) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// What a key did.
#[derive(Debug, PartialEq, Eq)]
enum Pressed {
    Added,
    Erased,
    Nothing,
    Finished,
    Cancelled,
    Interrupted,
}

/// What is typed so far, in a place that never moves.
struct Line {
    bytes: Zeroizing<Vec<u8>>,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: Zeroizing::new(Vec::with_capacity(LINE_BYTES_MAX)) }
    }
}

impl Line {
    fn press(&mut self, key: u8) -> Pressed {
        const CTRL_C: u8 = 3;
        const CTRL_D: u8 = 4;
        const BACKSPACE: u8 = 8;
        const CTRL_U: u8 = 21;
        const DELETE: u8 = 127;
        match key {
            b'\n' | b'\r' => return Pressed::Finished,
            CTRL_C => return Pressed::Interrupted,
            CTRL_D if self.bytes.is_empty() => return Pressed::Cancelled,
            CTRL_U => self.bytes.clear(),
            BACKSPACE | DELETE => {
                // A character of UTF-8 goes as a whole: its later bytes begin with the bits 10.
                while self.bytes.pop().is_some_and(|byte| byte & 0xC0 == 0x80) {}
            }
            control if control < 32 => return Pressed::Nothing,
            _ if self.bytes.len() == LINE_BYTES_MAX => return Pressed::Nothing,
            byte => {
                self.bytes.push(byte);
                return Pressed::Added;
            }
        }
        Pressed::Erased
    }

    fn finish(self) -> std::io::Result<Zeroizing<String>> {
        let text = std::str::from_utf8(&self.bytes);
        let invalid = |_| std::io::Error::new(std::io::ErrorKind::InvalidData, "what was typed is not UTF-8");
        Ok(Zeroizing::new(text.map_err(invalid)?.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(keys: &[u8]) -> (Pressed, String) {
        let mut line = Line::default();
        let last = keys.iter().map(|key| line.press(*key)).last().expect("a key");
        (last, line.finish().expect("text").to_string())
    }

    #[test]
    fn keys_edit_the_line_and_only_printing_ones_enter_it() {
        assert_eq!(typed(b"12\x7f3\x0845\n"), (Pressed::Finished, "145".to_owned()));
        assert_eq!(typed("1é\u{7f}2\r".as_bytes()), (Pressed::Finished, "12".to_owned()));
        assert_eq!(typed(b"wrong\x15right\n"), (Pressed::Finished, "right".to_owned()));
        assert_eq!(typed(b"\x1b1\t\x002\n"), (Pressed::Finished, "12".to_owned()));
        assert_eq!(typed(b"\x7f\x7f1"), (Pressed::Added, "1".to_owned()));
    }

    #[test]
    fn ctrl_c_interrupts_always_and_ctrl_d_cancels_an_empty_line() {
        assert_eq!(typed(b"12\x03").0, Pressed::Interrupted);
        assert_eq!(typed(b"\x04").0, Pressed::Cancelled);
        assert_eq!(typed(b"12\x04"), (Pressed::Nothing, "12".to_owned()));
    }

    #[test]
    fn what_is_typed_never_outgrows_its_place() {
        let mut line = Line::default();
        for _ in 0..2 * LINE_BYTES_MAX {
            line.press(b'1');
        }
        assert_eq!((line.bytes.len(), line.bytes.capacity()), (LINE_BYTES_MAX, LINE_BYTES_MAX));
    }
}
