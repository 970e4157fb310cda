//! Names that nobody vouches for: whoever has the vault folder can plant, rename, empty and duplicate files in it. None of
//! that makes a device panic, hang, lose what was synced, or stay locked out after the files are gone.
//!
//! - `numbers`: sequence numbers; `twins`: files that bear the id of a true segment; `crowds`: very many names
//! - `unlisted`: folders and files that may not be read; `inside`: a panic amid publishing
//! - `exchanged`: true files whose content is exchanged or withheld, and what they show; `fuzz`: random folders

mod crowds;
mod double;
mod exchanged;
mod fuzz;
mod inside;
mod numbers;
mod scene;
#[path = "../support/mod.rs"]
mod support;
mod twins;
mod unlisted;
