//! A store whose calls fail as planned: the disk that errs, fills up, is unplugged, or whose process is killed.
//!
//! It wraps any [`Store`] and counts the calls that reach it, those to its readers and writers too. Calls are numbered
//! from 0 since the store was made or [`reset`](FaultyStore::reset). To visit every crash point of an operation: run it
//! once and take [`change_points`](FaultyStore::change_points); then for each run it on a fresh fork of the disk with
//! [`crash_at`](FaultyStore::crash_at), let the disk lose power, and look at what is left.
//!
//! Handles are cheap to clone and share their plan and counts, so a test keeps one and gives the other away.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use parking_lot::{Condvar, Mutex};

use super::{Area, FileEntry, FilePath, FileReader, FileSyncer, FileWriter, Space, Store, StoreError};

/// What a call to a store, its readers or its writers is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs)] // each is the method of the same name
pub enum CallKind {
    Create,
    Open,
    Rename,
    SyncName,
    List,
    Remove,
    Space,
    Append,
    Sync,
    ReadAt,
    Len,
    Changed,
}

impl CallKind {
    /// All kinds, in the order in which [`CallCounts`] keeps them.
    pub const ALL: [Self; 12] = [
        Self::Create,
        Self::Open,
        Self::Rename,
        Self::SyncName,
        Self::List,
        Self::Remove,
        Self::Space,
        Self::Append,
        Self::Sync,
        Self::ReadAt,
        Self::Len,
        Self::Changed,
    ];

    /// Those that change the disk: a crash before any other is a crash before the next of these.
    pub const CHANGES: [Self; 6] = [Self::Create, Self::Rename, Self::SyncName, Self::Remove, Self::Append, Self::Sync];

    fn action(self) -> &'static str {
        match self {
            Self::Create => "create the file",
            Self::Open => "open the file",
            Self::Rename => "rename the file",
            Self::SyncName => "sync the folder of the file",
            Self::List => "list the folder",
            Self::Remove => "remove the file",
            Self::Space => "ask for the free space",
            Self::Append => "write to the file",
            Self::Sync => "sync the file",
            Self::ReadAt => "read the file",
            Self::Len | Self::Changed => "look at the file",
        }
    }
}

/// A call that was made, whether or not it failed. Prints as `append state:journal/000`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    /// What was called.
    pub kind: CallKind,
    /// The path it was about; of a rename, the target.
    pub path: FilePath,
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", format!("{:?}", self.kind).to_lowercase(), self.path.key())
    }
}

/// How many calls of each kind were made.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct CallCounts {
    counts: [u64; CallKind::ALL.len()],
}

impl CallCounts {
    /// The calls of one kind.
    pub fn of(&self, kind: CallKind) -> u64 {
        self.counts[kind as usize]
    }

    /// The calls of these kinds.
    pub fn of_any(&self, kinds: &[CallKind]) -> u64 {
        kinds.iter().map(|kind| self.of(*kind)).sum()
    }

    /// All calls.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// What a call that fails reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Failure {
    /// [`StoreError::Full`]
    Full,
    /// [`StoreError::Io`]: the disk does not answer as it should.
    Io,
    /// [`StoreError::NotFound`]
    NotFound,
    /// [`StoreError::PermissionDenied`]
    PermissionDenied,
    /// [`StoreError::ReadOnly`]
    ReadOnly,
}

impl Failure {
    fn error(self, kind: CallKind, path: &FilePath) -> StoreError {
        let errno = match self {
            Self::Full => libc::ENOSPC,
            Self::Io => libc::EIO,
            Self::NotFound => libc::ENOENT,
            Self::PermissionDenied => libc::EACCES,
            Self::ReadOnly => libc::EROFS,
        };
        StoreError::from_io(path, kind.action(), io::Error::from_raw_os_error(errno))
    }
}

/// How a call fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// It has no effect.
    Before(Failure),
    /// It has some effect: half of an append's bytes arrive, a rename leaves the file under both names. Any other call
    /// has its whole effect.
    Halfway(Failure),
    /// It has its whole effect, and reports a failure all the same. A sync that fails like this was one that worked,
    /// which its caller cannot know.
    After(Failure),
}

/// Wraps a store, and makes its calls fail as planned.
pub struct FaultyStore<S: Store + ?Sized = dyn Store> {
    inner: Arc<S>,
    faults: Arc<Faults>,
}

impl<S: Store + ?Sized> Clone for FaultyStore<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), faults: self.faults.clone() }
    }
}

impl<S: Store + ?Sized> FaultyStore<S> {
    /// Wraps a store; nothing fails until it is planned.
    pub fn new(inner: Arc<S>) -> Self {
        Self { inner, faults: Arc::default() }
    }

    /// The store that is wrapped.
    pub fn inner(&self) -> &Arc<S> {
        &self.inner
    }

    /// Plans that call `number` among those of these `kinds` fails.
    pub fn fail(&self, kinds: &[CallKind], number: u64, fault: Fault) {
        self.faults.state.lock().planned.push(Planned { kinds: kinds.to_vec(), number, fault });
    }

    /// Plans that sync `number` fails without having made anything durable.
    pub fn fail_sync(&self, number: u64) {
        self.fail(&[CallKind::Sync], number, Fault::Before(Failure::Io));
    }

    /// Plans that every call from `number` on fails, as on a disk that was unplugged.
    pub fn gone_from(&self, number: u64) {
        self.faults.state.lock().gone_from = Some((number, "the disk is gone"));
    }

    /// Plans that every call from `number` on fails, as if the process had been killed before it: none has an effect,
    /// whatever else is planned.
    pub fn crash_at(&self, number: u64) {
        self.faults.state.lock().gone_from = Some((number, "the process was killed"));
    }

    /// Makes the area full from now on, or no longer: creating files in it, appending and renaming into it fail.
    pub fn set_full(&self, area: Area, is_full: bool) {
        let mut state = self.faults.state.lock();
        state.full.retain(|full| *full != area);
        if is_full {
            state.full.push(area);
        }
    }

    /// Makes calls of these kinds wait, as on a disk that does not answer, until [`release`](Self::release).
    pub fn hold(&self, kinds: &[CallKind]) {
        self.faults.state.lock().held = kinds.iter().map(|kind| (*kind, 0)).collect();
    }

    /// The same from call `number` of this kind on.
    pub fn hold_from(&self, kind: CallKind, number: u64) {
        self.faults.state.lock().held = vec![(kind, number)];
    }

    /// Makes call `number` wait, until [`release`](Self::release).
    pub fn hold_at(&self, number: u64) {
        self.faults.state.lock().held_at = Some(number);
    }

    /// Lets all calls go on that wait, and makes no more wait.
    pub fn release(&self) {
        let mut state = self.faults.state.lock();
        state.held.clear();
        state.held_at = None;
        drop(state);
        self.faults.released.notify_all();
    }

    /// How many calls wait.
    pub fn waiting(&self) -> usize {
        self.faults.state.lock().waiting
    }

    /// Drops every plan, and counts from 0 again.
    pub fn reset(&self) {
        self.release();
        *self.faults.state.lock() = State::default();
    }

    /// How many calls were made.
    pub fn calls(&self) -> CallCounts {
        self.faults.state.lock().counts
    }

    /// The calls that were made, in order.
    pub fn trace(&self) -> Vec<Call> {
        self.faults.state.lock().trace.clone()
    }

    /// The numbers of the calls that changed the disk: with them, [`crash_at`](Self::crash_at) reaches every state that
    /// a killed process can leave. One more crash point is the number of all calls: after the last of them.
    pub fn change_points(&self) -> Vec<u64> {
        let state = self.faults.state.lock();
        let calls = (0..).zip(&state.trace);
        calls.filter(|(_, call)| CallKind::CHANGES.contains(&call.kind)).map(|(number, _)| number).collect()
    }
}

#[derive(Default)]
struct Faults {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Default)]
struct State {
    planned: Vec<Planned>,
    gone_from: Option<(u64, &'static str)>,
    full: Vec<Area>,
    /// Each with the number of its first call that waits.
    held: Vec<(CallKind, u64)>,
    held_at: Option<u64>,
    waiting: usize,
    counts: CallCounts,
    trace: Vec<Call>,
}

struct Planned {
    kinds: Vec<CallKind>,
    number: u64,
    fault: Fault,
}

/// When a call is to fail, and with what.
enum Outcome {
    Before(StoreError),
    Halfway(StoreError),
    After(StoreError),
}

impl Faults {
    /// Counts a call, and says how it is to fail.
    fn count(&self, kind: CallKind, path: &FilePath) -> Option<Outcome> {
        let mut state = self.state.lock();
        state.waiting += 1;
        let number = state.counts.total();
        let is_held = |state: &State| {
            let is_kind = state.held.iter().any(|(held, from)| *held == kind && state.counts.of(kind) >= *from);
            is_kind || state.held_at == Some(number)
        };
        while is_held(&state) {
            self.released.wait(&mut state);
        }
        state.waiting = state.waiting.saturating_sub(1);
        let number = state.counts.total();
        let fault = state
            .planned
            .iter()
            .find(|planned| planned.kinds.contains(&kind) && planned.number == state.counts.of_any(&planned.kinds))
            .map(|planned| planned.fault);
        state.counts.counts[kind as usize] += 1;
        state.trace.push(Call { kind, path: path.clone() });
        if let Some((from, reason)) = state.gone_from
            && number >= from
        {
            let source = io::Error::other(reason);
            return Some(Outcome::Before(StoreError::Io { path: path.into(), action: kind.action(), source }));
        }
        if let Some(fault) = fault {
            return Some(match fault {
                Fault::Before(failure) => Outcome::Before(failure.error(kind, path)),
                Fault::Halfway(failure) => Outcome::Halfway(failure.error(kind, path)),
                Fault::After(failure) => Outcome::After(failure.error(kind, path)),
            });
        }
        let takes_room = matches!(kind, CallKind::Create | CallKind::Append | CallKind::Rename);
        let is_full = takes_room && state.full.contains(&path.area);
        is_full.then(|| Outcome::Before(Failure::Full.error(kind, path)))
    }

    /// Makes a call that either fails or has its whole effect.
    fn call<T>(
        &self,
        kind: CallKind,
        path: &FilePath,
        call: impl FnOnce() -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        match self.count(kind, path) {
            None => call(),
            Some(Outcome::Before(error)) => Err(error),
            Some(Outcome::Halfway(error) | Outcome::After(error)) => call().and(Err(error)),
        }
    }
}

impl<S: Store + ?Sized> Store for FaultyStore<S> {
    fn create(&self, path: &FilePath) -> Result<Box<dyn FileWriter>, StoreError> {
        let inner = self.faults.call(CallKind::Create, path, || self.inner.create(path))?;
        let faults = self.faults.clone();
        Ok(Box::new(FaultyWriter { inner, faults, path: path.clone(), bytes: 0, is_poisoned: Arc::default() }))
    }

    fn open(&self, path: &FilePath) -> Result<Arc<dyn FileReader>, StoreError> {
        let inner = self.faults.call(CallKind::Open, path, || self.inner.open(path))?;
        Ok(Arc::new(FaultyReader { inner, faults: self.faults.clone(), path: path.clone() }))
    }

    fn rename(&self, source: &FilePath, target: &FilePath) -> Result<(), StoreError> {
        match self.faults.count(CallKind::Rename, target) {
            None => self.inner.rename(source, target),
            Some(Outcome::Before(error)) => Err(error),
            Some(Outcome::Halfway(error)) => rename_leaving_both(&*self.inner, source, target).and(Err(error)),
            Some(Outcome::After(error)) => self.inner.rename(source, target).and(Err(error)),
        }
    }

    fn sync_name(&self, path: &FilePath) -> Result<(), StoreError> {
        self.faults.call(CallKind::SyncName, path, || self.inner.sync_name(path))
    }

    fn list(&self, folder: &FilePath) -> Result<Vec<FileEntry>, StoreError> {
        self.faults.call(CallKind::List, folder, || self.inner.list(folder))
    }

    fn remove(&self, path: &FilePath) -> Result<(), StoreError> {
        self.faults.call(CallKind::Remove, path, || self.inner.remove(path))
    }

    fn space(&self, area: Area) -> Result<Space, StoreError> {
        let folder = FilePath { area, name: String::new() };
        let mut space = self.faults.call(CallKind::Space, &folder, || self.inner.space(area))?;
        if self.faults.state.lock().full.contains(&area) {
            space.free_bytes = 0;
        }
        Ok(space)
    }
}

/// Renames as across filesystems, by copying, and stops before the source is removed.
fn rename_leaving_both<S: Store + ?Sized>(store: &S, source: &FilePath, target: &FilePath) -> Result<(), StoreError> {
    let reader = store.open(source)?;
    let mut content = vec![0; reader.len()? as usize];
    reader.read_at(0, &mut content)?;
    let folder = target.folder().unwrap_or_else(|| target.clone());
    let temporary = folder.join(&format!(".~{}.tmp", target.file_name()));
    let mut copy = store.create(&temporary)?;
    copy.append(&content)?;
    copy.sync()?;
    store.rename(&temporary, target)
}

struct FaultyWriter {
    inner: Box<dyn FileWriter>,
    faults: Arc<Faults>,
    path: FilePath,
    bytes: u64,
    is_poisoned: Arc<AtomicBool>,
}

impl FaultyWriter {
    fn append_unless_planned(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        match self.faults.count(CallKind::Append, &self.path) {
            None => self.inner.append(bytes),
            Some(Outcome::Before(error)) => Err(error),
            Some(Outcome::Halfway(error)) => self.inner.append(&bytes[..bytes.len() / 2]).and(Err(error)),
            Some(Outcome::After(error)) => self.inner.append(bytes).and(Err(error)),
        }
    }
}

/// Runs `write`, and remembers a failure: the wrapped writer may not know of it.
fn unless_poisoned(
    is_poisoned: &AtomicBool,
    path: &FilePath,
    write: impl FnOnce() -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    if is_poisoned.load(Ordering::Acquire) {
        return Err(StoreError::Poisoned { path: path.into() });
    }
    write().inspect_err(|_| is_poisoned.store(true, Ordering::Release))
}

impl FileWriter for FaultyWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let (is_poisoned, path) = (self.is_poisoned.clone(), self.path.clone());
        unless_poisoned(&is_poisoned, &path, || self.append_unless_planned(bytes))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn syncer(&self) -> Arc<dyn FileSyncer> {
        let (inner, faults, path) = (self.inner.syncer(), self.faults.clone(), self.path.clone());
        Arc::new(FaultySyncer { inner, faults, path, is_poisoned: self.is_poisoned.clone() })
    }

    fn len(&self) -> u64 {
        self.bytes
    }
}

struct FaultySyncer {
    inner: Arc<dyn FileSyncer>,
    faults: Arc<Faults>,
    path: FilePath,
    is_poisoned: Arc<AtomicBool>,
}

impl FileSyncer for FaultySyncer {
    fn sync(&self) -> Result<(), StoreError> {
        unless_poisoned(&self.is_poisoned, &self.path, || {
            self.faults.call(CallKind::Sync, &self.path, || self.inner.sync())
        })
    }
}

struct FaultyReader {
    inner: Arc<dyn FileReader>,
    faults: Arc<Faults>,
    path: FilePath,
}

impl FileReader for FaultyReader {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StoreError> {
        self.faults.call(CallKind::ReadAt, &self.path, || self.inner.read_at(offset, buffer))
    }

    fn len(&self) -> Result<u64, StoreError> {
        self.faults.call(CallKind::Len, &self.path, || self.inner.len())
    }

    fn changed(&self) -> Result<SystemTime, StoreError> {
        self.faults.call(CallKind::Changed, &self.path, || self.inner.changed())
    }
}
