//! A volume against a reference in memory: random operations, crashes at every call, small disks, several threads.
//!
//! - `sequences`: random operations with closings, kills and power losses between them; `crash_points`: a script that is
//!   killed, and fails, at every call; `limits`: what is large, deep, long or full; `threads`: three at work at once;
//!   `half_done`: reads that fail
//! - `operations` and `seeds`: what is done; `reference`: what should be there, `picture`: what is; `driver`: both, step by
//!   step; `commit_check`, `write_once`: what must hold of the disk

mod commit_check;
mod crash_points;
mod driver;
mod half_done;
mod limits;
mod operations;
mod picture;
mod reference;
mod seeds;
mod sequences;
#[path = "../support/mod.rs"]
mod support;
mod threads;
mod write_once;
