//! Fuzzes the decoders of the group "helper": the first byte chooses one. See `tests/decoders/checks.rs`.
#![no_main]

passkeyfs_fuzz::decoder_target!("helper");
