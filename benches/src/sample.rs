//! What a run measured, as it is kept in a file: one sample a workload, store, engine and round.
//!
//! `benches/peers` writes these files; `esker bench compare` reads two of them. A file is one JSON object:
//!
//! ```text
//! { "format": 1, "setup": { machine, versions, options … }, "samples": [ Sample … ], "skipped": [ "why …" ] }
//! ```
//!
//! Always true: a sample says what was measured in one round and nothing derived from others; medians are taken when a
//! file is read. Fields that came later are optional: a file from before them is still read.

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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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
    /// How large the run was. Where a file does not say, [`Samples::read`] takes it from its setup.
    #[serde(default)]
    pub scale: Option<Scale>,
    /// Bytes that keys and values came to, and what became of them; of workloads that look at that.
    #[serde(default)]
    pub volume: Option<Volume>,
}

/// How large a run was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scale {
    /// Rows that were loaded.
    pub rows: u64,
    /// Concurrent clients, of workloads that do not say in their name how many they have.
    pub clients: u64,
}

/// Bytes at the top of an engine and at its bottom. What is not known is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Keys and values handed to the engine, or passed through it.
    pub given_bytes: u64,
    /// What was written below it meanwhile, until it was quiet: log, flushes and merges.
    pub written_bytes: Option<u64>,
    /// Keys and values of the newest versions there are.
    pub live_bytes: Option<u64>,
    /// What lay in its store when it was quiet, garbage that waits for its deletion included.
    pub stored_bytes: Option<u64>,
    /// What its tree consists of, by its own account: the same without log and garbage.
    pub tree_bytes: Option<u64>,
    /// The memory that it was given: cache, and buffers of writes if they have a budget.
    pub budget_bytes: Option<u64>,
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
        let mut samples: Self = serde_json::from_str(&text)
            .with_context(|| format!("{} is no file of samples, as benches/peers writes", path.display()))?;
        ensure!(
            samples.format == FORMAT,
            "{} has format {}, this program reads {FORMAT}",
            path.display(),
            samples.format
        );
        let scale = samples.told_scale();
        for sample in &mut samples.samples {
            sample.scale = sample.scale.or(scale);
        }
        Ok(samples)
    }

    /// The scale that the setup says: that of most of the run, or of all of it.
    pub fn told_scale(&self) -> Option<Scale> {
        let number = |name: &str| self.setup["plan"][name].as_u64();
        Some(Scale { rows: number("rows")?, clients: number("clients")? })
    }

    /// The samples of each workload, store and scale, by engine, in the order they were measured first.
    pub fn rows(&self) -> Vec<Row<'_>> {
        let mut rows: Vec<Row<'_>> = Vec::new();
        for sample in &self.samples {
            let at = rows.iter().position(|row| row.has(sample));
            let at = at.unwrap_or_else(|| {
                rows.push(Row {
                    workload: &sample.workload,
                    store: &sample.store,
                    scale: sample.scale,
                    engines: BTreeMap::new(),
                });
                rows.len() - 1
            });
            rows[at].engines.entry(&sample.engine).or_default().push(sample);
        }
        rows
    }
}

/// All that was measured of one workload on one store at one scale.
#[derive(Debug)]
pub struct Row<'a> {
    /// The workload.
    pub workload: &'a str,
    /// The store.
    pub store: &'a str,
    /// Rows and clients.
    pub scale: Option<Scale>,
    /// A sample a round, by engine.
    pub engines: BTreeMap<&'a str, Vec<&'a Sample>>,
}

impl Row<'_> {
    /// Whether `sample` belongs to it.
    pub fn has(&self, sample: &Sample) -> bool {
        self.workload == sample.workload && self.store == sample.store && self.scale == sample.scale
    }
}

impl Volume {
    /// Bytes written below the engine for each byte of keys and values.
    pub fn write_amplification(&self) -> Option<f64> {
        Some(self.written_bytes? as f64 / self.given_bytes.max(1) as f64)
    }

    /// Bytes that lie in the store for each byte of keys and values that lives.
    pub fn space_amplification(&self) -> Option<f64> {
        Some(self.stored_bytes? as f64 / self.live_bytes?.max(1) as f64)
    }

    /// Bytes of the tree for each byte of keys and values that lives.
    pub fn tree_amplification(&self) -> Option<f64> {
        Some(self.tree_bytes? as f64 / self.live_bytes?.max(1) as f64)
    }
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
        let sample = Sample { operations: 500, requests: Some(requests), ..Sample::default() };
        assert_eq!(sample.requests_per_operation(), Some(1.0));
        assert!((sample.dollars_per_million().unwrap() - 0.4).abs() < 1e-9);
    }

    #[test]
    fn a_file_from_before_scales_and_volumes_is_read_and_its_setup_says_how_large_it_was() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let old = r#"{"engine":"esker","store":"memory","workload":"scan","round":1,"operations":1,"rows":1,"seconds":1.0,
            "ops_per_second":1.0,"latency":null,"service":null,"requests":null,"cpu_seconds":0.0,"peak_memory_bytes":0}"#;
        let setup = r#"{"plan":{"rows":1000,"clients":2}}"#;
        let text = format!(r#"{{"format":1,"setup":{setup},"samples":[{old}],"skipped":[]}}"#);
        fs::write(file.path(), text).unwrap();
        let read = Samples::read(file.path()).unwrap();
        assert_eq!(read.samples[0].scale, Some(Scale { rows: 1000, clients: 2 }));
        assert_eq!(read.samples[0].volume, None);
    }

    #[test]
    fn the_same_workload_at_two_scales_is_two_rows() {
        let sample = |rows| Sample {
            scale: Some(Scale { rows, clients: 2 }),
            engine: "esker".into(),
            ..Sample::default()
        };
        let samples = Samples {
            format: FORMAT,
            setup: Value::Null,
            samples: vec![sample(1), sample(10), sample(1)],
            skipped: Vec::new(),
        };
        let counts: Vec<usize> = samples.rows().iter().map(|row| row.engines["esker"].len()).collect();
        assert_eq!(counts, [2, 1]);
    }

    #[test]
    fn amplifications_are_known_only_where_both_of_their_bytes_are() {
        let volume = Volume {
            given_bytes: 100,
            written_bytes: Some(250),
            stored_bytes: Some(90),
            ..Volume::default()
        };
        assert_eq!(volume.write_amplification(), Some(2.5));
        assert_eq!(volume.space_amplification(), None);
        assert_eq!(Volume { live_bytes: Some(60), ..volume }.space_amplification(), Some(1.5));
        assert_eq!(Volume { live_bytes: Some(60), ..volume }.tree_amplification(), None);
    }
}
