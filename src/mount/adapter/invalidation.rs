//! The kernel's caches, told of what changed behind its back: another device's commit that the volume followed.
//!
//! A queue to one thread that holds no lock: the kernel may make it wait for an inode that some request holds, and that
//! request may wait for the volume. Until the thread has told all, the volume refuses what was meant for content that is
//! gone ([`Volume::kernel_is_told`]).

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};

use fuser::{INodeNo, Notifier};
use parking_lot::Mutex;

use crate::format::InodeNumber;
use crate::volume::{Followed, Stale, Volume};

/// What holds copies of names, attributes and content.
pub(in crate::mount) trait KernelCaches: Send {
    /// Has it drop one of them. What it does not have is no error.
    fn drop_stale(&self, stale: &Stale) -> io::Result<()>;
    /// Shows it the last byte of a file, at this offset: then it knows how long the file is.
    fn show_end(&self, inode: InodeNumber, offset: u64, byte: u8) -> io::Result<()>;
}

impl KernelCaches for Notifier {
    fn drop_stale(&self, stale: &Stale) -> io::Result<()> {
        match stale {
            Stale::Name { parent, name } => self.inval_entry(INodeNo(parent.0), OsStr::from_bytes(name)),
            // A negative offset: no content.
            Stale::Attributes(inode) => self.inval_inode(INodeNo(inode.0), -1, 0),
            // A length of 0: to the end.
            Stale::Content(inode) => self.inval_inode(INodeNo(inode.0), 0, 0),
        }
    }

    fn show_end(&self, inode: InodeNumber, offset: u64, byte: u8) -> io::Result<()> {
        self.store(INodeNo(inode.0), offset, &[byte])
    }
}

/// Has the kernel told as long as it lives: the thread, and with it the way to the kernel, ends with this.
pub(in crate::mount) struct Informed {
    _orders: Arc<Mutex<Sender<Followed>>>,
}

/// Has `caches` told of every commit that `volume` follows from now on.
pub(in crate::mount) fn keep_informed(
    volume: &Arc<Volume>,
    caches: impl KernelCaches + 'static,
) -> io::Result<Informed> {
    let (orders, received) = channel();
    let told = Arc::downgrade(volume);
    std::thread::Builder::new().name("invalidation".into()).spawn(move || serve(&told, &received, &caches))?;
    let orders = Arc::new(Mutex::new(orders));
    // The volume may outlive the mount, whose connection ends with its last file descriptor.
    let queue = Arc::downgrade(&orders);
    volume.when_followed(Box::new(move |followed| {
        if let Some(orders) = queue.upgrade() {
            // Its thread is gone only if it panicked: then the caches go by their own age.
            let _ = orders.lock().send(followed);
        }
    }));
    Ok(Informed { _orders: orders })
}

fn serve(volume: &Weak<Volume>, orders: &Receiver<Followed>, caches: &dyn KernelCaches) {
    while let Ok(followed) = orders.recv() {
        let Some(volume) = volume.upgrade() else { return };
        tell(&volume, &followed, caches);
        volume.kernel_is_told(&followed);
    }
}

fn tell(volume: &Volume, followed: &Followed, caches: &dyn KernelCaches) {
    let mut failed = None;
    let mut drop_stale = |stale: Stale| {
        let mut note = |told: io::Result<()>| failed = told.err().or(failed.take());
        note(caches.drop_stale(&stale));
        // It asks nobody where the end is when a program appends to a file that it has open.
        if let Stale::Content(inode) = stale
            && let Some((offset, byte)) = volume.last_byte_of_open_file(inode)
        {
            note(caches.show_end(inode, offset, byte));
        }
    };
    if let Err(error) = volume.stale_in_kernel(followed, &mut drop_stale) {
        log::warn!("what a commit of another device has changed cannot be read in whole: {error}");
        // Names in directories go by their age; what they lead to is asked for anew.
        volume.known_to_kernel().into_iter().map(Stale::Content).for_each(&mut drop_stale);
    }
    if let Some(error) = failed {
        log::debug!("the kernel did not take word of what has changed: {error}");
    }
}
