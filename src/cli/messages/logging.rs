//! Where log lines go: standard error while attached to a terminal, syslog afterwards.
//!
//! A command logs to standard error. So does the daemon with `-f`; where that is the journal (systemd says so in
//! `JOURNAL_STREAM`) each line starts with its priority, as `<4>`. A daemon in the background logs to syslog from the
//! moment it leaves the terminal ([`switch_to_syslog`]); without a syslog it logs nothing. `RUST_LOG` overrides `-v`
//! and `-q`. Log lines never hold a key, tag or PIN, and no plaintext name above *debug*.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::Mutex;
use syslog::{Facility, Formatter3164, LoggerBackend};

/// How the lines on standard error look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// For the person who typed the command: `passkeyfs: warning: …`.
    Command,
    /// For the log of a daemon in the foreground: with the time.
    Daemon,
    /// For the journal: with the priority.
    Journal,
}

struct Logger {
    filter: env_logger::Logger,
    syslog: Mutex<Option<syslog::Logger<LoggerBackend, Formatter3164>>>,
    /// The level of syslog, which gets more than the terminal.
    daemon_level: LevelFilter,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();
static IN_BACKGROUND: AtomicBool = AtomicBool::new(false);

/// Starts logging to standard error. `steps` is the number of `-v` minus that of `-q`.
pub fn start(steps: i32, foreground_daemon: bool) {
    let daemon_level = level(LevelFilter::Info, steps);
    let terminal_level = if foreground_daemon { daemon_level } else { level(LevelFilter::Warn, steps) };
    let style = match (foreground_daemon, stderr_is_journal()) {
        (_, true) => Style::Journal,
        (true, false) => Style::Daemon,
        (false, false) => Style::Command,
    };
    let mut builder = env_logger::Builder::new();
    let from_environment = std::env::var("RUST_LOG").ok().filter(|text| !text.is_empty());
    match &from_environment {
        Some(text) => builder.parse_filters(text),
        None => builder.filter_level(daemon_level.max(terminal_level)),
    };
    builder.format(move |target, record| match style {
        Style::Command => writeln!(target, "passkeyfs: {}{}", prefix(record.level()), record.args()),
        Style::Daemon => writeln!(target, "{} {:5} {}", target.timestamp(), record.level(), record.args()),
        Style::Journal => writeln!(target, "<{}>{}", priority(record.level()), record.args()),
    });
    let filter = builder.build();
    let (daemon_level, terminal_level) = match from_environment {
        Some(_) => (filter.filter(), filter.filter()),
        None => (daemon_level, terminal_level),
    };
    let logger = LOGGER.get_or_init(|| Logger { filter, syslog: Mutex::new(None), daemon_level });
    if log::set_logger(logger).is_ok() {
        log::set_max_level(terminal_level);
    }
}

/// Sends all further lines to syslog. Called when the daemon has left its terminal.
pub fn switch_to_syslog() {
    IN_BACKGROUND.store(true, Ordering::Relaxed);
    let Some(logger) = LOGGER.get() else { return };
    let pid = std::process::id();
    let process = "passkeyfs".to_owned();
    let formatter = Formatter3164 { facility: Facility::LOG_DAEMON, hostname: None, process, pid };
    *logger.syslog.lock() = syslog::unix(formatter).ok();
    log::set_max_level(logger.daemon_level);
}

/// Whether this is a daemon in the background, which has no standard error.
pub fn is_in_background() -> bool {
    IN_BACKGROUND.load(Ordering::Relaxed)
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.filter.matches(record) {
            return;
        }
        let mut syslog = self.syslog.lock();
        let Some(syslog) = syslog.as_mut() else { return self.filter.log(record) };
        // A failure to log is ignored.
        let _ = match record.level() {
            Level::Error => syslog.err(record.args()),
            Level::Warn => syslog.warning(record.args()),
            Level::Info => syslog.info(record.args()),
            Level::Debug | Level::Trace => syslog.debug(record.args()),
        };
    }

    fn flush(&self) {
        self.filter.flush();
    }
}

/// Whether standard error is connected to the systemd journal.
pub fn stderr_is_journal() -> bool {
    let Ok(journal) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(status) = nix::sys::stat::fstat(std::io::stderr().as_fd()) else { return false };
    journal == format!("{}:{}", status.st_dev, status.st_ino)
}

fn level(base: LevelFilter, steps: i32) -> LevelFilter {
    const LEVELS: [LevelFilter; 6] = [
        LevelFilter::Off,
        LevelFilter::Error,
        LevelFilter::Warn,
        LevelFilter::Info,
        LevelFilter::Debug,
        LevelFilter::Trace,
    ];
    let index = (base as i32 + steps).clamp(0, 5);
    LEVELS[index as usize]
}

fn prefix(level: Level) -> &'static str {
    match level {
        Level::Error => "error: ",
        Level::Warn => "warning: ",
        Level::Info => "",
        Level::Debug => "debug: ",
        Level::Trace => "trace: ",
    }
}

fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_v_says_more_and_each_q_less() {
        assert_eq!(level(LevelFilter::Warn, 0), LevelFilter::Warn);
        assert_eq!(level(LevelFilter::Warn, 2), LevelFilter::Debug);
        assert_eq!(level(LevelFilter::Warn, 9), LevelFilter::Trace);
        assert_eq!(level(LevelFilter::Warn, -1), LevelFilter::Error);
        assert_eq!(level(LevelFilter::Info, -7), LevelFilter::Off);
    }
}
