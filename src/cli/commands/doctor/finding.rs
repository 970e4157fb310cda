//! One finding of the doctor, and the machine that is examined.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;

use crate::cli::serving::service_config::home;
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
        Self { root: PathBuf::from("/"), is_root, home: home() }
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

/// The time, in seconds since 1970.
pub fn now_seconds() -> i64 {
    let since_1970 = SystemClock.now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX)
}
