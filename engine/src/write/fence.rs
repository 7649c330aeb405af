//! Opening for writing: claim the epoch, fence the log, replay what is in it (design §4.3).
//!
//! ```text
//!  claim    commit writer.epoch + 1         the old writer can commit no more versions
//!  fence    FENCE in the first free slot t  the old writer can add nothing to the log
//!  replay   everything before t             what it had made durable is in memtables again
//!  start    our objects go to t+K, …
//! ```
//!
//! A long log becomes several memtables, cut between log objects, so that each can be flushed and moves the
//! replay point past what it holds. The last one moves it to our fence, where any later walk may begin.
//!
//! Always true: a number is given again only if nobody will ever read what had it.

use std::sync::Arc;

use crate::{
    clock,
    error::Result,
    key::Seq,
    manifest::{Edit, Manifest},
    memtable::Memtable,
    stats::Cause,
    wal::{
        replay::{self, OpenedLog, ReplayedObject},
        writer::fenced,
    },
    write::head::{Replayed, Start},
};

/// The right to write, and where writing begins.
#[derive(Debug)]
pub struct Opened {
    /// Where writing begins.
    pub start: Start,
    /// Our epoch.
    pub epoch: u32,
    /// Our uuid.
    pub writer_uuid: u128,
}

/// Takes writing over for `name`. Fails with `Fenced` if another process does the same and is later.
pub async fn open(manifest: &Manifest, name: &str, memtable_bytes: usize) -> Result<Opened> {
    let clock = manifest.store().clock().clone();
    let writer_uuid = clock.random();
    let latest = manifest.latest(Cause::Open).await?;
    let claim = Edit::ClaimWriter { uuid: writer_uuid, name: name.to_owned() };
    let claimed = manifest.commit(&latest, &claim, Cause::Open).await?;
    let owner = &claimed.root.writer;
    if owner.uuid[..] != writer_uuid.to_le_bytes() {
        return Err(fenced(&owner.name, owner.epoch, owner.epoch.saturating_sub(1)));
    }
    let epoch = owner.epoch;
    let OpenedLog { view, fence_slot, objects } = replay::open_log(manifest, claimed, writer_uuid, name).await?;
    let stored = view.root.writer.last_seq;
    let replayed = clock::on_cpu(move || memtables(objects, fence_slot, memtable_bytes)).await?;
    let last_seq = replayed.last().map_or(stored, |newest| newest.last_seq.max(stored));
    let start = Start {
        next_slot: fence_slot + u64::from(manifest.identity().wal_window.max(1)),
        next_seq: last_seq + 1,
        fence_slot,
        view,
        replayed,
    };
    Ok(Opened { start, epoch, writer_uuid })
}

/// The log's entries as memtables, oldest first.
fn memtables(objects: Vec<ReplayedObject>, fence_slot: u64, memtable_bytes: usize) -> Vec<Replayed> {
    let mut full = Vec::new();
    let mut open = Memtable::new();
    let mut last_seq: Seq = 0;
    for object in objects {
        last_seq = object.last_seq;
        for entry in object.entries {
            open.insert(entry);
        }
        if open.bytes() >= memtable_bytes {
            let memtable = Arc::new(std::mem::replace(&mut open, Memtable::new()));
            full.push(Replayed { memtable, last_seq, replay_from: object.slot + 1 });
        }
    }
    if !open.is_empty() {
        full.push(Replayed { memtable: Arc::new(open), last_seq, replay_from: fence_slot });
    }
    full
}
