//! Loading, following and committing versions: the commit rule.
//!
//! ```text
//! 1 body = encode(edit(base N)) with a fresh token; slot = N+1; new parts are written first
//! 2 create slot                                            \  store::sequence
//! 3 whose bytes are in it?    ours -> 4    theirs -> 5      /
//! 4 is slot above the floor?  yes -> committed    no -> 5
//! 5 the latest version's ring: lists our token for slot -> committed; another's -> not committed:
//!   our epoch superseded -> Fenced; else rebase the edit on the latest, 1; not covered -> OutcomeUnknown
//! ```
//!
//! Step 4 is there because a slot can be free twice: once before its first commit, and again after
//! collection has deleted it. Whoever collects raises the floor first (an object in `floor/manifest/`),
//! so a create that lands at or under the floor is void, and its creator finds that out.
//!
//! Always true: success is reported only for the first object that ever was in its slot; failure only
//! when our bytes are not that and cannot become it; a version at or under the floor is never served.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::future::try_join;
use parking_lot::Mutex;

use crate::{
    chaos::{Bug, bug},
    clock::Clock,
    error::{Error, ErrorKind, Result},
    manifest::{Edit, FIRST_ID, Identity, RING_SLOTS, RingSlot, Root, View, codec, part},
    stats::Cause,
    store::{Folder, Name, ObjectId, Sequence, Slot, Store, Token, floor_of},
};

/// How often an edit is rebased before the committer gives up.
const MAX_TRIES: u32 = 20;
/// How long a commit may take in all, and how long one create may be without an answer.
pub(super) const COMMIT_TIME: Duration = Duration::from_secs(30);
/// The longest pause before the first rebase; it doubles up to the other.
const FIRST_PAUSE_MS: u64 = 10;
const LONGEST_PAUSE_MS: u64 = 1_000;
/// How long the absence of the next version is trusted after it was proved that there was none.
const TRUST_ABSENCE: Duration = Duration::from_secs(10);
/// How often the latest version may be collected under the reader's feet before that is called an error.
const MAX_READS: u32 = 20;

/// Whether `error` says that a database has an identity and no version yet: its creator is at it, or died of it.
pub fn is_unfinished(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<Unfinished>())
}

/// The source of errors about databases without a version.
#[derive(Debug)]
struct Unfinished;

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its first version is not there")
    }
}

impl std::error::Error for Unfinished {}

/// The manifest of one database. Cheap to clone; clones share what they have seen.
#[derive(Debug, Clone)]
pub struct Manifest {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    sequence: Sequence,
    identity: Identity,
    seen: Mutex<Seen>,
}

/// The newest version seen, and the last moment at which it is proved that nothing newer was there.
#[derive(Debug, Default)]
struct Seen {
    view: Option<Arc<View>>,
    wall_ms: u64,
    monotonic: Duration,
}

impl Manifest {
    /// What never changes about the database.
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// Where the database is.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// The latest version: LIST, GET of the highest, its parts, and a look at the floor.
    pub async fn latest(&self, cause: Cause) -> Result<Arc<View>> {
        self.latest_from(None, cause).await
    }

    /// The version `id`, the highest that a listing which began at `asked` has shown, with a look at the floor at the same
    /// time and not after it; [`Self::latest`] if it cannot be that one.
    ///
    /// For whoever goes on to commit on it, and for nobody else: the slot could have been freed and filled anew between the
    /// two requests. A commit on what lay there then fails, because the floor does not rise to `id` before the version
    /// after it is there.
    pub(super) async fn latest_to_commit_on(
        &self,
        (id, asked): (u64, Moment),
        cause: Cause,
    ) -> Result<Arc<View>> {
        let loaded = async { Ok(self.load(id, self.seen().as_deref(), cause).await) };
        let (loaded, floor) = try_join(loaded, self.floor(cause)).await?;
        match loaded {
            Err(error) if error.kind() == ErrorKind::Unavailable || id > floor => Err(error),
            Ok(Some(view)) if id > floor => {
                self.remember(&view, asked);
                Ok(view)
            }
            _ => self.latest(cause).await,
        }
    }

    /// [`Self::latest`] for whoever has listed the versions: `listed` is the highest id, and when the listing began.
    pub(super) async fn latest_from(
        &self,
        mut listed: Option<(u64, Moment)>,
        cause: Cause,
    ) -> Result<Arc<View>> {
        for _ in 0..MAX_READS {
            let (id, asked) = match listed.take() {
                Some(listed) => listed,
                None => {
                    let (hint, asked) = (self.seen().map_or(0, |view| view.id()), self.moment());
                    (self.top(hint, cause).await?, asked)
                }
            };
            if let Some(view) = self.read_above_floor(id, self.seen().as_deref(), cause).await? {
                self.remember(&view, asked);
                return Ok(view);
            }
        }
        Err(self.void(cause).await?.unwrap_or_else(|| {
            Error::unavailable(format!(
                "the latest version was collected {MAX_READS} times while it was being read"
            ))
        }))
    }

    /// The version `id`; `None` if it has been collected or is not there yet.
    pub async fn version(&self, id: u64, cause: Cause) -> Result<Option<Arc<View>>> {
        self.read_above_floor(id, self.seen().as_deref(), cause).await
    }

    /// The version `id` as it is stored, without asking whether it counts: one GET and no LIST. Shares what it
    /// can with `near`. `None` if it is not there. For whoever looks at every version and knows the floor.
    pub async fn stored_version(
        &self,
        id: u64,
        near: Option<&View>,
        cause: Cause,
    ) -> Result<Option<Arc<View>>> {
        self.load(id, near, cause).await
    }

    /// The version `id` for the collector, which knows the floor: one GET and no LIST. `None` if it has been
    /// collected; what lies at or under a floor raised meanwhile may be returned all the same.
    pub(crate) async fn version_for_collection(&self, id: u64, near: &View) -> Result<Option<Arc<View>>> {
        match self.load(id, Some(near), Cause::Gc).await {
            Ok(view) => Ok(view),
            Err(error) if error.kind() == ErrorKind::Unavailable => Err(error),
            // What is wrong with a version that has been collected meanwhile is nobody's concern.
            Err(_) if id <= self.floor(Cause::Gc).await? => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A version after `base`, if there is one: one GET of the next slot, and never a LIST while `base` is
    /// the latest.
    ///
    /// A 404 could also mean that the next version has been collected. So now and then (when the last proof
    /// is older than ten seconds, or than half the time that versions are kept) a 404 is followed by a GET
    /// of `base` itself: while that is there, nothing after it has been collected, because versions are
    /// collected oldest first. A collector that keeps less than the database's retention can delay a
    /// follower by those ten seconds and no more. To be certain in any case use [`Self::newer`].
    pub async fn follow(&self, base: &View, cause: Cause) -> Result<Option<Arc<View>>> {
        let asked = self.moment();
        // Another clone of this may be further on, and hold what this version names open.
        let further = self.seen().filter(|seen| seen.id() > base.id());
        let near = further.as_deref().unwrap_or(base);
        match self.load(base.id() + 1, Some(near), cause).await.transpose() {
            Some(Err(error)) if error.kind() == ErrorKind::Unavailable => Err(error),
            Some(loaded) => {
                if self.floor(cause).await? > base.id() {
                    return self.latest(cause).await.map(Some);
                }
                let view = loaded?;
                if view.root.prev_hash[..] != base.stored_hash().to_le_bytes() {
                    let what = format!(
                        "version {} does not follow version {} that was read before",
                        view.id(),
                        base.id()
                    );
                    return Err(Error::corruption(Name::Manifest(view.id()).path(), 0, what));
                }
                self.step(base, &view);
                Ok(Some(view))
            }
            None if self.looked_recently(base) => Ok(None),
            None => self.prove_latest(base, asked, cause).await,
        }
    }

    /// The latest version, if it is after `base`; `None` means for certain that `base` is the latest. One LIST.
    pub async fn newer(&self, base: &View, cause: Cause) -> Result<Option<Arc<View>>> {
        let asked = self.moment();
        let top = self.shared.sequence.latest(base.id(), cause).await?;
        if top.is_some_and(|top| top > base.id()) {
            return self.latest(cause).await.map(Some);
        }
        self.still_latest(base, asked);
        Ok(None)
    }

    /// Commits `edit` on `base`, or on what has superseded it.
    ///
    /// Fails as [`Edit::apply`] does; with `OutcomeUnknown` if it cannot be found out whether it was
    /// committed (committing the same flush or compaction again is safe, and finds out); with
    /// `Unavailable` if other commits always came first.
    pub async fn commit(&self, base: &Arc<View>, edit: &Edit, cause: Cause) -> Result<Arc<View>> {
        let clock = self.shared.store.clock().clone();
        let started = clock.monotonic();
        let mut base = base.clone();
        for attempt in 0..MAX_TRIES {
            if attempt > 0 {
                pause(&*clock, attempt).await;
            }
            let left = COMMIT_TIME.saturating_sub(clock.monotonic() - started);
            if left.is_zero() {
                break;
            }
            match self.attempt(&base, edit, left, cause).await? {
                Attempt::Committed(view) => return Ok(view),
                Attempt::Lost(latest) => base = latest,
            }
        }
        Err(Error::unavailable(format!("other commits came first {MAX_TRIES} times or for {COMMIT_TIME:?}")))
    }

    /// [`Self::commit`] for whoever saw `base` a while ago. One GET more.
    ///
    /// Fails with `Corruption` as well if `base` is gone and nothing has superseded it: the database was removed, or another
    /// put in its place. A create succeeds in an empty folder as in a full one, and what it makes there would stand in the
    /// way of whoever begins anew.
    pub async fn commit_if_there(&self, base: &Arc<View>, edit: &Edit, cause: Cause) -> Result<Arc<View>> {
        self.superseded(base, cause).await?;
        self.commit(base, edit, cause).await
    }

    /// The manifest of the database in `store` whose identity this is.
    pub(super) fn of(store: Store, identity: Identity) -> Self {
        let sequence = Sequence::new(store.clone(), Folder::Manifest);
        Self { shared: Arc::new(Shared { store, sequence, identity, seen: Mutex::default() }) }
    }

    /// Steps 1 to 5, once.
    async fn attempt(&self, base: &Arc<View>, edit: &Edit, left: Duration, cause: Cause) -> Result<Attempt> {
        if edit.is_in(&base.root) {
            return Ok(Attempt::Committed(base.clone()));
        }
        base.root.check_writable()?;
        let clock = self.shared.store.clock();
        let mut next = edit.apply(&base.root)?;
        let slot = base.id() + 1;
        let token = Token::fresh(&**clock);
        prepare(&mut next, slot, token, clock.wall_ms());
        next.prev_hash = Bytes::copy_from_slice(&base.stored_hash().to_le_bytes());
        let (role, epoch, counter) = edit.producer(&next);
        let new_id = || ObjectId { role, epoch, counter, nonce: clock.random() as u64 };
        let packed = part::pack(&base.root, &mut next, new_id);
        for (id, body) in packed.parts {
            self.shared.store.put_new(&Name::Part(id), vec![body], cause).await?;
        }
        // What could not be read is not written: a counter at its end, for one.
        let (db_uuid, path) = (self.shared.identity.db_uuid, Name::Manifest(slot).path());
        codec::check_stored(&packed.root, db_uuid, &path, 0)?;
        let body = codec::encode(&packed.root);
        if body.len() as u64 > codec::MAX_BODY_BYTES {
            let what = format!("the next version of the manifest would have {} bytes", body.len());
            return Err(Error::invalid(what).hint("drop keyspaces that are not needed"));
        }
        let hash = codec::object_hash(&body);
        // The view is made before the slot is, so that a version that cannot be read is never created.
        let view = Arc::new(View::stored(next, hash, Some(base))?);

        let asked = self.moment();
        let created = self.shared.sequence.create(slot, vec![body], cause, Some(left)).await;
        let ours = match created {
            Ok(verdict) => matches!(verdict, Slot::Ours),
            Err(e) if e.kind() == ErrorKind::Unavailable => {
                return Err(unknown(slot, "the store did not answer").because(e));
            }
            Err(e) => return Err(e),
        };
        // From here on the slot is taken, and a failure to find out by whom leaves the outcome unknown.
        match self.settle(ours, slot, cause).await {
            Ok(None) => {
                self.remember(&view, asked);
                Ok(Attempt::Committed(view))
            }
            Ok(Some(latest)) => resolve(latest, slot, token),
            Err(e) if ours => Err(unknown(slot, "the floor could not be read").because(e)),
            // Another's bytes are no proof: ours may have been there before them, and have been collected.
            Err(e) if e.kind() == ErrorKind::Unavailable => {
                Err(unknown(slot, "the latest version could not be read").because(e))
            }
            Err(e) => Err(e),
        }
    }

    /// Step 4: nothing more to do if the slot is ours and counts; else the latest version, which knows.
    async fn settle(&self, ours: bool, slot: u64, cause: Cause) -> Result<Option<Arc<View>>> {
        // slatedb RFC 26, delta #1410: a slot freed by collection was committed to.
        if ours && (bug(Bug::FloorNotChecked) || slot > self.floor(cause).await?) {
            return Ok(None);
        }
        self.latest(cause).await.map(Some)
    }

    /// Version `id`, unless it is not there or at or under the floor.
    async fn read_above_floor(
        &self,
        id: u64,
        near: Option<&View>,
        cause: Cause,
    ) -> Result<Option<Arc<View>>> {
        match self.load(id, near, cause).await {
            Ok(None) => Ok(None),
            Err(error) if error.kind() == ErrorKind::Unavailable => Err(error),
            // Only now: what is wrong with a version that has been collected meanwhile is nobody's concern.
            _ if id <= self.floor(cause).await? => Ok(None),
            loaded => loaded,
        }
    }

    /// What is in slot `id`, with its parts; `None` if nothing is.
    async fn load(&self, id: u64, near: Option<&View>, cause: Cause) -> Result<Option<Arc<View>>> {
        let Shared { store, sequence, identity, .. } = &*self.shared;
        let read = || async {
            let Some(bytes) = sequence.get(id, cause).await? else { return Ok(None) };
            let stored = codec::decode(id, identity.db_uuid, &bytes)?;
            Ok(Some((stored, codec::object_hash(&bytes))))
        };
        let Some((stored, hash)) = store.reread(&Name::Manifest(id), read).await? else { return Ok(None) };
        let root = part::complete(store, stored, near.map(|view| &view.root), cause).await?;
        Ok(Some(Arc::new(View::stored(root, hash, near)?)))
    }

    /// The highest void id; 0 if none is. One LIST.
    pub async fn floor(&self, cause: Cause) -> Result<u64> {
        let listed = self.shared.store.list(Folder::ManifestFloor, None, cause).await?;
        Ok(floor_of(&listed))
    }

    /// Why no version counts, if the floor has no version above it. Two LISTs, the floor first: when it was raised a
    /// version above it was there, and the newest is never deleted.
    pub(crate) async fn void(&self, cause: Cause) -> Result<Option<Error>> {
        let floor = self.floor(cause).await?;
        let Some(top) = self.shared.sequence.latest(0, cause).await?.filter(|top| *top <= floor) else {
            return Ok(None);
        };
        let what = format!("this mark declares every version void: the newest that is there is {top}");
        Ok(Some(Error::corruption(Name::ManifestFloor(floor).path(), 0, what).hint(
            "if versions after it were lost, bring them back (esker repair --from); if there never were any, \
             the mark is not esker's: delete that object",
        )))
    }

    /// The highest id listed. Fails with the reason if there is none: `Corruption`, or [`is_unfinished`].
    pub(super) async fn top(&self, hint: u64, cause: Cause) -> Result<u64> {
        let Shared { store, sequence, .. } = &*self.shared;
        if let Some(id) = sequence.latest(hint, cause).await? {
            return Ok(id);
        }
        if remains(store).await?.is_none() {
            let what = format!("the database at {} was never finished being created", store.url());
            return Err(Error::invalid(what)
                .because(Unfinished)
                .hint("open it once for writing to finish that"));
        }
        // What is there came after the first version, which may have come after the listing. From then on there
        // always is a version, so only a listing that begins now can say that they are gone.
        sequence.latest(0, cause).await?.ok_or_else(|| {
            let what = "there is data here, and every version of the manifest is missing";
            Error::corruption(Name::Manifest(FIRST_ID).path(), 0, what)
                .hint("`esker repair --from COPY` brings them back, if there is a copy")
        })
    }

    fn seen(&self) -> Option<Arc<View>> {
        self.shared.seen.lock().view.clone()
    }

    fn moment(&self) -> Moment {
        moment(&self.shared.store)
    }

    /// `view` was the latest at `asked` or later.
    fn remember(&self, view: &Arc<View>, (wall_ms, monotonic): Moment) {
        let mut seen = self.shared.seen.lock();
        if seen.view.as_ref().is_none_or(|old| old.id() <= view.id()) {
            *seen = Seen { view: Some(view.clone()), wall_ms, monotonic };
        }
    }

    /// `view` was found next to `base`, which proves nothing about what is after it: the old proof goes
    /// on, because where there was nothing after `base` there was nothing after `view`.
    fn step(&self, base: &View, view: &Arc<View>) {
        let mut seen = self.shared.seen.lock();
        match seen.view.as_ref().map(|old| old.id()) {
            Some(old) if old == base.id() => seen.view = Some(view.clone()),
            Some(old) if old > base.id() => {}
            _ => *seen = Seen { view: Some(view.clone()), ..Seen::default() },
        }
    }

    /// The slot after `base` was absent after `asked`: because `base` is the latest, or because both have
    /// been collected? A slot freed by collection may hold other bytes since, hence the hash.
    async fn prove_latest(&self, base: &View, asked: Moment, cause: Cause) -> Result<Option<Arc<View>>> {
        let Some(latest) = self.superseded(base, cause).await? else {
            self.still_latest(base, asked);
            return Ok(None);
        };
        Ok((latest.id() > base.id()).then_some(latest))
    }

    /// The latest version, if `base` is not there as it was.
    async fn superseded(&self, base: &View, cause: Cause) -> Result<Option<Arc<View>>> {
        let found = self.shared.sequence.get(base.id(), cause).await?;
        if found.is_some_and(|bytes| codec::object_hash(&bytes) == base.stored_hash()) {
            return Ok(None);
        }
        match self.latest(cause).await {
            Ok(latest) if latest.id() >= base.id() => return Ok(Some(latest)),
            Err(error) if !is_unfinished(&error) => return Err(error),
            // Nothing is left, or only what is older.
            _ => {}
        }
        let what = format!("version {} was read before and is gone, and none came after it", base.id());
        Err(Error::corruption(Name::Manifest(base.id()).path(), 0, what)
            .hint("the database was removed, or set back, while it was open here"))
    }

    fn still_latest(&self, base: &View, (wall_ms, monotonic): Moment) {
        let mut seen = self.shared.seen.lock();
        if seen.view.as_ref().is_some_and(|view| view.id() == base.id()) {
            (seen.wall_ms, seen.monotonic) = (wall_ms, monotonic);
        }
    }

    /// Whether it was proved so recently that nothing came after `base` that what has come since cannot
    /// have been collected. Both clocks are asked, because one of them stands still while a machine sleeps.
    fn looked_recently(&self, base: &View) -> bool {
        let trusted = Duration::from_millis(base.root.options.retention_ms / 2).min(TRUST_ABSENCE);
        let (wall_ms, monotonic) = self.moment();
        let seen = self.shared.seen.lock();
        seen.view.as_ref().is_some_and(|view| view.id() == base.id())
            && Duration::from_millis(wall_ms.abs_diff(seen.wall_ms)) < trusted
            && monotonic.saturating_sub(seen.monotonic) < trusted
    }
}

/// By the wall clock, in milliseconds, and by the monotonic one.
pub(super) type Moment = (u64, Duration);

pub(super) fn moment(store: &Store) -> Moment {
    (store.clock().wall_ms(), store.clock().monotonic())
}

enum Attempt {
    Committed(Arc<View>),
    /// Not committed; this is the latest version now.
    Lost(Arc<View>),
}

/// Step 5: what became of our attempt on `slot`.
fn resolve(latest: Arc<View>, slot: u64, token: Token) -> Result<Attempt> {
    match latest.root.ring.iter().find(|entry| entry.id == slot) {
        Some(entry) if entry.token[..] == token.0 => Ok(Attempt::Committed(latest)),
        Some(_) => Ok(Attempt::Lost(latest)),
        None => Err(unknown(slot, "more versions came after it than are remembered")),
    }
}

/// Gives `root` its place: id, token, ring, wall clock.
pub(super) fn prepare(root: &mut Root, id: u64, token: Token, wall_ms: u64) {
    let token = Bytes::copy_from_slice(&token.0);
    root.id = id;
    root.committed_ms = wall_ms;
    root.ring.push(RingSlot { id, token: token.clone() });
    root.ring.drain(..root.ring.len().saturating_sub(RING_SLOTS));
    root.token = token;
}

fn unknown(slot: u64, why: &str) -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        format!("it is not known whether version {slot} was committed: {why}"),
    )
    .hint("open the database again and look whether the change is there")
}

async fn pause(clock: &dyn Clock, attempt: u32) {
    let most = FIRST_PAUSE_MS.saturating_mul(1 << attempt.min(10)).min(LONGEST_PAUSE_MS);
    clock.sleep(Duration::from_millis(clock.random() as u64 % most)).await;
}

/// An object of a database that is here, beside its identity: a version if there is one. Up to ten LISTs.
pub(super) async fn remains(store: &Store) -> Result<Option<Name>> {
    for folder in Folder::ALL {
        if let Some(listed) = store.list(folder, None, Cause::Open).await?.pop() {
            return Ok(Some(listed.name));
        }
    }
    Ok(None)
}
