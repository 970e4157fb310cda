//! A look at the vault folder while the volume is open: has another device published, and what follows from that.
//!
//! ```text
//! when                                             nothing of ours unpublished         something of ours unpublished
//! before the first change after a pause,           another's commit that covers ours:  another's commit: ours is published
//! every few seconds while idle,                    followed (`follow.rs`)              beside it and becomes a head of its
//! before each publish                              one on its way: changes are         own, which is said; then no more
//!                                                  refused until it is here            changes are taken
//!                                                  two heads: no more changes are taken
//!                                                  a newer vault key that is not open: refused, and nothing is published
//! ```
//! It costs a listing of each device's newest folders ([`Glance`]) where no name has changed. It happens under the
//! publisher's lock and never under the state's. An operation that changes something waits for it only if nothing is
//! unpublished, so a volume in use does not notice it.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::follow::FollowHook;
use super::heads::describe;
use super::newest::{Newest, Opener, find_heads, known_keys, list};
use super::open_error::OpenError;
use super::publish::Publisher;
use super::slots::UsedSlot;
use super::unopened::shut_in_words;
use super::{Result, Volume, VolumeError, VolumeOptions};
use crate::format::{DeviceId, EpochId, Sequence};
use crate::history::find_arriving;
use crate::segments::Glance;

/// How long after a look a first change needs no new one.
const PAUSE: Duration = Duration::from_secs(2);
/// How often an idle volume looks.
const IDLE_INTERVAL: Duration = Duration::from_secs(5);
/// A look that takes long (a folder on a network) is made so much less often: at most one part in so many of the time.
const SHARE_OF_TIME: u32 = 20;
/// How long a change waits for a publish or a look that is going on.
const PATIENCE: Duration = Duration::from_secs(1);

/// What looking remembers, and who wants to hear of it.
#[derive(Default)]
pub(super) struct Follower {
    is_on: AtomicBool,
    /// From when on a change on a clean volume waits for a look, in nanoseconds of the monotonic clock.
    due_before_change: AtomicU64,
    /// From when on an idle volume looks.
    due_when_idle: AtomicU64,
    /// How many commits were followed.
    pub(super) follows: AtomicU64,
    pub(super) followed: OnceLock<FollowHook>,
    unlocked: OnceLock<Unlocked>,
    memory: Mutex<Memory>,
}

/// With what the volume was opened.
pub(super) struct Unlocked {
    pub slot: Option<UsedSlot>,
    pub epochs: Vec<EpochId>,
    /// Incomplete commits that were there, and that it was to go on without.
    pub tolerated: BTreeSet<(DeviceId, Sequence)>,
}

/// What was found so far.
#[derive(Default)]
struct Memory {
    glance: Option<Glance>,
    /// Whether nothing was new when the folder was looked at last.
    is_quiet: bool,
    /// Why nothing may be published.
    shut: Option<String>,
    /// Why the vault has two newest states, since this device published beside another.
    fork: Option<String>,
}

/// What a look has found.
enum Finding {
    /// Nothing that this volume has not taken in.
    Nothing,
    /// The folder cannot be looked at now.
    Unknown,
    /// One commit that covers all others, and nothing speaks against it.
    Newer(Box<Newest>),
    /// Why to wait: a newer commit is on its way, or what is here is in doubt.
    Arriving(String),
    /// Commits that do not cover each other.
    Beside(String),
    /// Why nothing may be published: what is newest is not open to the keys of this session. Every other device would refuse
    /// what is written under a vault key that was replaced.
    Shut(String),
}

impl Follower {
    /// Why nothing may be published, if so: another device has written under a vault key that is not open here.
    pub fn shut(&self) -> Option<String> {
        self.memory.lock().shut.clone()
    }

    /// Begins to look, for a volume that was opened with these.
    pub fn begin(&self, unlocked: Unlocked) {
        let _ = self.unlocked.set(unlocked);
        self.is_on.store(true, Ordering::Relaxed);
    }

    fn is_due(&self, due: &AtomicU64, now: Duration) -> bool {
        self.is_on.load(Ordering::Relaxed) && nanoseconds(now) >= due.load(Ordering::Relaxed)
    }

    /// A look that took `cost` ends now.
    fn note_look(&self, now: Duration, cost: Duration) {
        let next = |interval: Duration| nanoseconds(now + interval.max(cost * SHARE_OF_TIME));
        self.due_before_change.store(next(PAUSE), Ordering::Relaxed);
        self.due_when_idle.store(next(IDLE_INTERVAL), Ordering::Relaxed);
    }

    /// Why the vault has two newest states, if it came to that while the volume was open.
    pub fn fork(&self) -> Option<String> {
        self.memory.lock().fork.clone()
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Volume {
    /// Looks at the folder before the first change after a pause. The caller holds no lock.
    pub(super) fn look_before_change(&self) {
        // Clean means that no memory is in use; mostly some is, and this is asked for every change.
        if self.layers.budget.used_bytes() == 0 {
            self.look_if_due(&self.follower.due_before_change, true);
        }
    }

    /// The same on a volume that nobody changes.
    pub(super) fn look_when_idle(&self) {
        self.look_if_due(&self.follower.due_when_idle, false);
    }

    fn look_if_due(&self, due: &AtomicU64, is_waited_for: bool) {
        let is_due = || self.follower.is_due(due, self.environment.clock.monotonic());
        if !is_due() {
            return;
        }
        if is_waited_for {
            self.layers.budget.call_wait_hook();
        }
        let Some(mut publisher) = self.publisher.try_lock_for(PATIENCE) else { return };
        // Another one may have looked meanwhile.
        if is_due() {
            let _ = self.look(&mut publisher);
        }
    }

    /// Publishes what has changed, after a look: what is published beside another's commit is said, and is the last.
    ///
    /// # Errors
    /// As `publish_all`; [`VolumeError::Forked`] when all is published, beside another device's newest commit.
    pub(super) fn publish_after_look(&self, publisher: &mut Publisher) -> Result<()> {
        let beside = self.look(publisher);
        if let Some(reason) = &beside {
            self.layers.warnings.add(reason.clone());
            self.hold(Some(reason.clone()));
        }
        let shut = self.follower.shut();
        if let (Some(reason), false) = (shut, self.is_clean()) {
            return Err(VolumeError::ReadOnly(reason));
        }
        self.publish_all(publisher)?;
        if let Some(reason) = beside {
            self.end_in_fork(reason);
        }
        self.follower.fork().map_or(Ok(()), |reason| Err(VolumeError::Forked(reason)))
    }

    /// Looks at the folder, and follows a commit where that can be done. Answers with the other device's commit that a
    /// publish would be beside, in words.
    pub(super) fn look(&self, publisher: &mut Publisher) -> Option<String> {
        if !self.follower.is_on.load(Ordering::Relaxed) {
            return None;
        }
        // Until this is done every first change waits for the publisher's lock.
        self.follower.due_before_change.store(0, Ordering::Relaxed);
        let clock = &self.environment.clock;
        let begin = clock.monotonic();
        let finding = self.find_out(publisher);
        let beside = self.act_on(publisher, finding);
        let now = clock.monotonic();
        self.follower.note_look(now, now.saturating_sub(begin));
        beside
    }

    /// Whether nothing is unpublished.
    fn is_clean(&self) -> bool {
        let state = self.layers.read();
        state.current.is_empty() && state.frozen.is_none()
    }

    fn act_on(&self, publisher: &mut Publisher, finding: Finding) -> Option<String> {
        match &finding {
            Finding::Unknown => {}
            Finding::Shut(reason) => self.follower.memory.lock().shut = Some(reason.clone()),
            _ => self.follower.memory.lock().shut = None,
        }
        match finding {
            Finding::Unknown => {}
            Finding::Nothing => self.hold(None),
            Finding::Newer(newest) => {
                let words = describe(&self.layers.context.tree, &newest.head);
                if !self.options.follows && self.is_clean() {
                    self.layers.warnings.add(format!(
                        "{words} is newer than what is mounted, and a mount with -o writeback does not follow it: unmount, and \
                         mount again. What is written before that becomes a second newest state"
                    ));
                    self.follower.memory.lock().is_quiet = true;
                    return None;
                }
                match self.is_clean().then(|| self.follow(publisher, *newest)) {
                    Some(Ok(true)) => {
                        self.follower.memory.lock().is_quiet = true;
                        self.hold(None);
                    }
                    Some(Err(error)) => {
                        log::warn!("{words} cannot be followed yet: {error}");
                        self.hold(Some(format!(
                            "{words} is newer than what is mounted, and cannot be read yet: {error}"
                        )));
                    }
                    Some(Ok(false)) | None => return Some(self.fork_in_words(publisher, &words)),
                }
            }
            Finding::Arriving(reason) => {
                if !self.is_clean() {
                    self.layers.warnings.add(format!("changes of this device are published though {reason}"));
                }
                self.hold(Some(reason));
            }
            // What only shows the vault is part of no division, and stays as it is.
            Finding::Beside(_) if self.layers.read().read_only.is_some() => {
                self.follower.memory.lock().is_quiet = true;
            }
            Finding::Beside(words) => {
                let reason = self.fork_in_words(publisher, &words);
                if !self.is_clean() {
                    return Some(reason);
                }
                self.layers.warnings.add(reason.clone());
                self.end_in_fork(reason);
            }
            Finding::Shut(reason) => self.hold(Some(reason)),
        }
        None
    }

    fn find_out(&self, publisher: &Publisher) -> Finding {
        let glance = match Glance::at(&*self.environment.store, self.layers.context.device) {
            Ok(glance) => glance,
            Err(error) => {
                log::debug!("the vault folder cannot be looked at: {error}");
                return Finding::Unknown;
            }
        };
        let is_known = {
            let memory = self.follower.memory.lock();
            memory.is_quiet && memory.glance == Some(glance)
        };
        if is_known {
            return Finding::Nothing;
        }
        let finding = self.judge(publisher).unwrap_or_else(|error| match error {
            OpenError::SlotRemoved { slot } => {
                Finding::Shut(format!("slot {slot}, which unlocked the vault, was removed on another device"))
            }
            OpenError::Newer(what) => Finding::Shut(format!("a newer version of passkeyfs has written here: {what}")),
            OpenError::NotArrived(what) => Finding::Arriving(format!("a newer commit is on its way: {what}")),
            other => {
                log::warn!("what other devices have published cannot be read: {other}");
                Finding::Unknown
            }
        });
        let mut memory = self.follower.memory.lock();
        (memory.glance, memory.is_quiet) = (Some(glance), matches!(finding, Finding::Nothing));
        finding
    }

    /// Judges the commits in the folder as a mount does.
    fn judge(&self, publisher: &Publisher) -> std::result::Result<Finding, OpenError> {
        let Some(unlocked) = self.follower.unlocked.get() else { return Ok(Finding::Nothing) };
        let (store, segments, tree) = (&*self.environment.store, &*self.segments, &self.layers.context.tree);
        segments.scan()?;
        let accepted = find_heads(segments, tree, known_keys(store, segments.ring().vault)?.as_ref())?;
        if let Some(unopened) = accepted.heads.unopened_for(Some(&publisher.device)).next() {
            return Ok(Finding::Shut(shut_in_words(unopened)));
        }
        // As at a mount: it may be what the true vault key wrote.
        if let Some(unproved) = accepted.unproved.first() {
            return Ok(Finding::Shut(unproved.to_string()));
        }
        accepted.refused.iter().for_each(|refused| self.layers.warnings.add(refused.to_string()));
        let uncovered = accepted.uncovered();
        let news: Vec<_> = uncovered.iter().filter(|head| !publisher.clock.pins(head.device, head.entry())).collect();
        let mut arriving = find_arriving(store, segments, &accepted, Some(&publisher.device))?;
        arriving.retain(|sign| {
            sign.device != self.layers.context.device && !unlocked.tolerated.contains(&(sign.device, sign.sequence))
        });
        match (news.as_slice(), uncovered.len()) {
            ([], _) => {
                let rollbacks = accepted.heads.rollbacks(&publisher.device);
                if !rollbacks.is_empty() {
                    self.layers
                        .warnings
                        .add(format!("the folder is older than what this device has seen: {}", list(&rollbacks)));
                }
                Ok(arriving.first().map_or(Finding::Nothing, |sign| Finding::Arriving(sign.to_string())))
            }
            // What is unpublished here makes it a second head, whatever speaks for it.
            ([_], 1) if self.is_clean() => {
                let options =
                    VolumeOptions { accept_rollback: false, read_only: false, head: None, ..self.options.clone() };
                let (slot, opened) = (unlocked.slot, unlocked.epochs.as_slice());
                let opener = Opener { device: &publisher.device, former: None, slot, opened, options: &options };
                let newest = Newest::find(store, segments, tree, &opener)?;
                Ok(match newest.doubts.read_only {
                    Some(reason) => Finding::Arriving(reason),
                    None => Finding::Newer(Box::new(newest)),
                })
            }
            (several, _) => {
                let words: Vec<_> = several.iter().map(|head| describe(tree, head)).collect();
                Ok(Finding::Beside(words.join(" and ")))
            }
        }
    }

    /// Why the vault has two newest states, and what to do.
    fn fork_in_words(&self, publisher: &Publisher, others: &str) -> String {
        let own = publisher.device.device;
        format!(
            "{others} does not have the newest changes of this device ({own}): the vault has two newest states, which are not \
             merged. Unmount, look at each with `passkeyfs mount -o head=DEVICE`, and go on with one of them with `-o \
             head=DEVICE,accept-rollback`"
        )
    }

    /// All of ours is published, and stands beside another's.
    fn end_in_fork(&self, reason: String) {
        self.follower.is_on.store(false, Ordering::Relaxed);
        self.follower.memory.lock().fork.get_or_insert_with(|| reason.clone());
        // What the kernel has gathered, and reports to no program any more, is not to be lost.
        if self.options.follows {
            self.layers.stop_changes(reason);
        }
    }

    /// Refuses changes for now, or no more.
    fn hold(&self, reason: Option<String>) {
        let reason = reason.filter(|_| self.options.follows);
        if self.layers.read().foreign.held == reason {
            return;
        }
        match &reason {
            Some(reason) => log::warn!("changes are refused for now: {reason}"),
            None => log::info!("changes are taken again"),
        }
        self.layers.write().foreign.held = reason;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_takes_long_to_look_at_is_looked_at_less_often() {
        let follower = Follower::default();
        follower.begin(Unlocked { slot: None, epochs: Vec::new(), tolerated: BTreeSet::new() });
        let seconds = Duration::from_secs;
        assert!(follower.is_due(&follower.due_before_change, Duration::ZERO), "what was there at the mount");
        follower.note_look(seconds(10), Duration::from_millis(1));
        let due = |at| {
            let is_due = |due| follower.is_due(due, at);
            (is_due(&follower.due_before_change), is_due(&follower.due_when_idle))
        };
        assert_eq!(due(seconds(11)), (false, false));
        assert_eq!(due(seconds(12)), (true, false));
        assert_eq!(due(seconds(15)), (true, true));
        follower.note_look(seconds(10), seconds(1));
        assert_eq!(due(seconds(29)), (false, false), "a second of every twenty at most");
        assert_eq!(due(seconds(30)), (true, true));
    }
}
