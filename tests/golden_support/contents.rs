//! What a golden vault holds: one of everything that the format can say, in two commits.

use passkeyfs::crypto::{Randomness, SeededRandomness};
use passkeyfs::format::InodeNumber;
use passkeyfs::volume::{
    Allocate, FileKind, NewNode, Place, RenameMode, SetAttributes, SetExtendedAttribute, SetTime, Timestamp, Volume,
};

use super::support::{OWNER, ROOT};

const TEXT: &[u8] = b"The quick brown fox jumps over the lazy dog. ";

fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    SeededRandomness::new(5).fill(&mut noise);
    noise
}

fn write_file(volume: &Volume, parent: InodeNumber, name: &[u8], content: &[u8]) -> InodeNumber {
    let new = NewNode { permissions: 0o644, ..OWNER };
    let inode = volume.create_file(parent, name, &new).expect("a new name").inode;
    volume.write(inode, 0, content, false).expect("room");
    volume.close_file(inode);
    inode
}

fn set_attribute(volume: &Volume, inode: InodeNumber, name: &[u8], value: &[u8]) {
    volume.set_extended_attribute(inode, name, value, SetExtendedAttribute::Any, false).expect("room");
}

/// An ACL for one more user, with a mask.
fn acl() -> Vec<u8> {
    let entries: [(u16, u16, u32); 5] =
        [(0x01, 7, u32::MAX), (0x02, 6, 1234), (0x04, 5, u32::MAX), (0x10, 7, u32::MAX), (0x20, 4, u32::MAX)];
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// The first commit after the vault's own.
pub fn write_first(volume: &Volume) {
    write_file(volume, ROOT, b"empty", b"");
    write_file(volume, ROOT, b"small", b"lies in the tree itself");
    write_file(volume, ROOT, b"text", &TEXT.repeat(500));
    write_file(volume, ROOT, b"noise", &noise(20_000));
    write_file(volume, ROOT, &[0xff, 0xfe, b'\n'], b"a name that is no text");
    write_file(volume, ROOT, &[b'n'; 255], b"the longest name");
    let sparse = write_file(volume, ROOT, b"sparse", &noise(5000));
    volume.write(sparse, 1 << 40, b"far out", false).expect("a file may be large");
    let changed = write_file(volume, ROOT, b"changed", &noise(9000));
    volume.link(changed, ROOT, b"changed too").expect("a new name");
    let deep =
        volume.make_directory(ROOT, b"deep", &NewNode { permissions: 0o2750, ..OWNER }).expect("a new name").inode;
    let deeper = volume.make_directory(deep, b"deeper", &OWNER).expect("a new name").inode;
    write_file(volume, deeper, b"file", b"found");
    volume.make_symlink(deep, b"link", b"../text", &OWNER).expect("a new name");
    for (name, kind, device) in [
        (&b"pipe"[..], FileKind::Pipe, 0),
        (b"socket", FileKind::Socket, 0),
        (b"character", FileKind::CharacterDevice, 0x0103),
        (b"block", FileKind::BlockDevice, 0x0801),
    ] {
        volume.make_node(deep, name, &OWNER, kind, device).expect("a new name");
    }
    let many = volume.make_directory(ROOT, b"many", &OWNER).expect("a new name").inode;
    for number in 0..300 {
        write_file(volume, many, format!("file {number}").as_bytes(), format!("{number}").as_bytes());
    }
    let attributes = write_file(volume, ROOT, b"attributes", b"x");
    set_attribute(volume, attributes, b"user.small", b"value");
    set_attribute(volume, attributes, b"user.large", &noise(5000));
    set_attribute(volume, attributes, b"user.empty", b"");
    set_attribute(volume, attributes, b"system.posix_acl_access", &acl());
    set_attribute(volume, deep, b"system.posix_acl_default", &acl());
    let old = Timestamp { seconds: -86_400, nanoseconds: 999_999_999 };
    let set = SetAttributes {
        permissions: Some(0o4711),
        user: Some(7),
        group: Some(8),
        accessed: Some(SetTime::At(old)),
        modified: Some(SetTime::At(Timestamp { seconds: 1 << 33, nanoseconds: 1 })),
        ..SetAttributes::default()
    };
    let owned = write_file(volume, ROOT, b"owned", b"x");
    volume.set_attributes(owned, &set).expect("a file that is there");
}

/// Changes that make the second commit refer to blocks of the first.
pub fn write_second(volume: &Volume) {
    let find = |name: &[u8]| volume.lookup(ROOT, name).expect("written before").inode;
    volume.write(find(b"changed"), 4000, b"across a block's edge, in the second commit", false).expect("room");
    volume.rename(ROOT, b"small", find(b"deep"), b"moved", RenameMode::NoReplace).expect("a free name");
    volume.unlink(ROOT, b"changed too").expect("a name that is there");
    volume.allocate(find(b"noise"), Allocate::PunchHole, 4096, 8192, false).expect("a range of the file");
    for number in 0..50 {
        volume.unlink(find(b"many"), format!("file {}", number * 3).as_bytes()).expect("a name that is there");
    }
    let source = find(b"text");
    let copy = write_file(volume, ROOT, b"copy", b"");
    let mut done = 0;
    while done < 20_000 {
        done += volume
            .copy_range(
                Place { inode: source, offset: done },
                Place { inode: copy, offset: done },
                20_000 - done,
                false,
            )
            .expect("room");
    }
}

/// What can be said without a manifest.
pub fn check(volume: &Volume) {
    let read = |name: &[u8]| {
        let found = volume.lookup(ROOT, name).expect("written before");
        volume.read(found.inode, 0, found.size_bytes as usize).expect("readable")
    };
    assert_eq!(read(b"text"), TEXT.repeat(500));
    assert_eq!(read(b"copy"), TEXT.repeat(500)[..20_000]);
    let mut punched = noise(20_000);
    punched[4096..12_288].fill(0);
    assert!(read(b"noise") == punched);
    assert_eq!(volume.lookup(ROOT, b"sparse").expect("written before").size_bytes, (1 << 40) + 7);
    let mut changed = noise(9000);
    changed[4000..4043].copy_from_slice(b"across a block's edge, in the second commit");
    assert!(read(b"changed") == changed);
}
