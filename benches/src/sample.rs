//! What a run measured, as it is kept in a file: one sample a workload, store, engine and round.
//!
//! `benches/peers` writes these files; `esker bench compare` reads two of them. A file is one JSON object:
//!
//! ```text
//! { "format": 1, "setup": { machine, versions, options … }, "samples": [ Sample … ], "skipped": [ "why …" ] }
//! ```
//!
//! Always true: a sample says what was measured in one round and nothing derived from others; medians are taken when a
//! file is read.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use esker::stats::{Prices, RequestKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::measure::Latencies;

/// The number of this format.
pub const FORMAT: u32 = 1;

/// A file of samples.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Samples {
    /// [`FORMAT`].
    pub format: u32,
    /// Machine, versions and options of the run, for people.
    pub setup: Value,
    /// What was measured.
    pub samples: Vec<Sample>,
    /// What was not, and why.
    pub skipped: Vec<String>,
}

/// One workload of one engine on one store, in one round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Who was measured, and how it was set.
    pub engine: String,
    /// Where its bytes were.
    pub store: String,
    /// What it did.
    pub workload: String,
    /// In which round, from 1.
    pub round: u32,
    /// Operations done in `seconds`: rows, if the workload is one scan.
    pub operations: u64,
    /// Rows written, read or passed over.
    pub rows: u64,
    /// How long it took.
    pub seconds: f64,
    /// Operations a second.
    pub ops_per_second: f64,
    /// How long operations took, from their intended start where they had one.
    pub latency: Option<Quantiles>,
    /// The same from their actual start, where that is another.
    pub service: Option<Quantiles>,
    /// What was asked of the object store meanwhile, by anyone; `None` for an engine that has none.
    pub requests: Option<Requests>,
    /// User and system time of the whole process meanwhile.
    pub cpu_seconds: f64,
    /// The most memory the process had held by then, harness and store in memory included.
    pub peak_memory_bytes: u64,
}

/// Points of a distribution of latencies, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Quantiles {
    pub p50_ns: u64,
    pub p90_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
    pub max_ns: u64,
}

/// Requests to an object store, as it bills them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Objects or ranges read, and answers that there is none.
    pub get: u64,
    /// Objects and parts written, uploads begun and ended, copies.
    pub put: u64,
    /// Pages of names.
    pub list: u64,
    /// Deletions, a batch being one.
    pub delete: u64,
    /// Bytes read.
    pub get_bytes: u64,
    /// Bytes written.
    pub put_bytes: u64,
}

/// The median of some figures, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The one in the middle, or between the two there.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Samples {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, is no such file, or of another format.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let samples: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is no file of samples, as benches/peers writes", path.display()))?;
        ensure!(
            samples.format == FORMAT,
            "{} has format {}, this program reads {FORMAT}",
            path.display(),
            samples.format
        );
        Ok(samples)
    }

    /// The samples of each workload and store, by engine, in the order they were measured first.
    pub fn rows(&self) -> Vec<Row<'_>> {
        let mut rows: Vec<Row<'_>> = Vec::new();
        for sample in &self.samples {
            let at = rows.iter().position(|r| r.workload == sample.workload && r.store == sample.store);
            let at = at.unwrap_or_else(|| {
                rows.push(Row { workload: &sample.workload, store: &sample.store, engines: BTreeMap::new() });
                rows.len() - 1
            });
            rows[at].engines.entry(&sample.engine).or_default().push(sample);
        }
        rows
    }
}

/// All that was measured of one workload on one store.
#[derive(Debug)]
pub struct Row<'a> {
    /// The workload.
    pub workload: &'a str,
    /// The store.
    pub store: &'a str,
    /// A sample a round, by engine.
    pub engines: BTreeMap<&'a str, Vec<&'a Sample>>,
}

impl Quantiles {
    /// Those of `latencies`; `None` if there are none.
    pub fn of(latencies: &Latencies) -> Option<Self> {
        let at = |q: f64| u64::try_from(latencies.quantile(q).as_nanos()).unwrap_or(u64::MAX);
        (latencies.count() > 0).then(|| Self {
            p50_ns: at(0.5),
            p90_ns: at(0.9),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
            max_ns: u64::try_from(latencies.max().as_nanos()).unwrap_or(u64::MAX),
        })
    }
}

impl Requests {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.get + self.put + self.list + self.delete
    }

    /// What came after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            get: self.get - earlier.get,
            put: self.put - earlier.put,
            list: self.list - earlier.list,
            delete: self.delete - earlier.delete,
            get_bytes: self.get_bytes - earlier.get_bytes,
            put_bytes: self.put_bytes - earlier.put_bytes,
        }
    }

    /// What S3 standard charges for them, in dollars.
    pub fn dollars(&self) -> f64 {
        let prices = Prices::default();
        let cost = |kind, number: u64| prices.per_1000(kind) * number as f64 / 1000.0;
        cost(RequestKind::Get, self.get)
            + cost(RequestKind::Put, self.put)
            + cost(RequestKind::List, self.list)
            + cost(RequestKind::Delete, self.delete)
    }
}

impl Sample {
    /// Requests for each operation.
    pub fn requests_per_operation(&self) -> Option<f64> {
        Some(self.requests?.total() as f64 / self.operations.max(1) as f64)
    }

    /// Dollars of requests for a million operations.
    pub fn dollars_per_million(&self) -> Option<f64> {
        Some(self.requests?.dollars() / self.operations.max(1) as f64 * 1e6)
    }
}

impl Spread {
    /// The spread of `figures`; `None` if there are none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) };
        Some(Self { median, min, max })
    }

    /// Whether some figure of one could be a figure of the other.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_in_the_middle_whatever_the_order() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of([]), None);
        let (low, high) = (Spread::of([1.0, 2.0]).unwrap(), Spread::of([2.5, 3.0]).unwrap());
        assert!(!low.overlaps(&high) && !high.overlaps(&low));
        assert!(low.overlaps(&Spread::of([2.0, 9.0]).unwrap()));
    }

    #[test]
    fn a_million_operations_of_one_get_each_cost_forty_cents() {
        let requests = Requests { get: 500, ..Requests::default() };
        let sample = Sample {
            engine: "esker".into(),
            store: "memory".into(),
            workload: "cold-get".into(),
            round: 1,
            operations: 500,
            rows: 500,
            seconds: 1.0,
            ops_per_second: 500.0,
            latency: None,
            service: None,
            requests: Some(requests),
            cpu_seconds: 0.0,
            peak_memory_bytes: 0,
        };
        assert_eq!(sample.requests_per_operation(), Some(1.0));
        assert!((sample.dollars_per_million().unwrap() - 0.4).abs() < 1e-9);
    }
}
