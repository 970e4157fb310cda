//! The time of day and the time that passes, apart from the system so that tests can set them.
//!
//! [`Clock::now`] may jump in either direction; [`Clock::monotonic`] never goes back, and means nothing but in
//! comparison with itself within one process.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The time of day.
    fn now(&self) -> SystemTime;

    /// The time that has passed since some fixed moment of this process.
    fn monotonic(&self) -> Duration;
}

/// The system's clocks.
#[derive(Clone, Copy, Default, Debug)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn monotonic(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

/// A clock that stands still until it is told otherwise. Clones share their time.
#[derive(Clone, Debug)]
pub struct SimulatedClock {
    time: Arc<Mutex<SimulatedTime>>,
}

#[derive(Debug)]
struct SimulatedTime {
    now: SystemTime,
    monotonic: Duration,
}

impl SimulatedClock {
    /// Where [`SimulatedClock::default`] starts, in seconds since 1970: 2026-01-01 00:00:00 UTC.
    pub const START_SECONDS: u64 = 1_767_225_600;

    /// A clock that shows `now`, with no time passed.
    pub fn new(now: SystemTime) -> Self {
        Self { time: Arc::new(Mutex::new(SimulatedTime { now, monotonic: Duration::ZERO })) }
    }

    /// Lets `duration` pass.
    pub fn advance(&self, duration: Duration) {
        let mut time = self.time.lock();
        time.now += duration;
        time.monotonic += duration;
    }

    /// Sets the time of day, as an administrator may; no time passes.
    pub fn set(&self, now: SystemTime) {
        self.time.lock().now = now;
    }
}

impl Default for SimulatedClock {
    fn default() -> Self {
        Self::new(SystemTime::UNIX_EPOCH + Duration::from_secs(Self::START_SECONDS))
    }
}

impl Clock for SimulatedClock {
    fn now(&self) -> SystemTime {
        self.time.lock().now
    }

    fn monotonic(&self) -> Duration {
        self.time.lock().monotonic
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_of_a_simulated_clock_share_their_time() {
        let clock = SimulatedClock::default();
        let start = clock.now();
        let clone = clock.clone();
        clone.advance(Duration::from_secs(5));
        assert_eq!(clock.now(), start + Duration::from_secs(5));
        assert_eq!(clock.monotonic(), Duration::from_secs(5));
    }

    #[test]
    fn setting_the_time_of_day_lets_no_time_pass() {
        let clock = SimulatedClock::default();
        clock.set(SystemTime::UNIX_EPOCH);
        assert_eq!(clock.now(), SystemTime::UNIX_EPOCH);
        assert_eq!(clock.monotonic(), Duration::ZERO);
    }

    #[test]
    fn the_systems_monotonic_clock_does_not_go_back() {
        let first = SystemClock.monotonic();
        assert!(SystemClock.monotonic() >= first);
    }
}
