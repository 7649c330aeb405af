//! Opening for writing: claim the epoch, fence the log, replay what is in it.
//!
//! ```text
//!  replay   everything that is in the log   what is durable is in memtables; what is lost, is missed: nothing was committed
//!  claim    commit writer.epoch + 1         the old writer can commit no more versions
//!  fence    FENCE in the first free slot t  the old writer can add nothing to the log; what it had added is replayed
//!  start    our objects go to t+K, …
//! ```
//!
//! A long log becomes several memtables, cut between log objects, so that each can be flushed and moves the
//! replay point past what it holds. What is left at the end is the first active memtable, so that opening
//! a database often does not fill it with tiny SSTs; unless it lies in many objects, which the next opener
//! would have to fetch as well: then it is flushed too, and moves the replay point to our fence.
//!
//! Always true: a number is given again only if nobody will ever read what had it; whoever is refused because something
//! is lost has committed nothing.

use std::{mem, sync::Arc};

use crate::{
    error::{Error, Result},
    key::{Seq, split_full_key},
    manifest::{Manifest, View, claim},
    memtable::Memtable,
    stats::Cause,
    wal::{
        behind::{self, Unclaimed},
        replay::{Opening, ReplayedObject},
    },
    write::head::{Replayed, Start},
};

/// What lies in more log objects than this is flushed after replay, however little it is.
const MANY_OBJECTS: u64 = 32;
/// How often the log is read again because the newest version was not the newest any more.
const MAX_READS: u32 = 20;

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

/// Takes writing over for `name`; `newest` was the newest version not long ago. Fails with `Fenced` if another process
/// does the same and is later.
pub async fn open(
    manifest: &Manifest,
    newest: Arc<View>,
    name: &str,
    memtable_bytes: usize,
) -> Result<Opened> {
    let clock = manifest.store().clock().clone();
    let writer_uuid = clock.random();
    let (base, unclaimed, mut replay) = read(manifest, newest, memtable_bytes).await?;
    let claimed = claim::writer(manifest, &base, writer_uuid, name, Cause::Open).await?;
    let epoch = claimed.root.writer.epoch;
    let mut opening = match unclaimed.claimed(&claimed, writer_uuid, name) {
        Some(opening) => opening,
        None => {
            replay = Replay::new(memtable_bytes);
            Opening::begin(manifest, claimed, writer_uuid, name)
        }
    };
    while let Some(object) = opening.next().await? {
        replay.object(object);
    }
    let log = opening.finish().await?;
    behind::check_keyspaces(&log.view, replay.highest_keyspace)?;
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

/// The newest version, which `base` may be, and what is in the log, which says nothing of a newer one.
async fn read(
    manifest: &Manifest,
    mut base: Arc<View>,
    memtable_bytes: usize,
) -> Result<(Arc<View>, Unclaimed, Replay)> {
    for _ in 0..MAX_READS {
        let mut replay = Replay::new(memtable_bytes);
        let mut unclaimed = Unclaimed::begin(manifest, &base).await?;
        while let Some(object) = unclaimed.next().await? {
            replay.object(object);
        }
        match unclaimed.check(replay.highest_keyspace).await? {
            None => return Ok((base, unclaimed, replay)),
            Some(newer) => base = newer,
        }
    }
    Err(Error::unavailable(format!("other writers came first {MAX_READS} times while the log was read")))
}

/// The log's entries on their way into memtables.
struct Replay {
    memtable_bytes: usize,
    /// Oldest first.
    full: Vec<Replayed>,
    open: Memtable,
    last_seq: Seq,
    /// The highest id of a keyspace that any of them is in.
    highest_keyspace: Option<u32>,
}

impl Replay {
    fn new(memtable_bytes: usize) -> Self {
        Self { memtable_bytes, full: Vec::new(), open: Memtable::new(), last_seq: 0, highest_keyspace: None }
    }

    fn object(&mut self, object: ReplayedObject) {
        self.last_seq = object.last_seq;
        for entry in object.entries {
            let keyspace = split_full_key(&entry.key).map(|(id, _)| id.0);
            self.highest_keyspace = self.highest_keyspace.max(keyspace);
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
