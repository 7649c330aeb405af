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

use std::{mem, sync::Arc};

use crate::{
    error::Result,
    key::Seq,
    manifest::{Edit, Manifest},
    memtable::Memtable,
    stats::Cause,
    wal::{
        replay::{Opening, ReplayedObject},
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
    let mut opening = Opening::begin(manifest, claimed, writer_uuid, name);
    let mut replay = Replay { memtable_bytes, full: Vec::new(), open: Memtable::new(), last_seq: 0 };
    while let Some(object) = opening.next().await? {
        replay.object(object);
    }
    let log = opening.finish().await?;
    let start = Start {
        next_seq: log.last_seq.max(log.view.root.writer.last_seq) + 1,
        next_slot: log.next_slot,
        fence_slot: log.fence_slot,
        replayed: replay.finish(log.fence_slot),
        view: log.view,
    };
    Ok(Opened { start, epoch, writer_uuid })
}

/// The log's entries on their way into memtables.
struct Replay {
    memtable_bytes: usize,
    /// Oldest first.
    full: Vec<Replayed>,
    open: Memtable,
    last_seq: Seq,
}

impl Replay {
    fn object(&mut self, object: ReplayedObject) {
        self.last_seq = object.last_seq;
        for entry in object.entries {
            self.open.insert(entry);
        }
        if self.open.bytes() >= self.memtable_bytes {
            self.cut(object.slot + 1);
        }
    }

    fn cut(&mut self, replay_from: u64) {
        let memtable = Arc::new(mem::replace(&mut self.open, Memtable::new()));
        self.full.push(Replayed { memtable, last_seq: self.last_seq, replay_from });
    }

    fn finish(mut self, fence_slot: u64) -> Vec<Replayed> {
        if !self.open.is_empty() {
            self.cut(fence_slot);
        }
        self.full
    }
}
