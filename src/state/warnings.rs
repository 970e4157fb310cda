//! What a person should see in `status`.

use parking_lot::Mutex;

/// How many warnings are shown: the newest.
const WARNINGS_MAX: usize = 100;

/// Warnings since the volume was opened. The log has them all.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    newest: Mutex<Vec<String>>,
}

impl Warnings {
    /// Logs a warning, and notes it unless it is noted already.
    pub fn add(&self, warning: String) {
        log::warn!("{warning}");
        let mut newest = self.newest.lock();
        if !newest.contains(&warning) {
            if newest.len() == WARNINGS_MAX {
                newest.remove(0);
            }
            newest.push(warning);
        }
    }

    /// The newest, oldest first.
    pub fn newest(&self) -> Vec<String> {
        self.newest.lock().clone()
    }
}
