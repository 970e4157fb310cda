//! Commits made by hand, by one who holds a vault key and heeds none of the program's rules.

use std::sync::Arc;

use passkeyfs::format::commit::{ClockEntry, CommitPage};
use passkeyfs::format::segment::SegmentKind;
use passkeyfs::format::{BlockKind, CommitId, EpochId, InodeNumber, Key, Pointer, Sequence, Stamps};
use passkeyfs::history::{AcceptedHeads, DeviceState};
use passkeyfs::segments::{BlockError, BlockSink, BlockSource, KeyRing, SegmentWriter, Segments};
use passkeyfs::store::MemoryStore;
use passkeyfs::tree::{Change, Changes, Tree};

use crate::rig::Rig;

/// What a commit has that no honest one has.
#[derive(Default)]
pub struct Forgery {
    /// Items of the tree.
    pub items: Vec<(Key, Vec<u8>)>,
    /// The epoch that its page names, in the place of the one whose key it is under.
    pub named_epoch: Option<EpochId>,
    /// Whether it has number and id of the commit that it is made on.
    pub has_name_of_head: bool,
}

struct Blocks<'a>(&'a Segments, SegmentWriter);

impl BlockSink for Blocks<'_> {
    fn write(&mut self, kind: BlockKind, bytes: &[u8]) -> Result<Pointer, BlockError> {
        let block = self.0.prepare(kind, bytes.to_vec());
        Ok(self.1.append(block, InodeNumber::VAULT, 0)?)
    }
}

/// Adds a commit to a disk's folder, on its device's newest one and under that one's vault key.
pub fn add_commit(rig: &Rig, disk: &MemoryStore, name: &str, forgery: Forgery) {
    let unlocked = rig.unlock(disk, name).expect("unlocked");
    let epochs = unlocked.epochs.into_iter().map(|entry| entry.key).collect();
    let ring = Arc::new(KeyRing::new(unlocked.vault.vault(), epochs));
    let device = DeviceState::load(disk).expect("readable").expect("there").device;
    let (store, clock, randomness) = (Arc::new(disk.clone()), rig.clock.clone(), rig.randomness.clone());
    let segments = Arc::new(Segments::new(store, clock, randomness, ring, device, true, 0).expect("segments"));
    let tree = Tree::new(Arc::clone(&segments) as Arc<dyn BlockSource>, 1 << 20);
    let accepted = AcceptedHeads::find(&segments, &tree, None).expect("found");
    let head = accepted.heads.newest[&device].clone();
    segments.ring().write_in(head.page.epoch);
    segments.skip_to(Sequence(head.sequence.0 + 1000));
    let put = |(key, value): (Key, Vec<u8>)| (key, Change::Put { value: value.into(), stamps: Stamps::default() });
    let changes = Changes { removed_ranges: Vec::new(), items: forgery.items.into_iter().map(put).collect() };
    let mut blocks = Blocks(&segments, segments.begin(SegmentKind::Meta).expect("begun"));
    let root = tree.apply(&head.root(), &changes, &mut blocks).expect("applied");
    let (number, id) = match forgery.has_name_of_head {
        true => (head.page.number, head.page.id),
        false => (head.page.number.next(), CommitId(rig.randomness.array())),
    };
    let mut clock = head.clock.clone();
    clock.0.insert(device, ClockEntry::of_itself(number, id));
    let page = CommitPage {
        number,
        id,
        parent: head.page.id,
        epoch: forgery.named_epoch.unwrap_or(head.page.epoch),
        root: root.0,
        clock: blocks.write(BlockKind::Clock, &clock.encode()).expect("written"),
        data_files: Vec::new(),
        ..head.page
    };
    let segment = segments.finish(blocks.1, Some(page)).expect("finished");
    segments.publish(&segment).expect("published");
}
