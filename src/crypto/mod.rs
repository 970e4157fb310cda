//! Keys, XTS, tags, wrapping and secrets: everything that touches a cipher.

pub mod randomness;
pub mod tag;

pub use randomness::{KernelRandomness, Randomness, SeededRandomness};
pub use tag::Tag;
