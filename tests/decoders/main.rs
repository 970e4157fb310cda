//! Feeds every decoder with mutated valid inputs: each byte changed, cut off at each length, made longer, and bytes from
//! a seeded generator. None panics or takes memory without reason, and what is accepted encodes again (`checks.rs`).
//!
//! The same checks run under a fuzzer for as long as one likes: `scripts/fuzz.sh`, `docs/fuzzing.md`. The inputs that
//! those runs start from are the samples here: with `PASSKEYFS_WRITE_CORPUS=FOLDER` they are written there.

mod checks;
mod checks_above;
mod checks_helper;
mod memory;
mod samples;
#[path = "../support/mod.rs"]
mod support;

use checks::{DECODERS, Decoder};
use passkeyfs::crypto::{Randomness, SeededRandomness};

fn decoder(name: &str) -> &'static Decoder {
    DECODERS.iter().find(|decoder| decoder.name == name).unwrap_or_else(|| panic!("no decoder is called {name}"))
}

/// Runs `check` on the samples of every decoder of these groups.
fn for_each_sample(groups: &[&str], mut act: impl FnMut(&'static Decoder, &[u8])) {
    for (name, sample) in samples::samples() {
        let decoder = decoder(name);
        if groups.contains(&decoder.group) {
            act(decoder, &sample);
        }
    }
}

const GROUPS: [&str; 9] =
    ["segment", "journal", "items", "node", "vault", "codec", "authenticator", "options", "helper"];

#[test]
fn every_decoder_has_a_sample_and_accepts_it() {
    let mut seen = Vec::new();
    for_each_sample(&GROUPS, |decoder, sample| {
        assert!((decoder.check)(sample), "{}: a valid sample is refused", decoder.name);
        seen.push(decoder.name);
    });
    for decoder in DECODERS {
        assert!(seen.contains(&decoder.name), "{} has no sample", decoder.name);
    }
}

#[test]
fn changed_bytes_are_refused_or_read_as_another_valid_value() {
    for_each_sample(&GROUPS, |decoder, sample| {
        for offset in 0..sample.len() {
            for flip in [0x01, 0x80, 0xFF] {
                let mut changed = sample.to_vec();
                changed[offset] ^= flip;
                (decoder.check)(&changed);
            }
        }
    });
}

#[test]
fn shortened_and_lengthened_inputs_are_refused_or_read_as_another_valid_value() {
    for_each_sample(&GROUPS, |decoder, sample| {
        for length in 0..sample.len() {
            (decoder.check)(&sample[..length]);
        }
        for tail in [&[0][..], &[0xFF], &[0; 17], sample] {
            (decoder.check)(&[sample, tail].concat());
        }
    });
}

#[test]
fn bytes_from_a_seed_are_refused_or_read_as_a_valid_value() {
    let randomness = SeededRandomness::new(20_260_101);
    let below = |bound: u64| (randomness.u64() % bound) as usize;
    for_each_sample(&GROUPS, |decoder, sample| {
        for round in 0..300 {
            // Some bytes of the sample change, or pieces of it move; or nothing of it is left.
            let mut input = sample.to_vec();
            for _ in 0..1 + below(4) {
                let (at, from) = (below(input.len() as u64), below(input.len() as u64));
                match below(4) {
                    0 => input[at] = randomness.u64() as u8,
                    1 => input[at] = [0, 1, 0x7F, 0x80, 0xFF][below(5)],
                    2 => input[at..].rotate_left(1),
                    _ => input = [&input[..at.max(1)], &input[from..]].concat(),
                }
            }
            if round % 10 == 0 {
                input = vec![0; below(200)];
                randomness.fill(&mut input);
            }
            (decoder.check)(&input);
        }
    });
}

#[test]
fn the_samples_are_written_where_a_fuzzer_begins() {
    let Some(folder) = std::env::var_os("PASSKEYFS_WRITE_CORPUS").map(std::path::PathBuf::from) else { return };
    let mut number = 0;
    for_each_sample(&GROUPS, |decoder, sample| {
        let members = DECODERS.iter().filter(|other| other.group == decoder.group);
        let choice = members.map(|other| other.name).position(|name| name == decoder.name).expect("it is one of them");
        let folder = folder.join(decoder.group);
        std::fs::create_dir_all(&folder).expect("a folder for the corpus");
        number += 1;
        let input = [&[choice as u8][..], sample].concat();
        std::fs::write(folder.join(format!("sample-{number:03}")), input).expect("room for a sample");
    });
}
