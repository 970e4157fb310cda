//! The local journal: one file a generation of changes (more when one failed or grew too large), frames appended.
//!
//! Lies in the local state as `journal/<generation, 16 hex>-<part, 8 hex>`; never in the vault folder. The layout is in
//! `format/journal.rs`. A part above 0 begins with a reset record and says all again, so the highest part that begins
//! with a whole frame is the one that counts, and the lower ones only until it has one.
//!
//! Frames are appended as changes are made, and synced when a program asks for it: written frames outlive the process, synced
//! ones a power cut. A torn frame ends the journal: neither it nor any frame behind it was synced, for a sync covers the file.
//!
//! A frame that was not synced may survive a power cut while the segment data that it points to does not. So a record of
//! kind *durable* says up to which frame all data has been synced; frames behind it are believed only as far as their data
//! is there ([`durable_frames`], and `volume/replay.rs`).

use std::sync::Arc;

use crate::crypto::{Randomness, Tag};
use crate::format::journal::{FRAME_BYTES_MAX, FRAME_HEADER_BYTES, FrameHeader, JournalRecord};
use crate::format::segment::{HEADER_BYTES, SegmentHeader, SegmentKind};
use crate::format::{CommitNumber, DeviceId, EpochId, FormatError, SegmentId, Sequence};
use crate::segments::writer::WriteOnceCipher;
use crate::segments::{EpochKeys, KeyRing};
use crate::store::{FilePath, FileReader, FileSyncer, FileWriter, Store, StoreError};

use super::HistoryError;

const FOLDER: &str = "journal";

/// A journal file being appended to by the process that created it.
pub struct Journal {
    path: FilePath,
    header: SegmentHeader,
    keys: Arc<EpochKeys>,
    cipher: WriteOnceCipher,
    file: Box<dyn FileWriter>,
    frames: u64,
    /// An append has failed: what it sealed may be in the file.
    has_failed: bool,
}

/// A journal file found in the state.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct JournalFile {
    /// The commit that its generation was to become.
    pub generation: CommitNumber,
    /// Which file of that generation.
    pub part: u32,
    /// Where it lies.
    pub path: FilePath,
}

fn frame_tag_parts<'a>(
    header: &'a [u8],
    offset_bytes: &'a [u8; 8],
    frame: &'a [u8],
    ciphertext: &'a [u8],
) -> [&'a [u8]; 5] {
    [b"journal frame", header, offset_bytes, frame, ciphertext]
}

impl Journal {
    /// Creates the journal of `generation`. Nothing is durable before the first sync.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(
        store: &dyn Store,
        ring: &KeyRing,
        randomness: &dyn Randomness,
        device: DeviceId,
        generation: CommitNumber,
        part: u32,
    ) -> Result<Self, StoreError> {
        let keys = ring.current();
        let header = SegmentHeader {
            kind: SegmentKind::Journal,
            vault: ring.vault,
            epoch: keys.epoch,
            device,
            sequence: Sequence(generation.0 & Sequence::MAX.0),
            segment: SegmentId(randomness.u64()),
            salt: randomness.array(),
        };
        let path = FilePath::state(format!("{FOLDER}/{generation}-{part:08x}"));
        let mut file = store.create(&path)?;
        // A file without a header is of no use, and a full disk is tried again and again.
        file.append(&header.encode()).inspect_err(|_| drop(store.remove(&path)))?;
        let cipher = WriteOnceCipher::new(keys.cipher(&header));
        Ok(Self { path, header, keys, cipher, file, frames: 0, has_failed: false })
    }

    /// Where it lies.
    pub fn path(&self) -> &FilePath {
        &self.path
    }

    /// The epoch under which it is sealed.
    pub fn epoch(&self) -> EpochId {
        self.header.epoch
    }

    /// Its size.
    pub fn bytes(&self) -> u64 {
        self.file.len()
    }

    /// How many frames were appended.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// What makes all frames durable that have been appended when it is called. Others may be appended meanwhile.
    pub fn syncer(&self) -> Arc<dyn FileSyncer> {
        self.file.syncer()
    }

    /// Seals `records` into one frame and appends it: it outlives the process, and a power cut after a sync.
    ///
    /// # Errors
    /// The file is then closed for ever: all that this generation's journal must hold goes to another part.
    ///
    /// # Panics
    /// When the records exceed [`FRAME_BYTES_MAX`]: the caller splits them.
    pub fn append(&mut self, records: &[u8]) -> Result<(), StoreError> {
        assert!(records.len() <= FRAME_BYTES_MAX, "a frame of {} bytes", records.len());
        if std::mem::replace(&mut self.has_failed, true) {
            return Err(StoreError::Poisoned { path: (&self.path).into() });
        }
        let frame = FrameHeader { length_bytes: records.len() as u32, number: self.frames };
        let offset_bytes = self.file.len();
        let mut bytes = Vec::with_capacity(FRAME_HEADER_BYTES + frame.ciphertext_bytes());
        bytes.extend_from_slice(&frame.encode());
        bytes.extend_from_slice(&[0; 16]);
        bytes.extend_from_slice(records);
        bytes.resize(FRAME_HEADER_BYTES + frame.ciphertext_bytes(), 0);
        let (head, ciphertext) = bytes.split_at_mut(FRAME_HEADER_BYTES);
        self.cipher.seal(offset_bytes + FRAME_HEADER_BYTES as u64, ciphertext);
        let header = self.header.encode();
        let tag = {
            let offset_bytes = offset_bytes.to_le_bytes();
            self.keys.pages.tag(&frame_tag_parts(&header, &offset_bytes, &head[..16], ciphertext))
        };
        head[16..].copy_from_slice(tag.as_bytes());
        self.file.append(&bytes)?;
        self.frames += 1;
        self.has_failed = false;
        Ok(())
    }
}

/// All journal files, in the order in which they count.
///
/// # Errors
/// When the state cannot be listed.
pub fn list(store: &dyn Store) -> Result<Vec<JournalFile>, StoreError> {
    let mut files = Vec::new();
    for entry in store.list(&FilePath::state(FOLDER))?.into_iter().filter(|entry| !entry.is_folder) {
        let Some((generation, part)) = entry.name.split_once('-') else { continue };
        let (Ok(generation), Ok(part)) = (generation.parse(), u32::from_str_radix(part, 16)) else { continue };
        files.push(JournalFile { generation, part, path: FilePath::state(format!("{FOLDER}/{}", entry.name)) });
    }
    files.sort();
    Ok(files)
}

/// The generation whose journal must be there to its end for these frames to count. None where its journal was durable, or its
/// commit published, before any of these frames was acknowledged.
///
/// # Errors
/// When the first frame holds no records.
pub fn follows(frames: &[Vec<u8>]) -> Result<Option<CommitNumber>, FormatError> {
    match frames.first().filter(|_| durable_frames(frames) == 0) {
        Some(first) => Ok(JournalRecord::beginning(first)?.follows),
        None => Ok(None),
    }
}

/// Whether these frames hold all operations of their generation.
pub fn has_end(frames: &[Vec<u8>]) -> bool {
    let mut records = frames.iter().rev().flat_map(|frame| JournalRecord::decode_all(frame));
    records.any(|record| record == Ok(JournalRecord::End))
}

/// How many of a file's frames, from the first, stand on nothing but what was durable when one of them was written.
pub fn durable_frames(frames: &[Vec<u8>]) -> u64 {
    let records = frames.iter().flat_map(|frame| JournalRecord::decode_all(frame));
    let durable = records.filter_map(|record| match record {
        Ok(JournalRecord::Durable { frames }) => Some(frames),
        _ => None,
    });
    durable.max().unwrap_or(0)
}

/// A file's header, and the records of each of its whole frames.
pub type FoundJournal = (SegmentHeader, Vec<Vec<u8>>);

/// Reads the whole frames of a journal file: its header (whose it is, and in which epoch), and each frame's records.
///
/// A file that ends within its header has no frame and gives `None`.
///
/// # Errors
/// [`HistoryError::State`] when the header is another vault's or names an epoch that was not opened: the journal holds
/// acknowledged changes, so it is never passed over.
pub fn read(store: &dyn Store, ring: &KeyRing, path: &FilePath) -> Result<Option<FoundJournal>, HistoryError> {
    let invalid = |detail: String| HistoryError::State { path: path.clone(), detail };
    let file = store.open(path)?;
    let length = file.len()?;
    if length < (HEADER_BYTES + FRAME_HEADER_BYTES + 16) as u64 {
        return Ok(None);
    }
    let mut bytes = vec![0; HEADER_BYTES];
    file.read_at(0, &mut bytes)?;
    if bytes.iter().all(|byte| *byte == 0) {
        // A power cut can leave a file's length without its content; nothing in it was ever acknowledged.
        return Ok(None);
    }
    let header = SegmentHeader::decode(&bytes).map_err(|error| match error {
        error if error.is_newer() => HistoryError::NewerState { path: path.clone(), detail: error.to_string() },
        error => invalid(error.to_string()),
    })?;
    if header.vault != ring.vault || header.kind != SegmentKind::Journal {
        return Err(invalid("it belongs to another vault".into()));
    }
    let keys = ring
        .epoch(header.epoch)
        .ok_or_else(|| invalid(format!("it was written under epoch {}, whose key is not open", header.epoch)))?;
    let cipher = keys.cipher(&header);
    let (mut frames, mut offset_bytes) = (Vec::new(), HEADER_BYTES as u64);
    while let Some((frame, mut ciphertext)) = read_frame(&*file, length, offset_bytes)? {
        let parts = (offset_bytes.to_le_bytes(), frame.header.encode());
        let parts = frame_tag_parts(&bytes, &parts.0, &parts.1, &ciphertext);
        if frame.header.number != frames.len() as u64 || !keys.pages.verify(&parts, &frame.tag) {
            break;
        }
        cipher.decrypt_units((offset_bytes + FRAME_HEADER_BYTES as u64) / 16, &mut ciphertext);
        offset_bytes += (FRAME_HEADER_BYTES + ciphertext.len()) as u64;
        ciphertext.truncate(frame.header.length_bytes as usize);
        frames.push(ciphertext);
    }
    if offset_bytes < length {
        log::info!("{path}: a frame that was never synced is left out ({} bytes)", length - offset_bytes);
    }
    Ok(Some((header, frames)))
}

struct FoundFrame {
    header: FrameHeader,
    tag: Tag,
}

fn read_frame(
    file: &dyn FileReader,
    length: u64,
    offset_bytes: u64,
) -> Result<Option<(FoundFrame, Vec<u8>)>, StoreError> {
    if length - offset_bytes < FRAME_HEADER_BYTES as u64 {
        return Ok(None);
    }
    let mut head = [0; FRAME_HEADER_BYTES];
    file.read_at(offset_bytes, &mut head)?;
    let Ok(header) = FrameHeader::decode(&head[..16]) else { return Ok(None) };
    let tag = Tag::from_bytes(head[16..].try_into().expect("16 bytes"));
    let ciphertext_bytes = header.ciphertext_bytes();
    if length - offset_bytes - (FRAME_HEADER_BYTES as u64) < ciphertext_bytes as u64 {
        return Ok(None);
    }
    let mut ciphertext = vec![0; ciphertext_bytes];
    file.read_at(offset_bytes + FRAME_HEADER_BYTES as u64, &mut ciphertext)?;
    Ok(Some((FoundFrame { header, tag }, ciphertext)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{EpochKey, SeededRandomness, UNIT_BYTES_MAX};
    use crate::format::VaultId;
    use crate::store::{Area, FaultyStore, MemoryStore};

    #[test]
    fn after_a_failed_append_nothing_is_sealed_at_its_place() {
        let (store, randomness) = (FaultyStore::new(Arc::new(MemoryStore::new())), SeededRandomness::new(1));
        let ring = KeyRing::new(VaultId([1; 16]), vec![EpochKey::generate(&randomness)]);
        let mut journal =
            Journal::create(&store, &ring, &randomness, DeviceId(3), CommitNumber(4), 0).expect("a journal");
        store.set_full(Area::State, true);
        assert!(matches!(journal.append(b"lost").expect_err("full"), StoreError::Full { .. }));
        store.set_full(Area::State, false);
        assert!(matches!(journal.append(b"other").expect_err("closed for ever"), StoreError::Poisoned { .. }));
    }

    #[test]
    fn a_frame_that_is_longer_than_a_unit_is_sealed_as_several() {
        let (store, randomness) = (MemoryStore::new(), SeededRandomness::new(1));
        let ring = KeyRing::new(VaultId([1; 16]), vec![EpochKey::generate(&randomness)]);
        let mut journal =
            Journal::create(&store, &ring, &randomness, DeviceId(3), CommitNumber(4), 0).expect("a journal");
        let long: Vec<u8> = (0..UNIT_BYTES_MAX + 100).map(|at| (at / 1000) as u8).collect();
        journal.append(b"short").expect("room");
        journal.append(&long).expect("room");
        let (header, frames) = read(&store, &ring, journal.path()).expect("readable").expect("a journal");
        assert_eq!((frames.len(), &frames[0][..]), (2, &b"short"[..]));
        assert!(frames[1] == long);
        // The second unit by itself, under the number of its own place.
        let bytes = store.snapshot().remove(journal.path()).expect("the file");
        let at = HEADER_BYTES + FRAME_HEADER_BYTES + 16 + FRAME_HEADER_BYTES + UNIT_BYTES_MAX;
        let mut unit = bytes[at..].to_vec();
        ring.current().cipher(&header).decrypt(at as u64 / 16, &mut unit);
        assert_eq!(unit[..100], long[UNIT_BYTES_MAX..]);
    }
}
