//! Who keeps a mount busy: processes with their working directory, root, program, an open or a mapped file below it.
//!
//! Relies on `/proc`, so other people's processes are seen by root only. Links are read, never followed: the mount itself
//! is not touched, and may hang or be dead.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// One process and one thing of it that lies below the mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its name, as `ps` shows it.
    pub command: String,
    /// How it holds the mount.
    pub how: How,
    /// What it holds.
    pub path: PathBuf,
}

/// In which way a process holds a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Its working directory is there.
    WorkingDirectory,
    /// Its root directory is there.
    RootDirectory,
    /// It runs a program that lies there.
    Program,
    /// It has a file open there.
    OpenFile,
    /// It has a file mapped there.
    MappedFile,
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self.how {
            How::WorkingDirectory => "works in",
            How::RootDirectory => "has as its root",
            How::Program => "runs",
            How::OpenFile => "has open",
            How::MappedFile => "has mapped",
        };
        write!(formatter, "process {} ({}) {how} {}", self.pid, self.command, self.path.display())
    }
}

/// All processes that hold something at or below `mountpoint` (an absolute path without links), one line for each.
/// `except` are those that do not count: the daemon itself, and whoever asks.
pub fn find(mountpoint: &Path, except: &[u32]) -> Vec<Holder> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut holders: Vec<Holder> =
        pids.filter(|pid| !except.contains(pid)).filter_map(|pid| holder(pid, mountpoint)).collect();
    holders.sort_by_key(|holder| holder.pid);
    holders
}

fn holder(pid: u32, mountpoint: &Path) -> Option<Holder> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let (how, path) = held(&process, mountpoint)?;
    let command = std::fs::read_to_string(process.join("comm")).unwrap_or_default().trim_end().to_owned();
    Some(Holder { pid, command, how, path })
}

fn held(process: &Path, mountpoint: &Path) -> Option<(How, PathBuf)> {
    let below = |link: PathBuf| link.read_link().ok().filter(|target| target.starts_with(mountpoint));
    let links = [("cwd", How::WorkingDirectory), ("root", How::RootDirectory), ("exe", How::Program)];
    for (name, how) in links {
        if let Some(path) = below(process.join(name)) {
            return Some((how, path));
        }
    }
    let mut descriptors = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    if let Some(path) = descriptors.find_map(|descriptor| below(descriptor.path())) {
        return Some((How::OpenFile, path));
    }
    let maps = std::fs::read(process.join("maps")).ok()?;
    let path = maps.split(|byte| *byte == b'\n').filter_map(mapped_path).find(|path| path.starts_with(mountpoint))?;
    Some((How::MappedFile, path.to_owned()))
}

/// The path in a line of `/proc/PID/maps`: what follows five fields and blanks.
fn mapped_path(line: &[u8]) -> Option<&Path> {
    let start = line.iter().position(|byte| *byte == b'/')?;
    Some(Path::new(OsStr::from_bytes(&line[start..])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_file_names_its_process() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let base = folder.path().canonicalize().expect("there");
        assert_eq!(find(&base, &[]), []);
        let file = std::fs::File::create(base.join("open")).expect("made");
        let holders = find(&base, &[]);
        assert_eq!(holders.len(), 1, "{holders:?}");
        assert_eq!((holders[0].pid, holders[0].how), (std::process::id(), How::OpenFile));
        assert_eq!(holders[0].path, base.join("open"));
        assert_eq!(find(&base, &[std::process::id()]), [], "the daemon itself is left out");
        drop(file);
    }

    #[test]
    fn a_line_of_maps_ends_with_a_path_or_has_none() {
        let line = b"7f1c-7f1d r-xp 00000000 08:01 1234      /usr/lib/with blank.so";
        assert_eq!(mapped_path(line), Some(Path::new("/usr/lib/with blank.so")));
        assert_eq!(mapped_path(b"7ffe-7fff rw-p 00000000 00:00 0   [stack]"), None);
    }
}
