//! Blocks and last pages out of segments, and the one place that creates, publishes and finds segment files.
//!
//! [`Segments`] holds what reading shares: the ledger, open files with their ciphers (crate `lru`), decrypted data blocks.
//! A block that cannot be had is *not arrived* or *damaged*, and neither is remembered: the next read looks again.
//! - the file is missing or shorter than the pointer says: not arrived;
//! - a header, page or tag is wrong in a file that changed less than 15 minutes ago: not arrived (a sync client may still
//!   be writing it in place);
//! - the same in an older file: damaged.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;

use super::codec::{self, PreparedBlock};
use super::keyring::{EpochKeys, KeyRing};
use super::ledger::{self, Ledger, Location};
use super::writer::{FinishedSegment, SegmentWriter, page_tag_parts, sealed_bytes};
use super::{BlockError, BlockSource};
use crate::crypto::{Randomness, Tag, UnitCipher};
use crate::format::segment::{
    HEADER_BYTES, LAST_PAGE_BYTES, LastPage, SegmentHeader, SegmentKind, SummaryEntry, decode_summary,
};
use crate::format::{BlockKind, DeviceId, EpochId, PageTag, Pointer, SegmentId, Sequence};
use crate::store::{Clock, FilePath, FileReader, Store, StoreError};

/// How long a file that changed is given the benefit of the doubt.
const ARRIVAL_AGE_MAX: Duration = Duration::from_secs(15 * 60);
/// How often a missing segment makes us look through the folder again.
const SCAN_INTERVAL_MIN: Duration = Duration::from_secs(1);
const OPEN_SEGMENTS_MAX: NonZeroUsize = NonZeroUsize::new(64).unwrap();

struct OpenSegment {
    header: SegmentHeader,
    file: Arc<dyn FileReader>,
    keys: Arc<EpochKeys>,
    cipher: UnitCipher,
}

/// Decrypted data blocks, bounded by their bytes.
struct BlockCache {
    blocks: LruCache<(SegmentId, u32), Arc<Vec<u8>>>,
    bytes: usize,
    bytes_max: usize,
}

impl BlockCache {
    fn put(&mut self, at: (SegmentId, u32), block: &Arc<Vec<u8>>) {
        if let Some(old) = self.blocks.put(at, Arc::clone(block)) {
            self.bytes -= old.len();
        }
        self.bytes += block.len();
        while self.bytes > self.bytes_max {
            let Some((_, old)) = self.blocks.pop_lru() else { break };
            self.bytes -= old.len();
        }
    }
}

/// All segments of a vault, as this device sees and writes them.
pub struct Segments {
    pub(super) store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    ring: Arc<KeyRing>,
    ledger: Ledger,
    pub(super) device: DeviceId,
    compress: bool,
    next_sequence: AtomicU64,
    open: Mutex<LruCache<SegmentId, Arc<OpenSegment>>>,
    blocks: Mutex<BlockCache>,
    scanned_at: Mutex<Option<Duration>>,
}

impl Segments {
    /// Looks through the folder and starts with empty caches. New segments are written as `device`.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
        ring: Arc<KeyRing>,
        device: DeviceId,
        compress: bool,
        cache_bytes_max: usize,
    ) -> Result<Self, StoreError> {
        let ledger = Ledger::default();
        ledger.scan(&*store)?;
        let blocks = BlockCache { blocks: LruCache::unbounded(), bytes: 0, bytes_max: cache_bytes_max };
        let segments = Self {
            store,
            clock,
            randomness,
            ring,
            ledger,
            device,
            compress,
            next_sequence: AtomicU64::new(1),
            open: Mutex::new(LruCache::new(OPEN_SEGMENTS_MAX)),
            blocks: Mutex::new(blocks),
            scanned_at: Mutex::new(None),
        };
        segments.skip_to(Sequence(1));
        Ok(segments)
    }

    /// The keys of all epochs.
    pub fn ring(&self) -> &Arc<KeyRing> {
        &self.ring
    }

    /// Which segment lies where.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Looks through the folder again.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn scan(&self) -> Result<(), StoreError> {
        self.ledger.scan(&*self.store)
    }

    pub(super) fn raise_next_sequence(&self, sequence: Sequence) {
        self.next_sequence.fetch_max(sequence.0, Ordering::Relaxed);
    }

    /// The sequence number that the next segment will take.
    pub fn next_sequence(&self) -> Sequence {
        Sequence(self.next_sequence.load(Ordering::Relaxed))
    }

    /// Compresses and tags a block with the keys of the current epoch.
    pub fn prepare(&self, kind: BlockKind, bytes: Vec<u8>) -> PreparedBlock {
        PreparedBlock::new(kind, bytes, self.compress, &self.ring.current().tagger)
    }

    /// Begins a new segment in staging. Its blocks can be read as soon as they are appended.
    ///
    /// # Errors
    /// When the file cannot be created or its header not be written, or no sequence number is left.
    pub fn begin(&self, kind: SegmentKind) -> Result<SegmentWriter, StoreError> {
        let keys = self.ring.current();
        let sequence = self.take_sequence()?;
        let segment = SegmentId(self.randomness.u64());
        let salt = self.randomness.array();
        let (vault, epoch, device) = (self.ring.vault, keys.epoch, self.device);
        let header = SegmentHeader { kind, vault, epoch, device, sequence, segment, salt };
        let path = ledger::staging_path(sequence, segment, kind);
        let file = self.store.create(&path)?;
        let writer = SegmentWriter::begin(header, path.clone(), file, keys, self.compress)
            .inspect_err(|_| drop(self.store.remove(&path)))?;
        self.ledger.note(segment, Location { path, device: DeviceId(0), sequence, kind, bytes: 0 });
        Ok(writer)
    }

    fn take_sequence(&self) -> Result<Sequence, StoreError> {
        let next = |number: u64| (number <= Sequence::MAX.0).then_some(number + 1);
        let taken = self.next_sequence.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        taken.map(Sequence).map_err(|_| StoreError::Io {
            path: FilePath::state("device.json").into(),
            action: "number another file of this device",
            source: std::io::Error::other("all numbers are used; the next mount writes as a new device"),
        })
    }

    /// Ends a segment: complete and durable in staging on return.
    ///
    /// # Errors
    /// The segment is then closed for ever; its blocks are to be written to another.
    pub fn finish(
        &self,
        writer: SegmentWriter,
        commit: Option<crate::format::commit::CommitPage>,
    ) -> Result<FinishedSegment, StoreError> {
        writer.finish(commit, &*self.randomness)
    }

    /// Gives a finished segment its place in the vault folder; durable on return. A crash before that leaves it in
    /// staging, a crash after it leaves a segment that no commit names yet: neither harms.
    ///
    /// # Errors
    /// When the folder does not take it; it is then still in staging, and this can be tried again.
    pub fn publish(&self, finished: &FinishedSegment) -> Result<(), StoreError> {
        let header = &finished.header;
        let target = ledger::vault_path(header.device, header.sequence, header.segment, header.kind);
        match self.store.rename(&finished.path, &target) {
            // An earlier try went through after all: the name holds our random id, so the file is ours.
            Err(StoreError::NotFound { .. } | StoreError::AlreadyExists { .. })
                if self.store.open(&target).is_ok_and(|file| file.len().is_ok_and(|len| len == finished.bytes)) =>
            {
                // Its folder may not have been synced, which the removal of the other name must not come before.
                self.store.sync_name(&target)?;
                self.store.remove(&finished.path)?;
            }
            other => other?,
        }
        let (device, sequence, kind, bytes) = (header.device, header.sequence, header.kind, finished.bytes);
        self.ledger.note(header.segment, Location { path: target, device, sequence, kind, bytes });
        Ok(())
    }

    /// The folder of the vault that this device's next segments go to.
    pub fn own_folder(&self) -> FilePath {
        let path = ledger::vault_path(self.device, self.next_sequence(), SegmentId(0), SegmentKind::Data);
        path.folder().expect("a segment lies in a folder")
    }

    /// Makes sure that a segment that was found in the vault folder stays there: durable on return. For those of ours that
    /// an earlier process renamed, and may have been killed before it synced the folder.
    ///
    /// # Errors
    /// When the folder cannot be synced.
    pub fn keep(&self, segment: SegmentId) -> Result<(), StoreError> {
        match self.locate(segment).filter(|at| at.path.area == crate::store::Area::Vault) {
            Some(at) => self.store.sync_name(&at.path),
            None => Ok(()),
        }
    }

    /// Removes a segment of ours from staging that nothing points to.
    pub fn discard(&self, segment: SegmentId) {
        if let Some(at) = self.staged(segment) {
            if let Err(error) = self.store.remove(&at.path) {
                log::warn!("{}: an unused segment could not be removed: {error}", at.path);
            }
            self.ledger.forget(segment, &at.path);
            self.open.lock().pop(&segment);
        }
    }

    /// Whether a segment lies in this device's staging.
    pub fn is_staged(&self, segment: SegmentId) -> bool {
        self.staged(segment).is_some()
    }

    fn staged(&self, segment: SegmentId) -> Option<Location> {
        self.locate(segment).filter(|at| at.path.area == crate::store::Area::State)
    }

    /// A block of a file's content, through the cache of decrypted blocks.
    ///
    /// # Errors
    /// See [`BlockError`].
    pub fn read_data(&self, pointer: &Pointer) -> Result<Arc<Vec<u8>>, BlockError> {
        let at = (pointer.segment, pointer.offset_units);
        if let Some(block) = self.blocks.lock().blocks.get(&at) {
            return Ok(Arc::clone(block));
        }
        let block = Arc::new(self.read(BlockKind::Data, pointer)?);
        self.blocks.lock().put(at, &block);
        Ok(block)
    }

    /// Reads blocks that lie one behind the other in a segment, stored plain and without filling, with one read, and verifies and decrypts them where they are to be.
    ///
    /// # Errors
    /// See [`BlockError`]; what `buffer` then holds is not to be used.
    pub fn read_run(&self, run: &[Pointer], buffer: &mut [u8]) -> Result<(), BlockError> {
        let Some(first) = run.first() else { return Ok(()) };
        let open = self.open_segment(first.segment)?;
        self.read_stored(&open, first.segment, first.offset_bytes(), buffer)?;
        let mut rest = buffer;
        for pointer in run {
            let (block, behind) = rest.split_at_mut(pointer.stored_bytes as usize);
            self.unseal(&open, BlockKind::Data, pointer, block)?;
            rest = behind;
        }
        Ok(())
    }

    fn read_stored(
        &self,
        open: &OpenSegment,
        segment: SegmentId,
        offset_bytes: u64,
        buffer: &mut [u8],
    ) -> Result<(), BlockError> {
        match open.file.read_at(offset_bytes, buffer) {
            Err(StoreError::Short { .. }) => {
                self.open.lock().pop(&segment);
                Err(BlockError::NotArrived { segment, detail: "its file is incomplete".into() })
            }
            other => Ok(other?),
        }
    }

    /// Decrypts a block in place, compares its tag, and takes no filling but zeros.
    fn unseal(
        &self,
        open: &OpenSegment,
        kind: BlockKind,
        pointer: &Pointer,
        buffer: &mut [u8],
    ) -> Result<(), BlockError> {
        open.cipher.decrypt(u64::from(pointer.offset_units), buffer);
        let (stored, filling) = buffer.split_at(pointer.stored_bytes as usize);
        let is_tagged = open.keys.tagger.tag(kind as u8, pointer.encoding as u8, stored) == pointer.tag;
        if !is_tagged || filling.iter().any(|byte| *byte != 0) {
            let what = "a block is not the one written";
            return Err(self.judge(&*open.file, pointer.segment, pointer.offset_bytes(), what));
        }
        Ok(())
    }

    /// The epoch that a segment's header names, if its key is not open. Nobody vouches for the header.
    pub fn closed_epoch(&self, segment: SegmentId) -> Option<EpochId> {
        let file = self.open_file(segment).ok()?;
        let mut bytes = vec![0; HEADER_BYTES];
        file.read_at(0, &mut bytes).ok()?;
        let header = SegmentHeader::decode(&bytes).ok()?;
        let is_ours = header.segment == segment && header.vault == self.ring.vault;
        (is_ours && self.ring.epoch(header.epoch).is_none()).then_some(header.epoch)
    }

    /// The epoch whose key a segment is under, if that is open. Its verified last page vouches for it.
    pub fn epoch_of(&self, segment: SegmentId) -> Option<EpochId> {
        Some(self.open_segment(segment).ok()?.header.epoch)
    }

    /// A segment's verified last page.
    ///
    /// # Errors
    /// *Not arrived* while the file is incomplete, *damaged* when its page is not what was written, *newer* when reading it
    /// needs what this version does not know.
    pub fn last_page(&self, segment: SegmentId) -> Result<(SegmentHeader, LastPage), BlockError> {
        let (header, page, _) = self.last_page_with_tag(segment)?;
        Ok((header, page))
    }

    /// The same, with the tag that vouches for it: of two segments with one id it says which is meant.
    ///
    /// # Errors
    /// As [`Self::last_page`].
    pub fn last_page_with_tag(&self, segment: SegmentId) -> Result<(SegmentHeader, LastPage, PageTag), BlockError> {
        let open = self.open_segment(segment)?;
        let bytes = open.file.len()?;
        let Some(offset_bytes) = bytes.checked_sub(LAST_PAGE_BYTES as u64).filter(|at| *at >= HEADER_BYTES as u64)
        else {
            // A sync client may put another file in its place.
            self.open.lock().pop(&segment);
            return Err(BlockError::NotArrived { segment, detail: format!("the file has {bytes} bytes") });
        };
        let mut page = vec![0; LAST_PAGE_BYTES];
        open.file.read_at(offset_bytes, &mut page)?;
        let (tag, ciphertext) = page.split_at_mut(16);
        let tag = Tag::from_bytes((&*tag).try_into().expect("16 bytes"));
        let parts = (open.header.encode(), offset_bytes.to_le_bytes());
        if !open.keys.pages.verify(&page_tag_parts(&parts.0, &parts.1, ciphertext), &tag) {
            return Err(self.judge(&*open.file, segment, offset_bytes, "its last page is not the one written"));
        }
        open.cipher.decrypt(offset_bytes / 16 + 1, ciphertext);
        let damaged = |detail: String| BlockError::Damaged { segment, offset_bytes, detail };
        let page = LastPage::decode(ciphertext).map_err(|source| match source.is_newer() {
            true => BlockError::Newer { segment, source },
            false => damaged(source.to_string()),
        })?;
        // Who has an older vault key can put any page under it. In which epoch it is the key decides, not the page.
        let named = page.commit.as_ref().map(|commit| commit.epoch).filter(|epoch| *epoch != open.header.epoch);
        match named {
            Some(epoch) => Err(damaged(format!(
                "its last page names epoch {epoch}, and it is under the vault key of epoch {}",
                open.header.epoch
            ))),
            None if page.kind != open.header.kind => Err(damaged("its last page is one of another kind".into())),
            None => Ok((open.header, page, PageTag(*tag.as_bytes()))),
        }
    }

    /// What each block of a complete segment is.
    ///
    /// # Errors
    /// As [`Self::last_page`].
    pub fn summary(&self, segment: SegmentId) -> Result<Vec<SummaryEntry>, BlockError> {
        let (_, page) = self.last_page(segment)?;
        let bytes = self.read(BlockKind::Summary, &page.summary)?;
        let offset_bytes = page.summary.offset_bytes();
        decode_summary(segment, &bytes).map_err(|source| match source.is_newer() {
            true => BlockError::Newer { segment, source },
            false => BlockError::Damaged { segment, offset_bytes, detail: source.to_string() },
        })
    }

    fn open_segment(&self, segment: SegmentId) -> Result<Arc<OpenSegment>, BlockError> {
        if let Some(open) = self.open.lock().get(&segment) {
            return Ok(Arc::clone(open));
        }
        let file = self.open_file(segment)?;
        let mut bytes = vec![0; HEADER_BYTES];
        match file.read_at(0, &mut bytes) {
            Err(StoreError::Short { .. }) => {
                return Err(BlockError::NotArrived { segment, detail: "its header is incomplete".into() });
            }
            other => other?,
        }
        let header = match SegmentHeader::decode(&bytes) {
            Ok(header) => header,
            Err(source) if source.is_newer() => return Err(BlockError::Newer { segment, source }),
            Err(error) => return Err(self.judge(&*file, segment, 0, &error.to_string())),
        };
        if header.segment != segment || header.vault != self.ring.vault {
            return Err(self.judge(&*file, segment, 0, "another segment lies under its name"));
        }
        let keys = self.ring.epoch(header.epoch).ok_or_else(|| BlockError::Damaged {
            segment,
            offset_bytes: 0,
            detail: format!("it was written under epoch {}, whose key is not open", header.epoch),
        })?;
        let cipher = keys.cipher(&header);
        let open = Arc::new(OpenSegment { header, file, keys, cipher });
        self.open.lock().put(segment, Arc::clone(&open));
        Ok(open)
    }

    pub(super) fn scan_again(&self) -> Result<bool, StoreError> {
        let now = self.clock.monotonic();
        {
            // Not held while the folder is listed, which may take long.
            let mut scanned_at = self.scanned_at.lock();
            if scanned_at.is_some_and(|then| now < then + SCAN_INTERVAL_MIN) {
                return Ok(false);
            }
            *scanned_at = Some(now);
        }
        self.scan().inspect_err(|_| *self.scanned_at.lock() = None)?;
        Ok(true)
    }

    /// Not arrived or damaged? A file that changed lately may still be on its way.
    fn judge(&self, file: &dyn FileReader, segment: SegmentId, offset_bytes: u64, what: &str) -> BlockError {
        self.open.lock().pop(&segment);
        let detail = what.to_string();
        let young = file
            .changed()
            .is_ok_and(|then| self.clock.now().duration_since(then).is_ok_and(|age| age < ARRIVAL_AGE_MAX));
        match young {
            true => BlockError::NotArrived { segment, detail: format!("{detail} (the file has just changed)") },
            false => BlockError::Damaged { segment, offset_bytes, detail },
        }
    }
}

impl BlockSource for Segments {
    fn read(&self, kind: BlockKind, pointer: &Pointer) -> Result<Vec<u8>, BlockError> {
        let open = self.open_segment(pointer.segment)?;
        let stored_bytes = pointer.stored_bytes as usize;
        let mut buffer = vec![0; sealed_bytes(stored_bytes)];
        self.read_stored(&open, pointer.segment, pointer.offset_bytes(), &mut buffer)?;
        self.unseal(&open, kind, pointer, &mut buffer)?;
        buffer.truncate(stored_bytes);
        codec::decode(kind, pointer.encoding, buffer).map_err(|detail| BlockError::Damaged {
            segment: pointer.segment,
            offset_bytes: pointer.offset_bytes(),
            detail,
        })
    }
}
