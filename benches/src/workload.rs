//! What a phase does: YCSB's mixes and `db_bench`'s names.

use anyhow::{Result, bail};

/// Shares of each operation, in percent; they add up to 100.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mix {
    pub(crate) read: u32,
    pub(crate) update: u32,
    pub(crate) insert: u32,
    pub(crate) scan: u32,
    /// Read a row, then write it.
    pub(crate) modify: u32,
    /// Read a key that no row has.
    pub(crate) missing: u32,
    /// Read several rows in one call.
    pub(crate) multi: u32,
}

/// How rows are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spread {
    Uniform,
    Zipf,
    Latest,
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
            "a" => run(Mix { read: 50, update: 50, ..Mix::default() }, Spread::Zipf, reader),
            "b" => run(Mix { read: 95, update: 5, ..Mix::default() }, Spread::Zipf, reader),
            "c" | "readhot" => run(Mix { read: 100, ..Mix::default() }, Spread::Zipf, reader),
            "d" => run(Mix { read: 95, insert: 5, ..Mix::default() }, Spread::Latest, writer),
            "e" => run(Mix { scan: 95, insert: 5, ..Mix::default() }, Spread::Zipf, reader),
            "f" => run(Mix { read: 50, modify: 50, ..Mix::default() }, Spread::Zipf, writer),
            "readrandom" => run(Mix { read: 100, ..Mix::default() }, Spread::Uniform, reader),
            "readmissing" => run(Mix { missing: 100, ..Mix::default() }, Spread::Uniform, reader),
            "multireadrandom" => run(Mix { multi: 100, ..Mix::default() }, Spread::Uniform, reader),
            "seekrandom" => run(Mix { scan: 100, ..Mix::default() }, Spread::Uniform, reader),
            "overwrite" | "updaterandom" => {
                run(Mix { update: 100, ..Mix::default() }, Spread::Uniform, writer)
            }
            "readwhilewriting" => {
                run(Mix { read: 90, update: 10, ..Mix::default() }, Spread::Uniform, reader)
            }
            "readrandomwriterandom" => {
                run(Mix { read: 90, update: 10, ..Mix::default() }, Spread::Uniform, writer)
            }
            "durable" => Self::Run {
                name: name.into(),
                mix: Mix { update: 100, ..Mix::default() },
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
