//! What the vault folder holds for unlocking, and what this device keeps beside it.
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

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::UnlockError;
use super::known_keys::KnownKeys;
use crate::crypto;
use crate::format::json::{self, SMALL_FILE_BYTES_MAX};
use crate::format::segment::{HEADER_BYTES, SegmentHeader};
use crate::format::slot_file::{KeyFileName, slot_file_name};
use crate::format::{EpochId, SlotFile, SlotId, SlotRecord, VaultFile, VaultId};
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
            Self::Stranger { slot, path } => {
                write!(formatter, "{path}: slot {slot} is none of this vault; its file opens nothing")
            }
            Self::BroughtBack { slot, path } => {
                write!(
                    formatter,
                    "{path} was brought back: slot {slot} was removed from this vault, and opens nothing new"
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

/// The most slot files of a folder that are read. Each is asked for, so many would hold up an unlock.
const SLOT_FILES_MAX: usize = 256;
/// The most files of vault keys of a folder that are read: one for each slot and rotation is left there.
const KEY_FILES_MAX: usize = 4096;
/// The most bytes of a folder's files that are read, all in all.
const FOLDER_BYTES_MAX: u64 = 8 << 20;

/// All slot and key files, of the vault folder and of the local copies; the folder's come first in each list.
#[derive(Default)]
pub struct KeyFolder {
    /// By slot.
    pub slots: BTreeMap<SlotId, Vec<Candidate>>,
    /// By slot and epoch.
    pub epoch_keys: BTreeMap<(SlotId, EpochId), Vec<Candidate>>,
    /// What was odd about the folders themselves.
    notices: Vec<Notice>,
}

impl KeyFolder {
    /// Reads the files of these folders, those of slots that this device knows first, and not more than a vault may have.
    /// One that cannot be read is a candidate that says so.
    pub fn read(store: &dyn Store, folders: &[FilePath]) -> Result<Self, StoreError> {
        let valid = KnownKeys::load(store)?.map(|known| known.valid).unwrap_or_default();
        let mut read = Self::default();
        for folder in folders {
            let entries = match store.list(folder) {
                Err(error @ StoreError::OtherKind { .. }) => {
                    read.notices.push(Notice::Unusable { path: folder.clone(), problem: error.to_string() });
                    continue;
                }
                listed => listed?,
            };
            let files = entries.into_iter().filter(|entry| !entry.is_folder);
            let mut files: Vec<_> = files.filter_map(|entry| Some((KeyFileName::parse(&entry.name)?, entry))).collect();
            files.sort_by_key(|(name, _)| !valid.contains(&name.slot()));
            read.read_files(store, folder, &files)?;
        }
        Ok(read)
    }

    fn read_files(
        &mut self,
        store: &dyn Store,
        folder: &FilePath,
        files: &[(KeyFileName, FileEntry)],
    ) -> Result<(), StoreError> {
        let (mut slots_left, mut keys_left, mut bytes_left) = (SLOT_FILES_MAX, KEY_FILES_MAX, FOLDER_BYTES_MAX);
        let mut left_out = 0;
        for (name, entry) in files {
            let count = if matches!(name, KeyFileName::Slot(_)) { &mut slots_left } else { &mut keys_left };
            // What is too long is not read at all.
            let bytes = if entry.bytes > SMALL_FILE_BYTES_MAX { 0 } else { entry.bytes };
            if *count == 0 || bytes_left < bytes {
                left_out += 1;
                continue;
            }
            *count -= 1;
            bytes_left -= bytes;
            let path = folder.join(&entry.name);
            let raw = match store.read_whole(&path, SMALL_FILE_BYTES_MAX) {
                Err(StoreError::NotFound { .. }) => continue,
                Ok(raw) if raw.is_empty() => Err("it is empty".to_owned()),
                other => other.map_err(|error| error.to_string()),
            };
            let candidate = Candidate { path, raw };
            match *name {
                KeyFileName::Slot(slot) => self.slots.entry(slot).or_default().push(candidate),
                KeyFileName::EpochKey(slot, epoch) => self.epoch_keys.entry((slot, epoch)).or_default().push(candidate),
            }
        }
        if left_out > 0 {
            self.notices.push(Notice::Crowded { folder: folder.clone(), left_out });
        }
        Ok(())
    }

    /// The slot files that read. Gives a notice for each that does not, is gone, or differs from its copy.
    pub fn slot_candidates(&self, notices: &mut Vec<Notice>) -> Vec<SlotCandidate> {
        notices.extend(self.notices.iter().cloned());
        let mut slots = Vec::new();
        for (slot, candidates) in &self.slots {
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

/// Refuses a folder that holds a vault, or what is left of one.
pub(super) fn refuse_a_vault(store: &dyn Store) -> Result<(), UnlockError> {
    let found = match store.open(&vault_file_path()) {
        Ok(_) => Some(vault_file_path()),
        Err(StoreError::NotFound { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let slot_file = || -> Result<Option<FilePath>, StoreError> {
        let is_slot = |name: &str| matches!(KeyFileName::parse(name), Some(KeyFileName::Slot(_)));
        let entries = store.list(&keys_folder())?;
        Ok(entries.iter().find(|entry| is_slot(&entry.name)).map(|entry| keys_folder().join(&entry.name)))
    };
    let devices = FilePath::vault("devices");
    let found = match found {
        Some(path) => Some(path),
        None => slot_file()?.or((!store.list(&devices)?.is_empty()).then_some(devices)),
    };
    match found {
        Some(found) => Err(UnlockError::AlreadyAVault { found }),
        None => Ok(()),
    }
}

/// Reads `vault.json`, or a slot file's copy of it, from the vault folder alone: the vault's id tells where the local
/// state lies. What it says is not checked against anything yet.
pub fn read_vault_file(store: &dyn Store) -> Result<VaultFile, UnlockError> {
    // What is odd is told by the unlock that follows.
    let mut notices = Vec::new();
    let slots = KeyFolder::read(store, &[keys_folder()])?.slot_candidates(&mut notices);
    let first = vault_file_candidates(store, &slots, None, &mut notices)?.into_iter().next();
    Ok(first.expect("at least one candidate, or an error"))
}

/// The files that may be the vault's `vault.json`, the likeliest first; at least one. Which of them it is the slot shows,
/// for it opens with no other. Gives a notice if the file itself cannot be it.
///
/// Outline: 1) the file itself, if it reads and is the pinned one, 2) the copies in slot files that are the pinned one, or
/// without a pin all of them, those that most slot files hold first. A `vault.json` that says it is newer is believed.
pub(super) fn vault_file_candidates(
    store: &dyn Store,
    slots: &[SlotCandidate],
    pin: Option<&[u8; 32]>,
    notices: &mut Vec<Notice>,
) -> Result<Vec<VaultFile>, UnlockError> {
    let itself = match store.read_whole(&vault_file_path(), SMALL_FILE_BYTES_MAX) {
        Ok(raw) => match VaultFile::decode(&raw) {
            Ok(file) if pin.is_none_or(|pin| *pin == crypto::hash(&raw)) => Ok(file),
            Ok(_) => Err(UnlockError::VaultFileChanged { remembered_by: "this device".to_owned() }),
            // Not mended from a copy: a newer passkeyfs may have written it, and the rest is still on its way.
            Err(source) if source.is_newer() => {
                return Err(UnlockError::NewerFormat { path: vault_file_path(), source });
            }
            Err(source) => Err(UnlockError::VaultFileDamaged { problem: source.to_string() }),
        },
        Err(StoreError::NotFound { .. }) if slots.is_empty() => return Err(UnlockError::NotAVault),
        Err(StoreError::NotFound { .. }) => Err(UnlockError::VaultFileDamaged { problem: "it is missing".to_owned() }),
        Err(error @ (StoreError::TooLong { .. } | StoreError::Short { .. } | StoreError::OtherKind { .. })) => {
            Err(UnlockError::VaultFileDamaged { problem: error.to_string() })
        }
        Err(error) => return Err(error.into()),
    };
    let mut copies: BTreeMap<&[u8], BTreeSet<SlotId>> = BTreeMap::new();
    for slot in slots {
        copies.entry(slot.file.vault_file_raw()).or_default().insert(slot.file.public().slot);
    }
    let mut copies: Vec<_> = copies.into_iter().collect();
    copies.sort_by_key(|(_, slots)| std::cmp::Reverse(slots.len()));
    let fitting = copies.into_iter().filter(|(raw, _)| pin.is_none_or(|pin| *pin == crypto::hash(raw)));
    let mut candidates: Vec<VaultFile> = fitting.filter_map(|(raw, _)| VaultFile::decode(raw).ok()).collect();
    match itself {
        Ok(file) => {
            candidates.retain(|copy| copy.raw() != file.raw());
            candidates.insert(0, file);
        }
        Err(error) if candidates.is_empty() => return Err(error),
        Err(error) => notices.push(Notice::VaultFileRecovered { problem: error.to_string() }),
    }
    Ok(candidates)
}

/// The `vault.json` that this device remembers, by the copies in its slot files; `None` if there is none.
pub fn read_remembered_vault_file(store: &dyn Store) -> Result<Option<VaultFile>, UnlockError> {
    let mut notices = Vec::new();
    let Some(pin) = read_pin(store, &mut notices)? else { return Ok(None) };
    let slots = KeyFolder::read(store, &[copies_folder()])?.slot_candidates(&mut notices);
    let mut fitting = slots.iter().map(|slot| slot.file.vault_file_raw()).filter(|raw| pin == crypto::hash(raw));
    Ok(fitting.find_map(|raw| VaultFile::decode(raw).ok()))
}

/// The vaults whose segments lie in the folder, by the headers of some of them. Nobody vouches for these.
pub fn vaults_of_segments(store: &dyn Store) -> Result<BTreeSet<VaultId>, StoreError> {
    let mut vaults = BTreeSet::new();
    let folders = |folder: &FilePath| -> Result<Vec<FilePath>, StoreError> {
        let listed = match store.list(folder) {
            Err(StoreError::OtherKind { .. }) => Vec::new(),
            listed => listed?,
        };
        Ok(listed.iter().filter(|entry| entry.is_folder).map(|entry| folder.join(&entry.name)).collect())
    };
    for device in folders(&FilePath::vault("devices"))?.into_iter().take(DEVICES_LOOKED_AT_MAX) {
        let Some(first) = folders(&device)?.into_iter().next() else { continue };
        for entry in store.list(&first)?.iter().filter(|entry| !entry.is_folder).take(HEADERS_LOOKED_AT_MAX) {
            let mut header = [0; HEADER_BYTES];
            let read = store.open(&first.join(&entry.name)).and_then(|file| file.read_at(0, &mut header));
            vaults.extend(read.ok().and_then(|()| SegmentHeader::decode(&header).ok()).map(|header| header.vault));
        }
    }
    Ok(vaults)
}

/// Of so many devices the first segments are looked at, to tell which vault a folder is without its `vault.json`.
const DEVICES_LOOKED_AT_MAX: usize = 16;
const HEADERS_LOOKED_AT_MAX: usize = 4;

const PIN_STRUCTURE: &str = "vault-pin.json";
const PIN_FORMAT: u32 = 1;

/// What this device remembers of `vault.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VaultPin {
    format: u32,
    #[serde(with = "json::text")]
    vault: VaultId,
    #[serde(with = "json::base64_array")]
    hash: [u8; 32],
}

/// Remembers the hash of `vault.json`. Durable on return.
pub(super) fn pin_vault_file(store: &dyn Store, file: &VaultFile) -> Result<(), StoreError> {
    let pin = VaultPin { format: PIN_FORMAT, vault: file.vault(), hash: crypto::hash(file.raw()) };
    store.put_whole(&pin_path(), &json::encode(&pin))
}

/// The remembered hash of `vault.json`. A pin that does not read counts as none, and says so: it is this device's own
/// file, so it was damaged, not forged.
pub(super) fn read_pin(store: &dyn Store, notices: &mut Vec<Notice>) -> Result<Option<[u8; 32]>, UnlockError> {
    let raw = match store.read_whole(&pin_path(), SMALL_FILE_BYTES_MAX) {
        Ok(raw) => raw,
        Err(StoreError::NotFound { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    match json::decode::<VaultPin>(PIN_STRUCTURE, PIN_FORMAT, &[], &raw) {
        Ok(pin) => Ok(Some(pin.hash)),
        Err(source) if source.is_newer() => Err(UnlockError::NewerFormat { path: pin_path(), source }),
        Err(error) => {
            notices.push(Notice::Unusable { path: pin_path(), problem: error.to_string() });
            Ok(None)
        }
    }
}

/// Keeps this device's copy of a slot's file, as the tree has it. Durable on return.
pub fn keep_slot_copy(store: &dyn Store, record: &SlotRecord) -> Result<(), StoreError> {
    keep_copy(store, &slot_file_name(record.slot), &record.slot_file)
}

/// Keeps a copy of a file of `keys/`, unless it is there already. Durable on return.
pub(super) fn keep_copy(store: &dyn Store, name: &str, raw: &[u8]) -> Result<(), StoreError> {
    let path = copies_folder().join(name);
    match store.read_whole(&path, SMALL_FILE_BYTES_MAX) {
        Ok(kept) if kept == raw => Ok(()),
        _ => store.put_whole(&path, raw),
    }
}
