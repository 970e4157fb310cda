//! What the fuzz targets share with the ordinary tests: the checks themselves. See `docs/fuzzing.md`.

#[path = "../../decoders/checks.rs"]
pub mod checks;
#[path = "../../decoders/checks_above.rs"]
mod checks_above;
#[path = "../../decoders/checks_helper.rs"]
mod checks_helper;
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
        libfuzzer_sys::fuzz_target!(|input: &[u8]| $crate::check_group($group, input));
    };
}

/// Lets the first byte choose a decoder of the group, and checks the rest.
pub fn check_group(group: &str, input: &[u8]) {
    let Some((choice, input)) = input.split_first() else { return };
    let members: Vec<_> = checks::DECODERS.iter().filter(|decoder| decoder.group == group).collect();
    (members[usize::from(*choice) % members.len()].check)(input);
}
