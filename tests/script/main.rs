//! Runs scripts from seeds over a whole volume: the short form of the fuzz target "script", which looks for longer.

mod script;
#[path = "../support/mod.rs"]
mod support;

use passkeyfs::crypto::{Randomness, SeededRandomness};

fn script_of(seed: u64) -> Vec<u8> {
    let randomness = SeededRandomness::new(seed);
    let mut script = vec![0; 60 + (randomness.u64() % 400) as usize];
    randomness.fill(&mut script);
    script
}

#[test]
fn the_scripts_are_written_where_a_fuzzer_begins() {
    let Some(folder) = std::env::var_os("PASSKEYFS_WRITE_CORPUS").map(std::path::PathBuf::from) else { return };
    let folder = folder.join("script");
    std::fs::create_dir_all(&folder).expect("a folder for the corpus");
    for seed in 0..40 {
        std::fs::write(folder.join(format!("sample-{seed:03}")), script_of(seed)).expect("room for a script");
    }
}

/// A script that broke a promise: `PASSKEYFS_SCRIPT=FILE` runs the one that a fuzzer left there.
#[test]
fn a_script_from_a_file_keeps_every_promise() {
    let Some(file) = std::env::var_os("PASSKEYFS_SCRIPT") else { return };
    script::run(&std::fs::read(file).expect("a script"));
}

#[test]
fn scripts_of_random_bytes_keep_every_promise() {
    let seeds = std::env::var("PASSKEYFS_SCRIPT_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(150);
    for seed in 0..seeds {
        println!("seed {seed}");
        script::run(&script_of(seed));
    }
}
