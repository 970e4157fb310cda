//! On the way from memory to the disk.
//!
//! - [`data_segments`]: the segments that are being filled, also when a disk fails
//! - [`flush`]: dirty blocks into these; [`flusher`]: the thread that does so before memory is short
//! - [`journal_writer`], [`journal_frame`] and [`journal_state`]: what `fsync` makes durable, and what outlives the process;
//!   [`journal_thread`]: the thread that writes within 100 ms
//!
//! Each is a type with a lock of its own that is given what it needs: `data_segments` < `flush` < `journal_writer`.

pub(crate) mod data_segments;
pub(crate) mod flush;
pub(crate) mod flusher;
pub(crate) mod journal_frame;
pub(crate) mod journal_state;
pub(crate) mod journal_thread;
pub(crate) mod journal_writer;
