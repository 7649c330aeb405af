//! One file of samples of several, and what was taken of each.
//!
//! Always true: of a row that more than one file has, everything is the last one's, for every engine.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use esker_bench::sample::{FORMAT, Sample, Samples, Scale};
use serde_json::{Value, json};

use super::scale::Axis;

/// What makes a row: workload, store and scale.
type Key = (String, String, Option<Scale>);

/// One file of all. Its setup is the first one's, and says what was taken of it (`taken`) and of the others (`also`).
pub(crate) fn gather(files: Vec<Samples>) -> Result<Samples> {
    ensure!(!files.is_empty(), "--from names no file");
    let base = files[0].told_scale();
    let rows: Vec<Vec<Key>> = files.iter().map(keys).collect();
    let mut all = Samples { format: FORMAT, setup: Value::Null, samples: Vec::new(), skipped: Vec::new() };
    let mut also = Vec::new();
    for (number, file) in files.into_iter().enumerate() {
        let later = &rows[number + 1..];
        let setup = file.setup;
        let taken = taken(&rows[number], later, base);
        if number > 0 {
            also.push(json!({
                "command": setup["command"], "date": setup["date"], "versions": setup["versions"], "taken": taken,
            }));
        } else {
            all.setup = setup;
            if rows.len() > 1 {
                all.setup["taken"] = taken.into();
            }
        }
        let is_last = |s: &Sample| {
            !later
                .iter()
                .flatten()
                .any(|(w, store, scale)| s.workload == *w && s.store == *store && s.scale == *scale)
        };
        all.samples.extend(file.samples.into_iter().filter(is_last));
        for why in file.skipped {
            if !all.skipped.contains(&why) {
                all.skipped.push(why);
            }
        }
    }
    if !also.is_empty() {
        all.setup["also"] = also.into();
    }
    Ok(all)
}

fn keys(file: &Samples) -> Vec<Key> {
    file.rows().iter().map(|row| (row.workload.to_owned(), row.store.to_owned(), row.scale)).collect()
}

/// What no later file has of `rows`, for people, by store: "memory at 1, 4 callers (18 of 20 measurements)". Sizes are named
/// where they are not those of `base` alone.
fn taken(rows: &[Key], later: &[Vec<Key>], base: Option<Scale>) -> String {
    let stores: BTreeSet<&str> = rows.iter().map(|row| &*row.1).collect();
    let sizes = |left: &[&Key], of: fn(Scale) -> u64, axis: Axis| {
        let found: BTreeSet<u64> = left.iter().filter_map(|row| row.2.map(of)).collect();
        if found.iter().all(|size| base.map(of) == Some(*size)) {
            return String::new();
        }
        let found: Vec<String> = found.iter().map(|size| axis.write(*size as f64)).collect();
        format!(" at {} {}", found.join(", "), axis.name())
    };
    let parts = stores.into_iter().filter_map(|store| {
        let here: Vec<&Key> = rows.iter().filter(|row| row.1 == store).collect();
        let left: Vec<&Key> =
            here.iter().copied().filter(|row| !later.iter().any(|file| file.contains(row))).collect();
        let share = format!(" ({} of {} measurements)", left.len(), here.len());
        let share = if left.len() < here.len() { share } else { String::new() };
        let rows = sizes(&left, |scale| scale.rows, Axis::Rows);
        let callers = sizes(&left, |scale| scale.clients, Axis::Callers);
        (!left.is_empty()).then(|| format!("{store}{rows}{callers}{share}"))
    });
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { "nothing".into() } else { parts.join("; ") }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::results) fn file(rows: &[(&str, &str, u64, f64)]) -> Samples {
        let sample = |(engine, workload, rows, rate): &(&str, &str, u64, f64)| Sample {
            engine: (*engine).into(),
            store: "memory".into(),
            workload: (*workload).into(),
            round: 1,
            operations: 1,
            ops_per_second: *rate,
            scale: Some(Scale { rows: *rows, clients: 2 }),
            ..Sample::default()
        };
        let setup = json!({ "plan": { "rows": 1_000_000, "clients": 2 } });
        Samples { format: 1, setup, samples: rows.iter().map(sample).collect(), skipped: Vec::new() }
    }

    #[test]
    fn of_a_row_that_two_files_have_the_last_one_is_taken_whole() {
        let before = file(&[
            ("esker", "scan", 1_000_000, 1.0),
            ("slatedb", "scan", 1_000_000, 1.0),
            ("esker", "fill", 1_000_000, 1.0),
        ]);
        let after = file(&[("esker", "scan", 1_000_000, 2.0), ("esker", "scan", 10_000_000, 3.0)]);
        let all = gather(vec![before, after]).unwrap();
        let left: Vec<(&str, f64)> = all.samples.iter().map(|s| (&*s.workload, s.ops_per_second)).collect();
        assert_eq!(left, [("fill", 1.0), ("scan", 2.0), ("scan", 3.0)]);
        assert_eq!(all.setup["taken"], "memory (1 of 2 measurements)");
        assert_eq!(all.setup["also"][0]["taken"], "memory at 1.00 M, 10.0 M rows");
        assert!(gather(Vec::new()).is_err());
    }

    #[test]
    fn a_file_by_itself_says_nothing_of_others_and_one_that_is_overridden_is_nothing() {
        let one = || file(&[("esker", "scan", 1_000_000, 1.0)]);
        assert_eq!(gather(vec![one()]).unwrap().setup, one().setup);
        assert_eq!(gather(vec![one(), one()]).unwrap().setup["taken"], "nothing");
    }
}
