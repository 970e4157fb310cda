//! The steps of opening a vault: what only the journal holds is published where it belongs, or replayed on the head.
//!
//! ```text
//! find        heads, journal, and the commit that the journal's changes were made on
//! publish_on  only where that commit is not the head, and changes are to be taken: they become this device's next commit,
//!             with that commit for a parent and no sight of any later one. Then the heads are looked for again.
//! finish      the head that is shown, with the journal replayed if it belongs there, else untouched
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Volume;
use super::look::Unlocked;
use super::newest::{Newest, Opener, ReadOnlyCause};
use super::open::{Environment, OpenKeys, Parts, VolumeOptions, block_bytes_of, open_segments};
use super::open_error::OpenError;
use super::slots::{self, UsedSlot};
use super::unopened::Unopened;
use super::unpublished::{Place, UncoveredJournal, joined};
use crate::format::{ByteReader, CommitNumber, EpochId, Key, Sequence, VaultFile};
use crate::history::{DeviceState, Head};
use crate::segments::{BlockSource, KeyRing, Segments};
use crate::tree::{Root, Tree};

impl Volume {
    /// Opens the newest commit, replays the journal and starts the background threads.
    ///
    /// A folder older than what this device has seen is opened read-only, unless the options accept it; `status` says so.
    ///
    /// # Errors
    /// See [`OpenError`]. Nothing is changed by a failed attempt.
    pub fn open(environment: Environment, keys: OpenKeys, options: VolumeOptions) -> Result<Arc<Self>, OpenError> {
        let loaded = DeviceState::load(&*environment.store)?;
        let mut device = own_device(&environment, loaded.clone());
        let (mut opening, mut tree) = Opening::begin(environment, keys, options, &device)?;
        let mut newest = opening.find(&tree, &device, &opening.options)?;
        if opening.options.wants_changes() && newest.has_own_head_beyond(&device) {
            let why = "somebody has published under this device's name, with a number that it is far from";
            let former = device.clone();
            device = as_another(&opening.environment, device, why);
            (opening, tree) = opening.of_device(&device, former)?;
            newest = opening.find(&tree, &device, &opening.options)?;
        }
        if let Unopened::SetAside(files) = &newest.unopened {
            device.set_aside = files.clone();
        }
        let base = newest.base_to_publish().filter(|_| opening.options.wants_changes());
        let Some(base) = base else { return opening.finish(tree, newest, device, loaded.as_ref()) };
        match opening.publish_on(base, &newest, &tree, device.clone(), loaded.as_ref()) {
            Ok(published) => {
                // What was published is one of the heads now, which nobody has looked at: none of them is given up yet.
                let options = VolumeOptions { accept_rollback: false, head: None, ..opening.options.clone() };
                let loaded = DeviceState::load(&*opening.environment.store)?;
                let device = loaded.clone().unwrap_or(device);
                let mut newest = opening.find(&tree, &device, &options)?;
                newest.warnings.push(published);
                opening.finish(tree, newest, device, loaded.as_ref())
            }
            Err(error) => {
                newest.place = Place::Missing(format!("they could not be published where they belong: {error}"));
                opening.finish(tree, newest, device, loaded.as_ref())
            }
        }
    }
}

/// The record under which this device writes: a fresh one where the state was copied from another machine.
pub(super) fn own_device(environment: &Environment, loaded: Option<DeviceState>) -> DeviceState {
    match loaded {
        Some(state) if state.is_used_up() => {
            as_another(environment, state, "this device has used up its numbers for files")
        }
        Some(state) if state.identity == environment.identity => state,
        Some(state) => {
            let next_sequence = state.next_sequence;
            let why = "the local state was copied from elsewhere or made anew";
            DeviceState { next_sequence, ..as_another(environment, state, why) }
        }
        None => DeviceState::fresh(&*environment.randomness, &environment.identity),
    }
}

/// A record with another id, and all that this device has seen.
fn as_another(environment: &Environment, state: DeviceState, why: &str) -> DeviceState {
    log::warn!("{why}: from here this vault is written to as a new device");
    let DeviceState { seen, adopted, given_up, set_aside, .. } = state;
    DeviceState {
        seen,
        adopted,
        given_up,
        set_aside,
        ..DeviceState::fresh(&*environment.randomness, &environment.identity)
    }
}

/// What every commit that is opened is opened with.
pub(super) struct Opening {
    pub environment: Environment,
    pub options: VolumeOptions,
    pub vault: VaultFile,
    pub segments: Arc<Segments>,
    /// The record of an id that this device has given up now.
    pub former: Option<DeviceState>,
    pub slot: Option<UsedSlot>,
    pub opened: Vec<EpochId>,
    pub block_bytes: usize,
}

impl Opening {
    fn begin(
        environment: Environment,
        keys: OpenKeys,
        options: VolumeOptions,
        device: &DeviceState,
    ) -> Result<(Self, Tree), OpenError> {
        let OpenKeys { vault, epochs, slot } = keys;
        let opened = epochs.iter().map(|key| EpochId(key.id())).collect();
        let ring = Arc::new(KeyRing::new(vault.vault(), epochs));
        let (segments, tree) = open_segments(&environment, ring, &vault, &options, device.device)?;
        segments.skip_to(Sequence(device.next_sequence));
        let block_bytes = block_bytes_of(&vault);
        Ok((Self { environment, options, vault, segments, former: None, slot, opened, block_bytes }, tree))
    }

    /// The same, for one who writes under another id.
    fn of_device(self, device: &DeviceState, former: DeviceState) -> Result<(Self, Tree), OpenError> {
        let ring = Arc::clone(self.segments.ring());
        let (segments, tree) = open_segments(&self.environment, ring, &self.vault, &self.options, device.device)?;
        segments.skip_to(Sequence(device.next_sequence));
        Ok((Self { segments, former: Some(former), ..self }, tree))
    }

    /// What there is to open.
    pub fn find(&self, tree: &Tree, device: &DeviceState, options: &VolumeOptions) -> Result<Newest, OpenError> {
        let opener = Opener { device, former: self.former.as_ref(), slot: self.slot, opened: &self.opened, options };
        let newest = Newest::find(&*self.environment.store, &self.segments, tree, &opener)?;
        let own = newest.accepted.heads.newest.get(&device.device);
        if let Some(own) = own.filter(|own| !device.is_beyond(own.sequence)) {
            self.segments.skip_to(own.sequence.next());
        }
        Ok(newest)
    }

    /// The volume on the head that was found, with the journal replayed where it belongs there.
    pub fn finish(
        self,
        tree: Tree,
        newest: Newest,
        device: DeviceState,
        recorded: Option<&DeviceState>,
    ) -> Result<Arc<Volume>, OpenError> {
        let Newest { head, accepted, journal, place, mut doubts, arriving, mut warnings, .. } = newest;
        let heads = &accepted.heads;
        let (slot, epochs) = (self.slot, self.opened.clone());
        self.segments.ring().write_in(head.page.epoch);
        if let Some(text) = unshown(&place, &device, !self.options.wants_changes()) {
            warnings.push(text.clone());
            doubts.add(ReadOnlyCause::Unplaced, text);
        }
        // A commit of this device would make a journal void that was not replayed.
        let gives_up_heads = doubts.gives_up_heads && doubts.read_only.is_none();
        let mut clock = head.clock.clone();
        if gives_up_heads {
            clock = joined(heads.newest.values().map(|head| &head.clock).chain([&clock]));
        }
        let is_replayed = matches!(place, Place::Head);
        if is_replayed {
            slots::go_on_with_rotation(self.segments.ring(), &accepted, &head, journal.epoch);
        }
        let own = heads.newest.get(&device.device).map(Head::entry).or(device.published);
        // Of a folder that is older than this device's record, too: no number stands for two commits.
        let number = journal.next_number(own.into_iter().chain(device.published).max_by_key(|entry| entry.number));
        let adopted = if is_replayed { journal.adopt(&device, number) } else { device.adopted.clone() };
        let device = DeviceState { published: own, adopted, ..device };
        let mut parts = self.parts(tree, &journal, number, device, head)?;
        (parts.read_only, parts.cause) = (doubts.read_only, doubts.cause);
        (parts.can_be_accepted, parts.clock) = (doubts.can_be_accepted, clock);
        let volume = Arc::new(Volume::assemble(parts));
        if is_replayed {
            volume.replay(&journal, number)?;
        }
        warnings.into_iter().for_each(|warning| volume.layers.warnings.add(warning));
        volume.keep_own_commit(heads, recorded)?;
        let is_rotated = doubts.revived.as_ref().is_some_and(|revived| volume.shut_out_again(revived));
        // Before what was seen is recorded: after a crash between the two the rollback is still seen to be one. After a
        // rotation the tree says what is valid.
        volume.keep_keys(!is_rotated && (doubts.are_accepted || doubts.revived.is_some()));
        volume.settle_in(heads, &arriving, recorded)?;
        // The part that says all anew is synced: a first change that waited for that would be lost by a kill meanwhile.
        if is_replayed && let Err(error) = volume.journal.write_journal() {
            log::warn!("what was replayed could not be written to a new journal: {error}");
        }
        if gives_up_heads {
            volume.give_up_heads(&doubts.removed_there);
        }
        // What is read-only for another reason than that it was asked for waits for a mount that says so; a head that was named
        // stays.
        let is_shown_as_asked = matches!(doubts.cause, None | Some(ReadOnlyCause::Asked));
        if is_shown_as_asked && (volume.options.head.is_none() || volume.options.accept_rollback) {
            let tolerated = arriving.iter().map(|arriving| (arriving.device, arriving.sequence)).collect();
            volume.follower.begin(Unlocked { slot, epochs, tolerated });
        }
        if volume.options.background {
            volume.start_threads().map_err(|error| OpenError::System(format!("threads: {error}")))?;
        }
        Ok(volume)
    }

    /// Publishes what the journal holds as this device's next commit on the commit that it was made on. It becomes a head of
    /// its own: it has seen that commit, and nothing later. What it says is in words.
    ///
    /// # Errors
    /// When that commit cannot be read or the new one not be published. The journal is then as it was.
    pub fn publish_on(
        &self,
        base: Head,
        newest: &Newest,
        tree: &Tree,
        device: DeviceState,
        recorded: Option<&DeviceState>,
    ) -> Result<String, OpenError> {
        let (heads, journal) = (&newest.accepted.heads, &newest.journal);
        let (reference, head) = (base.reference(), &newest.head);
        // Under the vault key of now: another device would take nothing that is written under one that was replaced.
        self.segments.ring().write_in(head.page.epoch);
        let vault_items = match head.page.epoch != base.page.epoch || head.clock.pins(base.device, base.entry()) {
            true => slots::differences(tree, &base.root(), &head.root())?,
            false => BTreeMap::new(),
        };
        let own = heads.newest.get(&device.device).map(Head::entry).or(device.published);
        let number = journal.next_number(own.into_iter().chain(device.published).max_by_key(|entry| entry.number));
        let device = DeviceState { published: own, adopted: journal.adopt(&device, number), ..device };
        let cache_bytes_max = self.options.cache_bytes_max / 4;
        let own_tree = Tree::new(Arc::clone(&self.segments) as Arc<dyn BlockSource>, cache_bytes_max);
        let opening = Self {
            environment: self.environment.clone(),
            options: VolumeOptions { background: false, ..self.options.clone() },
            vault: self.vault.clone(),
            segments: Arc::clone(&self.segments),
            opened: Vec::new(),
            former: None,
            ..*self
        };
        let volume = Volume::assemble(opening.parts(own_tree, journal, number, device, base)?);
        volume.replay(journal, number)?;
        volume.keep_own_commit(heads, recorded)?;
        volume.publish_replayed(vault_items)?;
        Ok(format!(
            "this device had changes that were not published, made on {reference}; another device has written since, so they \
             are published as commit {} of this device, beside the other's",
            number.0
        ))
    }

    fn parts(
        self,
        tree: Tree,
        journal: &UncoveredJournal,
        number: CommitNumber,
        device: DeviceState,
        head: Head,
    ) -> Result<Parts, OpenError> {
        let root = head.root();
        let name_key = vault_record(&tree, &root, Key::NAME_KEY)?
            .and_then(|value| value.as_ref().try_into().ok())
            .ok_or_else(|| OpenError::Damaged("the tree has no key for names".into()))?;
        let totals = vault_record(&tree, &root, Key::TOTALS)?;
        let inode_count = totals.and_then(|value| ByteReader::new("totals", &value).u64().ok()).unwrap_or(1);
        Ok(Parts {
            vault: self.vault,
            environment: self.environment,
            options: self.options,
            segments: self.segments,
            last_inode: journal.last_inode(&tree, &root, device.inode_lease)?,
            tree,
            block_bytes: self.block_bytes,
            name_key,
            device,
            clock: head.clock.clone(),
            seconds: head.page.seconds,
            head: Some(head),
            read_only: None,
            cause: None,
            can_be_accepted: false,
            number,
            inode_count,
        })
    }
}

/// Why changes that the journal holds are not shown, if so.
fn unshown(place: &Place, device: &DeviceState, was_asked: bool) -> Option<String> {
    let (why, next) = match place {
        Place::Head => return None,
        Place::Commit(base) => (
            format!("they were made on {}", base.reference()),
            match was_asked {
                true => format!("mount with -o ro,head={} to see them", device.device),
                false => "see to what is missing, then mount again".into(),
            },
        ),
        Place::Missing(why) => (
            why.clone(),
            "bring that back and mount again; to give them up, move the folder `journal` of this device's state away"
                .into(),
        ),
    };
    Some(format!("this device has changes that are not published and not shown: {why}; {next}"))
}

fn vault_record(tree: &Tree, root: &Root, key: Key) -> Result<Option<Arc<[u8]>>, OpenError> {
    Ok(tree.get(root, key)?.map(|item| item.value))
}
