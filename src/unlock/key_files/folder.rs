//! The files for unlocking: where they lie in the vault folder and in the local state, and reading them.
//!
//! ```text
//! vault folder                         local state
//! vault.json                           vault-pin.json             the vault id and the hash of vault.json
//! keys/<slot>.json                     slots/<slot>.json          copies: losing one small file
//! keys/<slot>-<epoch>.key              slots/<slot>-<epoch>.key   must not lose the vault
//! ```
//! Everything in the vault folder may have been altered by whoever runs the cloud. So nothing read here is believed: each
//! file is a *candidate*, the folder's own before this device's copy, and the first that opens under the authenticator's
//! secret is the real one. What is odd on the way becomes a [`Notice`]. Files with other names are not ours and ignored.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use super::trusted_slots::TrustRecord;
use crate::format::json::SMALL_FILE_BYTES_MAX;
use crate::format::slot_file::{KeyFileName, slot_file_name};
use crate::format::{EpochId, EpochKeyFile, SlotFile, SlotId, SlotRecord};
use crate::store::{Area, FileEntry, FilePath, Store, StoreError};

/// The place of `vault.json`.
pub fn vault_file_path() -> FilePath {
    FilePath::vault("vault.json")
}

/// The folder of slot files and epoch keys.
pub fn keys_folder() -> FilePath {
    FilePath::vault("keys")
}

/// The folder of this device's copies of them.
pub fn copies_folder() -> FilePath {
    FilePath::state("slots")
}

/// The place of the remembered hash of `vault.json`.
pub fn pin_path() -> FilePath {
    FilePath::state("vault-pin.json")
}

/// Something that did not keep the vault from opening, and that its user should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A file cannot be used. Another, or a copy, was used in its place if it was needed.
    Unusable {
        /// The file.
        path: FilePath,
        /// What is wrong with it.
        problem: String,
    },
    /// A file is gone from the folder; this device's copy takes its place.
    OnlyCopyLeft {
        /// The file that is gone.
        path: FilePath,
    },
    /// A file in the folder is not what this device has a copy of.
    DiffersFromCopy {
        /// The file in the folder.
        path: FilePath,
    },
    /// `vault.json` is missing or damaged, and the copy in a slot file was used.
    VaultFileRecovered {
        /// What is wrong with `vault.json`.
        problem: String,
    },
    /// A file is not what the open vault says it is.
    NotTheVaults {
        /// The file.
        path: FilePath,
        /// What is wrong with it.
        problem: &'static str,
        /// Whether it was written again.
        mended: bool,
    },
    /// A file is not what the open vault says it is, and cannot be written again.
    NotMended {
        /// The file, or the folder.
        path: FilePath,
        /// What is wrong, and what the store said.
        problem: String,
    },
    /// A file is of a format that this version does not know: one that does may have written it, so it is let alone.
    Newer {
        /// The file.
        path: FilePath,
    },
    /// There are more files than a vault has; those of slots that this device knows were read first.
    Crowded {
        /// The folder.
        folder: FilePath,
        /// How many were left out.
        left_out: usize,
    },
    /// More files are odd in a way of which enough were named.
    More {
        /// How many.
        left_out: usize,
    },
    /// A slot's file is in the folder, and the vault knows no such slot.
    Stranger {
        /// The slot that the file's name says.
        slot: SlotId,
        /// One of its files.
        path: FilePath,
    },
    /// A file of a slot that was removed is in the folder again.
    BroughtBack {
        /// The slot.
        slot: SlotId,
        /// The file.
        path: FilePath,
    },
    /// A slot's record in the vault is not the one that this device has seen.
    Exchanged {
        /// The slot.
        slot: SlotId,
    },
    /// What this device remembers of the vault could not be written.
    NotRemembered {
        /// What the store said.
        problem: String,
    },
}

impl Notice {
    /// Whether something is not as it should be, and stays so for now.
    pub fn is_left_undone(&self) -> bool {
        matches!(self, Self::NotMended { .. } | Self::Newer { .. } | Self::NotRemembered { .. })
    }
}

/// The notices, with those beyond the first of each kind counted instead: files that somebody adds in great number are not to
/// fill the log.
pub(in crate::unlock) fn bounded(mut notices: Vec<Notice>) -> Vec<Notice> {
    let mut named = HashMap::new();
    let before = notices.len();
    notices.retain(|notice| {
        let of_kind: &mut usize = named.entry(std::mem::discriminant(notice)).or_default();
        *of_kind += 1;
        *of_kind <= NOTICES_OF_A_KIND_MAX
    });
    let left_out = before - notices.len();
    notices.extend((left_out > 0).then_some(Notice::More { left_out }));
    notices
}

impl fmt::Display for Notice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unusable { path, problem } => write!(formatter, "{path} cannot be used: {problem}"),
            Self::OnlyCopyLeft { path } => write!(formatter, "{path} is missing: this device's copy takes its place"),
            Self::DiffersFromCopy { path } => write!(formatter, "{path} is not the file this device has a copy of"),
            Self::VaultFileRecovered { problem } => {
                write!(formatter, "vault.json cannot be used ({problem}): the copy in a slot file was used")
            }
            Self::NotTheVaults { path, problem, mended } => {
                let done = if *mended { "it was written again as the vault has it" } else { "it opens nothing wrong" };
                write!(formatter, "{path} is not the vault's: {problem}; {done}")
            }
            Self::NotMended { path, problem } => write!(formatter, "{path} cannot be put right: {problem}"),
            Self::Newer { path } => {
                write!(
                    formatter,
                    "{path} says that only a newer passkeyfs can read it, and is left as it is: delete it if there is none"
                )
            }
            Self::Crowded { folder, left_out } => {
                write!(
                    formatter,
                    "{folder} is crowded: {left_out} of its files are not looked at; no vault has so many"
                )
            }
            Self::More { left_out } => write!(formatter, "{left_out} more files are odd in the same ways"),
            Self::Stranger { slot, path } => {
                write!(formatter, "{path}: slot {slot} is none of this vault; its file opens nothing")
            }
            Self::BroughtBack { slot, path } => {
                write!(
                    formatter,
                    "{path} was brought back: slot {slot} was removed from this vault, and opens nothing new"
                )
            }
            Self::Exchanged { slot } => {
                write!(
                    formatter,
                    "the vault's record of slot {slot} is not the one that this device has seen: one who had a vault key may have put \
                     his own key there. No vault key is sealed to it here, and the next rotation leaves it out"
                )
            }
            Self::NotRemembered { problem } => {
                write!(formatter, "this device could not note down what it knows of the vault: {problem}")
            }
        }
    }
}

/// A file that may be the one of its name.
pub struct Candidate {
    /// Where it was read.
    pub path: FilePath,
    /// Its bytes, or why there are none.
    pub raw: Result<Vec<u8>, String>,
}

/// A slot file that reads, whether or not it is real.
pub struct SlotCandidate {
    /// Where it was read.
    pub path: FilePath,
    /// Its bytes.
    pub raw: Vec<u8>,
    /// What they say.
    pub file: SlotFile,
}

/// The most slot files of a folder that are read.
pub const SLOT_FILES_MAX: usize = 4096;
/// The most files with keys of one slot that are read in a folder: one for each rotation is left there.
pub const KEY_FILES_MAX: usize = 16_384;
/// The most bytes of a folder's slot files that are read, and of one slot's key files.
const FOLDER_BYTES_MAX: u64 = SLOT_FILES_MAX as u64 * SLOT_FILE_BYTES_USUAL;
/// No slot file that passkeyfs writes is longer; longer ones are read last.
const SLOT_FILE_BYTES_USUAL: u64 = 4096;
/// The most notices of one kind that are given in full.
const NOTICES_OF_A_KIND_MAX: usize = 20;

/// All slot files, and the names of all key files, of the vault folder and of the local copies; the folder's come first in
/// each list.
#[derive(Default)]
pub struct KeyFolder {
    /// By slot.
    pub slots: BTreeMap<SlotId, Vec<Candidate>>,
    /// By slot and epoch. Not read yet: [`read_epoch_keys`](Self::read_epoch_keys) does.
    pub epoch_keys: BTreeMap<(SlotId, EpochId), Vec<KeyFilePlace>>,
    /// How many slot files were not read.
    pub left_out: usize,
    /// The slots that were valid when this device last opened the vault.
    valid: BTreeSet<SlotId>,
    /// What was odd about the folders themselves.
    notices: Vec<Notice>,
}

/// A key file that was not read yet.
pub struct KeyFilePlace {
    /// Where it is.
    pub path: FilePath,
    bytes: u64,
}

impl KeyFilePlace {
    fn has_the_size_of_one(&self) -> bool {
        self.bytes == EpochKeyFile::BYTES as u64
    }
}

/// The files of one slot's vault keys.
pub struct EpochKeyCandidates {
    /// By epoch, the likeliest first.
    pub epochs: Vec<(EpochId, Vec<Candidate>)>,
    /// How many files were not read.
    pub left_out: usize,
}

impl KeyFolder {
    /// Reads the slot files of these folders: those of slots that this device knows first, then those that have a vault
    /// key, and not more than a vault may have. One that cannot be read is a candidate that says so.
    ///
    /// **Errors**: the local copies cannot be listed, or nothing else can either.
    pub fn read(store: &dyn Store, folders: &[FilePath]) -> Result<Self, StoreError> {
        let valid = TrustRecord::load(store)?.map(|known| known.valid).unwrap_or_default();
        let mut read = Self { valid, ..Self::default() };
        let mut not_listed = None;
        for folder in folders {
            let entries = match store.list(folder) {
                Ok(entries) => entries,
                Err(error) if folder.area == Area::State || error.is_not_found() => return Err(error),
                // Somebody may have put something else there, or taken the right to look: the copies may do.
                Err(error) => {
                    read.notices.push(Notice::Unusable { path: folder.clone(), problem: error.to_string() });
                    not_listed = Some(error).filter(|error| !matches!(error, StoreError::OtherKind { .. }));
                    continue;
                }
            };
            let mut slot_files = Vec::new();
            for entry in entries.into_iter().filter(|entry| !entry.is_folder) {
                match KeyFileName::parse(&entry.name) {
                    Some(KeyFileName::Slot(slot)) => slot_files.push((slot, entry)),
                    Some(KeyFileName::EpochKey(slot, epoch)) => {
                        let place = KeyFilePlace { path: folder.join(&entry.name), bytes: entry.bytes };
                        read.epoch_keys.entry((slot, epoch)).or_default().push(place);
                    }
                    None => {}
                }
            }
            let is_long = |entry: &FileEntry| entry.bytes > SLOT_FILE_BYTES_USUAL;
            slot_files.sort_by_cached_key(|(slot, entry)| (read.rank(*slot), is_long(entry)));
            read.read_slot_files(store, folder, &slot_files)?;
        }
        match not_listed {
            Some(error) if read.slots.is_empty() => Err(error),
            _ => Ok(read),
        }
    }

    /// How late a slot comes when there are many: those that this device knows first, then those that have a vault key.
    fn rank(&self, slot: SlotId) -> (bool, bool) {
        let has_key = self.places_of(slot).any(|(_, places)| places.iter().any(KeyFilePlace::has_the_size_of_one));
        (!self.valid.contains(&slot), !has_key)
    }

    /// The key files of a slot, by epoch.
    pub fn places_of(&self, slot: SlotId) -> impl Iterator<Item = (EpochId, &[KeyFilePlace])> {
        let of_slot = (slot, EpochId([0; 16]))..=(slot, EpochId([0xff; 16]));
        self.epoch_keys.range(of_slot).map(|((_, epoch), places)| (*epoch, places.as_slice()))
    }

    fn read_slot_files(
        &mut self,
        store: &dyn Store,
        folder: &FilePath,
        files: &[(SlotId, FileEntry)],
    ) -> Result<(), StoreError> {
        let (mut bytes_left, mut left_out) = (FOLDER_BYTES_MAX, 0);
        for (number, (slot, entry)) in files.iter().enumerate() {
            // What is too long is not read at all.
            let bytes = if entry.bytes > SMALL_FILE_BYTES_MAX { 0 } else { entry.bytes };
            if number >= SLOT_FILES_MAX || bytes_left < bytes {
                left_out += 1;
                continue;
            }
            bytes_left -= bytes;
            let candidate = read_candidate(store, folder.join(&entry.name));
            self.slots.entry(*slot).or_default().extend(candidate);
        }
        if left_out > 0 {
            self.left_out += left_out;
            self.notices.push(Notice::Crowded { folder: folder.clone(), left_out });
        }
        Ok(())
    }

    /// Reads the key files of a slot, not more than there may be: those that this device has a copy of first, then those
    /// that have the size of one.
    pub fn read_epoch_keys(&self, store: &dyn Store, slot: SlotId) -> EpochKeyCandidates {
        let mut epochs: Vec<_> = self.places_of(slot).collect();
        let is_copied = |places: &[KeyFilePlace]| places.iter().any(|place| place.path.area == Area::State);
        let has_size = |places: &[KeyFilePlace]| places.iter().any(KeyFilePlace::has_the_size_of_one);
        epochs.sort_by_key(|(_, places)| (!is_copied(places), !has_size(places)));
        let mut read = EpochKeyCandidates { epochs: Vec::new(), left_out: 0 };
        let (mut files_left, mut bytes_left) = (KEY_FILES_MAX, FOLDER_BYTES_MAX);
        for (epoch, places) in epochs {
            let mut candidates = Vec::new();
            for place in places {
                let bytes = if place.bytes > SMALL_FILE_BYTES_MAX { 0 } else { place.bytes };
                if files_left == 0 || bytes_left < bytes {
                    read.left_out += 1;
                    continue;
                }
                (files_left, bytes_left) = (files_left - 1, bytes_left - bytes);
                candidates.extend(read_candidate(store, place.path.clone()));
            }
            read.epochs.push((epoch, candidates));
        }
        read
    }

    /// The slot files that read, the likeliest first. Gives a notice for each that does not, is gone, or differs from its
    /// copy.
    pub fn slot_candidates(&self, notices: &mut Vec<Notice>) -> Vec<SlotCandidate> {
        notices.extend(self.notices.iter().cloned());
        let mut slots = Vec::new();
        let mut by_rank: Vec<_> = self.slots.iter().collect();
        by_rank.sort_by_cached_key(|(slot, _)| self.rank(**slot));
        for (slot, candidates) in by_rank {
            notices.extend(compare_with_copy(candidates));
            for Candidate { path, raw } in candidates {
                let decoded = raw.clone().and_then(|raw| Ok((decode_slot_file(*slot, &raw)?, raw)));
                match decoded {
                    Ok((file, raw)) => slots.push(SlotCandidate { path: path.clone(), raw, file }),
                    Err(problem) => notices.push(Notice::Unusable { path: path.clone(), problem }),
                }
            }
        }
        slots
    }

    /// The bytes of every slot file that the vault folder holds.
    pub fn slot_files_of_the_vault(&self) -> Vec<(SlotId, Vec<u8>)> {
        let in_vault = |candidate: &&Candidate| candidate.path.area == Area::Vault;
        let raw_of = |candidates: &Vec<Candidate>| candidates.iter().find(in_vault)?.raw.clone().ok();
        self.slots.iter().filter_map(|(slot, candidates)| Some((*slot, raw_of(candidates)?))).collect()
    }
}

/// A file as it is now; `None` if it is gone.
fn read_candidate(store: &dyn Store, path: FilePath) -> Option<Candidate> {
    let raw = match store.read_whole(&path, SMALL_FILE_BYTES_MAX) {
        Err(error) if error.is_not_found() => return None,
        Ok(raw) if raw.is_empty() => Err("it is empty".to_owned()),
        other => other.map_err(|error| error.to_string()),
    };
    Some(Candidate { path, raw })
}

/// Reads a slot file found under the name of `slot`; the error is in words.
pub fn decode_slot_file(slot: SlotId, raw: &[u8]) -> Result<SlotFile, String> {
    let file = SlotFile::decode(raw).map_err(|error| error.to_string())?;
    if file.public().slot != slot {
        return Err(format!("it is the file of slot {}", file.public().slot));
    }
    Ok(file)
}

/// What there is to say when a file and this device's copy of it are not both there and equal.
pub fn compare_with_copy(candidates: &[Candidate]) -> Option<Notice> {
    match candidates {
        [file, copy] if file.raw.is_ok() && copy.raw.is_ok() && file.raw != copy.raw => {
            Some(Notice::DiffersFromCopy { path: file.path.clone() })
        }
        [copy] if copy.path.area == Area::State => {
            Some(Notice::OnlyCopyLeft { path: keys_folder().join(copy.path.file_name()) })
        }
        _ => None,
    }
}

/// Writes this device's copy of a slot's file, as the tree has it. Durable on return.
pub fn write_slot_copy(store: &dyn Store, record: &SlotRecord) -> Result<(), StoreError> {
    write_copy_if_different(store, &slot_file_name(record.slot), &record.slot_file)
}

/// Writes this device's copy of a file of `keys/`, unless it is there already. Durable on return.
pub(in crate::unlock) fn write_copy_if_different(store: &dyn Store, name: &str, raw: &[u8]) -> Result<(), StoreError> {
    let path = copies_folder().join(name);
    match store.read_whole(&path, SMALL_FILE_BYTES_MAX) {
        Ok(kept) if kept == raw => Ok(()),
        _ => store.put_whole(&path, raw),
    }
}
