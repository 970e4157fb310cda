//! Inode numbers: a random lease of 40 bits, then a counter of 23 bits, so that two devices never draw the same.
//!
//! The lease is kept in the local state; where its counter stands is read off the greatest number in use, so giving out
//! a number writes nothing. A spent lease is followed by a fresh one, checked against the tree.

use crate::format::InodeNumber;

const COUNTER_BITS: u32 = 23;
const COUNTER_MAX: u64 = (1 << COUNTER_BITS) - 1;

/// Gives out inode numbers.
#[derive(Debug, Clone)]
pub(super) struct InodeNumbers {
    lease: u64,
    next: u64,
    /// Leases that were spent while this volume is open.
    spent: Vec<u64>,
}

impl InodeNumbers {
    /// Goes on behind `last`, the greatest number of the lease in use.
    pub fn new(lease: u64, last: Option<InodeNumber>) -> Self {
        let next = last.map_or(0, |last| (last.0 & COUNTER_MAX) + 1);
        Self { lease, next, spent: Vec::new() }
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
        self.next > COUNTER_MAX
    }

    /// Starts a fresh lease, of which no number is in use.
    pub fn renew(&mut self, lease: u64) {
        self.spent.push(self.lease);
        (self.lease, self.next) = (lease, 0);
    }

    /// The number that will be given out next; the greatest there is where the lease is spent.
    pub fn peek(&self) -> InodeNumber {
        if self.is_spent() {
            return InodeNumber(u64::MAX);
        }
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
