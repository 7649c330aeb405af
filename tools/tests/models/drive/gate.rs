//! The way of one process to the store: each request waits until it is let go, in the way the driver says.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use esker::store::{Folder, Name};
use futures::{
    StreamExt as _,
    channel::oneshot,
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, memory::InMemory, path::Path,
};
use parking_lot::Mutex;

/// A request that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    Get(Name),
    Put(Name, Bytes),
    List(String),
}

impl Request {
    /// A list of `folder`.
    pub(crate) fn list(folder: Folder) -> Self {
        Self::List(folder.path().to_owned())
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is done, and the process hears of it.
    Do,
    /// It is not done now, and the process hears nothing.
    Lose,
    /// It was done before, and the process hears of that.
    Done,
    /// The store refuses it.
    Refuse,
}

/// A request and the way to answer it.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) request: Request,
    answer: oneshot::Sender<Answer>,
}

impl Held {
    /// Lets it go.
    pub(crate) fn answer(self, answer: Answer) {
        self.answer.send(answer).expect("somebody waits for it");
    }
}

/// The store as one process sees it.
#[derive(Clone)]
pub(crate) struct Gate {
    store: Arc<InMemory>,
    held: Arc<Mutex<Vec<Held>>>,
    is_open: Arc<AtomicBool>,
}

/// While it lives, requests do not wait.
pub(crate) struct Open(Arc<AtomicBool>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Gate {
    pub(crate) fn new(store: Arc<InMemory>) -> Self {
        Self { store, held: Arc::default(), is_open: Arc::default() }
    }

    /// Requests do not wait until the guard is dropped.
    pub(crate) fn open(&self) -> Open {
        self.is_open.store(true, Ordering::Relaxed);
        Open(self.is_open.clone())
    }

    /// What waits now, in the order in which it was asked.
    pub(crate) fn held(&self) -> Vec<Request> {
        let mut held = self.held.lock();
        held.retain(|held| !held.answer.is_canceled());
        held.iter().map(|held| held.request.clone()).collect()
    }

    /// Takes out what waits and is `request`.
    pub(crate) fn take(&self, wanted: impl Fn(&Request) -> bool) -> Option<Held> {
        let mut held = self.held.lock();
        held.retain(|held| !held.answer.is_canceled());
        let at = held.iter().position(|held| wanted(&held.request))?;
        Some(held.remove(at))
    }

    async fn wait(&self, request: impl FnOnce() -> Request, path: &Path) -> Result<Answer> {
        if self.is_open.load(Ordering::Relaxed) {
            return Ok(Answer::Do);
        }
        let (answer, answered) = oneshot::channel();
        self.held.lock().push(Held { request: request(), answer });
        match answered.await {
            Ok(Answer::Refuse) => {
                Err(Error::PermissionDenied { path: path.to_string(), source: "refused".into() })
            }
            Ok(Answer::Lose) | Err(_) => Err(Error::Generic { store: "gate", source: "no answer".into() }),
            Ok(answer) => Ok(answer),
        }
    }

    fn listing(
        &self,
        prefix: Option<&Path>,
        list: impl FnOnce() -> BoxStream<'static, Result<ObjectMeta>> + Send + 'static,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (gate, path) = (self.clone(), prefix.cloned().unwrap_or_default());
        let listed = async move {
            match gate.wait(|| Request::List(path.to_string()), &path).await {
                Ok(_) => list(),
                Err(error) => stream::iter([Err(error)]).boxed(),
            }
        };
        stream::once(listed).flatten().boxed()
    }
}

fn name(path: &Path) -> Name {
    Name::parse(path.as_ref()).expect("the engine asks for names of its own")
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("held", &self.held.lock().len()).finish_non_exhaustive()
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gate")
    }
}

#[async_trait]
impl ObjectStore for Gate {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let body = || Request::Put(name(path), payload.iter().flatten().copied().collect());
        match self.wait(body, path).await? {
            Answer::Done => Ok(PutResult { e_tag: None, version: None, extensions: Default::default() }),
            _ => self.store.put_opts(path, payload, options).await,
        }
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        self.wait(|| Request::Get(name(path)), path).await?;
        self.store.get_opts(path, options).await
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, of) = (self.store.clone(), prefix.cloned());
        self.listing(prefix, move || store.list(of.as_ref()))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, of, offset) = (self.store.clone(), prefix.cloned(), offset.clone());
        self.listing(prefix, move || store.list_with_offset(of.as_ref(), &offset))
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(path, options).await
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(paths)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}
