//! While a newer commit is on its way nothing is written beside it, until the user says so.

use passkeyfs::check::{Issue, Severity};
use passkeyfs::store::FilePath;
use passkeyfs::volume::ReadOnlyCause;

use crate::support::devices::{Folder, accepting, bring, missing, read, usual, write};
use crate::support::{ROOT, World, noise};

/// Two devices; the first has published a commit with data that the second does not have. What it lacks.
fn one_behind(seed: u64) -> (World, World, Folder) {
    let first = World::new(seed);
    let second = first.new_device("laptop");
    second.session(|volume| write(volume, ROOT, "seen", b"by both"));
    bring(&second, &first);
    first.session(|volume| write(volume, ROOT, "a", &noise(seed, 100_000)));
    let lacks = missing(&first, &second);
    assert_eq!(lacks.len(), 2, "a .data and a .meta");
    (first, second, lacks)
}

/// A name in the folder of the first device, and what the second's mount says of it.
fn beside(path: &FilePath, name: impl Fn(&str) -> String) -> FilePath {
    let (folder, file) = path.name.rsplit_once('/').unwrap();
    FilePath::vault(format!("{folder}/{}", name(file)))
}

#[test]
fn whatever_shows_that_a_commit_is_arriving_makes_the_mount_read_only() {
    let (first, second, lacks) = one_behind(1);
    let find = |extension: &str| lacks.iter().find(|(path, _)| path.name.ends_with(extension)).unwrap();
    let ((data, data_bytes), (meta, meta_bytes)) = (find(".data"), find(".meta"));
    let half = meta_bytes[..meta_bytes.len() / 2].to_vec();
    let signs: Vec<(FilePath, Vec<u8>)> = vec![
        (meta.clone(), half.clone()),
        (meta.clone(), meta_bytes[..50].to_vec()),
        (meta.clone(), Vec::new()),
        (data.clone(), data_bytes.clone()),
        (data.clone(), Vec::new()),
        (beside(meta, |name| format!(".syncthing.{name}.tmp")), half.clone()),
        (beside(data, |name| format!(".syncthing.{name}.tmp")), Vec::new()),
        (beside(meta, |name| format!(".~{name}.tmp")), half.clone()),
        (beside(meta, |name| format!("{name}.part")), half.clone()),
        (beside(data, |name| format!("{name}.!sync")), half.clone()),
        (beside(meta, |name| format!(".{name}.x8Gq2L")), half.clone()),
        (beside(meta, |name| format!("{name}.x8Gq2L.partial")), half),
    ];
    for (path, bytes) in signs {
        let device = second.fork();
        device.disk.deliver(&path, &bytes);
        let new = device.new_device("new");
        for device in [&device, &new] {
            let volume = device.open();
            let reason = volume.status().read_only.unwrap_or_else(|| panic!("{path} is no sign"));
            assert_eq!(volume.read_only_cause(), Some(ReadOnlyCause::Arriving));
            for part in [&first.id()[..], &path.name, "accept-rollback"] {
                assert!(reason.contains(part), "{part} in {reason}");
            }
            assert_eq!(read(&volume, "seen").as_deref(), Some("by both"));
            drop(volume);
            assert_eq!(device.check().worst, Some(Severity::NotArrived), "{path}");
        }
        // All arrives.
        device.disk.withdraw(&path);
        bring(&first, &device);
        device.session(|volume| assert!(read(volume, "a").is_some()));
    }
}

#[test]
fn who_goes_on_without_what_is_arriving_is_asked_once() {
    let (first, second, lacks) = one_behind(2);
    let (data, bytes) = lacks.iter().find(|(path, _)| path.name.ends_with(".data")).unwrap();
    second.disk.deliver(data, bytes);
    let volume = second.open_with(accepting()).unwrap();
    assert_eq!(volume.status().read_only, None);
    drop(volume);
    second.session(|volume| write(volume, ROOT, "b", b"beside it"));
    // It arrives after all: nothing of it is lost.
    bring(&first, &second);
    assert_eq!(second.open_with(usual()).unwrap().read_only_cause(), Some(ReadOnlyCause::Diverged));
}

#[test]
fn old_files_and_what_a_crash_left_of_this_device_are_no_signs() {
    let (first, mut second, lacks) = one_behind(3);
    bring(&first, &second);
    // Temporaries of segments that are there, conflicted copies, strangers.
    for (path, bytes) in &lacks {
        second.disk.deliver(&beside(path, |name| format!(".syncthing.{name}.tmp")), bytes);
        second.disk.deliver(&beside(path, |name| name.replace('.', " (conflicted copy).")), bytes);
        second.disk.deliver(&beside(path, |_| "desktop.ini".into()), bytes);
    }
    // Data without a commit: the process died between the two.
    let volume = second.open();
    write(&volume, ROOT, "b", &noise(4, 100_000));
    let had = second.disk.snapshot();
    volume.publish().unwrap();
    let meta = second.disk.snapshot().into_keys().find(|path| !had.contains_key(path) && path.name.ends_with(".meta"));
    drop(volume);
    second.die();
    second.disk.withdraw(&meta.unwrap());
    let device = FilePath::state("device.json");
    second.disk.withdraw(&device);
    second.disk.deliver(&device, &had[&device]);
    assert_eq!(second.open().status().read_only, None);
}

#[test]
fn a_commit_whose_tree_needs_metadata_that_is_not_here_is_not_written_on() {
    let first = World::new(5);
    for name in ["a", "b", "c"] {
        first.session(|volume| write(volume, ROOT, name, &noise(6, 50_000)));
    }
    let second = first.new_device("laptop");
    let metas: Vec<_> = second.disk.snapshot().into_iter().filter(|(path, _)| path.name.ends_with(".meta")).collect();
    let (path, bytes) = &metas[metas.len() - 2];
    second.disk.withdraw(path);
    for options in [usual(), crate::support::devices::read_only()] {
        let volume = second.open_with(options).unwrap();
        let reason = volume.status().read_only.expect("not usable");
        assert!(reason.contains("not in the folder") || reason.contains("has not arrived"), "{reason}");
        // The newest commit that is whole is shown.
        assert_eq!(["a", "b", "c"].map(|name| read(&volume, name).is_some()), [true, false, false]);
    }
    second.disk.deliver(path, bytes);
    assert_eq!(second.open().status().read_only, None);
}

#[test]
fn check_names_the_file_that_is_arriving() {
    let (_, second, lacks) = one_behind(7);
    let (data, bytes) = lacks.iter().find(|(path, _)| path.name.ends_with(".data")).unwrap();
    second.disk.deliver(data, bytes);
    let issues = second.check().issues;
    assert!(
        matches!(&issues[..], [listed] if matches!(&listed.issue, Issue::Arriving { detail, .. } if detail.contains(&data.name))),
        "{issues:?}"
    );
}
