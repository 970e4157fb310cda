//! What the fuzz targets share with the ordinary tests: the checks themselves. See `docs/fuzzing.md`.

#[path = "../../decoders/checks.rs"]
pub mod checks;
#[path = "../../decoders/checks_above.rs"]
mod checks_above;
#[path = "../../decoders/memory.rs"]
mod memory;
#[path = "../../script/script.rs"]
pub mod script;
#[path = "../../support/mod.rs"]
mod support;

/// A fuzz target for one group of decoders.
#[macro_export]
macro_rules! decoder_target {
    ($group:literal) => {
        libfuzzer_sys::fuzz_target!(|input: &[u8]| $crate::checks::check_group($group, input));
    };
}
