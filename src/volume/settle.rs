//! The last steps of opening a volume, after the replay: what an earlier process left half done is brought to an end.

use std::time::Duration;

use super::open_error::OpenError;
use super::{Result, Volume};
use crate::format::{DeviceId, InodeNumber, Key, KeyKind};
use crate::history::{Arriving, DeviceState, Heads};
use crate::store::{Area, FilePath, StoreError};

/// A temporary file that changed more recently may belong to someone who is at work.
const LEFTOVER_AGE_MIN: Duration = Duration::from_secs(3600);

impl Volume {
    /// Makes sure that a commit of this device which it had not recorded stays in the folder, with its data: its journal
    /// is void from here on.
    pub(super) fn keep_own_commit(
        &self,
        heads: &Heads,
        recorded: Option<&DeviceState>,
    ) -> std::result::Result<(), OpenError> {
        let Some(own) = heads.newest.get(&self.layers.context.device) else { return Ok(()) };
        let is_recorded = recorded.and_then(|recorded| recorded.published) == Some(own.entry());
        if is_recorded || self.layers.read().read_only.is_some() {
            return Ok(());
        }
        let data = own.page.data_files.iter().map(|file| file.segment);
        for segment in data.chain([own.segment]) {
            self.segments.keep(segment)?;
        }
        Ok(())
    }

    /// After a replay: what an earlier process left is noted, and this device's record, of which `recorded`
    /// is there already, is up to date.
    pub(super) fn settle_in(
        &self,
        heads: &Heads,
        arriving: &[Arriving],
        recorded: Option<&DeviceState>,
    ) -> std::result::Result<(), OpenError> {
        if self.layers.read().read_only.is_some() {
            return Ok(());
        }
        self.find_orphans()?;
        self.sweep_temporary_files();
        let mut publisher = self.publisher.lock();
        // The last is what is written on: a rotation may have been made on one of the others since they were found.
        let clock = publisher.clock.clone();
        for clock in heads.newest.values().map(|head| &head.clock).chain([&clock]) {
            for (device, entry) in &clock.0 {
                let seen = publisher.device.seen.0.entry(*device).or_insert(*entry);
                if entry.number > seen.number || self.options.accept_rollback {
                    *seen = *entry;
                }
            }
        }
        if self.options.accept_rollback {
            let written_on = publisher.head.as_ref().map(|head| head.device);
            let is_here = |device: &DeviceId| heads.newest.contains_key(device) || Some(*device) == written_on;
            publisher.device.seen.0.retain(|device, _| is_here(device));
            let given_up = arriving.iter().map(|arriving| (arriving.device, arriving.sequence));
            publisher.device.given_up.extend(given_up);
        }
        if recorded == Some(&publisher.device) {
            return Ok(());
        }
        match publisher.device.save(&*self.environment.store) {
            // A full disk must not keep anyone from reading, or from making room. The next commit records the same.
            Err(error @ StoreError::Full { .. })
                if recorded.is_some_and(|recorded| {
                    (recorded.device, &recorded.adopted) == (publisher.device.device, &publisher.device.adopted)
                }) =>
            {
                log::warn!("what was seen of the folder could not be recorded: {error}");
                Ok(())
            }
            saved => Ok(saved?),
        }
    }

    /// Removes what interrupted puts and copies left: in staging, and in the newest folder of this device. Best effort:
    /// they are in nobody's way.
    fn sweep_temporary_files(&self) {
        let store = &self.environment.store;
        let newest = self.segments.own_folder();
        for folder in [FilePath::state("staging"), newest] {
            for entry in store.list(&folder).unwrap_or_default() {
                let is_ours =
                    entry.name.ends_with(".tmp") && (folder.area == Area::State || entry.name.starts_with(".~"));
                if entry.is_folder || !is_ours {
                    continue;
                }
                let path = folder.join(&entry.name);
                let changed = store.open(&path).and_then(|file| file.changed());
                let age = changed.ok().and_then(|changed| self.environment.clock.now().duration_since(changed).ok());
                if age.is_some_and(|age| age >= LEFTOVER_AGE_MIN) && store.remove(&path).is_ok() {
                    log::info!("{path}: removed what an interrupted write left");
                }
            }
        }
    }

    /// Notes the inodes without a name that earlier processes left. The next publish of a change removes them: to mount a
    /// vault is no reason to write to it, or two devices that only look would make two heads.
    fn find_orphans(&self) -> Result<()> {
        let mut orphans = Vec::new();
        let key = |suffix| Key::new(InodeNumber::VAULT, KeyKind::Orphan, suffix);
        self.layers.view().view().scan(key(0), key(u64::MAX), &mut |key, _| {
            orphans.push(InodeNumber(key.suffix));
            Ok(true)
        })?;
        let has_replayed = {
            let mut state = self.layers.write();
            state.note_orphans(orphans);
            !state.current.is_empty()
        };
        // What was replayed is published in any case.
        if has_replayed { self.remove_orphans() } else { Ok(()) }
    }
}
