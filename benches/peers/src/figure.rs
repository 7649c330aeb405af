//! The figures that are taken from samples: what each is called, which way is better, and how people read it.
//!
//! Always true: a ratio says how many times as good ours is as theirs in the same round, whichever way is better.

use std::{collections::BTreeMap, time::Duration};

use esker_bench::{
    figures::{duration, short},
    sample::{Row, Sample, Spread},
};

/// The engine that the others are compared with.
pub(crate) const OURS: &str = "esker";

/// A figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    /// Operations a second.
    Rate,
    /// The median latency.
    Median,
    /// The longest latency: a promise, which the worst round breaks.
    Longest,
    /// Requests for each operation.
    Requests,
    /// Dollars of requests for a million operations.
    Dollars,
    /// Bytes written below the engine for each byte handed to it.
    WriteAmplification,
    /// Bytes in the store for each byte that lives.
    SpaceAmplification,
    /// Bytes of the tree for each byte that lives.
    TreeAmplification,
    /// The peak of resident memory.
    PeakMemory,
    /// Megabytes of keys and values that only passed through, for each second of a processor.
    MegabytesPerCore,
}

impl Figure {
    /// What it is called at the head of a column.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Rate => "ops/s",
            Self::Median => "p50",
            Self::Longest => "longest of all rounds",
            Self::Requests => "requests/op",
            Self::Dollars => "$/M ops",
            Self::WriteAmplification => "write amp",
            Self::SpaceAmplification => "space amp",
            Self::TreeAmplification => "tree amp",
            Self::PeakMemory => "peak MB",
            Self::MegabytesPerCore => "MB/s a core",
        }
    }

    /// Whether more of it is better; less is, if not.
    pub(crate) fn is_more_better(self) -> bool {
        matches!(self, Self::Rate | Self::MegabytesPerCore)
    }

    /// What stands for all rounds: the median, and of a promise the worst.
    pub(crate) fn of_rounds(self, rounds: Spread) -> f64 {
        if self == Self::Longest { rounds.max } else { rounds.median }
    }

    /// The figure of `sample`, if it was measured.
    pub(crate) fn of(self, sample: &Sample) -> Option<f64> {
        match self {
            Self::Rate => Some(sample.ops_per_second),
            Self::Median => Some(sample.latency?.p50_ns as f64),
            Self::Longest => Some(sample.latency?.max_ns as f64),
            Self::Requests => sample.requests_per_operation(),
            Self::Dollars => sample.dollars_per_million(),
            Self::WriteAmplification => sample.volume?.write_amplification(),
            Self::SpaceAmplification => sample.volume?.space_amplification(),
            Self::TreeAmplification => sample.volume?.tree_amplification(),
            Self::PeakMemory => Some(sample.peak_memory_bytes as f64),
            Self::MegabytesPerCore => {
                let volume = sample.volume.filter(|volume| volume.written_bytes.is_none())?;
                (sample.cpu_seconds > 0.0).then(|| volume.given_bytes as f64 / sample.cpu_seconds / 1e6)
            }
        }
    }

    /// A value of it, for people.
    pub(crate) fn write(self, value: f64) -> String {
        match self {
            Self::Median | Self::Longest => duration(Duration::from_nanos(value as u64)),
            Self::PeakMemory => short(value / 1e6),
            _ => short(value),
        }
    }

    /// Its median over the rounds of `engine`, and the ends; [`Figure::of_rounds`] says which of them counts.
    pub(crate) fn spread(self, row: &Row<'_>, engine: &str) -> Option<Spread> {
        Spread::of(row.engines.get(engine)?.iter().filter_map(|sample| self.of(sample)))
    }

    /// How many times as good ours is as `peer`'s, over the rounds that have both: in each, or the worst of a promise to the
    /// worst.
    pub(crate) fn ratio(self, row: &Row<'_>, peer: &str) -> Option<Spread> {
        let by_round = |engine: &str| -> BTreeMap<u32, f64> {
            let samples = row.engines.get(engine).map_or(&[][..], Vec::as_slice);
            samples.iter().filter_map(|sample| Some((sample.round, self.of(sample)?))).collect()
        };
        let theirs = by_round(peer);
        let both: Vec<(f64, f64)> =
            by_round(OURS).iter().filter_map(|(round, ours)| Some((*ours, *theirs.get(round)?))).collect();
        let ratio = |(ours, theirs): (f64, f64)| {
            let (good, bad) = if self.is_more_better() { (ours, theirs) } else { (theirs, ours) };
            (bad != 0.0).then(|| good / bad)
        };
        if self == Self::Longest {
            let (ours, theirs): (Vec<f64>, Vec<f64>) = both.into_iter().unzip();
            let worst = |rounds: Vec<f64>| Some(self.of_rounds(Spread::of(rounds)?));
            return Spread::of(ratio((worst(ours)?, worst(theirs)?)));
        }
        Spread::of(both.into_iter().filter_map(ratio))
    }
}
