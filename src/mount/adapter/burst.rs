//! Requests of one program in quick succession: when they are worth a processor that is kept awake (`vigil.rs`).
//!
//! Promise: however requests come, a vigil lasts no longer than [`PAID_BY_REQUEST`] for each, and [`PAID_AHEAD`] for each
//! [`IN_A_ROW_MIN`].

use std::time::Duration;

/// How many requests one program sends in a row before there is a vigil.
const IN_A_ROW_MIN: u32 = 16;

/// As many at most, after vigils that were soon over.
const IN_A_ROW_MAX: u32 = 1024;

/// Requests that are further apart are not in a row.
const GAP_MAX: Duration = Duration::from_micros(200);

/// How long the vigil is kept for one request more: less often than that they are not worth a processor.
const PAID_BY_REQUEST: Duration = Duration::from_micros(100);

/// How long it is kept without requests at most, at its beginning and when they came faster before.
const PAID_AHEAD: Duration = Duration::from_micros(400);

/// How long there is no vigil after one that was of no use.
const REST_MIN: Duration = Duration::from_millis(1);

/// As long at most, when one after the other soon proves to be of no use.
const REST_MAX: Duration = Duration::from_millis(64);

/// Soon: before the vigil has lasted for so many times the rest before it.
const VIGIL_TO_REST: u32 = 8;

/// Who sends what no program waits for: not near to anybody.
pub(super) const NOBODY: u32 = 0;

/// What a request means for the vigil.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    /// Keep one until then.
    Begin(Duration),
    /// Keep it until then.
    Prolong(Duration),
    End,
}

/// The requests of one program, one after the other. Times are since any one moment.
#[derive(Debug, Clone)]
pub(super) struct Burst {
    caller: u32,
    /// When its last request came.
    last: Duration,
    /// How many came in a row, or since the vigil began.
    length: u32,
    /// How many have to come in a row for a vigil.
    wanted: u32,
    /// How long the vigil is kept, if there is one.
    until: Option<Duration>,
    /// When the last vigil began.
    begun: Duration,
    rest: Duration,
    rests_until: Duration,
}

impl Default for Burst {
    fn default() -> Self {
        let [last, begun, rests_until] = [Duration::ZERO; 3];
        let (wanted, rest) = (IN_A_ROW_MIN, REST_MIN);
        Self { caller: NOBODY, last, length: 0, wanted, until: None, begun, rest, rests_until }
    }
}

impl Burst {
    /// Counts a request. `is_kept`: the vigil, if it has begun, has not been over meanwhile.
    pub fn note(&mut self, caller: u32, now: Duration, is_kept: bool) -> Step {
        let gap = now.saturating_sub(self.last);
        let is_same = caller == self.caller && caller != NOBODY;
        (self.caller, self.last) = (caller, now);
        if let Some(until) = self.until {
            if is_same && is_kept && now <= until {
                self.length = self.length.saturating_add(1);
                return Step::Prolong(*self.until.insert((until + PAID_BY_REQUEST).min(now + PAID_AHEAD)));
            }
            // One that was soon over was not worth it: the next one waits for more.
            self.wanted = if self.length < self.wanted { (self.wanted * 2).min(IN_A_ROW_MAX) } else { IN_A_ROW_MIN };
            (self.until, self.length) = (None, 0);
            return Step::End;
        }
        self.length = if is_same && gap <= GAP_MAX { self.length.saturating_add(1) } else { 0 };
        if self.length < self.wanted || now < self.rests_until {
            return Step::Nothing;
        }
        (self.length, self.begun) = (0, now);
        Step::Begin(*self.until.insert(now + PAID_AHEAD))
    }

    /// The vigil could not begin, or is of no use: none for a while.
    pub fn rest(&mut self, now: Duration) {
        let was_soon = now.saturating_sub(self.begun) < self.rest * VIGIL_TO_REST;
        self.rest = if was_soon { (self.rest * 2).min(REST_MAX) } else { REST_MIN };
        (self.until, self.length, self.rests_until) = (None, 0, now + self.rest);
    }

    /// How many requests came in a row, or since the vigil began.
    pub fn length(&self) -> u32 {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: u32 = 77;

    /// How long the other processor is kept awake for each of many requests, which come after these gaps, over and over;
    /// and how many vigils there are.
    fn awake_for_each(gaps_in_microseconds: &[u64]) -> (Duration, u32) {
        let (mut burst, mut now, mut awake, mut vigils) = (Burst::default(), Duration::from_secs(1), Duration::ZERO, 0);
        let mut kept: Option<(Duration, Duration)> = None;
        const REQUESTS: u32 = 50_000;
        for gap in gaps_in_microseconds.iter().cycle().take(REQUESTS as usize) {
            now += Duration::from_micros(*gap);
            let is_kept = kept.is_some_and(|(_, until)| now <= until);
            match burst.note(CALLER, now, is_kept) {
                Step::Nothing => assert_eq!(kept, None),
                Step::Begin(until) => {
                    assert_eq!(kept, None);
                    vigils += 1;
                    kept = Some((now, until));
                }
                Step::Prolong(until) => {
                    assert!(is_kept && until <= now + PAID_AHEAD);
                    kept = kept.map(|(begun, _)| (begun, until));
                }
                Step::End => {
                    let (begun, until) = kept.take().unwrap();
                    awake += until.min(now) - begun;
                }
            }
        }
        if let Some((begun, until)) = kept {
            awake += until.min(now) - begun;
        }
        (awake / REQUESTS, vigils)
    }

    #[test]
    fn however_requests_come_each_is_paid_only_so_long_a_vigil() {
        let limit = PAID_BY_REQUEST + PAID_AHEAD / IN_A_ROW_MIN;
        for quick in [1, 10, 50, 100, 150, 200] {
            for slow in [201, 300, 399, 401, 1000, 10_000] {
                for length in [1, 2, 5, 15, 16, 17, 20, 33, 100, 1000] {
                    let gaps = [vec![quick; length], vec![slow]].concat();
                    let (awake, _) = awake_for_each(&gaps);
                    assert!(awake <= limit, "{quick} us {length} times, then {slow} us: {awake:?}");
                }
            }
        }
    }

    #[test]
    fn one_vigil_lasts_as_long_as_requests_come_quickly_and_bridges_short_gaps() {
        assert_eq!(awake_for_each(&[30]).1, 1);
        assert_eq!(awake_for_each(&[vec![30; 40], vec![300]].concat()).1, 1);
        let (awake, _) = awake_for_each(&[201]);
        assert_eq!(awake, Duration::ZERO, "these are not in a row");
        let (awake, _) = awake_for_each(&[199]);
        assert!(awake < Duration::from_micros(20), "slower than what they pay for: {awake:?}");
    }

    #[test]
    fn vigils_that_are_soon_over_become_rare_and_a_good_one_makes_them_frequent_again() {
        // A row that is just long enough, and nothing after it: in vain.
        let short = vec![10; IN_A_ROW_MIN as usize + 1].into_iter().chain([5000]).collect::<Vec<_>>();
        let (_, vigils) = awake_for_each(&short);
        assert!(vigils < 5, "{vigils}");
        let long = vec![10; 200].into_iter().chain([5000]).collect::<Vec<_>>();
        let (_, vigils) = awake_for_each(&long);
        assert!(vigils > 200, "{vigils} for 250 rows");
    }

    #[test]
    fn another_program_ends_the_vigil_and_so_does_who_asks_for_nobody() {
        for other in [CALLER + 1, NOBODY] {
            let (mut burst, now) = (Burst::default(), Duration::from_secs(1));
            let begun = (0..=IN_A_ROW_MIN + 1).any(|_| matches!(burst.note(CALLER, now, false), Step::Begin(_)));
            assert!(begun);
            assert_eq!(burst.note(other, now, true), Step::End);
            for _ in 0..100 {
                assert_eq!(burst.note(CALLER, now, false), Step::Nothing, "two that take turns are not in a row");
                assert_eq!(burst.note(other, now, false), Step::Nothing);
            }
            assert!((0..1000).all(|_| burst.note(NOBODY, now, false) == Step::Nothing));
        }
    }

    /// Requests one after the other, 10 us apart, until a vigil begins; when that is.
    fn next_vigil(burst: &mut Burst, mut now: Duration) -> Duration {
        loop {
            now += Duration::from_micros(10);
            match burst.note(CALLER, now, false) {
                Step::Begin(_) => return now,
                step => assert_eq!(step, Step::Nothing),
            }
        }
    }

    #[test]
    fn after_a_vigil_of_no_use_there_is_a_rest_and_a_longer_one_when_that_happens_soon_again() {
        let (mut burst, mut now, mut rests) = (Burst::default(), Duration::from_secs(1), Vec::new());
        for lasts_ms in [100, 100, 3, 3, 3, 3, 3, 3, 3, 3, 600, 3] {
            let begun = next_vigil(&mut burst, now);
            now = begun;
            while now < begun + Duration::from_millis(lasts_ms) {
                now += Duration::from_micros(10);
                assert!(matches!(burst.note(CALLER, now, true), Step::Prolong(_)));
            }
            assert_eq!(burst.note(CALLER, now, false), Step::End);
            burst.rest(now);
            rests.push((next_vigil(&mut burst.clone(), now) - now).as_millis());
        }
        assert_eq!(rests, [1, 1, 2, 4, 8, 16, 32, 64, 64, 64, 1, 2]);
    }
}
