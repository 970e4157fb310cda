//! Selects how the user of this process is asked and told.
//!
//! [`user_interaction`] asks by the first of these that is available:
//!
//! 1. a systemd credential, where the service manager passed the one that is asked for;
//! 2. the terminal, when standard input is one;
//! 3. the program `$PASSKEYFS_ASKPASS`;
//! 4. the controlling terminal, where there is one though standard input is something else;
//! 5. on a desktop the program `$SSH_ASKPASS`, or `ssh-askpass`;
//! 6. `systemd-ask-password`.
//!
//! A waiting touch is announced on the terminal (or in the log where there is none), in the service's status, and on the
//! desktop.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use super::askpass::{Askpass, SystemdAskPassword};
use super::desktop::DesktopNotification;
use super::interaction::{Asker, Interaction, StatusNotifier, User};
use super::status_notifiers::{LogNotifier, ServiceStatus};
use super::systemd_credentials::SystemdCredentials;
use super::terminal::{self, Terminal};

/// What a desktop brings to ask for passwords with, by the name that all distributions have for it.
const DESKTOP_ASKPASS: &str = "ssh-askpass";

/// The ways to reach whoever started this process.
pub fn user_interaction() -> Box<dyn Interaction> {
    let has_terminal = terminal::is_there();
    let mut notifiers: Vec<Box<dyn StatusNotifier>> = vec![Box::new(ServiceStatus)];
    notifiers.push(if has_terminal { Box::new(Terminal) } else { Box::new(LogNotifier) });
    if let Some(desktop) = DesktopNotification::where_there_is_a_bus() {
        notifiers.push(Box::new(desktop));
    }
    Box::new(User::new(asker(has_terminal), notifiers))
}

fn asker(has_terminal: bool) -> Box<dyn Asker> {
    let somebody = ask_somebody(has_terminal);
    match set("CREDENTIALS_DIRECTORY") {
        Some(folder) => Box::new(SystemdCredentials::new(Path::new(&folder), somebody)),
        None => somebody,
    }
}

fn ask_somebody(has_terminal: bool) -> Box<dyn Asker> {
    if has_terminal && std::io::stdin().is_terminal() {
        return Box::new(Terminal);
    }
    if let Some(program) = set("PASSKEYFS_ASKPASS") {
        return Box::new(Askpass { program: program.into() });
    }
    if has_terminal {
        return Box::new(Terminal);
    }
    let is_desktop = set("WAYLAND_DISPLAY").or_else(|| set("DISPLAY")).is_some();
    match is_desktop.then(|| set("SSH_ASKPASS").map(PathBuf::from).or_else(|| on_path(set("PATH")?))).flatten() {
        Some(program) => Box::new(Askpass { program }),
        None => Box::new(SystemdAskPassword),
    }
}

fn set(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn on_path(path: OsString) -> Option<PathBuf> {
    std::env::split_paths(&path).map(|folder| folder.join(DESKTOP_ASKPASS)).find(|program| program.is_file())
}
