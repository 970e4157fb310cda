//! The person at the key: what happens when a touch is wanted.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use fido_authenticator::{Error as CtapError, TrussedRequirements, UserPresence};

use crate::script::Script;

/// What the keepalives say: these are CTAPHID's own numbers, and none while nothing is worked on.
pub static STATUS: AtomicU8 = AtomicU8::new(IDLE);
/// Nothing is worked on: no keepalives.
pub const IDLE: u8 = 0;
/// The key computes.
pub const PROCESSING: u8 = 1;
/// The key blinks.
pub const TOUCH_WANTED: u8 = 2;
/// The host has cancelled what is worked on.
pub static CANCELLED: AtomicBool = AtomicBool::new(false);

/// Does what the script says.
#[derive(Clone, Copy)]
pub struct Finger(pub &'static Script);

impl UserPresence for Finger {
    fn user_present<T: TrussedRequirements>(self, _: &mut T, timeout_ms: u32) -> Result<(), CtapError> {
        let asked = Instant::now();
        STATUS.store(TOUCH_WANTED, SeqCst);
        self.0.log("touch wanted");
        let (outcome, words) = loop {
            let waited_ms = asked.elapsed().as_millis();
            if CANCELLED.load(SeqCst) {
                break (Err(CtapError::KeepaliveCancel), "touch cancelled");
            }
            if waited_ms > timeout_ms.into() {
                break (Err(CtapError::UserActionTimeout), "touch timed out");
            }
            let mode = self.0.touch();
            let delay_ms = mode.strip_prefix("after ").and_then(|number| number.parse::<u128>().ok());
            match mode.as_str() {
                "touch" => break (Ok(()), "touched"),
                "deny" => break (Err(CtapError::OperationDenied), "touch denied"),
                "unplug" => {
                    self.0.log("pulled out instead of touched");
                    std::process::exit(0);
                }
                _ if delay_ms.is_some_and(|delay_ms| waited_ms >= delay_ms) => break (Ok(()), "touched"),
                _ => {}
            }
            thread::sleep(Duration::from_millis(10));
        };
        STATUS.store(PROCESSING, SeqCst);
        self.0.log(words);
        outcome
    }
}
