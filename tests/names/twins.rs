//! Files that bear the id of a true segment do not hide it.

use passkeyfs::store::FilePath;

use crate::scene::{new_device, open_writable, read, two_commits, vault_files, write};
use crate::support::World;

/// Names under which a file with the true one's id may be put.
fn twin_names(truth: &FilePath) -> Vec<FilePath> {
    let parts: Vec<&str> = truth.name.split('/').collect();
    let (device, file) = (parts[1], parts[3]);
    let (_, rest) = file.split_once('-').expect("a segment's name");
    let id = rest.split('.').next().expect("an id");
    let in_folder =
        |device: &str, range: &str, file: String| FilePath::vault(format!("devices/{device}/{range}/{file}"));
    vec![
        in_folder("0000000000000001", "0000000", file.to_owned()),
        in_folder("ffffffffffffffff", "0000000", file.to_owned()),
        in_folder(device, "0000000", format!("0000000000-{rest}")),
        in_folder(device, "0000009", file.to_owned()),
        in_folder(device, "0000000", format!("00000003e7-{rest}")),
        in_folder(device, "0000000", format!("0000000000-{id}.data")),
        in_folder(device, "0000000", format!("0000000000-{id}.meta")),
    ]
}

/// What such a file may hold.
fn twin_contents(truth: &[u8]) -> Vec<Vec<u8>> {
    let mut other = truth.to_vec();
    other[200..].fill(7);
    vec![Vec::new(), vec![0; 128], truth[..128].to_vec(), truth[..truth.len() / 2].to_vec(), other, truth.to_vec()]
}

fn shows(world: &World, what: &str) {
    let volume = world.open();
    assert_eq!(read(&volume, "a").unwrap_or_else(|error| panic!("{what}: {error}")), b"two", "{what}");
}

#[test]
fn a_twin_of_any_segment_hides_nothing_from_a_known_device_or_a_new_one() {
    let world = two_commits(4);
    let volume = world.open();
    write(&volume, "large", &crate::support::noise(1, 50_000)).expect("written");
    volume.close().expect("closed");
    let truths: Vec<_> = [".meta", ".data"].into_iter().flat_map(|end| vault_files(&world.disk, end)).collect();
    for truth in truths {
        let bytes = world.disk.snapshot()[&truth].clone();
        for name in twin_names(&truth).into_iter().filter(|name| *name != truth) {
            for content in twin_contents(&bytes) {
                let what = format!("{truth} and {name} of {} bytes", content.len());
                let known = world.fork();
                known.disk.deliver(&name, &content);
                for device in [&known, &new_device(&known)] {
                    shows(device, &what);
                    let volume = device.open();
                    let large = read(&volume, "large").unwrap_or_else(|error| panic!("{what}: {error}"));
                    assert_eq!(large, crate::support::noise(1, 50_000), "{what}");
                }
            }
        }
    }
}

#[test]
fn a_twin_is_no_sign_of_anything_and_stops_no_write() {
    let world = two_commits(5);
    let truth = vault_files(&world.disk, ".meta").pop().expect("there");
    world.disk.deliver(&twin_names(&truth)[0], b"");
    let volume = open_writable(&world);
    write(&volume, "a", b"three").expect("written");
    volume.close().expect("published");
    assert_eq!(read(&open_writable(&world), "a").expect("read"), b"three");
}

#[test]
fn a_copy_under_another_name_stands_in_for_a_segment_that_is_gone() {
    let world = two_commits(6);
    let truth =
        vault_files(&world.disk, ".data").pop().or_else(|| vault_files(&world.disk, ".meta").pop()).expect("there");
    let bytes = world.disk.snapshot()[&truth].clone();
    world.disk.withdraw(&truth);
    world.disk.deliver(&FilePath::vault(truth.name.replace("/0000000/", "/0000005/")), &bytes);
    shows(&world, "a copy in another folder");
}
