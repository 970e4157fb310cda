//! What was passed over when the newest commits were looked for, in words: files that are of no use, folders that cannot be
//! listed. Names cost nothing, so of each kind a few are told apart and the rest is counted.

use crate::history::AcceptedHeads;
use crate::segments::{Segments, UnlistedFolder};

/// How many files of a kind are named in warnings; the others are counted.
const LISTED_MAX: usize = 20;

/// Files and folders that are of no use, each in a line as long as they are few.
pub(super) fn describe_passed_over(segments: &Segments, accepted: &AcceptedHeads) -> Vec<String> {
    let mut lines = few(accepted.refused.iter().map(ToString::to_string), "commits are passed over");
    lines.extend(few(accepted.heads.unopened.iter().map(ToString::to_string), "commits cannot be read here"));
    let awaited = accepted
        .heads
        .awaited
        .iter()
        .map(|(device, sequence, error)| format!("commit {sequence} of device {device} cannot be used: {error}"));
    lines.extend(few(awaited, "commits cannot be used"));
    let more: usize = accepted.heads.awaited_more.values().sum();
    if more > 0 {
        lines.push(format!("{more} more files that bear the names of commits cannot be used"));
    }
    let unlisted = segments.ledger().unlisted();
    lines.extend(few(unlisted.iter().map(describe_unlisted), "folders cannot be listed"));
    lines
}

fn describe_unlisted(folder: &UnlistedFolder) -> String {
    format!("what lies in the folder is not seen, as if it had not arrived: {}", folder.problem)
}

/// The first lines, and how many there are besides.
fn few(mut lines: impl Iterator<Item = String>, more: &str) -> Vec<String> {
    let mut listed: Vec<String> = lines.by_ref().take(LISTED_MAX).collect();
    let left = lines.count();
    listed.extend((left > 0).then(|| format!("{left} more {more}")));
    listed
}

/// Why nothing should be written while a folder cannot be listed, if so.
pub(super) fn unlisted_doubt(segments: &Segments) -> Option<String> {
    let unlisted = segments.ledger().unlisted().into_iter().next()?;
    Some(format!("{}, so a newer commit may lie there (make the folder readable)", unlisted.problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_lines_the_first_are_told_and_the_rest_is_counted() {
        let lines = |count: usize| few((0..count).map(|number| number.to_string()), "of them");
        assert_eq!(lines(LISTED_MAX).len(), LISTED_MAX);
        let told = lines(LISTED_MAX + 5);
        assert_eq!((told.len(), told.last().map(String::as_str)), (LISTED_MAX + 1, Some("5 more of them")));
    }
}
