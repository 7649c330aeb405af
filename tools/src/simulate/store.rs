//! A process's connection to the simulated store: every request meets its fate.
//!
//! ```text
//! put, delete   ── task of the world: wait, apply, perhaps apply again ── answer ──► caller, if it still is
//! get, list     ── wait, look, wait ──► caller
//! ```
//!
//! Always true: what changes the store is done by tasks of the world, so it outlives its sender; nothing of a
//! dead process reaches the store, and nothing reaches a process that stands still.

use std::{fmt, ops::Range, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions,
    Result, path::Path,
};
use tokio::sync::oneshot;

use super::{
    fate::{Answer, Fate, Spoil, Verb},
    life::Life,
    world::{SharedWorld, detach},
};

/// When virtual time begins by the store's clock: 2026-01-01T00:00:00Z, in milliseconds since the Unix epoch.
const EPOCH_MS: u64 = 1_767_225_600_000;

/// One process's connection.
#[derive(Debug, Clone)]
pub(crate) struct SimStore {
    world: SharedWorld,
    life: Arc<Life>,
}

impl SimStore {
    /// The connection of `life`.
    pub(crate) fn new(world: &SharedWorld, life: &Arc<Life>) -> Self {
        Self { world: Arc::clone(world), life: Arc::clone(life) }
    }

    /// Sends a request that changes the store, and waits for what comes back: whether it did what it said.
    async fn change(
        &self,
        verb: Verb,
        path: &str,
        apply: impl Fn() -> bool + Send + 'static,
    ) -> Result<bool> {
        self.life.runs().await;
        let fate = self.world.fate(self.life.node, verb, path);
        let (reply, replied) = oneshot::channel();
        if let Some(applied_ms) = fate.applied_ms {
            self.world.state().in_flight += 1;
            let world = Arc::clone(&self.world);
            detach(async move {
                world.sleep_ms(applied_ms).await;
                let done = apply();
                // The sender may have gone.
                let _ = reply.send(done);
                if let Some(again_ms) = fate.again_ms {
                    world.sleep_ms(again_ms).await;
                    apply();
                }
                world.state().in_flight -= 1;
            });
        }
        let answer = match fate.answer {
            Answer::True => replied.await.ok(),
            _ => None,
        };
        self.world.sleep_ms(fate.answered_ms).await;
        self.life.runs().await;
        self.world.answered(self.life.node, path, &[fate.answer as u8, u8::from(answer.unwrap_or(false))]);
        match answer {
            Some(done) => Ok(done),
            None => Err(self.failure(fate, path).await),
        }
    }

    /// What an untrue answer looks like, if it ever comes.
    async fn failure(&self, fate: Fate, path: &str) -> Error {
        let generic = |what: &'static str| Error::Generic { store: "simulated", source: what.into() };
        match fate.answer {
            Answer::True | Answer::Lost => generic("connection reset by peer"),
            Answer::Failed => generic("Server returned non-2xx status code: 503 Slow Down"),
            Answer::Conflict => Error::AlreadyExists { path: path.to_owned(), source: "409 conflict".into() },
            Answer::Forbidden => {
                Error::PermissionDenied { path: path.to_owned(), source: "403 ExpiredToken".into() }
            }
            Answer::Nothing => std::future::pending().await,
        }
    }

    /// Asks the store something, and gives what it saw.
    async fn ask<T>(&self, verb: Verb, path: &str, look: impl FnOnce(&Fate) -> T + Send) -> Result<T> {
        self.life.runs().await;
        let fate = self.world.fate(self.life.node, verb, path);
        self.world.sleep_ms(fate.applied_ms.unwrap_or(0)).await;
        let seen = look(&fate);
        self.world.sleep_ms(fate.answered_ms).await;
        self.life.runs().await;
        if fate.answer != Answer::True {
            self.world.answered(self.life.node, path, &[fate.answer as u8]);
            return Err(self.failure(fate, path).await);
        }
        Ok(seen)
    }

    async fn get(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let path = location.as_ref();
        let world = &self.world;
        let found = self.ask(Verb::Get, path, |fate| {
            let now_ms = world.now_ms();
            let state = &mut *world.state();
            let stored = state.objects.asked(path, now_ms)?;
            Some(match fate.spoil {
                Some(Spoil::Swap(n)) => {
                    let other = state.objects.neighbour(path, n).cloned().unwrap_or_else(|| stored.clone());
                    (other, fate.spoil)
                }
                spoil => (stored, spoil),
            })
        });
        let Some((stored, spoil)) = found.await? else {
            world.answered(self.life.node, path, b"absent");
            return Err(Error::NotFound { path: path.to_owned(), source: "404 not found".into() });
        };
        let size = stored.body.len() as u64;
        let Some(range) = bounded(options.range.as_ref(), size) else {
            world.answered(self.life.node, path, b"range");
            let source = format!("Server returned non-2xx status code: 416 of {size} bytes").into();
            return Err(Error::Generic { store: "simulated", source });
        };
        let mut body = stored.body.slice(range.start as usize..range.end as usize);
        if !options.head {
            match spoil {
                Some(Spoil::Truncate(at)) if !body.is_empty() => {
                    body.truncate((at % body.len() as u64) as usize);
                }
                Some(Spoil::Flip(at)) if !body.is_empty() => {
                    let mut bad = body.to_vec();
                    let bit = at % (bad.len() as u64 * 8);
                    bad[(bit / 8) as usize] ^= 1 << (bit % 8);
                    body = bad.into();
                }
                _ => {}
            }
        }
        world.answered(self.life.node, path, &body);
        let meta = meta(location.clone(), size, stored.modified_ms);
        let payload = GetResultPayload::Stream(stream::iter([Ok(body)]).boxed());
        let (attributes, extensions) = (Default::default(), Default::default());
        Ok(GetResult { payload, meta, range, attributes, extensions })
    }

    /// A listing, page by page; each page is as true as the moment at which it was made.
    fn listing(
        &self,
        prefix: Option<&Path>,
        offset: Option<&Path>,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let prefix = prefix.map(|prefix| prefix.as_ref().to_owned()).unwrap_or_default();
        let after = offset.map(|offset| offset.as_ref().to_owned()).unwrap_or_default();
        let start = Some((self.clone(), prefix, after));
        stream::unfold(start, |place| async move {
            let (store, prefix, after) = place?;
            let page = {
                let world = &store.world;
                let most = world.drawn.page;
                let ask = |_: &Fate| {
                    let now_ms = world.now_ms();
                    world.state().objects.page(&prefix, &after, most, now_ms)
                };
                store.ask(Verb::List, &prefix, ask).await
            };
            let (objects, next) = match page {
                Err(error) => (vec![Err(error)], None),
                Ok(page) => {
                    let said: Vec<u8> = page.iter().flat_map(|(path, ..)| path.bytes()).collect();
                    store.world.answered(store.life.node, &prefix, &said);
                    let last = page.last().map(|(path, ..)| path.clone());
                    let full = page.len() == store.world.drawn.page;
                    let objects = page
                        .into_iter()
                        .map(|(path, bytes, modified_ms)| Ok(meta(Path::from(path), bytes, modified_ms)))
                        .collect();
                    (objects, last.filter(|_| full).map(|last| (store, prefix, last)))
                }
            };
            Some((stream::iter(objects), next))
        })
        .flatten()
        .boxed()
    }

    async fn remove(&self, location: &Path) -> Result<()> {
        let (world, path) = (Arc::clone(&self.world), location.as_ref().to_owned());
        let apply = move || {
            world.delete(&path);
            true
        };
        self.change(Verb::Delete, location.as_ref(), apply).await.map(drop)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods, reason = "a default would go round the faults")]
impl ObjectStore for SimStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => return Err(not_supported("put by version")),
        };
        let verb = if create { Verb::Create } else { Verb::Put };
        let (world, path, body) = (Arc::clone(&self.world), location.to_string(), Bytes::from(payload));
        if self.change(verb, location.as_ref(), move || world.put(&path, &body, create)).await? {
            return Ok(PutResult { e_tag: None, version: None, extensions: Default::default() });
        }
        Err(Error::AlreadyExists { path: location.to_string(), source: "412 precondition failed".into() })
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        // Nothing here grows to the size of a part.
        Err(not_supported("multipart uploads"))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.get(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let mut all = Vec::with_capacity(ranges.len());
        for range in ranges {
            let range = Some(GetRange::Bounded(range.clone()));
            all.push(self.get(location, GetOptions { range, ..GetOptions::default() }).await?.bytes().await?);
        }
        Ok(all)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .map(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    store.remove(&location).await?;
                    Ok(location)
                }
            })
            // One request takes many; answers come in order.
            .buffered(16)
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, None)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        self.listing(prefix, Some(offset))
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(not_supported("listing with a delimiter"))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(not_supported("copying"))
    }

    async fn rename_opts(&self, _: &Path, _: &Path, _: RenameOptions) -> Result<()> {
        Err(not_supported("renaming"))
    }
}

impl fmt::Display for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStore({})", self.life.node)
    }
}

fn not_supported(what: &'static str) -> Error {
    Error::NotSupported { source: format!("{what} is not simulated").into() }
}

fn meta(location: Path, size: u64, modified_ms: u64) -> ObjectMeta {
    let mut meta =
        ObjectMeta { location, last_modified: Default::default(), size, e_tag: None, version: None };
    meta.last_modified += Duration::from_millis(EPOCH_MS + modified_ms);
    meta
}

/// The bytes that `range` means, as stores take it.
fn bounded(range: Option<&GetRange>, size: u64) -> Option<Range<u64>> {
    match range {
        None => Some(0..size),
        Some(GetRange::Bounded(range)) => (range.start < size).then(|| range.start..range.end.min(size)),
        Some(GetRange::Offset(from)) => (*from < size).then_some(*from..size),
        Some(GetRange::Suffix(bytes)) => Some(size.saturating_sub(*bytes)..size),
    }
}
