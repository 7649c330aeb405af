//! Whether goals are reached, and by how much not.
//!
//! Always true: a goal is reached when each of its bounds was looked at and holds, for medians over the rounds, and for the
//! longest pause of all of them; what was not measured is not reached, and the verdict says what is missing.

use esker_bench::{
    figures::short,
    sample::{Row, Sample, Scale, Spread},
};

use super::goals::{Goal, Wanted, called};
use crate::figure::{Figure, OURS};

/// What was found of a goal.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) goal: Goal,
    /// Ours; `None` if it was not measured.
    pub(crate) ours: Option<Spread>,
    /// Of each peer, in the order of [`super::goals::PEERS`]: its figure, and how many times as good ours is.
    pub(crate) peers: Vec<(Option<Spread>, Option<Spread>)>,
    pub(crate) verdict: Verdict,
}

/// What to say of a goal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    Reached,
    /// By how much it falls short, a sentence a bound.
    Short(Vec<String>),
    /// What is missing to say it.
    Unknown(String),
}

/// How a bound stands: the share of it that is reached (1 and above is all of it), or what is missing.
type Share = Result<f64, String>;

/// What the rows say of `goal`, at `scale`.
pub(crate) fn judge(goal: &Goal, rows: &[Row<'_>], scale: Option<Scale>) -> Judged {
    let row = find(rows, goal.workload, goal.store, scale);
    let ours = row.and_then(|row| goal.figure.spread(row, OURS));
    let peers = super::goals::PEERS.iter().map(|(peer, _)| match row {
        Some(row) => (goal.figure.spread(row, peer), goal.figure.ratio(row, peer)),
        None => (None, None),
    });
    let peers = peers.collect();
    let verdict = match (row, ours) {
        (Some(row), Some(ours)) => {
            let ours = goal.figure.of_rounds(ours);
            let shares = goal.wanted.iter().map(|wanted| (*wanted, share(*wanted, goal, row, ours, rows)));
            verdict(goal.figure, shares)
        }
        _ => Verdict::Unknown("not measured".into()),
    };
    Judged { goal: *goal, ours, peers, verdict }
}

/// The row of a workload on a store at a scale.
pub(crate) fn find<'r, 'a>(
    rows: &'r [Row<'a>],
    workload: &str,
    store: &str,
    scale: Option<Scale>,
) -> Option<&'r Row<'a>> {
    let mut same = rows.iter().filter(|row| row.workload == workload && row.store == store);
    same.find(|row| scale.is_none() || row.scale == scale)
}

fn share(wanted: Wanted, goal: &Goal, row: &Row<'_>, ours: f64, rows: &[Row<'_>]) -> Share {
    let most = |bound: f64| if ours <= 0.0 { f64::INFINITY } else { bound / ours };
    match wanted {
        Wanted::AtLeast(bound) => Ok(ours / bound),
        Wanted::AtMost(bound) => Ok(most(bound)),
        Wanted::Times(times, peer) => {
            let ratio =
                goal.figure.ratio(row, peer).ok_or_else(|| format!("{} was not measured", called(peer)))?;
            Ok(ratio.median / times)
        }
        Wanted::ShareOf(share, workload) => {
            let other = find(rows, workload, row.store, row.scale);
            let theirs = other.and_then(|other| goal.figure.spread(other, OURS));
            let theirs = theirs.ok_or_else(|| format!("{workload} was not measured"))?;
            Ok(ours / (share * goal.figure.of_rounds(theirs)))
        }
        Wanted::OfBudget(times) => {
            let samples = row.engines.get(OURS).map_or(&[][..], Vec::as_slice);
            let budgets =
                samples.iter().filter_map(|sample: &&Sample| Some(sample.volume?.budget_bytes? as f64));
            let budget = Spread::of(budgets).ok_or("the budget is not known")?;
            Ok(most(times * budget.median))
        }
    }
}

fn verdict(figure: Figure, shares: impl Iterator<Item = (Wanted, Share)>) -> Verdict {
    let (mut short_of, mut missing) = (Vec::new(), Vec::new());
    for (wanted, share) in shares {
        match share {
            Ok(share) if share >= 1.0 => {}
            Ok(share) => short_of.push(falls_short(wanted, figure, share)),
            Err(why) => missing.push(why),
        }
    }
    match (short_of.is_empty(), missing.is_empty()) {
        (true, true) => Verdict::Reached,
        (true, false) => Verdict::Unknown(missing.join(", ")),
        (false, _) => Verdict::Short(short_of),
    }
}

/// "0.47 of ≥ 1.00 M": less than wanted. "2.30 times ≤ 34.5 ms": more than wanted.
fn falls_short(wanted: Wanted, figure: Figure, share: f64) -> String {
    let bound = wanted.text(figure);
    match wanted {
        Wanted::AtMost(_) | Wanted::OfBudget(_) => format!("{} times `{bound}`", short(1.0 / share)),
        Wanted::AtLeast(_) | Wanted::Times(..) | Wanted::ShareOf(..) => {
            format!("{} of `{bound}`", short(share))
        }
    }
}

#[cfg(test)]
mod tests {
    use esker_bench::sample::{Quantiles, Samples, Volume};
    use serde_json::Value;

    use super::{super::goals, *};

    fn sample(engine: &str, workload: &str, store: &str, round: u32, rate: f64) -> Sample {
        let (engine, store, workload) = (engine.into(), store.into(), workload.into());
        Sample { engine, store, workload, round, operations: 1, ops_per_second: rate, ..Sample::default() }
    }

    fn samples(samples: Vec<Sample>) -> Samples {
        Samples { format: 1, setup: Value::Null, samples, skipped: Vec::new() }
    }

    fn verdict_of(workload: &str, figure: Figure, all: Vec<Sample>) -> Verdict {
        let goal = goals::ALL.iter().find(|goal| goal.workload == workload && goal.figure == figure).unwrap();
        judge(goal, &samples(all).rows(), None).verdict
    }

    #[test]
    fn a_goal_is_reached_only_with_all_of_its_bounds_and_in_the_rounds_that_both_have() {
        let three = |ours, slatedb, rocksdb| {
            vec![
                sample("esker", "fill", "memory", 1, ours),
                sample("slatedb", "fill", "memory", 1, slatedb),
                sample("rocksdb", "fill", "memory", 1, rocksdb),
                sample("rocksdb", "fill", "memory", 2, 1.0),
            ]
        };
        let fill = |ours, slatedb, rocksdb| verdict_of("fill", Figure::Rate, three(ours, slatedb, rocksdb));
        assert_eq!(fill(1.2e6, 2e5, 3e5), Verdict::Reached);
        assert_eq!(fill(1.2e6, 2e5, 8e5), Verdict::Short(vec!["0.50 of `≥ 3 × RocksDB`".into()]));
        let both = ["0.50 of `≥ 1.00 M`".into(), "0.50 of `≥ 5 × SlateDB`".into()];
        assert_eq!(fill(5e5, 2e5, 1e5), Verdict::Short(both.into()));
    }

    #[test]
    fn what_was_not_measured_is_said_and_is_not_reached() {
        assert_eq!(verdict_of("fill", Figure::Rate, Vec::new()), Verdict::Unknown("not measured".into()));
        let alone = vec![sample("esker", "ycsb-a", "memory", 1, 1e9)];
        let unknown = Verdict::Unknown("RocksDB was not measured".into());
        assert_eq!(verdict_of("ycsb-a", Figure::Rate, alone), unknown);
        let elsewhere = vec![sample("esker", "read-zipf", "dir", 1, 1e9)];
        assert_eq!(verdict_of("read-zipf", Figure::Rate, elsewhere), Verdict::Unknown("not measured".into()));
    }

    #[test]
    fn less_is_better_of_latencies_and_reverse_is_measured_by_forward() {
        let cold = |p50_ns| {
            let latency = Some(Quantiles { p50_ns, p90_ns: 0, p99_ns: 0, p999_ns: 0, max_ns: 0 });
            let sample = Sample { latency, ..sample("esker", "cold-get", "memory+standard", 1, 60.0) };
            verdict_of("cold-get", Figure::Median, vec![sample])
        };
        assert_eq!(cold(16_000_000), Verdict::Reached);
        assert_eq!(cold(33_000_000), Verdict::Short(vec!["2.00 times `≤ 16.5 ms`".into()]));
        let reverse = |rate| {
            let scan = sample("esker", "scan", "memory", 1, 1e6);
            let all = vec![scan, sample("esker", "scan-reverse", "memory", 1, rate)];
            verdict_of("scan-reverse", Figure::Rate, all)
        };
        assert_eq!(reverse(0.85e6), Verdict::Reached);
        assert_eq!(reverse(0.4e6), Verdict::Short(vec!["0.50 of `≥ 0.8 × scan`".into()]));
    }

    #[test]
    fn a_longest_pause_is_that_of_the_worst_round_theirs_too() {
        let pauses = |engine: &str, pauses: [u64; 3]| {
            let sample = |(round, ms)| Sample {
                latency: Some(Quantiles {
                    p50_ns: 0,
                    p90_ns: 0,
                    p99_ns: 0,
                    p999_ns: 0,
                    max_ns: ms * 1_000_000,
                }),
                ..sample(engine, "overwrite", "dir", round, 1.0)
            };
            (1..).zip(pauses).map(sample).collect::<Vec<Sample>>()
        };
        let verdict = |ours| verdict_of("overwrite", Figure::Longest, pauses("esker", ours));
        assert_eq!(verdict([40, 50, 45]), Verdict::Reached);
        assert_eq!(verdict([40, 200, 45]), Verdict::Short(vec!["4.00 times `≤ 50.0 ms`".into()]));
        let both = samples([pauses("esker", [40, 200, 45]), pauses("slatedb", [100, 80, 90])].concat());
        let row = &both.rows()[0];
        assert_eq!(Figure::Longest.ratio(row, "slatedb").map(|ratio| ratio.median), Some(0.5));
    }

    #[test]
    fn memory_is_measured_by_what_the_engine_was_given() {
        let peak = |peak_memory_bytes| {
            let volume = Some(Volume { budget_bytes: Some(1000), ..Volume::default() });
            let sample = Sample { volume, peak_memory_bytes, ..sample("esker", "overwrite", "dir", 1, 1.0) };
            verdict_of("overwrite", Figure::PeakMemory, vec![sample])
        };
        assert_eq!(peak(1100), Verdict::Reached);
        assert_eq!(peak(2200), Verdict::Short(vec!["2.00 times `≤ 1.1 × budget`".into()]));
    }

    #[test]
    fn a_goal_is_judged_at_the_scale_that_is_asked_for() {
        let at = |rows, rate| Sample {
            scale: Some(Scale { rows, clients: 2 }),
            ..sample("esker", "read-zipf", "memory", 1, rate)
        };
        let samples = samples(vec![at(10, 1.0), at(1000, 2e6)]);
        let goal = goals::ALL.iter().find(|goal| goal.workload == "read-zipf").unwrap();
        let judged = |rows| judge(goal, &samples.rows(), Some(Scale { rows, clients: 2 })).verdict;
        assert_eq!(judged(1000), Verdict::Reached);
        assert!(matches!(judged(10), Verdict::Short(_)));
        assert_eq!(judged(7), Verdict::Unknown("not measured".into()));
    }
}
