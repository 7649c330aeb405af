//! Latencies, processor time and memory of a phase.

use std::{
    fs,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

/// Latencies in nanoseconds, three significant digits, up to an hour.
#[derive(Debug, Clone)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

impl Latencies {
    /// None yet.
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, 3_600_000_000_000, 3).expect("constant bounds are valid"))
    }
    /// Adds one.
    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }
    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all histograms share their bounds");
    }
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }
    /// The latency that a share `q` of all does not pass; zero if there is none.
    pub fn quantile(&self, q: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(q))
    }
    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }
}

/// What this process has used since it began.
#[derive(Debug, Clone, Copy)]
pub struct Usage {
    at: Instant,
    cpu: Duration,
}

impl Usage {
    /// From here on.
    pub fn now() -> Self {
        Self { at: Instant::now(), cpu: cpu_time() }
    }
    /// Wall and processor time since then.
    pub fn elapsed(self) -> (Duration, Duration) {
        (self.at.elapsed(), cpu_time().saturating_sub(self.cpu))
    }
}

/// User and system time of this process; zero where the system does not tell.
fn cpu_time() -> Duration {
    // Fields 14 and 15 of /proc/self/stat, in ticks of 1/100 s (USER_HZ is 100 on every Linux). The name in field 2 may
    // hold spaces, so count from behind its closing parenthesis.
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return Duration::ZERO };
    let Some((_, rest)) = stat.rsplit_once(')') else { return Duration::ZERO };
    let ticks: u64 = rest.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Bytes that this process has handed to `write` calls since it began, to files and to anything else; `None` where the system
/// does not tell. What is written through a memory map is not among them.
pub fn written_bytes() -> Option<u64> {
    let io = fs::read_to_string("/proc/self/io").ok()?;
    io.lines().find_map(|line| line.strip_prefix("wchar:"))?.trim().parse().ok()
}

/// The most memory this process has held, in bytes; zero where the system does not tell.
pub fn peak_memory() -> u64 {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return 0 };
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
}
