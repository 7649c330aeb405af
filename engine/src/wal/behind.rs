//! Refusing to go on behind a version that was lost.
//!
//! If the newest version was deleted from outside, the one before it looks like the newest. Whoever reads on that
//! answers short: rows are of keyspaces that it does not know. Whoever claims a role on
//! that gives an epoch out again, and a keyspace's number; and takes the place of the version that a copy could have
//! brought back. So before anything is claimed the log is read on the version that seems to be the newest, and its end
//! looked at: a writer goes on from there when it has claimed, and reads nothing twice.
//!
//! ```text
//! newest version: epoch 4      log   … DATA e4   FENCE e5   (strays e4)   DATA e5
//!                                                └──── the last objects: e5 was given out by a version that is lost
//! ```
//!
//! Always true: a claim that came meanwhile, or a listing that was stale, is no loss: the newest version is looked for
//! again before anything is refused; what is refused has committed nothing; openers and readers go by one rule,
//! [`unknown`], which is pure.

use std::sync::Arc;

use futures::future::try_join;

use crate::{
    chaos::{Bug, bug},
    error::{Error, ErrorKind, Result},
    key::Seq,
    manifest::{Manifest, Root, View},
    stats::Cause,
    store::{Folder, Listed, Name},
    wal::{
        loss::{self, Lost},
        replay::{Cursor, Opening, ReplayedObject, Walk},
    },
};

/// The log, read by a writer that has claimed nothing yet. Call [`Self::next`] until it gives `None`, then
/// [`Self::check`], claim, and go on with [`Self::claimed`].
#[derive(Debug)]
pub(crate) struct Unclaimed {
    manifest: Manifest,
    base: Arc<View>,
    listed: Vec<Listed>,
    lost_fence: Option<Lost>,
    /// The last slot worth asking for.
    last: u64,
    walk: Walk,
    last_seq: Seq,
    objects: u64,
}

impl Unclaimed {
    /// Begins at the replay point of `base`. One LIST of the log from there on, and beside it a GET of the fence that
    /// lies before.
    pub(crate) async fn begin(manifest: &Manifest, base: &Arc<View>) -> Result<Self> {
        let (root, cursor) = (&base.root, Cursor::start(&base.root));
        let fence = loss::fence(manifest, root, root.writer.replay_from, Cause::Open);
        let (listed, lost_fence) = try_join(list(manifest, root, Cause::Open), fence).await?;
        let largest = listed.iter().map(|one| one.bytes).max().unwrap_or_default();
        let slots: Vec<u64> = listed.iter().filter_map(|one| one.name.number()).collect();
        let last = slots.last().copied().unwrap_or_default().max(base.root.writer.tail_hint);
        Ok(Self {
            manifest: manifest.clone(),
            base: Arc::clone(base),
            listed,
            lost_fence,
            last,
            walk: Walk::over(manifest, cursor, slots, largest, Cause::Open),
            last_seq: cursor.after_seq,
            objects: 0,
        })
    }

    /// The next DATA object to replay; `None` at the end of what was listed, or at an absent slot.
    pub(crate) async fn next(&mut self) -> Result<Option<ReplayedObject>> {
        let object = self.walk.next_up_to(self.last).await?.and_then(ReplayedObject::of);
        if let Some(object) = &object {
            self.last_seq = self.last_seq.max(object.last_seq);
            self.objects += 1;
        }
        Ok(object)
    }

    /// Fails with `Corruption` if what was read says that a version is lost (`highest_keyspace` is the highest id of
    /// its entries), or an object of the log.
    ///
    /// Gives the newest version if it is another meanwhile, and may have an answer: begin again on that.
    pub(crate) async fn check(&mut self, highest_keyspace: Option<u32>) -> Result<Option<Arc<View>>> {
        let Some(wrong) = self.wrong(highest_keyspace).await? else { return Ok(None) };
        let (base, newest) = (&self.base.root, newest(&self.manifest, Cause::Open).await?);
        let has_answer = newest.root.writer != base.writer || newest.root.next_keyspace != base.next_keyspace;
        if newest.id() > base.id && has_answer {
            return Ok(Some(newest));
        }
        Err(match wrong {
            Wrong::Version(why) => refused(newest.id(), &why),
            Wrong::Log(lost) => lost.error(),
        })
    }

    async fn wrong(&mut self, highest_keyspace: Option<u32>) -> Result<Option<Wrong>> {
        let (root, cursor) = (&self.base.root, self.walk.cursor());
        let behind = self.listed.partition_point(|one| one.name.number().is_none_or(|at| at <= cursor.slot));
        let words = loss::last_words(&self.manifest, &self.listed[behind..], Cause::Open).await?;
        let epoch = words.values().filter_map(|says| says.epoch()).fold(cursor.max_epoch, u32::max);
        if let Some(why) = unknown(root, epoch, highest_keyspace) {
            return Ok(Some(Wrong::Version(why)));
        }
        // Replay ends early.
        if bug(Bug::HoleIsTheEnd) {
            return Ok(None);
        }
        let fence = self.lost_fence.as_ref();
        let lost = loss::look_among(&self.manifest, root, cursor.slot, fence, &words, Cause::Open).await?;
        Ok(lost.map(Wrong::Log))
    }

    /// Goes on where the reading has ended, with `claimed`, the version in which `writer_uuid` claimed the writer role.
    /// `None` if versions of another writer came between: then what was read is to be thrown away.
    pub(crate) fn claimed(self, claimed: &Arc<View>, writer_uuid: u128, name: &str) -> Option<Opening> {
        let (before, after) = (&self.base.root.writer, &claimed.root.writer);
        let of_log = |root: &Root| {
            let writer = &root.writer;
            (writer.replay_from, writer.last_seq, writer.tail_hint, writer.fence_slot, writer.fence_epoch)
        };
        let is_next = after.epoch == before.epoch + 1 && of_log(&self.base.root) == of_log(&claimed.root);
        is_next.then(|| {
            let opening = Opening::begin(&self.manifest, Arc::clone(claimed), writer_uuid, name);
            opening.after(self.walk, self.last_seq, self.objects)
        })
    }
}

enum Wrong {
    Version(String),
    Log(Lost),
}

/// What `root` has not given out of what is in the log, if anything: `epoch` and `highest_keyspace` are the highest there.
pub(crate) fn unknown(root: &Root, epoch: u32, highest_keyspace: Option<u32>) -> Option<String> {
    if epoch > root.writer.epoch {
        return Some(of_epoch("writer", epoch));
    }
    highest_keyspace.filter(|id| *id >= root.next_keyspace).map(of_keyspace)
}

/// For a reader that has walked the log and then looked for a version newer than `latest`: fails with `Corruption` if
/// neither `latest` nor a newer one has given out what the log is [of](unknown).
///
/// Gives the newest version if only that has: the reader lags. No request if `latest` has.
pub(crate) async fn check_read(
    manifest: &Manifest,
    latest: &View,
    epoch: u32,
    highest_keyspace: Option<u32>,
    cause: Cause,
) -> Result<Option<Arc<View>>> {
    if unknown(&latest.root, epoch, highest_keyspace).is_none() {
        return Ok(None);
    }
    let newest = newest(manifest, cause).await?;
    match unknown(&newest.root, epoch, highest_keyspace) {
        None => Ok(Some(newest)),
        Some(why) => Err(refused(newest.id(), &why)),
    }
}

/// Fails with `Corruption` if the log says that a version after `latest` gave a writer's epoch out. For whoever
/// claims another role, and need not read the log.
///
/// One LIST of the log from the replay point on, and GETs of its last object and of what may be a FENCE shortly
/// before it.
pub(crate) async fn check_epoch(manifest: &Manifest, latest: &View, cause: Cause) -> Result<()> {
    let listed = list(manifest, &latest.root, cause).await?;
    let words = match loss::last_words(manifest, &listed, cause).await {
        // For whoever replays it.
        Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(()),
        words => words?,
    };
    let epoch = words.values().filter_map(|says| says.epoch()).max().unwrap_or_default();
    check_given_out(manifest, latest, "writer", epoch, |root| root.writer.epoch, cause).await
}

/// Fails with `Corruption` if neither `latest` nor a newer version knows of `epoch` of `role`, of which there are objects.
pub(crate) async fn check_given_out(
    manifest: &Manifest,
    latest: &View,
    role: &str,
    epoch: u32,
    known: impl Fn(&Root) -> u32,
    cause: Cause,
) -> Result<()> {
    if epoch <= known(&latest.root) {
        return Ok(());
    }
    let newest = newest(manifest, cause).await?;
    if epoch <= known(&newest.root) { Ok(()) } else { Err(refused(newest.id(), &of_epoch(role, epoch))) }
}

/// Fails with `Corruption` if `view`, in which the fence was committed, has not given out the id of a keyspace that was
/// replayed: it came, and its version went, after the log was read.
pub(crate) fn check_keyspaces(view: &View, highest_keyspace: Option<u32>) -> Result<()> {
    let Some(why) = unknown(&view.root, view.root.writer.epoch, highest_keyspace) else { return Ok(()) };
    let what = format!(
        "{why}, and this version knows nothing of it: one before it was lost while the database was opened"
    );
    Err(Error::corruption(Name::Manifest(view.id()).path(), 0, what)
        .hint("`esker repair --rollback` goes on without the version that was lost"))
}

/// Why the version after `newest` is taken for lost.
pub(crate) fn missing(newest: u64, why: &str) -> String {
    format!(
        "this version is missing: {why}, and version {newest}, the newest that is there, knows nothing of it"
    )
}

/// There are objects of an `epoch` of `role`.
pub(crate) fn of_epoch(role: &str, epoch: u32) -> String {
    format!("there are objects of {role} epoch {epoch}")
}

/// There are entries of the keyspace `id`.
pub(crate) fn of_keyspace(id: u32) -> String {
    format!("there are entries of keyspace {id} in the log")
}

/// The error of whoever would read, or go on from, version `newest`, although `why` says that a later one is lost.
fn refused(newest: u64, why: &str) -> Error {
    Error::corruption(Name::Manifest(newest + 1).path(), 0, missing(newest, why)).hint(
        "`esker repair --from COPY` brings it back if a copy has it, `esker repair --rollback` goes on without it",
    )
}

/// The newest version, also where a listing is stale.
async fn newest(manifest: &Manifest, cause: Cause) -> Result<Arc<View>> {
    let mut newest = manifest.latest(cause).await?;
    while let Some(next) = manifest.follow(&newest, cause).await? {
        newest = next;
    }
    Ok(newest)
}

/// The log from the replay point on.
async fn list(manifest: &Manifest, root: &Root, cause: Cause) -> Result<Vec<Listed>> {
    let before = Name::Wal(root.writer.replay_from.saturating_sub(1));
    manifest.store().list(Folder::Wal, Some(&before), cause).await
}
