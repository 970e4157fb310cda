//! Processes that keep a mount busy: their working directory, root, program, an open or a mapped file lies below it.
//!
//! Reads `/proc`, where only root sees the processes of other users. Links are read and never followed: the mount is not
//! accessed, so a hanging or dead one is no obstacle.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// One process, and one path below the mount that it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusyProcess {
    /// Its process id.
    pub pid: u32,
    /// Its name, as `ps` shows it.
    pub command: String,
    /// How it uses the path.
    pub used_as: Use,
    /// The path.
    pub path: PathBuf,
}

/// How a process uses a path below a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
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

impl fmt::Display for BusyProcess {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let used_as = match self.used_as {
            Use::WorkingDirectory => "works in",
            Use::RootDirectory => "has as its root",
            Use::Program => "runs",
            Use::OpenFile => "has open",
            Use::MappedFile => "has mapped",
        };
        write!(formatter, "process {} ({}) {used_as} {}", self.pid, self.command, self.path.display())
    }
}

/// All processes that use a path at or below `mountpoint` (absolute, without links), sorted by id, one entry each.
/// `except` are ids to leave out: the daemon and the calling process.
pub fn find(mountpoint: &Path, except: &[u32]) -> Vec<BusyProcess> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut processes: Vec<BusyProcess> =
        pids.filter(|pid| !except.contains(pid)).filter_map(|pid| busy_process(pid, mountpoint)).collect();
    processes.sort_by_key(|process| process.pid);
    processes
}

fn busy_process(pid: u32, mountpoint: &Path) -> Option<BusyProcess> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let (used_as, path) = used_path(&process, mountpoint)?;
    let command = std::fs::read_to_string(process.join("comm")).unwrap_or_default().trim_end().to_owned();
    Some(BusyProcess { pid, command, used_as, path })
}

fn used_path(process: &Path, mountpoint: &Path) -> Option<(Use, PathBuf)> {
    let below = |link: PathBuf| link.read_link().ok().filter(|target| target.starts_with(mountpoint));
    let links = [("cwd", Use::WorkingDirectory), ("root", Use::RootDirectory), ("exe", Use::Program)];
    for (name, used_as) in links {
        if let Some(path) = below(process.join(name)) {
            return Some((used_as, path));
        }
    }
    let mut descriptors = std::fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    if let Some(path) = descriptors.find_map(|descriptor| below(descriptor.path())) {
        return Some((Use::OpenFile, path));
    }
    let maps = std::fs::read(process.join("maps")).ok()?;
    let path = maps.split(|byte| *byte == b'\n').filter_map(mapped_path).find(|path| path.starts_with(mountpoint))?;
    Some((Use::MappedFile, path.to_owned()))
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
        let processes = find(&base, &[]);
        assert_eq!(processes.len(), 1, "{processes:?}");
        assert_eq!((processes[0].pid, processes[0].used_as), (std::process::id(), Use::OpenFile));
        assert_eq!(processes[0].path, base.join("open"));
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
