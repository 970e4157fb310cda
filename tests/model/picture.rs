//! A picture: all that can be seen of a filesystem from some directory down, by path. Two that are equal look the same
//! to every program.

use std::collections::BTreeMap;
use std::sync::Arc;

use passkeyfs::format::InodeNumber;
use passkeyfs::volume::{FileKind, SeekTarget, Timestamp, Volume, VolumeError};

use super::reference::{Content, Node, Reference};

/// What can be seen of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub inode: u64,
    pub kind: FileKind,
    pub permissions: u16,
    pub links: u32,
    pub owner: (u32, u32),
    pub size_bytes: u64,
    pub device_number: u32,
    /// accessed, modified, changed, created
    pub times: [Timestamp; 4],
    pub content: Arc<Vec<u8>>,
    pub extended_attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A filesystem by path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture(pub BTreeMap<String, Entry>);

impl Picture {
    /// What a volume shows below `directory`; its errors are the volume's.
    pub fn of_volume(volume: &Volume, directory: InodeNumber) -> Result<Self, VolumeError> {
        let mut picture = BTreeMap::new();
        take_volume(volume, directory, "/".into(), &mut picture)?;
        Ok(Self(picture))
    }

    /// What the reference says that is to be seen.
    pub fn of_reference(reference: &Reference) -> Self {
        let mut picture = BTreeMap::new();
        take_reference(reference, reference.root, "/".into(), &mut picture);
        Self(picture)
    }

    /// Without times, where these are not known.
    pub fn without_times(mut self) -> Self {
        self.0.values_mut().for_each(|entry| entry.times = Default::default());
        self
    }

    /// Says how the first entry that differs does.
    pub fn difference(&self, wanted: &Self) -> Option<String> {
        let paths = self.0.keys().chain(wanted.0.keys());
        let path = paths.filter(|path| self.0.get(*path) != wanted.0.get(*path)).min()?;
        let short = |entry: Option<&Entry>| match entry {
            None => "nothing".to_string(),
            Some(entry) => {
                let without = Entry { content: Arc::default(), extended_attributes: BTreeMap::new(), ..entry.clone() };
                format!("{without:?}")
            }
        };
        let (found, wanted) = (self.0.get(path), wanted.0.get(path));
        let mut text = format!("{path}:\n  found  {}\n  wanted {}", short(found), short(wanted));
        if let (Some(found), Some(wanted)) = (found, wanted) {
            if let Some(at) =
                (0..found.content.len().min(wanted.content.len())).find(|at| found.content[*at] != wanted.content[*at])
            {
                text +=
                    &format!("\n  content differs from byte {at}: {} not {}", found.content[at], wanted.content[at]);
            }
            for name in found.extended_attributes.keys().chain(wanted.extended_attributes.keys()) {
                if found.extended_attributes.get(name) != wanted.extended_attributes.get(name) {
                    text += &format!("\n  the attribute {} differs", String::from_utf8_lossy(name));
                }
            }
        }
        Some(text)
    }
}

fn take_volume(
    volume: &Volume,
    inode: InodeNumber,
    path: String,
    picture: &mut BTreeMap<String, Entry>,
) -> Result<(), VolumeError> {
    let attributes = volume.attributes(inode)?;
    let content = match attributes.kind {
        FileKind::Regular => volume.read(inode, 0, attributes.size_bytes as usize)?,
        FileKind::Symlink => volume.read_symlink(inode)?,
        _ => Vec::new(),
    };
    let mut extended_attributes = BTreeMap::new();
    for name in volume.extended_attributes(inode)? {
        let value = volume.extended_attribute(inode, &name)?;
        assert!(extended_attributes.insert(name, value).is_none(), "{path}: an attribute is listed twice");
    }
    let entry = Entry {
        inode: inode.0,
        kind: attributes.kind,
        permissions: attributes.permissions,
        links: attributes.link_count,
        owner: (attributes.user, attributes.group),
        size_bytes: if attributes.kind == FileKind::Directory { 0 } else { attributes.size_bytes },
        device_number: attributes.device_number,
        times: [attributes.accessed, attributes.modified, attributes.changed, attributes.created],
        content: Arc::new(content),
        extended_attributes,
    };
    assert!(picture.insert(path.clone(), entry).is_none(), "{path} is listed twice");
    if attributes.kind == FileKind::Directory {
        for (name, child, kind) in children(volume, inode)? {
            assert_eq!(volume.attributes(child)?.kind, kind, "{path}: the entry and the inode differ in kind");
            let name = String::from_utf8_lossy(&name);
            take_volume(volume, child, format!("{}/{name}", path.trim_end_matches('/')), picture)?;
        }
    }
    Ok(())
}

/// A directory's entries, `.` and `..` apart, read in two halves.
pub fn children(volume: &Volume, inode: InodeNumber) -> Result<Vec<(Vec<u8>, InodeNumber, FileKind)>, VolumeError> {
    let mut found: Vec<(Vec<u8>, InodeNumber, FileKind)> = Vec::new();
    let (mut cookie, mut room) = (0, 3);
    loop {
        let before = cookie;
        volume.read_directory(inode, cookie, false, &mut |entry| {
            if room == 0 {
                return false;
            }
            room -= 1;
            cookie = entry.cookie;
            if entry.name != b"." && entry.name != b".." {
                found.push((entry.name.to_vec(), entry.inode, entry.kind));
            }
            true
        })?;
        if before == cookie {
            return Ok(found);
        }
        room = 50;
    }
}

fn take_reference(reference: &Reference, inode: u64, path: String, picture: &mut BTreeMap<String, Entry>) {
    let node: &Node = reference.get(inode);
    let (content, device_number) = match &node.content {
        Content::File(bytes) => (Arc::clone(bytes), 0),
        Content::Symlink(target) => (Arc::new(target.clone()), 0),
        Content::Device(number) => (Arc::default(), *number),
        Content::Directory(_) => (Arc::default(), 0),
    };
    let entry = Entry {
        inode,
        kind: node.kind,
        permissions: node.permissions,
        links: node.links,
        owner: (node.user, node.group),
        size_bytes: content.len() as u64,
        device_number,
        times: [node.accessed, node.modified, node.changed, node.created],
        content,
        extended_attributes: node.extended_attributes.clone(),
    };
    picture.insert(path.clone(), entry);
    if let Content::Directory(entries) = &node.content {
        for (name, child) in entries {
            let name = String::from_utf8_lossy(name);
            take_reference(reference, *child, format!("{}/{name}", path.trim_end_matches('/')), picture);
        }
    }
}

/// Walks a file by SEEK_DATA and SEEK_HOLE: all that is not zero must lie in data. With `exact`, blocks of zeros must
/// be holes, and what is counted as allocated must be the data and what is reserved. Answers what is wrong.
pub fn find_wrong_hole(
    volume: &Volume,
    inode: u64,
    node: &Node,
    block_bytes: usize,
    exact: bool,
) -> Result<Option<String>, VolumeError> {
    let (inode, bytes) = (InodeNumber(inode), node.bytes());
    let (mut at, mut is_data) = (0_usize, vec![false; bytes.len()]);
    while at < bytes.len() {
        let start = match volume.seek(inode, at as u64, SeekTarget::Data) {
            Err(VolumeError::NoSuchOffset) => break,
            start => start? as usize,
        };
        let end = volume.seek(inode, start as u64, SeekTarget::Hole)? as usize;
        if start < at || end <= start || end > bytes.len() {
            let size = bytes.len();
            return Ok(Some(format!("inode {inode}: data from {start} to {end} was found at {at} of {size}")));
        }
        is_data[start..end].fill(true);
        at = end;
    }
    let mut allocated = node.reserved.clone();
    for (index, block) in bytes.chunks(block_bytes).enumerate() {
        let data = &is_data[index * block_bytes..][..block.len()];
        let is_zero = block.iter().all(|byte| *byte == 0);
        if data.iter().any(|here| *here != data[0]) || (!is_zero && !data[0]) || (exact && is_zero && data[0]) {
            return Ok(Some(format!("inode {inode}: block {index} (zero: {is_zero}) is data: {}", data[0])));
        }
        allocated.extend((!is_zero).then_some(index));
    }
    let allocated = (allocated.len() * block_bytes) as u64;
    let found = volume.attributes(inode)?.allocated_bytes;
    let is_wrong = exact && found != allocated;
    Ok(is_wrong.then(|| format!("inode {inode}: {found} bytes are counted as allocated, not {allocated}")))
}
