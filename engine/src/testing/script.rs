//! Rules at work: which call meets what, in order, and what has been met so far.
//!
//! The store and the proxy each own one [`Script`] behind a lock and ask it at every call.
//!
//! Always true: the same seed and the same order of calls give the same faults; the first rule that fires
//! wins; a rule counts the calls that match it, whether it fires or not.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;

use super::rule::{Fault, Operation, Rule, When};

/// How many bodies are remembered for [`Fault::Swap`].
const BODIES: usize = 8;

/// The rules in force, and what they have seen.
#[derive(Debug)]
pub(super) struct Script {
    /// Each with how many calls have matched it.
    rules: Vec<(Rule, u64)>,
    chance: u64,
    faults: u64,
    met: BTreeMap<&'static str, u64>,
    /// When each path was last written, while a rule asks for it.
    written: BTreeMap<String, Duration>,
    /// What was read last, one body a path, while a rule asks for it.
    bodies: VecDeque<(String, Bytes)>,
}

impl Script {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rules: Vec::new(),
            chance: seed,
            faults: 0,
            met: BTreeMap::new(),
            written: BTreeMap::new(),
            bodies: VecDeque::new(),
        }
    }

    pub(super) fn add(&mut self, rule: Rule) {
        self.rules.push((rule, 0));
    }

    pub(super) fn clear(&mut self) {
        self.rules.clear();
        self.written.clear();
        self.bodies.clear();
    }

    pub(super) fn faults(&self) -> u64 {
        self.faults
    }

    pub(super) fn met(&self) -> BTreeMap<&'static str, u64> {
        self.met.clone()
    }

    /// What a call meets, if anything. `paths` are the objects it is about: of a deletion in bulk, several.
    /// What depends on chance or on the past is settled: a latency comes back as a delay, a stale absence as
    /// an absence.
    pub(super) fn meet(
        &mut self,
        operation: Operation,
        paths: &[&str],
        node: &str,
        now: Duration,
    ) -> Option<Fault> {
        let writes = matches!(operation, Operation::Put | Operation::Complete | Operation::Copy);
        if writes && self.wants(|fault| matches!(fault, Fault::StaleMissing(_))) {
            self.written.extend(paths.iter().map(|path| ((*path).to_owned(), now)));
        }
        for (rule, seen) in &mut self.rules {
            if !paths.iter().any(|path| rule.matches(operation, path, node)) {
                continue;
            }
            *seen += 1;
            let fires = match rule.when {
                When::Always => true,
                When::Nth(n) => *seen == n,
                When::First(n) => *seen <= n,
                When::Every(n) => *seen % n.max(1) == 0,
                When::Chance(probability) => next_chance(&mut self.chance) < probability,
            };
            if !fires {
                continue;
            }
            let fault = match rule.fault {
                Fault::StaleMissing(age) => {
                    let young = |path: &&str| self.written.get(*path).is_some_and(|at| now < *at + age);
                    if !paths.iter().any(young) {
                        continue;
                    }
                    Fault::FalseMissing
                }
                Fault::Swap if self.bodies.iter().all(|(path, _)| paths.contains(&path.as_str())) => continue,
                Fault::Latency(latency) => Fault::Delay(latency.draw(next_chance(&mut self.chance))),
                other => other,
            };
            self.faults += 1;
            *self.met.entry(rule.fault.as_str()).or_default() += 1;
            return Some(fault);
        }
        None
    }

    /// Whether bodies that are read should be shown to [`Self::remember`].
    pub(super) fn wants_bodies(&self) -> bool {
        self.wants(|fault| matches!(fault, Fault::Swap))
    }

    pub(super) fn remember(&mut self, path: &str, body: &Bytes) {
        self.bodies.retain(|(known, _)| known != path);
        self.bodies.push_back((path.to_owned(), body.clone()));
        if self.bodies.len() > BODIES {
            self.bodies.pop_front();
        }
    }

    fn wants(&self, which: impl Fn(&Fault) -> bool) -> bool {
        self.rules.iter().any(|(rule, _)| which(&rule.fault))
    }

    /// The same body, spoiled as `fault` says, if it is one that spoils bodies.
    pub(super) fn spoil(&self, fault: Fault, path: &str, body: Bytes) -> Bytes {
        match fault {
            Fault::Truncate(bytes) => body.slice(..body.len().min(to_usize(bytes))),
            Fault::Flip(at) => {
                let mut body = body.to_vec();
                if let Some(byte) = body.get_mut(to_usize(at)) {
                    *byte ^= 1;
                }
                body.into()
            }
            Fault::Shift(places) if !body.is_empty() => {
                let mut shifted = body.to_vec();
                let length = shifted.len();
                shifted.rotate_left(to_usize(places) % length);
                shifted.into()
            }
            // As long as the right one, if it can be: a length that is wrong is the easier thing to notice.
            Fault::Swap => match self.bodies.iter().rev().find(|(other, _)| other != path) {
                Some((_, other)) => other.slice(..other.len().min(body.len())),
                None => body,
            },
            _ => body,
        }
    }
}

/// As a length in memory; what is longer than memory is as long as can be.
pub(super) fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The next number in 0..1 (SplitMix64).
fn next_chance(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(rule: &str, calls: usize) -> usize {
        let mut script = Script::new(7);
        script.add(rule.parse().unwrap());
        (0..calls).filter(|_| script.meet(Operation::Put, &["wal/1"], "a", Duration::ZERO).is_some()).count()
    }

    #[test]
    fn a_rule_fires_as_often_as_it_says() {
        for (rule, times) in [
            ("put -> hang", 10),
            ("put nth=3 -> hang", 1),
            ("put first=3 -> hang", 3),
            ("put every=3 -> hang", 3),
            ("put chance=0 -> hang", 0),
            ("put chance=1 -> hang", 10),
            ("put node=a -> hang", 10),
            ("put node=b -> hang", 0),
            ("get -> hang", 0),
            ("any wal/ -> flip=1", 0),
            ("any sst/ -> hang", 0),
        ] {
            assert_eq!(fired(rule, 10), times, "{rule}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_faults() {
        let run = |seed| {
            let mut script = Script::new(seed);
            script.add("any chance=0.3 -> latency=uniform(1ms,1s)".parse().unwrap());
            (0..50).map(|_| script.meet(Operation::Get, &["a"], "", Duration::ZERO)).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn what_was_just_written_is_missing_for_a_while_and_no_longer() {
        let mut script = Script::new(1);
        script.add("get -> stale_404=2s".parse().unwrap());
        let at = Duration::from_secs;
        assert_eq!(script.meet(Operation::Get, &["a"], "", at(0)), None);
        script.meet(Operation::Put, &["a"], "", at(1));
        assert_eq!(script.meet(Operation::Get, &["a"], "", at(2)), Some(Fault::FalseMissing));
        assert_eq!(script.meet(Operation::Get, &["b"], "", at(2)), None);
        assert_eq!(script.meet(Operation::Get, &["a"], "", at(3)), None);
        assert_eq!(script.faults(), 1);
        assert_eq!(script.met(), BTreeMap::from([("stale_404", 1)]));
    }

    #[test]
    fn a_swapped_body_is_anothers_and_not_longer() {
        let mut script = Script::new(1);
        script.add("get b -> swap".parse().unwrap());
        assert_eq!(script.meet(Operation::Get, &["b"], "", Duration::ZERO), None);
        script.remember("b", &Bytes::from_static(b"bbbb"));
        assert_eq!(script.meet(Operation::Get, &["b"], "", Duration::ZERO), None);
        script.remember("a", &Bytes::from_static(b"aaaaaaaa"));
        assert_eq!(script.meet(Operation::Get, &["b"], "", Duration::ZERO), Some(Fault::Swap));
        assert_eq!(&script.spoil(Fault::Swap, "b", Bytes::from_static(b"bbbb"))[..], b"aaaa");
        assert_eq!(&script.spoil(Fault::Shift(5), "b", Bytes::from_static(b"abcd"))[..], b"bcda");
        assert_eq!(&script.spoil(Fault::Flip(1), "b", Bytes::from_static(b"aa"))[..], b"a`");
        assert_eq!(&script.spoil(Fault::Truncate(9), "b", Bytes::from_static(b"aa"))[..], b"aa");
    }
}
