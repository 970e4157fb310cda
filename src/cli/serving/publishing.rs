//! Asks a daemon to publish, and shows on a terminal how much is left.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::check::count;
use crate::cli::messages::output;
use crate::cli::options::size::format_size;
use crate::mount::{ControlError, request_publish, request_status};

/// A publish that takes less time shows nothing.
const PATIENCE: Duration = Duration::from_secs(1);
/// After this time a terminal that cannot redraw lines gets one line.
const LINE_AFTER: Duration = Duration::from_secs(5);
/// How often the daemon is asked how much is left.
const INTERVAL: Duration = Duration::from_millis(500);

/// Asks the daemon to publish everything, and shows the progress.
pub fn publish(mountpoint: &Path) -> Result<(), ControlError> {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    if bar.is_hidden() && !std::io::stderr().is_terminal() {
        return request_publish(mountpoint);
    }
    let style = ProgressStyle::with_template("{spinner} publishing{msg} ({elapsed})");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    let (done, ended) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let ended = ended;
            if ended.recv_timeout(PATIENCE) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            if bar.is_hidden() {
                if ended.recv_timeout(LINE_AFTER) == Err(RecvTimeoutError::Timeout) {
                    output::notice(&format!("publishing what was written to {}", mountpoint.display()));
                }
                return;
            }
            // Drawn by another thread, because the daemon may be slow to answer.
            bar.enable_steady_tick(INTERVAL / 2);
            while ended.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                if let Ok(status) = request_status(mountpoint) {
                    bar.set_message(left(status.volume.dirty_bytes, status.volume.unpublished_items));
                }
            }
        });
        let published = request_publish(mountpoint);
        drop(done);
        bar.finish_and_clear();
        published
    })
}

fn left(dirty_bytes: u64, items: u64) -> String {
    match (dirty_bytes, items) {
        (0, 0) => String::new(),
        (0, items) => format!(": {} left", count(items, "item")),
        (bytes, items) => format!(": {} and {} left", format_size(bytes), count(items, "item")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_said_in_bytes_and_items() {
        assert_eq!((left(0, 0).as_str(), left(0, 1).as_str()), ("", ": 1 item left"));
        assert_eq!(left(1 << 20, 2), ": 1.00 MiB and 2 items left");
    }
}
