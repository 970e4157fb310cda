//! The kernel's requests: each becomes one call of the volume, and its result one reply.
//!
//! ```text
//! filesystem.rs        every request of the kernel: begin here
//! parts.rs, answer.rs  what the requests share: the adapter's parts; the guard around the work, and common replies
//! attributes.rs, directory.rs      requests that need more than a call and a reply
//! convert.rs, errno.rs, caller.rs, closing.rs      values, errors, the calling process, flush at close
//! readers.rs, poll_before_sleep.rs                 which thread reads requests, and how it is woken
//! vigil.rs (burst.rs, processors.rs)               on two processors: which one serves, and the other kept awake
//! stale_attributes.rs, invalidation.rs             invalidate what the kernel caches: after our changes, another device's
//! ```

mod answer;
mod attributes;
mod burst;
mod caller;
mod closing;
mod convert;
mod directory;
mod errno;
mod filesystem;
mod invalidation;
mod parts;
mod poll_before_sleep;
mod processors;
mod readers;
mod stale_attributes;
mod vigil;

pub(super) use answer::Call;
pub(super) use invalidation::{Informed, keep_informed};
pub(super) use parts::Adapter;
pub(super) use poll_before_sleep::RequestPoller;
pub(super) use readers::Readers;
pub(super) use vigil::Vigil;
