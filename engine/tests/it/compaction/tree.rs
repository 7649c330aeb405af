//! Trees as text, for tests of picking.
//!
//! ```text
//! L0 #5: a-m n-z          a run: its level, its number, its SSTs by first and last key
//! L1 #3: a-f:64 g-z:10t60 an SST of 64 MiB; one of 10 MiB of which 60 % are tombstones (x: expiring)
//! ```
//!
//! Runs are written newest first. A key is a letter or word, `1/a` one of keyspace 1. An SST without a
//! size has 64 MiB.

use bytes::Bytes;
use esker::{
    codec::sum::Sum,
    compaction::plan::Plan,
    key::{EntryRef, KeyspaceId, Kind, full_key},
    manifest::{Root, Run, StoredOptions, StoredShape, View},
    sst::SstMeta,
    store::{ObjectId, Role},
};

pub(super) const MIB: u64 = 1 << 20;
/// When the expiring entries of these trees expire.
pub(super) const EXPIRE_MS: u64 = 1_000_000;
const ENTRIES: u64 = 1000;

/// The version that `text` draws.
pub(super) fn version(shape: &StoredShape, text: &str) -> View {
    let options = StoredOptions { sst_bytes: 64 * MIB, shape: shape.clone(), ..StoredOptions::default() };
    let mut root = Root::first(7, options);
    let mut sum = Sum::default();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (head, ssts) = line.split_once(':').expect("a run has a colon");
        let (level, id) = head.split_once(" #").expect("a run has a number");
        let run = Run {
            id: id.parse().expect("a number"),
            level: level[1..].parse().expect("a level"),
            ssts: ssts.split_whitespace().map(|sst| meta(sst, root.next_run * 100)).collect(),
            parts: Vec::new(),
        };
        for sst in &run.ssts {
            sum.add(&Sum::from_bytes(&sst.sum).expect("a sum"));
        }
        root.next_run = root.next_run.max(run.id) + 1;
        root.runs.push(run);
    }
    root.sum = Bytes::copy_from_slice(&sum.to_bytes());
    root.writer.last_seq = u64::MAX / 2;
    View::new(root, None).expect("the tree is a valid version")
}

/// A plan as text: the SSTs that take part, run by run, and where they go.
pub(super) fn drawn(view: &View, plan: Option<&Plan>) -> String {
    let Some(plan) = plan else { return "nothing".to_owned() };
    assert!(plan.keeps_order(view), "{plan:?} turns the order of data around");
    let runs: Vec<String> = plan
        .inputs
        .iter()
        .map(|(run, ids)| {
            let ssts: Vec<String> =
                ids.iter().map(|id| name(&view.sst(*id).expect("an input is there").meta)).collect();
            format!("#{run} {}", ssts.join(" "))
        })
        .collect();
    let moved = if plan.moved { " moved" } else { "" };
    let bottom = if plan.bottom { " bottom" } else { "" };
    format!("{}: {} -> L{}{bottom}{moved}", plan.reason, runs.join(", "), plan.level)
}

/// An SST that exists on paper only, with a conservation sum of its own.
pub(super) fn paper(first: &str, last: &str, bytes: u64, counter: u64) -> SstMeta {
    let id = ObjectId { role: Role::Writer, epoch: 1, counter, nonce: 0 };
    let mut sum = Sum::default();
    let value = counter.to_le_bytes();
    sum.add_entry(EntryRef {
        key: first.as_bytes(),
        seq: 1,
        kind: Kind::Put,
        expire_at_ms: 0,
        value: &value,
    });
    SstMeta {
        id: id.to_bytes().into(),
        bytes,
        first_key: key(first),
        last_key: key(last),
        min_seq: 1,
        max_seq: 1000,
        tail_offset: bytes - 4096,
        entries: ENTRIES,
        keys: ENTRIES,
        blocks: 1,
        hash: Bytes::from_static(&[0; 16]),
        sum: Bytes::copy_from_slice(&sum.to_bytes()),
        ..SstMeta::default()
    }
}

fn meta(text: &str, base: u64) -> SstMeta {
    let (range, rest) = text.split_once(':').unwrap_or((text, "64"));
    let (first, last) = range.split_once('-').expect("an SST has a first and a last key");
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let megabytes: u64 = rest[..digits].parse().expect("a size");
    let mut meta = paper(first, last, megabytes * MIB, base + u64::from(first.as_bytes()[first.len() - 1]));
    let percent = || rest[digits + 1..].parse::<u64>().expect("a percentage") * ENTRIES / 100;
    match rest.as_bytes().get(digits) {
        None => {}
        Some(b't') => meta.tombstones = percent(),
        Some(b'x') => {
            (meta.expiring, meta.min_expire_ms, meta.max_expire_ms) = (percent(), EXPIRE_MS, EXPIRE_MS)
        }
        Some(other) => panic!("{} means nothing here", char::from(*other)),
    }
    meta
}

fn key(text: &str) -> Bytes {
    let (keyspace, key) = text.split_once('/').unwrap_or(("0", text));
    full_key(KeyspaceId(keyspace.parse().expect("a keyspace")), key.as_bytes()).expect("a short key")
}

fn name(meta: &SstMeta) -> String {
    let word = |key: &[u8]| String::from_utf8_lossy(&key[4..]).into_owned();
    format!("{}-{}", word(&meta.first_key), word(&meta.last_key))
}
