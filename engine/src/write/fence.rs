//! Opening for writing: claim the epoch, fence the log, replay what is in it.
//!
//! ```text
//!  claim    commit writer.epoch + 1         the old writer can commit no more versions
//!  fence    FENCE in the first free slot t  the old writer can add nothing to the log
//!  replay   everything before t             what it had made durable is in memtables again
//!  start    our objects go to t+K, …
//! ```
//!
//! A long log becomes several memtables, cut between log objects, so that each can be flushed and moves the
//! replay point past what it holds. What is left at the end is the first active memtable, so that opening
//! a database often does not fill it with tiny SSTs; unless it lies in many objects, which the next opener
//! would have to fetch as well: then it is flushed too, and moves the replay point to our fence.
//!
//! Always true: a number is given again only if nobody will ever read what had it.

use std::{mem, sync::Arc};

use crate::{
    error::Result,
    key::Seq,
    manifest::{Manifest, claim},
    memtable::Memtable,
    stats::Cause,
    wal::replay::{Opening, ReplayedObject},
    write::head::{Replayed, Start},
};

/// What lies in more log objects than this is flushed after replay, however little it is.
const MANY_OBJECTS: u64 = 32;

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
    let claimed = claim::writer(manifest, &latest, writer_uuid, name, Cause::Open).await?;
    let epoch = claimed.root.writer.epoch;
    let mut opening = Opening::begin(manifest, claimed, writer_uuid, name);
    let mut replay = Replay { memtable_bytes, full: Vec::new(), open: Memtable::new(), last_seq: 0 };
    while let Some(object) = opening.next().await? {
        replay.object(object);
    }
    let log = opening.finish().await?;
    if log.objects > MANY_OBJECTS && !replay.open.is_empty() {
        replay.cut(log.fence_slot);
    }
    let start = Start {
        next_seq: log.last_seq.max(log.view.root.writer.last_seq) + 1,
        next_slot: log.next_slot,
        fence_slot: log.fence_slot,
        replayed: replay.full,
        active: replay.open,
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
        let memtable = Arc::new(mem::take(&mut self.open));
        self.full.push(Replayed { memtable, last_seq: self.last_seq, replay_from });
    }
}
