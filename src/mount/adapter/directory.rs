//! Listing a directory, with and without attributes.
//!
//! The kernel gives room for some kilobytes and takes what fits; the next request goes on after the cookie of the last
//! entry that did. An entry that does not fit was not consumed and holds no reference. `.` and `..` never hold one: the
//! kernel does not count them as looked up.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use fuser::{Errno, INodeNo, ReplyDirectory, ReplyDirectoryPlus};

use super::answer::{Call, GENERATION, VALIDITY};
use super::convert::{bare_attributes, file_type, inode_number};
use super::parts::Adapter;
use crate::format::InodeNumber;
use crate::volume::DirectoryEntry;

impl Adapter {
    pub(super) fn answer_directory(&self, call: Call, inode: INodeNo, cookie: u64, mut reply: ReplyDirectory) {
        let listed = self.list(call, inode, cookie, false, &mut |entry| {
            !reply.add(INodeNo(entry.inode.0), entry.cookie, file_type(entry.kind), OsStr::from_bytes(entry.name))
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    pub(super) fn answer_directory_plus(&self, call: Call, inode: INodeNo, cookie: u64, mut reply: ReplyDirectoryPlus) {
        let listed = self.list(call, inode, cookie, true, &mut |entry| {
            let is_dots = entry.name == b"." || entry.name == b"..";
            let shown = match entry.attributes {
                Some(attributes) => self.shown(attributes),
                None if is_dots => bare_attributes(entry.inode, entry.kind),
                // Inode 0 tells the kernel that this entry was not looked up: it looks it up when a program uses it.
                None => bare_attributes(InodeNumber(0), entry.kind),
            };
            !reply.add(shown.ino, entry.cookie, OsStr::from_bytes(entry.name), &VALIDITY, &shown, GENERATION)
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(errno) => reply.error(errno),
        }
    }

    /// Lists into a reply. When it fails after entries were taken, these are sent all the same, for their references
    /// are counted; the kernel's next request then meets the failure first.
    fn list(
        &self,
        call: Call,
        inode: INodeNo,
        cookie: u64,
        with_attributes: bool,
        add: &mut dyn FnMut(&DirectoryEntry<'_>) -> bool,
    ) -> Result<(), Errno> {
        let mut taken = 0_usize;
        let listed = self.perform(call, |volume| {
            volume.read_directory(inode_number(inode), cookie, with_attributes, &mut |entry| {
                let fits = add(entry);
                taken += usize::from(fits);
                fits
            })
        });
        if taken > 0 { Ok(()) } else { listed }
    }
}
