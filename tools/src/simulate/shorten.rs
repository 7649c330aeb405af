//! From a failing run to the least that still fails: fewer operations, fewer faults, fewer processes.
//!
//! ```text
//! options that fail ──► each smaller one, most promising first ──► rerun: same rule broken? ──► go on from it
//!                          └ none breaks it: done
//! ```
//!
//! A smaller run is another run: its chance falls otherwise, so what is left is often a smaller way to the same
//! mistake and not a piece of the first. That is as good for a reader, and the options name it exactly.
//!
//! Always true: what is returned broke the same rule as what was given; no more runs are made than allowed.

use std::fmt;

use super::{failure::Failure, swarm::Drawn};

/// A run, by name: what a line on the command line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Options {
    /// The seed.
    pub(crate) seed: u64,
    /// Operations of clients.
    pub(crate) operations: u64,
    /// What is left out of what the seed draws, each a name of [`NAMES`].
    pub(crate) without: Vec<&'static str>,
}

/// How one thing is left out.
type Leaves = fn(&mut Drawn);

/// What can be left out of a run. What tells most about a failure by its absence comes first.
const LEFT_OUT: [(&str, Leaves); 22] = [
    ("storm", |drawn| drawn.storm = (0, 0)),
    ("lost", |drawn| drawn.rates.lost = 0.0),
    ("delayed", |drawn| drawn.rates.delayed = 0.0),
    ("duplicated", |drawn| drawn.rates.duplicated = 0.0),
    ("bursts", |drawn| drawn.rates.burst = 0.0),
    ("409", |drawn| drawn.rates.conflict = 0.0),
    ("truncated", |drawn| drawn.rates.truncated = 0.0),
    ("flipped", |drawn| drawn.rates.flipped = 0.0),
    ("swapped", |drawn| drawn.rates.swapped = 0.0),
    ("hangs", |drawn| drawn.rates.hang = 0.0),
    ("lists", |drawn| drawn.rates.listing = 0.0),
    ("slow", |drawn| drawn.rates.slow = 0.0),
    ("pauses", |drawn| drawn.pause_every_ms = NEVER_MS),
    ("credentials", |drawn| drawn.forbid_every_ms = 0),
    ("crashes", |drawn| drawn.crash_every_ms = NEVER_MS),
    ("takeovers", |drawn| drawn.takeover_every_ms = NEVER_MS),
    ("skew", |drawn| drawn.skewed = false),
    ("lie", |drawn| drawn.lie = None),
    ("deletes", |drawn| drawn.deletes = 0.0),
    ("batches", |drawn| drawn.batches = 0.0),
    ("clients", |drawn| (drawn.writer_clients, drawn.reader_clients) = (1, 1)),
    ("collections", |drawn| drawn.collect_every_ms = NEVER_MS),
];

/// Longer than any run.
const NEVER_MS: u64 = 1 << 40;

/// Of the operations, the part that a smaller run is tried with.
const FRACTIONS: [(u64, u64); 4] = [(1, 4), (1, 2), (3, 4), (9, 10)];

/// No run is tried with fewer operations.
const FEWEST_OPERATIONS: u64 = 10;

impl Options {
    /// A whole run.
    pub(crate) fn new(seed: u64, operations: u64) -> Self {
        Self { seed, operations, without: Vec::new() }
    }

    /// Leaves out what `names` says, separated by commas. Fails with the first that is no name.
    pub(crate) fn leave_out(mut self, names: &str) -> Result<Self, String> {
        for name in names.split(',').filter(|name| !name.is_empty()) {
            let known = LEFT_OUT.iter().find(|(known, _)| *known == name);
            self.without.push(known.map(|(known, _)| *known).ok_or_else(|| name.to_owned())?);
        }
        Ok(self)
    }

    /// What the run is about.
    pub(crate) fn drawn(&self) -> Drawn {
        let mut drawn = Drawn::new(self.seed, self.operations);
        for (name, leave) in LEFT_OUT {
            if self.without.contains(&name) {
                leave(&mut drawn);
            }
        }
        drawn
    }

    /// Smaller runs, most promising first.
    fn smaller(&self) -> Vec<Self> {
        let fewer = FRACTIONS.map(|(part, of)| self.operations * part / of);
        let shorter = fewer
            .into_iter()
            .filter(|operations| *operations >= FEWEST_OPERATIONS)
            .map(|operations| Self { operations, ..self.clone() });
        let rest = LEFT_OUT.iter().map(|(name, _)| *name).filter(|name| !self.without.contains(name));
        let simpler = rest.map(|name| {
            let without = self.without.iter().copied().chain([name]).collect();
            Self { without, ..self.clone() }
        });
        shorter.chain(simpler).collect()
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cargo simulate {} --operations {}", self.seed, self.operations)?;
        if self.without.is_empty() { Ok(()) } else { write!(f, " --without {}", self.without.join(",")) }
    }
}

/// The smallest run found that breaks the rule that `failure`, of the run `from`, breaks; its failure; and how
/// many runs it took. `rerun` gives what a run breaks.
pub(crate) fn shorten(
    from: Options,
    failure: Failure,
    most_runs: usize,
    mut rerun: impl FnMut(&Options) -> Option<Failure>,
) -> (Options, Failure, usize) {
    let (mut best, mut broken) = (from, failure);
    let mut runs = 0;
    // What did not break it once is not tried again until something else has changed it all.
    let mut at = 0;
    loop {
        let smaller = best.smaller();
        let Some(next) = smaller.get(at) else { return (best, broken, runs) };
        if runs == most_runs {
            return (best, broken, runs);
        }
        runs += 1;
        match rerun(next).filter(|failure| failure.rule == broken.rule) {
            Some(failure) => {
                // A shorter run may be cut again; a name that went away has made room for the one after it.
                at = if next.operations < best.operations { 0 } else { at };
                (best, broken) = (next.clone(), failure);
            }
            None => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_is_left_out_and_what_does_stays() {
        let fails = |options: &Options| {
            let needed = ["lost", "crashes"].iter().all(|name| !options.without.contains(name));
            (needed && options.operations >= 130).then(|| Failure::new("a rule", ""))
        };
        let whole = Options::new(7, 2000);
        let (small, failure, runs) = shorten(whole.clone(), fails(&whole).unwrap(), 500, fails);
        assert!((130..170).contains(&small.operations), "{small}");
        assert_eq!(small.without.len(), LEFT_OUT.len() - 2, "{small}");
        assert_eq!(failure.rule, "a rule");
        assert!(runs < 100, "{runs}");
        assert_eq!(fails(&small).map(|failure| failure.rule), Some("a rule"));
    }

    #[test]
    fn another_rule_broken_is_another_failure_and_runs_are_bounded() {
        let other = |_: &Options| Some(Failure::new("another rule", ""));
        let (same, _, runs) = shorten(Options::new(1, 100), Failure::new("a rule", ""), 500, other);
        assert_eq!((same, runs), (Options::new(1, 100), FRACTIONS.len() + LEFT_OUT.len()));
        let always = |_: &Options| Some(Failure::new("a rule", ""));
        let (_, _, runs) = shorten(Options::new(1, 1 << 40), Failure::new("a rule", ""), 5, always);
        assert_eq!(runs, 5);
    }

    #[test]
    fn options_are_said_and_read_alike() {
        let options = Options::new(3, 40).leave_out("lost,409").unwrap();
        assert_eq!(options.to_string(), "cargo simulate 3 --operations 40 --without lost,409");
        let drawn = options.drawn();
        assert_eq!((drawn.rates.lost, drawn.rates.conflict), (0.0, 0.0));
        assert_eq!(Options::new(3, 40).leave_out("nonsense"), Err("nonsense".to_owned()));
    }
}
