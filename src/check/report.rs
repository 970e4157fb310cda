//! What a check answers: the issues, what was looked at, and what is worth knowing besides.

use std::fmt;

use serde::Serialize;

use super::issue::{Issue, Severity};
use crate::format::{CommitId, CommitNumber, DeviceId, VaultId};
use crate::history::Head;

/// What a check found.
#[derive(Debug, Clone, Serialize)]
pub struct CheckReport {
    /// The vault.
    pub vault: VaultId,
    /// The commits that were checked: one, or one of each device that has diverged.
    pub commits: Vec<CheckedCommit>,
    /// What is wrong.
    pub issues: Vec<ListedIssue>,
    /// How many more issues there are than are listed.
    pub issues_not_listed: u64,
    /// The worst of all issues, listed or not.
    pub worst: Option<Severity>,
    /// What is no issue, but worth knowing.
    pub notes: Vec<Note>,
    /// What was looked at.
    pub summary: Summary,
}

/// A commit that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckedCommit {
    /// Whose.
    pub device: DeviceId,
    /// Its number.
    #[serde(serialize_with = "super::issue::as_number")]
    pub number: CommitNumber,
    /// Its id.
    pub id: CommitId,
    /// When it was made, in seconds since 1970.
    pub seconds: i64,
}

impl CheckedCommit {
    pub(super) fn of(head: &Head) -> Self {
        Self { device: head.device, number: head.page.number, id: head.page.id, seconds: head.page.seconds }
    }
}

/// An issue as reports list it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedIssue {
    /// How bad it is.
    pub severity: Severity,
    /// In words.
    pub message: String,
    /// In numbers.
    #[serde(flatten)]
    pub issue: Issue,
}

/// Something worth knowing that is no issue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Note {
    /// The local journal holds changes that are in no commit yet; they were not looked at.
    UnpublishedChanges {
        /// Frames of the journal.
        frames: u64,
    },
    /// Several devices have written at once: the state of each was checked by itself.
    Diverged {
        /// How many.
        devices: usize,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnpublishedChanges { .. } => {
                write!(formatter, "this device has changes that are not published yet; they are not part of this check")
            }
            Self::Diverged { devices } => {
                write!(formatter, "{devices} devices have written at once; the state of each was checked by itself")
            }
        }
    }
}

/// What was looked at. Where several commits were checked, their sums.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Inodes that are neither directories nor symlinks.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// The files' sizes.
    pub file_bytes: u64,
    /// Tree nodes and values that lie in blocks of their own.
    pub metadata_blocks: u64,
    /// Items whose meaning only a newer version knows. They are kept, and were not looked into.
    pub kept_items: u64,
    /// Blocks of content in segments. One that several files share counts once where content was read, else for each of them.
    pub content_blocks: u64,
    /// How many of them were read and found to be what was written.
    pub content_blocks_verified: u64,
    /// Their bytes, as stored.
    pub content_bytes_verified: u64,
    /// Segments that something points into.
    pub segments_in_use: u64,
    /// Segments in the folder that nothing points into.
    pub segments_unreferenced: u64,
    /// Their bytes.
    pub segments_unreferenced_bytes: u64,
}

impl CheckReport {
    pub(super) fn new(vault: VaultId) -> Self {
        Self {
            vault,
            commits: Vec::new(),
            issues: Vec::new(),
            issues_not_listed: 0,
            worst: None,
            notes: Vec::new(),
            summary: Summary::default(),
        }
    }

    /// Whether nothing but warnings was found.
    pub fn is_clean(&self) -> bool {
        self.worst.is_none_or(|worst| worst == Severity::Warning)
    }
}

/// Issues as they are found.
pub(super) struct Findings {
    issues: Vec<Issue>,
    issues_max: usize,
    not_listed: u64,
    worst: Option<Severity>,
    once: bool,
}

impl Findings {
    pub fn new(issues_max: usize) -> Self {
        Self { issues: Vec::new(), issues_max, not_listed: 0, worst: None, once: false }
    }

    /// From here on an issue that is listed already is not listed again.
    pub fn list_once(&mut self) {
        self.once = true;
    }

    pub fn add(&mut self, issue: Issue) {
        if self.once && self.issues.contains(&issue) {
            return;
        }
        self.worst = self.worst.max(Some(issue.severity()));
        if self.issues.len() < self.issues_max {
            self.issues.push(issue);
        } else {
            self.not_listed += 1;
        }
    }

    pub fn finish(self, report: &mut CheckReport) {
        report.worst = self.worst;
        report.issues_not_listed = self.not_listed;
        let listed = |issue: Issue| ListedIssue { severity: issue.severity(), message: issue.to_string(), issue };
        report.issues = self.issues.into_iter().map(listed).collect();
    }
}
