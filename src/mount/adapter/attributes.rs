//! Extended attributes, access times, and the room in the filesystem.
//!
//! The kernel checks who may read and write an attribute, and interprets ACLs; the volume keeps the values. What is
//! left for this file: the protocol of sizes (no room given: answer with the length; too little: `ERANGE`), the
//! namespaces that exist, hiding `trusted.` names from the unprivileged, and the set-group-id bit that setting an
//! access ACL drops unless the caller is in the file's group.

use fuser::{Errno, INodeNo, ReplyEmpty, ReplyStatfs, ReplyXattr};

use super::answer::Call;
use super::caller::Caller;
use super::convert::{self, inode_number};
use super::parts::Adapter;
use crate::volume::{AccessTimes, Volume, VolumeError};

/// The attribute that holds a file's POSIX ACL.
const ACCESS_ACL: &[u8] = b"system.posix_acl_access";

/// The attribute that holds the ACL which new files in a directory start with.
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// Attributes that only a privileged process sees.
const TRUSTED: &[u8] = b"trusted.";

/// The unit in which room is reported: programs disagree on which of two units counts, so both are this one.
const SPACE_UNIT_BYTES: u64 = 4096;

/// About how much a small file costs: what the number of free inodes is estimated from.
const INODE_BYTES: u64 = 512;

/// Longest name of a directory entry.
const NAME_BYTES_MAX: u32 = 255;

impl Adapter {
    #[allow(clippy::too_many_arguments)] // They are the kernel's.
    pub(super) fn answer_set_attribute(
        &self,
        call: Call,
        caller: Caller,
        inode: INodeNo,
        name: &[u8],
        value: &[u8],
        flags: i32,
        reply: ReplyEmpty,
    ) {
        self.answer_empty(call, reply, |volume| {
            known_namespace(name)?;
            let mode = convert::set_extended_attribute(flags).ok_or(VolumeError::Invalid("these flags of setxattr"))?;
            let drop_set_group_id = name == ACCESS_ACL && drops_set_group_id(volume, inode, caller)?;
            volume.set_extended_attribute(inode_number(inode), name, value, mode, drop_set_group_id)
        });
    }

    pub(super) fn answer_attribute(&self, call: Call, inode: INodeNo, name: &[u8], room: u32, reply: ReplyXattr) {
        let value = self.perform(call, |volume| {
            known_namespace(name)?;
            volume.extended_attribute(inode_number(inode), name)
        });
        match value {
            Ok(value) => answer_sized(reply, &value, room),
            Err(errno) => reply.error(errno),
        }
    }

    pub(super) fn answer_attribute_names(
        &self,
        call: Call,
        caller: Caller,
        inode: INodeNo,
        room: u32,
        reply: ReplyXattr,
    ) {
        match self.perform(call, |volume| volume.extended_attributes(inode_number(inode))) {
            Ok(names) => answer_sized(reply, &name_list(&names, || caller.administers()), room),
            Err(errno) => reply.error(errno),
        }
    }

    pub(super) fn answer_remove_attribute(&self, call: Call, inode: INodeNo, name: &[u8], reply: ReplyEmpty) {
        self.answer_empty(call, reply, |volume| {
            known_namespace(name)?;
            volume.remove_extended_attribute(inode_number(inode), name)
        });
    }

    /// Moves an access time where `times` say so, and tells the kernel. A failure does not fail the read.
    pub(super) fn note_access(&self, volume: &Volume, inode: INodeNo, times: AccessTimes) {
        match volume.note_access(inode_number(inode), times) {
            Ok(true) => self.stale.tell(inode_number(inode)),
            Ok(false) | Err(VolumeError::ReadOnly(_)) => {}
            Err(error) => log::debug!("the access time of inode {inode} is not moved: {error}"),
        }
    }

    pub(super) fn answer_space(&self, call: Call, reply: ReplyStatfs) {
        match self.perform(call, Volume::space) {
            Ok(space) => {
                let free_units = space.free_bytes / SPACE_UNIT_BYTES;
                let free_inodes = space.free_bytes / INODE_BYTES;
                reply.statfs(
                    space.total_bytes / SPACE_UNIT_BYTES,
                    free_units,
                    free_units,
                    space.inodes.saturating_add(free_inodes),
                    free_inodes,
                    SPACE_UNIT_BYTES as u32,
                    NAME_BYTES_MAX,
                    SPACE_UNIT_BYTES as u32,
                );
            }
            Err(errno) => reply.error(errno),
        }
    }
}

/// Refuses a name outside the namespaces that Linux filesystems keep.
fn known_namespace(name: &[u8]) -> Result<(), VolumeError> {
    let known = [&b"user."[..], TRUSTED, b"security."].iter().any(|space| name.starts_with(space));
    if known || name == ACCESS_ACL || name == DEFAULT_ACL { Ok(()) } else { Err(VolumeError::NotSupported) }
}

/// Whether an access ACL set by `caller` drops the set-group-id bit: asked only of a file that has it.
fn drops_set_group_id(volume: &Volume, inode: INodeNo, caller: Caller) -> Result<bool, VolumeError> {
    let attributes = volume.attributes(inode_number(inode))?;
    Ok(attributes.permissions & 0o2000 != 0 && !caller.keeps_set_group_id(attributes.group))
}

/// Names as `listxattr` gives them, each ended by a NUL. `sees_trusted` is asked only if there is any to see.
fn name_list(names: &[Vec<u8>], sees_trusted: impl FnOnce() -> bool) -> Vec<u8> {
    let any_trusted = names.iter().any(|name| name.starts_with(TRUSTED));
    let hide_trusted = any_trusted && !sees_trusted();
    let mut list = Vec::new();
    for name in names.iter().filter(|name| !(hide_trusted && name.starts_with(TRUSTED))) {
        list.extend_from_slice(name);
        list.push(0);
    }
    list
}

fn answer_sized(reply: ReplyXattr, value: &[u8], room: u32) {
    match u32::try_from(value.len()) {
        Ok(length) if room == 0 => reply.size(length),
        Ok(length) if length <= room => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trusted_names_are_shown_to_the_privileged_only() {
        let names = [b"trusted.a".to_vec(), b"user.b".to_vec()];
        assert_eq!(name_list(&names, || true), b"trusted.a\0user.b\0");
        assert_eq!(name_list(&names, || false), b"user.b\0");
        assert_eq!(name_list(&names[1..], || panic!("nobody need be asked")), b"user.b\0");
    }

    #[test]
    fn a_name_outside_the_namespaces_is_not_supported() {
        for name in [&b"user.a"[..], b"security.capability", b"trusted.overlay.opaque", ACCESS_ACL, DEFAULT_ACL] {
            assert!(known_namespace(name).is_ok());
        }
        for name in [&b"system.other"[..], b"os2.a", b"user", b""] {
            assert!(matches!(known_namespace(name), Err(VolumeError::NotSupported)));
        }
    }
}
