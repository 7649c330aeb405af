//! How long a store lets one wait: two lognormal distributions and a bandwidth.
//!
//! Latencies of object stores have a long tail to one side: their logarithms are near a normal distribution, so a median
//! and a 99th percentile say it all.
//!
//! | profile | first byte of a GET, median / p99 | PUT, median / p99 | bandwidth of a stream |
//! |---|---|---|---|
//! | standard | 15 / 60 ms | 30 / 120 ms | 90 MB/s |
//! | express | 4 / 8 ms | 6 / 12 ms | 90 MB/s |
//!
//! LIST and DELETE wait as a GET does. A store that is not shaped waits for nothing but itself.

use std::{f64::consts::TAU, time::Duration};

use rand::{Rng, RngExt as _};

/// The 99th percentile of the normal distribution, in standard deviations.
const Z99: f64 = 2.326_347_874;

/// A lognormal distribution of durations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lognormal {
    mean_of_log: f64,
    deviation_of_log: f64,
}

/// What requests wait for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Profile {
    /// Until the first byte of an answer to GET, LIST and DELETE.
    pub(crate) get: Lognormal,
    /// Until a PUT of no bytes is answered.
    pub(crate) put: Lognormal,
    /// Of one request's body.
    pub(crate) bytes_per_second: f64,
}

impl Lognormal {
    /// The one with this median and 99th percentile.
    pub(crate) fn new(median: Duration, p99: Duration) -> Self {
        let mean_of_log = median.as_secs_f64().ln();
        Self { mean_of_log, deviation_of_log: (p99.as_secs_f64().ln() - mean_of_log) / Z99 }
    }

    /// One of them.
    pub(crate) fn draw(&self, random: &mut impl Rng) -> Duration {
        // Box and Muller; 1 - u, for the logarithm of zero is none.
        let (u, v): (f64, f64) = (1.0 - random.random::<f64>(), random.random());
        let normal = (-2.0 * u.ln()).sqrt() * (TAU * v).cos();
        Duration::from_secs_f64((self.mean_of_log + self.deviation_of_log * normal).exp())
    }
}

impl Profile {
    /// S3 standard.
    pub(crate) fn standard() -> Self {
        Self::new([15, 60], [30, 120])
    }

    /// S3 Express One Zone.
    pub(crate) fn express() -> Self {
        Self::new([4, 8], [6, 12])
    }

    fn new(get_ms: [u64; 2], put_ms: [u64; 2]) -> Self {
        let lognormal = |[median, p99]: [u64; 2]| {
            Lognormal::new(Duration::from_millis(median), Duration::from_millis(p99))
        };
        Self { get: lognormal(get_ms), put: lognormal(put_ms), bytes_per_second: 90e6 }
    }

    /// How long a body of so many bytes takes.
    pub(crate) fn transfer(&self, bytes: u64) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.bytes_per_second)
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::SmallRng};

    use super::*;

    #[test]
    fn half_wait_less_than_the_median_and_one_in_a_hundred_more_than_the_99th_percentile() {
        for (profile, get, put) in
            [(Profile::standard(), [15, 60], [30, 120]), (Profile::express(), [4, 8], [6, 12])]
        {
            for (lognormal, wanted_ms) in [(profile.get, get), (profile.put, put)] {
                let mut random = SmallRng::seed_from_u64(3);
                let mut waits: Vec<Duration> = (0..100_000).map(|_| lognormal.draw(&mut random)).collect();
                waits.sort();
                for (at, wanted_ms) in [(50_000, wanted_ms[0]), (99_000, wanted_ms[1])] {
                    let error = waits[at].as_secs_f64() * 1e3 / wanted_ms as f64 - 1.0;
                    assert!(error.abs() < 0.05, "{:?} instead of {wanted_ms} ms", waits[at]);
                }
            }
        }
    }

    #[test]
    fn a_seed_gives_the_same_waits_again() {
        let draw = |seed| {
            let mut random = SmallRng::seed_from_u64(seed);
            (0..10).map(|_| Profile::standard().get.draw(&mut random)).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn nine_megabytes_take_a_tenth_of_a_second() {
        assert_eq!(Profile::standard().transfer(9_000_000), Duration::from_millis(100));
    }
}
