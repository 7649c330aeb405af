//! Which key comes next: uniform, zipfian (YCSB's scrambled one), latest, sequential.
//!
//! The zipfian generator is that of Gray et al., "Quickly generating billion-record synthetic databases" (SIGMOD 1994),
//! as YCSB uses it, θ = 0.99; scrambled, so that the hot keys are spread over the key space.

use rand::{Rng, RngExt as _};

/// YCSB's skew.
const THETA: f64 = 0.99;

/// A zipfian distribution over `0..n`; 0 is the hottest.
#[derive(Debug, Clone)]
pub struct Zipf {
    n: u64,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    /// Costs O(n) once.
    pub fn new(n: u64) -> Self {
        let n = n.max(1);
        let zeta: f64 = (1..=n).map(|i| (i as f64).powf(-THETA)).sum();
        let zeta2 = 1.0 + 2f64.powf(-THETA);
        let eta = if n < 3 { 0.0 } else { (1.0 - (2.0 / n as f64).powf(1.0 - THETA)) / (1.0 - zeta2 / zeta) };
        Self { n, alpha: 1.0 / (1.0 - THETA), zeta, eta }
    }

    /// A rank in `0..n`.
    pub fn rank(&self, random: &mut impl Rng) -> u64 {
        let u: f64 = random.random();
        let uz = u * self.zeta;
        if uz < 1.0 {
            return 0;
        }
        if uz < 1.0 + 0.5f64.powf(THETA) {
            return 1.min(self.n - 1);
        }
        let rank = self.n as f64 * (self.eta * u - self.eta + 1.0).powf(self.alpha);
        (rank as u64).min(self.n - 1)
    }
}

/// How a phase chooses among the `n` rows there are.
#[derive(Debug, Clone)]
pub enum Chooser {
    /// Every row as likely as any other.
    Uniform,
    /// A few rows most of the time, spread over the key space.
    Zipf(Zipf),
    /// The newest rows most of the time.
    Latest(Zipf),
}

impl Chooser {
    /// A row in `0..n`; `n` may have grown since the chooser was made.
    pub fn choose(&self, n: u64, random: &mut impl Rng) -> u64 {
        match self {
            Self::Uniform => random.random_range(0..n.max(1)),
            Self::Zipf(zipf) => scramble(zipf.rank(random)) % n.max(1),
            Self::Latest(zipf) => n.saturating_sub(1).saturating_sub(zipf.rank(random)),
        }
    }
}

/// FNV-1a over the rank's bytes, as YCSB scrambles.
fn scramble(rank: u64) -> u64 {
    rank.to_le_bytes()
        .iter()
        .fold(0xCBF2_9CE4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::SmallRng};

    use super::*;

    #[test]
    fn the_hottest_rank_comes_as_often_as_the_law_says() {
        let (n, draws) = (1000, 200_000);
        let zipf = Zipf::new(n);
        let mut random = SmallRng::seed_from_u64(1);
        let mut counts = vec![0u32; n as usize];
        for _ in 0..draws {
            counts[zipf.rank(&mut random) as usize] += 1;
        }
        for rank in [0usize, 1] {
            let expected = draws as f64 * ((rank + 1) as f64).powf(-THETA) / zipf.zeta;
            let seen = f64::from(counts[rank]);
            assert!(
                (seen / expected - 1.0).abs() < 0.05,
                "rank {rank}: {seen} draws, {expected:.0} expected"
            );
        }
        assert!(counts[0] > counts[10] && counts[10] > counts[500], "ranks fall");
    }

    #[test]
    fn a_choice_is_always_a_row_that_exists() {
        let mut random = SmallRng::seed_from_u64(2);
        for n in [1u64, 2, 3, 1000] {
            for chooser in [Chooser::Uniform, Chooser::Zipf(Zipf::new(n)), Chooser::Latest(Zipf::new(n))] {
                for _ in 0..1000 {
                    assert!(chooser.choose(n, &mut random) < n);
                }
            }
        }
    }
}
