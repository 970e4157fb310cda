//! What a check finds: nothing in sound vaults whatever was done to them, and each kind of damage by its own name.

mod damage;
mod forge;
mod kept;
mod logic;
mod packs;
mod sound;
#[path = "../support/mod.rs"]
mod support;
mod twisted;

use std::sync::Arc;

use passkeyfs::check::{CheckOptions, CheckReport, Issue, check_vault};
use passkeyfs::format::InodeNumber;
use passkeyfs::volume::{SetExtendedAttribute, Volume};
use support::{OWNER, ROOT, World};

/// The bytes of a block in these vaults.
const BLOCK_BYTES: u64 = 4096;

fn whole() -> CheckOptions {
    CheckOptions { data_percent: Some(100), ..CheckOptions::default() }
}

fn check(world: &World, options: &CheckOptions) -> CheckReport {
    let environment = world.environment(Arc::new(world.disk.clone()));
    check_vault(&environment, world.keys(), options, &mut |_| {}).unwrap()
}

fn issues(world: &World, options: &CheckOptions) -> Vec<Issue> {
    check(world, options).issues.into_iter().map(|listed| listed.issue).collect()
}

/// The inodes of a small vault with one of everything.
struct Sample {
    world: World,
    directory: InodeNumber,
    /// `/docs/file`: three blocks.
    file: InodeNumber,
    /// `/docs/symlink`.
    symlink: InodeNumber,
    /// `/small`: inline, with a small and a large extended attribute.
    small: InodeNumber,
    /// `/one` and `/two`.
    linked: InodeNumber,
}

/// Bytes that do not compress.
fn noise(world: &World, length: usize) -> Vec<u8> {
    use passkeyfs::crypto::Randomness;
    let mut bytes = vec![0; length];
    world.randomness.fill(&mut bytes);
    bytes
}

fn write_file(volume: &Volume, parent: InodeNumber, name: &[u8], bytes: &[u8]) -> InodeNumber {
    let inode = volume.create_file(parent, name, &OWNER).unwrap().inode;
    volume.write(inode, 0, bytes, false).unwrap();
    volume.close_file(inode);
    inode
}

/// Published in one commit, after the empty one.
fn sample() -> Sample {
    let world = World::new(1);
    let volume = world.open();
    let directory = volume.make_directory(ROOT, b"docs", &OWNER).unwrap().inode;
    let file = write_file(&volume, directory, b"file", &noise(&world, 10_000));
    let symlink = volume.make_symlink(directory, b"symlink", b"target", &OWNER).unwrap().inode;
    let small = write_file(&volume, ROOT, b"small", b"inline");
    let set = SetExtendedAttribute::Any;
    volume.set_extended_attribute(small, b"user.small", b"1", set, false).unwrap();
    volume.set_extended_attribute(small, b"user.large", &[7; 30_000], set, false).unwrap();
    let linked = write_file(&volume, ROOT, b"one", &noise(&world, 3_000));
    volume.link(linked, ROOT, b"two").unwrap();
    volume.close().unwrap();
    Sample { world, directory, file, symlink, small, linked }
}
