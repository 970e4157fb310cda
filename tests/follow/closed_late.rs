//! A file without a name that is closed while a commit is being made: at whichever call to the disk that happens, the commit
//! counts what it has, and the next one removes what is left of the file.

use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use passkeyfs::check::{CheckOptions, check_vault};
use passkeyfs::format::InodeNumber;
use passkeyfs::store::{FaultyStore, FilePath, MemoryStore, Store};
use passkeyfs::volume::{KeyChange, Volume, VolumeError, VolumeOptions};

use crate::PAUSE;
use crate::support::{OWNER, ROOT, World, create, noise};
use crate::two::{carry, vault_files};

const PATIENCE: Duration = Duration::from_secs(10);
/// How long a close may take that waits for nothing. One that waits for the state is let go on after it.
const A_MOMENT: Duration = Duration::from_millis(10);

/// A vault with two files that are open and have no name; nothing is unpublished, and the first is closed.
struct Scene {
    world: World,
    store: FaultyStore<MemoryStore>,
    volume: Arc<Volume>,
    files: [InodeNumber; 2],
}

impl Scene {
    fn new() -> Self {
        let world = World::new(12);
        let store = FaultyStore::new(Arc::new(world.disk.clone()));
        // Nothing is cached: each look at the tree is a call to the disk.
        let options = VolumeOptions { cache_bytes_max: 4, ..World::options() };
        let volume = world.try_open(Arc::new(store.clone()), options).expect("open");
        let files = ["first", "second"].map(|name| {
            let inode = volume.create_file(ROOT, name.as_bytes(), &OWNER).expect("made").inode;
            volume.write(inode, 0, &noise(inode.0, 20_000), false).expect("written");
            volume.forget(inode, 1);
            volume.unlink(ROOT, name.as_bytes()).expect("unlinked");
            inode
        });
        volume.publish().expect("published");
        volume.close_file(files[0]);
        Self { world, store, volume, files }
    }

    /// Does `act` and closes the second file amid call `number` to the disk. False where there is no such call.
    fn close_amid(&self, number: u64, act: impl FnOnce(&Volume) + Send) -> bool {
        self.store.reset();
        self.store.hold_at(number);
        std::thread::scope(|scope| {
            let acting = scope.spawn(|| act(&self.volume));
            let begun = Instant::now();
            while self.store.waiting() == 0 && !acting.is_finished() {
                assert!(begun.elapsed() < PATIENCE);
                std::thread::yield_now();
            }
            let is_amid = !acting.is_finished();
            let (done, is_done) = channel();
            scope.spawn(move || {
                self.volume.close_file(self.files[1]);
                done.send(()).expect("heard");
            });
            let _ = is_done.recv_timeout(A_MOMENT);
            self.store.release();
            acting.join().expect("no panic");
            is_amid
        })
    }

    fn assert_sound(&self, what: &str) {
        let mut keys = self.world.keys();
        let epoch = self.volume.current_epoch();
        keys.epochs.retain(|one| one.id() != epoch.epoch.0);
        keys.epochs.push(epoch.key);
        let options = CheckOptions { data_percent: Some(100), ..CheckOptions::default() };
        let environment = self.world.environment(Arc::new(self.world.disk.clone()));
        let report = check_vault(&environment, keys, &options, &mut |_| {}).expect("a vault to check");
        assert_eq!(report.issues, [], "{what}");
    }

    /// The next commit leaves nothing of the two files.
    fn assert_nothing_left(&self, what: &str) {
        create(&self.volume, "next");
        self.volume.publish().expect("published");
        for file in self.files {
            assert!(matches!(self.volume.attributes(file), Err(VolumeError::NotFound)), "{what}: {file:?} is there");
        }
        self.assert_sound(what);
        self.volume.close().expect("closed");
        self.assert_sound(what);
    }
}

#[test]
fn a_file_that_is_closed_amid_a_change_of_keys_is_counted_and_removed() {
    for number in 0.. {
        let (scene, what) = (Scene::new(), format!("call {number}"));
        let is_amid = scene.close_amid(number, |volume| drop(volume.change_keys(&KeyChange::Rotate).expect("rotated")));
        scene.assert_sound(&what);
        scene.assert_nothing_left(&what);
        if !is_amid {
            assert!(number > 10, "a change of keys has more calls than {number}");
            break;
        }
    }
}

#[test]
fn a_file_that_is_closed_amid_a_publish_while_a_commit_arrives_is_counted_and_removed() {
    for number in 0.. {
        let (scene, what) = (Scene::new(), format!("call {number}"));
        let half = half_a_commit_of_another(&scene.world);
        let inode = create(&scene.volume, "mine");
        scene.volume.write(inode, 0, &noise(3, 20_000), false).expect("written");
        scene.world.disk.deliver(&half.0, &half.1);
        scene.world.clock.advance(PAUSE);
        let is_amid = scene.close_amid(number, |volume| volume.publish().expect("published"));
        assert!(scene.volume.status().read_only.is_some(), "a commit is on its way");
        scene.world.disk.withdraw(&half.0);
        scene.world.clock.advance(PAUSE);
        scene.assert_sound(&what);
        scene.assert_nothing_left(&what);
        if !is_amid {
            assert!(number > 10, "a publish has more calls than {number}");
            break;
        }
    }
}

/// The half of a commit that a second device has made, with the same folder.
fn half_a_commit_of_another(world: &World) -> (FilePath, Vec<u8>) {
    let disk = MemoryStore::with_clock(world.clock.clone());
    carry(&world.disk, &disk);
    let store: Arc<dyn Store> = Arc::new(disk.clone());
    let volume = world.try_open(store, World::options()).expect("open");
    create(&volume, "theirs");
    volume.close().expect("closed");
    let had = vault_files(&world.disk);
    let is_new = |(path, _): &(FilePath, Vec<u8>)| !had.contains_key(path) && path.name.ends_with(".meta");
    let (path, mut bytes) = vault_files(&disk).into_iter().find(is_new).expect("a commit");
    bytes.truncate(bytes.len() / 2);
    (path, bytes)
}
