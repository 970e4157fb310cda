//! On two processors: keeps a program, and the thread that serves it, together on one.
//!
//! A program that sends one request after the other sleeps while it is served, and who serves it sleeps while it works:
//! one processor is enough for both. But each time that one wakes the other, the scheduler sees the second processor idle
//! and puts the woken one there. In a virtual machine, waking an idle processor takes longer than most requests (about
//! 25 us; changing from one to the other on the same processor takes 2). So during such a run of requests, who serves is
//! bound to the processor of the program, and a thread of its own, the vigil, keeps the other one awake. Whoever wants
//! that processor gets it: the vigil has the lowest priority, gives way all the time, and rests when the processor was in
//! use.
//!
//! What that costs: the other processor's time, within the bounds of `burst.rs`.
//!
//! With more processors there is always an idle one to be put on; there, who serves looks out (`lookout.rs`).

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::burst::{Burst, NOBODY, Step};
use super::processors::{self, Processor};

/// When the vigil has not run for so long, others use the processor: it needs nobody to keep it awake.
const WANTED_MIN: Duration = Duration::from_micros(300);

/// How often the vigil gives way: meanwhile it waits in a way that leaves a core's other hyperthread alone.
const SPINS: u32 = 20;

/// The vigil of one connection.
#[derive(Debug)]
pub(super) struct Vigil {
    processors: [Processor; 2],
    serving: Mutex<Serving>,
    watch: Arc<Watch>,
    /// Started for the first vigil. None: it could not be.
    thread: OnceLock<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Serving {
    burst: Burst,
    /// Where requests are served during a vigil.
    home: Option<Processor>,
}

impl Vigil {
    /// None unless there are just two processors. Costs nothing until a program sends requests in a row.
    pub fn on_two_processors() -> Option<Self> {
        processors::two().map(Self::new)
    }

    fn new(processors: [Processor; 2]) -> Self {
        Self { processors, serving: Mutex::default(), watch: Arc::default(), thread: OnceLock::new() }
    }

    /// This thread is about to serve a request of that thread of a program. Binds it to the program's processor during a
    /// vigil, and lets it go when that is over.
    pub fn serve(&self, caller: u32) {
        let home = self.home_for(caller);
        processors::bind(home);
    }

    /// This thread is about to do something else, and may start threads for it: ends the vigil, and lets it go.
    pub fn leave(&self) {
        self.serve(NOBODY);
    }

    fn home_for(&self, caller: u32) -> Option<Processor> {
        let now = self.watch.begun.elapsed();
        let mut serving = self.serving.lock();
        match serving.burst.note(caller, now, self.watch.is_kept()) {
            Step::Nothing => {}
            Step::Prolong(until) => self.watch.prolong(until),
            Step::End => {
                if self.watch.end() {
                    serving.burst.rest(now);
                }
                serving.home = None;
            }
            Step::Begin(until) => {
                serving.home = self.begin(caller, until);
                if serving.home.is_none() {
                    serving.burst.rest(now);
                }
            }
        }
        serving.home
    }

    /// Begins a vigil; the processor to serve on meanwhile. None when there is nothing to gain: the program is not to be
    /// seen, or may run on others than these processors.
    fn begin(&self, caller: u32, until: Duration) -> Option<Processor> {
        let [first, second] = self.processors;
        let home = processors::processor_of(caller)?;
        let away = match home {
            _ if home == first => second,
            _ if home == second => first,
            _ => return None,
        };
        let thread = self.thread.get_or_init(|| {
            let watch = Arc::clone(&self.watch);
            std::thread::Builder::new().name("vigil".into()).spawn(move || watch.run()).ok()
        });
        let thread = thread.as_ref()?.thread();
        self.watch.begin(away, until);
        thread.unpark();
        Some(home)
    }
}

impl Drop for Vigil {
    fn drop(&mut self) {
        self.watch.is_over.store(true, Ordering::Release);
        self.watch.end();
        if let Some(Some(thread)) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                log::error!("the vigil had panicked");
            }
        }
    }
}

/// What the vigil's thread and those who serve share.
#[derive(Debug)]
struct Watch {
    begun: Instant,
    /// How long the vigil is kept, in microseconds since `begun`. 0: there is none.
    until: AtomicU64,
    /// The processor that is kept awake.
    away: AtomicUsize,
    /// Others wanted it.
    is_wanted: AtomicBool,
    /// The connection has ended.
    is_over: AtomicBool,
}

impl Default for Watch {
    fn default() -> Self {
        let [is_wanted, is_over] = [false; 2].map(AtomicBool::new);
        Self { begun: Instant::now(), until: AtomicU64::new(0), away: AtomicUsize::new(0), is_wanted, is_over }
    }
}

impl Watch {
    fn is_kept(&self) -> bool {
        self.until.load(Ordering::Relaxed) != 0
    }

    fn begin(&self, away: Processor, until: Duration) {
        self.is_wanted.store(false, Ordering::Relaxed);
        self.away.store(away.0, Ordering::Relaxed);
        self.until.store(until.as_micros() as u64, Ordering::Release);
    }

    /// Has no effect on a vigil that ends at this moment: the next request sees that it did.
    fn prolong(&self, until: Duration) {
        let prolonged = |before| (before != 0).then_some(until.as_micros() as u64);
        self.until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, prolonged).ok();
    }

    /// Ends the vigil, if it has not ended by itself; whether it did for others wanted the processor.
    fn end(&self) -> bool {
        self.until.store(0, Ordering::Release);
        self.is_wanted.load(Ordering::Relaxed)
    }

    /// The thread.
    fn run(&self) {
        processors::take_lowest_priority();
        while !self.is_over.load(Ordering::Acquire) {
            std::thread::park();
            self.keep();
        }
    }

    /// One vigil, or several that follow each other at once. Ends with `until` 0.
    fn keep(&self) {
        let mut before = self.begun.elapsed();
        loop {
            let until = self.until.load(Ordering::Acquire);
            if until == 0 {
                return;
            }
            processors::bind(Some(Processor(self.away.load(Ordering::Relaxed))));
            // Whoever else wants this processor has it now.
            std::thread::yield_now();
            (0..SPINS).for_each(|_| std::hint::spin_loop());
            let now = self.begun.elapsed();
            let is_wanted = now - before > WANTED_MIN;
            before = now;
            if is_wanted || now.as_micros() as u64 > until {
                self.is_wanted.store(is_wanted, Ordering::Relaxed);
                // Prolonged meanwhile: then it goes on.
                self.until.compare_exchange(until, 0, Ordering::Release, Ordering::Relaxed).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::unistd::gettid;

    fn wait_until(condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn who_serves_is_bound_to_the_callers_processor_and_let_go_when_the_vigil_is_over() {
        // Elsewhere there is no vigil to test.
        let Some(vigil) = Vigil::on_two_processors() else { return };
        let allowed = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
        let bound = || nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
        let this = gettid().as_raw().unsigned_abs();
        // Others may want the processor, or this thread may not get on: a vigil is tried again.
        let mut vigils = 0;
        for _ in 0..100_000 {
            vigil.serve(this);
            if bound() != allowed {
                vigils += 1;
                break;
            }
        }
        assert_eq!(vigils, 1, "a row as quick as that has a vigil");
        wait_until(|| !vigil.watch.is_kept());
        vigil.serve(this);
        assert_eq!(bound(), allowed);
        assert_eq!(vigil.serving.lock().home, None);
    }

    #[test]
    fn the_thread_ends_with_its_vigil_even_in_the_midst_of_one() {
        let vigil = Vigil::new([Processor(0), Processor(1)]);
        vigil.watch.begin(Processor(0), Duration::from_secs(10_000));
        let watch = Arc::clone(&vigil.watch);
        let thread = std::thread::spawn({
            let watch = Arc::clone(&watch);
            move || watch.run()
        });
        thread.thread().unpark();
        vigil.thread.set(Some(thread)).unwrap();
        drop(vigil);
        assert_eq!(Arc::strong_count(&watch), 1, "the thread has ended");
    }

    #[test]
    fn a_vigil_ends_by_itself_when_no_more_requests_come() {
        let watch = Watch::default();
        watch.begin(Processor(0), watch.begun.elapsed() + Duration::from_millis(2));
        watch.keep();
        assert!(!watch.is_kept());
        watch.prolong(Duration::from_secs(1));
        assert!(!watch.is_kept(), "what is over is not prolonged");
    }
}
