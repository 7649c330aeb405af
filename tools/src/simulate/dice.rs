//! Chance from a seed: one small generator, and the draws a simulation needs.
//!
//! The generator is SplitMix64: a counter, mixed. Each part of a run draws from a stream of its own, so that a
//! change in one does not shift the draws of the others.
//!
//! Always true: the same seed, stream and order of draws give the same numbers, on every machine.

use std::{
    hash::{DefaultHasher, Hasher as _},
    ops::RangeInclusive,
};

/// A stream of chance.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The stream called `name` of `seed`.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        // The hasher's keys are fixed.
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(seed);
        hasher.write(name.as_bytes());
        Self(hasher.finish())
    }

    /// 64 fresh bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// In `0..1`.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In `0..bound`; 0 if the bound is.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.bits() % bound }
    }

    /// In `range`, evenly.
    pub(crate) fn between(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.below(range.end() - range.start() + 1)
    }

    /// In `range`, as often within a factor of two near its start as near its end.
    pub(crate) fn spread(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (low, high) = ((*range.start()).max(1) as f64, (*range.end()).max(1) as f64);
        let drawn = (low.ln() + self.unit() * (high.ln() - low.ln())).exp();
        (drawn as u64).clamp(*range.start(), *range.end())
    }

    /// Yes with this probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        // Nothing is drawn for what never happens.
        probability > 0.0 && self.unit() < probability
    }

    /// One of `choices`, which are not empty.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }

    /// A wait that is mostly about `mean_ms`, and sometimes much longer.
    pub(crate) fn wait_ms(&mut self, mean_ms: u64) -> u64 {
        (-(1.0 - self.unit()).ln() * mean_ms as f64) as u64
    }

    /// Pareto: at least `least_ms`, heavy-tailed, at most `most_ms`.
    pub(crate) fn tail_ms(&mut self, least_ms: u64, shape: f64, most_ms: u64) -> u64 {
        let drawn = least_ms.max(1) as f64 / (1.0 - self.unit()).powf(1.0 / shape);
        (drawn as u64).min(most_ms)
    }
}
