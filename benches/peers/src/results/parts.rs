//! The parts of the results: which workloads, on which stores, at which sizes.
//!
//! | part | store | workloads |
//! |---|---|---|
//! | `merge` | none | a merge in memory on one core |
//! | `near` | `memory` | warm and durable |
//! | `far` | `memory+standard`, `memory+express` | cold and durable |
//! | `overwrite` | `dir` | `overwrite` |
//! | `rows` | `dir`, `dir+standard` | some of each, at several numbers of rows |
//! | `callers` | `memory`, `memory+standard` | some of each, at several numbers of clients |
//!
//! Files on the disk hold what would not fit in memory: `rows` is on a folder throughout, so that its points are comparable.
//!
//! Always true: no workload on a store is measured twice at one scale, whichever parts are run.

use anyhow::{Result, bail, ensure};

use super::goals::{EXPRESS, FOLDER, NEAR, STANDARD};
use crate::options::{Plan, PlanArgs, Run};

pub(crate) const MERGE: &str = "merge";
/// Those that the parts about scale look at, of warm ones.
const SCALED: &str = "fill,read-random,read-zipf,read-missing,multi-get,scan,scan-10,ycsb-a,ycsb-b,ycsb-e";
/// And of cold ones.
const SCALED_COLD: &str = "cold-get,cold-scan-10,open";
/// And of callers, those that wait.
const SCALED_WAITING: &str = "durable-n";

/// A part.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// One after another; at least one.
    pub(crate) runs: Vec<Run>,
}

/// The sizes of the parts about scale.
#[derive(Debug)]
pub(crate) struct Sizes<'a> {
    pub(crate) scale_rows: &'a [u64],
    /// Clients of all other parts.
    pub(crate) clients: usize,
    pub(crate) scale_callers: &'a [usize],
    pub(crate) scale_rounds: u32,
}

impl Part {
    /// The first of its runs.
    pub(crate) fn run(&self) -> &Run {
        &self.runs[0]
    }
}

/// The parts of these names, in the order of the table above.
pub(crate) fn named(names: &[String], plan: &PlanArgs, sizes: &Sizes<'_>) -> Result<Vec<Part>> {
    const ALL: [&str; 6] = [MERGE, "near", "far", "overwrite", "rows", "callers"];
    if let Some(unknown) = names.iter().find(|name| !ALL.contains(&name.trim())) {
        bail!("there is no part `{unknown}`; known are {}", ALL.join(", "));
    }
    ensure!(!names.is_empty(), "--parts names none");
    let wanted = ALL.into_iter().filter(|part| names.iter().any(|name| name.trim() == *part));
    let is_near_too = names.iter().any(|name| name.trim() == "near");
    let mut parts = Vec::new();
    for name in wanted {
        let runs = match name {
            MERGE => vec![plan.run(NEAR, "fill")?],
            "near" => vec![plan.run(NEAR, "warm,durable")?],
            "far" => vec![plan.run(&format!("{STANDARD},{EXPRESS}"), "cold,durable")?],
            "overwrite" => vec![plan.run(FOLDER, "overwrite")?],
            "rows" => {
                let scaled = plan.sized(sizes.scale_rows, &[sizes.clients], sizes.scale_rounds);
                vec![scaled.run(FOLDER, SCALED)?, scaled.run(&format!("{FOLDER}+standard"), SCALED_COLD)?]
            }
            _ => callers(plan, sizes, is_near_too)?,
        };
        parts.push(Part { name, runs });
    }
    Ok(parts)
}

fn callers(plan: &PlanArgs, sizes: &Sizes<'_>, is_near_too: bool) -> Result<Vec<Run>> {
    let rows = plan.size().map(|(rows, _)| rows).into_iter().collect::<Vec<_>>();
    let sized = |callers: &[usize]| plan.sized(&rows, callers, sizes.scale_rounds);
    // `near` has measured the same with its own number of clients.
    let is_other = |callers: &&usize| !is_near_too || **callers != sizes.clients;
    let others: Vec<usize> = sizes.scale_callers.iter().filter(is_other).copied().collect();
    let mut runs = vec![sized(sizes.scale_callers).run(STANDARD, SCALED_WAITING)?];
    if !others.is_empty() {
        runs.insert(0, sized(&others).run(NEAR, SCALED)?);
    }
    Ok(runs)
}

/// The plan whose size is that of the table of goals.
pub(crate) fn base(parts: &[Part]) -> Option<&Plan> {
    let goals = parts.iter().find(|part| !["rows", "callers"].contains(&part.name));
    goals.or(parts.first())?.run().plans.first()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Parser as _;

    use super::*;
    use crate::{
        options::{Args, Verb},
        workload::Workload,
    };

    fn parts(words: &[&str]) -> Result<Vec<Part>> {
        let args = Args::parse_from(["esker-peers", "results"].iter().chain(words));
        let Some(Verb::Results(results)) = args.verb else { panic!("not results") };
        results.parts()
    }

    #[test]
    fn no_workload_on_a_store_is_measured_twice_at_one_scale() {
        for words in
            [&[][..], &["--parts", "near,callers"], &["--parts", "callers"], &["--quick"], &["--smoke"]]
        {
            let mut seen = BTreeSet::new();
            for run in
                parts(words).unwrap().iter().filter(|part| part.name != MERGE).flat_map(|part| &part.runs)
            {
                for (store, plan) in
                    run.stores.iter().flat_map(|store| run.plans.iter().map(move |plan| (store, plan)))
                {
                    for workload in Workload::parse_list(&plan.workloads, *store).unwrap() {
                        let one = (workload.name, store.to_string(), plan.rows, plan.clients);
                        assert!(seen.insert(one.clone()), "{words:?}: {one:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn everything_that_a_goal_looks_at_is_run() {
        let all = parts(&[]).unwrap();
        let base = base(&all).unwrap();
        for goal in super::super::goals::ALL.iter().filter(|goal| goal.store != super::super::goals::NO_STORE)
        {
            let is_run = all.iter().flat_map(|part| &part.runs).any(|run| {
                let store = run.stores.iter().find(|store| store.to_string() == goal.store);
                let plan =
                    run.plans.iter().find(|plan| (plan.rows, plan.clients) == (base.rows, base.clients));
                store.zip(plan).is_some_and(|(store, plan)| {
                    Workload::parse_list(&plan.workloads, *store)
                        .unwrap()
                        .iter()
                        .any(|w| w.name == goal.workload)
                })
            });
            assert!(is_run, "{} on {}", goal.workload, goal.store);
        }
    }

    #[test]
    fn a_part_or_a_size_that_is_not_understood_is_refused() {
        assert!(parts(&["--parts", "near,sideways"]).unwrap_err().to_string().contains("sideways"));
        assert!(parts(&["--num", "1000,2000"]).unwrap_err().to_string().contains("--scale-rows"));
    }
}
