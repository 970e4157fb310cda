//! Which commit is opened when several devices write: journals on their own base, forks and the way out of them, commits
//! that are arriving, and parts of a newer format. Each device is a disk in memory; files are carried between them.

mod arriving;
mod bases;
mod features;
mod forks;
mod newer;
mod planted;
#[path = "../support/mod.rs"]
mod support;
