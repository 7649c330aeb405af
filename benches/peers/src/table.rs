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
//! Always true: a figure is the median over the rounds, and the longest latency that of all of them; what was not measured
//! is a dash.

use std::fmt::Write as _;

use esker_bench::{
    figures::short,
    sample::{Row, Sample, Samples, Scale, Spread},
};

use crate::{
    figure::{Figure, OURS},
    workload::Workload,
};

/// Both tables of each store, and what was left out.
pub(crate) fn markdown(samples: &Samples) -> String {
    let mut text = String::new();
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
    text.push_str(&stores("##", &samples.rows()));
    if !samples.skipped.is_empty() {
        text.push_str("Left out:\n\n");
        for why in &samples.skipped {
            writeln!(text, "- {}", why.lines().next().unwrap_or_default())
                .expect("a String takes every write");
        }
    }
    text
}

/// Both tables of each store, below headings that begin with `level`. A store that was measured at several scales has a
/// heading for each.
pub(crate) fn stores(level: &str, rows: &[Row<'_>]) -> String {
    let mut text = String::new();
    let mut places: Vec<(&str, Option<Scale>)> = Vec::new();
    for row in rows {
        if !places.contains(&(row.store, row.scale)) {
            places.push((row.store, row.scale));
        }
    }
    for (store, scale) in &places {
        let here: Vec<&Row<'_>> = rows.iter().filter(|r| r.store == *store && r.scale == *scale).collect();
        let engines = engines(&here);
        let is_alone = places.iter().filter(|(other, _)| other == store).count() == 1;
        let size = match scale {
            Some(scale) if !is_alone => {
                format!(": {} rows, --clients {}", short(scale.rows as f64), scale.clients)
            }
            _ => String::new(),
        };
        let (compared, detailed) = (compared(&here, &engines), detailed(&here, &engines));
        write!(text, "{level} {store}{size}\n\n{compared}\n{detailed}\n")
            .expect("a String takes every write");
    }
    text
}

/// Ours first, the others by name.
pub(crate) fn engines<'a>(rows: &[&Row<'a>]) -> Vec<&'a str> {
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
        let mut line = vec![row.workload.to_owned(), figure.name().to_owned()];
        line.extend(
            engines.iter().map(|engine| figure.spread(row, engine).map_or("–".into(), |s| cell(s, figure))),
        );
        line.extend(peers.iter().map(|peer| {
            let ratio = figure.ratio(row, peer);
            ratio
                .map_or("–".into(), |r| format!("{} ({}..{})", short(r.median), short(r.min), short(r.max)))
        }));
        line
    });
    sheet(&head, lines)
}

/// A column of the table of details: its name, its figure, and how that is written.
type Column = (&'static str, fn(&Sample) -> Option<f64>, Figure);

/// Everything else, a line an engine and workload.
fn detailed(rows: &[&Row<'_>], engines: &[&str]) -> String {
    const ALWAYS: [Column; 11] = [
        ("ops/s", |s| Some(s.ops_per_second), Figure::Rate),
        ("p50", |s| Some(s.latency?.p50_ns as f64), Figure::Median),
        ("p99", |s| Some(s.latency?.p99_ns as f64), Figure::Median),
        ("p99.9", |s| Some(s.latency?.p999_ns as f64), Figure::Median),
        ("max", |s| Some(s.latency?.max_ns as f64), Figure::Longest),
        ("requests/op", Sample::requests_per_operation, Figure::Requests),
        ("GET MB", |s| Some(s.requests?.get_bytes as f64 / 1e6), Figure::Requests),
        ("PUT MB", |s| Some(s.requests?.put_bytes as f64 / 1e6), Figure::Requests),
        ("$/M ops", Sample::dollars_per_million, Figure::Dollars),
        ("cpu s", |s| Some(s.cpu_seconds), Figure::Requests),
        ("peak MB", |s| Some(s.peak_memory_bytes as f64), Figure::PeakMemory),
    ];
    // Of workloads that look at bytes, where there is one.
    const VOLUME: [Column; 4] = [
        ("write amp", |s| Figure::WriteAmplification.of(s), Figure::WriteAmplification),
        ("space amp", |s| Figure::SpaceAmplification.of(s), Figure::SpaceAmplification),
        ("tree amp", |s| Figure::TreeAmplification.of(s), Figure::TreeAmplification),
        ("MB/s a core", |s| Figure::MegabytesPerCore.of(s), Figure::MegabytesPerCore),
    ];
    let is_there = |column: &&Column| {
        rows.iter().flat_map(|r| r.engines.values().flatten()).any(|s| column.1(s).is_some())
    };
    let columns: Vec<&Column> = ALWAYS.iter().chain(VOLUME.iter().filter(is_there)).collect();
    let mut head = vec!["workload".to_owned(), "engine".to_owned()];
    head.extend(columns.iter().map(|(name, ..)| (*name).to_owned()));
    let lines = rows.iter().flat_map(|row| {
        let columns = &columns;
        engines.iter().filter_map(move |engine| {
            let samples = row.engines.get(engine)?;
            let mut line = vec![row.workload.to_owned(), (*engine).to_owned()];
            line.extend(columns.iter().map(|(_, of, figure)| {
                let spread = Spread::of(samples.iter().filter_map(|sample| of(sample)));
                spread.map_or("–".into(), |spread| figure.write(figure.of_rounds(spread)))
            }));
            Some(line)
        })
    });
    sheet(&head, lines)
}

/// The figure that matters of a workload.
pub(crate) fn figure_of(workload: &str) -> Figure {
    Workload::named(workload).map_or(Figure::Rate, |workload| workload.figure)
}

fn cell(spread: Spread, figure: Figure) -> String {
    let [one, min, max] = [figure.of_rounds(spread), spread.min, spread.max].map(|value| figure.write(value));
    format!("{one} ({min}..{max})")
}

/// A Markdown table; columns after the first two stand on the right.
pub(crate) fn sheet(head: &[String], lines: impl Iterator<Item = Vec<String>>) -> String {
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
    use esker_bench::sample::{FORMAT, Quantiles, Requests, Volume};
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
            requests: (engine != "fjall").then_some(Requests { get: 500, ..Requests::default() }),
            cpu_seconds: 1.0,
            peak_memory_bytes: 300_000_000,
            ..Sample::default()
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

    #[test]
    fn two_scales_of_a_store_stand_apart_and_amplifications_where_there_are_any() {
        let at = |rows, clients| Sample {
            scale: Some(Scale { rows, clients }),
            ..sample("esker", "read-random", 1, 1000.0, 1000)
        };
        let volume = Volume { given_bytes: 100, written_bytes: Some(250), ..Volume::default() };
        let samples = Samples {
            format: FORMAT,
            setup: json!({}),
            samples: vec![at(1_000_000, 2), Sample { volume: Some(volume), ..at(10_000_000, 16) }],
            skipped: Vec::new(),
        };
        let text = markdown(&samples);
        let parts: Vec<&str> = text.split("\n## ").collect();
        assert!(parts[1].starts_with("memory: 1.00 M rows, --clients 2\n"), "{text}");
        assert!(parts[2].starts_with("memory: 10.0 M rows, --clients 16\n"), "{text}");
        assert!(!parts[1].contains("write amp") && parts[2].contains("write amp"), "{text}");
        assert!(parts[2].contains("| 2.50 |") && !parts[2].contains("space amp"), "{text}");
    }
}
