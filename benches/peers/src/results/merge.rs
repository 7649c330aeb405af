//! The merge of a compaction on one core, as samples: `esker_bench::merging`, with the rows of the run.

use std::time::Duration;

use anyhow::Result;
use esker::codec::frame::Codec;
use esker_bench::{
    dataset::Dataset,
    measure::peak_memory,
    merging::{Passes, Runs, at_random},
    sample::{Sample, Scale, Volume},
};

use super::goals::NO_STORE;
use crate::{figure::OURS, options::Plan};

/// The workloads: stored blocks to stored blocks with LZ4, with Zstandard as at the bottom, and the part of it that begins with
/// decoded blocks and ends with entries that are kept. The goal looks at the first: that is what a core can compact.
pub(crate) const NAMES: [&str; 3] = ["merge", "merge-bottom", "merge-decoded"];
/// More rows than the processor's caches hold, and few enough to build them in a second.
const MOST_ROWS: u64 = 200_000;

/// Measures both in one round, on this thread.
pub(crate) fn samples(plan: &Plan, round: u32) -> Result<Vec<Sample>> {
    let rows = plan.rows.min(MOST_ROWS);
    let data = Dataset::new(rows, plan.key_bytes, plan.value_bytes, false, plan.seed);
    data.add_rows(rows);
    let runs = Runs::new(&data, Codec::Lz4, at_random)?;
    runs.merge()?;
    let whole = |codec| runs.repeat(plan.duration, |runs| runs.merge_whole(codec));
    let passes = [whole(Codec::Lz4)?, whole(Codec::Zstd)?, runs.repeat(plan.duration, Runs::merge)?];
    Ok(NAMES.iter().zip(passes).map(|(name, passes)| sample(plan, name, round, passes)).collect())
}

fn sample(plan: &Plan, name: &str, round: u32, passes: Passes) -> Sample {
    let seconds = passes.took.max(Duration::from_nanos(1)).as_secs_f64();
    Sample {
        engine: OURS.into(),
        store: NO_STORE.into(),
        workload: name.into(),
        round,
        operations: passes.entries,
        rows: passes.entries,
        seconds,
        ops_per_second: passes.entries as f64 / seconds,
        cpu_seconds: passes.cpu.as_secs_f64(),
        peak_memory_bytes: peak_memory(),
        scale: Some(Scale { rows: plan.rows, clients: plan.clients as u64 }),
        volume: Some(Volume { given_bytes: passes.bytes, ..Volume::default() }),
        ..Sample::default()
    }
}
