//! [`fuser::Filesystem`] for a volume: each request of the kernel becomes one call, and its result one reply.
//!
//! Relies on: [`Volume`], whose operations are atomic and may be called from any thread. The kernel checks permissions
//! (`default_permissions`), applies nothing of the umask (`DONT_MASK`: the volume does, for a default ACL replaces it),
//! and keeps locks to itself.
//!
//! Promises:
//! - Every request is answered once, even one whose work panics.
//! - A reference or handle that the volume counted for a reply reaches the kernel: nothing can fail between the two.
//! - Nothing that may take long for other reasons than the disk (publishing) holds up a reader thread.
//!
//! What needs more than a call and a reply lies beside this file: `attributes.rs`, `directory.rs`, and in `control/server.rs`.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::SystemTime;

use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, INodeNo, IoctlFlags, KernelConfig,
    LockOwner, OpenAccMode, OpenFlags, PollEvents, PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen,
    ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use super::answer::{Call, GENERATION, VALIDITY};
use super::caller::Caller;
use super::convert::{self, inode_number, permissions};
use super::parts::Adapter;
use super::readers::Cost;
use crate::mount::session::negotiate;
use crate::volume::{AccessTimes, FileKind, NewNode, Place, RenameMode, SetAttributes, Volume, VolumeError};

/// Longest range that one `copy_file_range` may copy: its answer has 32 bits, and block alignment is kept.
const COPY_BYTES_MAX: u64 = 1 << 31;

/// Requests for more content than this are worth another thread.
const QUICK_BYTES_MAX: usize = 64 << 10;

fn cost_of(bytes: usize) -> Cost {
    if bytes > QUICK_BYTES_MAX { Cost::Slow } else { Cost::Quick }
}

/// A node that `request` creates.
fn new_node(request: &Request, mode: u32, umask: u32) -> NewNode {
    NewNode { user: request.uid(), group: request.gid(), permissions: permissions(mode), umask: permissions(umask) }
}

/// Whether a change of content by `caller` drops set-id bits: asked only of a file that has any.
fn drops_set_id(volume: &Volume, inode: INodeNo, caller: Caller) -> Result<bool, VolumeError> {
    Ok(volume.attributes(inode_number(inode))?.permissions & 0o6000 != 0 && !caller.keeps_set_id())
}

impl Filesystem for Adapter {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        negotiate(config, self.writeback);
        Ok(())
    }

    fn lookup(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _guard = self.readers.begin(Cost::Quick);
        let call = Call::new("lookup", request, parent);
        self.answer_entry(call, reply, |volume| volume.lookup(inode_number(parent), name.as_bytes()));
    }

    fn forget(&self, request: &Request, inode: INodeNo, references: u64) {
        let _guard = self.readers.begin(Cost::Unanswered);
        let forgotten = |volume: &Volume| {
            volume.forget(inode_number(inode), references);
            Ok(())
        };
        // There is no reply: a panic has been logged, and that is all that can be done.
        self.perform(Call::new("forget", request, inode), forgotten).ok();
    }

    fn getattr(&self, request: &Request, inode: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        let _guard = self.readers.begin(Cost::Quick);
        let call = Call::new("getattr", request, inode);
        self.answer_attributes(call, reply, |volume| volume.attributes(inode_number(inode)));
    }

    fn setattr(
        &self,
        request: &Request,
        inode: INodeNo,
        mode: Option<u32>,
        user: Option<u32>,
        group: Option<u32>,
        size_bytes: Option<u64>,
        accessed: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        changed: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _created: Option<SystemTime>,
        _changed_on_macos: Option<SystemTime>,
        _backed_up: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let _guard = self.readers.begin(Cost::Quick);
        let caller = Caller::of(request);
        self.answer_attributes(Call::new("setattr", request, inode), reply, |volume| {
            let set = SetAttributes {
                permissions: mode.map(permissions),
                user,
                group,
                size_bytes,
                accessed: accessed.map(convert::set_time),
                modified: modified.map(convert::set_time),
                changed: convert::set_changed(changed),
                drop_set_id: size_bytes.is_some() && drops_set_id(volume, inode, caller)?,
            };
            volume.set_attributes(inode_number(inode), &set)
        });
    }

    fn readlink(&self, request: &Request, inode: INodeNo, reply: ReplyData) {
        let _guard = self.readers.begin(Cost::Quick);
        let call = Call::new("readlink", request, inode);
        match self.perform(call, |volume| volume.read_symlink(inode_number(inode))) {
            Ok(target) => reply.data(&target),
            Err(errno) => reply.error(errno),
        }
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        device_number: u32,
        reply: ReplyEntry,
    ) {
        let _guard = self.readers.begin(Cost::Quick);
        let new = new_node(request, mode, umask);
        self.answer_entry(Call::new("mknod", request, parent), reply, |volume| {
            let kind = convert::node_kind(mode).ok_or(VolumeError::Invalid("this kind of node"))?;
            let is_device = matches!(kind, FileKind::CharacterDevice | FileKind::BlockDevice);
            let device_number = if is_device { device_number } else { 0 };
            volume.make_node(inode_number(parent), name.as_bytes(), &new, kind, device_number)
        });
    }

    fn mkdir(&self, request: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let _guard = self.readers.begin(Cost::Quick);
        let new = new_node(request, mode, umask);
        let call = Call::new("mkdir", request, parent);
        self.answer_entry(call, reply, |volume| volume.make_directory(inode_number(parent), name.as_bytes(), &new));
    }

    fn unlink(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _guard = self.readers.begin(Cost::Quick);
        let call = Call::new("unlink", request, parent);
        self.answer_empty(call, reply, |volume| volume.unlink(inode_number(parent), name.as_bytes()));
    }

    fn rmdir(&self, request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _guard = self.readers.begin(Cost::Quick);
        let call = Call::new("rmdir", request, parent);
        self.answer_empty(call, reply, |volume| volume.remove_directory(inode_number(parent), name.as_bytes()));
    }

    fn symlink(&self, request: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let _guard = self.readers.begin(Cost::Quick);
        let new = new_node(request, 0o777, 0);
        let target = target.as_os_str().as_bytes();
        self.answer_entry(Call::new("symlink", request, parent), reply, |volume| {
            volume.make_symlink(inode_number(parent), name.as_bytes(), target, &new)
        });
    }

    fn rename(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let _guard = self.readers.begin(Cost::Quick);
        let whiteout = new_node(request, 0, 0);
        self.answer_empty(Call::new("rename", request, parent), reply, |volume| {
            let (leaves_whiteout, rest) = convert::split_whiteout(flags);
            let mode = match rest {
                none if none.is_empty() => RenameMode::Replace,
                RenameFlags::RENAME_NOREPLACE => RenameMode::NoReplace,
                RenameFlags::RENAME_EXCHANGE if !leaves_whiteout => RenameMode::Exchange,
                _ => return Err(VolumeError::Invalid("these flags of rename")),
            };
            let (source, target) = (inode_number(parent), inode_number(new_parent));
            let (name, new_name) = (name.as_bytes(), new_name.as_bytes());
            match leaves_whiteout {
                true => volume.rename_leaving_whiteout(source, name, target, new_name, mode, &whiteout),
                false => volume.rename(source, name, target, new_name, mode),
            }
        });
    }

    fn link(&self, request: &Request, inode: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let _guard = self.readers.begin(Cost::Quick);
        self.answer_entry(Call::new("link", request, inode), reply, |volume| {
            volume.link(inode_number(inode), inode_number(parent), name.as_bytes())
        });
    }

    fn open(&self, request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let _guard = self.readers.begin(Cost::Quick);
        let call = Call::new("open", request, inode);
        let reads = flags.acc_mode() != OpenAccMode::O_WRONLY && flags.0 & libc::O_NOATIME == 0;
        let times = if reads { self.access_times } else { AccessTimes::Never };
        let opened = self.perform(call, |volume| {
            volume.open_file(inode_number(inode))?;
            self.note_access(volume, inode, times);
            Ok(())
        });
        match opened {
            Ok(()) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | self.closing.flags(flags)),
            Err(errno) => reply.error(errno),
        }
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let _guard = self.readers.begin(Cost::Quick);
        let new = new_node(request, mode, umask);
        let call = Call::new("create", request, parent);
        match self.perform(call, |volume| volume.create_file(inode_number(parent), name.as_bytes(), &new)) {
            Ok(attributes) => {
                let shown = self.shown(&attributes);
                let flags = FopenFlags::FOPEN_KEEP_CACHE | self.closing.flags(OpenFlags(flags));
                reply.created(&VALIDITY, &shown, GENERATION, FileHandle(0), flags);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        length: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let _guard = self.readers.begin(cost_of(length as usize));
        let call = Call::new("read", request, inode);
        match self.perform(call, |volume| volume.read(inode_number(inode), offset, length as usize)) {
            Ok(data) => reply.data(&data),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let _guard = self.readers.begin(cost_of(data.len()));
        // Where the kernel gathers writes, or hands over those to mapped files, their offsets are not the end.
        let is_gathered = self.writeback || write_flags.contains(WriteFlags::FUSE_WRITE_CACHE);
        let is_append = flags.0 & libc::O_APPEND != 0 && !is_gathered;
        // Set on every write of a process without CAP_FSETID, whether or not the file has set-id bits.
        let drop_set_id = write_flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID);
        let call = Call::new("write", request, inode);
        let written = self.perform(call, |volume| {
            if is_append {
                volume.check_end(inode_number(inode), offset)?;
            }
            volume.write(inode_number(inode), offset, data, drop_set_id)
        });
        match written {
            Ok(()) => reply.written(data.len() as u32),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&self, request: &Request, inode: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        let _guard = self.readers.begin(Cost::Quick);
        self.answer_empty(Call::new("flush", request, inode), reply, |volume| {
            volume.flush_file();
            Ok(())
        });
    }

    fn release(
        &self,
        request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let _guard = self.readers.begin(Cost::Quick);
        self.answer_empty(Call::new("release", request, inode), reply, |volume| {
            volume.close_file(inode_number(inode));
            Ok(())
        });
    }

    fn fsync(&self, request: &Request, inode: INodeNo, _: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        let _guard = self.readers.begin(Cost::Slow);
        let call = Call::new("fsync", request, inode);
        self.answer_empty(call, reply, |volume| volume.sync_file(inode_number(inode)));
    }

    fn fsyncdir(&self, request: &Request, inode: INodeNo, _: FileHandle, _data_only: bool, reply: ReplyEmpty) {
        let _guard = self.readers.begin(Cost::Slow);
        let call = Call::new("fsyncdir", request, inode);
        self.answer_empty(call, reply, |volume| volume.sync_file(inode_number(inode)));
    }

    fn opendir(&self, request: &Request, inode: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let _guard = self.readers.begin(Cost::Quick);
        if self.directory_access_times != AccessTimes::Never && flags.0 & libc::O_NOATIME == 0 {
            let call = Call::new("opendir", request, inode);
            let note = |volume: &Volume| {
                self.note_access(volume, inode, self.directory_access_times);
                Ok(())
            };
            self.perform(call, note).ok();
        }
        reply.opened(FileHandle(0), FopenFlags::empty());
    }

    fn releasedir(&self, _: &Request, _: INodeNo, _: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        let _guard = self.readers.begin(Cost::Quick);
        reply.ok();
    }

    fn readdir(&self, request: &Request, inode: INodeNo, _: FileHandle, cookie: u64, reply: ReplyDirectory) {
        let _guard = self.readers.begin(Cost::Quick);
        self.answer_directory(Call::new("readdir", request, inode), inode, cookie, reply);
    }

    fn readdirplus(&self, request: &Request, inode: INodeNo, _: FileHandle, cookie: u64, reply: ReplyDirectoryPlus) {
        let _guard = self.readers.begin(Cost::Quick);
        self.answer_directory_plus(Call::new("readdirplus", request, inode), inode, cookie, reply);
    }

    fn statfs(&self, request: &Request, inode: INodeNo, reply: ReplyStatfs) {
        let _guard = self.readers.begin(Cost::Quick);
        self.answer_space(Call::new("statfs", request, inode), reply);
    }

    fn setxattr(
        &self,
        request: &Request,
        inode: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let _guard = self.readers.begin(Cost::Quick);
        let call = Call::new("setxattr", request, inode);
        self.answer_set_attribute(call, Caller::of(request), inode, name.as_bytes(), value, flags, reply);
    }

    fn getxattr(&self, request: &Request, inode: INodeNo, name: &OsStr, room: u32, reply: ReplyXattr) {
        let _guard = self.readers.begin(Cost::Quick);
        self.answer_attribute(Call::new("getxattr", request, inode), inode, name.as_bytes(), room, reply);
    }

    fn listxattr(&self, request: &Request, inode: INodeNo, room: u32, reply: ReplyXattr) {
        let _guard = self.readers.begin(Cost::Quick);
        self.answer_attribute_names(Call::new("listxattr", request, inode), Caller::of(request), inode, room, reply);
    }

    fn removexattr(&self, request: &Request, inode: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let _guard = self.readers.begin(Cost::Quick);
        self.answer_remove_attribute(Call::new("removexattr", request, inode), inode, name.as_bytes(), reply);
    }

    fn fallocate(
        &self,
        request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let _guard = self.readers.begin(Cost::Slow);
        let caller = Caller::of(request);
        self.answer_empty(Call::new("fallocate", request, inode), reply, |volume| {
            let what = convert::allocate(mode).ok_or(VolumeError::NotSupported)?;
            let drop_set_id = drops_set_id(volume, inode, caller)?;
            volume.allocate(inode_number(inode), what, offset, length, drop_set_id)
        });
    }

    fn lseek(
        &self,
        request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let _guard = self.readers.begin(Cost::Quick);
        let found = self.perform(Call::new("lseek", request, inode), |volume| {
            let target = convert::seek_target(whence).ok_or(VolumeError::Invalid("this kind of seek"))?;
            let offset = u64::try_from(offset).map_err(|_| VolumeError::NoSuchOffset)?;
            let found = volume.seek(inode_number(inode), offset, target)?;
            i64::try_from(found).map_err(|_| VolumeError::FileTooLarge)
        });
        match found {
            Ok(offset) => reply.offset(offset),
            Err(errno) => reply.error(errno),
        }
    }

    fn copy_file_range(
        &self,
        request: &Request,
        source: INodeNo,
        _source_handle: FileHandle,
        source_offset: u64,
        target: INodeNo,
        _target_handle: FileHandle,
        target_offset: u64,
        length: u64,
        _flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        let _guard = self.readers.begin(Cost::Slow);
        let caller = Caller::of(request);
        let length = length.min(COPY_BYTES_MAX);
        let copied = self.perform(Call::new("copy_file_range", request, target), |volume| {
            let drop_set_id = drops_set_id(volume, target, caller)?;
            let source = Place { inode: inode_number(source), offset: source_offset };
            let target = Place { inode: inode_number(target), offset: target_offset };
            volume.copy_range(source, target, length, drop_set_id)
        });
        match copied {
            // At most `length`, which has 32 bits.
            Ok(bytes) => reply.written(bytes.min(length) as u32),
            Err(errno) => reply.error(errno),
        }
    }

    fn ioctl(
        &self,
        request: &Request,
        inode: INodeNo,
        _handle: FileHandle,
        _flags: IoctlFlags,
        command: u32,
        input: &[u8],
        _room: u32,
        reply: ReplyIoctl,
    ) {
        let _guard = self.readers.begin(Cost::Slow);
        self.answer_control(Call::new("ioctl", request, inode), request.uid(), inode, command, input, reply);
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        let _guard = self.readers.begin(Cost::Quick);
        // Files are always ready; the kernel knows that itself, and stops asking after this answer.
        reply.error(Errno::ENOSYS);
    }
}
