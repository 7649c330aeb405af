//! Versions, SSTs and keys of the tree as JSON and as words; what `manifest`, `sst` and `lsm` share.

use esker::{
    codec::frame::Codec,
    key::{DEFAULT_KEYSPACE, split_full_key},
    manifest::{Root, StoredOptions, View},
    sst::{OpenSst, SstMeta},
    store::Name,
};
use serde_json::{Map, Value, json};

use crate::show;

/// A full key for people: the user key in quotes, with its keyspace unless that is the default one.
pub(crate) fn key(full: &[u8], limit: usize) -> String {
    match split_full_key(full) {
        Some((keyspace, user)) if keyspace == DEFAULT_KEYSPACE => show::quoted(user, limit),
        Some((keyspace, user)) => format!("{}:{}", keyspace.0, show::quoted(user, limit)),
        None => show::quoted(full, limit),
    }
}

/// A full key as JSON fields `{name}` or `{name}_hex`, and its keyspace.
pub(crate) fn put_key(object: &mut Map<String, Value>, name: &str, full: &[u8]) {
    match split_full_key(full) {
        Some((keyspace, user)) => {
            object.insert(format!("{name}_keyspace"), keyspace.0.into());
            show::put_bytes(object, name, user, false);
        }
        None => show::put_bytes(object, name, full, true),
    }
}

/// All that the manifest records of an SST.
pub(crate) fn sst(meta: &SstMeta, id: &str) -> Value {
    let mut object = Map::new();
    object.insert("id".into(), id.into());
    object.insert("bytes".into(), meta.bytes.into());
    object.insert("tail_offset".into(), meta.tail_offset.into());
    put_key(&mut object, "first_key", &meta.first_key);
    put_key(&mut object, "last_key", &meta.last_key);
    let numbers = [
        ("min_seq", meta.min_seq),
        ("max_seq", meta.max_seq),
        ("entries", meta.entries),
        ("tombstones", meta.tombstones),
        ("range_deletes", meta.range_deletes),
        ("expiring", meta.expiring),
        ("min_expire_ms", meta.min_expire_ms),
        ("max_expire_ms", meta.max_expire_ms),
        ("raw_bytes", meta.raw_bytes),
        ("blocks", meta.blocks),
    ];
    object.extend(numbers.map(|(name, n)| (name.to_owned(), n.into())));
    object.insert("hash".into(), show::hex(&meta.hash).into());
    object.insert("sum".into(), show::hex(&meta.sum).into());
    object.into()
}

/// A version as JSON; with every SST if `whole`.
pub(crate) fn version(view: &View, whole: bool) -> Value {
    let root = &view.root;
    let runs: Vec<Value> = view
        .runs
        .iter()
        .map(|run| {
            let ssts: Vec<Value> =
                run.ssts.iter().map(|open| sst(&open.meta, &open.id.to_string())).collect();
            let bytes: u64 = run.ssts.iter().map(|open| open.meta.bytes).sum();
            let mut object =
                json!({ "id": run.id, "level": run.level, "ssts": run.ssts.len(), "bytes": bytes });
            if whole {
                object["ssts"] = ssts.into();
            }
            object
        })
        .collect();
    json!({
        "id": root.id,
        "db_uuid": show::hex(&root.db_uuid),
        "committed_ms": root.committed_ms,
        "min_reader": root.min_reader,
        "min_writer": root.min_writer,
        "required_features": root.required_features,
        "optional_features": root.optional_features,
        "writer": {
            "epoch": root.writer.epoch, "name": root.writer.name, "uuid": show::hex(&root.writer.uuid),
            "counter_floor": root.writer.counter_floor, "replay_from": root.writer.replay_from,
            "tail_hint": root.writer.tail_hint, "last_seq": root.writer.last_seq,
        },
        "compactor": {
            "epoch": root.compactor.epoch, "name": root.compactor.name, "uuid": show::hex(&root.compactor.uuid),
            "counter_floor": root.compactor.counter_floor, "busy_until_ms": root.compactor.busy_until_ms,
        },
        "keyspaces": keyspaces(root),
        "next_keyspace": root.next_keyspace,
        "next_run": root.next_run,
        "options": options(&root.options),
        "token": show::hex(&root.token),
        "prev_hash": show::hex(&root.prev_hash),
        "sum": show::hex(&root.sum),
        "ring": root.ring.len(),
        "runs": runs,
    })
}

/// Keyspaces by name and number.
pub(crate) fn keyspaces(root: &Root) -> Vec<Value> {
    root.keyspaces.iter().map(|k| json!({ "id": k.id, "name": k.name })).collect()
}

/// The options stored with the database.
pub(crate) fn options(options: &StoredOptions) -> Value {
    json!({
        "block_bytes": options.block_bytes,
        "restart_interval": options.restart_interval,
        "filter_bits_per_key": options.filter_bits_per_key,
        "codecs": options.codecs.iter().map(|c| codec(*c)).collect::<Vec<_>>(),
        "sst_bytes": options.sst_bytes,
        "shape": {
            "l0_runs": options.shape.l0_runs, "middle_runs": options.shape.middle_runs,
            "last_runs": options.shape.last_runs, "ratio": options.shape.ratio, "base_bytes": options.shape.base_bytes,
        },
        "retention_ms": options.retention_ms,
        "wal_window": options.wal_window,
    })
}

/// A codec's name.
pub(crate) fn codec(number: u32) -> String {
    let known = u8::try_from(number).ok().and_then(|n| Codec::from_u8(n).ok());
    known.map_or_else(|| format!("codec {number}"), |codec| codec.name().to_owned())
}

/// What a version holds, added up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) runs: usize,
    pub(crate) ssts: usize,
    pub(crate) bytes: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) entries: u64,
    pub(crate) tombstones: u64,
    pub(crate) expiring: u64,
    /// Marked losses, and the entries that were in them. Nothing else here counts them.
    pub(crate) holes: usize,
    pub(crate) lost_entries: u64,
}

impl Totals {
    /// The totals of a version, or with `level` of one level of it.
    pub(crate) fn of(view: &View, level: Option<u32>) -> Self {
        let mut totals = Self::default();
        for run in view.runs.iter().filter(|run| level.is_none_or(|level| run.level == level)) {
            totals.runs += usize::from(!run.is_hole());
            for open in run.ssts.iter() {
                totals.add(open);
            }
        }
        totals
    }

    fn add(&mut self, open: &OpenSst) {
        if open.meta.is_hole() {
            self.holes += 1;
            self.lost_entries += open.meta.entries;
            return;
        }
        self.ssts += 1;
        self.bytes += open.meta.bytes;
        self.raw_bytes += open.meta.raw_bytes;
        self.entries += open.meta.entries;
        self.tombstones += open.meta.tombstones;
        self.expiring += open.meta.expiring;
    }

    /// As JSON.
    pub(crate) fn json(&self) -> Value {
        json!({
            "runs": self.runs, "ssts": self.ssts, "bytes": self.bytes, "raw_bytes": self.raw_bytes,
            "entries": self.entries, "tombstones": self.tombstones, "expiring": self.expiring,
            "holes": self.holes, "lost_entries": self.lost_entries,
        })
    }
}

/// The holes that a salvage has marked in a version, a sentence each, newest first.
pub(crate) fn holes(view: &View) -> Vec<String> {
    view.root.ssts().filter(|sst| sst.is_hole()).map(hole).collect()
}

/// A hole, as a sentence.
pub(crate) fn hole(meta: &SstMeta) -> String {
    let (first, last) = (key(&meta.first_key, 40), key(&meta.last_key, 40));
    format!("{first} to {last} of {}: {}", Name::Sst(meta.lost_id()), why(meta))
}

/// The same as JSON, with its keys whole.
pub(crate) fn hole_json(meta: &SstMeta) -> Value {
    let mut object = Map::new();
    put_key(&mut object, "first_key", &meta.first_key);
    put_key(&mut object, "last_key", &meta.last_key);
    object.insert("lost".into(), Name::Sst(meta.lost_id()).to_string().into());
    object.insert("why".into(), why(meta).into());
    Value::Object(object)
}

fn why(hole: &SstMeta) -> &str {
    hole.hole.as_ref().map_or("", |hole| hole.why.as_str())
}

/// The levels of a version, ascending.
pub(crate) fn levels(view: &View) -> Vec<u32> {
    let mut levels: Vec<u32> = view.runs.iter().map(|run| run.level).collect();
    levels.sort_unstable();
    levels.dedup();
    levels
}
