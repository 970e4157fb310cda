//! On two processors: keeps a program, and the thread that serves it, together on one.
//!
//! A program that sends one request after the other sleeps while it is served, and who serves it sleeps while it works:
//! one processor is enough for both. But each time that one wakes the other, the scheduler sees the second processor idle
//! and puts the woken one there. In a virtual machine, waking an idle processor takes longer than most requests (about
//! 25 us; changing from one to the other on the same processor takes 2). So during such a run of requests, who serves is
//! bound to the processor of the program, and a thread of its own, the vigil, keeps the other one awake. Whoever wants
//! that processor gets it: the vigil has the lowest priority, and gives way all the time.
//!
//! It is not for programs that send requests without waiting for replies (asynchronous and direct I/O, reading ahead):
//! these are served by several threads on both processors. They are known by requests that come while another one is
//! served.
//!
//! What it costs: the other processor's time, within the bounds of `burst.rs`.
//!
//! There is none where the program cannot be seen (`hidepid`, another namespace of processes), and none with more
//! processors, for there is always an idle one to be put on: there, who serves looks out all the time (`lookout.rs`).

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::burst::{Burst, NOBODY, Step};
use super::poll_before_sleep::has_request;
use super::processors::{self, Processor};

/// How often the vigil gives way: meanwhile it waits in a way that leaves a core's other hyperthread alone.
const SPINS: u32 = 20;

/// After how many requests during a vigil it is looked where the program is now: the scheduler may have moved it.
const REQUESTS_BETWEEN_LOOKS: u32 = 256;

/// After how many it is looked whether another one has come before the reply.
const REQUESTS_BETWEEN_DOUBTS: u32 = 32;

/// How many such looks in a row end the vigil: now and then the kernel reads ahead for a program that waits for replies.
const DOUBTS_MAX: u32 = 4;

/// The vigil of one connection.
#[derive(Debug)]
pub(in crate::mount) struct Vigil {
    processors: [Processor; 2],
    connection: OwnedFd,
    /// Requests that threads are at work on.
    in_service: AtomicU32,
    /// Requests that nobody waits for, since the last doubt: a program that waits for replies may have some of them behind it.
    unawaited: AtomicU32,
    serving: Mutex<Serving>,
    watch: Arc<Watch>,
    /// Started for the first vigil. None: it could not be.
    thread: OnceLock<Option<Thread>>,
}

#[derive(Debug, Default)]
struct Serving {
    burst: Burst,
    /// Where requests are served during a vigil.
    home: Option<Processor>,
    /// How often in a row a request was there before the reply to the one before.
    doubts: u32,
}

/// A request being served.
pub(super) struct Service<'a> {
    vigil: &'a Vigil,
    is_doubtful: bool,
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        self.vigil.in_service.fetch_sub(1, Ordering::Relaxed);
        if self.is_doubtful {
            self.vigil.doubt();
        }
    }
}

impl Vigil {
    /// For the connection of this file descriptor. None unless the machine has just two processors. Costs nothing until a
    /// program sends requests in a row.
    pub(in crate::mount) fn on_two_processors(connection: OwnedFd) -> Option<Self> {
        processors::two().map(|both| Self::new(connection, both))
    }

    fn new(connection: OwnedFd, processors: [Processor; 2]) -> Self {
        let (in_service, unawaited, serving, watch) = Default::default();
        Self { processors, connection, in_service, unawaited, serving, watch, thread: OnceLock::new() }
    }

    /// This thread is about to serve a request of that thread of a program, until the answer is dropped, which is to be
    /// before the reply. Binds it to the program's processor during a vigil, and lets it go when that is over.
    /// None for a request that nobody waits for.
    pub(super) fn serve(&self, caller: u32, is_awaited: bool) -> Option<Service<'_>> {
        if !is_awaited {
            self.unawaited.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let is_alone = self.in_service.fetch_add(1, Ordering::Relaxed) == 0;
        let (home, is_doubtful) = self.home_for(if is_alone { caller } else { NOBODY });
        processors::bind(home);
        Some(Service { vigil: self, is_doubtful })
    }

    /// This thread is about to do something else, and may start threads for it: ends the vigil, and lets it go.
    pub(in crate::mount) fn leave(&self) {
        self.home_for(NOBODY);
        processors::bind(None);
    }

    /// Where to serve, if there is a vigil, and whether to doubt before the reply that it is of use.
    fn home_for(&self, caller: u32) -> (Option<Processor>, bool) {
        let now = self.watch.begun.elapsed();
        let mut serving = self.serving.lock();
        match serving.burst.note(caller, now, self.watch.is_kept()) {
            Step::Nothing => {}
            Step::Prolong(until) => {
                self.watch.prolong(until);
                if serving.burst.length().is_multiple_of(REQUESTS_BETWEEN_LOOKS)
                    && let Some((home, away)) = self.places(caller)
                {
                    self.watch.keep_awake(away);
                    serving.home = Some(home);
                }
            }
            Step::End => {
                self.watch.end();
                serving.home = None;
            }
            Step::Begin(until) => {
                serving.home = self.begin(caller, until);
                if serving.home.is_none() {
                    serving.burst.rest(now);
                }
            }
        }
        let is_doubtful = serving.home.is_some() && serving.burst.length().is_multiple_of(REQUESTS_BETWEEN_DOUBTS);
        (serving.home, is_doubtful)
    }

    /// Begins a vigil; the processor to serve on meanwhile. None when the program is not to be seen.
    fn begin(&self, caller: u32, until: Duration) -> Option<Processor> {
        let (home, away) = self.places(caller)?;
        let thread = self.thread.get_or_init(|| {
            let watch = Arc::clone(&self.watch);
            let started = std::thread::Builder::new().name("vigil".into()).spawn(move || watch.run());
            started.ok().map(|handle| handle.thread().clone())
        });
        let thread = thread.as_ref()?;
        self.watch.keep_awake(away);
        self.watch.begin(until);
        thread.unpark();
        Some(home)
    }

    /// The processor of a program, and the other one.
    fn places(&self, caller: u32) -> Option<(Processor, Processor)> {
        let [first, second] = self.processors;
        match processors::processor_of(caller)? {
            home if home == first => Some((home, second)),
            home if home == second => Some((home, first)),
            _ => None,
        }
    }

    /// Looks for a request that is there before the reply to the one before: its program does not wait for replies.
    fn doubt(&self) {
        // One that somebody waits for may be behind them.
        if self.unawaited.swap(0, Ordering::Relaxed) > 0 {
            return;
        }
        let is_early = has_request(self.connection.as_fd());
        let mut serving = self.serving.lock();
        serving.doubts = if is_early { serving.doubts + 1 } else { 0 };
        if serving.doubts == DOUBTS_MAX {
            self.watch.end();
            (serving.home, serving.doubts) = (None, 0);
            serving.burst.rest(self.watch.begun.elapsed());
        }
    }
}

impl Drop for Vigil {
    /// Does not wait for the thread, which ends when it gets its processor: that may take long where others work.
    fn drop(&mut self) {
        self.watch.is_over.store(true, Ordering::Release);
        self.watch.end();
        if let Some(Some(thread)) = self.thread.get() {
            thread.unpark();
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
    /// The connection has ended.
    is_over: AtomicBool,
}

impl Default for Watch {
    fn default() -> Self {
        let (until, away, is_over) = Default::default();
        Self { begun: Instant::now(), until, away, is_over }
    }
}

impl Watch {
    fn is_kept(&self) -> bool {
        self.until.load(Ordering::Relaxed) != 0
    }

    fn keep_awake(&self, away: Processor) {
        self.away.store(away.0, Ordering::Relaxed);
    }

    fn begin(&self, until: Duration) {
        self.until.store(until.as_micros() as u64, Ordering::Release);
    }

    /// Has no effect on a vigil that ends at this moment: the next request sees that it did.
    fn prolong(&self, until: Duration) {
        let prolonged = |before| (before != 0).then_some(until.as_micros() as u64);
        self.until.fetch_update(Ordering::Relaxed, Ordering::Relaxed, prolonged).ok();
    }

    fn end(&self) {
        self.until.store(0, Ordering::Release);
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
        loop {
            let until = self.until.load(Ordering::Acquire);
            if until == 0 {
                return;
            }
            processors::bind(Some(Processor(self.away.load(Ordering::Relaxed))));
            // Whoever else wants this processor has it now.
            std::thread::yield_now();
            (0..SPINS).for_each(|_| std::hint::spin_loop());
            if self.begun.elapsed().as_micros() as u64 > until {
                // Prolonged meanwhile: then it goes on.
                self.until.compare_exchange(until, 0, Ordering::Release, Ordering::Relaxed).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use nix::sched::{CpuSet, sched_getaffinity};
    use nix::unistd::{Pid, gettid};

    use super::*;

    fn new_vigil() -> Option<(Vigil, UnixStream)> {
        let (ours, kernels) = UnixStream::pair().unwrap();
        Some((Vigil::on_two_processors(ours.into())?, kernels))
    }

    fn this_thread() -> u32 {
        gettid().as_raw().unsigned_abs()
    }

    fn allowed() -> CpuSet {
        sched_getaffinity(Pid::from_raw(0)).unwrap()
    }

    fn wait_until(condition: impl Fn() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Requests of this thread, which serves them itself, until there is a vigil.
    fn serve_until_bound(vigil: &Vigil) {
        let before = allowed();
        // This thread may not always get on quickly enough.
        assert!((0..1_000_000).any(|_| {
            drop(vigil.serve(this_thread(), true));
            allowed() != before
        }));
    }

    #[test]
    fn who_serves_is_bound_to_the_callers_processor_and_let_go_when_the_vigil_is_over() {
        // Elsewhere there is no vigil to test.
        let Some((vigil, _kernels)) = new_vigil() else { return };
        let before = allowed();
        serve_until_bound(&vigil);
        wait_until(|| !vigil.watch.is_kept());
        drop(vigil.serve(this_thread(), true));
        assert_eq!((allowed(), vigil.serving.lock().home), (before, None));
        serve_until_bound(&vigil);
        vigil.leave();
        assert_eq!((allowed(), vigil.watch.is_kept()), (before, false));
    }

    #[test]
    fn requests_that_do_not_wait_for_each_other_end_the_vigil() {
        let Some((vigil, _kernels)) = new_vigil() else { return };
        let before = allowed();
        serve_until_bound(&vigil);
        let first = vigil.serve(this_thread(), true);
        let second = vigil.serve(this_thread(), true);
        assert_eq!((allowed(), vigil.watch.is_kept()), (before, false));
        drop((first, second));
        assert_eq!(vigil.in_service.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_request_that_is_there_before_the_reply_ends_the_vigil_unless_nobody_waits_for_it() {
        let Some((vigil, mut kernels)) = new_vigil() else { return };
        let before = allowed();
        // The kernel's side: a request waits all the time.
        kernels.write_all(b"request").unwrap();
        let longest_vigil = |unawaited: bool| {
            let mut lengths = vec![0];
            for _ in 0..100_000 {
                if unawaited {
                    drop(vigil.serve(this_thread(), false));
                }
                drop(vigil.serve(this_thread(), true));
                match allowed() == before {
                    true => lengths.push(0),
                    false => *lengths.last_mut().unwrap() += 1,
                }
            }
            lengths.into_iter().max().unwrap()
        };
        let in_doubt = REQUESTS_BETWEEN_DOUBTS * DOUBTS_MAX;
        assert!((1..=in_doubt).contains(&longest_vigil(false)));
        assert!(longest_vigil(true) > in_doubt);
        vigil.leave();
    }

    #[test]
    fn the_thread_ends_with_its_vigil_even_in_the_midst_of_one() {
        let vigil = Vigil::new(UnixStream::pair().unwrap().0.into(), [Processor(0), Processor(1)]);
        vigil.watch.begin(Duration::from_secs(10_000));
        let (entered, watch) = (Arc::new(AtomicBool::new(false)), Arc::clone(&vigil.watch));
        let thread = std::thread::spawn({
            let entered = Arc::clone(&entered);
            move || {
                entered.store(true, Ordering::Release);
                watch.keep();
                watch.run();
            }
        });
        vigil.thread.set(Some(thread.thread().clone())).unwrap();
        wait_until(|| entered.load(Ordering::Acquire));
        // Time to get into the vigil: one that ended before it began would prove nothing.
        std::thread::sleep(Duration::from_millis(50));
        assert!(!thread.is_finished());
        drop(vigil);
        wait_until(|| thread.is_finished());
        thread.join().unwrap();
    }

    #[test]
    fn a_vigil_ends_by_itself_when_no_more_requests_come() {
        let watch = Watch::default();
        watch.begin(watch.begun.elapsed() + Duration::from_millis(2));
        watch.keep();
        assert!(!watch.is_kept());
        watch.prolong(Duration::from_secs(1));
        assert!(!watch.is_kept(), "what is over is not prolonged");
    }
}
