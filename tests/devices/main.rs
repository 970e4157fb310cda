//! Two devices, each with a vault folder and a local state of its own, between which a sync client carries files one by one.

mod orders;
mod pair;
#[path = "../support/mod.rs"]
mod support;
