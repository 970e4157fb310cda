//! A block before encryption and after decryption: compression, and the tag over what is stored.
//!
//! Preparing a block needs no lock and no file, so several threads can do it at once; only then is it known whether the
//! block is the same as one that lies in a segment already (equal tag, encoding and length).

use zstd::zstd_safe;

use crate::crypto::{BlockTagger, Tag};
use crate::format::{BlockKind, Encoding, Pointer};

/// zstd level: the lowest; photos and videos do not compress, the rest should not wait.
const COMPRESSION_LEVEL: i32 = 1;
/// Blocks below this are not worth a compressor's time.
const COMPRESSED_BYTES_MIN: usize = 64;
/// A block at least this long is judged by a sample first.
const SAMPLED_BYTES_MIN: usize = 16 << 10;
const SAMPLE_BYTES: usize = 1 << 10;

/// A block ready to be encrypted and appended.
#[derive(Debug)]
pub struct PreparedBlock {
    /// What it is.
    pub kind: BlockKind,
    /// How its bytes are stored.
    pub encoding: Encoding,
    /// The stored bytes, before encryption.
    pub stored: Vec<u8>,
    /// Their tag.
    pub tag: Tag,
}

impl PreparedBlock {
    /// Compresses (where it pays and is wanted) and tags a block.
    ///
    /// # Panics
    /// When `bytes` is empty or longer than a pointer can say: a caller's mistake.
    pub fn new(kind: BlockKind, bytes: Vec<u8>, compress: bool, tagger: &BlockTagger) -> Self {
        assert!(!bytes.is_empty() && bytes.len() < 1 << 24, "a block of {} bytes", bytes.len());
        let compressed = if compress { compress_if_it_pays(&bytes) } else { None };
        let (encoding, stored) = match compressed {
            Some(stored) => (Encoding::Zstd, stored),
            None => (Encoding::Plain, bytes),
        };
        let tag = tagger.tag(kind as u8, encoding as u8, &stored);
        Self { kind, encoding, stored, tag }
    }

    /// Whether `pointer` leads to the very same stored bytes (within one epoch: tags of two epochs never compare).
    pub fn is_same_as(&self, pointer: &Pointer) -> bool {
        pointer.encoding == self.encoding
            && pointer.stored_bytes as usize == self.stored.len()
            && pointer.tag == self.tag
    }
}

fn compress_if_it_pays(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() < COMPRESSED_BYTES_MIN {
        return None;
    }
    if bytes.len() >= SAMPLED_BYTES_MIN {
        let start = (bytes.len() - SAMPLE_BYTES) / 2;
        compress_below(&bytes[start..start + SAMPLE_BYTES], SAMPLE_BYTES - SAMPLE_BYTES / 32)?;
    }
    compress_below(bytes, bytes.len() - bytes.len() / 16)
}

/// Compresses, or gives up when the result would be longer than `bytes_max`.
fn compress_below(bytes: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    thread_local! {
        static COMPRESSOR: std::cell::RefCell<Option<zstd::bulk::Compressor<'static>>> =
            const { std::cell::RefCell::new(None) };
    }
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = zstd::bulk::Compressor::new(COMPRESSION_LEVEL).ok();
        }
        let mut stored = vec![0; bytes_max];
        let length = slot.as_mut()?.compress_to_buffer(bytes, &mut stored).ok()?;
        stored.truncate(length);
        Some(stored)
    })
}

/// The most bytes a block of a kind may hold once decompressed: what keeps a bad frame from asking for all memory.
fn bytes_max(kind: BlockKind) -> usize {
    match kind {
        BlockKind::Data => 1 << 20,
        BlockKind::Node => 1 << 20,
        BlockKind::Value | BlockKind::Clock => 16 << 20,
        BlockKind::Summary => 256 << 20,
    }
}

/// The most that `stored` bytes of zstd can say: what takes least is a block of one repeated byte, 4 bytes for 128 KiB.
fn decompressed_bytes_max(stored: usize) -> usize {
    stored.saturating_mul(128 * 1024 / 4)
}

/// Undoes the encoding of verified stored bytes.
///
/// # Errors
/// What is wrong with them, in words.
pub fn decode(kind: BlockKind, encoding: Encoding, stored: Vec<u8>) -> Result<Vec<u8>, String> {
    if encoding == Encoding::Plain {
        return Ok(stored);
    }
    let size = match zstd_safe::get_frame_content_size(&stored) {
        Ok(Some(size)) => usize::try_from(size).unwrap_or(usize::MAX),
        _ => return Err("a compressed block does not say its size".into()),
    };
    if size > bytes_max(kind).min(decompressed_bytes_max(stored.len())) {
        return Err(format!("a compressed block claims {size} bytes"));
    }
    let bytes = zstd::bulk::decompress(&stored, size).map_err(|error| format!("decompression failed: {error}"))?;
    if bytes.len() != size {
        return Err("a compressed block is shorter than it says".into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{EpochKey, Randomness, SeededRandomness};

    fn tagger() -> BlockTagger {
        EpochKey::generate(&SeededRandomness::new(1)).block_tagger()
    }

    #[test]
    fn text_is_compressed_and_noise_is_not() {
        let text = b"the quick brown fox ".repeat(4000);
        let prepared = PreparedBlock::new(BlockKind::Data, text.clone(), true, &tagger());
        assert_eq!(prepared.encoding, Encoding::Zstd);
        assert_eq!(decode(BlockKind::Data, Encoding::Zstd, prepared.stored).unwrap(), text);
        let mut noise = vec![0; 65_536];
        SeededRandomness::new(2).fill(&mut noise);
        let prepared = PreparedBlock::new(BlockKind::Data, noise.clone(), true, &tagger());
        assert_eq!((prepared.encoding, prepared.stored == noise), (Encoding::Plain, true));
    }

    #[test]
    fn a_frame_that_claims_too_much_is_refused_before_memory_is_taken() {
        let zeros = vec![0u8; 2 << 20];
        let stored = zstd::bulk::compress(&zeros, 1).unwrap();
        assert!(decode(BlockKind::Data, Encoding::Zstd, stored).unwrap_err().contains("claims"));
        assert!(decode(BlockKind::Data, Encoding::Zstd, vec![1, 2, 3]).is_err());
        // Magic, a header with a size of 4 bytes (200 MiB), an empty last block: 12 bytes that would take 200 MiB.
        let mut short = b"\x28\xb5\x2f\xfd\xa0".to_vec();
        short.extend((200u32 << 20).to_le_bytes());
        short.extend([1, 0, 0]);
        assert!(decode(BlockKind::Summary, Encoding::Zstd, short).unwrap_err().contains("claims"));
    }
}
