//! Invalidates the kernel's caches after the volume has followed another device's commit.
//!
//! A queue to one thread that holds no lock: the kernel may block it on an inode that a request holds, and that request
//! may wait for the volume. Until the thread is done, the volume refuses requests that refer to replaced content
//! ([`Volume::kernel_is_told`]).

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};

use fuser::{INodeNo, Notifier};
use parking_lot::Mutex;

use crate::format::InodeNumber;
use crate::volume::{Followed, Stale, Volume};

/// A cache of names, attributes and content.
pub(in crate::mount) trait KernelCaches: Send {
    /// Drops one of them. It is no error if it is not cached.
    fn drop_stale(&self, stale: &Stale) -> io::Result<()>;
    /// Stores the last byte of a file, at this offset, by which the cache learns the size of the file.
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

/// Ends the thread, and with it the connection to the kernel, when dropped.
pub(in crate::mount) struct Informed {
    _orders: Arc<Mutex<Sender<Followed>>>,
}

/// Starts to invalidate `caches` after every commit that `volume` follows.
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
            // The thread is gone only if it panicked: then cached entries expire by their validity.
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
        // The kernel does not ask for the size when a program appends to an open file.
        if let Stale::Content(inode) = stale
            && let Some((offset, byte)) = volume.last_byte_of_open_file(inode)
        {
            note(caches.show_end(inode, offset, byte));
        }
    };
    if let Err(error) = volume.stale_in_kernel(followed, &mut drop_stale) {
        log::warn!("what a commit of another device has changed cannot be read in whole: {error}");
        // Cached names expire by their validity; the kernel asks again for the inodes that they lead to.
        volume.known_to_kernel().into_iter().map(Stale::Content).for_each(&mut drop_stale);
    }
    if let Some(error) = failed {
        log::debug!("the kernel did not take word of what has changed: {error}");
    }
}
