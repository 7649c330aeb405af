//! What a run found, as Markdown.
//!
//! ```text
//! ## memory
//! | workload    | esker              | slatedb            | × slatedb         |
//! | read-random | 901 k (880..910 k) | 141 k (139..144 k) | 6.39 (6.30..6.45) |
//! ```
//!
//! then, a line each, what else was measured. A ratio says how many times as good Esker is: rates divided, or latencies
//! the other way round; its spread is that of the rounds, each Esker's figure over the peer's of the same round.
//!
//! Always true: a figure is the median over the rounds; what was not measured is a dash.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use esker_bench::{
    figures::{duration, short},
    sample::{Row, Sample, Samples, Spread},
};

use crate::workload::{Figure, Workload};

/// The engine that the others are compared with.
const OURS: &str = "esker";

/// Both tables of each store, and what was left out.
pub(crate) fn markdown(samples: &Samples) -> String {
    let mut text = String::new();
    let rows = samples.rows();
    let mut stores: Vec<&str> = Vec::new();
    for row in &rows {
        if !stores.contains(&row.store) {
            stores.push(row.store);
        }
    }
    let machine = &samples.setup["machine"];
    writeln!(
        text,
        "{} rounds on {} cores of {}, {} rows; versions {}\n",
        samples.setup["rounds"],
        machine["cores"],
        machine["processor"].as_str().unwrap_or("an unknown processor"),
        samples.setup["plan"]["rows"],
        samples.setup["versions"],
    )
    .expect("a String takes every write");
    for store in stores {
        let rows: Vec<&Row<'_>> = rows.iter().filter(|row| row.store == store).collect();
        let engines = engines(&rows);
        writeln!(text, "## {store}\n").expect("a String takes every write");
        text.push_str(&compared(&rows, &engines));
        text.push('\n');
        text.push_str(&detailed(&rows, &engines));
        text.push('\n');
    }
    if !samples.skipped.is_empty() {
        text.push_str("Left out:\n\n");
        for why in &samples.skipped {
            writeln!(text, "- {}", why.lines().next().unwrap_or_default())
                .expect("a String takes every write");
        }
    }
    text
}

/// Ours first, the others by name.
fn engines<'a>(rows: &[&Row<'a>]) -> Vec<&'a str> {
    let mut engines: Vec<&str> = rows.iter().flat_map(|row| row.engines.keys().copied()).collect();
    engines.sort_unstable_by_key(|engine| (*engine != OURS, *engine));
    engines.dedup();
    engines
}

/// The figure that matters of each engine, and ours in peers'.
fn compared(rows: &[&Row<'_>], engines: &[&str]) -> String {
    let peers: Vec<&&str> = engines.iter().filter(|engine| **engine != OURS).collect();
    let mut head = vec!["workload".to_owned(), "figure".to_owned()];
    head.extend(engines.iter().map(|engine| (*engine).to_owned()));
    head.extend(peers.iter().map(|peer| format!("× {peer}")));
    let lines = rows.iter().map(|row| {
        let figure = figure_of(row.workload);
        let name = if figure == Figure::Rate { "ops/s" } else { "p50" };
        let mut line = vec![row.workload.to_owned(), name.to_owned()];
        line.extend(engines.iter().map(|engine| {
            let samples = row.engines.get(engine).map_or(&[][..], Vec::as_slice);
            let spread = Spread::of(samples.iter().filter_map(|s| value(s, figure)));
            spread.map_or("–".into(), |spread| cell(spread, figure))
        }));
        line.extend(peers.iter().map(|peer| {
            let ratio = Spread::of(ratios(row, peer, figure));
            ratio
                .map_or("–".into(), |r| format!("{} ({}..{})", short(r.median), short(r.min), short(r.max)))
        }));
        line
    });
    sheet(&head, lines)
}

/// Everything else, a line an engine and workload.
fn detailed(rows: &[&Row<'_>], engines: &[&str]) -> String {
    let head = [
        "workload",
        "engine",
        "ops/s",
        "p50",
        "p99",
        "p99.9",
        "max",
        "requests/op",
        "GET MB",
        "PUT MB",
        "$/M ops",
        "cpu s",
        "peak MB",
    ];
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    let lines = rows.iter().flat_map(|row| {
        engines.iter().filter_map(|engine| {
            let samples = row.engines.get(engine)?;
            let median = |figure: &dyn Fn(&Sample) -> Option<f64>| {
                Spread::of(samples.iter().filter_map(|sample| figure(sample))).map(|spread| spread.median)
            };
            let number = |figure: &dyn Fn(&Sample) -> Option<f64>| median(figure).map_or("–".into(), short);
            let time = |figure: &dyn Fn(&Sample) -> Option<u64>| {
                let ns = median(&|sample| figure(sample).map(|ns| ns as f64));
                ns.map_or("–".into(), |ns| duration(Duration::from_nanos(ns as u64)))
            };
            Some(vec![
                row.workload.to_owned(),
                (*engine).to_owned(),
                number(&|s| Some(s.ops_per_second)),
                time(&|s| Some(s.latency?.p50_ns)),
                time(&|s| Some(s.latency?.p99_ns)),
                time(&|s| Some(s.latency?.p999_ns)),
                time(&|s| Some(s.latency?.max_ns)),
                number(&Sample::requests_per_operation),
                number(&|s| Some(s.requests?.get_bytes as f64 / 1e6)),
                number(&|s| Some(s.requests?.put_bytes as f64 / 1e6)),
                number(&Sample::dollars_per_million),
                number(&|s| Some(s.cpu_seconds)),
                number(&|s| Some(s.peak_memory_bytes as f64 / 1e6)),
            ])
        })
    });
    sheet(&head, lines)
}

fn figure_of(workload: &str) -> Figure {
    Workload::named(workload).map_or(Figure::Rate, |workload| workload.figure)
}

fn value(sample: &Sample, figure: Figure) -> Option<f64> {
    match figure {
        Figure::Rate => Some(sample.ops_per_second),
        Figure::Median => Some(sample.latency?.p50_ns as f64),
    }
}

/// How many times as good ours is, in each round that has both.
fn ratios(row: &Row<'_>, peer: &str, figure: Figure) -> Vec<f64> {
    let by_round = |engine: &str| -> BTreeMap<u32, f64> {
        let samples = row.engines.get(engine).map_or(&[][..], Vec::as_slice);
        samples.iter().filter_map(|s| Some((s.round, value(s, figure)?))).collect()
    };
    let theirs = by_round(peer);
    let ratio = |(round, ours): (&u32, &f64)| {
        let theirs = theirs.get(round)?;
        Some(if figure == Figure::Rate { ours / theirs } else { theirs / ours })
    };
    by_round(OURS).iter().filter_map(ratio).collect()
}

fn cell(spread: Spread, figure: Figure) -> String {
    let write = |value: f64| match figure {
        Figure::Rate => short(value),
        Figure::Median => duration(Duration::from_nanos(value as u64)),
    };
    format!("{} ({}..{})", write(spread.median), write(spread.min), write(spread.max))
}

/// A Markdown table; columns after the first two stand on the right.
fn sheet(head: &[String], lines: impl Iterator<Item = Vec<String>>) -> String {
    let mut text = format!("| {} |\n|", head.join(" | "));
    for column in 0..head.len() {
        text.push_str(if column < 2 { "---|" } else { "---:|" });
    }
    text.push('\n');
    for line in lines {
        writeln!(text, "| {} |", line.join(" | ")).expect("a String takes every write");
    }
    text
}

#[cfg(test)]
mod tests {
    use esker_bench::sample::{FORMAT, Quantiles, Requests};
    use serde_json::json;

    use super::*;

    fn sample(engine: &str, workload: &str, round: u32, rate: f64, p50_ns: u64) -> Sample {
        Sample {
            engine: engine.into(),
            store: "memory".into(),
            workload: workload.into(),
            round,
            operations: 1000,
            rows: 1000,
            seconds: 1.0,
            ops_per_second: rate,
            latency: Some(Quantiles { p50_ns, p90_ns: 2, p99_ns: 3_000_000, p999_ns: 4, max_ns: 5 }),
            service: None,
            requests: (engine != "fjall").then_some(Requests { get: 500, ..Requests::default() }),
            cpu_seconds: 1.0,
            peak_memory_bytes: 300_000_000,
        }
    }

    #[test]
    fn medians_spreads_and_ratios_of_the_same_round_are_in_the_table() {
        let samples = Samples {
            format: FORMAT,
            setup: json!({}),
            samples: vec![
                sample("esker", "read-random", 1, 900_000.0, 1000),
                sample("esker", "read-random", 2, 1_000_000.0, 1000),
                sample("esker", "read-random", 3, 800_000.0, 1000),
                sample("slatedb", "read-random", 3, 100_000.0, 1000),
                sample("slatedb", "read-random", 1, 150_000.0, 1000),
                sample("fjall", "read-random", 2, 500_000.0, 1000),
                sample("esker", "cold-get", 1, 60.0, 16_000_000),
                sample("slatedb", "cold-get", 1, 20.0, 48_000_000),
            ],
            skipped: vec!["rocksdb has no object store\nand more".into()],
        };
        let text = markdown(&samples);
        let line =
            |start: &str| text.lines().find(|l| l.starts_with(start)).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(
            line("| workload | figure"),
            "| workload | figure | esker | fjall | slatedb | × fjall | × slatedb |"
        );
        assert_eq!(
            line("| read-random | ops/s"),
            "| read-random | ops/s | 900 k (800 k..1.00 M) | 500 k (500 k..500 k) | 125 k (100 k..150 k) \
             | 2.00 (2.00..2.00) | 7.00 (6.00..8.00) |"
        );
        assert_eq!(
            line("| cold-get | p50"),
            "| cold-get | p50 | 16.0 ms (16.0 ms..16.0 ms) | – | 48.0 ms (48.0 ms..48.0 ms) | – | 3.00 (3.00..3.00) |"
        );
        assert!(
            line("| read-random | esker").contains("| 3.00 ms |")
                && line("| read-random | esker").contains("| 0.50 |")
        );
        assert!(line("| read-random | fjall").contains("| – |"));
        assert!(text.contains("\n- rocksdb has no object store\n"));
    }
}
