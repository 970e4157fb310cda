//! How long a security key may take, on both sides of the pipe.

use std::time::Duration;

/// How long a device may be silent.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(5);
/// How long a device may take for an answer for which nobody has to do anything.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long a touch is waited for.
pub const TOUCH_LIMIT: Duration = Duration::from_secs(30);
