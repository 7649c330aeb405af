//! The one door to the object store: names, requests, retries, meters.
//!
//! A [`Store`] is a database's place in an object store: a bucket and a prefix, a directory, or
//! memory. Everything above asks it for objects by [`Name`]; nothing above names `object_store`.
//!
//! Always true:
//! - every attempt is counted by kind and cause, and ends by a deadline;
//! - no client retries by itself what we retry: `put`, `get` and `list` go out once per attempt of
//!   ours ([`retry`]), so a conditional PUT is never repeated behind our back. The one exception is
//!   multipart uploads, whose steps may be repeated freely ([`upload`]);
//! - a body is as long as it should be, or the read is an error;
//! - a listing is complete, or an error;
//! - secrets are in no message, and [`Store::url`] has none.

#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
mod cloud;
pub mod fetch;
pub mod meter;
pub mod names;
pub mod probe;
pub mod reread;
pub mod retry;
pub mod sequence;
pub mod upload;
pub mod url;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream};
/// What a user brings as a store of their own: the trait of the crate `object_store`.
pub use object_store::ObjectStore;
use object_store::path::Path;

pub(crate) use self::{fetch::Missing, retry::is_of_disk};
pub use self::{
    fetch::is_missing,
    names::{Folder, MAX_NUMBER, Name, ObjectId, Role},
    retry::is_refused,
    sequence::{Sequence, Slot, Token},
    upload::Upload,
};
use self::{
    meter::Attempt,
    retry::{Failure, Patience},
};
use crate::{
    clock::SharedClock,
    error::{Error, Result},
    stats::{Cause, RequestKind, Stats},
};

/// How long an operation is retried before it is [`Unavailable`](crate::ErrorKind::Unavailable).
pub const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);

/// How long one attempt may take, besides the time its bytes may take.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);

/// The slowest transfer that is still waited for, in bytes a second.
const SLOWEST_TRANSFER: u64 = 1 << 20;

/// Names in one page of a listing, as stores bill them.
const LIST_PAGE: usize = 1000;

/// A database's place in an object store. Cheap to clone; clones share their [`Stats`].
#[derive(Clone)]
pub struct Store {
    place: Arc<Place>,
    deadline: Duration,
}

/// What LIST says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: Name,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was written by the store's clock, in milliseconds since the Unix epoch. For people.
    pub modified_ms: u64,
}

/// The floor that `marks` declare: the highest of them, 0 if there is none. Numbers up to it are void.
pub fn floor_of(marks: &[Listed]) -> u64 {
    marks.iter().filter_map(|mark| mark.name.number()).max().unwrap_or(0)
}

/// What all clones of a store share.
struct Place {
    /// Sends each request once.
    objects: Arc<dyn ObjectStore>,
    /// The same place through a client that retries; for multipart uploads only.
    multipart: Arc<dyn ObjectStore>,
    /// Under which all names lie; empty for the root.
    prefix: Path,
    url: String,
    /// What may never appear in a message.
    secrets: Vec<String>,
    /// How many objects one DELETE request takes.
    delete_batch: usize,
    clock: SharedClock,
    stats: Arc<Stats>,
    /// Whether the store has ever answered: until then, patience with an unreachable one is short.
    reached: AtomicBool,
}

impl Store {
    /// Opens a place by its URL. Sends nothing and creates nothing: a directory is made by the first
    /// write, so that a mistyped path leaves no trace.
    ///
    /// | URL | is |
    /// |---|---|
    /// | `file:///path`, or a plain path | a directory; every write is synced to disk |
    /// | `memory://name/prefix` | memory of this process; the same name is the same store, no name is a private one |
    /// | `s3://bucket/prefix?…` | S3 or compatible; `endpoint region access_key_id secret_access_key session_token allow_http virtual_hosted anonymous`, else as in the `AWS_…` environment variables |
    /// | `gs://bucket/prefix?…` | Google Cloud Storage (cargo feature `gcs`); `endpoint service_account anonymous` |
    /// | `az://container/prefix?…` | Azure Blob Storage (cargo feature `azure`); `account access_key endpoint allow_http emulator anonymous` |
    ///
    /// Fails with `Invalid` for a URL it does not understand (an unknown parameter suggests the
    /// nearest), and with `Unsupported` if the scheme needs a cargo feature that is off.
    ///
    /// ```
    /// use esker::{clock::SystemClock, store::Store};
    ///
    /// let store = Store::open("memory://example", SystemClock::shared())?;
    /// assert_eq!(store.url(), "memory://example");
    /// # Ok::<(), esker::Error>(())
    /// ```
    pub fn open(url: &str, clock: SharedClock) -> Result<Store> {
        let opened = url::open(url)?;
        Ok(Self::at(Place {
            objects: opened.objects,
            multipart: opened.multipart,
            prefix: opened.prefix,
            url: opened.url,
            secrets: opened.secrets,
            delete_batch: opened.delete_batch,
            clock,
            stats: Arc::default(),
            reached: AtomicBool::new(false),
        }))
    }

    /// Any `ObjectStore`, its root as the place; `label` stands for the URL in messages. It should
    /// not retry conditional PUTs inside.
    pub fn from_object_store(store: Arc<dyn ObjectStore>, label: &str, clock: SharedClock) -> Store {
        Self::at(Place {
            objects: Arc::clone(&store),
            multipart: store,
            prefix: Path::default(),
            url: label.to_owned(),
            secrets: Vec::new(),
            delete_batch: url::S3_DELETE_BATCH,
            clock,
            stats: Arc::default(),
            reached: AtomicBool::new(false),
        })
    }

    fn at(place: Place) -> Store {
        Store { place: Arc::new(place), deadline: DEFAULT_DEADLINE }
    }

    /// The same place with another deadline for its operations (default [`DEFAULT_DEADLINE`]; large
    /// bodies get a second more for each MiB). Too short and a hiccup of the store becomes an error;
    /// too long and a dead store is noticed late.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Store {
        Store { deadline, ..self }
    }

    /// The URL without secrets.
    pub fn url(&self) -> &str {
        &self.place.url
    }

    /// The clock this store waits by.
    pub fn clock(&self) -> &SharedClock {
        &self.place.clock
    }

    /// What was asked of the store through this handle and its clones.
    pub fn stats(&self) -> &Arc<Stats> {
        &self.place.stats
    }

    /// Everything in `folder`, sorted by name; complete, or an error. With `after`, only names after
    /// it. Objects whose names are not ours are left out.
    pub async fn list(&self, folder: Folder, after: Option<&Name>, cause: Cause) -> Result<Vec<Listed>> {
        // The order of paths is the order of names only where names are numbers.
        let offset = match after {
            Some(name) if folder.numbered(0).is_some() => Some(self.place.location(name)?),
            _ => None,
        };
        let found = self.list_all(folder.path(), offset.as_ref(), cause).await?;
        Ok(self.place.ours(found, folder, after))
    }

    /// The paths under `folder`, a folder of ours or one that holds some, that are no names of ours: nobody reads,
    /// counts or deletes them.
    pub async fn strangers(&self, folder: &str, cause: Cause) -> Result<Vec<String>> {
        let found = self.list_all(folder, None, cause).await?;
        let paths = found.iter().map(|meta| self.place.shown(&meta.location));
        Ok(paths.filter(|path| Name::parse(path).is_none()).map(str::to_owned).collect())
    }

    async fn list_all(
        &self,
        folder: &str,
        offset: Option<&Path>,
        cause: Cause,
    ) -> Result<Vec<object_store::ObjectMeta>> {
        let prefix = self.place.path(folder)?;
        let mut patience = self.patience("LIST", folder);
        loop {
            match self.place.list_once(&prefix, offset, patience.attempt_limit(0), cause).await {
                Ok(found) => return Ok(found),
                Err(failure) => patience.wait(failure).await?,
            }
        }
    }

    /// Deletes objects, in batches; one that is not there counts as deleted.
    ///
    /// Who may call this: only garbage collection. A name deleted is never used again.
    pub async fn delete(&self, names: &[Name], cause: Cause) -> Result<()> {
        for batch in names.chunks(LIST_PAGE) {
            let paths = batch.iter().map(|name| self.place.location(name)).collect::<Result<Vec<_>>>()?;
            self.delete_paths(paths, cause).await?;
        }
        Ok(())
    }

    async fn delete_paths(&self, mut paths: Vec<Path>, cause: Cause) -> Result<()> {
        let Some(first) = paths.first() else { return Ok(()) };
        let mut patience = self.patience("DELETE", self.place.shown(first));
        while !paths.is_empty() {
            let (left, failure) = self.place.delete_once(paths, patience.attempt_limit(0), cause).await;
            paths = left;
            match failure {
                Some(failure) => patience.wait(failure).await?,
                None if paths.is_empty() => {}
                None => patience.wait(Failure::failed("the answer leaves objects out")).await?,
            }
        }
        Ok(())
    }

    fn patience(&self, verb: &'static str, object: &str) -> Patience<'_> {
        Patience::new(&self.place, verb, object, Some(self.deadline))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.place.url).finish()
    }
}

impl Place {
    /// The path of `name` in the store.
    fn location(&self, name: &Name) -> Result<Path> {
        if matches!(name, Name::Checkpoint(_)) && !name.is_valid() {
            return Err(Error::invalid("the name of a checkpoint is outside the grammar")
                .hint("make it with Name::checkpoint"));
        }
        self.path(&name.path())
    }

    /// A path under our prefix. `path` is from our own grammar.
    fn path(&self, path: &str) -> Result<Path> {
        let whole =
            if self.prefix.is_root() { path.to_owned() } else { format!("{}/{path}", self.prefix.as_ref()) };
        Path::parse(whole).map_err(|e| {
            Error::invalid("the prefix of the URL cannot be part of an object's name").because(e)
        })
    }

    /// The path without our prefix, as messages show it.
    fn shown<'a>(&self, location: &'a Path) -> &'a str {
        let whole = location.as_ref();
        if self.prefix.is_root() {
            return whole;
        }
        whole.strip_prefix(self.prefix.as_ref()).and_then(|rest| rest.strip_prefix('/')).unwrap_or(whole)
    }

    /// Runs one request to its end and counts it. `sent` are the bytes of its body; the future gives
    /// its result and the bytes it received.
    async fn attempt<T>(
        &self,
        kind: RequestKind,
        cause: Cause,
        sent: u64,
        request: impl Future<Output = Result<(T, u64), Failure>>,
    ) -> Result<T, Failure> {
        let mut attempt = Attempt::start(&self.stats, kind, cause, sent);
        let result = request.await;
        if !matches!(result, Err(Failure::Failed { .. })) {
            self.reached.store(true, Ordering::Relaxed);
        }
        match result {
            Ok((value, received)) => {
                attempt.answered(received);
                Ok(value)
            }
            Err(failure) => {
                if failure.is_an_answer() {
                    attempt.answered(0);
                }
                Err(failure)
            }
        }
    }

    /// Ends `request` after `limit`; dropping it closes its connection.
    async fn within<T>(
        &self,
        limit: Duration,
        request: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            answer = request => answer.map_err(Failure::from),
            () = self.clock.sleep(limit) => Err(Failure::failed(format!("no answer within {limit:?}"))),
        }
    }

    /// One listing from its first page to its last. A page that fails fails the whole, because acting
    /// on part of a listing is how garbage collection eats live objects.
    async fn list_once(
        &self,
        prefix: &Path,
        offset: Option<&Path>,
        limit: Duration,
        cause: Cause,
    ) -> Result<Vec<object_store::ObjectMeta>, Failure> {
        let found = self
            .attempt(RequestKind::List, cause, 0, async {
                let mut pages = match offset {
                    Some(offset) => self.objects.list_with_offset(Some(prefix), offset),
                    None => self.objects.list(Some(prefix)),
                };
                let mut found = Vec::new();
                while let Some(meta) = self.within(limit, async { pages.next().await.transpose() }).await? {
                    found.push(meta);
                }
                Ok((found, 0))
            })
            .await?;
        for _ in 1..found.len().div_ceil(LIST_PAGE) {
            self.stats.request(RequestKind::List, cause, 0);
        }
        Ok(found)
    }

    /// Keeps what is ours, sorted.
    fn ours(
        &self,
        found: Vec<object_store::ObjectMeta>,
        folder: Folder,
        after: Option<&Name>,
    ) -> Vec<Listed> {
        let all = found.len();
        let mut listed: Vec<Listed> = found
            .into_iter()
            .filter_map(|meta| {
                let path = self.shown(&meta.location);
                let name = Name::parse(path).filter(|name| name.folder() == Some(folder))?;
                let modified_ms = meta.last_modified.timestamp_millis().max(0) as u64;
                Some(Listed { name, bytes: meta.size, modified_ms })
            })
            .collect();
        if listed.len() < all {
            let foreign = all - listed.len();
            tracing::debug!(folder = folder.path(), foreign, "objects with names that are not ours");
        }
        listed.retain(|object| after.is_none_or(|after| object.name > *after));
        listed.sort_by(|a, b| a.name.cmp(&b.name));
        listed.dedup_by(|a, b| a.name == b.name);
        listed
    }

    /// One round of deletions. Gives back what is not known to be deleted, and why.
    async fn delete_once(
        &self,
        paths: Vec<Path>,
        limit: Duration,
        cause: Cause,
    ) -> (Vec<Path>, Option<Failure>) {
        let mut requests: Vec<Attempt<'_>> = (0..paths.len().div_ceil(self.delete_batch))
            .map(|_| Attempt::start(&self.stats, RequestKind::Delete, cause, 0))
            .collect();
        let mut answers = self.objects.delete_stream(stream::iter(paths.clone().into_iter().map(Ok)).boxed());
        let (mut left, mut failure, mut answered) = (Vec::new(), None, 0);
        // Answers come in the order of the paths, one each.
        for path in &paths {
            match self.within(limit, async { Ok(answers.next().await) }).await {
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => match Failure::from(error) {
                    Failure::Missing => {}
                    other => {
                        left.push(path.clone());
                        failure = Some(other);
                    }
                },
                Ok(None) => break,
                Err(late) => {
                    failure = Some(late);
                    break;
                }
            }
            answered += 1;
        }
        left.extend(paths.into_iter().skip(answered));
        if left.is_empty() {
            self.reached.store(true, Ordering::Relaxed);
            requests.iter_mut().for_each(|request| request.answered(0));
        }
        (left, failure)
    }

    /// `text` with every secret struck out.
    fn without_secrets(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "[secret]"))
    }
}

/// The time that transferring `bytes` may take on top of an attempt's own limit.
fn transfer_time(bytes: u64) -> Duration {
    Duration::from_millis(bytes.saturating_mul(1000) / SLOWEST_TRANSFER)
}
