//! `esker bench compare A.json B.json`: what has become better or worse from one run to another.
//!
//! Both are files of samples as `benches/peers` writes them: A is before, B is after. Compared are the median of each figure
//! over the rounds and the ratio of the two, B to A; behind it the ratio at the far ends of both spreads.
//!
//! ```text
//! workload     store   engine  figure       before                after                  ratio
//! read-random  memory  esker   ops/s    901 k (880 k..910 k)   780 k (760 k..790 k)   0.87 (0.84..0.90)  worse
//! ```
//!
//! Always true: a figure is a regression when its median is worse by more than the threshold and no round of B was as good
//! as the worst of A: noise is not. p99 is shown and does not count, for it is mostly noise. What A has and B has not is a
//! regression too, unless B was to measure less: an engine that crashed has no figures to be worse.

use std::{collections::BTreeSet, fmt::Write as _, path::PathBuf, process::ExitCode};

use anyhow::{Result, ensure};
use comfy_table::{CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};

use crate::{
    figures::short,
    options, print,
    sample::{Sample, Samples, Scale, Spread},
};

/// Compare two files of samples; the exit code is not zero when something got worse.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Examples:
  esker bench compare before.json after.json                   every engine, workload and store that both have
  esker bench compare before.json after.json --engine esker    ours alone
  esker bench compare before.json after.json --threshold 5     percent

  esker bench compare before.json part.json --subset           the second run was to measure less

The files are written by benches/peers. A figure counts as worse when its median is worse by more than the threshold and
the rounds of the two runs do not overlap; p99 is shown and does not count. What only the first file has counts as worse too.")]
pub(crate) struct CompareArgs {
    /// Samples of the run before.
    before: PathBuf,
    /// Samples of the run after.
    after: PathBuf,
    /// By how many percent a median may be worse.
    #[arg(long, default_value_t = 10.0)]
    threshold: f64,
    /// Only this engine.
    #[arg(long)]
    engine: Option<String>,
    /// What only the first file has is not missed.
    #[arg(long)]
    subset: bool,
}

/// What is compared of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Figure {
    Rate,
    Median,
    P99,
    Requests,
}

/// One figure of both runs.
#[derive(Debug)]
struct Change {
    name: [String; 3],
    figure: Figure,
    before: Spread,
    after: Spread,
    verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Better,
    Same,
    Worse,
}

impl CompareArgs {
    /// Prints the comparison, what is missing, and in what else the two runs differ.
    ///
    /// # Errors
    /// When a file cannot be read, or the two have nothing in common.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        options::usage(self.threshold >= 0.0, "--threshold must be a number of percent, 0 or more")?;
        let (before, after) = (Samples::read(&self.before)?, Samples::read(&self.after)?);
        let mut changes = changes(&before, &after, self.threshold / 100.0);
        if let Some(engine) = &self.engine {
            changes.retain(|change| change.name[2] == *engine);
        }
        ensure!(!changes.is_empty(), "the two files have no workload, store and engine in common");
        let mut text = format!("{}\n", report(&changes));
        for difference in differences(&before, &after) {
            text.push_str(&format!("not the same: {difference}\n"));
        }
        let engine = self.engine.as_deref();
        let missing = if self.subset { Vec::new() } else { missing(&before, &after, engine) };
        for what in &missing {
            text.push_str(&format!("MISSING in the second file: {what}\n"));
        }
        print(&text)?;
        let worse = changes.iter().any(|change| change.verdict == Verdict::Worse);
        Ok(if worse || !missing.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

impl Figure {
    const ALL: [Self; 4] = [Self::Rate, Self::Median, Self::P99, Self::Requests];

    fn name(self) -> &'static str {
        match self {
            Self::Rate => "ops/s",
            Self::Median => "p50 ns",
            Self::P99 => "p99 ns",
            Self::Requests => "requests/op",
        }
    }

    fn of(self, sample: &Sample) -> Option<f64> {
        match self {
            Self::Rate => Some(sample.ops_per_second),
            Self::Median => Some(sample.latency?.p50_ns as f64),
            Self::P99 => Some(sample.latency?.p99_ns as f64),
            Self::Requests => sample.requests_per_operation(),
        }
    }

    fn judge(self, before: Spread, after: Spread, threshold: f64) -> Verdict {
        if self == Self::P99 || before.overlaps(&after) {
            return Verdict::Same;
        }
        let (least, most) = (before.median * (1.0 - threshold), before.median * (1.0 + threshold));
        let is_more_better = self == Self::Rate;
        match after.median {
            median if median < least => {
                if is_more_better {
                    Verdict::Worse
                } else {
                    Verdict::Better
                }
            }
            median if median > most => {
                if is_more_better {
                    Verdict::Better
                } else {
                    Verdict::Worse
                }
            }
            _ => Verdict::Same,
        }
    }
}

/// What is compared with what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    workload: String,
    scale: Option<Scale>,
    store: String,
    engine: String,
}

impl Key {
    fn of(sample: &Sample) -> Self {
        let Sample { workload, scale, store, engine, .. } = sample;
        Self { workload: workload.clone(), scale: *scale, store: store.clone(), engine: engine.clone() }
    }

    /// The workload, and how large it was where `all` have several scales.
    fn title(&self, all: &Samples) -> String {
        let scale = self.scale.filter(|_| all.samples.iter().any(|other| other.scale != self.scale));
        scale.map_or_else(
            || self.workload.clone(),
            |s| format!("{} ({} rows, {} clients)", self.workload, short(s.rows as f64), s.clients),
        )
    }
}

/// A figure of all rounds of a key.
fn spread(samples: &Samples, key: &Key, figure: Figure) -> Option<Spread> {
    let ours = samples.samples.iter().filter(|sample| Key::of(sample) == *key);
    Spread::of(ours.filter_map(|sample| figure.of(sample)))
}

/// Every figure that both runs have, in the order of the second.
fn changes(before: &Samples, after: &Samples, threshold: f64) -> Vec<Change> {
    let mut seen = BTreeSet::new();
    let mut changes = Vec::new();
    for key in after.samples.iter().map(Key::of) {
        if !seen.insert(key.clone()) {
            continue;
        }
        for figure in Figure::ALL {
            if let (Some(was), Some(is)) = (spread(before, &key, figure), spread(after, &key, figure)) {
                let verdict = figure.judge(was, is, threshold);
                let name = [key.title(after), key.store.clone(), key.engine.clone()];
                changes.push(Change { name, figure, before: was, after: is, verdict });
            }
        }
    }
    changes
}

/// What the first has and the second has not, in words.
fn missing(before: &Samples, after: &Samples, engine: Option<&str>) -> Vec<String> {
    let keys: BTreeSet<Key> = before.samples.iter().map(Key::of).collect();
    let mut missing = Vec::new();
    for key in keys.iter().filter(|key| engine.is_none_or(|engine| key.engine == engine)) {
        let name = format!("{} on {}, {}", key.title(before), key.store, key.engine);
        let rounds = |samples: &Samples| samples.samples.iter().filter(|s| Key::of(s) == *key).count();
        match (rounds(before), rounds(after)) {
            (_, 0) => missing.push(name),
            (_, _) => missing.extend(
                Figure::ALL
                    .into_iter()
                    .filter(|figure| {
                        spread(before, key, *figure).is_some() && spread(after, key, *figure).is_none()
                    })
                    .map(|figure| format!("{} of {name}", figure.name())),
            ),
        }
    }
    missing
}

/// In what the two runs differ besides what they measured: sizes, machines, other engines' versions.
fn differences(before: &Samples, after: &Samples) -> Vec<String> {
    let mut found = Vec::new();
    for part in ["plan", "machine", "versions"] {
        let of = |samples: &Samples| samples.setup[part].as_object().cloned().unwrap_or_default();
        let (before, after) = (of(before), of(after));
        for (name, value) in &before {
            // The commit is what people compare.
            if let Some(other) = after.get(name).filter(|other| *other != value && name != "commit") {
                found.push(format!("{part}.{name} was {value} and is {other}"));
            }
        }
    }
    found
}

fn report(changes: &[Change]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header([
        "workload",
        "store",
        "engine",
        "figure",
        "before",
        "after",
        "after / before",
        "",
    ]);
    let write = |s: Spread| format!("{} ({}..{})", short(s.median), short(s.min), short(s.max));
    for change in changes {
        let (before, after) = (change.before, change.after);
        let ratio =
            |a: f64, b: f64| if b == 0.0 { if a == 0.0 { 1.0 } else { f64::INFINITY } } else { a / b };
        let ratio = Spread {
            median: ratio(after.median, before.median),
            min: ratio(after.min, before.max),
            max: ratio(after.max, before.min),
        };
        let [workload, store, engine] = &change.name;
        table.add_row([
            workload.as_str(),
            store.as_str(),
            engine.as_str(),
            change.figure.name(),
            &write(before),
            &write(after),
            &write(ratio),
            match change.verdict {
                Verdict::Better => "better",
                Verdict::Same => "",
                Verdict::Worse => "WORSE",
            },
        ]);
    }
    for column in table.column_iter_mut().skip(4).take(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let count = |verdict| changes.iter().filter(|change| change.verdict == verdict).count();
    let mut text = format!("{table}\n");
    write!(
        text,
        "{} figures: {} better, {} worse",
        changes.len(),
        count(Verdict::Better),
        count(Verdict::Worse)
    )
    .expect("a String takes every write");
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sample::{FORMAT, Quantiles, Requests};

    /// A file with a sample a round: a rate, a median latency and requests each.
    fn file(rounds: &[(f64, u64, u64)]) -> Samples {
        let sample = |(round, (rate, p50_ns, get)): (usize, &(f64, u64, u64))| Sample {
            engine: "esker".into(),
            store: "memory".into(),
            workload: "read-random".into(),
            round: round as u32 + 1,
            operations: 100,
            rows: 100,
            seconds: 1.0,
            ops_per_second: *rate,
            latency: Some(Quantiles {
                p50_ns: *p50_ns,
                p90_ns: 0,
                p99_ns: *p50_ns * 9,
                p999_ns: 0,
                max_ns: 0,
            }),
            requests: Some(Requests { get: *get, ..Requests::default() }),
            ..Sample::default()
        };
        let samples = rounds.iter().enumerate().map(sample).collect();
        Samples { format: FORMAT, setup: json!({}), samples, skipped: Vec::new() }
    }

    fn verdicts(before: &[(f64, u64, u64)], after: &[(f64, u64, u64)]) -> Vec<Verdict> {
        changes(&file(before), &file(after), 0.1).iter().map(|change| change.verdict).collect()
    }

    #[test]
    fn worse_by_more_than_the_threshold_and_out_of_the_noise_is_a_regression() {
        use Verdict::{Better, Same, Worse};
        let before = [(1000.0, 100, 100), (1010.0, 101, 100), (990.0, 99, 100)];
        assert_eq!(verdicts(&before, &before), [Same; 4]);
        assert_eq!(verdicts(&before, &[(850.0, 120, 120)]), [Worse, Worse, Same, Worse]);
        assert_eq!(verdicts(&before, &[(1200.0, 80, 0)]), [Better, Better, Same, Better]);
        assert_eq!(verdicts(&before, &[(950.0, 105, 100)]), [Same; 4], "below the threshold");
        let noisy = [(700.0, 200, 100), (850.0, 120, 100), (995.0, 99, 100)];
        assert_eq!(verdicts(&before, &noisy), [Same; 4], "one round was as good");
    }

    #[test]
    fn what_only_one_run_has_is_not_compared() {
        let mut other = file(&[(1.0, 1, 1)]);
        other.samples[0].store = "minio".into();
        assert!(changes(&file(&[(1.0, 1, 1)]), &other, 0.1).is_empty());
    }

    #[test]
    fn what_the_second_run_has_not_is_missed_and_what_it_has_besides_is_not() {
        let (one, mut both) = (file(&[(1.0, 1, 1)]), file(&[(1.0, 1, 1), (1.0, 1, 1)]));
        both.samples[1].workload = "scan".into();
        assert_eq!(missing(&both, &one, None), ["scan on memory, esker"]);
        assert!(missing(&both, &one, Some("slatedb")).is_empty());
        assert!(missing(&one, &both, None).is_empty());
        let mut silent = one.clone();
        silent.samples[0].latency = None;
        assert_eq!(
            missing(&one, &silent, None),
            ["p50 ns", "p99 ns"].map(|what| format!("{what} of read-random on memory, esker"))
        );
    }

    #[test]
    fn scales_are_compared_with_their_like_whatever_others_there_are() {
        let scale = |clients| Some(Scale { rows: 1000, clients });
        let mut before = file(&[(1000.0, 1, 1), (9000.0, 1, 1)]);
        (before.samples[0].scale, before.samples[1].scale) = (scale(1), scale(256));
        let mut after = file(&[(1000.0, 1, 1)]);
        after.samples[0].scale = scale(1);
        let rate =
            changes(&before, &after, 0.1).into_iter().find(|change| change.figure == Figure::Rate).unwrap();
        assert_eq!((rate.before.median, rate.after.median), (1000.0, 1000.0));
        assert_eq!(missing(&before, &after, None), ["read-random (1000 rows, 256 clients) on memory, esker"]);
    }

    #[test]
    fn runs_of_other_sizes_or_machines_are_told_apart() {
        let (mut before, mut after) = (file(&[(1.0, 1, 1)]), file(&[(1.0, 1, 1)]));
        before.setup =
            json!({ "plan": { "rows": 10, "threads": 2 }, "versions": { "commit": "a", "rustc": "1" } });
        assert!(differences(&before, &before).is_empty());
        after.setup =
            json!({ "plan": { "rows": 20, "threads": 2 }, "versions": { "commit": "b", "rustc": "1" } });
        assert_eq!(differences(&before, &after), ["plan.rows was 10 and is 20"]);
    }

    #[test]
    fn the_report_shows_both_and_the_ratio() {
        let changes = changes(&file(&[(1000.0, 100, 0)]), &file(&[(850.0, 100, 0)]), 0.1);
        let text = report(&changes);
        let line = text.lines().find(|line| line.contains("ops/s")).unwrap();
        assert!(line.contains("0.85 (0.85..0.85)") && line.contains("WORSE"), "{text}");
        assert!(text.ends_with("4 figures: 0 better, 1 worse"), "{text}");
    }
}
