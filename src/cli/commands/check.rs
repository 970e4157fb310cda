//! `passkeyfs check`: reads the published state of a vault and lists damage and missing files.
//!
//! The report goes to standard output, and ends with a verdict; the exit code says the same. Progress is drawn on standard
//! error, and only where that is a terminal.

use std::collections::BTreeSet;
use std::fmt::Write;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::check::{CheckOptions, CheckReport, Progress, Severity, check_vault, count};
use crate::cli::advice;
use crate::cli::messages::dates::format_seconds;
use crate::cli::messages::exit::Exit;
use crate::cli::messages::failure::failure;
use crate::cli::messages::output;
use crate::cli::options::args::CheckArguments;
use crate::cli::options::size::format_size;
use crate::cli::vault_place::vault::{VaultPlace, open_keys};

/// Runs the command.
pub fn run(arguments: &CheckArguments) -> anyhow::Result<Exit> {
    let place = VaultPlace::find(&arguments.vault)?;
    let unlocked = place.unlock(&arguments.authenticator.unlocking())?;
    let options = CheckOptions { data_percent: arguments.data, ..CheckOptions::default() };
    let mut shown = ShownProgress::new();
    let checked =
        check_vault(&place.environment(), open_keys(unlocked), &options, &mut |progress| shown.update(progress));
    shown.bar.finish_and_clear();
    let report = checked?;
    let verdict = verdict(&report, arguments.data);
    let outcome = outcome(report.worst, &verdict);
    if arguments.json {
        let exit = outcome.as_ref().map_or_else(|error| advice::of(error).exit, |exit| *exit);
        output::print_json(&JsonReport { report: &report, verdict: &verdict, exit_code: exit.code() })?;
    } else {
        output::print(&format!("{}{verdict}\n", describe(&report, arguments.data.is_some())))?;
    }
    outcome
}

/// The report as `--json` prints it.
#[derive(Serialize)]
struct JsonReport<'a> {
    #[serde(flatten)]
    report: &'a CheckReport,
    verdict: &'a str,
    exit_code: u8,
}

/// The result of the check, in one line.
fn verdict(report: &CheckReport, data_percent: Option<u8>) -> String {
    let issues = count(report.issues.len() as u64 + report.issues_not_listed, "issue");
    match report.worst {
        None | Some(Severity::Warning) => {
            let content = match data_percent {
                None => "; contents were not read (--data verifies them)".to_owned(),
                Some(100..) => String::new(),
                Some(percent) => format!("; {percent} % of the contents were read"),
            };
            format!("no damage found; everything has arrived{content}")
        }
        Some(Severity::Damage) => {
            let damage = report.issues.iter().filter(|listed| listed.severity == Severity::Damage);
            let hit: BTreeSet<_> = damage.filter_map(|listed| listed.issue.path()).collect();
            let place = if hit.is_empty() { "the metadata".to_owned() } else { count(hit.len() as u64, "file") };
            format!("damage found in {place} ({issues})")
        }
        Some(Severity::Newer) => format!("a newer version of passkeyfs wrote parts of the vault ({issues})"),
        Some(Severity::Rollback) => format!("the folder is older than what this device has seen ({issues})"),
        Some(Severity::NotArrived) => format!("not everything has arrived ({issues})"),
    }
}

/// Issues, notes and summary, a line each.
fn describe(report: &CheckReport, with_content: bool) -> String {
    let mut text = String::new();
    for listed in &report.issues {
        let _ = writeln!(text, "{}: {}", listed.severity, listed.message);
    }
    if report.issues_not_listed > 0 {
        let _ = writeln!(text, "and {} more", count(report.issues_not_listed, "issue"));
    }
    for note in &report.notes {
        let _ = writeln!(text, "note: {note}");
    }
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<12} {value}");
    };
    for commit in &report.commits {
        let made = format_seconds(commit.seconds);
        line("checked", format!("device {}, commit {}, {made}", commit.device, commit.number.0));
    }
    let summary = &report.summary;
    line("files", format!("{} ({})", summary.files, format_size(summary.file_bytes)));
    line("directories", summary.directories.to_string());
    line("symlinks", summary.symlinks.to_string());
    line("metadata", format!("blocks verified: {}", summary.metadata_blocks));
    if summary.kept_items > 0 {
        line("not known", format!("{} of a newer version, kept", count(summary.kept_items, "item")));
    }
    let (blocks, verified) = (summary.content_blocks, summary.content_blocks_verified);
    let content = match with_content {
        true => format!("blocks verified: {verified} of {blocks} ({})", format_size(summary.content_bytes_verified)),
        false => format!("not read: --data verifies {}", count(blocks, "block")),
    };
    line("content", content);
    let (unused, bytes) = (summary.segments_unreferenced, format_size(summary.segments_unreferenced_bytes));
    line("segments", format!("{} in use, {unused} not ({bytes})", summary.segments_in_use));
    text
}

/// The worst severity as an exit code, or as a failure with what to do.
fn outcome(worst: Option<Severity>, verdict: &str) -> anyhow::Result<Exit> {
    match worst {
        None | Some(Severity::Warning) => Ok(Exit::Done),
        Some(Severity::Damage) => Err(failure(
            Exit::Damage,
            verdict,
            "Bring the files that are named back from the sync client's older versions or from another device, then check \
             again. What is not named can be read.",
        )),
        Some(Severity::Newer) => Err(failure(Exit::NotVault, verdict, advice::NEWER_VERSION)),
        Some(Severity::Rollback) => Err(failure(
            Exit::Rollback,
            verdict,
            "Let the sync client bring what is missing. Should it be gone for good, `passkeyfs mount -o accept-rollback` goes \
             on with what is here.",
        )),
        Some(Severity::NotArrived) => Err(failure(
            Exit::NotArrived,
            verdict,
            "Let the sync client finish, then check again. If it has finished, the files that are named are lost in the \
             folder: bring them back from the client's trash, its older versions or another device.",
        )),
    }
}

/// A bar for each phase; hidden unless standard error is a terminal.
struct ShownProgress {
    bar: ProgressBar,
    is_content: bool,
}

impl ShownProgress {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_message("metadata");
        Self { bar, is_content: false }
    }

    fn update(&mut self, progress: Progress) {
        match progress {
            Progress::Metadata { inodes, inodes_total } => {
                if let Some(total) = inodes_total {
                    self.bar.set_style(style("{msg} {bar:30} {pos}/{len} inodes"));
                    self.bar.set_length(total.max(inodes));
                }
                self.bar.set_position(inodes);
            }
            Progress::Content { blocks, blocks_total } => {
                if !self.is_content {
                    self.is_content = true;
                    self.bar.set_message("content ");
                    self.bar.set_style(style("{msg} {bar:30} {pos}/{len} blocks, {eta} left"));
                }
                self.bar.set_length(blocks_total.max(blocks));
                self.bar.set_position(blocks);
            }
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_says_the_worst() {
        for (worst, exit) in [
            (None, Exit::Done),
            (Some(Severity::Warning), Exit::Done),
            (Some(Severity::NotArrived), Exit::NotArrived),
            (Some(Severity::Rollback), Exit::Rollback),
            (Some(Severity::Newer), Exit::NotVault),
            (Some(Severity::Damage), Exit::Damage),
        ] {
            let ended = outcome(worst, "words").unwrap_or_else(|error| advice::of(&error).exit);
            assert_eq!(ended, exit, "{worst:?}");
        }
    }
}
