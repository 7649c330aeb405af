//! The page of results, as Markdown.
//!
//! ```text
//! # Results                   machine, versions, how it was made
//! ## Goals                    workload | SlateDB | … | Esker | ratios | goal | reached, or by how much not
//! ## The machine              what peers did where the goals were set, and here
//! ## Dollars                  every workload that costs anything, ours to SlateDB's
//! ## What bounds each row     from bounds.md
//! ## How figures move         tables and plots
//! ## Everything               the tables of each store
//! ```
//!
//! Always true: every goal has a line, measured or not; a row that falls short and has no word on what bounds it is named.

use std::fmt::Write as _;

use anyhow::Result;
use esker_bench::{
    figures::{count, short},
    sample::{Row, Samples, Scale, Spread},
};
use serde_json::Value;

use super::{
    bounds::Bounds,
    goals::{self, DOLLARS, PEERS, called},
    judge::{Judged, Verdict, judge},
    machine, merge, plots,
    scale::{self, Axis},
};
use crate::{
    figure::{Figure, OURS},
    table::{self, sheet},
};

/// What follows a fill, as samples name it.
const SETTLING: &str = "fill-settle";

/// What is to be written.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) text: String,
    /// Names and contents of pictures.
    pub(crate) plots: Vec<(String, String)>,
    /// What a reader will miss, a sentence each.
    pub(crate) missing: Vec<String>,
}

/// The page of `samples`.
pub(crate) fn page(samples: &Samples, bounds: &Bounds) -> Result<Page> {
    let rows = samples.rows();
    let base = samples.told_scale();
    let judged: Vec<Judged> = goals::ALL.iter().map(|goal| judge(goal, &rows, base)).collect();
    let dollars = dollars(&rows, base);
    let mut page = Page { text: head(samples), plots: Vec::new(), missing: Vec::new() };
    page.text.push_str(&goals_table(&judged, &dollars));
    page.text.push_str(&machine::section(&judged, bounds.of("machine")));
    page.text.push_str(&dollars_table(&dollars));
    page.bounds(&judged, bounds)?;
    if let Some(base) = base {
        page.scale(&rows, base)?;
    }
    let here: Vec<Row<'_>> = rows.into_iter().filter(|row| base.is_none() || row.scale == base).collect();
    write!(page.text, "## Everything\n\n{}", table::stores("###", &here))?;
    if !samples.skipped.is_empty() {
        page.text.push_str("Left out:\n\n");
        for why in &samples.skipped {
            writeln!(page.text, "- {}", why.lines().next().unwrap_or_default())?;
        }
    }
    Ok(page)
}

impl Page {
    /// What people wrote of each row.
    fn bounds(&mut self, judged: &[Judged], bounds: &Bounds) -> Result<()> {
        let mut workloads: Vec<&str> = Vec::new();
        for workload in judged.iter().map(|judged| judged.goal.workload).chain(["dollars"]) {
            if !workloads.contains(&workload) {
                workloads.push(workload);
            }
        }
        let mut said = String::new();
        for workload in &workloads {
            let of_it = || judged.iter().filter(|judged| judged.goal.workload == *workload);
            let is_short = of_it().any(|judged| matches!(judged.verdict, Verdict::Short(_)));
            match bounds.of(workload) {
                Some(words) => write!(said, "### {workload}\n\n{words}\n\n")?,
                None if is_short => self.missing.push(format!(
                    "`{workload}` falls short, and bounds.md has no section `## {workload}` that says what bounds it"
                )),
                None if of_it().any(|judged| judged.verdict == Verdict::Reached) => self.missing.push(format!(
                    "`{workload}` reaches its goal, and bounds.md has no section `## {workload}` that says how far the limit is"
                )),
                None => {}
            }
        }
        let known: Vec<&str> =
            workloads.iter().copied().chain(["machine", "scale"]).chain(merge::NAMES).collect();
        for name in bounds.about_others(&known) {
            self.missing.push(format!("bounds.md has a section `## {name}`, which is no row of the goals"));
        }
        if !said.is_empty() {
            write!(self.text, "## What bounds each row\n\n{said}")?;
        }
        if let Some(words) = bounds.of("scale") {
            write!(self.text, "## The cost of scale\n\n{words}\n\n")?;
        }
        Ok(())
    }

    /// How figures move: a picture and a table for each axis.
    fn scale(&mut self, rows: &[Row<'_>], base: Scale) -> Result<()> {
        for axis in Axis::ALL {
            let charts = scale::charts(rows, base, axis);
            if charts.is_empty() {
                continue;
            }
            let (name, file) = (axis.name(), format!("{}.svg", axis.name()));
            let still = match axis {
                Axis::Rows => format!("{} callers", base.clients),
                Axis::Callers => format!("{} rows", short(base.rows as f64)),
            };
            let table = scale::table(&charts, axis);
            write!(
                self.text,
                "## How figures move with the number of {name}\n\n{still}; both axes are logarithmic.\n\n\
                 ![figures by {name}](results/{file})\n\n<details><summary>the same as a table</summary>\n\n{table}\n</details>\n\n"
            )?;
            self.plots.push((file, plots::svg(&charts, axis)?));
        }
        Ok(())
    }
}

fn head(samples: &Samples) -> String {
    let setup = &samples.setup;
    let (machine, versions, plan) = (&setup["machine"], &setup["versions"], &setup["plan"]);
    let words = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    let mut engines: Vec<String> = Vec::new();
    for (name, version) in versions.as_object().into_iter().flatten() {
        if !["rustc", "commit", "allocator", "build"].contains(&name.as_str()) {
            engines.push(format!("{name} {}", words(version)));
        }
    }
    let mut text = String::from(
        "# Results\n\nThis page is written by one command, from what it measured; do not edit it. What is measured and how, and what is \
         not fair about it: [peers/README.md](peers/README.md). Words on each row come from [results/bounds.md](results/bounds.md).\n\n",
    );
    let mut line = |what: &str, says: String| text.push_str(&format!("- {what}: {says}\n"));
    line("made by", format!("`{}`", setup["command"].as_str().unwrap_or("esker-peers")));
    line("date", words(&setup["date"]));
    line(
        "machine",
        format!(
            "{} cores of {}, {} of memory, Linux {}",
            machine["cores"],
            words(&machine["processor"]),
            words(&machine["memory"]),
            words(&machine["kernel"]),
        ),
    );
    line("engines", format!("{}, Esker at commit {}", engines.join(", "), words(&versions["commit"])));
    line(
        "built",
        format!(
            "{}, {}, allocator: {}",
            words(&versions["rustc"]),
            words(&versions["build"]),
            words(&versions["allocator"])
        ),
    );
    line(
        "run",
        format!(
            "{} rounds in turns, {} rows, keys of {} bytes, values of {} (half compressible), {} MiB of cache, {} clients, \
             {} threads; every read verified; medians, and of longest pauses the worst round, with the least and the most in brackets",
            setup["rounds"],
            count(number(&plan["rows"])),
            plan["key_bytes"],
            plan["value_bytes"],
            number(&plan["cache_bytes"]) >> 20,
            plan["clients"],
            plan["threads"],
        ),
    );
    if let Some(taken) = setup["taken"].as_str() {
        line("of it", taken.to_owned());
    }
    for more in setup["also"].as_array().into_iter().flatten() {
        let command = more["command"].as_str().unwrap_or("esker-peers");
        line(
            "and by",
            format!(
                "`{command}`, {}, at commit {}; of it: {}",
                words(&more["date"]),
                words(&more["versions"]["commit"]),
                words(&more["taken"])
            ),
        );
    }
    text.push('\n');
    text
}

fn goals_table(judged: &[Judged], dollars: &[Dollars]) -> String {
    // A peer without a figure has no column: dashes all the way down say nothing.
    let is_there = |peer: &usize| judged.iter().any(|judged| judged.peers[*peer].0.is_some());
    let peers: Vec<usize> = (0..PEERS.len()).filter(is_there).collect();
    let mut head = vec!["workload".to_owned(), "figure".to_owned()];
    head.extend(peers.iter().map(|peer| PEERS[*peer].1.to_owned()));
    head.push("**Esker**".into());
    head.extend(peers.iter().map(|peer| format!("× {}", PEERS[*peer].1)));
    head.extend(["goal".into(), "reached".into()]);
    let mut lines: Vec<Vec<String>> = judged.iter().map(|judged| goal_line(judged, &peers)).collect();
    if !dollars.is_empty() {
        let reached = dollars.iter().filter(|cost| cost.is_reached()).count();
        let mut line =
            vec!["every workload that costs anything".to_owned(), Figure::Dollars.name().to_owned()];
        line.resize(head.len() - 2, "–".into());
        line.push(format!("≤ {} × {}", DOLLARS.0, called(DOLLARS.1)));
        let all = dollars.len();
        line.push(if reached == all { "yes, all".into() } else { format!("**no**: {reached} of {all}") });
        lines.push(line);
    }
    let cheap = !dollars.is_empty() && dollars.iter().all(Dollars::is_reached);
    let reached =
        judged.iter().filter(|judged| judged.verdict == Verdict::Reached).count() + usize::from(cheap);
    let unknown = judged.iter().filter(|judged| matches!(judged.verdict, Verdict::Unknown(_))).count();
    let lines_of_goals = lines.len();
    let table = sheet(&head, lines.into_iter());
    format!(
        "## Goals\n\nOf {} goals {reached} are reached and {} are not; {unknown} could not be judged. \"×\" is how many times as good \
         Esker is: rates divided, latencies, requests and bytes the other way round.\n\n{table}\n",
        lines_of_goals,
        lines_of_goals - reached - unknown,
    )
}

/// The line of a goal, with these of [`PEERS`].
fn goal_line(judged: &Judged, peers: &[usize]) -> Vec<String> {
    let goal = &judged.goal;
    let peers = || peers.iter().map(|peer| &judged.peers[*peer]);
    let write = |spread: &Option<Spread>| {
        spread.map_or("–".into(), |s| goal.figure.write(goal.figure.of_rounds(s)))
    };
    let mut line = vec![format!("{}, {}", goal.workload, goal.store), goal.figure.name().to_owned()];
    line.extend(peers().map(|(figure, _)| write(figure)));
    line.push(match judged.ours {
        Some(ours) => {
            let values = [goal.figure.of_rounds(ours), ours.min, ours.max];
            let [one, min, max] = values.map(|value| goal.figure.write(value));
            format!("**{one}** ({min}..{max})")
        }
        None => "–".into(),
    });
    line.extend(peers().map(|(_, ratio)| ratio.map_or("–".into(), |ratio| short(ratio.median))));
    line.push(goal.text());
    line.push(match &judged.verdict {
        Verdict::Reached => "yes".into(),
        Verdict::Short(why) => format!("**no**: {}", why.join("; ")),
        Verdict::Unknown(why) => format!("?: {why}"),
    });
    line
}

/// What a workload costs, theirs and ours.
#[derive(Debug)]
struct Dollars {
    title: String,
    theirs: f64,
    ours: f64,
}

impl Dollars {
    fn is_reached(&self) -> bool {
        self.ours <= DOLLARS.0 * self.theirs
    }
}

/// Every workload at `base` that both have and that costs one of them anything. What a fill costs is known when it has
/// settled.
fn dollars(rows: &[Row<'_>], base: Option<Scale>) -> Vec<Dollars> {
    let here = || rows.iter().filter(|row| base.is_none() || row.scale == base);
    let cost = |row: &Row<'_>, engine: &str| {
        let settling = here().find(|other| other.workload == SETTLING && other.store == row.store);
        let later = settling
            .filter(|_| row.workload == "fill")
            .and_then(|other| Figure::Dollars.spread(other, engine));
        Some(Figure::Dollars.spread(row, engine)?.median + later.map_or(0.0, |later| later.median))
    };
    let costs = here().filter(|row| row.workload != SETTLING).filter_map(|row| {
        let (theirs, ours) = (cost(row, DOLLARS.1)?, cost(row, OURS)?);
        let title = format!("{}, {}", row.workload, row.store);
        (theirs > 0.0 || ours > 0.0).then_some(Dollars { title, theirs, ours })
    });
    costs.collect()
}

fn dollars_table(dollars: &[Dollars]) -> String {
    if dollars.is_empty() {
        return String::new();
    }
    let head = ["workload", "figure", called(DOLLARS.1), "Esker", "Esker's share", "reached"];
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    let lines = dollars.iter().map(|cost| {
        let share = cost.ours / cost.theirs;
        vec![
            cost.title.clone(),
            Figure::Dollars.name().to_owned(),
            Figure::Dollars.write(cost.theirs),
            Figure::Dollars.write(cost.ours),
            if share.is_finite() { short(share) } else { "–".into() },
            if cost.is_reached() { "yes".into() } else { "**no**".into() },
        ]
    });
    let table = sheet(&head, lines);
    format!(
        "## Dollars\n\nRequests at S3 standard prices for a million operations; the goal is at most {} of {}'s on each workload. \
         A fill costs what it costs until it has settled. Workloads that cost neither anything are not listed.\n\n{table}\n",
        DOLLARS.0,
        called(DOLLARS.1),
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use esker_bench::sample::{Requests, Sample};
    use serde_json::json;

    use super::*;

    fn sample(engine: &str, workload: &str, rate: f64, get: u64) -> Sample {
        Sample {
            engine: engine.into(),
            store: "memory".into(),
            workload: workload.into(),
            round: 1,
            operations: 1000,
            ops_per_second: rate,
            requests: (engine != "rocksdb").then_some(Requests { get, ..Requests::default() }),
            scale: Some(Scale { rows: 1000, clients: 2 }),
            ..Sample::default()
        }
    }

    fn of(samples: Vec<Sample>) -> Page {
        let setup =
            json!({ "plan": { "rows": 1000, "clients": 2 }, "command": "esker-peers results --quick" });
        let skipped = vec!["fjall on memory: it took too long\nand more".into()];
        let samples = Samples { format: 1, setup, samples, skipped };
        page(&samples, &Bounds::read(Path::new("no/such/file")).unwrap()).unwrap()
    }

    #[test]
    fn every_goal_has_a_line_measured_or_not() {
        let page = of(vec![
            sample("esker", "read-random", 1e6, 0),
            sample("slatedb", "read-random", 1e5, 0),
            sample("rocksdb", "read-random", 4e5, 0),
            sample("esker", "read-zipf", 6e5, 0),
        ]);
        for goal in goals::ALL {
            let start = format!("| {}, {} | {} |", goal.workload, goal.store, goal.figure.name());
            assert_eq!(page.text.lines().filter(|line| line.starts_with(&start)).count(), 1, "{start}");
        }
        let line = |start: &str| page.text.lines().find(|line| line.starts_with(start)).unwrap();
        assert_eq!(
            line("| read-random, memory"),
            "| read-random, memory | ops/s | 100 k | 400 k | **1.00 M** (1.00 M..1.00 M) | 10.0 | 2.50 \
             | ≥ 900 k, ≥ 6 × SlateDB, ≥ 2 × RocksDB | yes |"
        );
        assert_eq!(
            line("| workload | figure"),
            "| workload | figure | SlateDB | RocksDB | **Esker** | × SlateDB | × RocksDB | goal | reached |",
            "nobody measured SlateDB tuned or fjall"
        );
        assert!(line("| read-zipf, memory").ends_with("| ≥ 1.20 M | **no**: 0.50 of `≥ 1.20 M` |"));
        assert!(line("| fill, memory").ends_with("| ?: not measured |"));
        assert!(page.text.contains("Of 30 goals 1 are reached and 1 are not; 28 could not be judged"));
        assert!(page.text.contains("`esker-peers results --quick`"));
        assert!(page.text.contains("\n- fjall on memory: it took too long\n"));
    }

    #[test]
    fn a_row_without_a_word_on_what_bounds_it_is_named() {
        let page = of(vec![sample("esker", "read-zipf", 6e5, 0), sample("esker", "read-missing", 4e6, 0)]);
        assert_eq!(page.missing.len(), 2, "{:?}", page.missing);
        assert!(page.missing[0].contains("`read-zipf` falls short"));
        assert!(page.missing[1].contains("`read-missing` reaches its goal"));
        assert!(!page.text.contains("What bounds"));
    }

    #[test]
    fn dollars_are_compared_where_there_are_any() {
        let page = of(vec![
            sample("esker", "read-zipf", 1.0, 100),
            sample("slatedb", "read-zipf", 1.0, 1000),
            sample("esker", "scan", 1.0, 600),
            sample("slatedb", "scan", 1.0, 1000),
            sample("esker", "read-random", 1.0, 0),
            sample("slatedb", "read-random", 1.0, 0),
            sample("esker", "fill", 1.0, 0),
            sample("slatedb", "fill", 1.0, 1000),
            sample("esker", "fill-settle", 1.0, 2000),
            sample("slatedb", "fill-settle", 1.0, 1000),
        ]);
        assert!(
            page.text.contains("| fill, memory | $/M ops | 0.80 | 0.80 | 1.00 | **no** |"),
            "{}",
            page.text
        );
        assert!(page.text.contains("| **no**: 1 of 3 |"), "{}", page.text);
        assert!(
            page.text.contains("| read-zipf, memory | $/M ops | 0.40 | 0.0400 | 0.10 | yes |"),
            "{}",
            page.text
        );
        assert!(page.text.contains("| 0.60 | **no** |"), "{}", page.text);
    }

    #[test]
    fn other_scales_are_drawn_and_not_mixed_into_the_tables() {
        let larger = |rate| Sample {
            scale: Some(Scale { rows: 10_000, clients: 2 }),
            ..sample("esker", "scan", rate, 0)
        };
        let page = of(vec![sample("esker", "scan", 9e6, 0), larger(5e6)]);
        assert!(page.text.contains("**9.00 M** (9.00 M..9.00 M)"), "{}", page.text);
        assert!(page.text.contains("| scan on memory, ops/s | Esker | 9.00 M | 5.00 M |"), "{}", page.text);
        assert_eq!(page.plots[0].0, "rows.svg");
        assert!(page.text.split("## Everything").nth(1).unwrap().contains("9.00 M"));
        assert!(!page.text.split("## Everything").nth(1).unwrap().contains("5.00 M"));
    }
}
