//! How fast a core encrypts, decrypts and tags: a floor below which something is broken, and the figures themselves.
//!
//! Only an optimised build says anything: `cargo test --release --test crypto_speed -- --nocapture`. The floor is far
//! below what a machine with AES instructions reaches, so that a busy one does not fail; it catches a cipher that fell
//! back to one block at a time, or to software.

use std::hint::black_box;
use std::time::Duration;

use aes::Aes256;
use aes::cipher::{Array, KeyInit};
use nix::time::{ClockId, clock_gettime};
use passkeyfs::crypto::EpochKey;
use xts_mode::{Xts128, get_tweak_default};

/// The time this thread has run: a busy machine makes a round longer, not slower.
fn thread_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("the kernel counts a thread's time").into()
}

/// Gigabytes in a second: the best of some rounds, since what disturbs a round only slows it.
fn gigabytes_per_second(unit_bytes: usize, mut work: impl FnMut(&mut [u8])) -> f64 {
    let mut buffer = vec![0x5a; unit_bytes];
    let mut best: f64 = 0.0;
    for _ in 0..8 {
        let (start, mut bytes) = (thread_time(), 0u64);
        while thread_time() - start < Duration::from_millis(20) {
            for _ in 0..16 {
                work(black_box(&mut buffer));
                bytes += unit_bytes as u64;
            }
        }
        best = best.max(bytes as f64 / (thread_time() - start).as_secs_f64() / 1e9);
    }
    best
}

#[test]
fn encrypt_and_tag_reach_the_floor_in_release() {
    if cfg!(debug_assertions) {
        return;
    }
    let key = EpochKey::from_bytes(&[7; 32]);
    let (cipher, tagger) = (key.unit_cipher(1, &[2; 16]), key.block_tagger());
    let oracle = Xts128::new(Aes256::new(&Array([7; 32])), Aes256::new(&Array([9; 32])));
    println!("AES in hardware: {}; GB/s of one core", aes::hardware_accelerated());
    for unit_bytes in [4 << 10, 64 << 10, (64 << 10) - 5] {
        let block_wise = gigabytes_per_second(unit_bytes, |unit| oracle.encrypt_sector(unit, get_tweak_default(1)));
        let encrypt = gigabytes_per_second(unit_bytes, |unit| cipher.encrypt(1, unit));
        let decrypt = gigabytes_per_second(unit_bytes, |unit| cipher.decrypt(1, unit));
        let tag = gigabytes_per_second(unit_bytes, |unit| {
            black_box(tagger.tag(1, 0, unit));
        });
        let both = gigabytes_per_second(unit_bytes, |unit| {
            black_box(tagger.tag(1, 0, unit));
            cipher.encrypt(1, unit);
        });
        println!(
            "{unit_bytes:6} bytes: xts-mode {block_wise:.2}  encrypt {encrypt:.2}  decrypt {decrypt:.2}  tag {tag:.2}  \
             encrypt and tag {both:.2}"
        );
        let floor = if aes::hardware_accelerated() { 0.5 } else { 0.02 };
        assert!(both >= floor, "encrypt and tag: {both:.2} GB/s in units of {unit_bytes} bytes");
    }
}
