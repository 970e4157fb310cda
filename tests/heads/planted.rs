//! A file that bears a commit's name and says that nobody here can read it: under a vault key that is not open, or of a newer
//! format. Anybody can make one. Nothing is written beside it, it is named, and a person can set it aside.

use passkeyfs::check::{CheckError, CheckOptions, Severity, check_vault};
use passkeyfs::format::segment::{SegmentHeader, SegmentKind};
use passkeyfs::format::{DeviceId, EpochId, SegmentId, Sequence, VaultId};

use passkeyfs::store::FilePath;
use passkeyfs::volume::{KeyChange, OpenError, SlotError, Volume, VolumeError};

use crate::support::devices::{accepting, bring, going_on_with, read, read_only, two, usual, write};
use crate::support::{ROOT, World};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Says {
    UnknownEpoch,
    NewerFormat,
}

const BOTH: [Says; 2] = [Says::UnknownEpoch, Says::NewerFormat];

/// A file as large as a commit, of which only the header means anything.
fn plant(world: &World, device: DeviceId, sequence: u64, says: Says) -> FilePath {
    let vault: VaultId = world.keys().vault.vault();
    let (sequence, segment) = (Sequence(sequence), SegmentId(sequence ^ 0xabcd_ef00));
    let header = SegmentHeader {
        kind: SegmentKind::Meta,
        vault,
        epoch: EpochId([0xee; 16]),
        device,
        sequence,
        segment,
        salt: [3; 16],
    };
    let mut bytes = header.encode();
    if says == Says::NewerFormat {
        bytes[8] = 2;
    }
    bytes.resize(16384, 7);
    let path = FilePath::vault(format!("devices/{device}/0000000/{sequence}-{segment}.meta"));
    world.disk.deliver(&path, &bytes);
    path
}

fn device_of(world: &World) -> DeviceId {
    world.id().parse().unwrap()
}

/// Why a mount that is to take changes takes none.
fn refusal(world: &World, options: passkeyfs::volume::VolumeOptions) -> Option<String> {
    match world.open_with(options) {
        Ok(volume) => volume.status().read_only,
        Err(OpenError::Newer(what)) => Some(what.to_string()),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_commit_that_nobody_here_can_read_is_named_and_set_aside_by_who_names_the_head_to_go_on_with() {
    for says in BOTH {
        for whose in ["own", "another's", "nobody's"] {
            let (first, second) = two(1);
            let device = match whose {
                "own" => device_of(&first),
                "another's" => device_of(&second),
                _ => DeviceId(0x77),
            };
            let planted = plant(&first, device, 40, says);
            let what = format!("{says:?} under {whose} name");
            for options in [usual(), accepting()] {
                let reason = refusal(&first, options).unwrap_or_else(|| panic!("{what}: written beside"));
                for part in [&planted.name, &format!("-o head={},accept-rollback", second.id())] {
                    assert!(reason.contains(part), "{what}: {part} in {reason}");
                }
            }
            let shown = first.open_with(read_only()).unwrap();
            assert_eq!(read(&shown, "a").as_deref(), Some("two"), "{what}");
            let said = shown.status().warnings.join("; ");
            assert!(said.contains(&planted.name), "{what}: {said}");
            drop(shown);
            assert_check_names(&first, &planted, says);
            // The user says that it does not count, once.
            let volume = first.open_with(going_on_with(&second.id())).unwrap();
            assert_eq!(volume.status().read_only, None, "{what}");
            let said = volume.status().warnings.join("; ");
            assert!(said.contains(&planted.name) && said.contains("set aside"), "{what}: {said}");
            write(&volume, ROOT, "a", b"three");
            volume.close().unwrap();
            let volume = first.open();
            assert_eq!((volume.status().read_only, read(&volume, "a").as_deref()), (None, Some("three")), "{what}");
            volume.close().unwrap();
            let rotated = first.fork().open().change_keys(&KeyChange::Rotate);
            assert!(rotated.is_ok(), "{what}: {rotated:?}");
            assert!(first.check().worst.is_none_or(|worst| worst == Severity::Warning), "{what}: {:?}", first.check());
            // Another file is another question.
            let other = plant(&first, device, 60, says);
            assert!(refusal(&first, usual()).is_some_and(|reason| reason.contains(&other.name)), "{what}");
        }
    }
}

fn assert_check_names(world: &World, planted: &FilePath, says: Says) {
    let environment = world.environment(std::sync::Arc::new(world.disk.clone()));
    let checked = check_vault(&environment, world.keys(), &CheckOptions::default(), &mut |_| {});
    match (says, checked) {
        (Says::NewerFormat, Err(CheckError::Open(OpenError::Newer(what)))) => {
            assert!(what.to_string().contains(&planted.name), "{what}");
        }
        (Says::UnknownEpoch, Ok(report)) => {
            assert_eq!(report.worst, Some(Severity::NotArrived), "{report:?}");
            let said: Vec<_> = report.issues.iter().map(|issue| issue.message.clone()).collect();
            assert!(said.iter().any(|text| text.contains(&planted.name)), "{said:?}");
        }
        (_, checked) => panic!("{says:?}: {checked:?}"),
    }
}

/// What somebody is told who wants to change the keys.
fn key_refusal(volume: &Volume) -> String {
    match volume.change_keys(&KeyChange::Rotate) {
        Err(SlotError::Volume(VolumeError::ReadOnly(reason))) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_that_comes_while_the_vault_is_mounted_is_named_and_what_is_not_published_outlives_it() {
    for says in BOTH {
        let (mut first, second) = two(2);
        let volume = first.open();
        write(&volume, ROOT, "b", b"not published");
        let planted = plant(&first, device_of(&second), 40, says);
        let error = volume.publish_or_keep().expect_err("nothing is published beside it").to_string();
        assert!(error.contains(&planted.name), "{says:?}: {error}");
        let status = volume.status();
        assert!(status.read_only.is_some_and(|reason| reason.contains(&planted.name)), "{says:?}");
        assert!(key_refusal(&volume).contains(&planted.name), "{says:?}");
        drop(volume);
        first.die();
        let volume = first.open_with(going_on_with(&second.id())).unwrap();
        assert_eq!(volume.status().read_only, None, "{says:?}");
        assert_eq!(read(&volume, "b").as_deref(), Some("not published"), "{says:?}");
        volume.close().unwrap();
        first.session(|volume| write(volume, ROOT, "c", b"and on"));
    }
}

#[test]
fn a_file_that_was_set_aside_is_so_while_the_volume_is_open_too() {
    for says in BOTH {
        let (first, second) = two(3);
        plant(&first, device_of(&second), 40, says);
        let volume = first.open_with(going_on_with(&second.id())).unwrap();
        bring(&first, &second);
        drop(volume);
        let volume = first.open();
        second.open_with(going_on_with(&second.id())).unwrap().close().unwrap();
        second.session(|volume| write(volume, ROOT, "a", b"of the laptop"));
        bring(&second, &first);
        first.clock.advance(std::time::Duration::from_secs(10));
        volume.publish().unwrap();
        assert_eq!(read(&volume, "a").as_deref(), Some("of the laptop"), "{says:?}: not followed");
        volume.close().unwrap();
    }
}

#[test]
fn names_of_commits_hide_none_that_cannot_be_read() {
    for says in BOTH {
        let (first, second) = two(4);
        let device = device_of(&second);
        let planted = plant(&first, device, 40, says);
        for number in 0..30_u64 {
            let (sequence, segment) = (Sequence(100 + number), SegmentId(number + 1));
            let name = format!("devices/{device}/0000000/{sequence}-{segment}.meta");
            first.disk.deliver(&FilePath::vault(name), b"");
        }
        for options in [usual(), accepting()] {
            let reason = refusal(&first, options).unwrap_or_else(|| panic!("{says:?}: written beside"));
            assert!(reason.contains(&planted.name), "{says:?}: {reason}");
        }
        let said = first.open_with(read_only()).unwrap().status().warnings.join("; ");
        assert!(said.contains(&planted.name), "{says:?}: {said}");
    }
}

#[test]
fn more_files_than_can_be_remembered_are_not_set_aside() {
    let (first, second) = two(5);
    for number in 0..1100 {
        plant(&first, device_of(&second), 100 + number, Says::UnknownEpoch);
    }
    let reason = refusal(&first, going_on_with(&second.id())).expect("too many");
    assert!(reason.contains("1100"), "{reason}");
}
