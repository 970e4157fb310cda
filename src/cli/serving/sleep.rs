//! Locking before the machine sleeps: logind's `PrepareForSleep`, held up by a delay inhibitor until the keys are gone.
//!
//! Relies on `zbus` and on the system bus. logind waits for an inhibitor for a few seconds only (`InhibitDelayMaxSec`, 5 by
//! default). So acknowledged data goes to the journal first, then the connection is aborted, then the rest is published. If
//! that takes too long the process exits, and the next mount publishes the rest.

use std::sync::mpsc::channel;
use std::time::Duration;

use zbus::blocking::proxy::SignalIterator;
use zbus::blocking::{Connection, Proxy, connection};
use zbus::zvariant::OwnedFd;

use super::shutdown::{Reason, Shutdown};
use crate::cli::messages::exit::Exit;
use crate::cli::messages::failure::failure;
use crate::unlock::spawn_shielded;

const SERVICE: &str = "org.freedesktop.login1";
const OBJECT: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";
/// How long logind may take for an answer.
const CALL_TIME_LIMIT: Duration = Duration::from_secs(10);
/// How long before the end of logind's delay this process stops publishing and exits.
const RESERVE: Duration = Duration::from_secs(1);
/// logind's delay if it does not report one.
const USUAL_DELAY: Duration = Duration::from_secs(5);

/// Waits for the machine to go to sleep, and delays that until the keys are wiped.
pub struct SleepWatch {
    signals: SignalIterator<'static>,
    /// logind waits until it is closed: at the end of the process.
    _inhibitor: OwnedFd,
    delay: Duration,
}

impl SleepWatch {
    /// Registers with logind.
    pub fn connect() -> anyhow::Result<Self> {
        // On a thread of its own, which bounds the wait for a bus that accepts the connection and does not answer.
        // Shielded from signals: a PIN prompt may follow.
        let (told, answer) = channel();
        // After the time limit the receiver is gone.
        spawn_shielded("suspend-bus", move || drop(told.send(Self::try_connect())))?;
        let problem = match answer.recv_timeout(CALL_TIME_LIMIT) {
            Ok(Ok(watch)) => return Ok(watch),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("it did not answer within {} seconds", CALL_TIME_LIMIT.as_secs()),
        };
        Err(failure(
            Exit::Failed,
            format!("lock-on-suspend: systemd-logind cannot be asked: {problem}"),
            "Mount without lock-on-suspend, or on a system with systemd-logind and a system bus.",
        ))
    }

    fn try_connect() -> zbus::Result<Self> {
        let bus: Connection = connection::Builder::system()?.method_timeout(CALL_TIME_LIMIT).build()?;
        let manager = Proxy::new(&bus, SERVICE, OBJECT, MANAGER)?;
        // Before the inhibitor: a sleep in between would not be seen.
        let signals = manager.receive_signal("PrepareForSleep")?;
        let question = ("sleep", "passkeyfs", "Publishing changes and locking", "delay");
        let inhibitor = manager.call("Inhibit", &question)?;
        let microseconds: zbus::Result<u64> = manager.get_property("InhibitDelayMaxUSec");
        let delay = microseconds.map_or(USUAL_DELAY, Duration::from_micros);
        Ok(Self { signals, _inhibitor: inhibitor, delay })
    }

    /// Waits for sleep, and locks. Does not return after that: the process exits before logind's delay is over.
    pub fn wait(mut self, shutdown: &Shutdown) {
        let goes_to_sleep = |signal: zbus::Message| signal.body().deserialize::<bool>().unwrap_or(false);
        if self.signals.by_ref().any(goes_to_sleep) {
            let time = self.delay.saturating_sub(RESERVE);
            let give_up = move || {
                std::thread::sleep(time);
                log::warn!(
                    "no time left to publish before sleep: the journal keeps the rest, the next mount publishes it"
                );
                std::process::exit(i32::from(Exit::Done.code()));
            };
            if let Err(error) = std::thread::Builder::new().name("sleep-limit".to_owned()).spawn(give_up) {
                log::error!("cannot start a thread: {error}");
            }
            shutdown.end(Reason::Sleep);
            // The inhibitor lives as long as this thread: until the process ends.
            loop {
                std::thread::park();
            }
        }
        log::error!("lock-on-suspend: the system bus is gone, sleep is no longer seen");
    }
}
