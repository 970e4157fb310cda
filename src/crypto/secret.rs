//! Secrets in memory: on pages of their own, locked where allowed, overwritten when dropped.
//!
//! Relies on `mmap`, `mlock` and `madvise`. Promises of a [`Secret`] that no copy is made by accident, that it is not
//! printed, not compared in variable time, not written to swap while the limit on locked memory lasts, not put in a core
//! dump, and gone when dropped.
//!
//! Every secret has a mapping of its own, a whole page, not a place on the heap: `munlock` works on pages and does not
//! count, so with two secrets on a page the first one dropped would unlock the other. Unmapping ends the lock with the
//! page. The price, 4 KiB and four system calls each, is fine for what lies here: a few keys for the vault, and a pair
//! of AES key schedules for each open segment. `RLIMIT_MEMLOCK` (8 MiB under systemd) has room for two thousand;
//! beyond it a secret is still kept, not locked.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fmt;
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mlock, mmap_anonymous, munmap};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroize;

/// A value on pages of its own.
///
/// When dropped, the value is dropped, its bytes are overwritten, and the pages go back to the kernel.
pub(super) struct LockedPages<T> {
    value: NonNull<T>,
}

impl<T> LockedPages<T> {
    const BYTES: NonZeroUsize = NonZeroUsize::new(size_of::<T>()).expect("a secret has a size");

    /// Moves `value` to locked pages. The place it was moved from is the caller's to overwrite.
    ///
    /// # Panics
    /// When the kernel has no page left: as any allocation does.
    pub(super) fn new(value: T) -> Self {
        const { assert!(align_of::<T>() <= 4096, "a mapping begins on a page") };
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new private mapping at a place the kernel chooses; no memory of ours is touched.
        let mapping = unsafe { mmap_anonymous(None, Self::BYTES, protection, MapFlags::MAP_PRIVATE) };
        let mapping = mapping.expect("the kernel has a page for a secret");
        // SAFETY: both calls get exactly the mapping made above, and change neither its content nor its validity.
        unsafe {
            // Both are best effort: without them the secret is less sheltered, and as correct.
            let _ = mlock(mapping, Self::BYTES.get());
            let _ = madvise(mapping, Self::BYTES.get(), MmapAdvise::MADV_DONTDUMP);
        }
        let place = mapping.cast::<T>();
        // SAFETY: the mapping is writable, ours alone, at least as large as T, and aligned to a page.
        unsafe { place.write(value) };
        Self { value: place }
    }
}

impl<T> Deref for LockedPages<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `new` wrote a T there; it stays until drop, and is lent out mutably by `get_mut` alone.
        unsafe { self.value.as_ref() }
    }
}

impl<T> LockedPages<T> {
    fn get_mut(&mut self) -> &mut T {
        // SAFETY: as in `deref`, and `&mut self` says that nobody else holds a reference.
        unsafe { self.value.as_mut() }
    }
}

impl<T> Drop for LockedPages<T> {
    fn drop(&mut self) {
        // SAFETY: the value is dropped once, here. After that its bytes are treated as uninitialised memory of the same
        // size, in a mapping that is still ours, and then the mapping goes. Nothing refers to it any more.
        unsafe {
            self.value.drop_in_place();
            let bytes = self.value.cast::<MaybeUninit<u8>>();
            std::slice::from_raw_parts_mut(bytes.as_ptr(), Self::BYTES.get()).zeroize();
            let _ = munmap(self.value.cast::<c_void>(), Self::BYTES.get());
        }
    }
}

// SAFETY: LockedPages owns its value as a Box does; the pages belong to the process, not to a thread.
unsafe impl<T: Send> Send for LockedPages<T> {}
// SAFETY: as above; `&LockedPages<T>` gives nothing but `&T`.
unsafe impl<T: Sync> Sync for LockedPages<T> {}

/// `N` secret bytes.
pub struct Secret<const N: usize> {
    bytes: LockedPages<[u8; N]>,
}

impl<const N: usize> Secret<N> {
    /// Takes `bytes` in, and overwrites the copy that the call made. The caller's own copy, if any, is the caller's.
    pub fn new(mut bytes: [u8; N]) -> Self {
        let secret = Self::filled(|place| place.copy_from_slice(&bytes));
        bytes.zeroize();
        secret
    }

    /// Lets `fill` write the bytes where they will stay, so that no other copy comes to be. They are zero before.
    pub fn filled(fill: impl FnOnce(&mut [u8; N])) -> Self {
        let mut secret = Self { bytes: LockedPages::new([0; N]) };
        fill(secret.bytes.get_mut());
        secret
    }

    /// As [`filled`](Self::filled), for a source that may fail; what it wrote by then is overwritten.
    pub fn try_filled<E>(fill: impl FnOnce(&mut [u8; N]) -> Result<(), E>) -> Result<Self, E> {
        let mut secret = Self { bytes: LockedPages::new([0; N]) };
        fill(secret.bytes.get_mut())?;
        Ok(secret)
    }

    /// Lends the bytes. What is copied from them is no longer sheltered.
    pub fn expose(&self) -> &[u8; N] {
        &self.bytes
    }

    /// Makes a second secret of the same bytes.
    pub fn duplicate(&self) -> Self {
        Self::filled(|place| place.copy_from_slice(self.expose()))
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(..)")
    }
}

impl<const N: usize> ConstantTimeEq for Secret<N> {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.expose().as_slice().ct_eq(other.expose().as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many kibibytes of the mapping at `address` the kernel says are `field`.
    fn mapping_kib(address: usize, field: &str) -> Option<u64> {
        let maps = std::fs::read_to_string("/proc/self/smaps").ok()?;
        let mut inside = false;
        for line in maps.lines() {
            let first = line.split_ascii_whitespace().next()?;
            if let Some((start, end)) = first.split_once('-') {
                let range = usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?;
                inside = range.contains(&address);
            } else if inside && first == field {
                return line.split_ascii_whitespace().nth(1)?.parse().ok();
            }
        }
        None
    }

    #[test]
    fn a_secret_keeps_its_bytes_and_shows_none() {
        let secret = Secret::new([0xab; 32]);
        assert_eq!(secret.expose(), &[0xab; 32]);
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        let twin = secret.duplicate();
        drop(secret);
        assert!(bool::from(twin.ct_eq(&Secret::new([0xab; 32]))));
        assert!(!bool::from(twin.ct_eq(&Secret::new([0xac; 32]))));
    }

    #[test]
    fn dropping_one_secret_leaves_the_others_locked() {
        let secrets: Vec<_> = (0..8u8).map(|byte| Secret::new([byte; 64])).collect();
        let address = secrets[5].expose().as_ptr() as usize;
        let Some(before) = mapping_kib(address, "Locked:") else { return };
        let mut secrets = secrets;
        let kept = secrets.remove(5);
        drop(secrets);
        let after = mapping_kib(address, "Locked:").expect("the kept secret is still mapped");
        assert_eq!(before > 0, after > 0, "the lock of the kept secret changed");
        assert_eq!(kept.expose(), &[5; 64]);
    }

    #[test]
    fn a_failing_source_makes_no_secret() {
        assert_eq!(Secret::<16>::try_filled(|_| Err("broken")).err(), Some("broken"));
    }
}
