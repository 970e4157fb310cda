//! POSIX access control lists, as the kernel keeps them in `system.posix_acl_access` and `system.posix_acl_default`.
//!
//! The kernel checks permissions with them; what it leaves to a FUSE filesystem is inheritance at creation, and keeping
//! mode and ACL in step (acl(5), "OBJECT CREATION AND DEFAULT ACLs"; the layout is linux/posix_acl_xattr.h, version 2).

use super::{Result, VolumeError};
use crate::format::items::AttributesRecord;
use crate::format::{ByteReader, ByteWriter, InodeNumber};
use crate::state::edit::Edit;
use crate::state::types::{FileKind, NewNode};
use crate::state::view::View;

/// The attribute that holds an inode's own ACL.
pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute that holds what new entries of a directory inherit.
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const USER_OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OWNER: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AclEntry {
    tag: u16,
    permissions: u16,
    id: u32,
}

/// An access control list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acl {
    entries: Vec<AclEntry>,
}

impl Acl {
    /// Reads an attribute's value.
    pub fn decode(value: &[u8]) -> Result<Self> {
        let invalid = || VolumeError::Invalid("an access control list");
        let mut reader = ByteReader::new("access control list", value);
        if reader.u32().map_err(|_| invalid())? != VERSION {
            return Err(VolumeError::NotSupported);
        }
        let mut entries = Vec::new();
        while reader.remaining() > 0 {
            let mut read = || Some((reader.u16().ok()?, reader.u16().ok()?, reader.u32().ok()?));
            let (tag, permissions, id) = read().ok_or_else(invalid)?;
            if permissions > 7 || ![USER_OWNER, USER, GROUP_OWNER, GROUP, MASK, OTHER].contains(&tag) {
                return Err(invalid());
            }
            entries.push(AclEntry { tag, permissions, id });
        }
        Ok(Self { entries })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut writer = ByteWriter::new();
        writer.u32(VERSION);
        for entry in &self.entries {
            writer.u16(entry.tag).u16(entry.permissions).u32(entry.id);
        }
        writer.finish()
    }

    /// Whether it has no entry: setting such a list removes it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it says no more than nine permission bits can.
    pub fn is_equivalent_to_mode(&self) -> bool {
        self.entries.iter().all(|entry| [USER_OWNER, GROUP_OWNER, OTHER].contains(&entry.tag))
    }

    fn find(&mut self, tag: u16) -> Option<&mut u16> {
        self.entries.iter_mut().find(|entry| entry.tag == tag).map(|entry| &mut entry.permissions)
    }

    /// What the group bits of the mode stand for: the mask where there is one.
    fn group_class(&mut self) -> Option<&mut u16> {
        let tag = if self.entries.iter().any(|entry| entry.tag == MASK) { MASK } else { GROUP_OWNER };
        self.find(tag)
    }

    /// The mode with the permission bits that this list gives.
    pub fn apply_to_mode(&self, permissions: u16) -> u16 {
        let mut list = self.clone();
        let mut mode = permissions & 0o7000;
        mode |= list.find(USER_OWNER).map_or(0, |bits| *bits) << 6;
        mode |= list.group_class().map_or(0, |bits| *bits) << 3;
        mode | list.find(OTHER).map_or(0, |bits| *bits)
    }

    /// Takes over the bits of a `chmod`.
    pub fn change_mode(&mut self, permissions: u16) {
        let bits = [permissions >> 6 & 7, permissions >> 3 & 7, permissions & 7];
        self.find(USER_OWNER).into_iter().for_each(|entry| *entry = bits[0]);
        self.group_class().into_iter().for_each(|entry| *entry = bits[1]);
        self.find(OTHER).into_iter().for_each(|entry| *entry = bits[2]);
    }

    /// Narrows list and mode to what both allow: a default ACL becomes a new inode's own.
    fn narrow(&mut self, permissions: u16) -> u16 {
        let mut narrowed = permissions & 0o7000;
        for (shift, entry) in [6, 3, 0].into_iter().zip([USER_OWNER, GROUP_OWNER, OTHER]) {
            let found = if entry == GROUP_OWNER { self.group_class() } else { self.find(entry) };
            let wanted = permissions >> shift & 7;
            let allowed = found.map_or(wanted, |bits| {
                *bits &= wanted;
                *bits
            });
            narrowed |= allowed << shift;
        }
        narrowed
    }
}

/// What a new inode gets from its directory and its maker.
pub(super) struct Inherited {
    /// Its permission bits.
    pub permissions: u16,
    access: Option<Vec<u8>>,
    default: Option<Vec<u8>>,
}

impl Inherited {
    /// Nothing but permission bits.
    pub fn from_mode(permissions: u16) -> Self {
        Self { permissions, access: None, default: None }
    }

    /// Whether the inode has an ACL.
    pub fn has_acl(&self) -> bool {
        self.access.is_some() || self.default.is_some()
    }

    /// Stores the ACLs; the attributes' flag is the caller's.
    pub fn store(&self, edit: &mut Edit<'_>, inode: InodeNumber) -> Result<()> {
        for (name, value) in [(ACCESS, &self.access), (DEFAULT, &self.default)] {
            if let Some(value) = value {
                edit.store_extended_attribute(inode, name, Some(value))?;
            }
        }
        Ok(())
    }
}

/// What a new entry of `parent` gets: by its default ACL, or else by the maker's umask.
pub(super) fn inherit(
    view: &View<'_>,
    parent: InodeNumber,
    parent_record: &AttributesRecord,
    new: &NewNode,
    kind: FileKind,
) -> Result<Inherited> {
    let default = match parent_record.has_extended_attributes {
        true => view.find_extended_attribute(parent, DEFAULT)?,
        false => None,
    };
    let Some(default) = default else { return Ok(Inherited::from_mode(new.permissions & !new.umask)) };
    let mut acl = Acl::decode(&default)?;
    let permissions = acl.narrow(new.permissions);
    let access = (!acl.is_equivalent_to_mode()).then(|| acl.encode());
    Ok(Inherited { permissions, access, default: (kind == FileKind::Directory).then_some(default) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16)]) -> Acl {
        let entries = entries.iter().map(|(tag, permissions)| AclEntry { tag: *tag, permissions: *permissions, id: 0 });
        Acl { entries: entries.collect() }
    }

    #[test]
    fn a_default_list_and_the_mode_narrow_each_other() {
        let mut acl = list(&[(USER_OWNER, 7), (USER, 7), (GROUP_OWNER, 5), (MASK, 7), (OTHER, 5)]);
        assert_eq!(acl.narrow(0o640), 0o640);
        assert_eq!(acl, list(&[(USER_OWNER, 6), (USER, 7), (GROUP_OWNER, 5), (MASK, 4), (OTHER, 0)]));
        assert!(!acl.is_equivalent_to_mode());
        assert_eq!(Acl::decode(&acl.encode()).unwrap(), acl);
    }

    #[test]
    fn chmod_moves_the_mask_and_the_mask_moves_the_mode() {
        let mut acl = list(&[(USER_OWNER, 6), (USER, 7), (GROUP_OWNER, 5), (MASK, 4), (OTHER, 0)]);
        acl.change_mode(0o4751);
        assert_eq!(acl, list(&[(USER_OWNER, 7), (USER, 7), (GROUP_OWNER, 5), (MASK, 5), (OTHER, 1)]));
        assert_eq!(acl.apply_to_mode(0o4000), 0o4751);
        assert!(Acl::decode(&[1, 0, 0, 0]).is_err());
    }
}
