//! Keys, XTS, tags, wrapping and secrets: everything that touches a cipher.

pub mod tag;

pub use tag::Tag;
