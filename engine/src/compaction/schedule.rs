//! When garbage is collected, by a database that merges by itself and by the service alike.
//!
//! ```text
//! merges      │ │  │ │ │  │ │                                   time ─►
//! passes      └─ soon ─►▲─ soon ─►▲                 ▲
//!                                 └─── retention ───┘  what was too young for the pass before
//! ```
//!
//! Always true: a pass that is due is not put off by another merge, so that what is written without pause is collected
//! without pause; after the last merge there is a pass by which all that it left may go; a pass that failed is due
//! again only after a while, so that it never stands between two merges for longer than it takes.

use std::time::Duration;

/// Between a merge and a pass, where the garbage of several merges is to go together; and at least between a pass that
/// failed, or left something, and the next.
pub const COLLECT_AFTER: Duration = Duration::from_secs(60);

/// The pass that is to come. All moments are monotonic.
#[derive(Debug, Default)]
pub struct Schedule {
    next: Option<Duration>,
}

impl Schedule {
    /// Versions and SSTs were superseded at `now`: a pass is due within this time.
    pub fn superseded(&mut self, now: Duration, within: Duration) {
        let at = now.saturating_add(within);
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    /// When the next pass is due, if one is to come.
    pub fn next(&self) -> Option<Duration> {
        self.next
    }

    /// Whether a pass is due.
    pub fn is_due(&self, now: Duration) -> bool {
        self.next.is_some_and(|next| next <= now)
    }

    /// A pass has failed at `now`. Whatever keeps garbage where it is, merging goes on.
    pub fn failed(&mut self, now: Duration) {
        self.next = Some(now.saturating_add(COLLECT_AFTER));
    }

    /// A pass has ended at `now`. It left what is kept for so long, if it left anything.
    pub fn collected(&mut self, now: Duration, left_for: Option<Duration>) {
        self.next = left_for.map(|retention| now.saturating_add(retention.max(COLLECT_AFTER)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds of the passes of a database that merges at the seconds `merges` and keeps versions for `retention`
    /// seconds, until no pass is to come. Those before the second `sound` fail.
    fn passes(merges: &[u64], retention: u64, sound: u64) -> Vec<u64> {
        let (mut schedule, mut passes) = (Schedule::default(), Vec::new());
        let end = merges.last().map_or(0, |last| last + 10_000);
        for second in 0..end {
            let now = Duration::from_secs(second);
            if merges.contains(&second) {
                schedule.superseded(now, COLLECT_AFTER);
            }
            if schedule.is_due(now) {
                passes.push(second);
                let is_young = |merge: &u64| *merge <= second && merge + retention > second;
                let left = merges.iter().any(is_young);
                if second < sound {
                    schedule.failed(now);
                } else {
                    schedule.collected(now, left.then_some(Duration::from_secs(retention)));
                }
            }
        }
        assert_eq!(schedule.next(), None, "an idle database has nothing to collect at last");
        passes
    }

    #[test]
    fn after_a_merge_garbage_is_collected_soon_and_when_the_retention_has_passed() {
        assert_eq!(passes(&[5], 900, 0), [65, 965]);
        assert_eq!(passes(&[5, 15, 25], 900, 0), [65, 965]);
        assert_eq!(passes(&[5, 70], 900, 0), [65, 130, 1030]);
        assert_eq!(passes(&[5], 0, 0), [65], "nothing was too young");
    }

    #[test]
    fn merging_without_pause_does_not_put_collection_off() {
        let merges: Vec<u64> = (0..1000).step_by(5).collect();
        let passes = passes(&merges, 900, 0);
        assert_eq!(passes.iter().filter(|pass| **pass < 1000).count(), 15, "{passes:?}");
        assert_eq!(passes.last(), Some(&1935));
    }

    #[test]
    fn a_pass_that_failed_is_made_again_a_minute_later_until_it_succeeds() {
        assert_eq!(passes(&[5], 900, 200), [65, 125, 185, 245, 1145]);
        let merges: Vec<u64> = (0..300).step_by(5).collect();
        assert_eq!(
            passes(&merges, 0, 200)[..4],
            [60, 120, 180, 240],
            "merges bring no pass nearer that failed"
        );
    }
}
