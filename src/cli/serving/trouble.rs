//! Tells the user of a mounted vault that publishing fails for a long time, or that the vault has become read-only.
//!
//! Programs see no error while the vault folder is full or gone: the journal takes the changes. So a thread checks the
//! volume periodically and reports each failure once: in the log, in the status of the service, and as a desktop
//! notification.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::cli::messages::output::shell_word;
use crate::unlock::{set_service_status, show_on_desktop, spawn_shielded};
use crate::volume::{Trouble, Volume};

/// How long publishing may fail before the user is told, unless the options say it.
pub const PATIENCE: Duration = Duration::from_secs(600);
/// The longest time between two checks.
const INTERVAL_MAX: Duration = Duration::from_secs(10);

/// Starts the thread, which ends with the volume. `knows_read_only`: the user asked for read-only, or was told.
pub fn watch(
    volume: &Arc<Volume>,
    mountpoint: &Path,
    patience: Option<Duration>,
    knows_read_only: bool,
) -> anyhow::Result<()> {
    let (volume, mountpoint) = (Arc::downgrade(volume), mountpoint.to_owned());
    let alarm = Alarm { patience: patience.unwrap_or(PATIENCE), knows_read_only, ..Alarm::default() };
    spawn_shielded("trouble", move || run(&volume, &mountpoint, alarm)).context("cannot start a thread")?;
    Ok(())
}

fn run(volume: &Weak<Volume>, mountpoint: &Path, mut alarm: Alarm) {
    let interval = (alarm.patience / 4).clamp(Duration::from_millis(200), INTERVAL_MAX);
    let show = mountpoint.display();
    loop {
        std::thread::sleep(interval);
        let Some(trouble) = volume.upgrade().map(|volume| volume.trouble()) else { return };
        match alarm.look(Instant::now(), trouble) {
            Some(News::Begins(trouble)) => {
                let (summary, reason) = match trouble {
                    Trouble::ReadOnly(reason) => ("Nothing can be written to the vault", reason),
                    Trouble::NotPublished(reason) => ("Changes do not reach the vault folder", reason),
                };
                let next = format!("passkeyfs status {}", shell_word(mountpoint));
                log::error!("{show}: {summary}: {reason}");
                set_service_status(&format!("{summary}: {reason}"));
                show_on_desktop(&format!("passkeyfs: {summary}"), &format!("{show}: {reason}. See: {next}"));
            }
            Some(News::IsOver) => {
                log::info!("{show}: changes reach the vault folder again");
                set_service_status(&format!("mounted on {show}"));
            }
            None => {}
        }
    }
}

/// What the user is told.
#[derive(Debug, PartialEq, Eq)]
enum News {
    Begins(Trouble),
    IsOver,
}

/// The failures seen and reported so far.
#[derive(Debug, Default)]
struct Alarm {
    patience: Duration,
    knows_read_only: bool,
    failing_since: Option<Instant>,
    is_told: bool,
}

impl Alarm {
    fn look(&mut self, now: Instant, trouble: Option<Trouble>) -> Option<News> {
        let trouble = trouble.filter(|trouble| !(self.knows_read_only && matches!(trouble, Trouble::ReadOnly(_))));
        let Some(trouble) = trouble else {
            self.failing_since = None;
            return std::mem::take(&mut self.is_told).then_some(News::IsOver);
        };
        let since = *self.failing_since.get_or_insert(now);
        let is_due = matches!(trouble, Trouble::ReadOnly(_)) || now.duration_since(since) >= self.patience;
        if self.is_told || !is_due {
            return None;
        }
        self.is_told = true;
        Some(News::Begins(trouble))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing() -> Option<Trouble> {
        Some(Trouble::NotPublished("the disk is full".to_owned()))
    }

    #[test]
    fn a_failure_to_publish_is_told_once_when_it_has_lasted_and_its_end_as_well() {
        let mut alarm = Alarm { patience: Duration::from_secs(600), ..Alarm::default() };
        let start = Instant::now();
        let at = |minutes: u64| start + Duration::from_secs(60 * minutes);
        assert_eq!(alarm.look(at(0), failing()), None);
        assert_eq!(alarm.look(at(9), failing()), None);
        assert_eq!(alarm.look(at(10), failing()), failing().map(News::Begins));
        assert_eq!(alarm.look(at(11), failing()), None);
        assert_eq!(alarm.look(at(12), None), Some(News::IsOver));
        assert_eq!(alarm.look(at(13), None), None);
        // A new failure has its own time.
        assert_eq!(alarm.look(at(14), failing()), None);
        assert_eq!(alarm.look(at(24), failing()), failing().map(News::Begins));
    }

    #[test]
    fn a_volume_that_takes_no_changes_is_told_at_once_unless_the_user_knows_it() {
        let read_only = || Some(Trouble::ReadOnly("the disk failed".to_owned()));
        let mut alarm = Alarm { patience: PATIENCE, ..Alarm::default() };
        assert_eq!(alarm.look(Instant::now(), read_only()), read_only().map(News::Begins));
        let mut alarm = Alarm { patience: PATIENCE, knows_read_only: true, ..Alarm::default() };
        assert_eq!(alarm.look(Instant::now(), read_only()), None);
    }
}
