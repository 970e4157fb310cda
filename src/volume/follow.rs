//! Going on from another device's commit, on a volume of which nothing is unpublished.
//!
//! All that may fail is read first; then the root, the publisher's head and clock, and what hangs on them change together
//! under the state's lock. What programs have open stays valid: a file that the new tree lacks is read from the tree
//! before until its last handle is closed, and cannot be changed ([`VolumeError::Stale`]); one that the new tree has is what
//! the new tree says. The kernel still has the old names, attributes and content: it is told by whoever registered with
//! [`Volume::when_followed`], on a thread that holds no lock. A change of content that was sent before it knew is refused
//! where the file has changed, for its offset means nothing in the new content.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::newest::Newest;
use super::publish::Publisher;
use super::{Result, Volume, VolumeError};
use crate::crypto::Randomness;
use crate::format::commit::CommitReference;
use crate::format::items::{AttributesRecord, EntryRecord, decode_list};
use crate::format::{ByteReader, EpochId, InodeNumber, Key, KeyKind};
use crate::history::device::draw_lease;
use crate::history::{Head, Heads};
use crate::tree::{Difference, Root, Side, StoredValue, TreeError};

use crate::state::inode_numbers::InodeNumbers;

/// A commit was followed: what the kernel has cached of the tree before may be wrong now.
#[derive(Debug, Clone)]
pub struct Followed {
    number: u64,
    before: Root,
    after: Root,
}

/// Called when a commit was followed, under the publisher's lock: it must not wait.
pub type FollowHook = Box<dyn Fn(Followed) + Send + Sync>;

/// Something that the kernel may have cached, and that is not so any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stale {
    /// A name in a directory.
    Name {
        /// The directory.
        parent: InodeNumber,
        /// The name.
        name: Vec<u8>,
    },
    /// An inode's attributes and ACLs.
    Attributes(InodeNumber),
    /// Its attributes and content.
    Content(InodeNumber),
}

/// What a follow needs to know of the new tree before the state is locked.
struct Prepared {
    root: Root,
    commit: CommitReference,
    inode_count: u64,
    /// Inodes without a name that this device was to remove.
    orphans_before: Vec<InodeNumber>,
    /// Those of them that are still there.
    orphans: Vec<InodeNumber>,
    /// A new lease of inode numbers, if the tree has some of ours.
    lease: Option<u64>,
    /// Whether slots or epochs differ.
    has_new_keys: bool,
}

impl Volume {
    /// Has `hook` called when a commit was followed. It must see to it that [`Volume::kernel_is_told`] is called. The first
    /// one stays.
    pub fn when_followed(&self, hook: FollowHook) {
        let _ = self.follower.followed.set(hook);
    }

    /// Goes on from another device's commit. False where something has changed here meanwhile: then all is as before.
    pub(super) fn follow(&self, publisher: &mut Publisher, newest: Newest) -> Result<bool> {
        let Newest { head, accepted, warnings, .. } = newest;
        let prepared = self.prepare_to_follow(&head, publisher)?;
        let followed = match self.switch_to(&prepared, publisher)? {
            Some(before) => Followed { number: self.note_follow(), before, after: prepared.root },
            None => return Ok(false),
        };
        log::info!("commit {} of device {} is followed", head.page.number.0, head.device);
        warnings.into_iter().for_each(|warning| self.layers.warnings.add(warning));
        publisher.clock = head.clock.clone();
        publisher.seconds = publisher.seconds.max(head.page.seconds);
        self.go_on_in_epoch(head.page.epoch);
        publisher.head = Some(head);
        self.layers.refs.lock().drop_all_compares();
        self.record_what_was_seen(publisher, &accepted.heads);
        if prepared.has_new_keys {
            // What is not as it should be is warned of.
            let _ = self.try_keep_keys(publisher, false);
        }
        if let Some(hook) = self.follower.followed.get() {
            hook(followed);
        }
        Ok(true)
    }

    /// What is written from now on is under the vault key of the commit that was followed.
    fn go_on_in_epoch(&self, epoch: EpochId) {
        let ring = self.segments.ring();
        if ring.current().epoch != epoch {
            // As at a rotation made here: nobody is between tagging a block and appending it.
            let _journal = self.journal.lock();
            let _flushing = self.flusher.pause();
            ring.write_in(epoch);
        }
    }

    fn note_follow(&self) -> u64 {
        self.follower.follows.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn prepare_to_follow(&self, head: &Head, publisher: &Publisher) -> Result<Prepared> {
        let (root, commit) = (head.root(), head.reference());
        let tree = &self.layers.context.tree;
        let before = self.layers.read().root;
        let record = |root: &Root, key| Ok::<_, TreeError>(tree.get(root, key)?.map(|item| item.value));
        if record(&before, Key::NAME_KEY)? != record(&root, Key::NAME_KEY)? {
            return Err(VolumeError::Damaged("the tree has another key for names than the one before".into()));
        }
        let totals = record(&root, Key::TOTALS)?;
        let inode_count = totals.and_then(|value| ByteReader::new("totals", &value).u64().ok()).unwrap_or(1);
        let mut has_new_keys = publisher.head.as_ref().map(|head| head.page.epoch) != Some(self.current_epoch().epoch);
        for kind in [KeyKind::Slot, KeyKind::EpochRecord] {
            let key = |suffix| Key::new(InodeNumber::VAULT, kind, suffix);
            let items = |root| tree.scan(root, key(0), key(u64::MAX)).collect::<std::result::Result<Vec<_>, _>>();
            has_new_keys |= items(&before)? != items(&root)?;
        }
        let next = self.layers.read().numbers.peek();
        let lease = self.layers.read().numbers.lease();
        let is_taken = tree
            .last_at_or_before(&root, Key::last_of(InodeNumbers::range_of(lease).1))?
            .is_some_and(|key| key.inode >= next);
        let lease = if is_taken { Some(self.free_lease(&root)?) } else { None };
        let orphans_before = self.layers.read().orphans.clone();
        let mut orphans = orphans_before.clone();
        let orphan = |inode: &InodeNumber| Key::new(InodeNumber::VAULT, KeyKind::Orphan, inode.0);
        let still_there = orphans.iter().map(|inode| Ok(record(&root, orphan(inode))?.is_some()));
        let still_there = still_there.collect::<Result<Vec<bool>>>()?;
        let mut still_there = still_there.into_iter();
        orphans.retain(|_| still_there.next() == Some(true));
        Ok(Prepared { root, commit, inode_count, orphans_before, orphans, lease, has_new_keys })
    }

    /// A lease of which a tree has no inode.
    fn free_lease(&self, root: &Root) -> Result<u64> {
        let randomness: &dyn Randomness = &*self.environment.randomness;
        loop {
            let lease = draw_lease(randomness);
            let (first, last) = InodeNumbers::range_of(lease);
            let taken = self.layers.context.tree.last_at_or_before(root, Key::last_of(last))?;
            if taken.is_none_or(|key| key.inode < first) {
                return Ok(lease);
            }
        }
    }

    /// Changes the state to the new tree; answers with the one before. `None` where it is not clean any more.
    fn switch_to(&self, prepared: &Prepared, publisher: &Publisher) -> Result<Option<Root>> {
        debug_assert!(publisher.unplaced.is_none(), "a clean volume has no commit without a place");
        let checked = self.layers.refs.lock().in_question();
        let gone = self.missing_of(&checked, &prepared.root)?;
        // Held to the end: no one journals a change between the look at the state and the end of its journals.
        let mut journal = self.journal.lock();
        let mut state = self.layers.write();
        if !(state.current.is_empty() && state.frozen.is_none()) {
            return Ok(None);
        }
        // Opened since then: few, and their nodes are in the cache.
        let mut uses = self.layers.refs.lock();
        let opened: BTreeSet<_> = uses.in_question().difference(&checked).copied().collect();
        let opened_and_gone = self.missing_of(&opened, &prepared.root)?;
        let before = std::mem::replace(&mut state.root, prepared.root);
        state.commit = Some(prepared.commit);
        for inode in gone.union(&opened_and_gone) {
            if uses.leave_behind(*inode) {
                state.foreign.left_behind.entry(*inode).or_insert(before);
            }
        }
        // Noted since then: whether the new tree has them is seen when they are removed.
        let noted_since: Vec<_> =
            state.orphans.iter().copied().filter(|inode| !prepared.orphans_before.contains(inode)).collect();
        (state.inode_count, state.orphans) = (prepared.inode_count, Vec::new());
        state.note_orphans(prepared.orphans.iter().copied().chain(noted_since).collect());
        if let Some(lease) = prepared.lease {
            state.numbers.renew(lease);
        }
        state.current.first_inode = state.numbers.peek();
        if !state.foreign.is_kernel_behind {
            state.foreign.followed_from = Some(before);
        }
        state.foreign.is_kernel_behind = self.follower.followed.get().is_some();
        let takes_changes = state.read_only.is_none();
        drop((uses, state));
        if takes_changes {
            // They name the commit before as the one they stand on, and say nothing: all is published.
            self.journal.void_journals(&mut journal);
        }
        Ok(Some(before))
    }

    /// Those of some inodes that a tree lacks.
    fn missing_of(&self, inodes: &BTreeSet<InodeNumber>, root: &Root) -> Result<BTreeSet<InodeNumber>> {
        let mut missing = BTreeSet::new();
        for inode in inodes {
            if self.layers.context.tree.get(root, Key::first_of(*inode))?.is_none() {
                missing.insert(*inode);
            }
        }
        Ok(missing)
    }

    /// The rollback guard, as a mount notes it down. A volume that takes no changes writes nothing.
    fn record_what_was_seen(&self, publisher: &mut Publisher, heads: &Heads) {
        for (device, entry) in heads.newest.values().flat_map(|head| &head.clock.0) {
            let seen = publisher.device.seen.0.entry(*device).or_insert(*entry);
            if entry.number > seen.number {
                *seen = *entry;
            }
        }
        if self.layers.read().read_only.is_some() {
            return;
        }
        (publisher.device.inode_lease, publisher.device.inodes_given) = {
            let state = self.layers.read();
            (state.numbers.lease(), state.numbers.given())
        };
        if let Err(error) = publisher.device.save(&*self.environment.store) {
            // The next commit records the same.
            log::warn!("what was seen of the folder could not be recorded: {error}");
        }
    }

    /// Shows what the kernel may have cached and is not so any more, of the inodes that it knows.
    ///
    /// # Errors
    /// When a tree cannot be read; what was shown until then is not all.
    pub fn stale_in_kernel(&self, followed: &Followed, show: &mut dyn FnMut(Stale)) -> Result<()> {
        let is_known = |inode| inode == InodeNumber::ROOT || self.layers.refs.lock().is_used(inode);
        let tree = &self.layers.context.tree;
        let value_of = |side: Option<Side<'_>>| match side.map(|side| side.value) {
            None => Ok(None),
            Some(StoredValue::Inline(bytes)) => Ok(Some(Arc::from(bytes))),
            Some(StoredValue::Block(block)) => tree.read_value(&block).map(|bytes| Some(Arc::<[u8]>::from(bytes))),
        };
        let mut shown = None;
        tree.diff(&followed.before, &followed.after, &mut |difference| {
            let Difference { key, before, after } = difference;
            if key.inode == InodeNumber::VAULT || !is_known(key.inode) {
                return Ok(());
            }
            if key.kind == KeyKind::DirectoryEntry {
                let (before, after) = (value_of(before)?, value_of(after)?);
                changed_names(before.as_deref(), after.as_deref())
                    .into_iter()
                    .for_each(|name| show(Stale::Name { parent: key.inode, name }));
                return Ok(());
            }
            let stale = match key.kind {
                KeyKind::Attributes if has_same_content(value_of(before)?, value_of(after)?) => {
                    Stale::Attributes(key.inode)
                }
                KeyKind::BackReference | KeyKind::ExtendedAttribute => Stale::Attributes(key.inode),
                _ => Stale::Content(key.inode),
            };
            // Content stands for attributes, too; one of a file's thousand extents is enough.
            let content = Stale::Content(key.inode);
            if shown.as_ref() != Some(&stale) && shown.as_ref() != Some(&content) {
                show(stale.clone());
                shown = Some(stale);
            }
            Ok(())
        })?;
        Ok(())
    }

    /// The inodes that the kernel may know: what to tell it of where a difference cannot be read.
    pub fn known_to_kernel(&self) -> Vec<InodeNumber> {
        self.layers.refs.lock().all()
    }

    /// The last byte of a file that is open, and where it lies. None where there is none, or it cannot be read.
    pub fn last_byte_of_open_file(&self, inode: InodeNumber) -> Option<(u64, u8)> {
        if !self.layers.refs.lock().is_open(inode) {
            return None;
        }
        let offset = self.attributes(inode).ok()?.size_bytes.checked_sub(1)?;
        Some((offset, *self.read(inode, offset, 1).ok()?.first()?))
    }

    /// Refuses to append at an offset that is not the end of the file: who asks for it has not yet heard how long the file
    /// is since a commit was followed.
    pub fn check_end(&self, inode: InodeNumber, offset: u64) -> Result<()> {
        let has_followed = self.follower.follows.load(Ordering::Relaxed) > 0;
        match has_followed && self.attributes(inode)?.size_bytes != offset {
            true => Err(VolumeError::Stale),
            false => Ok(()),
        }
    }

    /// Notes that the kernel was told of all that a follow has changed.
    pub fn kernel_is_told(&self, followed: &Followed) {
        let mut state = self.layers.write();
        if followed.number == self.follower.follows.load(Ordering::Relaxed) {
            state.foreign.is_kernel_behind = false;
        }
    }
}

/// Names that do not lead where they led. One that is new is in no cache: the kernel does not remember what is not there.
fn changed_names(before: Option<&[u8]>, after: Option<&[u8]>) -> Vec<Vec<u8>> {
    // A list that is no list has no names that could have been looked up.
    let entries = |value: Option<&[u8]>| value.and_then(|value| decode_list::<EntryRecord>(value).ok());
    let (before, after) = (entries(before).unwrap_or_default(), entries(after).unwrap_or_default());
    let leads_there =
        |entry: &EntryRecord| after.iter().any(|one| (&one.name, one.inode) == (&entry.name, entry.inode));
    before.into_iter().filter(|entry| !leads_there(entry)).map(|entry| entry.name).collect()
}

fn has_same_content(before: Option<Arc<[u8]>>, after: Option<Arc<[u8]>>) -> bool {
    let record = |value: Option<Arc<[u8]>>| value.and_then(|value| AttributesRecord::decode(&value).ok());
    let content = |record: AttributesRecord| (record.content, record.size_bytes);
    match (record(before), record(after)) {
        (Some(before), Some(after)) => content(before) == content(after),
        _ => false,
    }
}
