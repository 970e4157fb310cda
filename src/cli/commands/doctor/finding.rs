//! One finding of the doctor, and the machine that is examined.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;

use crate::cli::serving::service_config::home;
use crate::store::{Clock, SystemClock};

/// How serious a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// Something does not work, or not well, that the user may not need.
    Warning,
    /// passkeyfs does not work.
    Problem,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was checked.
    pub about: &'static str,
    /// How serious a finding is.
    pub grade: Grade,
    /// What was found.
    pub found: String,
    /// What to do, unless the grade is ok.
    pub next: Option<String>,
}

impl Finding {
    /// A finding without a problem.
    pub fn ok(about: &'static str, found: impl Into<String>) -> Self {
        Self { about, grade: Grade::Ok, found: found.into(), next: None }
    }

    /// A finding that may be a problem.
    pub fn warning(about: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { about, grade: Grade::Warning, found: found.into(), next: Some(next.into()) }
    }

    /// A finding that is a problem.
    pub fn problem(about: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { about, grade: Grade::Problem, found: found.into(), next: Some(next.into()) }
    }
}

/// The machine, or in tests a folder that stands for one.
#[derive(Debug, Clone)]
pub struct Machine {
    /// `/`
    pub root: PathBuf,
    /// Whether the user is root, who needs neither helper nor udev rules.
    pub is_root: bool,
    /// The user's home.
    pub home: Option<PathBuf>,
}

impl Machine {
    /// The machine that this runs on.
    pub fn this() -> Self {
        let is_root = nix::unistd::geteuid().is_root();
        Self { root: PathBuf::from("/"), is_root, home: home() }
    }

    /// The path below `root` for an absolute path.
    pub fn path(&self, absolute: &str) -> PathBuf {
        self.root.join(absolute.trim_start_matches('/'))
    }

    /// The first of these that exists.
    pub fn first_of(&self, absolute: &[&str]) -> Option<PathBuf> {
        absolute.iter().map(|path| self.path(path)).find(|path| path.exists())
    }
}

/// The time, in seconds since 1970.
pub fn now_seconds() -> i64 {
    let since_1970 = SystemClock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX)
}
