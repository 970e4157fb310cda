//! Counts what a decoder allocates, so that a few bytes cannot ask for all memory.
//!
//! The binary that uses this module gets an allocator that counts for the current thread how many bytes are allocated at
//! once, and remembers the most. What C code allocates for itself (zstd's own tables, of fixed size) is not counted.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LIVE_BYTES: Cell<isize> = const { Cell::new(0) };
    static PEAK_BYTES: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note(bytes: isize) {
    // A thread that is ending has no counters any more, and nothing to count.
    let _ = LIVE_BYTES.try_with(|live| {
        live.set(live.get() + bytes);
        PEAK_BYTES.try_with(|peak| peak.set(peak.get().max(live.get())))
    });
}

// SAFETY: every call is handed to the system's allocator as it came; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as isize);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        note(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, new_bytes: usize) -> *mut u8 {
        // Old and new may be there at the same time.
        note(new_bytes as isize);
        note(-(layout.size() as isize));
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, new_bytes) }
    }
}

/// Runs `act`, and answers how many bytes it had allocated at the most at one time, beyond those before.
pub fn peak_bytes<T>(act: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE_BYTES.get();
    PEAK_BYTES.set(before);
    let result = act();
    (result, usize::try_from(PEAK_BYTES.get() - before).unwrap_or(0))
}
