//! What can be measured, by name.
//!
//! Always true: every name that is advertised is known, and what a workload does is the same for every engine.

use anyhow::{Result, bail};
use esker_bench::workload::{A, B, D, E, F, MISSING, Mix, READ, SCAN, Spread};

use crate::{figure::Figure, store::Store};

/// A workload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// What is done, for people.
    pub(crate) about: &'static str,
    pub(crate) work: Work,
    /// The figure that matters.
    pub(crate) figure: Figure,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Every row, new, accepted; then a flush, and merging until the tree is quiet, as a sample of its own.
    Fill,
    /// Durable writes of rows that exist, by so many clients; `None`: `--clients`.
    Durable { clients: Option<usize> },
    /// Operations for a time, on a warm handle.
    Warm { mix: Mix, spread: Spread, scan_rows: [u64; 2], writer: bool },
    /// Every row in order, on a warm handle.
    ScanAll { reverse: bool },
    /// Operations one after another by one client, on a new handle that has read some rows, so that metadata is in memory.
    Cold { mix: Mix, scan_rows: u64 },
    /// The first get of a new handle.
    ColdFirst,
    /// Rows in order from the first on, on a new handle, for a time or to the end.
    ColdScanAll,
    /// Opening, and the first get.
    Open,
    /// The same, with rows in the log.
    OpenLog,
    /// Accepted writes of any row, the data several times over, with merging beside; then merging until the tree is quiet, and a
    /// look at what was written and what lies there.
    Overwrite,
}

/// Gets of several rows at once.
const MULTI: Mix = Mix { read: 0, update: 0, insert: 0, scan: 0, modify: 0, missing: 0, multi: 100 };

const fn warm(mix: Mix, spread: Spread) -> Work {
    Work::Warm { mix, spread, scan_rows: [1, 100], writer: false }
}

/// All of them, in the order they run: those that only read come before those that write.
pub(crate) const ALL: [Workload; 24] = {
    use Figure::{Median, Rate};
    use Spread::{Uniform, Zipf};
    const fn known(name: &'static str, work: Work, figure: Figure, about: &'static str) -> Workload {
        Workload { name, about, work, figure }
    }
    let ten = Work::Warm { mix: SCAN, spread: Uniform, scan_rows: [10, 10], writer: false };
    let beside = Work::Warm { mix: READ, spread: Uniform, scan_rows: [1, 1], writer: true };
    [
        known("fill", Work::Fill, Rate, "every row, in random order, accepted"),
        known(
            "cold-get",
            Work::Cold { mix: READ, scan_rows: 1 },
            Median,
            "a get, nothing but metadata cached",
        ),
        known(
            "cold-get-first",
            Work::ColdFirst,
            Median,
            "the first get of a new handle, opening not counted",
        ),
        known(
            "cold-scan-10",
            Work::Cold { mix: SCAN, scan_rows: 10 },
            Median,
            "10 rows, nothing but metadata cached",
        ),
        known("cold-scan", Work::ColdScanAll, Rate, "rows in order from the first on, nothing cached"),
        known("open", Work::Open, Median, "opening, and the first get"),
        known("read-random", warm(READ, Uniform), Rate, "gets of any row"),
        known("read-zipf", warm(READ, Zipf), Rate, "gets of popular rows"),
        known("read-missing", warm(MISSING, Uniform), Rate, "gets of keys that no row has"),
        known("multi-get", warm(MULTI, Uniform), Rate, "gets of 16 of any rows in one call, or in a loop"),
        known("scan", Work::ScanAll { reverse: false }, Rate, "every row in order"),
        known("scan-reverse", Work::ScanAll { reverse: true }, Rate, "every row from the last to the first"),
        known("scan-10", ten, Rate, "10 rows from any key on"),
        known(
            "read-while-writing",
            beside,
            Rate,
            "gets of any row, beside one client that writes --write-rate rows a second",
        ),
        known("ycsb-a", warm(A.0, A.1), Rate, "half gets, half updates of popular rows"),
        known("ycsb-b", warm(B.0, B.1), Rate, "19 gets for each update of popular rows"),
        known("ycsb-f", warm(F.0, F.1), Rate, "half gets, half gets followed by an update"),
        known("ycsb-d", warm(D.0, D.1), Rate, "19 gets of the newest rows for each insert"),
        known("ycsb-e", warm(E.0, E.1), Rate, "19 scans of 1 to 100 rows for each insert"),
        known("durable-1", Work::Durable { clients: Some(1) }, Median, "durable updates by one client"),
        known("durable-256", Work::Durable { clients: Some(256) }, Rate, "durable updates by 256 clients"),
        known("durable-n", Work::Durable { clients: None }, Rate, "durable updates by --clients clients"),
        known(
            "open-log",
            Work::OpenLog,
            Median,
            "opening and the first get, with --log-rows durable rows in the log",
        ),
        known(
            "overwrite",
            Work::Overwrite,
            Rate,
            "updates of any row, --overwrites times the rows, with merging; write and space amplification",
        ),
    ]
};

impl Workload {
    /// The workloads that a comma-separated list names; `default` is what makes sense on `store`.
    pub(crate) fn parse_list(list: &str, store: Store) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match name {
                "default" if store.is_near() => {
                    found.extend(ALL.iter().filter(|w| w.is_warm() || w.is_durable()))
                }
                "default" => found.extend(ALL.iter().filter(|w| w.is_cold() || w.is_durable())),
                "warm" => found.extend(ALL.iter().filter(|w| w.is_warm())),
                "cold" => found.extend(ALL.iter().filter(|w| w.is_cold())),
                "durable" => found.extend(ALL.iter().filter(|w| w.is_durable())),
                "ycsb" => found.extend(ALL.iter().filter(|w| w.name.starts_with("ycsb"))),
                "all" => found.extend(ALL),
                name => match Self::named(name) {
                    Some(workload) => found.push(workload),
                    None => bail!("there is no workload `{name}`; see --help"),
                },
            }
        }
        Ok(found)
    }

    /// The one of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        ALL.iter().find(|w| w.name == name).copied()
    }

    fn is_warm(&self) -> bool {
        matches!(self.work, Work::Fill | Work::Warm { .. } | Work::ScanAll { .. })
    }

    fn is_cold(&self) -> bool {
        use Work::{Cold, ColdFirst, ColdScanAll, Open, OpenLog};
        matches!(self.work, Cold { .. } | ColdFirst | ColdScanAll | Open | OpenLog)
    }

    fn is_durable(&self) -> bool {
        matches!(self.work, Work::Durable { clients: Some(_) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &str, store: &str) -> Vec<&'static str> {
        Workload::parse_list(list, store.parse().unwrap()).unwrap().iter().map(|w| w.name).collect()
    }

    #[test]
    fn every_name_is_known_and_a_store_far_away_is_read_cold() {
        for workload in ALL {
            assert_eq!(names(workload.name, "memory"), [workload.name]);
        }
        assert_eq!(names("all", "memory").len(), ALL.len());
        assert_eq!(names("default", "memory")[..2], ["fill", "read-random"]);
        assert_eq!(names("default", "memory+standard")[..2], ["cold-get", "cold-get-first"]);
        assert_eq!(names("cold,ycsb-a", "dir").last(), Some(&"ycsb-a"));
        assert!(Workload::parse_list("nonsense", "memory".parse().unwrap()).is_err());
    }
}
