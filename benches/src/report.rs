//! What a run found, as tables for people and as JSON lines for programs.
//!
//! Always true: a phase that did not run has no row; dollars are requests only, at the prices of `esker::stats::Prices`.
#![expect(clippy::print_stderr, reason = "progress goes there")]

use std::{
    fmt::{self, Write as _},
    io::IsTerminal as _,
    time::Duration,
};

use bytesize::ByteSize;
use comfy_table::{CellAlignment, Table, presets::UTF8_HORIZONTAL_ONLY};
use esker::{
    Reader,
    stats::{Cause, Prices, RequestCount, RequestKind, StatsSnapshot},
};
use esker_cache::CacheStats;
use serde_json::{Value, json};

use crate::{
    clients::Ran,
    figures::{count, duration},
    measure::Latencies,
    options::Plan,
    workload::Phase,
};

/// One phase.
#[derive(Debug)]
pub(crate) struct PhaseReport {
    pub(crate) name: String,
    pub(crate) latencies: Latencies,
    /// Rows touched, where that is not one per operation.
    pub(crate) rows: u64,
    /// Rows written.
    pub(crate) written: u64,
    pub(crate) wall: Duration,
    /// The time the clients ran, where that is less than `wall`.
    pub(crate) measured: Option<Duration>,
    pub(crate) cpu: Duration,
    pub(crate) requests: Vec<RequestCount>,
    /// Requests of the compactor process.
    pub(crate) other_process: Vec<RequestCount>,
    pub(crate) cache: Option<CacheStats>,
    pub(crate) note: Option<String>,
}

impl PhaseReport {
    pub(crate) fn new(name: &str, latencies: Latencies) -> Self {
        Self {
            name: name.into(),
            rows: latencies.count(),
            latencies,
            written: 0,
            wall: Duration::ZERO,
            measured: None,
            cpu: Duration::ZERO,
            requests: Vec::new(),
            other_process: Vec::new(),
            cache: None,
            note: None,
        }
    }

    /// A phase that is one operation.
    pub(crate) fn once(name: &str, took: Duration) -> Self {
        let mut latencies = Latencies::new();
        latencies.record(took);
        Self::new(name, latencies)
    }

    /// A phase of clients.
    pub(crate) fn ran(name: &str, ran: Ran) -> Self {
        Self { rows: ran.rows, measured: Some(ran.measured), ..Self::new(name, ran.latencies) }
    }

    /// Adds what the reader did since `requests` and `cache` were taken.
    pub(crate) fn read_by(&mut self, reader: &Reader, requests: &StatsSnapshot, cache: &CacheStats) {
        self.requests.extend(reader.store().stats().snapshot().since(requests).requests);
        let now = reader.cache_stats();
        self.cache = Some(CacheStats {
            memory_hits: now.memory_hits - cache.memory_hits,
            memory_misses: now.memory_misses - cache.memory_misses,
            ssd_hits: now.ssd_hits - cache.ssd_hits,
            ssd_misses: now.ssd_misses - cache.ssd_misses,
            fetches: now.fetches - cache.fetches,
            ..now
        });
    }

    fn seconds(&self) -> f64 {
        self.measured.unwrap_or(self.wall).as_secs_f64().max(1e-9)
    }
    /// Operations, or rows where the phase is one scan.
    fn operations(&self) -> u64 {
        if self.latencies.count() > 0 { self.latencies.count() } else { self.rows }
    }
    fn stats(&self) -> StatsSnapshot {
        let mut requests = self.requests.clone();
        requests.extend(&self.other_process);
        StatsSnapshot { requests }
    }
    fn total(&self, kind: RequestKind) -> u64 {
        self.requests.iter().chain(&self.other_process).filter(|r| r.kind == kind).map(|r| r.requests).sum()
    }
    fn dollars_per_million(&self) -> f64 {
        self.stats().dollars(&Prices::default()) / self.operations().max(1) as f64 * 1e6
    }

    fn json(&self) -> Value {
        let nanos = |q: f64| u64::try_from(self.latencies.quantile(q).as_nanos()).unwrap_or(u64::MAX);
        json!({
            "event": "phase",
            "name": self.name,
            "operations": self.operations(),
            "rows": self.rows,
            "seconds": self.seconds(),
            "wall_seconds": self.wall.as_secs_f64(),
            "ops_per_second": self.operations() as f64 / self.seconds(),
            "rows_per_second": self.rows as f64 / self.seconds(),
            "latency_ns": if self.latencies.count() == 0 { Value::Null } else { json!({
                "p50": nanos(0.5), "p90": nanos(0.9), "p99": nanos(0.99), "p99.9": nanos(0.999),
                "max": u64::try_from(self.latencies.max().as_nanos()).unwrap_or(u64::MAX),
            }) },
            "cpu_seconds": self.cpu.as_secs_f64(),
            "requests": requests_json(&self.requests),
            "compactor_requests": requests_json(&self.other_process),
            "dollars_per_million_operations": self.dollars_per_million(),
            "cache": self.cache.as_ref().map(|c| json!({
                "memory_hits": c.memory_hits, "memory_misses": c.memory_misses,
                "ssd_hits": c.ssd_hits, "ssd_misses": c.ssd_misses, "fetches": c.fetches,
            })),
        })
    }
}

/// How much more is stored than lives.
#[derive(Debug)]
pub(crate) struct Amplification {
    pub(crate) rows: u64,
    /// Keys and values of the rows there are.
    pub(crate) live_bytes: u64,
    /// Bytes of all live SSTs.
    pub(crate) stored: u64,
    /// Keys and values in them, old versions included.
    pub(crate) raw: u64,
}

/// A whole run.
#[derive(Debug)]
pub(crate) struct Report {
    url: String,
    setup: Value,
    phases: Vec<PhaseReport>,
    row_bytes: u64,
    pub(crate) compactions: Vec<Value>,
    pub(crate) amplification: Option<Amplification>,
    peak_memory: u64,
}

impl Report {
    pub(crate) fn new(plan: &Plan, url: &str) -> Self {
        Self {
            url: url.into(),
            setup: json!({
                "version": env!("CARGO_PKG_VERSION"), "url": url, "rows": plan.rows, "key_bytes": plan.key_bytes,
                "value_bytes": plan.value_bytes, "clients": plan.clients, "cache_bytes": plan.cache_bytes,
                "seconds_per_workload": plan.duration.as_secs_f64(), "rate": plan.rate, "seed": plan.seed,
                "cores": std::thread::available_parallelism().map_or(0, usize::from),
            }),
            phases: Vec::new(),
            row_bytes: (plan.key_bytes + plan.value_bytes) as u64,
            compactions: Vec::new(),
            amplification: None,
            peak_memory: 0,
        }
    }

    /// Says on a terminal what is running now.
    pub(crate) fn announce(&self, phase: &Phase) {
        if std::io::stderr().is_terminal() {
            let name = match phase {
                Phase::Fill { name, .. } | Phase::FullScan { name, .. } | Phase::Run { name, .. } => name,
                Phase::Compact => "compact",
                Phase::Flush => "flush",
                Phase::Stats => "stats",
            };
            eprint!("\r\x1b[K{} phases done, running {name} …", self.phases.len());
        }
    }

    pub(crate) fn add(&mut self, phase: PhaseReport) {
        self.phases.push(phase);
    }

    pub(crate) fn finish(&mut self, peak_memory: u64) {
        self.peak_memory = peak_memory;
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }

    /// Bytes PUT for each byte of keys and values that was written.
    fn write_amplification(&self) -> Option<f64> {
        let put: u64 = self
            .phases
            .iter()
            .flat_map(|p| p.requests.iter().chain(&p.other_process))
            .filter(|r| r.kind == RequestKind::Put)
            .map(|r| r.bytes)
            .sum();
        let written: u64 = self.phases.iter().map(|p| p.written * self.row_bytes).sum();
        (written > 0).then(|| put as f64 / written as f64)
    }

    /// A line for the setup, one for each phase, and one for the whole.
    pub(crate) fn json_lines(&self) -> String {
        let setup = json!({ "event": "setup", "setup": self.setup });
        let summary = json!({
            "event": "summary",
            "peak_memory_bytes": self.peak_memory,
            "write_amplification": self.write_amplification(),
            "space_amplification": self.amplification.as_ref().map(|a| a.stored as f64 / a.live_bytes.max(1) as f64),
            "compactions": self.compactions,
        });
        let phases = self.phases.iter().map(PhaseReport::json);
        std::iter::once(setup).chain(phases).chain([summary]).map(|line| format!("{line}\n")).collect()
    }

    /// For people.
    pub(crate) fn tables(&self) -> String {
        let mut text = String::new();
        self.write_tables(&mut text).expect("a String takes every write");
        text
    }

    fn write_tables(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\nEsker {} at {}", env!("CARGO_PKG_VERSION"), self.url)?;
        writeln!(
            out,
            "{} rows of {} B keys and {} B values, {} clients on {} cores, {} cache, every read verified\n",
            self.setup["rows"],
            self.setup["key_bytes"],
            self.setup["value_bytes"],
            self.setup["clients"],
            self.setup["cores"],
            ByteSize(self.setup["cache_bytes"].as_u64().unwrap_or(0)),
        )?;
        self.write_phases(out)?;
        self.write_requests(out)?;
        for phase in &self.phases {
            if let Some(note) = &phase.note {
                writeln!(out, "{}:\n{note}", phase.name)?;
            }
        }
        if let Some(a) = &self.amplification {
            writeln!(
                out,
                "Space:  {} rows, {} of keys and values, stored in {} ({:.2} x; {:.2} x before compression)",
                a.rows,
                ByteSize(a.live_bytes),
                ByteSize(a.stored),
                a.stored as f64 / a.live_bytes.max(1) as f64,
                a.raw as f64 / a.live_bytes.max(1) as f64,
            )?;
        }
        if let Some(amplification) = self.write_amplification() {
            writeln!(
                out,
                "Writes: {amplification:.2} bytes put for each byte of keys and values written (log, flushes and merges)"
            )?;
        }
        writeln!(
            out,
            "Memory: {} at most in this process (writer, reader and harness)",
            ByteSize(self.peak_memory)
        )
    }

    fn write_phases(&self, out: &mut String) -> fmt::Result {
        let mut table = sheet(&[
            "workload", "ops", "ops/s", "p50", "p90", "p99", "p99.9", "max", "cpu", "GET", "PUT", "LIST",
            "DEL", "$/M ops",
        ]);
        for p in self.phases.iter().filter(|p| p.operations() > 0) {
            let at = |q: f64| {
                if p.latencies.count() == 0 { "–".into() } else { duration(p.latencies.quantile(q)) }
            };
            table.add_row([
                p.name.clone(),
                count(p.operations()),
                count((p.operations() as f64 / p.seconds()) as u64),
                at(0.5),
                at(0.9),
                at(0.99),
                at(0.999),
                if p.latencies.count() == 0 { "–".into() } else { duration(p.latencies.max()) },
                format!("{:.1} s", p.cpu.as_secs_f64()),
                count(p.total(RequestKind::Get)),
                count(p.total(RequestKind::Put)),
                count(p.total(RequestKind::List)),
                count(p.total(RequestKind::Delete)),
                if p.latencies.count() == 1 {
                    "–".into()
                } else {
                    format!("{:.3}", p.dollars_per_million())
                },
            ]);
        }
        align(&mut table);
        writeln!(out, "{table}\n")
    }

    fn write_requests(&self, out: &mut String) -> fmt::Result {
        let mut table =
            sheet(&["requests by cause", "GET", "bytes", "PUT", "bytes", "LIST", "DEL", "failed"]);
        for cause in Cause::ALL {
            let sum = |kind: RequestKind| {
                let all = self.phases.iter().flat_map(|p| p.requests.iter().chain(&p.other_process));
                all.filter(|r| r.cause == cause && r.kind == kind)
                    .fold((0, 0, 0), |s, r| (s.0 + r.requests, s.1 + r.bytes, s.2 + r.failures))
            };
            let [get, put, list, delete] =
                [RequestKind::Get, RequestKind::Put, RequestKind::List, RequestKind::Delete].map(sum);
            if get.0 + put.0 + list.0 + delete.0 == 0 {
                continue;
            }
            table.add_row([
                cause.as_str().to_owned(),
                count(get.0),
                ByteSize(get.1).to_string(),
                count(put.0),
                ByteSize(put.1).to_string(),
                count(list.0),
                count(delete.0),
                count(get.2 + put.2 + list.2 + delete.2),
            ]);
        }
        align(&mut table);
        writeln!(out, "{table}\n")
    }
}

fn requests_json(requests: &[RequestCount]) -> Vec<Value> {
    requests
        .iter()
        .filter(|r| r.requests > 0)
        .map(|r| json!({ "kind": r.kind.as_str(), "cause": r.cause.as_str(), "requests": r.requests, "failures": r.failures, "bytes": r.bytes }))
        .collect()
}

fn sheet(head: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(head.iter().copied());
    table
}

fn align(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}
