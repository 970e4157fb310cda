//! The journal thread: writes to the journal what has changed, within 100 ms, so that it outlives this process.
//!
//! While changes go on, they are gathered for 100 ms: one frame holds them all, and what is overwritten meanwhile is written
//! once. When none has come for a few milliseconds, the frame is written at once. Nothing is synced here: that is for
//! `fsync`, and for the publisher every five seconds.

use std::sync::Weak;
use std::time::Duration;

use super::journal_writer::JournalWriter;

/// The longest time that a change is in memory only.
const GATHER_MAX: Duration = Duration::from_millis(100);
/// How often changes are looked for while there are some: when none has come since the last look, they are written.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// How long the thread waits after a failure.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// How long the thread sleeps at the most: it ends with the volume.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// When to write next.
#[derive(Debug, Default)]
struct Pace {
    /// The count of changes at the last look.
    seen_changes: u64,
    /// When the first of those that are not written was seen.
    since: Option<Duration>,
}

impl Pace {
    /// Whether what has changed is to be written now.
    fn is_due(&mut self, now: Duration, changes: u64, is_urgent: bool) -> bool {
        let is_quiet = self.since.is_some() && changes == self.seen_changes;
        self.seen_changes = changes;
        let since = *self.since.get_or_insert(now);
        let is_due = is_quiet || is_urgent || now >= since + GATHER_MAX;
        if is_due {
            self.since = None;
        }
        is_due
    }
}

/// Writes changes until the volume is closed.
pub(crate) fn run(journal: &Weak<JournalWriter>) {
    let mut pace = Pace::default();
    while let Some(journal) = journal.upgrade() {
        let layers = journal.layers();
        let alarm = &layers.alarm;
        let is_stopping = || layers.budget.is_stopping();
        if is_stopping() {
            return;
        }
        alarm.await_change();
        let Some(changes) = journal.unwritten_changes() else {
            pace = Pace::default();
            alarm.sleep(SLEEP_MAX, || is_stopping() || !alarm.is_awaiting());
            continue;
        };
        alarm.awake();
        let is_urgent = alarm.take_urgency();
        if !pace.is_due(layers.clock.monotonic(), changes, is_urgent) {
            alarm.sleep(LOOK_INTERVAL, || is_stopping() || alarm.is_urgent());
        } else if let Err(error) = journal.write_out() {
            layers.warnings.add(format!("the journal could not be written: {error}"));
            alarm.sleep(RETRY_INTERVAL, is_stopping);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn changes_that_go_on_are_written_every_hundred_milliseconds() {
        let mut pace = Pace::default();
        let due: Vec<u64> = (0..400).filter(|now| pace.is_due(at(*now), *now, false)).collect();
        assert_eq!(due, [100, 201, 302]);
    }

    #[test]
    fn changes_are_written_when_no_more_come() {
        let mut pace = Pace::default();
        assert!(!pace.is_due(at(0), 7, false));
        assert!(!pace.is_due(at(5), 8, false));
        assert!(pace.is_due(at(10), 8, false));
    }

    #[test]
    fn what_is_urgent_is_written_now() {
        assert!(Pace::default().is_due(at(0), 1, true));
    }
}
