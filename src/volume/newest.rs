//! Which commit is opened, and what speaks against writing on it.
//!
//! Relies on history for what was seen and for which vault key replaced which. Whatever shows that the folder is older than
//! it should be, or not all here, makes a volume read-only, and says why. Most of it the user can set aside with
//! `accept_rollback`, which takes an older state for the newest there is. Not what is written under a newer vault key that
//! is not open here: every other device would refuse what is added beside it (`unopened.rs` says what to do about that).
//!
//! Where several commits count, none of which has seen the others, the newest by time is shown, on every device the same, and
//! nothing is written until the user names the one to go on with (`head` with `accept_rollback`): the next commit then covers
//! the others.

use super::VolumeOptions;
use super::given_up::{RemovedThere, removed_there};
use super::heads::{Candidates, describe, find_device, list as list_heads, newest_of, usable};
use super::open_error::OpenError;
use super::passed_over::{describe_passed_over, unlisted_doubt};
use super::revived_keys::RevivedKeys;
use super::slots::{UsedSlot, check_used_slot};
use super::unopened::Unopened;
use super::unpublished::{Place, UncoveredJournal};
use crate::format::{EpochId, VaultId};
use crate::history::epoch_records::newer_record;
use crate::history::{AcceptedHeads, Arriving, DeviceState, Head, KnownEpochs, Rollback, find_arriving};
use crate::segments::Segments;
use crate::store::Store;
use crate::tree::Tree;
use crate::unlock::KnownKeys;

/// Who opens, and how.
pub(super) struct Opener<'a> {
    pub device: &'a DeviceState,
    /// The record of the id that this device has just given up.
    pub former: Option<&'a DeviceState>,
    pub slot: Option<UsedSlot>,
    /// The epochs whose keys the slot has.
    pub opened: &'a [EpochId],
    pub options: &'a VolumeOptions,
}

/// The commit that is opened, and what was found with it.
pub(super) struct Newest {
    pub head: Head,
    pub accepted: AcceptedHeads,
    /// What no commit covers, and where it belongs.
    pub journal: UncoveredJournal,
    pub place: Place,
    pub doubts: Doubts,
    pub unopened: Unopened,
    /// What is on its way.
    pub arriving: Vec<Arriving>,
    /// What a person should know of the choice.
    pub warnings: Vec<String>,
}

/// Why a volume takes no changes, as far as there are different things to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOnlyCause {
    /// The user asked for it.
    Asked,
    /// Something is missing that the sync client may bring.
    Missing,
    /// A newer commit is on its way. The reason itself says what to do.
    Arriving,
    /// Several devices have written at once.
    Diverged,
    /// The journal holds changes of a commit that cannot be had.
    Unplaced,
    /// A newer version of this program has written here what must be known to write. No option sets that aside.
    NewerFeatures,
}

/// Whether and why a volume takes no changes.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// Why it takes none, if so.
    pub read_only: Option<String>,
    /// What kind of reason that is.
    pub cause: Option<ReadOnlyCause>,
    /// Whether `accept_rollback` would make it take changes.
    pub can_be_accepted: bool,
    /// Whether it takes changes though the state is older than one that was seen.
    pub are_accepted: bool,
    /// Whether the next commit covers heads that its tree has nothing of, as the user wants it.
    pub gives_up_heads: bool,
    /// The key slots that those heads have removed from it.
    pub removed_there: Vec<RemovedThere>,
    /// What the state would bring back, if that was accepted: to be shut out before anything is written.
    pub revived: Option<RevivedKeys>,
}

/// What this device knows of the vault's keys, unless it is of another vault.
///
/// # Errors
/// When the local state cannot be read, or a newer version wrote it.
pub fn known_keys(store: &dyn Store, vault: VaultId) -> Result<Option<KnownKeys>, OpenError> {
    if let Some(newer) = KnownKeys::newer_format(store)? {
        return Err(OpenError::Newer(newer.into()));
    }
    Ok(KnownKeys::load(store)?.filter(|known| known.vault == vault))
}

/// The newest commits that count, by what this device knows.
///
/// # Errors
/// When the folder cannot be read; [`OpenError::Newer`] when one of them needs features to be read that are not known: what is
/// older is not shown in its place.
pub fn find_heads(segments: &Segments, tree: &Tree, known: Option<&KnownKeys>) -> Result<AcceptedHeads, OpenError> {
    let known = known.map(|known| KnownEpochs { epoch: known.epoch, older: known.older.clone() });
    let accepted = AcceptedHeads::find(segments, tree, known.as_ref())?;
    match accepted.heads.missing_features() {
        Some(commit) => Err(OpenError::Newer(commit.to_string().into())),
        None => Ok(accepted),
    }
}

impl Newest {
    /// Finds the commit to open, for a slot that the vault has.
    pub fn find(store: &dyn Store, segments: &Segments, tree: &Tree, opener: &Opener<'_>) -> Result<Self, OpenError> {
        let known = known_keys(store, segments.ring().vault)?;
        let accepted = find_heads(segments, tree, known.as_ref())?;
        let unopened = Unopened::judge(&accepted, opener.device, opener.options);
        if let (Unopened::Shut { newer: Some(newer), .. }, true) = (&unopened, opener.options.wants_changes()) {
            return Err(OpenError::Newer(newer.as_str().into()));
        }
        let mut warnings = describe_passed_over(segments, &accepted);
        let Opener { device, former, .. } = *opener;
        let journal = UncoveredJournal::read(store, segments.ring(), &accepted.heads, device, former)?;
        let candidates = Candidates::find(segments, tree, &accepted)?;
        let Choice { head, place, others } = Choice::make(segments, tree, &accepted, &candidates, &journal, opener)?;
        if let Some(newer) = newer_part(tree, &accepted, &head) {
            match opener.options.wants_changes() {
                true => return Err(OpenError::Newer(newer.into())),
                false => warnings.push(format!("a newer version of passkeyfs has written here: {newer}")),
            }
        }
        check_used_slot(tree, &accepted.heads, &head, known.as_ref(), Some(opener.device), opener.slot)?;
        let arriving = find_arriving(store, segments, &accepted, Some(opener.device))?;
        let mut doubts = Doubts::weigh(segments, &accepted, &head, known.as_ref(), &unopened, opener);
        if opener.options.wants_changes() {
            doubts.weigh_heads(tree, &accepted, &head, &others, opener.options);
            doubts.weigh_features(&accepted, &head);
        }
        if let Some(sign) = arriving.first().map(ToString::to_string).or(candidates.unusable) {
            doubts.add_arriving(&sign, opener.options);
        }
        if !others.is_empty() && doubts.cause != Some(ReadOnlyCause::Diverged) {
            warnings.push(format!(
                "{} devices have written at once; shown is {}; not shown: {}",
                others.len() + 1,
                describe(tree, &head),
                list_heads(tree, &others.iter().collect::<Vec<_>>())
            ));
        }
        if doubts.gives_up_heads {
            warnings.extend(doubts.note_removed_there(tree, &head, &others, opener)?);
        }
        doubts.note_revived(store, tree, &accepted, &head, known.as_ref(), opener)?;
        if !opener.options.wants_changes() {
            doubts.add(ReadOnlyCause::Asked, "mounted read-only".into());
        }
        if let Unopened::SetAside(files) = &unopened {
            warnings.push(format!(
                "set aside, as it was asked for: {}; should one of them be another device's, what is written from now on is \
                 passed over once it can be read",
                files.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
            ));
        }
        Ok(Self { head, accepted, journal, place, doubts, unopened, arriving, warnings })
    }

    /// Whether the folder has a commit under this device's name that it is far from having made: what it publishes under that
    /// name would lie below it.
    pub fn has_own_head_beyond(&self, own: &DeviceState) -> bool {
        let head = self.accepted.heads.newest.get(&own.device);
        head.is_some_and(|head| own.is_beyond(head.sequence))
    }

    /// Whether what the journal holds is to be published on another commit than the one that is opened for writing, or on
    /// the one of several heads that it belongs to.
    pub fn base_to_publish(&self) -> Option<Head> {
        let is_forked = self.doubts.cause == Some(ReadOnlyCause::Diverged);
        // A folder that lacks what was seen is none to publish in.
        let is_whole = !matches!(self.unopened, Unopened::Shut { .. }) && !self.doubts.is_rolled_back();
        // Nor is one that this version must not write to.
        let is_asked = matches!(self.doubts.cause, Some(ReadOnlyCause::Asked | ReadOnlyCause::NewerFeatures));
        // Nor is one on which a rotation has to come first.
        let is_current = self.doubts.revived.is_none();
        if self.journal.is_empty() || is_asked || !is_whole || !is_current {
            return None;
        }
        match &self.place {
            Place::Commit(base) => Some((**base).clone()),
            Place::Head if is_forked => Some(self.head.clone()),
            Place::Head | Place::Missing(_) => None,
        }
    }
}

/// The commit that is shown.
struct Choice {
    head: Head,
    place: Place,
    /// Other heads that it does not cover.
    others: Vec<Head>,
}

impl Choice {
    fn make(
        segments: &Segments,
        tree: &Tree,
        accepted: &AcceptedHeads,
        candidates: &Candidates,
        journal: &UncoveredJournal,
        opener: &Opener<'_>,
    ) -> Result<Self, OpenError> {
        let (own, options) = (opener.device, opener.options);
        let uncovered = accepted.uncovered();
        let is_head = |head: &Head| uncovered.iter().any(|other| other.reference() == head.reference());
        let others = |head: &Head| -> Vec<Head> {
            // Of heads none has seen another. A clock counts among epochs as `uncovered` says, so it is not asked here.
            let is_head = is_head(head);
            let sees = |one: &Head, other: &Head| !is_head && one.clock.pins(other.device, other.entry());
            let is_beside = |other: &&&Head| other.device != head.device && !sees(head, other) && !sees(other, head);
            uncovered.iter().filter(is_beside).map(|other| (*other).clone()).collect()
        };
        let Some(digits) = &options.head else {
            let Some(head) = newest_of(&candidates.heads) else { return Err(nothing_usable(accepted)) };
            let place = journal.place(segments, head, own)?;
            return Ok(Self { head: head.clone(), place, others: others(head) });
        };
        let device = find_device(tree, accepted, (!journal.is_empty()).then_some(own.device), digits)?;
        if device == own.device && !options.accept_rollback {
            // This device's newest state is what its journal says.
            let newest = accepted.heads.newest.get(&device).or(newest_of(&candidates.heads));
            let Some(newest) = newest else { return Err(nothing_usable(accepted)) };
            match journal.place(segments, newest, own)? {
                Place::Commit(base) => return Ok(Self { others: others(&base), head: *base, place: Place::Head }),
                Place::Missing(why) if newest.device != device => {
                    return Err(OpenError::NotArrived(format!("this device's changes cannot be shown: {why}").into()));
                }
                place => return Ok(Self { head: newest.clone(), place, others: others(newest) }),
            }
        }
        // A device without a commit is this one, with changes in its journal.
        let head = accepted.heads.newest.get(&device).or(newest_of(&candidates.heads));
        let head = usable(segments, tree, head.ok_or_else(|| nothing_usable(accepted))?)?;
        let place = journal.place(segments, &head, own)?;
        Ok(Self { others: others(&head), head, place })
    }
}

/// What a newer version has written of the keys of older epochs, in words: without it nobody can tell which vault key replaced
/// which, and what is under the older ones is unreadable.
fn newer_part(tree: &Tree, accepted: &AcceptedHeads, head: &Head) -> Option<String> {
    let unproved = accepted.unproved.iter().find(|commit| commit.newer.is_some());
    let of_head = || Some(format!("{}: {}", head.reference(), newer_record(tree, &head.root())?));
    unproved.map(ToString::to_string).or_else(of_head)
}

fn nothing_usable(accepted: &AcceptedHeads) -> OpenError {
    let unopened = accepted.heads.unopened.first().map(ToString::to_string);
    let awaited = unopened.or_else(|| accepted.heads.awaited.first().map(|(_, _, error)| error.to_string()));
    let awaited = awaited.or_else(|| accepted.unproved.first().map(ToString::to_string));
    let refused = || accepted.refused.first().map(ToString::to_string);
    OpenError::NotArrived(awaited.or_else(refused).unwrap_or_else(|| "the folder holds no commit".into()).into())
}

impl Doubts {
    fn weigh(
        segments: &Segments,
        accepted: &AcceptedHeads,
        head: &Head,
        known: Option<&KnownKeys>,
        unopened: &Unopened,
        opener: &Opener<'_>,
    ) -> Self {
        let missing =
            |read_only| Self { read_only: Some(read_only), cause: Some(ReadOnlyCause::Missing), ..Self::default() };
        if let Unopened::Shut { reason, .. } = unopened {
            return missing(reason.clone());
        }
        if let Some(unproved) = accepted.unproved.first() {
            return missing(unproved.to_string());
        }
        let seen = &opener.device.seen;
        let rollbacks = accepted.heads.rollbacks(opener.device);
        let doubt = match rollbacks.is_empty() {
            false => Some(format!("the folder is older than what this device has seen: {}", list(&rollbacks))),
            true => known.and_then(|known| accepted.doubt_epoch(head, known.epoch, seen)),
        };
        let doubt = doubt.or_else(|| unlisted_doubt(segments));
        let is_taken_on_trust = known.is_none_or(|known| known.epoch != head.page.epoch);
        let doubt = doubt.or_else(|| {
            let rival = is_taken_on_trust.then(|| accepted.rival_epoch(segments, head, opener.opened)).flatten()?;
            Some(format!(
                "the folder has commits under another vault key (epoch {rival}) than its newest one (epoch {}), and neither \
                 has replaced the other: one of them may be forged, and a device that knows this vault tells which",
                head.page.epoch
            ))
        });
        match doubt {
            Some(_) if opener.options.accept_rollback => Self { are_accepted: true, ..Self::default() },
            Some(reason) => Self { can_be_accepted: true, ..missing(reason) },
            None => Self { are_accepted: matches!(unopened, Unopened::SetAside(_)), ..Self::default() },
        }
    }

    /// Other heads, and a commit that is no head.
    fn weigh_heads(
        &mut self,
        tree: &Tree,
        accepted: &AcceptedHeads,
        head: &Head,
        others: &[Head],
        options: &VolumeOptions,
    ) {
        let names_it = options.head.is_some() && options.accept_rollback;
        let is_head = accepted.uncovered().iter().any(|other| other.reference() == head.reference());
        let covers =
            |other: &&Head| !is_head && other.device != head.device && other.clock.pins(head.device, head.entry());
        match accepted.heads.newest.values().find(covers) {
            Some(later) if options.head.is_some() => self.add(
                ReadOnlyCause::Asked,
                format!("what is shown is part of a later commit already: {}", describe(tree, later)),
            ),
            _ if others.is_empty() => {}
            _ if names_it => self.gives_up_heads = true,
            _ => {
                let devices = others.len() + 1;
                let others = list_heads(tree, &others.iter().collect::<Vec<_>>());
                let shown = describe(tree, head);
                self.add(
                    ReadOnlyCause::Diverged,
                    format!(
                        "{devices} devices have written at once, and this version does not merge their changes; shown is \
                         {shown}; not shown: {others}; -o head=DEVICE shows any"
                    ),
                );
            }
        }
    }

    /// What a newer version has written, in the commit or in one that it does not cover, may need to be known to write. That
    /// comes before other reasons: those a user can set aside.
    fn weigh_features(&mut self, accepted: &AcceptedHeads, head: &Head) {
        let missing = |head: &&Head| Some((head.reference(), head.page.required.missing_to_write()?));
        if let Some((commit, missing)) = accepted.uncovered().iter().chain([&head]).find_map(missing) {
            let reason = format!("a newer version of passkeyfs has written here: {commit}: {missing}");
            *self = Self::default();
            self.add(ReadOnlyCause::NewerFeatures, reason);
        }
    }

    fn add_arriving(&mut self, sign: &str, options: &VolumeOptions) {
        if options.accept_rollback {
            self.are_accepted = true;
            return;
        }
        let can_be_accepted = self.read_only.is_none() || self.can_be_accepted;
        self.add(
            ReadOnlyCause::Arriving,
            format!("{sign}: let the sync client finish and mount again, or go on without it with -o accept-rollback"),
        );
        self.can_be_accepted = can_be_accepted;
    }

    /// Adds a reason that comes behind those that are there.
    pub fn add(&mut self, cause: ReadOnlyCause, reason: String) {
        if self.read_only.is_none() {
            (self.read_only, self.cause) = (Some(reason), Some(cause));
        }
    }

    /// Whether the folder lacks what was seen, or has what may be forged, and the user has not said to go on.
    fn is_rolled_back(&self) -> bool {
        self.cause == Some(ReadOnlyCause::Missing)
    }

    /// Looks which keys are removed in what the user gives up, and refuses the one that was used. Answers with what cannot be
    /// told.
    fn note_removed_there(
        &mut self,
        tree: &Tree,
        head: &Head,
        others: &[Head],
        opener: &Opener<'_>,
    ) -> Result<Vec<String>, OpenError> {
        let (removed, unread) = removed_there(tree, head, others);
        if let Some(UsedSlot { slot, .. }) = opener.slot.filter(|used| removed.iter().any(|one| one.slot == used.slot))
        {
            return Err(OpenError::SlotRemoved { slot });
        }
        self.removed_there = removed;
        Ok(unread)
    }

    /// Looks what an older state would bring back, says it where it is still to be accepted, and refuses the slot that is.
    fn note_revived(
        &mut self,
        store: &dyn Store,
        tree: &Tree,
        accepted: &AcceptedHeads,
        head: &Head,
        known: Option<&KnownKeys>,
        opener: &Opener<'_>,
    ) -> Result<(), OpenError> {
        let is_accepted = self.read_only.is_none() && (self.are_accepted || self.gives_up_heads);
        let Some(known) = known.filter(|_| is_accepted || self.can_be_accepted) else { return Ok(()) };
        let Some(revived) = RevivedKeys::find(store, tree, accepted, head, known, opener.slot)? else { return Ok(()) };
        if let Some(UsedSlot { slot, .. }) = opener.slot.filter(|used| revived.has_slot(used.slot)) {
            return Err(OpenError::SlotRemoved { slot });
        }
        if let Some(reason) = &mut self.read_only {
            reason.push_str(&format!(
                "; it would bring back {revived}: who accepts it has the vault key replaced first, without that"
            ));
        }
        self.revived = is_accepted.then_some(revived);
        Ok(())
    }
}

/// Rollbacks in one line.
pub(super) fn list(rollbacks: &[Rollback]) -> String {
    rollbacks.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
