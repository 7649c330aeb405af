//! When a database that merges by itself collects garbage.
//!
//! ```text
//! merges      │ │  │ │ │  │ │                                   time ─►
//! passes      └─ soon ─►▲─ soon ─►▲                 ▲
//!                                  └── retention ───┘  what the last merge left is too young before
//! ```
//!
//! Always true: a pass that is due is not put off by another merge, so that what is written without pause is collected
//! without pause; after the last merge there is a pass by which all that it left may go.

use std::time::Duration;

/// Garbage is collected this long after a merge, together with that of the merges that follow at once.
const COLLECT_AFTER: Duration = Duration::from_secs(60);

/// The passes that are to come. All moments are monotonic.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    next: Option<Duration>,
    last: Option<Duration>,
}

impl Schedule {
    /// Versions and SSTs were superseded at `now`, and are kept for `retention`. `at_once`: nothing is waited for.
    pub(super) fn superseded(&mut self, now: Duration, retention: Duration, at_once: bool) {
        let soon = if at_once { now } else { now + COLLECT_AFTER };
        self.next = Some(self.next.map_or(soon, |next| next.min(soon)));
        self.last = Some(now.saturating_add(retention) + COLLECT_AFTER);
    }

    /// When the next pass is due, if one is to come.
    pub(super) fn next(&self) -> Option<Duration> {
        self.next
    }

    /// Whether a pass is due.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.next.is_some_and(|next| next <= now)
    }

    /// A pass has failed.
    pub(super) fn failed(&mut self, now: Duration) {
        self.next = Some(now + COLLECT_AFTER);
    }

    /// A pass has ended.
    pub(super) fn collected(&mut self, now: Duration) {
        self.last = self.last.filter(|last| *last > now);
        self.next = self.last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETENTION: Duration = Duration::from_secs(900);

    /// The seconds of the passes of a database that merges at the seconds `merges`, until none is to come.
    fn passes(merges: &[u64]) -> Vec<u64> {
        let (mut schedule, mut passes) = (Schedule::default(), Vec::new());
        let end = merges.last().map_or(0, |last| last + 10_000);
        for second in 0..end {
            let now = Duration::from_secs(second);
            if merges.contains(&second) {
                schedule.superseded(now, RETENTION, false);
            }
            if schedule.is_due(now) {
                passes.push(second);
                schedule.collected(now);
            }
        }
        assert_eq!(schedule.next(), None, "an idle database has nothing to collect at last");
        passes
    }

    #[test]
    fn after_a_merge_garbage_is_collected_soon_and_when_the_retention_has_passed() {
        assert_eq!(passes(&[5]), [65, 965]);
        assert_eq!(passes(&[5, 15, 25]), [65, 985]);
    }

    #[test]
    fn merging_without_pause_does_not_put_collection_off() {
        let merges: Vec<u64> = (0..1000).step_by(5).collect();
        let passes = passes(&merges);
        assert_eq!(passes.iter().filter(|pass| **pass < 1000).count(), 15, "{passes:?}");
        assert_eq!(passes.last(), Some(&1955));
    }
}
