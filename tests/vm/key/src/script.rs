//! The folder through which a test drives the key: `touch` and `hostile` are read, `log` is written, `memory` is the key's own.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Instant;

/// An open folder, locked for this process until it ends.
pub struct Script {
    folder: PathBuf,
    log: File,
    started: Instant,
    _lock: File,
}

impl Script {
    /// Makes the folder if it is missing; fails if another key lives in it.
    pub fn open(folder: PathBuf) -> Result<Self, String> {
        let failed = |what: &str, error| format!("{what} {}: {error}", folder.display());
        fs::create_dir_all(&folder).map_err(|error| failed("cannot make", error))?;
        let lock = File::open(&folder).map_err(|error| failed("cannot open", error))?;
        // SAFETY: flock takes a descriptor that is open, and no memory.
        if unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
            return Err(format!("{} is in use by another key", folder.display()));
        }
        let log = OpenOptions::new().create(true).append(true).open(folder.join("log"));
        let log = log.map_err(|error| failed("cannot write into", error))?;
        Ok(Self { folder, log, started: Instant::now(), _lock: lock })
    }

    /// The file that the key remembers in.
    pub fn memory(&self) -> PathBuf {
        self.folder.join("memory")
    }

    /// What the person does now.
    pub fn touch(&self) -> String {
        self.read("touch").unwrap_or_else(|| "touch".into())
    }

    /// How the key misbehaves now, as mode and stage.
    pub fn hostile(&self) -> Option<(String, String)> {
        let text = self.read("hostile")?;
        let (mode, stage) = text.split_once(' ')?;
        Some((mode.into(), stage.trim().into()))
    }

    fn read(&self, name: &str) -> Option<String> {
        let text = fs::read_to_string(self.folder.join(name)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// Appends a line, with the milliseconds since the key was attached.
    pub fn log(&self, line: &str) {
        let line = format!("{:>7} {line}\n", self.started.elapsed().as_millis());
        // A test whose log cannot be written fails by what it misses there.
        let _ = (&self.log).write_all(line.as_bytes());
    }
}
