//! Inode numbers: a random lease of 40 bits, then a counter of 23 bits, so that two devices never draw the same.
//!
//! The lease is kept in the local state; where its counter stands is read off the greatest number in use and off what was
//! recorded with the last commit (the greatest may be gone again), so giving out a number writes nothing. A spent lease is
//! followed by a fresh one, checked against the tree.

use crate::format::InodeNumber;

const COUNTER_BITS: u32 = 23;
/// The last number of a lease is never given out: so there is always a next one, and it is of the same lease.
const COUNTER_MAX: u64 = (1 << COUNTER_BITS) - 1;

/// Gives out inode numbers.
#[derive(Debug, Clone)]
pub(crate) struct InodeNumbers {
    lease: u64,
    next: u64,
    /// Leases that were spent while this volume is open.
    spent: Vec<u64>,
}

impl InodeNumbers {
    /// Goes on behind `last`, the greatest number of the lease in use, and behind the first `given`.
    pub fn new(lease: u64, last: Option<InodeNumber>, given: u64) -> Self {
        let next = last.map_or(0, |last| (last.0 & COUNTER_MAX) + 1).max(given).min(COUNTER_MAX);
        Self { lease, next, spent: Vec::new() }
    }

    /// How many numbers of the lease were given out.
    pub fn given(&self) -> u64 {
        self.next
    }

    /// The lease in use.
    pub fn lease(&self) -> u64 {
        self.lease
    }

    /// The first and the last number of a lease.
    pub fn range_of(lease: u64) -> (InodeNumber, InodeNumber) {
        let first = lease << COUNTER_BITS;
        (InodeNumber(first), InodeNumber(first | COUNTER_MAX))
    }

    /// Whether the lease has no number left.
    pub fn is_spent(&self) -> bool {
        self.next == COUNTER_MAX
    }

    /// Starts a fresh lease, of which no number is in use.
    pub fn renew(&mut self, lease: u64) {
        self.spent.push(self.lease);
        (self.lease, self.next) = (lease, 0);
    }

    /// The number that will be given out next, unless the lease is spent.
    pub fn peek(&self) -> InodeNumber {
        InodeNumber(self.lease << COUNTER_BITS | self.next)
    }

    /// Gives out a number.
    pub fn take(&mut self) -> InodeNumber {
        assert!(!self.is_spent(), "a spent lease is renewed before");
        let number = self.peek();
        self.next += 1;
        number
    }

    /// Whether `inode` was given out at or after the moment when `first` was next.
    pub fn is_from(&self, inode: InodeNumber, first: InodeNumber) -> bool {
        let lease = inode.0 >> COUNTER_BITS;
        let same_lease = lease == first.0 >> COUNTER_BITS;
        if lease == self.lease {
            return !same_lease || inode >= first;
        }
        // A lease begun and spent since then.
        let first_position = self.spent.iter().position(|spent| *spent == first.0 >> COUNTER_BITS);
        match (self.spent.iter().position(|spent| *spent == lease), first_position) {
            (Some(position), Some(first_position)) if position == first_position => inode >= first,
            (Some(position), Some(first_position)) => position > first_position,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_behind_those_in_use_and_those_that_were_given_out() {
        let last = |counter| Some(InodeNumber(5 << COUNTER_BITS | counter));
        for (last, given, next) in [(None, 0, 0), (last(6), 0, 7), (last(6), 20, 20), (last(30), 20, 31), (None, 9, 9)]
        {
            assert_eq!(InodeNumbers::new(5, last, given).take(), InodeNumber(5 << COUNTER_BITS | next));
        }
        assert!(InodeNumbers::new(5, last(COUNTER_MAX), 0).is_spent());
    }

    #[test]
    fn what_was_given_out_before_a_lease_was_spent_is_not_taken_for_new() {
        let mut numbers = InodeNumbers::new(5, None, COUNTER_MAX - 1);
        let last = numbers.take();
        assert!(numbers.is_spent());
        let first = numbers.peek();
        assert!(!numbers.is_from(last, first), "it was given out before");
        numbers.renew(9);
        let new = numbers.take();
        assert!(numbers.is_from(new, first) && !numbers.is_from(last, first));
    }
}
