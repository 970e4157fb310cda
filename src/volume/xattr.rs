//! Extended attributes. The two POSIX ACL attributes are kept like any other, and move the mode with them.
//!
//! `listxattr` hands on at most 64 KiB of names. A name beyond that could be set and read, but no program that copies a
//! file would learn of it, so it is refused when it is set.

use super::acl;
use super::{Result, Volume, VolumeError};
use crate::format::items::{ExtendedAttributeRecord, decode_list, encode_list};
use crate::format::{InodeNumber, Key, KeyKind};
use crate::state::edit::Edit;
use crate::state::types::SetExtendedAttribute;
use crate::state::view::View;

/// The longest name that Linux allows.
const NAME_BYTES_MAX: usize = 255;
/// The longest value that Linux allows.
const VALUE_BYTES_MAX: usize = 65_536;
/// The longest list of names that Linux hands on, each ended by a NUL.
const LIST_BYTES_MAX: usize = 65_536;

impl View<'_> {
    fn attribute_key(&self, inode: InodeNumber, name: &[u8]) -> Key {
        Key::new(inode, KeyKind::ExtendedAttribute, self.context.names.name_hash(name))
    }

    fn attributes_at(&self, key: Key) -> Result<Vec<ExtendedAttributeRecord>> {
        match self.get(key)? {
            Some(value) => Ok(decode_list(&value)?),
            None => Ok(Vec::new()),
        }
    }

    fn extended_attribute_names(&self, inode: InodeNumber) -> Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        let (first, last) =
            (Key::new(inode, KeyKind::ExtendedAttribute, 0), Key::new(inode, KeyKind::ExtendedAttribute, u64::MAX));
        self.scan(first, last, &mut |_, value| {
            let records: Vec<ExtendedAttributeRecord> = decode_list(value)?;
            names.extend(records.into_iter().map(|record| record.name));
            Ok(true)
        })?;
        Ok(names)
    }

    /// Refuses one more name where the list of them would be longer than can be handed on.
    fn check_list_room(&self, inode: InodeNumber, name: &[u8]) -> Result<()> {
        let names = self.extended_attribute_names(inode)?;
        let list_bytes: usize = names.iter().map(|name| name.len() + 1).sum();
        if list_bytes + name.len() + 1 > LIST_BYTES_MAX {
            return Err(VolumeError::TooManyAttributes);
        }
        Ok(())
    }

    /// The value of an extended attribute, if it is set.
    pub fn find_extended_attribute(&self, inode: InodeNumber, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let records = self.attributes_at(self.attribute_key(inode, name))?;
        Ok(records.into_iter().find(|record| record.name == name).map(|record| record.value))
    }
}

impl Edit<'_> {
    /// Sets an extended attribute (`None`: removes it); the attributes' flag is the caller's.
    pub fn store_extended_attribute(&mut self, inode: InodeNumber, name: &[u8], value: Option<&[u8]>) -> Result<()> {
        let key = self.view().attribute_key(inode, name);
        let mut records = self.view().attributes_at(key)?;
        records.retain(|record| record.name != name);
        if let Some(value) = value {
            records.push(ExtendedAttributeRecord { name: name.to_vec(), value: value.to_vec() });
        }
        match records.is_empty() {
            true => self.remove(key),
            false => self.put(key, encode_list(&records)),
        }
        Ok(())
    }
}

impl Volume {
    /// The value of an extended attribute.
    pub fn extended_attribute(&self, inode: InodeNumber, name: &[u8]) -> Result<Vec<u8>> {
        let guard = self.layers.view();
        let view = guard.view();
        if !view.attributes(inode)?.has_extended_attributes {
            return Err(VolumeError::NoAttribute);
        }
        view.find_extended_attribute(inode, name)?.ok_or(VolumeError::NoAttribute)
    }

    /// The names of all extended attributes.
    pub fn extended_attributes(&self, inode: InodeNumber) -> Result<Vec<Vec<u8>>> {
        let guard = self.layers.view();
        let view = guard.view();
        match view.attributes(inode)?.has_extended_attributes {
            true => view.extended_attribute_names(inode),
            false => Ok(Vec::new()),
        }
    }

    /// Sets an extended attribute.
    pub fn set_extended_attribute(
        &self,
        inode: InodeNumber,
        name: &[u8],
        value: &[u8],
        mode: SetExtendedAttribute,
        drop_set_group_id: bool,
    ) -> Result<()> {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return Err(VolumeError::TooLarge { limit_bytes: NAME_BYTES_MAX });
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(VolumeError::TooLarge { limit_bytes: VALUE_BYTES_MAX });
        }
        let mut guard = self.change()?;
        let mut edit = guard.begin_edit();
        let mut record = edit.view().attributes(inode)?;
        let exists = record.has_extended_attributes && edit.view().find_extended_attribute(inode, name)?.is_some();
        match mode {
            SetExtendedAttribute::Create if exists => return Err(VolumeError::Exists),
            SetExtendedAttribute::Replace if !exists => return Err(VolumeError::NoAttribute),
            _ => {}
        }
        if record.has_extended_attributes && !exists {
            edit.view().check_list_room(inode, name)?;
        }
        let mut value = Some(value);
        if name == acl::ACCESS {
            let acl = acl::Acl::decode(value.unwrap_or_default())?;
            record.permissions = acl.apply_to_mode(record.permissions);
            if drop_set_group_id {
                record.permissions &= !0o2000;
            }
            // An ACL that says no more than the mode is the mode.
            value = value.filter(|_| !acl.is_equivalent_to_mode());
        } else if name == acl::DEFAULT {
            if record.kind != crate::state::types::FileKind::Directory as u8 {
                return Err(VolumeError::Invalid("only directories have a default ACL"));
            }
            let acl = acl::Acl::decode(value.unwrap_or_default())?;
            value = value.filter(|_| !acl.is_empty());
        }
        edit.store_extended_attribute(inode, name, value)?;
        record.has_extended_attributes |= value.is_some();
        record.changed = edit.now;
        edit.put_attributes(inode, &record);
        edit.apply();
        Ok(())
    }

    /// Removes an extended attribute. An ACL that is not there counts as removed, as on Linux's own filesystems.
    pub fn remove_extended_attribute(&self, inode: InodeNumber, name: &[u8]) -> Result<()> {
        let mut guard = self.change()?;
        let mut edit = guard.begin_edit();
        let mut record = edit.view().attributes(inode)?;
        if edit.view().find_extended_attribute(inode, name)?.is_none() {
            let is_acl = name == acl::ACCESS || name == acl::DEFAULT;
            return if is_acl { Ok(()) } else { Err(VolumeError::NoAttribute) };
        }
        edit.store_extended_attribute(inode, name, None)?;
        record.changed = edit.now;
        edit.put_attributes(inode, &record);
        edit.apply();
        Ok(())
    }
}
