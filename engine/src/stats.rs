//! Counters: every request to the store has a cause and a price.
//!
//! One [`Stats`] belongs to one store handle and its clones. The store's meter adds to it at every
//! attempt, retries included, because that is what the store bills. [`StatsSnapshot`] is a copy at
//! one moment; two of them subtracted are an interval; with [`Prices`] it becomes dollars.
//!
//! Always true: a counter never goes back; a failed attempt is counted as a request too.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

/// Why a request was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// Finding and loading a database, a role being taken over.
    Open,
    /// Manifest commits, and the reads that settle them.
    Manifest,
    /// Log objects written.
    Wal,
    /// A frozen memtable becoming an SST.
    Flush,
    /// Merging SSTs.
    Compact,
    /// Reads of rows that were not cached.
    Read,
    /// Holds on versions that long reads are at.
    Pin,
    /// Looking whether there is something new.
    Poll,
    /// Collecting garbage.
    Gc,
    /// Testing the store itself.
    Probe,
    /// Commands of people: verify, export, show.
    Admin,
}

/// What kind of request it was, as the store bills it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestKind {
    /// An object, a part of one, or the start or end of a multipart upload.
    Put,
    /// An object or a range of it; also the answer that there is none.
    Get,
    /// A page of names.
    List,
    /// A deletion, or one batch of them.
    Delete,
}

impl Cause {
    /// Every cause, in the order of reports.
    pub const ALL: [Cause; 11] = [
        Cause::Open,
        Cause::Manifest,
        Cause::Wal,
        Cause::Flush,
        Cause::Compact,
        Cause::Read,
        Cause::Pin,
        Cause::Poll,
        Cause::Gc,
        Cause::Probe,
        Cause::Admin,
    ];

    /// The cause as one lower-case word, as reports and metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Manifest => "manifest",
            Self::Wal => "wal",
            Self::Flush => "flush",
            Self::Compact => "compact",
            Self::Read => "read",
            Self::Pin => "pin",
            Self::Poll => "poll",
            Self::Gc => "gc",
            Self::Probe => "probe",
            Self::Admin => "admin",
        }
    }
}

impl RequestKind {
    /// Every kind, in the order of reports.
    pub const ALL: [RequestKind; 4] =
        [RequestKind::Put, RequestKind::Get, RequestKind::List, RequestKind::Delete];

    /// The kind as one lower-case word, as reports and metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Get => "get",
            Self::List => "list",
            Self::Delete => "delete",
        }
    }
}

/// Live counters of one store handle and its clones: plain atomics, free to bump from any thread.
#[derive(Debug, Default)]
pub struct Stats {
    cells: [[Cell; Cause::ALL.len()]; RequestKind::ALL.len()],
}

#[derive(Debug, Default)]
struct Cell {
    requests: AtomicU64,
    failures: AtomicU64,
    bytes: AtomicU64,
}

impl Stats {
    /// Counts one attempt, and `bytes` of body sent or received by it.
    pub fn request(&self, kind: RequestKind, cause: Cause, bytes: u64) {
        let cell = self.cell(kind, cause);
        cell.requests.fetch_add(1, Ordering::Relaxed);
        cell.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts the failure of an attempt that [`Self::request`] has counted or will count.
    pub fn failure(&self, kind: RequestKind, cause: Cause) {
        self.cell(kind, cause).failures.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters as they are now.
    pub fn snapshot(&self) -> StatsSnapshot {
        let mut requests = Vec::new();
        for kind in RequestKind::ALL {
            for cause in Cause::ALL {
                let cell = self.cell(kind, cause);
                requests.push(RequestCount {
                    kind,
                    cause,
                    requests: cell.requests.load(Ordering::Relaxed),
                    failures: cell.failures.load(Ordering::Relaxed),
                    bytes: cell.bytes.load(Ordering::Relaxed),
                });
            }
        }
        requests.retain(|count| !count.is_zero());
        StatsSnapshot { requests }
    }

    fn cell(&self, kind: RequestKind, cause: Cause) -> &Cell {
        &self.cells[kind as usize][cause as usize]
    }
}

/// The counters at one moment. Subtract two ([`Self::since`]) to get an interval.
///
/// ```
/// use esker::stats::{Cause, Prices, RequestKind, Stats};
///
/// let stats = Stats::default();
/// let before = stats.snapshot();
/// stats.request(RequestKind::Put, Cause::Wal, 4096);
/// let spent = stats.snapshot().since(&before);
/// assert_eq!(spent.count(RequestKind::Put, Cause::Wal).bytes, 4096);
/// assert_eq!(spent.dollars(&Prices::default()), 0.000005);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatsSnapshot {
    /// What was counted, by kind and then by cause; pairs that never occurred are absent.
    pub requests: Vec<RequestCount>,
}

/// How often one kind of request was made for one cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestCount {
    /// What kind of request.
    pub kind: RequestKind,
    /// Why it was made.
    pub cause: Cause,
    /// Attempts, failed ones included.
    pub requests: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// Bytes of body, sent or received.
    pub bytes: u64,
}

impl RequestCount {
    fn is_zero(&self) -> bool {
        self.requests == 0 && self.failures == 0 && self.bytes == 0
    }
}

impl StatsSnapshot {
    /// What happened between `earlier` and this snapshot of the same counters.
    #[must_use]
    pub fn since(&self, earlier: &StatsSnapshot) -> StatsSnapshot {
        let mut requests = self.requests.clone();
        for count in &mut requests {
            let before = earlier.count(count.kind, count.cause);
            count.requests = count.requests.saturating_sub(before.requests);
            count.failures = count.failures.saturating_sub(before.failures);
            count.bytes = count.bytes.saturating_sub(before.bytes);
        }
        requests.retain(|count| !count.is_zero());
        StatsSnapshot { requests }
    }

    /// The counters of one kind and cause; zeros if it never occurred.
    pub fn count(&self, kind: RequestKind, cause: Cause) -> RequestCount {
        let absent = RequestCount { kind, cause, requests: 0, failures: 0, bytes: 0 };
        self.requests.iter().find(|c| c.kind == kind && c.cause == cause).copied().unwrap_or(absent)
    }

    /// Requests of one kind, over all causes.
    pub fn total(&self, kind: RequestKind) -> u64 {
        self.requests.iter().filter(|c| c.kind == kind).map(|c| c.requests).sum()
    }

    /// What the store charges for these requests, in dollars. Stored bytes and traffic are not in it.
    pub fn dollars(&self, prices: &Prices) -> f64 {
        RequestKind::ALL.iter().map(|kind| self.total(*kind) as f64 * prices.per_1000(*kind) / 1000.0).sum()
    }
}

/// A table for people: a line a cause, a column a kind, then failures and bytes.
impl fmt::Display for StatsSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<10}", "requests")?;
        for kind in RequestKind::ALL {
            write!(f, "{:>10}", kind.as_str())?;
        }
        write!(f, "{:>10}{:>16}", "failed", "bytes")?;
        for cause in Cause::ALL {
            let row = RequestKind::ALL.map(|kind| self.count(kind, cause));
            if row.iter().all(RequestCount::is_zero) {
                continue;
            }
            write!(f, "\n{:<10}", cause.as_str())?;
            for count in &row {
                write!(f, "{:>10}", count.requests)?;
            }
            let failures: u64 = row.iter().map(|c| c.failures).sum();
            let bytes: u64 = row.iter().map(|c| c.bytes).sum();
            write!(f, "{failures:>10}{bytes:>16}")?;
        }
        Ok(())
    }
}

/// What a store charges for requests, in dollars per thousand.
///
/// The default is Amazon S3 Standard in us-east-1, from the public price list as of September 2026:
/// PUT and LIST 0.005, GET 0.0004, DELETE free.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prices {
    /// Dollars for 1000 PUTs (parts of a multipart upload included).
    pub put_per_1000: f64,
    /// Dollars for 1000 GETs.
    pub get_per_1000: f64,
    /// Dollars for 1000 LISTs.
    pub list_per_1000: f64,
    /// Dollars for 1000 DELETEs.
    pub delete_per_1000: f64,
}

impl Prices {
    /// Dollars for 1000 requests of `kind`.
    pub fn per_1000(&self, kind: RequestKind) -> f64 {
        match kind {
            RequestKind::Put => self.put_per_1000,
            RequestKind::Get => self.get_per_1000,
            RequestKind::List => self.list_per_1000,
            RequestKind::Delete => self.delete_per_1000,
        }
    }
}

impl Default for Prices {
    fn default() -> Self {
        Self { put_per_1000: 0.005, get_per_1000: 0.0004, list_per_1000: 0.005, delete_per_1000: 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_holds_only_what_happened_in_it() {
        let stats = Stats::default();
        assert_eq!(stats.snapshot(), StatsSnapshot::default());
        stats.request(RequestKind::Get, Cause::Read, 10);
        let before = stats.snapshot();
        stats.request(RequestKind::Get, Cause::Read, 5);
        stats.request(RequestKind::List, Cause::Gc, 0);
        stats.failure(RequestKind::List, Cause::Gc);
        let interval = stats.snapshot().since(&before);
        assert_eq!(interval.count(RequestKind::Get, Cause::Read).requests, 1);
        assert_eq!(interval.count(RequestKind::Get, Cause::Read).bytes, 5);
        assert_eq!(interval.count(RequestKind::List, Cause::Gc).failures, 1);
        assert_eq!(interval.total(RequestKind::Put), 0);
        assert_eq!(before.since(&before), StatsSnapshot::default());
    }

    #[test]
    fn requests_cost_what_the_price_list_says() {
        let stats = Stats::default();
        for _ in 0..1000 {
            stats.request(RequestKind::Put, Cause::Wal, 1);
            stats.request(RequestKind::Get, Cause::Poll, 1);
            stats.request(RequestKind::Delete, Cause::Gc, 0);
        }
        let dollars = stats.snapshot().dollars(&Prices::default());
        assert!((dollars - 0.0054).abs() < 1e-12, "{dollars}");
    }

    #[test]
    fn the_table_has_a_line_for_each_cause_that_occurred() {
        let stats = Stats::default();
        stats.request(RequestKind::Put, Cause::Wal, 123);
        let table = stats.snapshot().to_string();
        assert_eq!(table.lines().count(), 2);
        assert!(table.contains("wal") && table.contains("123"), "{table}");
    }
}
