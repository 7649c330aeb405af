//! The goals, as data: what is to be reached, row by row, in the order of the table that set them.
//!
//! A goal is a workload on a store, a figure of it, and bounds: absolute ones, which mean a machine of two cores, and ratios to a
//! peer in the same run, which mean any machine. Dollars have one goal for every workload ([`DOLLARS`]).
//!
//! Always true: a goal's workload and store are names that the program knows.

use crate::figure::{
    Figure::{
        self, Longest, Median, MegabytesPerCore, PeakMemory, Rate, Requests, SpaceAmplification,
        WriteAmplification,
    },
    OURS,
};

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Goal {
    pub(crate) workload: &'static str,
    pub(crate) store: &'static str,
    pub(crate) figure: Figure,
    pub(crate) wanted: &'static [Wanted],
}

/// One bound. All of a goal's must hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Wanted {
    /// In the figure's unit.
    AtLeast(f64),
    /// In the figure's unit.
    AtMost(f64),
    /// So many times as good as this peer, in the same run.
    Times(f64, &'static str),
    /// At least this share of the same figure of another workload of ours.
    ShareOf(f64, &'static str),
    /// At most so many times the memory that the engine was given.
    OfBudget(f64),
}

use Wanted::{AtLeast, AtMost, OfBudget, ShareOf, Times};

/// The engines whose figures have a column, as samples name them, and as people do.
pub(crate) const PEERS: [(&str, &str); 4] =
    [("slatedb", "SlateDB"), ("slatedb-tuned", "SlateDB tuned"), ("rocksdb", "RocksDB"), ("fjall", "fjall")];

/// What a merge of runs in memory is measured on.
pub(crate) const NO_STORE: &str = "no store";
/// Where overwriting is measured: in memory, the objects would count as the engine's.
pub(crate) const FOLDER: &str = "dir";
/// Where warm workloads are.
pub(crate) const NEAR: &str = "memory";
/// Where cold and durable ones are.
pub(crate) const STANDARD: &str = "memory+standard";
/// The same, nearer.
pub(crate) const EXPRESS: &str = "memory+express";

/// Of every workload that costs anything: our dollars to SlateDB's, at most this.
pub(crate) const DOLLARS: (f64, &str) = (0.5, "slatedb");

const MS: f64 = 1e6;
/// Medians of the latencies that stores are given, in ns.
const GET_STANDARD: f64 = 15.0 * MS;
const PUT_STANDARD: f64 = 30.0 * MS;
const PUT_EXPRESS: f64 = 6.0 * MS;
/// "1.0" has one digit behind the point: what rounds to it is it.
const ONE: f64 = 1.05;

const fn goal(
    workload: &'static str,
    store: &'static str,
    figure: Figure,
    wanted: &'static [Wanted],
) -> Goal {
    Goal { workload, store, figure, wanted }
}

const TWICE_ROCKSDB: &[Wanted] = &[Times(2.0, "rocksdb")];

/// All of them.
pub(crate) const ALL: &[Goal] = &[
    goal("fill", NEAR, Rate, &[AtLeast(1e6), Times(5.0, "slatedb"), Times(3.0, "rocksdb")]),
    goal("durable-1", STANDARD, Median, &[AtMost(1.15 * PUT_STANDARD)]),
    goal("durable-1", EXPRESS, Median, &[AtMost(1.15 * PUT_EXPRESS)]),
    goal("durable-256", STANDARD, Rate, &[Times(3.0, "slatedb")]),
    goal("read-random", NEAR, Rate, &[AtLeast(9e5), Times(6.0, "slatedb"), Times(2.0, "rocksdb")]),
    goal("read-zipf", NEAR, Rate, &[AtLeast(1.2e6)]),
    goal("read-missing", NEAR, Rate, &[AtLeast(3e6)]),
    goal("scan", NEAR, Rate, &[AtLeast(8e6)]),
    goal("scan-reverse", NEAR, Rate, &[ShareOf(0.8, "scan")]),
    goal("scan-10", NEAR, Rate, &[AtLeast(3.5e5)]),
    goal("ycsb-a", NEAR, Rate, TWICE_ROCKSDB),
    goal("ycsb-b", NEAR, Rate, TWICE_ROCKSDB),
    goal("ycsb-d", NEAR, Rate, TWICE_ROCKSDB),
    goal("ycsb-f", NEAR, Rate, TWICE_ROCKSDB),
    goal("ycsb-e", NEAR, Rate, &[AtLeast(2e5)]),
    goal("read-while-writing", NEAR, Rate, &[AtLeast(4e5)]),
    goal("cold-get", STANDARD, Median, &[AtMost(1.1 * GET_STANDARD)]),
    goal("cold-get", STANDARD, Requests, &[AtMost(ONE)]),
    goal("cold-get-first", STANDARD, Requests, &[AtMost(2.0)]),
    goal("cold-scan-10", STANDARD, Median, &[AtMost(1.3 * GET_STANDARD)]),
    goal("cold-scan-10", STANDARD, Requests, &[AtMost(1.3)]),
    goal("cold-scan", STANDARD, Rate, &[AtLeast(8e5)]),
    goal("open", STANDARD, Median, &[AtMost(120.0 * MS)]),
    goal("open", STANDARD, Requests, &[AtMost(6.0)]),
    goal("open-log", STANDARD, Median, &[AtMost(150.0 * MS)]),
    goal("overwrite", FOLDER, SpaceAmplification, &[AtMost(1.6)]),
    goal("overwrite", FOLDER, WriteAmplification, &[AtMost(3.0)]),
    goal("overwrite", FOLDER, PeakMemory, &[OfBudget(1.1)]),
    goal("overwrite", FOLDER, Longest, &[AtMost(50.0 * MS)]),
    goal("merge", NO_STORE, MegabytesPerCore, &[AtLeast(400.0)]),
];

/// What SlateDB 0.18 and RocksDB did a second on the machine on which the goals were set, [near](NEAR).
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeersThere {
    pub(crate) workload: &'static str,
    slatedb: f64,
    rocksdb: f64,
}

impl PeersThere {
    /// What `engine` did, if that is known.
    pub(crate) fn of(&self, engine: &str) -> Option<f64> {
        match engine {
            "slatedb" => Some(self.slatedb),
            "rocksdb" => Some(self.rocksdb),
            _ => None,
        }
    }
}

const fn near(workload: &'static str, slatedb: f64, rocksdb: f64) -> PeersThere {
    PeersThere { workload, slatedb, rocksdb }
}

/// As whoever set the goals wrote them down beside: two cores, a million keys of 16 bytes, values of 400, 256 MiB of cache.
pub(crate) const PEERS_THERE: &[PeersThere] = &[
    near("fill", 1.91e5, 2.64e5),
    near("read-random", 1.41e5, 3.69e5),
    near("read-zipf", 1.90e5, 5.86e5),
    near("read-missing", 2.80e5, 1.54e6),
    near("scan", 6.7e5, 2.9e6),
    near("scan-10", 5.2e4, 1.09e5),
    near("ycsb-a", 1.98e5, 4.06e5),
    near("ycsb-b", 1.96e5, 6.86e5),
    near("ycsb-d", 1.98e5, 8.98e5),
    near("ycsb-f", 1.16e5, 3.44e5),
    near("ycsb-e", 1.4e4, 9.5e4),
    near("read-while-writing", 7.1e4, 1.6e5),
];

impl Goal {
    /// Its bounds, as people write them.
    pub(crate) fn text(&self) -> String {
        self.wanted.iter().map(|wanted| wanted.text(self.figure)).collect::<Vec<_>>().join(", ")
    }
}

impl Wanted {
    /// As people write it; bounds are in the unit of `figure`.
    pub(crate) fn text(self, figure: Figure) -> String {
        match self {
            AtLeast(bound) => format!("≥ {}", figure.write(bound)),
            AtMost(bound) => format!("≤ {}", figure.write(bound)),
            Times(times, peer) => format!("≥ {times} × {}", called(peer)),
            ShareOf(share, workload) => format!("≥ {share} × {workload}"),
            OfBudget(times) => format!("≤ {times} × budget"),
        }
    }
}

/// An engine's name, as people write it.
pub(crate) fn called(engine: &str) -> &str {
    if engine == OURS {
        return "Esker";
    }
    PEERS.iter().find(|(name, _)| *name == engine).map_or(engine, |(_, called)| called)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{results::merge, store::Store, workload::Workload};

    #[test]
    fn every_goal_names_a_workload_and_a_store_that_there_are() {
        for goal in ALL {
            if goal.store == NO_STORE {
                assert!(merge::NAMES.contains(&goal.workload), "{}", goal.workload);
                continue;
            }
            assert!(Workload::named(goal.workload).is_some(), "{}", goal.workload);
            assert_eq!(goal.store.parse::<Store>().unwrap().to_string(), goal.store);
            for wanted in goal.wanted {
                match wanted {
                    Times(_, peer) => assert!(PEERS.iter().any(|(name, _)| name == peer), "{peer}"),
                    ShareOf(_, other) => assert!(Workload::named(other).is_some(), "{other}"),
                    AtLeast(_) => assert!(goal.figure.is_more_better(), "{}", goal.workload),
                    AtMost(_) | OfBudget(_) => assert!(!goal.figure.is_more_better(), "{}", goal.workload),
                }
            }
        }
    }

    #[test]
    fn goals_are_written_as_people_write_them() {
        assert_eq!(ALL[0].text(), "≥ 1.00 M, ≥ 5 × SlateDB, ≥ 3 × RocksDB");
        assert_eq!(ALL[1].text(), "≤ 34.5 ms");
        let texts: Vec<String> = ALL.iter().map(Goal::text).collect();
        assert!(texts.contains(&"≥ 0.8 × scan".into()) && texts.contains(&"≤ 1.1 × budget".into()));
    }
}
