//! The tree over blocks in memory: against a `BTreeMap` (`model`), and what it reads and writes (`costs`).

mod blocks;
mod costs;
mod model;
