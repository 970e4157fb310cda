//! Which processors there are, where a thread runs, and binding one of ours to a processor (sched_setaffinity(2)).

use std::cell::RefCell;
use std::fs;
use std::num::NonZeroUsize;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{Pid, SysconfVar, sysconf};
use rustix::process::setpriority_process;

/// The calling thread, for the kernel.
const THIS_THREAD: Pid = Pid::from_raw(0);

/// Place of `processor` in /proc/PID/stat behind the name, which ends with the last parenthesis (proc_pid_stat(5): field 39).
const PROCESSOR_FIELD: usize = 36;

/// The highest nice value.
const LOWEST_PRIORITY: i32 = 19;

/// The number of a processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Processor(pub usize);

thread_local! {
    /// The processor that this thread is bound to, and where it might run before.
    static BOUND: RefCell<Option<(Processor, CpuSet)>> = const { RefCell::new(None) };
}

/// How many processors we may use, by affinity and by quota (cgroups).
pub(super) fn count() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
}

/// The machine's processors, if they are two, and we may use both in full.
pub(super) fn two() -> Option<[Processor; 2]> {
    let online = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten()?;
    let allowed = sched_getaffinity(THIS_THREAD).ok()?;
    let mut numbers = (0..CpuSet::count()).filter(|number| allowed.is_set(*number) == Ok(true)).map(Processor);
    match (numbers.next(), numbers.next(), numbers.next()) {
        (Some(first), Some(second), None) if count() == 2 && online == 2 => Some([first, second]),
        _ => None,
    }
}

/// The processor that a thread runs on, or ran on last. None if it is not to be seen (it has ended, or `hidepid`).
pub(super) fn processor_of(thread: u32) -> Option<Processor> {
    let status = fs::read_to_string(format!("/proc/{thread}/stat")).ok()?;
    let (_name, fields) = status.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(PROCESSOR_FIELD)?.parse().ok().map(Processor)
}

/// Binds this thread to `home`, or lets it run again where it might before it was bound. Threads and processes that it
/// starts meanwhile would be bound as well.
pub(super) fn bind(home: Option<Processor>) {
    BOUND.with_borrow_mut(|bound| match (home, bound.as_ref()) {
        (None, None) => {}
        (Some(home), Some((processor, _))) if *processor == home => {}
        (None, Some((_, before))) => {
            // It fails when these processors are gone: then the kernel has freed the thread.
            sched_setaffinity(THIS_THREAD, &unless_all(*before)).ok();
            *bound = None;
        }
        (Some(home), _) => {
            let before = bound.map_or_else(|| sched_getaffinity(THIS_THREAD), |(_, before)| Ok(before));
            let mut only = CpuSet::new();
            if let (Ok(before), Ok(())) = (before, only.set(home.0))
                && sched_setaffinity(THIS_THREAD, &only).is_ok()
            {
                *bound = Some((home, before));
            }
        }
    });
}

/// Whether this thread is bound.
pub(super) fn is_bound() -> bool {
    BOUND.with_borrow(Option::is_some)
}

/// The processors to let a thread go to that might use these before. Where it might use all of the machine it may use what
/// is added later, too: the kernel does not know any more that it was never bound.
fn unless_all(before: CpuSet) -> CpuSet {
    let online = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    let allowed = (0..CpuSet::count()).filter(|number| before.is_set(*number) == Ok(true)).count();
    if online.and_then(|online| usize::try_from(online).ok()).is_none_or(|online| allowed < online) {
        return before;
    }
    let mut all = CpuSet::new();
    (0..CpuSet::count()).for_each(|number| _ = all.set(number));
    all
}

/// Lets other threads run before this one: it gets what they leave, whichever session they belong to (sched(7): the weight
/// of a group on a processor is that of its threads there).
pub(super) fn take_lowest_priority() {
    // setpriority(2): on Linux, "the calling process" is the calling thread.
    if let Err(error) = setpriority_process(None, LOWEST_PRIORITY) {
        log::debug!("a thread keeps its priority: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_bound_moved_and_let_go_again() {
        let allowed = sched_getaffinity(THIS_THREAD).unwrap();
        let mut numbers = (0..CpuSet::count()).filter(|number| allowed.is_set(*number).unwrap()).map(Processor);
        let first = numbers.next().unwrap();
        let last = numbers.next_back().unwrap_or(first);
        for home in [first, first, last, first] {
            bind(Some(home));
            let bound = sched_getaffinity(THIS_THREAD).unwrap();
            assert!((0..CpuSet::count()).all(|number| bound.is_set(number).unwrap() == (number == home.0)));
            assert_eq!(processor_of(nix::unistd::gettid().as_raw().unsigned_abs()), Some(home));
        }
        bind(None);
        assert_eq!(sched_getaffinity(THIS_THREAD).unwrap(), allowed);
        bind(None);
        assert_eq!(sched_getaffinity(THIS_THREAD).unwrap(), allowed);
    }

    #[test]
    fn a_thread_bound_to_a_processor_that_is_not_there_runs_where_it_ran() {
        let allowed = sched_getaffinity(THIS_THREAD).unwrap();
        bind(Some(Processor(CpuSet::count() - 1)));
        bind(Some(Processor(CpuSet::count())));
        bind(None);
        assert_eq!(sched_getaffinity(THIS_THREAD).unwrap(), allowed);
    }

    #[test]
    fn the_lowest_priority_is_for_this_thread_alone() {
        let nice_of_this_thread = || rustix::process::getpriority_process(None).unwrap();
        let before = nice_of_this_thread();
        let lowest = std::thread::spawn(move || {
            take_lowest_priority();
            nice_of_this_thread()
        });
        assert_eq!((lowest.join().unwrap(), nice_of_this_thread()), (LOWEST_PRIORITY, before));
    }

    #[test]
    fn a_thread_that_is_not_there_runs_nowhere() {
        assert_eq!(processor_of(0), None);
        assert_eq!(processor_of(u32::MAX), None);
    }
}
