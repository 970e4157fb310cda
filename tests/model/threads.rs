//! Three threads at work on one volume with its background threads, killed at some moment.
//!
//! Each thread has a directory of its own and a reference for it. Afterwards each directory must show a state that its
//! thread went through, at least as new as the last that was acknowledged to it. Which moment it is, the machine decides;
//! what each thread does, a seed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::picture::Picture;
use super::reference::{Content, Reference};
use super::seeds;
use super::support::{OWNER, ROOT, World};
use passkeyfs::crypto::{Randomness, SeededRandomness};
use passkeyfs::format::InodeNumber;
use passkeyfs::store::FaultyStore;
use passkeyfs::store::faulty::{CallKind, Failure, Fault};
use passkeyfs::store::memory::chosen_by;
use passkeyfs::volume::{FileKind, Place, RenameMode, SetAttributes, Volume, VolumeError, VolumeOptions};

const THREADS: usize = 3;

/// What one thread did.
struct Worker {
    volume: Arc<Volume>,
    randomness: SeededRandomness,
    reference: Reference,
    /// The states since the newest that was acknowledged; the last may be of an operation that failed.
    history: Vec<Reference>,
    operations: usize,
}

impl Worker {
    fn below(&self, bound: u64) -> u64 {
        self.randomness.u64() % bound
    }

    /// Works until it is killed. Until then only a disk with faults may fail it, and what fails is not done.
    fn work(&mut self, is_killed: &AtomicBool, has_faults: bool) {
        loop {
            match self.step() {
                Ok(()) => self.operations += 1,
                Err(VolumeError::Io(_) | VolumeError::ReadOnly(_) | VolumeError::NoSpace(_))
                    if has_faults || is_killed.load(Ordering::Relaxed) => {}
                Err(error) => panic!("{error}"),
            }
            if is_killed.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    fn step(&mut self) -> Result<(), VolumeError> {
        let mut next = self.reference.clone();
        let root = InodeNumber(next.root);
        let name = |index: u64| vec![b'a' + index as u8];
        let (first, second) = (name(self.below(6)), name(self.below(6)));
        let found = next.entries(next.root).get(&first).copied();
        match (self.below(20), found) {
            (0, _) => {
                self.volume.publish()?;
                self.history = vec![self.reference.clone()];
                return Ok(());
            }
            (1..5, _) => {
                self.volume.sync_file(root)?;
                self.history = vec![self.reference.clone()];
                return Ok(());
            }
            (_, None) => {
                let made = self.volume.create_file(root, &first, &OWNER)?;
                self.volume.close_file(made.inode);
                self.volume.forget(made.inode, 1);
                let content = Content::File(Arc::default());
                next.make(next.root, &first, made.inode.0, FileKind::Regular, OWNER.permissions, content).unwrap();
            }
            (5, Some(_)) => {
                self.volume.unlink(root, &first)?;
                next.unlink(next.root, &first).unwrap();
            }
            (6 | 7, Some(_)) => {
                self.volume.rename(root, &first, root, &second, RenameMode::Replace)?;
                next.rename((root.0, &first), (root.0, &second), RenameMode::Replace).unwrap();
            }
            (8, Some(inode)) => {
                let size = self.below(60_000);
                let set = SetAttributes { size_bytes: Some(size), ..SetAttributes::default() };
                self.volume.set_attributes(InodeNumber(inode), &set)?;
                next.edit(inode, |bytes| bytes.resize(size as usize, 0));
            }
            (9 | 10, Some(source)) => {
                let Some(target) = next.entries(next.root).get(&second).copied().filter(|target| *target != source)
                else {
                    return Ok(());
                };
                let bytes = next.get(source).bytes().to_vec();
                let (from, to) = (InodeNumber(source), InodeNumber(target));
                let copied = self.volume.copy_range(
                    Place { inode: from, offset: 0 },
                    Place { inode: to, offset: 0 },
                    bytes.len() as u64,
                    false,
                )?;
                next.write(target, 0, &bytes[..copied as usize]);
            }
            (_, Some(inode)) => {
                let (offset, length) = (self.below(40_000) as usize, 1 + self.below(20_000) as usize);
                let mut bytes = vec![self.below(3) as u8; length];
                if self.below(2) == 0 {
                    self.randomness.fill(&mut bytes);
                }
                self.volume.write(InodeNumber(inode), offset as u64, &bytes, false)?;
                next.write(inode, offset, &bytes);
            }
        }
        self.reference = next;
        self.history.push(self.reference.clone());
        Ok(())
    }
}

/// The clock runs, so that journal and commits come by themselves, too.
fn let_time_pass(world: &World, stop: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let clock = world.clock.clone();
    thread::spawn(move || {
        while !stop.load(Ordering::Relaxed) {
            clock.advance(Duration::from_millis(700));
            thread::sleep(Duration::from_millis(1));
        }
    })
}

fn run(seed: u64) -> usize {
    let mut world = World::new(seed);
    let options = VolumeOptions {
        dirty_bytes_max: [200 << 10, 1 << 20, 8 << 20][seed as usize % 3],
        cache_bytes_max: 256 << 10,
        publish_interval: Duration::from_secs(8),
        background: true,
        ..World::options()
    };
    let store = FaultyStore::new(Arc::new(world.disk.clone()));
    let volume = world.try_open(Arc::new(store.clone()), options).unwrap();
    let mut workers: Vec<Worker> = (0..THREADS as u64)
        .map(|index| {
            let directory = volume.make_directory(ROOT, &[b'0' + index as u8], &OWNER).unwrap();
            let reference = Reference::new(directory.inode.0, OWNER.permissions, directory.created);
            let randomness = SeededRandomness::new(seed * 10 + index);
            let history = vec![reference.clone()];
            Worker { volume: Arc::clone(&volume), randomness, reference, history, operations: 0 }
        })
        .collect();
    volume.publish().unwrap();
    let has_faults = seed % 4 >= 2;
    if has_faults {
        let randomness = SeededRandomness::new(seed);
        let mut number = 0;
        for _ in 0..6 {
            number += 20 + randomness.u64() % 100;
            let fault = match randomness.u64() % 3 {
                0 => Fault::Before(Failure::Io),
                1 => Fault::Halfway(Failure::Full),
                _ => Fault::After(Failure::Io),
            };
            store.fail(&CallKind::CHANGES, number, fault);
        }
    }
    let (stop, is_killed) = (Arc::new(AtomicBool::new(false)), AtomicBool::new(false));
    let time = let_time_pass(&world, Arc::clone(&stop));
    let disk = world.disk.clone();
    let left = thread::scope(|scope| {
        let is_killed = &is_killed;
        let running: Vec<_> =
            workers.iter_mut().map(|worker| scope.spawn(move || worker.work(is_killed, has_faults))).collect();
        thread::sleep(Duration::from_millis(20 + seed * 37 % 180));
        is_killed.store(true, Ordering::Relaxed);
        let left = match seed % 2 {
            0 => disk.kill(),
            _ => disk.crash(&mut chosen_by(&SeededRandomness::new(seed))),
        };
        for thread in running {
            assert!(thread.join().is_ok(), "seed {seed}");
        }
        left
    });
    stop.store(true, Ordering::Relaxed);
    time.join().unwrap();
    // What a thread of the dead process still does, it does to a dead disk.
    assert!(volume.close().is_err() || volume.status().unpublished_items == 0);
    drop(volume);
    world.disk = left;
    let volume = world.open();
    for (index, worker) in workers.iter().enumerate() {
        let found = volume.lookup(ROOT, &[b'0' + index as u8]).unwrap().inode;
        let picture = Picture::of_volume(&volume, found).unwrap().without_times();
        let difference = |state: &Reference| picture.difference(&Picture::of_reference(state).without_times());
        assert!(
            worker.history.iter().any(|state| difference(state).is_none()),
            "seed {seed}, thread {index}: none of {} states; from the acknowledged one it differs in\n{}\nand from the newest in\n{}",
            worker.history.len(),
            difference(&worker.history[0]).unwrap(),
            difference(worker.history.last().unwrap()).unwrap(),
        );
    }
    volume.publish().unwrap();
    workers.iter().map(|worker| worker.operations).sum()
}

#[test]
fn killed_amid_the_work_of_three_threads_it_shows_what_each_was_promised() {
    let seeds = seeds::from_environment(40);
    let operations: usize = seeds.iter().map(|seed| run(*seed)).sum();
    assert!(operations > seeds.len() * 20, "the threads did only {operations} operations");
    println!("{operations} operations");
}
