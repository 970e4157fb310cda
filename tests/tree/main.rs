//! The tree over blocks in memory: against a `BTreeMap` (`model`), what it reads and writes (`costs`), and the difference
//! of two (`differences`).

mod blocks;
mod costs;
mod differences;
mod model;
