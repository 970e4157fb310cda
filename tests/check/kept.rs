//! Items of kinds that only a later version knows: they stay through commits and rewrites of their nodes, go with their
//! inode, and are no fault.

use passkeyfs::format::extensions::Extensions;
use passkeyfs::format::tables::DeviceRecord;
use passkeyfs::format::{InodeNumber, KeptKind, Key, KeyKind};

use super::forge::Forge;
use super::support::devices::{read, write};
use super::support::{ROOT, World};
use super::{check, whole};

fn kept(inode: InodeNumber, kind: KeyKind, suffix: u64) -> Key {
    assert!(kind.is_kept());
    Key::new(inode, kind, suffix)
}

/// What lies under a key in the newest commit.
fn item(world: &World, key: Key) -> Option<Vec<u8>> {
    let forge = Forge::open(world);
    forge.tree.get(&forge.head.root(), key).unwrap().map(|item| item.value.to_vec())
}

#[test]
fn items_of_unknown_kinds_outlive_commits_and_go_with_their_inode() {
    let world = World::new(1);
    world.session(|volume| {
        write(volume, ROOT, "a", b"one");
        write(volume, ROOT, "b", b"two");
    });
    let inode = world.open().lookup(ROOT, b"a").unwrap().inode;
    let middle = KeyKind::from_byte(40).unwrap();
    let [first, last] = [KeptKind::FIRST, KeptKind::LAST].map(KeyKind::Kept);
    let of_file = [kept(inode, first, 0), kept(inode, middle, 7), kept(inode, last, u64::MAX)];
    let of_vault = [kept(InodeNumber::VAULT, first, 3), kept(InodeNumber::VAULT, last, u64::MAX)];
    // One of them lies in a block of its own.
    let value_of = |key: Key| if key == of_file[1] { vec![9; 5000] } else { b"of tomorrow".to_vec() };
    let mut forge = Forge::open(&world);
    for key in of_file.iter().chain(&of_vault) {
        forge.put(*key, value_of(*key));
    }
    forge.commit();
    drop(forge);
    let expect = |key: Key, is_there: bool| {
        let value = value_of(key);
        assert_eq!(item(&world, key), is_there.then_some(value), "{key:?}");
    };
    // Their leaf is written anew each time, and so are the items beside them.
    for content in ["three", "four"] {
        world.session(|volume| {
            assert!(read(volume, "a").is_some());
            write(volume, ROOT, "a", content.as_bytes());
            write(volume, ROOT, content, b"beside");
        });
        of_file.iter().chain(&of_vault).for_each(|key| expect(*key, true));
        assert_eq!(read(&world.open(), "a").as_deref(), Some(content));
        let report = check(&world, &whole());
        assert_eq!((report.worst, report.summary.kept_items), (None, 5), "{:?}", report.issues);
    }
    world.session(|volume| volume.unlink(ROOT, b"a").unwrap());
    of_file.iter().for_each(|key| expect(*key, false));
    of_vault.iter().for_each(|key| expect(*key, true));
    let report = check(&world, &whole());
    assert_eq!((report.worst, report.summary.kept_items), (None, 2), "{:?}", report.issues);
    world.session(|volume| write(volume, ROOT, "c", b"numbers are drawn past them"));
}

#[test]
fn what_a_later_version_says_of_this_device_stays_in_its_record() {
    let world = World::new(2);
    world.session(|volume| write(volume, ROOT, "a", b"one"));
    let mut forge = Forge::open(&world);
    let key = Key::new(InodeNumber::VAULT, KeyKind::Device, forge.head.device.0);
    let mut others = Extensions::default();
    others.set(200, b"of tomorrow");
    let record = DeviceRecord::decode(&forge.get(key)).unwrap();
    forge.put(key, DeviceRecord { others: others.clone(), ..record }.encode()).commit();
    drop(forge);
    world.session(|volume| write(volume, ROOT, "a", b"two"));
    let record = DeviceRecord::decode(&item(&world, key).unwrap()).unwrap();
    assert_eq!(record.others, others);
    assert_eq!(check(&world, &whole()).worst, None);
}
