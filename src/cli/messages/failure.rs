//! A failure that a command itself finds: what happened, what to do, and the exit code.
//!
//! Errors of the layers below keep their own types, and get exit code and advice from `cli/advice`. This type is
//! for what only the command line checks: a folder with foreign files, a mount point inside the vault.

use std::fmt;

use super::exit::Exit;

/// What happened, what to do next, and how the process ends.
#[derive(Debug)]
pub struct Failure {
    /// How the process ends.
    pub exit: Exit,
    /// What happened, without "passkeyfs:" in front.
    pub what: String,
    /// What to do.
    pub next: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.what)
    }
}

impl std::error::Error for Failure {}

/// A [`Failure`] as the error that commands return.
pub fn failure(exit: Exit, what: impl Into<String>, next: impl Into<String>) -> anyhow::Error {
    Failure { exit, what: what.into(), next: next.into() }.into()
}
