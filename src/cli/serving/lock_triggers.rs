//! What ends a mount while it is served: signals, removal of the key, sleep, idleness.
//!
//! Each has a thread that waits and then calls [`Shutdown`]. [`LockTriggers::prepare`] is called before the user is asked
//! for a PIN, so that a trigger that is not available is reported first.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::shutdown::{Reason, Shutdown};
use super::sleep::SleepWatch;
use crate::cli::messages::output;
use crate::cli::options::mount_options::MountChoices;
use crate::mount::UseCount;

/// The triggers that the options ask for.
pub struct LockTriggers {
    sleep: Option<SleepWatch>,
    removal: bool,
    idle: Option<Duration>,
}

impl LockTriggers {
    /// Prepares the triggers.
    ///
    /// # Errors
    /// If one of them is not available.
    pub fn prepare(choices: &MountChoices) -> anyhow::Result<Self> {
        let sleep = if choices.lock_on_suspend { Some(SleepWatch::connect()?) } else { None };
        Ok(Self { sleep, removal: choices.lock_on_removal, idle: choices.idle })
    }

    /// Starts the threads. `signals` are caught since before the mount; `device` is the key that unlocked it.
    pub fn start(
        self,
        signals: Signals,
        device: Option<&Path>,
        uses: UseCount,
        shutdown: &Arc<Shutdown>,
    ) -> anyhow::Result<()> {
        let name = |signal| signal_hook::low_level::signal_name(signal).unwrap_or("a signal");
        let shared = shutdown.clone();
        spawn("signals", move || watch_signals(signals, |signal| shared.end(Reason::Signal(name(signal)))))?;
        match device {
            Some(device) if self.removal => {
                let removal = RemovalWatch::begin(device)
                    .with_context(|| format!("cannot watch for the removal of {}", device.display()))?;
                let shared = shutdown.clone();
                spawn("removal", move || {
                    if removal.wait() {
                        shared.end(Reason::KeyRemoved)
                    }
                })?;
            }
            None if self.removal => output::notice(
                "lock-on-removal does nothing here: what unlocked the vault cannot be pulled out\nMount with a key for it.",
            ),
            _ => {}
        }
        if let Some(sleep) = self.sleep {
            let shared = shutdown.clone();
            spawn("sleep", move || sleep.wait(&shared))?;
        }
        if let Some(period) = self.idle {
            let shared = shutdown.clone();
            spawn("idle", move || watch_idleness(&uses, period, &shared))?;
        }
        Ok(())
    }
}

/// Catches the signals that end the daemon: from now on they are queued.
pub fn catch_signals() -> anyhow::Result<Signals> {
    Signals::new([SIGTERM, SIGINT, SIGHUP]).context("cannot watch for signals")
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> anyhow::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).context("cannot start a thread")?;
    Ok(())
}

/// A second signal tries again if the first did not end the mount.
fn watch_signals(mut signals: Signals, end: impl Fn(i32)) {
    signals.forever().for_each(end);
}

/// Waits until a path is removed.
struct RemovalWatch {
    inotify: Inotify,
    device: PathBuf,
}

impl RemovalWatch {
    /// Watches the folder of the device. If the device is gone already, [`wait`](Self::wait) returns at once.
    fn begin(device: &Path) -> nix::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC)?;
        let folder = device.parent().unwrap_or(Path::new("/"));
        let gone = AddWatchFlags::IN_DELETE | AddWatchFlags::IN_MOVED_FROM | AddWatchFlags::IN_DELETE_SELF;
        inotify.add_watch(folder, gone | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_ONLYDIR)?;
        Ok(Self { inotify, device: device.to_owned() })
    }

    /// True if it was removed; false if that can no longer be observed.
    fn wait(self) -> bool {
        // A key that is plugged in again at once has the same path: so the event counts, not whether the path exists.
        while self.device.exists() {
            match self.inotify.read_events() {
                Ok(events) => {
                    let its_name = self.device.file_name();
                    if events.iter().any(|event| event.name.as_deref() == its_name || event.name.is_none()) {
                        return true;
                    }
                }
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => {
                    log::error!("the removal of {} is no longer seen: {error}", self.device.display());
                    return false;
                }
            }
        }
        true
    }
}

/// Detaches the mount when it was not used for `period`. While a file is open or a working directory is in it, it stays.
fn watch_idleness(uses: &UseCount, period: Duration, shutdown: &Shutdown) {
    let step = (period / 8).clamp(Duration::from_millis(100), Duration::from_secs(10));
    let (mut seen, mut since) = (uses.count(), Instant::now());
    loop {
        std::thread::sleep(step);
        let count = uses.count();
        if count != seen {
            (seen, since) = (count, Instant::now());
        } else if since.elapsed() >= period {
            if shutdown.unmount_if_idle() {
                return log::info!("idle for {} s: unmounting", period.as_secs());
            }
            since = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_removal_of_the_device_is_seen_and_that_of_its_neighbours_is_not() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (device, other) = (folder.path().join("hidraw0"), folder.path().join("hidraw1"));
        for path in [&device, &other] {
            std::fs::write(path, "").expect("made");
        }
        let watch = RemovalWatch::begin(&device).expect("watched");
        let waiting = std::thread::spawn(move || watch.wait());
        std::fs::remove_file(&other).expect("removed");
        // A file that is replaced is still there.
        std::fs::write(&other, "").expect("made");
        std::fs::rename(&other, &device).expect("replaced");
        std::thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished());
        std::fs::remove_file(&device).expect("removed");
        assert!(waiting.join().expect("ended"));
    }

    #[test]
    fn a_device_that_is_gone_before_the_watch_begins_counts_as_removed() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(RemovalWatch::begin(&folder.path().join("hidraw0")).expect("watched").wait());
    }
}
