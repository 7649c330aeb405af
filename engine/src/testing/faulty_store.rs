//! A store that fails on purpose: lost replies, late writes, short bodies, flipped bytes.
//!
//! [`FaultyStore`] wraps any `ObjectStore` and follows a list of [`Rule`]s: which call (operation, path,
//! n-th or by chance) meets which [`Fault`]. The first rule that fires wins. What real stores do wrong
//! is listed with its evidence in the crates and vendors' own issue trackers; each fault here is one of
//! those kinds.
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

use std::{fmt, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, RenameOptions, Result as StoreResult, UploadPart, memory::InMemory, path::Path,
};
use parking_lot::Mutex;

use crate::{clock::SharedClock, store::Store};

/// What kind of call a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Every call.
    Any,
    /// A whole object written, conditionally or not.
    Put,
    /// A multipart upload begun.
    Begin,
    /// A part of one uploaded.
    Part,
    /// A multipart upload completed.
    Complete,
    /// An object, a range or its size read.
    Get,
    /// A listing.
    List,
    /// A deletion.
    Delete,
    /// A copy or a rename.
    Copy,
}

/// What a call meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An error; nothing was done.
    FailBefore,
    /// It was done; an error comes back all the same. Of a listing, the first half comes, then the error.
    DropReply,
    /// An error comes back; a PUT is kept aside and done at [`FaultyStore::release_withheld`]. (Other
    /// calls are not done at all.)
    Withhold,
    /// It is done after this time.
    Delay(Duration),
    /// It is done twice, as a proxy that retries does it; the second answer comes back.
    Duplicate,
    /// "Already exists" (or 409) comes back; nothing was done and nothing may be there.
    FalseConflict,
    /// "Not found" comes back, whatever is there.
    FalseMissing,
    /// "Forbidden" (403) comes back, as while keys are rotated; nothing was done.
    Refuse,
    /// The body ends cleanly after this many bytes; of a listing, after this many objects.
    Truncate(u64),
    /// The lowest bit of the body's byte at this offset is flipped.
    Flip(u64),
}

/// Which calls meet which fault. Made by [`Rule::on`], narrowed, and finished by [`Rule::meets`].
#[derive(Debug, Clone)]
pub struct Rule {
    operation: Operation,
    path: String,
    when: When,
    fault: Fault,
    /// Matching calls seen so far.
    seen: u64,
}

#[derive(Debug, Clone, Copy)]
enum When {
    Always,
    Nth(u64),
    First(u64),
    Chance(f64),
}

impl Rule {
    /// A rule about every call of this kind; [`Fault::FailBefore`] unless [`Self::meets`] says otherwise.
    pub fn on(operation: Operation) -> Self {
        Self { operation, path: String::new(), when: When::Always, fault: Fault::FailBefore, seen: 0 }
    }
    /// Only calls whose path contains `piece`.
    #[must_use]
    pub fn path(self, piece: impl Into<String>) -> Self {
        Self { path: piece.into(), ..self }
    }
    /// Only the `n`-th matching call, counted from 1.
    #[must_use]
    pub fn nth(self, n: u64) -> Self {
        Self { when: When::Nth(n), ..self }
    }
    /// Only the first `n` matching calls.
    #[must_use]
    pub fn first(self, n: u64) -> Self {
        Self { when: When::First(n), ..self }
    }
    /// Each matching call with this probability, 0 to 1.
    #[must_use]
    pub fn chance(self, probability: f64) -> Self {
        Self { when: When::Chance(probability), ..self }
    }
    /// What those calls meet.
    #[must_use]
    pub fn meets(self, fault: Fault) -> Self {
        Self { fault, ..self }
    }
}

/// An `ObjectStore` that fails by rules. Clones share rules and counters.
#[derive(Debug, Clone)]
pub struct FaultyStore {
    wrapped: Arc<dyn ObjectStore>,
    clock: SharedClock,
    script: Arc<Mutex<Script>>,
}

#[derive(Debug)]
struct Script {
    rules: Vec<Rule>,
    chance: u64,
    calls: Vec<(Operation, String)>,
    faults: u64,
    withheld: Vec<(Path, PutPayload, PutOptions)>,
}

impl FaultyStore {
    /// Wraps `store`. Delays are by `clock`, chance by `seed`.
    pub fn new(store: Arc<dyn ObjectStore>, clock: SharedClock, seed: u64) -> Self {
        let script =
            Script { rules: Vec::new(), chance: seed, calls: Vec::new(), faults: 0, withheld: Vec::new() };
        Self { wrapped: store, clock, script: Arc::new(Mutex::new(script)) }
    }

    /// Over an empty memory of its own.
    pub fn memory(clock: SharedClock, seed: u64) -> Self {
        Self::new(Arc::new(InMemory::new()), clock, seed)
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
        self.script.lock().rules.push(rule);
    }

    /// Takes all rules away.
    pub fn clear(&self) {
        self.script.lock().rules.clear();
    }

    /// How many calls have met a fault.
    pub fn faults(&self) -> u64 {
        self.script.lock().faults
    }

    /// Every call so far, in order: what, and on which path.
    pub fn calls(&self) -> Vec<(Operation, String)> {
        self.script.lock().calls.clone()
    }

    /// Does the PUTs that were withheld, in order, as a network does that delivers late. Returns how many.
    pub async fn release_withheld(&self) -> usize {
        let withheld = std::mem::take(&mut self.script.lock().withheld);
        let number = withheld.len();
        for (path, payload, options) in withheld {
            // The sender is long gone: nobody hears the answer.
            let _ = self.wrapped.put_opts(&path, payload, options).await;
        }
        number
    }

    /// What this call meets, if anything.
    fn meet(&self, operation: Operation, path: &Path) -> Option<Fault> {
        let script = &mut *self.script.lock();
        script.calls.push((operation, path.to_string()));
        for rule in &mut script.rules {
            let matches = (rule.operation == Operation::Any || rule.operation == operation)
                && path.as_ref().contains(&rule.path);
            if !matches {
                continue;
            }
            rule.seen += 1;
            let fires = match rule.when {
                When::Always => true,
                When::Nth(n) => rule.seen == n,
                When::First(n) => rule.seen <= n,
                When::Chance(probability) => next_chance(&mut script.chance) < probability,
            };
            if fires {
                script.faults += 1;
                return Some(rule.fault);
            }
        }
        None
    }

    /// Does a call that has no body to spoil, under `fault`.
    async fn under<'a, T>(
        &self,
        fault: Option<Fault>,
        path: &Path,
        call: impl Fn() -> BoxFuture<'a, StoreResult<T>> + Send,
    ) -> StoreResult<T> {
        match fault {
            None | Some(Fault::Truncate(_) | Fault::Flip(_)) => call().await,
            Some(Fault::FailBefore | Fault::Withhold) => Err(lost(path, "was not sent")),
            Some(Fault::DropReply) => {
                let _ = call().await;
                Err(lost(path, "got no reply"))
            }
            Some(Fault::Delay(time)) => {
                self.clock.sleep(time).await;
                call().await
            }
            Some(Fault::Duplicate) => {
                let _ = call().await;
                call().await
            }
            Some(Fault::FalseConflict) => {
                Err(StoreError::AlreadyExists { path: path.to_string(), source: "409, on purpose".into() })
            }
            Some(Fault::FalseMissing) => {
                Err(StoreError::NotFound { path: path.to_string(), source: "404, on purpose".into() })
            }
            Some(Fault::Refuse) => Err(refused(path)),
        }
    }

    fn listing(
        &self,
        path: &Path,
        all: BoxStream<'static, StoreResult<ObjectMeta>>,
    ) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        match self.meet(Operation::List, path) {
            None | Some(Fault::Flip(_) | Fault::Duplicate) => all,
            Some(Fault::Truncate(objects)) => all.take(objects as usize).boxed(),
            Some(Fault::FalseMissing) => stream::empty().boxed(),
            Some(Fault::Delay(time)) => {
                let clock = Arc::clone(&self.clock);
                async move {
                    clock.sleep(time).await;
                    all
                }
                .flatten_stream()
                .boxed()
            }
            Some(Fault::DropReply) => {
                let path = path.clone();
                async move {
                    let whole: Vec<_> = all.collect().await;
                    let half = whole.len().div_ceil(2);
                    stream::iter(whole).take(half).chain(stream::iter([Err(lost(&path, "ended half-way"))]))
                }
                .flatten_stream()
                .boxed()
            }
            Some(Fault::FailBefore | Fault::Withhold | Fault::FalseConflict) => {
                stream::iter([Err(lost(path, "was not sent"))]).boxed()
            }
            Some(Fault::Refuse) => stream::iter([Err(refused(path))]).boxed(),
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
        if fault == Some(Fault::Withhold) {
            self.script.lock().withheld.push((location.clone(), payload.clone(), opts.clone()));
        }
        let put = || self.wrapped.put_opts(location, payload.clone(), opts.clone());
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
        let get = || self.wrapped.get_opts(location, options.clone());
        let result = self.under(fault, location, get).await?;
        match fault {
            Some(fault @ (Fault::Truncate(_) | Fault::Flip(_))) if !options.head => {
                spoil(result, fault).await
            }
            _ => Ok(result),
        }
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
        self.under(fault, to, || self.wrapped.copy_opts(from, to, options.clone())).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> StoreResult<()> {
        let fault = self.meet(Operation::Copy, to);
        self.under(fault, to, || self.wrapped.rename_opts(from, to, options.clone())).await
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
        // A part has its place by the order of these calls, so it is taken in any case.
        let part = self.wrapped.put_part(data);
        async move {
            match fault {
                None | Some(Fault::Truncate(_) | Fault::Flip(_) | Fault::Duplicate) => part.await,
                Some(Fault::Delay(time)) => {
                    store.clock.sleep(time).await;
                    part.await
                }
                Some(Fault::DropReply) => {
                    let _ = part.await;
                    Err(lost(&path, "got no reply"))
                }
                Some(Fault::FailBefore | Fault::Withhold | Fault::FalseConflict | Fault::FalseMissing) => {
                    Err(lost(&path, "was not sent"))
                }
                Some(Fault::Refuse) => Err(refused(&path)),
            }
        }
        .boxed()
    }

    async fn complete(&mut self) -> StoreResult<PutResult> {
        let fault = self.store.meet(Operation::Complete, &self.path);
        match fault {
            Some(Fault::DropReply) => {
                let _ = self.wrapped.complete().await;
                Err(lost(&self.path, "got no reply"))
            }
            Some(Fault::FailBefore | Fault::Withhold) => Err(lost(&self.path, "was not sent")),
            Some(Fault::Refuse) => Err(refused(&self.path)),
            Some(Fault::Delay(time)) => {
                self.store.clock.sleep(time).await;
                self.wrapped.complete().await
            }
            _ => self.wrapped.complete().await,
        }
    }

    async fn abort(&mut self) -> StoreResult<()> {
        self.wrapped.abort().await
    }
}

/// The same answer with a spoiled body; what it announces stays as it was.
async fn spoil(result: GetResult, fault: Fault) -> StoreResult<GetResult> {
    let (meta, range) = (result.meta.clone(), result.range.clone());
    let (attributes, extensions) = (result.attributes.clone(), result.extensions.clone());
    let mut body = result.bytes().await?.to_vec();
    match fault {
        Fault::Truncate(bytes) => body.truncate(bytes as usize),
        Fault::Flip(at) => {
            if let Some(byte) = body.get_mut(at as usize) {
                *byte ^= 1;
            }
        }
        _ => {}
    }
    let payload = GetResultPayload::Stream(stream::iter([Ok(Bytes::from(body))]).boxed());
    Ok(GetResult { payload, meta, range, attributes, extensions })
}

fn refused(path: &Path) -> StoreError {
    StoreError::PermissionDenied { path: path.to_string(), source: "403, on purpose".into() }
}

fn lost(path: &Path, what: &str) -> StoreError {
    StoreError::Generic {
        store: "FaultyStore",
        source: format!("the call on {path} {what}, on purpose").into(),
    }
}

/// The next number in 0..1 (SplitMix64).
fn next_chance(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}
