//! Trees that nobody but one with the vault key can make, and no writer of ours does: whatever is asked of a volume on such
//! a tree, and of a check, it answers in time, and nothing panics.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use passkeyfs::format::items::{ExtendedAttributeRecord, ExtentRecord, ReservedRecord, TimeRecord, encode_list};
use passkeyfs::format::{InodeNumber, Key, KeyKind};
use passkeyfs::volume::{Allocate, Place, RenameMode, SeekTarget, SetAttributes, Volume};

use super::forge::Forge;
use super::support::{OWNER, ROOT, World, create, noise};
use super::{issues, whole};

/// Longer than any call takes, on a machine that has much else to do: one that goes through 2^63 bytes takes years.
const CALL_TIME_MAX: Duration = Duration::from_secs(60);
const LAST: InodeNumber = InodeNumber(u64::MAX);
const NOBODY: InodeNumber = InodeNumber(0xfefefe);
const END: u64 = i64::MAX as u64;

type Twist = fn(&mut Forge, InodeNumber);

/// Ends a twist of one step.
fn done(_: &mut Forge) {}

fn key(inode: InodeNumber, kind: KeyKind, suffix: u64) -> Key {
    Key::new(inode, kind, suffix)
}

fn vault(kind: KeyKind, suffix: u64) -> Key {
    key(InodeNumber::VAULT, kind, suffix)
}

fn put_extents(forge: &mut Forge, inode: InodeNumber, block: Vec<u8>, places: &[u64]) {
    let pointer = forge.write_block(block, true);
    for place in places {
        forge.put(key(inode, KeyKind::Extent, *place), ExtentRecord::Stored(pointer).encode());
    }
}

fn put_attribute_list(forge: &mut Forge, inode: InodeNumber, suffix: u64, list: Vec<u8>) {
    forge.change_attributes(inode, |record| record.has_extended_attributes = true);
    forge.put(key(inode, KeyKind::ExtendedAttribute, suffix), list);
}

fn set_extreme_times(forge: &mut Forge, inode: InodeNumber) {
    forge.change_attributes(inode, |record| {
        record.accessed = TimeRecord { seconds: i64::MIN, nanoseconds: 999_999_999 };
        record.modified = TimeRecord { seconds: i64::MAX, nanoseconds: 999_999_999 };
        (record.changed, record.created) = (record.accessed, record.modified);
    });
}

/// What is wrong with a file's attributes and content.
const OF_THE_FILE: [(&str, Twist); 19] = [
    ("huge size", |forge, inode| {
        forge.change_attributes(inode, |record| (record.size_bytes, record.allocated_bytes) = (END, u64::MAX));
    }),
    ("no size", |forge, inode| {
        forge.change_attributes(inode, |record| (record.size_bytes, record.allocated_bytes) = (0, 0));
    }),
    ("most links", |forge, inode| {
        forge.change_attributes(inode, |record| record.link_count = u32::MAX);
        forge.change_attributes(ROOT, |record| record.link_count = u32::MAX);
    }),
    ("no links", |forge, inode| done(forge.change_attributes(inode, |record| record.link_count = 0))),
    ("extreme times", set_extreme_times),
    ("a long block", |forge, inode| put_extents(forge, inode, vec![7; 1 << 22], &[0])),
    ("a short block", |forge, inode| put_extents(forge, inode, vec![7; 3], &[0])),
    ("far blocks", |forge, inode| {
        put_extents(forge, inode, vec![7; 4096], &[u64::MAX, u64::MAX - 1, 1 << 52, (1 << 51) - 1]);
        forge.change_attributes(inode, |record| record.size_bytes = END);
    }),
    ("long inline content", |forge, inode| {
        forge.put(key(inode, KeyKind::Extent, 0), ExtentRecord::Inline(&[9; 100_000]).encode());
        forge.put(key(inode, KeyKind::Extent, 3), ExtentRecord::Inline(&[]).encode());
    }),
    ("every block reserved", |forge, inode| {
        forge.change_attributes(inode, |record| (record.has_reserved_blocks, record.size_bytes) = (true, END));
        forge.put(key(inode, KeyKind::ReservedRun, (1 << 51) - 1), ReservedRecord { first_block: 0 }.encode());
    }),
    ("a reserve of nonsense", |forge, inode| {
        forge.change_attributes(inode, |record| record.has_reserved_blocks = true);
        forge.put(key(inode, KeyKind::ReservedRun, u64::MAX), vec![0xff; 8]);
    }),
    ("an extent of nonsense", |forge, inode| done(forge.put(key(inode, KeyKind::Extent, 0), vec![0xff; 40]))),
    ("attributes of nonsense", |forge, inode| done(forge.put(Key::first_of(inode), vec![0xff; 114]))),
    ("short attributes", |forge, inode| done(forge.put(Key::first_of(inode), vec![1]))),
    ("a file as a directory", |forge, inode| done(forge.change_attributes(inode, |record| record.kind = 2))),
    ("a file as a symlink", |forge, inode| done(forge.change_attributes(inode, |record| record.kind = 3))),
    ("a symlink with a long target", |forge, inode| {
        forge.change_attributes(inode, |record| record.kind = 3);
        forge.put(key(inode, KeyKind::SymlinkTarget, 0), vec![b'x'; 1 << 20]);
    }),
    ("a file as a device", |forge, inode| {
        forge.change_attributes(inode, |record| {
            (record.kind, record.device_number, record.permissions) = (7, u32::MAX, 0o7777);
        });
    }),
    ("a back reference to itself", |forge, inode| done(forge.put_back_reference(inode, inode, b"me"))),
];

/// What is wrong with names and extended attributes.
const OF_NAMES: [(&str, Twist); 11] = [
    ("an entry to the root", |forge, _| done(forge.put_entry(ROOT, b"loop", ROOT, 2))),
    ("an entry to the vault's inode", |forge, _| done(forge.put_entry(ROOT, b"zero", InodeNumber::VAULT, 2))),
    ("an entry to nobody", |forge, _| done(forge.put_entry(ROOT, b"gone", NOBODY, 1))),
    ("entries . and ..", |forge, inode| {
        forge.put_entry(ROOT, b".", inode, 1).put_entry(ROOT, b"..", inode, 1);
    }),
    ("an entry of another kind", |forge, inode| done(forge.put_entry(ROOT, b"other", inode, 2))),
    ("an entry of nonsense", |forge, _| done(forge.put(forge.entry_key(ROOT, b"file"), vec![0xee; 50]))),
    ("an empty entry", |forge, _| done(forge.put(forge.entry_key(ROOT, b"file"), vec![]))),
    ("extended attributes of nonsense", |forge, inode| put_attribute_list(forge, inode, 5, vec![0xee; 50])),
    ("large extended attributes", |forge, inode| {
        let large = ExtendedAttributeRecord { name: b"user.big".to_vec(), value: vec![1; 3 << 20] };
        let nameless = ExtendedAttributeRecord { name: b"no namespace".to_vec(), value: vec![] };
        put_attribute_list(forge, inode, 5, encode_list(&[large, nameless]));
    }),
    ("an access control list of nonsense", |forge, inode| {
        let name = b"system.posix_acl_access";
        let list = encode_list(&[ExtendedAttributeRecord { name: name.to_vec(), value: vec![0xff; 77] }]);
        put_attribute_list(forge, inode, forge.names.hash64(&[name]), list);
    }),
    ("inode numbers at their end", |forge, inode| {
        let attributes = forge.attributes(inode).encode();
        forge.put(Key::first_of(LAST), attributes).put_entry(ROOT, b"last", LAST, 1);
    }),
];

/// What is wrong with the vault's own items.
const OF_THE_VAULT: [(&str, Twist); 12] = [
    ("the most inodes", |forge, _| done(forge.put(Key::TOTALS, u64::MAX.to_le_bytes()))),
    ("no inodes", |forge, _| done(forge.put(Key::TOTALS, 0u64.to_le_bytes()))),
    ("totals of nonsense", |forge, _| done(forge.put(Key::TOTALS, vec![1]))),
    ("a short name key", |forge, _| done(forge.put(Key::NAME_KEY, vec![1]))),
    ("no root", |forge, _| done(forge.remove(Key::first_of(ROOT)))),
    ("the root as an orphan", |forge, _| done(forge.put(vault(KeyKind::Orphan, 1), vec![]))),
    ("the vault's inode as an orphan", |forge, _| done(forge.put(vault(KeyKind::Orphan, 0), vec![]))),
    ("nobody as an orphan", |forge, _| done(forge.put(vault(KeyKind::Orphan, u64::MAX), vec![]))),
    ("a segment record of nonsense", |forge, _| done(forge.put(vault(KeyKind::Segment, 77), vec![0xff; 3]))),
    ("a device record of nonsense", |forge, _| done(forge.put(vault(KeyKind::Device, 77), vec![0xff; 3]))),
    ("a slot record of nonsense", |forge, _| done(forge.put(vault(KeyKind::Slot, 77), vec![0xff; 3]))),
    ("the start of an epoch of nonsense", |forge, _| done(forge.put(Key::EPOCH_START, vec![0xff; 3]))),
];

/// Calls, and what became of them.
#[derive(Default)]
struct Calls {
    what: &'static str,
    bad: Vec<String>,
}

impl Calls {
    fn call<T>(&mut self, name: &str, call: impl FnOnce() -> T) -> Option<T> {
        let begun = Instant::now();
        let answer = catch_unwind(AssertUnwindSafe(call)).ok();
        if answer.is_none() {
            self.bad.push(format!("{}: {name} panics", self.what));
        }
        if begun.elapsed() > CALL_TIME_MAX {
            self.bad.push(format!("{}: {name} takes {:?}", self.what, begun.elapsed()));
        }
        answer
    }

    /// Everything that reads, and small writes.
    fn use_inode(&mut self, volume: &Volume, inode: InodeNumber) {
        self.call("attributes", || drop(volume.attributes(inode)));
        for (at, length) in [(0, 1 << 20), (4000, 200), (END - 5, 100), (u64::MAX - 3, 10), (1 << 62, 5)] {
            self.call("read", || drop(volume.read(inode, at, length)));
        }
        self.call("read symlink", || drop(volume.read_symlink(inode)));
        self.call("list extended attributes", || drop(volume.extended_attributes(inode)));
        self.call("read an extended attribute", || drop(volume.extended_attribute(inode, b"user.big")));
        self.call("write", || drop(volume.write(inode, 10, b"hello", true)));
        self.call("write at the end", || drop(volume.write(inode, END - 10, b"hello", true)));
        for target in [SeekTarget::Data, SeekTarget::Hole] {
            for at in [0, 1 << 40, END - 1] {
                self.call("seek", || drop(volume.seek(inode, at, target)));
            }
        }
    }

    /// Everything that changes ranges, names and the file itself.
    fn change(&mut self, volume: &Volume, inode: InodeNumber) {
        self.call("list", || {
            let mut names = 0;
            drop(volume.read_directory(ROOT, 0, true, &mut |_| {
                names += 1;
                names < 100
            }));
        });
        let from = |offset| Place { inode, offset };
        self.call("copy to a directory", || {
            drop(volume.copy_range(from(1 << 50), Place { inode: ROOT, offset: END - 5 }, 1 << 24, true));
        });
        self.call("copy", || {
            let to = volume.create_file(ROOT, b"to", &OWNER).map_or(ROOT, |attributes| attributes.inode);
            drop(volume.copy_range(from(0), Place { inode: to, offset: 4096 }, 1 << 24, true));
        });
        for what in [Allocate::Reserve, Allocate::Zero, Allocate::PunchHole, Allocate::Collapse, Allocate::Insert] {
            for (at, length) in [(4096, 8192), (1 << 50, 4096)] {
                self.call("allocate", || drop(volume.allocate(inode, what, at, length, true)));
            }
        }
        for size_bytes in [5000, END] {
            let size = SetAttributes { size_bytes: Some(size_bytes), ..SetAttributes::default() };
            self.call("set the size", || drop(volume.set_attributes(inode, &size)));
        }
        for name in [&b"file"[..], b"loop", b"zero", b"gone", b"other", b"last", b".", b".."] {
            self.call("look up", || drop(volume.lookup(ROOT, name)));
        }
        self.call("link", || drop(volume.link(inode, ROOT, b"linked")));
        self.call("make a directory", || drop(volume.make_directory(ROOT, b"made", &OWNER)));
        self.call("rename", || drop(volume.rename(ROOT, b"dir", ROOT, b"loop", RenameMode::Replace)));
        self.call("unlink", || drop(volume.unlink(ROOT, b"file")));
        self.call("unlink nobody", || drop(volume.unlink(ROOT, b"gone")));
        self.call("remove a loop", || drop(volume.remove_directory(ROOT, b"loop")));
        self.call("remove a directory", || drop(volume.remove_directory(ROOT, b"dir")));
        self.call("publish", || drop(volume.publish()));
        self.call("close", || drop(volume.close()));
    }
}

fn no_call_panics_or_hangs(twists: &[(&'static str, Twist)]) {
    let mut calls = Calls::default();
    for (what, twist) in twists {
        calls.what = what;
        let world = World::new(77);
        let volume = world.open();
        let inode = create(&volume, "file");
        volume.write(inode, 0, &noise(3, 9000), false).unwrap();
        volume.make_directory(ROOT, b"dir", &OWNER).unwrap();
        volume.close().unwrap();
        drop(volume);
        let mut forge = Forge::open(&world);
        twist(&mut forge, inode);
        forge.commit();
        drop(forge);
        calls.call("check", || drop(issues(&world, &whole())));
        let opened = calls.call("open", || world.try_open(Arc::new(world.disk.clone()), World::options()).ok());
        let Some(Some(volume)) = opened else { continue };
        calls.call("status", || drop(volume.status()));
        for inode in [inode, LAST, InodeNumber::VAULT, NOBODY, ROOT] {
            calls.use_inode(&volume, inode);
        }
        calls.change(&volume, inode);
    }
    assert!(calls.bad.is_empty(), "{:#?}", calls.bad);
}

#[test]
fn a_twisted_file_makes_no_call_panic_or_hang() {
    no_call_panics_or_hangs(&OF_THE_FILE);
}

#[test]
fn twisted_names_make_no_call_panic_or_hang() {
    no_call_panics_or_hangs(&OF_NAMES);
}

#[test]
fn twisted_items_of_the_vault_make_no_call_panic_or_hang() {
    no_call_panics_or_hangs(&OF_THE_VAULT);
}

#[test]
fn an_entry_that_means_a_directory_is_no_name() {
    let world = World::new(77);
    let volume = world.open();
    let inode = create(&volume, "file");
    volume.close().unwrap();
    drop(volume);
    let mut forge = Forge::open(&world);
    forge.put_entry(ROOT, b"..", inode, 1).commit();
    let volume = world.open();
    // The directory itself, as ever.
    assert!(volume.lookup(ROOT, b"..").is_ok_and(|found| found.inode == ROOT));
    let mut is_listed = false;
    let listed = volume.read_directory(ROOT, 0, true, &mut |entry| {
        is_listed |= entry.inode == inode && entry.name == b"..";
        true
    });
    assert!(listed.is_err() && !is_listed);
    let found = issues(&world, &whole());
    assert!(found.iter().any(|issue| matches!(issue, passkeyfs::check::Issue::ItemInvalid { .. })), "{found:?}");
}
