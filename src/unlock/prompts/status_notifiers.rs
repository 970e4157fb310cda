//! Status notifiers without a terminal: announce a touch that is waited for in the log and in the service's status.
//!
//! `systemctl status` shows the status text. Relies on `sd-notify`, which does nothing where no service manager listens.

use sd_notify::NotifyState;

use super::interaction::{StatusNotifier, plain};

/// Tells the service manager, where there is one that listens.
pub fn tell_service_manager(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("cannot tell the service manager {state:?}: {error}");
    }
}

/// Sets the text that `systemctl status` shows.
pub fn set_service_status(text: &str) {
    tell_service_manager(&[NotifyState::Status(&plain(text))]);
}

/// The line that `systemctl status` shows.
pub(super) struct ServiceStatus;

impl StatusNotifier for ServiceStatus {
    fn asking(&self, prompt: &str) {
        set_service_status(&format!("waiting for an answer: {prompt}"));
    }

    fn touch_wanted(&self, authenticator: &str) {
        set_service_status(&format!("touch {authenticator}"));
    }

    fn touch_done(&self) {
        set_service_status("unlocking");
    }

    fn in_use(&self, authenticator: &str) {
        set_service_status(&format!("unlocking with {authenticator}"));
    }
}

/// The log, where there is no terminal.
pub(super) struct LogNotifier;

impl StatusNotifier for LogNotifier {
    fn touch_wanted(&self, authenticator: &str) {
        log::info!("touch {}", plain(authenticator));
    }

    fn in_use(&self, authenticator: &str) {
        log::info!("using {}", plain(authenticator));
    }
}
