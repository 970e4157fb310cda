//! `passkeyfs doctor`: what on this machine, and in a vault's folder, would keep passkeyfs from working.
//!
//! One finding is one small function: of the machine in `doctor_machine.rs`, of the keys in `doctor_keys.rs`, of a vault's
//! folder in `doctor_vault.rs`. Nothing is changed, no PIN is asked for, no key has to be touched. Exit code 1 when there is
//! a problem; a warning is something that may be wanted so.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Serialize;

use super::args::DoctorArguments;
use super::exit::Exit;
use super::{doctor_keys, doctor_machine, doctor_vault, output};
use crate::store::{Clock, SystemClock};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// Something will not work, or not as well, that may not be wanted.
    Warning,
    /// passkeyfs does not work like this.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub about: &'static str,
    /// How bad it is.
    pub grade: Grade,
    /// What was found.
    pub found: String,
    /// What to do, unless all is well.
    pub next: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(about: &'static str, found: impl Into<String>) -> Self {
        Self { about, grade: Grade::Ok, found: found.into(), next: None }
    }

    /// Something may be amiss.
    pub fn warning(about: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { about, grade: Grade::Warning, found: found.into(), next: Some(next.into()) }
    }

    /// It does not work like this.
    pub fn problem(about: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { about, grade: Grade::Problem, found: found.into(), next: Some(next.into()) }
    }
}

/// The machine, or a folder that plays one in a test.
#[derive(Debug, Clone)]
pub struct Machine {
    /// `/`
    pub root: PathBuf,
    /// Whether this is root, who needs neither helper nor rules.
    pub is_root: bool,
    /// The user's home.
    pub home: Option<PathBuf>,
}

impl Machine {
    /// The one that this runs on.
    pub fn this() -> Self {
        let is_root = nix::unistd::geteuid().is_root();
        Self { root: PathBuf::from("/"), is_root, home: super::service_config::home() }
    }

    /// Where an absolute path lies.
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// The first of these that exists.
    pub fn first_of(&self, absolute: &[&str]) -> Option<PathBuf> {
        absolute.iter().map(|path| self.path(path)).find(|path| path.exists())
    }
}

/// Runs the command.
pub fn run(arguments: &DoctorArguments) -> anyhow::Result<Exit> {
    let findings = examine(&Machine::this(), arguments.vault.as_deref());
    if arguments.json {
        output::print_json(&findings)?;
    } else {
        output::print(&describe(&findings))?;
    }
    let is_well = findings.iter().all(|finding| finding.grade != Grade::Problem);
    Ok(if is_well { Exit::Done } else { Exit::Failed })
}

/// The time, in seconds since 1970.
pub fn now_seconds() -> i64 {
    let since_1970 = SystemClock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX)
}

fn examine(machine: &Machine, vault: Option<&Path>) -> Vec<Finding> {
    let mut findings = doctor_machine::examine(machine);
    findings.extend(doctor_keys::examine(machine));
    findings.extend(vault.map(|folder| doctor_vault::examine(folder, machine.home.as_deref())).unwrap_or_default());
    findings
}

fn describe(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { about, grade, found, next } in findings {
        let grade = match grade {
            Grade::Ok => "ok",
            Grade::Warning => "warning",
            Grade::Problem => "PROBLEM",
        };
        let _ = writeln!(text, "{grade:<8} {about:<16} {found}");
        if let Some(next) = next {
            let _ = writeln!(text, "{:<25} {next}", "");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_well_comes_with_what_to_do() {
        let findings = [Finding::ok("clock", "it is noon"), Finding::problem("fuse", "missing", "modprobe fuse")];
        let expected = "ok       clock            it is noon\nPROBLEM  fuse             missing\n                          modprobe fuse\n";
        assert_eq!(describe(&findings), expected);
    }
}
