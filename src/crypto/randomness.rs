//! Where ids, salts, keys and padding come from: the kernel, or a seed in tests.
//!
//! Relies on `getrandom(2)`. Promises bytes that cannot be guessed ([`KernelRandomness`]), or bytes that one number
//! reproduces ([`SeededRandomness`]); the rest of the source does not know which of them it draws from.

use blake3::OutputReader;
use parking_lot::Mutex;

/// A source of random bytes.
pub trait Randomness: Send + Sync {
    /// Overwrites all of `bytes` with random ones.
    fn fill(&self, bytes: &mut [u8]);

    /// Draws a number.
    fn u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

/// `array` for each source, and for any source behind `dyn`: a generic method in the trait would rule `dyn` out.
macro_rules! draw_arrays {
    ($($source:ty),*) => {$(
        impl $source {
            /// Draws an array.
            pub fn array<const N: usize>(&self) -> [u8; N] {
                let mut bytes = [0; N];
                self.fill(&mut bytes);
                bytes
            }
        }
    )*};
}

draw_arrays!(dyn Randomness + '_, KernelRandomness, SeededRandomness);

/// The kernel's generator, asked anew each time: nothing is buffered that a fork could draw twice.
#[derive(Debug, Clone, Copy, Default)]
pub struct KernelRandomness;

impl Randomness for KernelRandomness {
    /// # Panics
    /// When the kernel refuses. No key or salt drawn after that would be one, so nothing safe can follow.
    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the kernel's random generator answers");
    }
}

/// A reproducible stream, for tests: the output of BLAKE3 on a seed.
///
/// Threads share the stream, so what each of them draws depends on their order.
pub struct SeededRandomness {
    stream: Mutex<OutputReader>,
}

impl SeededRandomness {
    /// Starts the stream that belongs to `seed`.
    pub fn new(seed: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"passkeyfs seeded randomness").update(&seed.to_le_bytes());
        Self { stream: Mutex::new(hasher.finalize_xof()) }
    }
}

impl Randomness for SeededRandomness {
    fn fill(&self, bytes: &mut [u8]) {
        self.stream.lock().fill(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_stream() {
        let (first, second) = (SeededRandomness::new(7), SeededRandomness::new(7));
        assert_eq!(first.array::<16>(), second.array::<16>());
        assert_eq!(first.u64(), second.u64());
        assert_ne!(first.u64(), SeededRandomness::new(8).u64());
    }

    #[test]
    fn a_stream_does_not_depend_on_how_it_is_cut() {
        let (whole, cut) = (SeededRandomness::new(1), SeededRandomness::new(1));
        let whole: [u8; 96] = whole.array();
        let pieces = [cut.array::<32>(), cut.array::<32>(), cut.array::<32>()].concat();
        assert_eq!(whole.as_slice(), pieces);
    }

    #[test]
    fn the_kernel_does_not_repeat_itself() {
        let kernel: &dyn Randomness = &KernelRandomness;
        assert_ne!(kernel.array::<32>(), kernel.array::<32>());
    }
}
