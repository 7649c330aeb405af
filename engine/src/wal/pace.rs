//! How soon an object of the log that is not full may follow the one before it.
//!
//! ```text
//! sent at once each time            apart, and together with those who come back
//!  1 ──────────►                     256 ──────────►
//!  1   ────►· · ·                                  ├ they are told, and write again
//!  1     ───►· · · · ·                             256 ──────────►
//!  …                                                             ├ …
//! ```
//!
//! Objects are acknowledged in slot order, so each waits for the slowest of those before it that are in flight: with eight
//! of them, whose times scatter as those of stores do, for twice the median. Three rules make fewer of them, which hold more:
//!
//! - **Apart**: behind others an object is sent three quarters of a round trip after the last of them.
//! - **Few with many**: where those who ask are few beside those in flight, only after two round trips. The many are told before
//!   that, most likely, and write again: sent in between, the few would put them off, and wait no less themselves.
//! - **Together**: those who were told that their write is durable are likely to write again at once. While they have not all
//!   come back, but for an eighth of a round trip at most, nothing is sent: or who wrote a moment before them would be sent
//!   alone, and they would wait for that one's round trip and then for their own.
//!
//! What that brings for 1 to 256 clients who wait for each write: `pace/model.rs`, a test that prints it.
//!
//! Always true: what is full is sent at once; one writer by itself waits for nobody; who is alone waits for an eighth of a
//! round trip, and for a quarter where several objects land one after another; no pause is longer than [`LONGEST`], or twice
//! that for few behind many.

use std::time::Duration;

/// Below this a timer costs more than waiting brings.
const SHORTEST_ROUND_TRIP: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(100);
/// Few are those who are one in more than so many of those in flight.
const FEW: usize = 4;
/// Those who come back are waited for one round trip divided by this.
const RETURN_PART: u32 = 8;
/// The part that a new measurement has in the mean, one in so many.
const WEIGHT: u32 = 8;
/// One that took more times as long as the mean counts as this many: a retry says little of the store's usual pace.
const MOST: u32 = 4;

/// When objects were sent, how long they took, and who may come back.
#[derive(Debug, Default)]
pub(super) struct Pace {
    sent: Option<Duration>,
    round_trip: Option<Duration>,
    returning: Option<Returning>,
}

/// Who waits for an object of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Waiting {
    /// For those before the open one.
    pub(super) ahead: usize,
    /// For the open one, which is cut off next.
    pub(super) asking: usize,
}

/// Who was told since the last object was sent.
#[derive(Debug, Clone, Copy)]
struct Returning {
    /// So many will ask for the next object if all come back.
    expected: usize,
    /// They are waited for until then.
    until: Duration,
    /// And until then however many are told meanwhile.
    latest: Duration,
}

impl Pace {
    /// An object was sent at `now`.
    pub(super) fn sent(&mut self, now: Duration) {
        self.sent = Some(now);
        self.returning = None;
    }

    /// One has landed at `now`, which took so long, and `told` waited for it; `asking` ask for the next one. Gives how
    /// many those will be if all come back.
    pub(super) fn landed(&mut self, now: Duration, took: Duration, told: usize, asking: usize) -> usize {
        let before = self.round_trip.unwrap_or_else(|| took.min(LONGEST));
        let took = took.min(before.max(SHORTEST_ROUND_TRIP) * MOST);
        let mean = (before * (WEIGHT - 1) + took) / WEIGHT;
        self.round_trip = Some(mean);
        let known = self.returning.filter(|returning| now < returning.until);
        if told > 0 {
            let a_while = now + (mean / RETURN_PART).min(LONGEST);
            let longest = a_while + (mean / RETURN_PART).min(LONGEST);
            let latest = self.returning.map_or(longest, |returning| returning.latest);
            let expected = known.map_or(0, |known| known.expected).max(asking) + told;
            self.returning = Some(Returning { expected, until: a_while.min(latest), latest });
        }
        self.returning.map_or(0, |returning| returning.expected)
    }

    /// How much longer to wait at `now`, where the next object `is_alone` or behind others.
    pub(super) fn left(&self, now: Duration, is_alone: bool, waiting: Waiting) -> Option<Duration> {
        let round_trip = self.round_trip.filter(|&mean| mean >= SHORTEST_ROUND_TRIP)?;
        let Waiting { ahead, asking } = waiting;
        let apart = if asking.saturating_mul(FEW) < ahead {
            (round_trip * 2).min(LONGEST * 2)
        } else {
            (round_trip * 3 / 4).min(LONGEST)
        };
        let apart = self.sent.filter(|_| !is_alone).map(|sent| sent + apart);
        let together = self.returning.filter(|returning| asking < returning.expected).map(|of| of.until);
        apart.max(together).map(|until| until.saturating_sub(now)).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod model;

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn ask(asking: usize) -> Waiting {
        Waiting { ahead: 0, asking }
    }

    #[test]
    fn behind_another_one_goes_three_quarters_of_a_round_trip_after_it() {
        let mut pace = Pace::default();
        assert_eq!(pace.left(MS, false, ask(1)), None, "nothing is known yet");
        pace.sent(10 * MS);
        assert_eq!(pace.left(10 * MS, false, ask(1)), None);
        assert_eq!(pace.landed(50 * MS, 40 * MS, 1, 0), 1);
        pace.sent(50 * MS);
        assert_eq!(pace.left(52 * MS, false, ask(1)), Some(28 * MS));
        assert_eq!(pace.left(52 * MS, true, ask(1)), None, "alone");
        assert_eq!(pace.left(80 * MS, false, ask(1)), None);
    }

    #[test]
    fn few_behind_many_go_with_them_when_they_come_back() {
        let mut pace = Pace::default();
        pace.landed(40 * MS, 40 * MS, 1, 0);
        pace.sent(40 * MS);
        let left = |ahead, asking| pace.left(60 * MS, false, Waiting { ahead, asking });
        assert_eq!(left(40, 10), Some(10 * MS), "not so few");
        assert_eq!(left(41, 10), Some(60 * MS), "few: two round trips after the many");
        assert_eq!(left(usize::MAX, usize::MAX), Some(10 * MS));
        assert_eq!(pace.left(120 * MS, false, Waiting { ahead: 256, asking: 1 }), None, "and no longer");
        assert_eq!(pace.left(60 * MS, true, Waiting { ahead: 0, asking: 1 }), None, "the many have landed");
    }

    #[test]
    fn who_was_told_is_waited_for_an_eighth_of_a_round_trip_at_most() {
        let mut pace = Pace::default();
        assert_eq!(pace.landed(50 * MS, 40 * MS, 3, 1), 4);
        assert_eq!(pace.left(50 * MS, true, ask(1)), Some(5 * MS), "three are to come");
        assert_eq!(pace.left(52 * MS, true, ask(3)), Some(3 * MS));
        assert_eq!(pace.left(52 * MS, true, ask(4)), None, "all have come");
        assert_eq!(pace.left(55 * MS, true, ask(1)), None, "they do not come");
        pace.sent(55 * MS);
        assert_eq!(pace.left(55 * MS, true, ask(1)), None, "they have been sent without");
    }

    #[test]
    fn those_of_two_objects_that_land_together_are_waited_for_together() {
        let mut pace = Pace::default();
        assert_eq!(pace.landed(50 * MS, 40 * MS, 3, 1), 4);
        assert_eq!(pace.landed(51 * MS, 40 * MS, 2, 2), 6, "one of the three has come back, and counts once");
        assert_eq!(
            pace.landed(90 * MS, 40 * MS, 2, 1),
            3,
            "who did not come back in time is not waited for again"
        );
    }

    #[test]
    fn one_writer_by_itself_waits_for_nobody() {
        let mut pace = Pace::default();
        assert_eq!(pace.landed(50 * MS, 40 * MS, 1, 0), 1);
        assert_eq!(pace.left(50 * MS, true, ask(1)), None);
    }

    #[test]
    fn objects_that_land_one_after_another_put_nobody_off_for_longer_than_a_quarter() {
        let mut pace = Pace::default();
        pace.landed(10 * MS, 40 * MS, 1, 1);
        for at in 11..30 {
            pace.landed(at * MS, 40 * MS, 1, 1);
            assert_eq!(pace.left(at * MS, true, ask(1)).is_some(), at < 20, "{at} ms");
            if at >= 20 {
                pace.sent(at * MS);
                return;
            }
        }
    }

    #[test]
    fn where_nobody_was_told_nobody_is_waited_for() {
        let mut pace = Pace::default();
        assert_eq!(pace.landed(10 * MS, 40 * MS, 0, 5), 0);
        assert_eq!(pace.left(10 * MS, true, ask(5)), None);
        assert_eq!(pace.landed(11 * MS, 40 * MS, 2, 5), 7);
        assert_eq!(pace.landed(12 * MS, 40 * MS, 0, 5), 7);
        assert_eq!(pace.left(12 * MS, true, ask(5)), Some(4 * MS), "the time of those who were told");
    }

    #[test]
    fn a_straggler_moves_the_pace_a_little_and_no_pause_is_long_or_tiny() {
        let mut pace = Pace::default();
        pace.landed(Duration::ZERO, 8 * MS, 0, 0);
        pace.landed(Duration::ZERO, Duration::from_secs(60), 0, 0);
        pace.sent(Duration::ZERO);
        assert_eq!(
            pace.left(Duration::ZERO, false, ask(1)),
            Some(8 * MS + 250 * MS / 1000),
            "of a mean of 11 ms"
        );
        for _ in 0..100 {
            pace.landed(Duration::ZERO, Duration::from_secs(60), 9, 0);
        }
        pace.sent(Duration::ZERO);
        assert_eq!(pace.left(Duration::ZERO, false, ask(1)), Some(LONGEST));
        for _ in 0..200 {
            pace.landed(Duration::ZERO, MS, 9, 0);
        }
        assert_eq!(pace.left(Duration::ZERO, false, ask(1)), None, "the store is near");
        assert_eq!(pace.left(Duration::ZERO, true, ask(1)), None, "the store is near");
    }

    #[test]
    fn a_first_one_that_was_retried_or_took_no_time_says_little() {
        for (first, later) in [(Duration::from_secs(60), 8 * MS), (Duration::ZERO, 8 * MS)] {
            let mut pace = Pace::default();
            pace.landed(Duration::ZERO, first, 0, 0);
            for _ in 0..30 {
                pace.landed(Duration::ZERO, later, 0, 0);
            }
            pace.sent(Duration::ZERO);
            let left = pace.left(Duration::ZERO, false, ask(1)).unwrap();
            assert!((5 * MS..8 * MS).contains(&left), "{left:?} after {first:?}");
        }
    }
}
