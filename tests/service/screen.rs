//! A terminal as a person has it before them.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};

use super::rig::{Rig, Running, wait_for};

/// A terminal, with the program in front of it.
pub struct Screen {
    keyboard: File,
    line: File,
    shown: Arc<Mutex<String>>,
    pub program: Running,
}

impl Screen {
    pub fn with(rig: &Rig, arguments: &[&str]) -> Self {
        let mut command = rig.command_under("/usr/bin/setsid", &["--ctty", "--wait"]);
        Self::of(rig, command.args(arguments).arg(rig.vault()))
    }

    /// A command that makes a session of its own, with this terminal as the controlling one.
    pub fn of(rig: &Rig, command: &mut Command) -> Self {
        let terminal = openpty(None, None).expect("a terminal");
        let (keyboard, line) = (File::from(terminal.master), File::from(terminal.slave));
        let end = || Stdio::from(line.try_clone().expect("a copy"));
        command.stdin(end()).stdout(end()).stderr(end());
        let program = Running::start(rig, command);
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut screen, text) = (keyboard.try_clone().expect("a copy"), shown.clone());
        std::thread::spawn(move || {
            let mut piece = [0; 1024];
            while let Ok(length @ 1..) = screen.read(&mut piece) {
                text.lock().expect("unhurt").push_str(&String::from_utf8_lossy(&piece[..length]));
            }
        });
        Self { keyboard, line, shown, program }
    }

    pub fn text(&self) -> String {
        self.shown.lock().expect("unhurt").clone()
    }

    pub fn shows(&self, words: &str) -> bool {
        self.text().contains(words)
    }

    pub fn wait_for_words(&self, words: &str) {
        assert!(wait_for(|| self.shows(words)), "{words} is not in {:?}", self.text());
    }

    pub fn type_keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("typed");
    }

    pub fn is_as_before(&self) -> bool {
        let flags = tcgetattr(&self.line).expect("settings").local_flags;
        flags.contains(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG)
    }
}
