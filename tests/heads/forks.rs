//! Several devices have written at once: everybody can look at each, and there is a way out.

use passkeyfs::volume::{KeyChange, OpenError, ReadOnlyCause, SlotError, VolumeError};

use crate::support::devices::{accepting, bring, bring_both_ways, going_on_with, head, read, read_only, usual, write};
use crate::support::{ROOT, World};

/// Two devices that have both written on the first commit; the second a second later.
fn fork(seed: u64) -> (World, World) {
    let first = World::new(seed);
    first.session(|volume| write(volume, ROOT, "common", b"common"));
    let second = first.new_device("laptop");
    first.session(|volume| write(volume, ROOT, "a", b"first"));
    second.session(|volume| write(volume, ROOT, "a", b"second"));
    bring_both_ways(&first, &second);
    (first, second)
}

#[test]
fn every_device_shows_the_newest_head_read_only_and_any_by_name() {
    let (first, second) = fork(1);
    let new = first.new_device("new");
    for device in [&first, &second, &new] {
        for options in [usual(), accepting(), read_only()] {
            let is_asked = options.read_only;
            let volume = device.open_with(options).unwrap();
            let status = volume.status();
            assert_eq!(read(&volume, "a").as_deref(), Some("second"), "{}", device.name);
            let cause = if is_asked { ReadOnlyCause::Asked } else { ReadOnlyCause::Diverged };
            assert_eq!(volume.read_only_cause(), Some(cause));
            let said = if is_asked { status.warnings.join("; ") } else { status.read_only.unwrap() };
            for part in [first.id(), second.id(), "desk".into(), "laptop".into(), "UTC".into()] {
                assert!(said.contains(&part), "{part} in {said}");
            }
        }
        for (id, content) in [(first.id(), "first"), (second.id(), "second")] {
            for digits in [&id[..], &id[..6], &id.to_uppercase()] {
                let volume = device.open_with(head(digits)).unwrap();
                assert_eq!(read(&volume, "a").as_deref(), Some(content));
                assert!(volume.status().read_only.is_some());
            }
        }
        for digits in ["", "0", &first.id()[..3], "zzzz", "00000000000000000"] {
            let refused = device.open_with(head(digits)).err();
            assert!(matches!(refused, Some(OpenError::NoSuchHead { .. })), "{digits}: {refused:?}");
        }
    }
}

#[test]
fn the_way_out_works_on_a_new_device_and_the_others_follow() {
    let (first, second) = fork(2);
    let third = first.new_device("third");
    let volume = third.open_with(going_on_with(&first.id())).unwrap();
    assert_eq!(volume.status().read_only, None);
    assert_eq!(read(&volume, "a").as_deref(), Some("first"));
    // Without any change: the commit that covers the others is made at once.
    volume.close().unwrap();
    bring(&third, &first);
    bring(&third, &second);
    for device in [&third, &first, &second, &third.new_device("fourth")] {
        let volume = device.open();
        let status = volume.status();
        assert_eq!((status.read_only, read(&volume, "a").as_deref()), (None, Some("first")), "{}", device.name);
        drop(volume);
        // What was given up can still be looked at.
        assert_eq!(read(&device.open_with(head(&second.id())).unwrap(), "a").as_deref(), Some("second"));
        assert_eq!(device.check().issues, []);
        assert_eq!(device.check().commits.len(), 1);
    }
    second.session(|volume| write(volume, ROOT, "b", b"on"));
    bring(&second, &first);
    first.session(|volume| assert_eq!(read(volume, "b").as_deref(), Some("on")));
}

#[test]
fn going_on_with_ones_own_head_needs_no_other_device() {
    let (first, second) = fork(3);
    let volume = first.open_with(going_on_with(&first.id()[..4])).unwrap();
    write(&volume, ROOT, "b", b"on");
    volume.close().unwrap();
    bring(&first, &second);
    second.session(|volume| {
        assert_eq!(read(volume, "a").as_deref(), Some("first"));
        assert_eq!(read(volume, "b").as_deref(), Some("on"));
    });
}

#[test]
fn a_commit_that_others_cover_is_shown_by_name_and_never_written_on() {
    let first = World::new(4);
    let second = first.new_device("second");
    first.session(|volume| write(volume, ROOT, "a", b"old"));
    bring(&first, &second);
    second.session(|volume| write(volume, ROOT, "a", b"new"));
    bring(&second, &first);
    for options in [head(&first.id()), going_on_with(&first.id())] {
        let volume = first.open_with(options).unwrap();
        assert_eq!(read(&volume, "a").as_deref(), Some("old"));
        assert_eq!(volume.read_only_cause(), Some(ReadOnlyCause::Asked));
    }
    assert_eq!(read(&first.open(), "a").as_deref(), Some("new"));
}

#[test]
fn keys_are_changed_after_the_way_out() {
    let (first, second) = fork(5);
    let refused = first.open().change_keys(&KeyChange::Rotate);
    let said = match &refused {
        Err(SlotError::Volume(VolumeError::ReadOnly(said))) => said,
        _ => panic!("{refused:?}"),
    };
    assert!(said.contains(&second.id()), "{said}");
    let volume = first.open_with(going_on_with(&second.id())).unwrap();
    volume.change_keys(&KeyChange::Rotate).unwrap();
    assert_eq!(read(&volume, "a").as_deref(), Some("second"));
    volume.close().unwrap();
}

#[test]
fn changes_in_the_journal_become_a_head_before_another_is_gone_on_with() {
    let (mut first, second) = fork(6);
    let volume = first.open_with(going_on_with(&first.id())).unwrap();
    write(&volume, ROOT, "b", b"not published");
    volume.sync_file(ROOT).unwrap();
    second.session_beside(|volume| write(volume, ROOT, "c", b"beside"));
    drop(volume);
    first.die();
    bring(&second, &first);
    // Nobody has looked at what the journal holds: it is published, and nothing is given up yet.
    let volume = first.open_with(going_on_with(&second.id())).unwrap();
    assert_eq!(volume.read_only_cause(), Some(ReadOnlyCause::Diverged), "{:?}", volume.status());
    drop(volume);
    assert_eq!(read(&first.open_with(head(&first.id())).unwrap(), "b").as_deref(), Some("not published"));
    assert_eq!(read(&first.open_with(head(&second.id())).unwrap(), "c").as_deref(), Some("beside"));
}

impl World {
    /// A session of a device that goes on with its own head.
    fn session_beside(&self, change: impl FnOnce(&passkeyfs::volume::Volume)) {
        let volume = self.open_with(going_on_with(&self.id())).unwrap();
        change(&volume);
        volume.close().unwrap();
    }
}
