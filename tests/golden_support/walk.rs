//! Describes everything in a volume, a line for each name: the manifest of a golden vault.

use std::fmt::Write as _;

use passkeyfs::format::InodeNumber;
use passkeyfs::volume::{Attributes, FileKind, SeekTarget, Timestamp, Volume, VolumeError};

use super::support::ROOT;

/// One line for each name, the root first, each directory's names in order of their bytes.
pub fn describe(volume: &Volume) -> String {
    let mut text = String::new();
    let root = volume.attributes(ROOT).expect("a root");
    line(volume, "/", &root, &mut text);
    directory(volume, ROOT, "", &mut text);
    text
}

fn directory(volume: &Volume, inode: InodeNumber, path: &str, text: &mut String) {
    let mut names = Vec::new();
    let mut take = |entry: &passkeyfs::volume::DirectoryEntry<'_>| {
        names.push(entry.name.to_vec());
        true
    };
    volume.read_directory(inode, 0, false, &mut take).expect("a directory that can be read");
    names.retain(|name| name != b"." && name != b"..");
    names.sort();
    for name in names {
        let attributes = volume.lookup(inode, &name).expect("a name just listed");
        let path = format!("{path}/{}", name.escape_ascii());
        line(volume, &path, &attributes, text);
        if attributes.kind == FileKind::Directory {
            directory(volume, attributes.inode, &path, text);
        }
    }
}

fn line(volume: &Volume, path: &str, attributes: &Attributes, text: &mut String) {
    let kind = format!("{:?}", attributes.kind).to_lowercase();
    write!(text, "{path} {kind} {:04o} {}:{}", attributes.permissions, attributes.user, attributes.group)
        .expect("memory");
    write!(text, " links {} inode {}", attributes.link_count, attributes.inode).expect("memory");
    write!(text, " times {} {}", time(attributes.accessed), time(attributes.modified)).expect("memory");
    write!(text, " {} {}", time(attributes.changed), time(attributes.created)).expect("memory");
    match attributes.kind {
        FileKind::Regular => {
            write!(text, " size {} allocated {}", attributes.size_bytes, attributes.allocated_bytes).expect("memory");
            write!(text, " content {}", content(volume, attributes)).expect("memory");
        }
        FileKind::Symlink => {
            let target = volume.read_symlink(attributes.inode).expect("a link that can be read");
            write!(text, " target {}", target.escape_ascii()).expect("memory");
        }
        FileKind::CharacterDevice | FileKind::BlockDevice => {
            write!(text, " device {:x}", attributes.device_number).expect("memory");
        }
        _ => {}
    }
    let mut names = volume.extended_attributes(attributes.inode).expect("attributes that can be read");
    names.sort();
    for name in names {
        let value = volume.extended_attribute(attributes.inode, &name).expect("an attribute just listed");
        write!(text, " {}={}", name.escape_ascii(), hash(&value)).expect("memory");
    }
    text.push('\n');
}

fn time(time: Timestamp) -> String {
    format!("{}.{:09}", time.seconds, time.nanoseconds)
}

fn hash(bytes: &[u8]) -> String {
    let hash = passkeyfs::crypto::hash(bytes);
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the data lies, and a hash of it; holes are not read.
fn content(volume: &Volume, attributes: &Attributes) -> String {
    let mut said = String::new();
    let mut all = Vec::new();
    let mut at = 0;
    loop {
        let data = match volume.seek(attributes.inode, at, SeekTarget::Data) {
            Ok(data) => data,
            Err(VolumeError::NoSuchOffset) => break,
            Err(error) => panic!("{error}"),
        };
        let hole = volume.seek(attributes.inode, data, SeekTarget::Hole).expect("the end is a hole");
        all.extend(volume.read(attributes.inode, data, (hole - data) as usize).expect("data that can be read"));
        write!(said, "{data}-{hole},").expect("memory");
        at = hole;
    }
    format!("{said}{}", hash(&all))
}
