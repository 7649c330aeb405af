//! What happened: one line for people, or one JSON object for programs.
//!
//! Always true: every line on standard output is one event; nothing else is printed there.

use std::io::Write;

use bytesize::ByteSize;
use esker::{
    compaction::{Collected, Did, Plan},
    stats::{Prices, RequestKind, StatsSnapshot},
};
use serde::Serialize;

/// One event.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event {
    /// The role is ours.
    Claimed { name: String, epoch: u32, version: u64 },
    /// Another compactor has it.
    Waiting { reason: String },
    /// Another compactor took it.
    Fenced { reason: String },
    /// SSTs changed their place.
    Moved { reason: String, level: u32, ssts: usize, bytes: u64 },
    /// SSTs were merged.
    Merged(Merged),
    /// Garbage was collected.
    Collected { objects: usize, bytes: u64, waiting: usize, held_by: Vec<String>, floor: u64 },
    /// Something failed that will be tried again.
    Failed { kind: String, error: String },
    /// The end.
    Finished(Totals),
}

/// One merge.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Merged {
    reason: String,
    level: u32,
    ssts: usize,
    read_bytes: u64,
    written_bytes: u64,
    raw_bytes: u64,
    read_entries: u64,
    written_entries: u64,
    dropped_entries: u64,
    millis: u64,
}

/// Everything since the start.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Totals {
    pub(crate) merges: u64,
    pub(crate) moves: u64,
    pub(crate) read_bytes: u64,
    pub(crate) written_bytes: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) dropped_entries: u64,
    pub(crate) merge_millis: u64,
    pub(crate) collected_objects: u64,
    pub(crate) collected_bytes: u64,
    pub(crate) puts: u64,
    pub(crate) gets: u64,
    pub(crate) lists: u64,
    pub(crate) deletes: u64,
    pub(crate) dollars: f64,
    /// The same by kind and cause; kinds and causes that had none are left out.
    pub(crate) requests: Vec<Requests>,
}

/// Requests of one kind and cause.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Requests {
    kind: &'static str,
    cause: &'static str,
    requests: u64,
    failures: u64,
    bytes: u64,
}

impl Event {
    /// What a step did; `None` if nothing.
    pub(crate) fn of(did: &Did) -> Option<Self> {
        let head = |plan: &Plan| (plan.reason.as_str().to_owned(), plan.level, plan.ssts());
        match did {
            Did::Nothing => None,
            Did::Moved { plan, bytes } => {
                let (reason, level, ssts) = head(plan);
                Some(Self::Moved { reason, level, ssts, bytes: *bytes })
            }
            Did::Merged { plan, stats } => {
                let (reason, level, ssts) = head(plan);
                Some(Self::Merged(Merged {
                    reason,
                    level,
                    ssts,
                    read_bytes: stats.read_bytes,
                    written_bytes: stats.written_bytes,
                    raw_bytes: stats.raw_bytes,
                    read_entries: stats.read_entries,
                    written_entries: stats.written_entries,
                    dropped_entries: stats.dropped_entries,
                    millis: stats.elapsed_ms,
                }))
            }
        }
    }

    pub(crate) fn collected(collected: &Collected) -> Self {
        Self::Collected {
            objects: collected.deleted.len(),
            bytes: collected.bytes,
            waiting: collected.waiting,
            held_by: collected.held_by.iter().map(ToString::to_string).collect(),
            floor: collected.floor,
        }
    }

    /// Writes the event as one line on standard output. A reader that has gone away is no reason to stop.
    pub(crate) fn print(&self, json: bool) {
        let line = if json { serde_json::to_string(self).unwrap_or_default() } else { self.sentence() };
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }

    fn sentence(&self) -> String {
        match self {
            Self::Claimed { name, epoch, version } => {
                format!("claimed    {name} compacts in epoch {epoch}, from version {version}")
            }
            Self::Waiting { reason } => format!("waiting    {reason}"),
            Self::Fenced { reason } => format!("fenced     {reason}"),
            Self::Moved { reason, level, ssts, bytes } => {
                format!(
                    "moved      {ssts} SSTs ({}) to L{level} as they are, due by {reason}",
                    ByteSize(*bytes)
                )
            }
            Self::Merged(merged) => merged.sentence(),
            Self::Collected { objects, bytes, waiting, held_by, floor } => {
                let waiting =
                    if *waiting > 0 { format!(", {waiting} wait for their producer") } else { String::new() };
                let held = if held_by.is_empty() {
                    String::new()
                } else {
                    format!(", held by {}", held_by.join(" "))
                };
                format!("collected  {objects} objects ({}), floor {floor}{waiting}{held}", ByteSize(*bytes))
            }
            Self::Failed { kind, error } => format!("failed     {kind}: {error}"),
            Self::Finished(totals) => totals.sentence(),
        }
    }
}

impl Merged {
    fn sentence(&self) -> String {
        format!(
            "merged     {} SSTs into L{}: {} read, {} written, {} of {} entries dropped, {:.1} s ({}), due by {}",
            self.ssts,
            self.level,
            ByteSize(self.read_bytes),
            ByteSize(self.written_bytes),
            self.dropped_entries,
            self.read_entries,
            self.millis as f64 / 1000.0,
            speed(self.raw_bytes, self.millis),
            self.reason,
        )
    }
}

impl Totals {
    /// Adds what a step did.
    pub(crate) fn add(&mut self, did: &Did) {
        match did {
            Did::Nothing => {}
            Did::Moved { .. } => self.moves += 1,
            Did::Merged { stats, .. } => {
                self.merges += 1;
                self.read_bytes += stats.read_bytes;
                self.written_bytes += stats.written_bytes;
                self.raw_bytes += stats.raw_bytes;
                self.dropped_entries += stats.dropped_entries;
                self.merge_millis += stats.elapsed_ms;
            }
        }
    }

    /// Adds what a pass collected.
    pub(crate) fn add_collected(&mut self, collected: &Collected) {
        self.collected_objects += collected.deleted.len() as u64;
        self.collected_bytes += collected.bytes;
    }

    /// The same with the requests so far.
    pub(crate) fn with_requests(&self, stats: &StatsSnapshot) -> Self {
        Self {
            puts: stats.total(RequestKind::Put),
            gets: stats.total(RequestKind::Get),
            lists: stats.total(RequestKind::List),
            deletes: stats.total(RequestKind::Delete),
            dollars: stats.dollars(&Prices::default()),
            requests: stats
                .requests
                .iter()
                .filter(|r| r.requests > 0)
                .map(|r| Requests {
                    kind: r.kind.as_str(),
                    cause: r.cause.as_str(),
                    requests: r.requests,
                    failures: r.failures,
                    bytes: r.bytes,
                })
                .collect(),
            ..self.clone()
        }
    }

    fn sentence(&self) -> String {
        format!(
            "finished   {} merges, {} moves: {} read, {} written ({}); {} objects collected ({}); \
             {} PUT, {} GET, {} LIST, {} DELETE (${:.6})",
            self.merges,
            self.moves,
            ByteSize(self.read_bytes),
            ByteSize(self.written_bytes),
            speed(self.raw_bytes, self.merge_millis),
            self.collected_objects,
            ByteSize(self.collected_bytes),
            self.puts,
            self.gets,
            self.lists,
            self.deletes,
            self.dollars,
        )
    }
}

/// Bytes of keys and values a second, as people say it.
fn speed(raw_bytes: u64, millis: u64) -> String {
    if millis == 0 {
        return "- MB/s".to_owned();
    }
    format!("{:.0} MB/s", raw_bytes as f64 / 1000.0 / millis as f64)
}
