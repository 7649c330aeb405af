//! A store that fails on purpose: lost replies, late writes, short bodies, flipped bytes.
//!
//! [`FaultyStore`] wraps any `ObjectStore` and follows a list of [`Rule`]s: which call (operation, path,
//! node, n-th or by chance) meets which [`Fault`]. The first rule that fires wins. What real stores do wrong
//! is listed with its evidence in the crates and vendors' own issue trackers; each fault here is one of
//! those kinds. `FaultProxy` does the same to HTTP.
//!
//! Always true: the same seed and the same order of calls give the same faults; without a rule that
//! fires, a call goes through untouched, to the same method of the wrapped store.
//!
//! ```
//! use esker::clock::SystemClock;
//! use esker::stats::Cause;
//! use esker::store::{Folder, Sequence, Slot};
//! use esker::testing::{Fault, FaultyStore, Operation, Rule};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let faulty = FaultyStore::memory(SystemClock::shared(), 42);
//! // The store applies the first PUT of a manifest, but its answer is lost.
//! faulty.add(Rule::on(Operation::Put).path("manifest/").nth(1).meets(Fault::DropReply));
//!
//! let manifest = Sequence::new(faulty.store(), Folder::Manifest);
//! let body = vec![bytes::Bytes::from_static(b"a magic.a token of sixteenand the rest")];
//! assert_eq!(manifest.create(1, body, Cause::Manifest, None).await?, Slot::Ours);
//! assert_eq!(faulty.faults(), 1);
//! # Ok::<(), esker::Error>(()) }).unwrap();
//! ```

use std::{collections::BTreeMap, fmt, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    FutureExt as _, StreamExt as _,
    future::{self, BoxFuture},
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, RenameOptions, Result as StoreResult, UploadPart, memory::InMemory, path::Path,
};
use parking_lot::Mutex;

use super::{
    rule::{Fault, Operation, Rule},
    script::{Script, to_usize},
};
use crate::{
    clock::{SharedClock, Task},
    store::Store,
};

/// An `ObjectStore` that fails by rules. Clones share rules and counters.
#[derive(Debug, Clone)]
pub struct FaultyStore {
    wrapped: Arc<dyn ObjectStore>,
    clock: SharedClock,
    /// Which node this handle is, for rules about one.
    node: Arc<str>,
    shared: Arc<Shared>,
}

/// What all clones share.
#[derive(Debug)]
struct Shared {
    script: Mutex<Script>,
    calls: Mutex<Vec<(Operation, String)>>,
    withheld: Mutex<Vec<(Path, PutPayload, PutOptions)>>,
    /// What [`Fault::Late`] has put off.
    late: Mutex<Vec<Task>>,
}

impl FaultyStore {
    /// Wraps `store`. Delays are by `clock`, chance by `seed`.
    pub fn new(store: Arc<dyn ObjectStore>, clock: SharedClock, seed: u64) -> Self {
        let shared = Shared {
            script: Mutex::new(Script::new(seed)),
            calls: Mutex::default(),
            withheld: Mutex::default(),
            late: Mutex::default(),
        };
        Self { wrapped: store, clock, node: Arc::from(""), shared: Arc::new(shared) }
    }

    /// Over an empty memory of its own.
    pub fn memory(clock: SharedClock, seed: u64) -> Self {
        Self::new(Arc::new(InMemory::new()), clock, seed)
    }

    /// The same store as seen by the node `label`: rules may be about one node only.
    #[must_use]
    pub fn node(&self, label: &str) -> Self {
        Self { node: Arc::from(label), ..self.clone() }
    }

    /// A [`Store`] that goes through the faults.
    pub fn store(&self) -> Store {
        Store::from_object_store(Arc::new(self.clone()), "faulty://", Arc::clone(&self.clock))
    }

    /// A [`Store`] on the same objects that goes round the faults.
    pub fn sound_store(&self) -> Store {
        Store::from_object_store(Arc::clone(&self.wrapped), "sound://", Arc::clone(&self.clock))
    }

    /// Adds a rule, after those there are.
    pub fn add(&self, rule: Rule) {
        self.shared.script.lock().add(rule);
    }

    /// Takes all rules away.
    pub fn clear(&self) {
        self.shared.script.lock().clear();
    }

    /// How many calls have met a fault.
    pub fn faults(&self) -> u64 {
        self.shared.script.lock().faults()
    }

    /// How many calls have met each kind of fault, by its word in a rule's text.
    pub fn met(&self) -> BTreeMap<&'static str, u64> {
        self.shared.script.lock().met()
    }

    /// Every call so far, in order: what, and on which path.
    pub fn calls(&self) -> Vec<(Operation, String)> {
        self.shared.calls.lock().clone()
    }

    /// Does the PUTs that were withheld, in order, as a network does that delivers late. Returns how many.
    pub async fn release_withheld(&self) -> usize {
        let withheld = std::mem::take(&mut *self.shared.withheld.lock());
        let number = withheld.len();
        for (path, payload, options) in withheld {
            // The sender is long gone: nobody hears the answer.
            let _ = self.wrapped.put_opts(&path, payload, options).await;
        }
        number
    }

    /// What this call meets, if anything.
    fn meet(&self, operation: Operation, path: &Path) -> Option<Fault> {
        self.shared.calls.lock().push((operation, path.to_string()));
        let now = self.clock.monotonic();
        self.shared.script.lock().meet(operation, &[path.as_ref()], &self.node, now)
    }

    /// Does `call` after `time`, whether or not anyone still waits.
    fn later(&self, time: Duration, call: impl Future<Output = ()> + Send + 'static) {
        let clock = Arc::clone(&self.clock);
        let task = Task::spawn(async move {
            clock.sleep(time).await;
            call.await;
        });
        self.shared.late.lock().push(task);
    }

    /// Does a call that has no body to spoil, under `fault`.
    async fn under<'a, T>(
        &self,
        fault: Option<Fault>,
        path: &Path,
        call: impl Fn() -> BoxFuture<'a, StoreResult<T>> + Send,
    ) -> StoreResult<T> {
        let Some(fault) = fault else { return call().await };
        if let Some(error) = refusal(fault, path) {
            return Err(error);
        }
        match fault {
            Fault::DropReply => {
                let _ = call().await;
                Err(lost(path, "got no reply"))
            }
            Fault::Delay(time) => {
                self.clock.sleep(time).await;
                call().await
            }
            Fault::Duplicate => {
                let _ = call().await;
                call().await
            }
            Fault::Hang => future::pending().await,
            Fault::HangReply => {
                let _ = call().await;
                future::pending().await
            }
            _ => call().await,
        }
    }

    fn listing(
        &self,
        path: &Path,
        all: BoxStream<'static, StoreResult<ObjectMeta>>,
    ) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let Some(fault) = self.meet(Operation::List, path) else { return all };
        let clock = Arc::clone(&self.clock);
        let path = path.clone();
        match fault {
            Fault::Truncate(objects) => all.take(to_usize(objects)).boxed(),
            Fault::FalseMissing => stream::empty().boxed(),
            Fault::Hang => stream::pending().boxed(),
            Fault::HangReply => all.collect::<Vec<_>>().then(|_| future::pending()).into_stream().boxed(),
            Fault::Delay(time) => async move {
                clock.sleep(time).await;
                all
            }
            .flatten_stream()
            .boxed(),
            Fault::StaleList(newest) => without_newest(all, to_usize(newest)).flatten_stream().boxed(),
            Fault::DropReply | Fault::Cut(_) | Fault::Reset(_) => async move {
                let whole: Vec<_> = all.collect().await;
                let half = whole.len().div_ceil(2);
                stream::iter(whole).take(half).chain(stream::iter([Err(lost(&path, "ended half-way"))]))
            }
            .flatten_stream()
            .boxed(),
            other => match refusal(other, &path) {
                Some(error) => stream::iter([Err(error)]).boxed(),
                None => all,
            },
        }
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.wrapped)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods, reason = "a default would go round the faults")]
impl ObjectStore for FaultyStore {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> StoreResult<PutResult> {
        let fault = self.meet(Operation::Put, location);
        let put = || self.wrapped.put_opts(location, payload.clone(), opts.clone());
        match fault {
            Some(Fault::Withhold) => {
                self.shared.withheld.lock().push((location.clone(), payload.clone(), opts.clone()));
            }
            Some(Fault::Late(time)) => {
                let (wrapped, late) = (Arc::clone(&self.wrapped), location.clone());
                self.later(time, async move { drop(wrapped.put_opts(&late, payload, opts).await) });
                return Err(lost(location, "is late"));
            }
            Some(Fault::FalseSuccess) => {
                return Ok(PutResult { e_tag: None, version: None, extensions: Default::default() });
            }
            // The request's body had all arrived.
            Some(Fault::Reset(bytes)) if bytes >= payload.content_length() as u64 => {
                let _ = put().await;
            }
            _ => {}
        }
        self.under(fault, location, put).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        let fault = self.meet(Operation::Begin, location);
        let begin = || self.wrapped.put_multipart_opts(location, opts.clone());
        let upload = self.under(fault, location, begin).await?;
        Ok(Box::new(FaultyUpload { wrapped: upload, store: self.clone(), path: location.clone() }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        let fault = self.meet(Operation::Get, location);
        let spoils = matches!(
            fault,
            Some(
                Fault::Truncate(_)
                    | Fault::Cut(_)
                    | Fault::Reset(_)
                    | Fault::Flip(_)
                    | Fault::Shift(_)
                    | Fault::Swap
            )
        );
        let get = || self.wrapped.get_opts(location, options.clone());
        let result = self.under(fault.filter(|_| !spoils), location, get).await?;
        let remember = self.shared.script.lock().wants_bodies();
        if options.head || !(spoils || remember) {
            return Ok(result);
        }
        self.spoil(result, location, fault.filter(|_| spoils)).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> StoreResult<Vec<Bytes>> {
        let mut all = Vec::with_capacity(ranges.len());
        for range in ranges {
            let options =
                GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
            all.push(self.get_opts(location, options).await?.bytes().await?);
        }
        Ok(all)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        let store = self.clone();
        locations
            .then(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    let fault = store.meet(Operation::Delete, &location);
                    if let Some(Fault::Late(time)) = fault {
                        let (wrapped, late) = (Arc::clone(&store.wrapped), location.clone());
                        store.later(time, async move { drop(wrapped.delete(&late).await) });
                        return Err(lost(&location, "is late"));
                    }
                    if fault == Some(Fault::FalseSuccess) {
                        return Ok(location);
                    }
                    store.under(fault, &location, || store.wrapped.delete(&location).boxed()).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.listing(&prefix.cloned().unwrap_or_default(), self.wrapped.list(prefix))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let listed = self.wrapped.list_with_offset(prefix, offset);
        self.listing(&prefix.cloned().unwrap_or_default(), listed)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        let path = prefix.cloned().unwrap_or_default();
        let fault = self.meet(Operation::List, &path);
        self.under(fault, &path, || self.wrapped.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        let fault = self.meet(Operation::Copy, to);
        if let Some(Fault::Late(time)) = fault {
            let (wrapped, from, late) = (Arc::clone(&self.wrapped), from.clone(), to.clone());
            self.later(time, async move { drop(wrapped.copy_opts(&from, &late, options).await) });
            return Err(lost(to, "is late"));
        }
        self.under(fault, to, || self.wrapped.copy_opts(from, to, options.clone())).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> StoreResult<()> {
        let fault = self.meet(Operation::Copy, to);
        if let Some(Fault::Late(time)) = fault {
            let (wrapped, from, late) = (Arc::clone(&self.wrapped), from.clone(), to.clone());
            self.later(time, async move { drop(wrapped.rename_opts(&from, &late, options).await) });
            return Err(lost(to, "is late"));
        }
        self.under(fault, to, || self.wrapped.rename_opts(from, to, options.clone())).await
    }
}

impl FaultyStore {
    /// The same answer with a spoiled body; what it announces stays as it was.
    async fn spoil(&self, result: GetResult, path: &Path, fault: Option<Fault>) -> StoreResult<GetResult> {
        let (meta, range) = (result.meta.clone(), result.range.clone());
        let (attributes, extensions) = (result.attributes.clone(), result.extensions.clone());
        let whole = result.bytes().await?;
        let body = {
            let mut script = self.shared.script.lock();
            let spoiled = fault
                .map_or_else(|| whole.clone(), |fault| script.spoil(fault, path.as_ref(), whole.clone()));
            script.remember(path.as_ref(), &whole);
            spoiled
        };
        let pieces = match fault {
            Some(Fault::Cut(bytes) | Fault::Reset(bytes)) => {
                let some = body.slice(..body.len().min(to_usize(bytes)));
                vec![Ok(some), Err(lost(path, "broke off in its body"))]
            }
            _ => vec![Ok(body)],
        };
        let payload = GetResultPayload::Stream(stream::iter(pieces).boxed());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }
}

/// A multipart upload through the faults.
#[derive(Debug)]
struct FaultyUpload {
    wrapped: Box<dyn MultipartUpload>,
    store: FaultyStore,
    path: Path,
}

#[async_trait]
impl MultipartUpload for FaultyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (store, path) = (self.store.clone(), self.path.clone());
        let fault = store.meet(Operation::Part, &path);
        let length = data.content_length() as u64;
        // A part has its place by the order of these calls, so it is taken in any case.
        let part = self.wrapped.put_part(data);
        async move {
            let Some(fault) = fault else { return part.await };
            match fault {
                Fault::Reset(bytes) if bytes >= length => {
                    let _ = part.await;
                    return Err(lost(&path, "got no reply"));
                }
                _ => {}
            }
            if let Some(error) = refusal(fault, &path) {
                return Err(error);
            }
            match fault {
                Fault::Delay(time) => {
                    store.clock.sleep(time).await;
                    part.await
                }
                Fault::DropReply => {
                    let _ = part.await;
                    Err(lost(&path, "got no reply"))
                }
                Fault::Hang => future::pending().await,
                Fault::HangReply => {
                    let _ = part.await;
                    future::pending().await
                }
                // A part cannot be sent twice from here; a proxy can.
                _ => part.await,
            }
        }
        .boxed()
    }

    async fn complete(&mut self) -> StoreResult<PutResult> {
        let Some(fault) = self.store.meet(Operation::Complete, &self.path) else {
            return self.wrapped.complete().await;
        };
        if let Some(error) = refusal(fault, &self.path) {
            return Err(error);
        }
        match fault {
            Fault::DropReply => {
                let _ = self.wrapped.complete().await;
                Err(lost(&self.path, "got no reply"))
            }
            Fault::Delay(time) => {
                self.store.clock.sleep(time).await;
                self.wrapped.complete().await
            }
            Fault::Hang => future::pending().await,
            Fault::HangReply => {
                let _ = self.wrapped.complete().await;
                future::pending().await
            }
            _ => self.wrapped.complete().await,
        }
    }

    async fn abort(&mut self) -> StoreResult<()> {
        match self.store.meet(Operation::Abort, &self.path).and_then(|fault| refusal(fault, &self.path)) {
            Some(error) => Err(error),
            None => self.wrapped.abort().await,
        }
    }
}

/// A listing that has not yet heard of its newest objects.
async fn without_newest(
    all: BoxStream<'static, StoreResult<ObjectMeta>>,
    newest: usize,
) -> BoxStream<'static, StoreResult<ObjectMeta>> {
    let mut listed: Vec<_> = all.collect().await;
    let mut times: Vec<_> = listed.iter().flatten().map(|o| (o.last_modified, o.location.clone())).collect();
    times.sort();
    let unheard_of = times.split_off(times.len().saturating_sub(newest));
    listed.retain(|object| match object {
        Ok(object) => unheard_of.iter().all(|(_, location)| *location != object.location),
        Err(_) => true,
    });
    stream::iter(listed).boxed()
}

/// The error of a call that is not done at all, if `fault` is of that kind.
fn refusal(fault: Fault, path: &Path) -> Option<StoreError> {
    let here = || path.to_string();
    Some(match fault {
        Fault::FailBefore | Fault::Withhold => lost(path, "was not sent"),
        Fault::Late(_) => lost(path, "is late"),
        Fault::Cut(_) | Fault::Reset(_) => lost(path, "lost its connection"),
        Fault::ErrorBody => generic(format!("the answer to the call on {path} was 200 with an error in it")),
        Fault::FalseConflict | Fault::Status(409 | 412) => {
            StoreError::AlreadyExists { path: here(), source: "409, on purpose".into() }
        }
        Fault::FalseMissing | Fault::Status(404) => {
            StoreError::NotFound { path: here(), source: "404, on purpose".into() }
        }
        Fault::Refuse | Fault::Status(403) => {
            StoreError::PermissionDenied { path: here(), source: "403, on purpose".into() }
        }
        Fault::Status(401) => StoreError::Unauthenticated { path: here(), source: "401, on purpose".into() },
        Fault::Status(304) => StoreError::NotModified { path: here(), source: "304, on purpose".into() },
        // In the words of the HTTP clients of `object_store`.
        Fault::Status(code) => {
            generic(format!("Server returned non-2xx status code: {code}: the call on {path}, on purpose"))
        }
        _ => return None,
    })
}

fn lost(path: &Path, what: &str) -> StoreError {
    generic(format!("the call on {path} {what}, on purpose"))
}

fn generic(what: String) -> StoreError {
    StoreError::Generic { store: "FaultyStore", source: what.into() }
}
