//! The tweaks of XTS, sixteen steps at a time.
//!
//! Promises T(j) = T(0) · x^j in GF(2^128) modulo x^128 + x^7 + x^2 + x + 1, as little-endian bytes, without a branch or
//! an index that depends on a tweak. Doubling one tweak to the next makes a chain that nothing can widen. Sixteen
//! neighbours are kept instead, and each is multiplied by x^16: the same shifts for all, which the compiler turns into
//! vectors of whatever width the caller was compiled for. So everything here is inlined into the caller.
//!
//! ```text
//! halves:   | T(0) low | T(0) high | T(1) low | T(1) high | … | T(15) high |      64 bits each
//! times x^16:   low'  = low << 16  ^ reduce(high >> 48)       the 16 bits that leave at the top come back at
//!               high' = high << 16 ^ (low >> 48)              the bottom, times x^7 + x^2 + x + 1
//! ```

/// Tweaks made together.
const GROUP_BLOCKS: usize = 16;
const HALVES: usize = 2 * GROUP_BLOCKS;
/// Groups in a batch.
const BATCH_GROUPS: usize = 4;
/// Blocks between two calls of the cipher: as many as the widest implementation takes. 1 KiB of tweaks, which stays in
/// the fastest cache.
pub(super) const BATCH_BLOCKS: usize = BATCH_GROUPS * GROUP_BLOCKS;

/// The tweaks of a unit from some block on.
pub(super) struct Tweaks {
    halves: [u64; HALVES],
}

impl Tweaks {
    /// Begins with `tweak`.
    #[inline(always)]
    pub(super) fn starting_with(mut tweak: u128) -> Self {
        let mut halves = [0; HALVES];
        for pair in halves.as_chunks_mut::<2>().0 {
            *pair = [tweak as u64, (tweak >> 64) as u64];
            tweak = Self::doubled(tweak);
        }
        Self { halves }
    }

    /// `tweak` times x.
    #[inline(always)]
    pub(super) fn doubled(tweak: u128) -> u128 {
        let carry = ((tweak as i128) >> 127) as u128;
        (tweak << 1) ^ (carry & 0x87)
    }

    /// The next tweak, which stays the next.
    #[inline(always)]
    pub(super) fn next(&self) -> u128 {
        u128::from(self.halves[0]) | u128::from(self.halves[1]) << 64
    }

    /// Takes the next [`BATCH_BLOCKS`] tweaks.
    #[inline(always)]
    pub(super) fn fill(&mut self, batch: &mut TweakBatch) {
        for group in &mut batch.groups {
            for (bytes, half) in group.as_chunks_mut::<8>().0.iter_mut().zip(&self.halves) {
                *bytes = half.to_le_bytes();
            }
            self.advance();
        }
    }

    /// Multiplies all by x^16.
    #[inline(always)]
    fn advance(&mut self) {
        const STEP: u32 = GROUP_BLOCKS as u32;
        let mut carries = [0; HALVES];
        for (index, carry) in carries.iter_mut().enumerate() {
            *carry = self.halves[index ^ 1] >> (u64::BITS - STEP);
        }
        for (index, (half, carry)) in self.halves.iter_mut().zip(carries).enumerate() {
            let into_low = if index % 2 == 0 { u64::MAX } else { 0 };
            let reduced = (carry << 1) ^ (carry << 2) ^ (carry << 7);
            *half = (*half << STEP) ^ carry ^ (reduced & into_low);
        }
    }
}

/// The tweaks of [`BATCH_BLOCKS`] blocks, as bytes.
pub(super) struct TweakBatch {
    groups: [[u8; 16 * GROUP_BLOCKS]; BATCH_GROUPS],
}

impl Default for TweakBatch {
    #[inline(always)]
    fn default() -> Self {
        Self { groups: [[0; 16 * GROUP_BLOCKS]; BATCH_GROUPS] }
    }
}

impl TweakBatch {
    /// Mixes the tweaks into `bytes`: the blocks of a batch, or the first of them.
    #[inline(always)]
    pub(super) fn xor(&self, bytes: &mut [u8]) {
        for (bytes, tweaks) in bytes.chunks_mut(16 * GROUP_BLOCKS).zip(&self.groups) {
            for (byte, tweak) in bytes.iter_mut().zip(tweaks) {
                *byte ^= tweak;
            }
        }
    }

    /// The tweak of block `index` of the batch.
    #[inline(always)]
    pub(super) fn tweak(&self, index: usize) -> u128 {
        u128::from_le_bytes(self.groups.as_flattened().as_chunks().0[index])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{Randomness, SeededRandomness};

    #[test]
    fn sixteen_steps_at_once_are_sixteen_steps() {
        let randomness = SeededRandomness::new(16);
        let random = u128::from(randomness.u64()) << 64 | u128::from(randomness.u64());
        for first in [random, 1, u128::MAX, 1 << 127, 0xffff << 112, 1 << 63] {
            let (mut expected, mut tweaks, mut batch) = (first, Tweaks::starting_with(first), TweakBatch::default());
            for _ in 0..5 {
                assert_eq!(tweaks.next(), expected);
                tweaks.fill(&mut batch);
                for index in 0..BATCH_BLOCKS {
                    assert_eq!(batch.tweak(index), expected, "tweak {index} of a batch that began with {first:x}");
                    expected = Tweaks::doubled(expected);
                }
            }
        }
    }
}
