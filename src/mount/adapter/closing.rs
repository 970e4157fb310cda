//! Whether the kernel sends a request for a `close` and waits for its reply (`FUSE_FLUSH`).
//!
//! A file that was written and closed then outlives a kill of the daemon from that moment on. It costs a round trip for
//! each `close`, so it is turned off for files that are open for reading only, and while many files are written in a short
//! time (unpacking, copying a tree): these are in the journal a moment later.

use std::time::{Duration, Instant};

use fuser::{FopenFlags, OpenAccMode, OpenFlags};
use parking_lot::Mutex;

/// In each such time ...
const WINDOW: Duration = Duration::from_millis(20);
/// ... so many files are opened for writing before `close` is not waited for.
const OPENED_MAX: u32 = 16;

/// How many files were opened for writing lately.
#[derive(Debug)]
pub(in crate::mount) struct Closing(Mutex<Window>);

#[derive(Debug, Clone, Copy)]
struct Window {
    began: Instant,
    opened: u32,
    opened_before: u32,
}

impl Closing {
    pub fn new() -> Self {
        Self(Mutex::new(Window { began: Instant::now(), opened: 0, opened_before: 0 }))
    }

    /// The flags of the reply for a file that is opened.
    pub fn flags(&self, open: OpenFlags) -> FopenFlags {
        match open.acc_mode() {
            OpenAccMode::O_RDONLY => FopenFlags::FOPEN_NOFLUSH,
            OpenAccMode::O_WRONLY | OpenAccMode::O_RDWR => self.flags_for_writing(Instant::now()),
        }
    }

    fn flags_for_writing(&self, now: Instant) -> FopenFlags {
        match self.0.lock().note(now) > OPENED_MAX {
            true => FopenFlags::FOPEN_NOFLUSH,
            false => FopenFlags::empty(),
        }
    }
}

impl Window {
    /// Notes a file; how many there were in this window, or in the one before if these were more.
    fn note(&mut self, now: Instant) -> u32 {
        let age = now.saturating_duration_since(self.began);
        if age >= WINDOW {
            let opened_before = if age < 2 * WINDOW { self.opened } else { 0 };
            *self = Self { began: now, opened: 0, opened_before };
        }
        self.opened += 1;
        self.opened.max(self.opened_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(closing: &Closing, now: Instant) -> bool {
        closing.flags_for_writing(now).is_empty()
    }

    #[test]
    fn a_close_is_told_of_unless_files_are_opened_by_the_thousand() {
        let (closing, start) = (Closing::new(), Instant::now());
        let every = |step_us: u64, count: u64, from: Instant| {
            (0..count).filter(|index| told(&closing, from + Duration::from_micros(step_us * index))).count()
        };
        assert_eq!(every(2000, 500, start), 500, "500 files a second");
        let after = start + Duration::from_secs(2);
        assert_eq!(every(100, 5000, after), OPENED_MAX as usize, "10,000 a second: all but the first");
        assert!(told(&closing, after + Duration::from_secs(1)));
    }

    #[test]
    fn a_close_after_reading_is_never_told_of() {
        assert_eq!(Closing::new().flags(OpenFlags(libc::O_RDONLY)), FopenFlags::FOPEN_NOFLUSH);
    }
}
