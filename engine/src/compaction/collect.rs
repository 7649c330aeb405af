//! Garbage collection. The only file that deletes.
//!
//! ```text
//! 1 choose F: the newest version that was superseded longer than the retention ago, never the latest
//! 2 create floor/manifest/F; only then delete versions <= F, then lower floor marks
//! 3 list and read pins, then checkpoints, then the job log
//! 4 read what remains of the manifest: (F, latest]
//! 5 list SSTs and parts; delete those that nothing names and that nobody can publish any more:
//!   the producer's epoch is superseded, or the counter lies under the floor that it committed itself; the epoch of an
//!   SST of the compactor is superseded only by a takeover in the job log as read in step 3 (`settled.rs` has the proof)
//! 6 delete log objects before every remaining replay point, but never a FENCE
//! ```
//!
//! The order is the proof (the model in `tools/tests/models/collect` loses an SST if 3 comes before 2): a
//! reader writes its pin and then looks at the floor, so a pin that holds was there before the floor covered its
//! version. Pins come before checkpoints because a checkpoint is made under a pin that is released afterwards.
//! Age decides nothing but F, and when a pin was left behind: a wrong clock costs space, or a
//! `SnapshotExpired`, never rows.
//!
//! A pin or checkpoint keeps what it names, SSTs and parts, and nothing else: whoever pins has the end of the
//! log in memory, and who makes a checkpoint flushes first. A pin counts until the store's own clock says that
//! its last heartbeat is older than the life that it gives itself; one that was released counts no more at all.
//!
//! A FENCE is told from DATA by reading it: only objects up to [`MAX_FENCE_BYTES`] can be one, so that costs a
//! GET for each small object and none for the rest. One that cannot be decoded is kept.
//!
//! A version above the floor that is lost or cannot be read may name anything as well. It holds up what a damaged record
//! does, and the floor, until the one after it is older than the retention: then nobody reads it any more, F passes over
//! it, and nothing below it is left that it would have to be told from.
//!
//! A pass holds the names that the versions need, and no more than a few versions at a time.
//!
//! Always true: a crash between any two requests leaves a state that the next pass continues from; nothing
//! is deleted that this version does not understand: while there is a job record, pin or checkpoint that is
//! damaged or of a newer version, or a version that is lost, SSTs, parts and log are left alone; nothing is deleted
//! at all where the newest version is lost (`newest.rs`).

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::try_join_all;

use crate::{
    chaos::{Bug, bug},
    compaction::{
        held::{self, Held, is_unreadable},
        log, newest,
        settled::{Named, is_settled, is_sst_settled},
    },
    error::{Error, ErrorKind, Result},
    manifest::{Manifest, VersionCopy, View, checkpoint, copy, pin::PIN_LIFE_MS},
    stats::Cause,
    store::{Folder, Listed, Name, Sequence, Store, Token, floor_of, is_missing},
    wal::{WalObject, record::MAX_FENCE_BYTES},
};

const FLOOR_MAGIC: &[u8; 8] = b"eskerFLR";
const FLOOR_DEADLINE: Duration = Duration::from_secs(30);
const PARALLEL: usize = 16;

/// The body of a mark: a magic and a token.
pub(super) fn floor_mark(store: &Store) -> Vec<Bytes> {
    let Token(token) = Token::fresh(&**store.clock());
    vec![Bytes::from_static(FLOOR_MAGIC), Bytes::copy_from_slice(&token)]
}

/// What a pass deleted (or would have), and what it kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// What was deleted, with its size in bytes.
    pub deleted: Vec<(Name, u64)>,
    /// The bytes of it.
    pub bytes: u64,
    /// How many objects nothing names, but whose producer may still publish them.
    pub waiting: usize,
    /// What keeps this pass from deleting any SST, part or log object: job records, and pins and checkpoints that
    /// cannot be read; the newest version that is lost and that somebody may still read.
    pub held_by: Vec<Name>,
    /// Pins and checkpoints whose versions are kept.
    pub kept_for: Vec<Name>,
    /// Versions up to this one are gone.
    pub floor: u64,
}

impl Collected {
    /// Whether versions were too young for this pass, and with them what they alone name; `newest` is the newest version.
    pub fn left_some(&self, newest: &View) -> bool {
        self.floor + 1 < newest.id()
    }
}

/// One pass. `retention` bounds how far the manifest floor may move; it never decides safety. `None` is what
/// the database stores. With `dry_run` nothing is written or deleted, and the result says what would be.
///
/// Safe to run beside writers, readers, compactors and other passes. Fails with `Conflict` if another pass
/// overtakes this one: nothing that was to be kept is gone, run it again. Fails with `Corruption`, and deletes nothing,
/// if the log or the job log says that a version newer than the newest is lost.
pub async fn collect(manifest: &Manifest, retention: Option<Duration>, dry_run: bool) -> Result<Collected> {
    let pass = Pass { manifest, store: manifest.store(), dry_run };
    let latest = manifest.latest(Cause::Gc).await?;
    newest::check(manifest, &latest, Cause::Gc).await?;
    let retention_ms = retention.map_or(latest.root.options.retention_ms, |retention| {
        u64::try_from(retention.as_millis()).unwrap_or(u64::MAX)
    });
    let marks = pass.list(Folder::ManifestFloor).await?;
    let old_floor = floor_of(&marks);
    let mut named = Named::nothing();
    let mut collected = Collected::default();
    let floor = pass.choose(&latest, old_floor, retention_ms, &mut named, &mut collected).await?;
    collected.floor = floor;

    // slatedb #2073: a reader that looked at the floor in between believes its pin.
    let pins_first = bug(Bug::PinsListedFirst);
    if pins_first {
        let now_ms = marks.iter().map(|mark| mark.modified_ms).max().unwrap_or(0);
        pass.pins(&latest, now_ms, &mut named, &mut collected).await?;
    }
    // slatedb RFC 26: a slot was free while it still counted.
    if !bug(Bug::DeletedBeforeTheFloor) {
        pass.raise(floor, old_floor).await?;
    }
    let versions = pass.list(Folder::Manifest).await?;
    let store_now_ms = versions.iter().chain(&marks).map(|listed| listed.modified_ms).max().unwrap_or(0);
    let is_under = |limit: u64| move |listed: &Listed| listed.name.number().is_some_and(|id| id < limit);
    pass.delete(versions.into_iter().filter(is_under(floor.saturating_add(1))).collect(), &mut collected)
        .await?;
    if bug(Bug::DeletedBeforeTheFloor) {
        pass.raise(floor, old_floor).await?;
    }
    pass.delete(marks.into_iter().filter(is_under(floor)).collect(), &mut collected).await?;

    if !pins_first {
        pass.pins(&latest, store_now_ms, &mut named, &mut collected).await?;
    }
    pass.checkpoints(&latest, &mut named, &mut collected).await?;
    let log_epoch = pass.read_job_log(&mut named, &mut collected).await?;
    if !collected.held_by.is_empty() {
        return Ok(collected);
    }
    let latest = pass.read_newer(latest, &mut named, &mut collected).await?;
    if !collected.held_by.is_empty() {
        return Ok(collected);
    }

    for folder in [Folder::Sst, Folder::Part] {
        let mut garbage = pass.list(folder).await?;
        garbage.retain(|listed| listed.name.object_id().is_some_and(|id| !named.objects.contains(&id)));
        let unreferenced = garbage.len();
        garbage.retain(|listed| {
            let adoptable = folder == Folder::Sst;
            let is_settled = |id| {
                if adoptable {
                    is_sst_settled(id, &latest.root, log_epoch)
                } else {
                    is_settled(id, &latest.root)
                }
            };
            listed.name.object_id().is_some_and(is_settled)
        });
        collected.waiting += unreferenced - garbage.len();
        pass.delete(garbage, &mut collected).await?;
    }
    let mut log = pass.list(Folder::Wal).await?;
    log.retain(is_under(named.replay_from));
    let data = pass.without_fences(&log).await?;
    pass.delete(data, &mut collected).await?;
    Ok(collected)
}

/// Deletes the checkpoint `name`: what it alone kept is garbage from then on, and whoever reads it ends in
/// `SnapshotExpired`. Fails with `Invalid`, naming those there are, if there is none of that name.
pub async fn delete_checkpoint(manifest: &Manifest, name: &str) -> Result<()> {
    let object = Name::checkpoint(name)?;
    if manifest.store().get(&object, Cause::Admin).await?.is_none() {
        return Err(checkpoint::missing(manifest, name).await);
    }
    manifest.store().delete(&[object], Cause::Admin).await
}

/// One pass over one database.
struct Pass<'a> {
    manifest: &'a Manifest,
    store: &'a Store,
    dry_run: bool,
}

impl Pass<'_> {
    /// Chooses F, and notes in `named` what every version above it needs, on the way down from `latest`. Where one of
    /// those is lost F stays, and the lost one is in `collected`.
    async fn choose(
        &self,
        latest: &Arc<View>,
        old_floor: u64,
        retention_ms: u64,
        named: &mut Named,
        collected: &mut Collected,
    ) -> Result<u64> {
        let now_ms = self.store.clock().wall_ms();
        let mut newer = Arc::clone(latest);
        named.add(latest);
        loop {
            let below = newer.id().saturating_sub(1);
            // A version is superseded when the one after it is committed.
            if below <= old_floor || newer.root.committed_ms.saturating_add(retention_ms) <= now_ms {
                return Ok(below.max(old_floor));
            }
            let ids = (old_floor + 1..=below).rev().take(PARALLEL);
            let near = Arc::clone(&newer);
            for version in try_join_all(ids.map(|id| self.version(id, &near))).await? {
                if newer.root.committed_ms.saturating_add(retention_ms) <= now_ms {
                    break;
                }
                let Some(view) = version else {
                    collected.held_by.push(Name::Manifest(newer.id() - 1));
                    return Ok(old_floor);
                };
                named.add(&view);
                newer = view;
            }
        }
    }

    /// Declares versions up to `floor` void. Whoever creates the mark, it is there when this returns.
    async fn raise(&self, floor: u64, old_floor: u64) -> Result<()> {
        if self.dry_run || floor <= old_floor {
            return Ok(());
        }
        let marks = Sequence::new(self.store.clone(), Folder::ManifestFloor);
        marks.create(floor, floor_mark(self.store), Cause::Gc, Some(FLOOR_DEADLINE)).await.map(drop)
    }

    /// Notes in `named` what pins keep; removes those that were released, or left behind.
    async fn pins(
        &self,
        latest: &View,
        mut store_now_ms: u64,
        named: &mut Named,
        collected: &mut Collected,
    ) -> Result<()> {
        let mut pins = self.list(Folder::Pin).await?;
        store_now_ms = pins.iter().map(|pin| pin.modified_ms).fold(store_now_ms, u64::max);
        // Nothing in an idle database says what time it is at the store. If a pin may be old by our clock, ask.
        let wall_ms = self.store.clock().wall_ms();
        if !self.dry_run && pins.iter().any(|pin| older(pin, PIN_LIFE_MS, wall_ms)) {
            pins = self.pins_by_now(store_now_ms).await?;
            store_now_ms = pins.iter().map(|pin| pin.modified_ms).fold(store_now_ms, u64::max);
        }
        let (old, near): (Vec<Listed>, Vec<Listed>) =
            pins.into_iter().partition(|pin| older(pin, copy::MAX_LIFE_MS, store_now_ms));
        let mut gone = old;
        for (pin, held) in held::all(self.manifest, near, latest).await? {
            let has_lapsed = |copy: &VersionCopy| older(&pin, copy.life_ms, store_now_ms);
            match held {
                Held::Nothing => gone.push(pin),
                Held::Version(copy, _) | Held::Unfollowed(copy, _) if has_lapsed(&copy) => gone.push(pin),
                Held::Version(_, view) => keep(&view, pin.name, named, collected),
                // A pin that counts keeps its parts. This one came after the floor, and its reader has seen that, or will.
                Held::Unfollowed(copy, error) if copy.root.id <= collected.floor && is_missing(&error) => {
                    tracing::debug!(%error, "a pin holds nothing: its version had been collected before");
                }
                Held::Unfollowed(_, error) | Held::Unreadable(error) => {
                    tracing::warn!(%error, "a pin cannot be read, so nothing is collected that it may hold");
                    collected.held_by.push(pin.name);
                }
                Held::Absent => {}
            }
        }
        self.delete(gone, collected).await
    }

    /// The pins once more, with one of ours among them, written just now and holding nothing.
    async fn pins_by_now(&self, store_now_ms: u64) -> Result<Vec<Listed>> {
        let clock = self.store.clock();
        let probe = Name::Pin(clock.random());
        let body = copy::encode(&probe, Token::fresh(&**clock), None);
        self.store.replace(&probe, body, Cause::Gc).await?;
        tracing::debug!(store_now_ms, "asking the store what time it is");
        self.list(Folder::Pin).await
    }

    /// Notes in `named` what checkpoints keep.
    async fn checkpoints(&self, latest: &View, named: &mut Named, collected: &mut Collected) -> Result<()> {
        let listed = self.list(Folder::Checkpoint).await?;
        for (checkpoint, held) in held::all(self.manifest, listed, latest).await? {
            match held {
                Held::Version(_, view) => keep(&view, checkpoint.name, named, collected),
                Held::Nothing | Held::Unfollowed(..) | Held::Unreadable(_) => {
                    collected.held_by.push(checkpoint.name);
                }
                // Deleted since it was listed.
                Held::Absent => {}
            }
        }
        Ok(())
    }

    /// Notes in `named` what jobs that have not ended name; deletes what is void. The epoch of the newest takeover,
    /// 0 if there is none.
    async fn read_job_log(&self, named: &mut Named, collected: &mut Collected) -> Result<u32> {
        let log = log::read(self.store, self.manifest.identity().db_uuid, Cause::Gc).await?;
        let history = log.history();
        collected.held_by.extend(history.unreadable.iter().map(|(slot, _)| Name::Job(*slot)));
        named.objects.extend(history.named());
        let Some(holder) = history.holder else { return Ok(0) };
        // The newest takeover lies above the floor, whose mark is its holder's.
        let under = |limit: u64| move |listed: &Listed| listed.name.number().is_some_and(|id| id < limit);
        self.delete(log.listed.into_iter().filter(under(log.floor + 1)).collect(), collected).await?;
        self.delete(log.marks.into_iter().filter(under(log.floor)).collect(), collected).await?;
        Ok(holder.epoch)
    }

    /// Notes in `named` what the versions after `known` need, every one of them; the latest of all.
    async fn read_newer(
        &self,
        known: Arc<View>,
        named: &mut Named,
        collected: &mut Collected,
    ) -> Result<Arc<View>> {
        let Some(latest) = self.manifest.newer(&known, Cause::Gc).await? else { return Ok(known) };
        let mut near = known;
        for id in near.id() + 1..latest.id() {
            match self.version(id, &near).await? {
                Some(view) => near = view,
                None => collected.held_by.push(Name::Manifest(id)),
            }
            named.add(&near);
        }
        named.add(&latest);
        Ok(latest)
    }

    /// The version `id`; `None` if it is lost, or damaged. Fails with `Conflict` if it has been collected.
    async fn version(&self, id: u64, near: &View) -> Result<Option<Arc<View>>> {
        match self.manifest.version_for_collection(id, near).await {
            Ok(Some(view)) => Ok(Some(view)),
            // Whoever collects raises the floor first.
            Ok(None) if id <= self.manifest.floor(Cause::Gc).await? => Err(overtaken(id)),
            Ok(None) => Ok(None),
            Err(error) if error.kind() == ErrorKind::Corruption => {
                tracing::warn!(%error, "a version cannot be read, so nothing is collected that it may need");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What of `log` is DATA.
    async fn without_fences(&self, log: &[Listed]) -> Result<Vec<Listed>> {
        let mut data = Vec::with_capacity(log.len());
        for batch in log.chunks(PARALLEL) {
            let are_data = try_join_all(batch.iter().map(|listed| self.is_data(listed))).await?;
            data.extend(
                batch.iter().zip(are_data).filter(|(_, is_data)| *is_data).map(|(listed, _)| listed.clone()),
            );
        }
        Ok(data)
    }

    async fn is_data(&self, listed: &Listed) -> Result<bool> {
        if listed.bytes > MAX_FENCE_BYTES {
            return Ok(true);
        }
        let Some(slot) = listed.name.number() else { return Ok(false) };
        // slatedb #352, #1622: a writer that was long gone found its slot free.
        if bug(Bug::FencesCollected) {
            return Ok(true);
        }
        let db_uuid = self.manifest.identity().db_uuid;
        let read = || async {
            let body = self.store.get(&listed.name, Cause::Gc).await?;
            body.map(|body| WalObject::decode(slot, db_uuid, body)).transpose()
        };
        match self.store.reread(&listed.name, read).await {
            Ok(object) => Ok(matches!(object, Some(WalObject::Data { .. }))),
            Err(error) if is_unreadable(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn list(&self, folder: Folder) -> Result<Vec<Listed>> {
        self.store.list(folder, None, Cause::Gc).await
    }

    /// Deletes, or in a dry run only notes down.
    async fn delete(&self, listed: Vec<Listed>, collected: &mut Collected) -> Result<()> {
        if !self.dry_run {
            let names: Vec<Name> = listed.iter().map(|listed| listed.name.clone()).collect();
            self.store.delete(&names, Cause::Gc).await?;
        }
        collected.bytes += listed.iter().map(|listed| listed.bytes).sum::<u64>();
        collected.deleted.extend(listed.into_iter().map(|listed| (listed.name, listed.bytes)));
        Ok(())
    }
}

/// Keeps what `view` names, for `holder`.
fn keep(view: &View, holder: Name, named: &mut Named, collected: &mut Collected) {
    named.add_objects(view);
    collected.kept_for.push(holder);
}

/// Whether `listed` was written more than `life_ms` before `now_ms`.
fn older(listed: &Listed, life_ms: u64, now_ms: u64) -> bool {
    listed.modified_ms.saturating_add(life_ms) < now_ms
}

fn overtaken(id: u64) -> Error {
    Error::new(ErrorKind::Conflict, format!("version {id} went away while garbage was being collected"))
        .hint("another collection is running; run this one again")
}
