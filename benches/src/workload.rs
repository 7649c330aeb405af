//! What a phase does: YCSB's mixes and `db_bench`'s names.

use anyhow::{Result, bail};

/// Shares of each operation, in percent; they add up to 100.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Mix {
    /// Read a row.
    pub read: u32,
    /// Write a row that exists.
    pub update: u32,
    /// Write a new row.
    pub insert: u32,
    /// Read some rows in order.
    pub scan: u32,
    /// Read a row, then write it.
    pub modify: u32,
    /// Read a key that no row has.
    pub missing: u32,
    /// Read several rows in one call.
    pub multi: u32,
}

/// One kind of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of `Mix` say it")]
pub enum Operation {
    Read,
    Update,
    Insert,
    Scan,
    Modify,
    Missing,
    Multi,
}

/// How rows are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// Every row as often as any other.
    Uniform,
    /// A few rows most of the time.
    Zipf,
    /// The newest rows most of the time.
    Latest,
}

const NONE: Mix = Mix { read: 0, update: 0, insert: 0, scan: 0, modify: 0, missing: 0, multi: 0 };
/// Only reads.
pub const READ: Mix = Mix { read: 100, ..NONE };
/// Only writes of rows that exist.
pub const UPDATE: Mix = Mix { update: 100, ..NONE };
/// Only reads of keys that no row has.
pub const MISSING: Mix = Mix { missing: 100, ..NONE };
/// Only scans.
pub const SCAN: Mix = Mix { scan: 100, ..NONE };
/// YCSB A: reads and updates.
pub const A: (Mix, Spread) = (Mix { read: 50, update: 50, ..NONE }, Spread::Zipf);
/// YCSB B: mostly reads.
pub const B: (Mix, Spread) = (Mix { read: 95, update: 5, ..NONE }, Spread::Zipf);
/// YCSB C: only reads.
pub const C: (Mix, Spread) = (READ, Spread::Zipf);
/// YCSB D: reads of what is new.
pub const D: (Mix, Spread) = (Mix { read: 95, insert: 5, ..NONE }, Spread::Latest);
/// YCSB E: short scans.
pub const E: (Mix, Spread) = (Mix { scan: 95, insert: 5, ..NONE }, Spread::Zipf);
/// YCSB F: reads, and changes of what was read.
pub const F: (Mix, Spread) = (Mix { read: 50, modify: 50, ..NONE }, Spread::Zipf);

impl Mix {
    /// The operation at `dice`, 0 to 99.
    pub fn operation(&self, dice: u32) -> Operation {
        let shares = [
            (self.read, Operation::Read),
            (self.update, Operation::Update),
            (self.insert, Operation::Insert),
            (self.scan, Operation::Scan),
            (self.missing, Operation::Missing),
            (self.multi, Operation::Multi),
        ];
        let mut end = 0;
        for (share, operation) in shares {
            end += share;
            if dice < end {
                return operation;
            }
        }
        Operation::Modify
    }
}

/// Who answers the reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Through {
    /// A `Reader` of its own, with its own cache: the disaggregated way.
    Reader,
    /// The writer's handle: for reads that must see the latest write.
    Writer,
}

/// One phase of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Writes new rows until the data set is whole.
    Fill { name: String, durable: bool },
    /// Merges everything that is due, in a separate `esker-compactor` process.
    Compact,
    /// Writes the memtable to L0.
    Flush,
    /// A mix of operations by all clients, for a time.
    Run { name: String, mix: Mix, spread: Spread, through: Through, durable: bool },
    /// Every row, in order, by one client.
    FullScan { name: String, reverse: bool },
    /// Prints the tree.
    Stats,
}

impl Phase {
    /// Whether it reads or changes rows that are there.
    pub(crate) fn needs_rows(&self) -> bool {
        matches!(self, Self::Run { .. } | Self::FullScan { .. })
    }

    /// The phases that a comma-separated list names.
    pub(crate) fn parse_list(list: &str) -> Result<Vec<Self>> {
        list.split(',').map(str::trim).filter(|n| !n.is_empty()).map(Self::parse).collect()
    }

    fn parse(name: &str) -> Result<Self> {
        let run =
            |mix, spread, through| Self::Run { name: name.into(), mix, spread, through, durable: false };
        let (reader, writer) = (Through::Reader, Through::Writer);
        Ok(match name {
            "load" | "fillseq" | "fillrandom" | "filluniquerandom" => {
                Self::Fill { name: name.into(), durable: false }
            }
            "fillsync" => Self::Fill { name: name.into(), durable: true },
            "compact" => Self::Compact,
            "flush" => Self::Flush,
            "stats" | "levelstats" => Self::Stats,
            "scan" | "readseq" => Self::FullScan { name: name.into(), reverse: false },
            "scan-reverse" | "readreverse" => Self::FullScan { name: name.into(), reverse: true },
            "a" => run(A.0, A.1, reader),
            "b" => run(B.0, B.1, reader),
            "c" | "readhot" => run(C.0, C.1, reader),
            "d" => run(D.0, D.1, writer),
            "e" => run(E.0, E.1, reader),
            "f" => run(F.0, F.1, writer),
            "readrandom" => run(READ, Spread::Uniform, reader),
            "readmissing" => run(MISSING, Spread::Uniform, reader),
            "multireadrandom" => run(Mix { multi: 100, ..Mix::default() }, Spread::Uniform, reader),
            "seekrandom" => run(SCAN, Spread::Uniform, reader),
            "overwrite" | "updaterandom" => run(UPDATE, Spread::Uniform, writer),
            "readwhilewriting" => {
                run(Mix { read: 90, update: 10, ..Mix::default() }, Spread::Uniform, reader)
            }
            "readrandomwriterandom" => {
                run(Mix { read: 90, update: 10, ..Mix::default() }, Spread::Uniform, writer)
            }
            "durable" => Self::Run {
                name: name.into(),
                mix: UPDATE,
                spread: Spread::Uniform,
                through: writer,
                durable: true,
            },
            unknown => bail!("there is no workload `{unknown}`; known are {}", Self::NAMES.join(" ")),
        })
    }

    /// Every name [`Self::parse_list`] knows.
    pub(crate) const NAMES: [&'static str; 28] = [
        "load",
        "fillseq",
        "fillrandom",
        "filluniquerandom",
        "fillsync",
        "compact",
        "flush",
        "stats",
        "levelstats",
        "scan",
        "readseq",
        "scan-reverse",
        "readreverse",
        "a",
        "b",
        "c",
        "d",
        "e",
        "f",
        "readhot",
        "readrandom",
        "readmissing",
        "multireadrandom",
        "seekrandom",
        "overwrite",
        "readwhilewriting",
        "readrandomwriterandom",
        "durable",
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_operation_has_its_share_of_the_dice() {
        for mix in
            [A.0, B.0, C.0, D.0, E.0, F.0, MISSING, SCAN, Mix { read: 10, multi: 60, modify: 30, ..NONE }]
        {
            let times = |operation| (0..100).filter(|dice| mix.operation(*dice) == operation).count() as u32;
            assert_eq!(times(Operation::Read), mix.read);
            assert_eq!(times(Operation::Update), mix.update);
            assert_eq!(times(Operation::Insert), mix.insert);
            assert_eq!(times(Operation::Scan), mix.scan);
            assert_eq!(times(Operation::Modify), mix.modify);
            assert_eq!(times(Operation::Missing), mix.missing);
            assert_eq!(times(Operation::Multi), mix.multi);
        }
    }

    #[test]
    fn every_name_that_is_advertised_is_known() {
        for name in Phase::NAMES {
            let phases = Phase::parse_list(name).unwrap();
            if let [Phase::Run { mix, .. }] = &phases[..] {
                let Mix { read, update, insert, scan, modify, missing, multi } = *mix;
                assert_eq!(read + update + insert + scan + modify + missing + multi, 100, "{name}");
            }
        }
        assert!(Phase::parse_list("fillseq,nonsense").unwrap_err().to_string().contains("nonsense"));
    }
}
