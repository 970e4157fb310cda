//! Fuzzes a whole volume with scripts of operations, failing calls and power losses. See `tests/script/script.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| passkeyfs_fuzz::script::run(input));
