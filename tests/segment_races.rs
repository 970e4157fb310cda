//! A data segment that one thread syncs while another finishes and publishes it.

#[path = "support/mod.rs"]
mod support;

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use passkeyfs::store::{Area, FileEntry, FilePath, FileReader, FileSyncer, FileWriter, LocalStore, Space, Store};
use passkeyfs::store::{StoreError, SystemClock};
use passkeyfs::volume::{Environment, Volume, VolumeOptions};
use support::{OWNER, ROOT, World, create, noise};

/// Longer than anything takes that waits for nothing, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// A call that a test wants to hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    BeforeSync,
    AfterSync,
    AfterRename,
}

/// Called at each; what it answers is what becomes of the call.
type Hook = Arc<dyn Fn(Moment, &FilePath) -> Result<(), StoreError> + Send + Sync>;

/// A folder on the disk, with a hook.
struct HookedStore {
    inner: LocalStore,
    hook: Hook,
}

impl Store for HookedStore {
    fn create(&self, path: &FilePath) -> Result<Box<dyn FileWriter>, StoreError> {
        let inner = self.inner.create(path)?;
        Ok(Box::new(HookedWriter { inner, path: path.clone(), hook: Arc::clone(&self.hook) }))
    }

    fn open(&self, path: &FilePath) -> Result<Arc<dyn FileReader>, StoreError> {
        self.inner.open(path)
    }

    fn rename(&self, source: &FilePath, target: &FilePath) -> Result<(), StoreError> {
        self.inner.rename(source, target)?;
        (self.hook)(Moment::AfterRename, target)
    }

    fn sync_name(&self, path: &FilePath) -> Result<(), StoreError> {
        self.inner.sync_name(path)
    }

    fn list(&self, folder: &FilePath) -> Result<Vec<FileEntry>, StoreError> {
        self.inner.list(folder)
    }

    fn remove(&self, path: &FilePath) -> Result<(), StoreError> {
        self.inner.remove(path)
    }

    fn space(&self, area: Area) -> Result<Space, StoreError> {
        self.inner.space(area)
    }
}

struct HookedWriter {
    inner: Box<dyn FileWriter>,
    path: FilePath,
    hook: Hook,
}

impl FileWriter for HookedWriter {
    fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.inner.append(bytes)
    }

    fn syncer(&self) -> Arc<dyn FileSyncer> {
        Arc::new(HookedSyncer { inner: self.inner.syncer(), path: self.path.clone(), hook: Arc::clone(&self.hook) })
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }
}

struct HookedSyncer {
    inner: Arc<dyn FileSyncer>,
    path: FilePath,
    hook: Hook,
}

impl FileSyncer for HookedSyncer {
    fn sync(&self) -> Result<(), StoreError> {
        (self.hook)(Moment::BeforeSync, &self.path)?;
        self.inner.sync()?;
        (self.hook)(Moment::AfterSync, &self.path)
    }
}

fn is_data(path: &FilePath) -> bool {
    path.name.ends_with(".data")
}

fn is_thread(name: &str) -> bool {
    std::thread::current().name() == Some(name)
}

fn named<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
    std::thread::Builder::new().name(name.into()).spawn(work).unwrap()
}

/// A vault on the disk.
struct Rig {
    folder: tempfile::TempDir,
    world: World,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("vault")).unwrap();
        let rig = Self { folder, world: World::of_seed(1, 4096) };
        let store = Arc::new(rig.store());
        Volume::create(rig.environment(store), rig.world.keys(), Vec::new(), OWNER).unwrap();
        rig
    }

    fn store(&self) -> LocalStore {
        LocalStore::new(self.folder.path().join("vault"), self.folder.path().join("state"))
    }

    fn environment(&self, store: Arc<dyn Store>) -> Environment {
        Environment { clock: Arc::new(SystemClock), ..self.world.environment(store) }
    }

    fn open(&self, options: VolumeOptions, hook: Hook) -> Arc<Volume> {
        let store = Arc::new(HookedStore { inner: self.store(), hook });
        Volume::open(self.environment(store), self.world.keys(), options).unwrap()
    }

    /// Opens what is in the vault folder, and nothing of the state, as another device does. `a` must be there.
    fn check_folder(&self) {
        std::fs::rename(self.folder.path().join("state"), self.folder.path().join("old state")).unwrap();
        let volume = self.open(World::options(), Arc::new(|_, _| Ok(())));
        assert_eq!(volume.status().awaited_segments, 0);
        let found = volume.lookup(ROOT, b"a").unwrap();
        assert!(volume.read(found.inode, 0, A_BYTES).unwrap() == noise(1, A_BYTES));
    }
}

/// More than a journal frame holds.
const A_BYTES: usize = 1_000_000;

/// A place where the first thread that comes to it waits for the other.
struct Gate {
    arrived: mpsc::Sender<()>,
    opened: Mutex<Option<mpsc::Receiver<()>>>,
}

impl Gate {
    /// The gate, what hears of the one who arrives, and what opens it.
    fn new() -> (Self, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let ((arrived, has_arrived), (open, opened)) = (mpsc::channel(), mpsc::channel());
        (Self { arrived, opened: Mutex::new(Some(opened)) }, has_arrived, open)
    }

    /// Whether it was the first who came.
    fn pass(&self) -> bool {
        let Some(opened) = self.opened.lock().unwrap().take() else { return false };
        self.arrived.send(()).unwrap();
        opened.recv_timeout(PATIENCE).unwrap();
        true
    }
}

/// An fsync that comes to sync a data segment and waits there, a publish that begins then and waits where `publish_at` says,
/// the fsync to its end, and the publish to its end.
fn fsync_amid_publish(publish_at: Moment, outcome_of_sync: fn(&FilePath) -> Result<(), StoreError>) {
    let rig = Rig::new();
    let (fsync_gate, fsync_waits, let_fsync_go) = Gate::new();
    let (publish_gate, publish_waits, let_publish_go) = Gate::new();
    let hook: Hook = Arc::new(move |moment, path| {
        if moment == Moment::BeforeSync && is_thread("fsync") && is_data(path) && fsync_gate.pass() {
            return outcome_of_sync(path);
        }
        if moment == publish_at && is_thread("publish") && is_data(path) {
            publish_gate.pass();
        }
        Ok(())
    });
    let volume = rig.open(World::options(), hook);
    let inode = create(&volume, "a");
    volume.write(inode, 0, &noise(1, A_BYTES), false).unwrap();
    let other = Arc::clone(&volume);
    let fsync = named("fsync", move || other.sync_file(inode));
    fsync_waits.recv_timeout(PATIENCE).unwrap();
    let other = Arc::clone(&volume);
    let publish = named("publish", move || other.publish());
    publish_waits.recv_timeout(PATIENCE).unwrap();
    let_fsync_go.send(()).unwrap();
    fsync.join().unwrap().unwrap();
    let_publish_go.send(()).unwrap();
    publish.join().unwrap().unwrap();
    drop(volume);
    rig.check_folder();
}

#[test]
fn an_fsync_that_comes_to_a_segment_after_it_was_published_moves_nothing_of_the_commit() {
    fsync_amid_publish(Moment::AfterRename, |_| Ok(()));
}

#[test]
fn a_sync_that_fails_while_a_publish_finishes_the_segment_leaves_the_commit_whole() {
    fsync_amid_publish(Moment::AfterSync, |path| {
        let source = std::io::Error::other("the disk failed");
        Err(StoreError::Io { path: path.into(), action: "sync the file", source })
    });
}
