//! One segment being written, from header to last page, in local staging.
//!
//! Invariants:
//! - the file was created by this process and is appended to by nothing else;
//! - each byte offset is sealed at most once (asserted): with a key drawn for this file, a (key, tweak) encrypts one
//!   plaintext, ever;
//! - after any failed append or sync the file is closed for ever (the store's writer sees to it).
//!
//! A crash while it is being written leaves an unfinished file in staging: journal frames may point into it (its synced
//! part); the next mount reads those blocks, writes them anew and removes it.

use std::sync::Arc;

use super::codec::PreparedBlock;
use super::keyring::EpochKeys;
use crate::crypto::{Randomness, UNIT_BYTES_MAX, UnitCipher};
use crate::format::commit::CommitPage;
use crate::format::segment::{
    DATA_SEGMENT_BYTES_MAX, HEADER_BYTES, LAST_PAGE_BYTES, LastPage, SegmentHeader, SummaryEntry, encode_summary,
    padded_bytes,
};
use crate::format::{BlockKind, InodeNumber, PageTag, Pointer, SegmentId};
use crate::store::{FilePath, FileSyncer, FileWriter, StoreError};

/// A cipher that seals each offset of a file at most once.
pub struct WriteOnceCipher {
    cipher: UnitCipher,
    sealed_bytes: u64,
}

impl WriteOnceCipher {
    /// A cipher for a file of which nothing behind `HEADER_BYTES` was sealed yet.
    pub fn new(cipher: UnitCipher) -> Self {
        Self { cipher, sealed_bytes: HEADER_BYTES as u64 }
    }

    /// Encrypts `buffer`, to lie at `offset_bytes`: one unit, or several if it is longer than a unit may be.
    ///
    /// # Panics
    /// When any of it was sealed before, or the offset is not a multiple of 16: going on would break XTS.
    pub fn seal(&mut self, offset_bytes: u64, buffer: &mut [u8]) {
        assert!(offset_bytes.is_multiple_of(16) && offset_bytes >= self.sealed_bytes, "an offset is sealed once");
        match buffer.len() <= UNIT_BYTES_MAX {
            true => self.cipher.encrypt(offset_bytes / 16, buffer),
            false => self.cipher.encrypt_units(offset_bytes / 16, buffer),
        }
        self.sealed_bytes = offset_bytes + (buffer.len() as u64).next_multiple_of(16);
    }
}

/// A segment that is complete and durable in staging.
#[derive(Debug, Clone)]
pub struct FinishedSegment {
    /// Its header.
    pub header: SegmentHeader,
    /// Where it lies.
    pub path: FilePath,
    /// Its final size.
    pub bytes: u64,
    /// The tag of its last page.
    pub page_tag: PageTag,
}

/// A sync of a segment that is being written: of all its blocks when it was begun.
#[derive(Clone)]
pub struct SegmentSync {
    /// Which.
    pub segment: SegmentId,
    bytes: u64,
    file: Arc<dyn FileSyncer>,
}

impl SegmentSync {
    /// Waits for the disk.
    ///
    /// # Errors
    /// When it fails: the segment is then closed for ever.
    pub fn run(&self) -> Result<(), StoreError> {
        self.file.sync()
    }
}

/// A segment being written.
pub struct SegmentWriter {
    header: SegmentHeader,
    path: FilePath,
    file: Box<dyn FileWriter>,
    keys: Arc<EpochKeys>,
    cipher: WriteOnceCipher,
    entries: Vec<SummaryEntry>,
    compress: bool,
    synced_bytes: u64,
}

impl SegmentWriter {
    /// Begins a segment in the new file behind `file`. Nothing is durable before [`Self::start_sync`] or [`Self::finish`].
    ///
    /// # Errors
    /// When the header cannot be written.
    pub fn begin(
        header: SegmentHeader,
        path: FilePath,
        mut file: Box<dyn FileWriter>,
        keys: Arc<EpochKeys>,
        compress: bool,
    ) -> Result<Self, StoreError> {
        assert!(file.len() == 0, "a segment begins in a new file");
        file.append(&header.encode())?;
        let cipher = WriteOnceCipher::new(keys.cipher(&header));
        Ok(Self { header, path, file, keys, cipher, entries: Vec::new(), compress, synced_bytes: 0 })
    }

    /// The segment's header.
    pub fn header(&self) -> &SegmentHeader {
        &self.header
    }

    /// Where the segment lies while it is written.
    pub fn path(&self) -> &FilePath {
        &self.path
    }

    /// How many blocks were appended.
    pub fn blocks(&self) -> usize {
        self.entries.len()
    }

    /// How many bytes were written.
    pub fn bytes(&self) -> u64 {
        self.file.len()
    }

    /// Whether another block of `stored_bytes` leaves room for summary and last page in a full data segment.
    pub fn has_room_for(&self, stored_bytes: usize) -> bool {
        let summary = (self.entries.len() as u64 + 1) * SummaryEntry::BYTES as u64 + 64;
        let block = (stored_bytes as u64).next_multiple_of(16);
        self.file.len() + block + summary + LAST_PAGE_BYTES as u64 <= DATA_SEGMENT_BYTES_MAX
    }

    /// Encrypts and appends a block. `inode` and `index` go to the summary.
    ///
    /// # Errors
    /// After one the segment is closed for ever.
    pub fn append(&mut self, block: PreparedBlock, inode: InodeNumber, index: u64) -> Result<Pointer, StoreError> {
        let kind = block.kind;
        let pointer = self.append_unlisted(block)?;
        self.entries.push(SummaryEntry { kind, inode, index, pointer });
        Ok(pointer)
    }

    fn append_unlisted(&mut self, block: PreparedBlock) -> Result<Pointer, StoreError> {
        let offset_bytes = self.file.len();
        let pointer = Pointer {
            segment: self.header.segment,
            offset_units: u32::try_from(offset_bytes / 16).expect("a segment of less than 64 GiB"),
            stored_bytes: block.stored.len() as u32,
            encoding: block.encoding,
            tag: block.tag,
        };
        let mut buffer = block.stored;
        // The zeros are encrypted, too: in the clear they would show where a block ends, and so how long a file is.
        buffer.resize(sealed_bytes(buffer.len()), 0);
        self.cipher.seal(offset_bytes, &mut buffer);
        self.file.append(&buffer)?;
        Ok(pointer)
    }

    /// What makes all blocks appended so far durable, in staging. Blocks may be appended meanwhile.
    ///
    /// After an error of it the segment is closed for ever and what was not synced before is to be written to another.
    pub fn start_sync(&self) -> SegmentSync {
        SegmentSync { segment: self.header.segment, bytes: self.file.len(), file: self.file.syncer() }
    }

    /// Whether all blocks appended so far are durable in staging.
    pub fn is_synced(&self) -> bool {
        self.synced_bytes == self.file.len()
    }

    /// Notes that a sync of this segment has succeeded.
    pub fn note_synced(&mut self, synced: &SegmentSync) {
        self.synced_bytes = self.synced_bytes.max(synced.bytes);
    }

    /// Ends the segment: summary, random padding, last page. Durable in staging on return.
    ///
    /// # Errors
    /// After one the segment is closed for ever.
    pub fn finish(
        mut self,
        commit: Option<CommitPage>,
        randomness: &dyn Randomness,
    ) -> Result<FinishedSegment, StoreError> {
        let blocks = self.entries.len() as u64;
        assert!(blocks > 0, "a segment without blocks is not finished but discarded");
        let summary = encode_summary(&self.entries);
        let prepared = PreparedBlock::new(BlockKind::Summary, summary, self.compress, &self.keys.tagger);
        let summary = self.append_unlisted(prepared)?;
        self.append_padding(randomness)?;
        let page_tag = self.append_last_page(&LastPage { kind: self.header.kind, blocks, summary, commit })?;
        self.file.sync()?;
        Ok(FinishedSegment { header: self.header, path: self.path, bytes: self.file.len(), page_tag })
    }

    fn append_padding(&mut self, randomness: &dyn Randomness) -> Result<(), StoreError> {
        let content = self.file.len() + LAST_PAGE_BYTES as u64;
        let mut padding = vec![0; (padded_bytes(content) - content) as usize];
        randomness.fill(&mut padding);
        self.file.append(&padding)
    }

    fn append_last_page(&mut self, page: &LastPage) -> Result<PageTag, StoreError> {
        let offset_bytes = self.file.len();
        let mut ciphertext = page.encode();
        self.cipher.seal(offset_bytes + 16, &mut ciphertext);
        let tag = self.keys.pages.tag(&page_tag_parts(&self.header.encode(), &offset_bytes.to_le_bytes(), &ciphertext));
        self.file.append(tag.as_bytes())?;
        self.file.append(&ciphertext)?;
        Ok(PageTag(*tag.as_bytes()))
    }
}

/// How many bytes a block of `stored_bytes` takes in its segment: whole cipher blocks.
pub(super) fn sealed_bytes(stored_bytes: usize) -> usize {
    stored_bytes.next_multiple_of(16)
}

/// What a last page's tag covers: the segment's whole header, the page's place and its ciphertext.
pub(super) fn page_tag_parts<'a>(header: &'a [u8], offset_bytes: &'a [u8; 8], ciphertext: &'a [u8]) -> [&'a [u8]; 4] {
    [b"last page", header, offset_bytes, ciphertext]
}
