//! Writing immutable objects under names that are used once.
//!
//! A body up to [`SINGLE_PUT_BYTES`] is one PUT. Larger ones, and streams that outgrow one part, are
//! multipart uploads: parts of equal size (some stores demand it), a few in flight while the next
//! ones are built.
//!
//! Always true: the same name always gets the same bytes, so a PUT may be repeated (pins alone are written
//! over, by [`Store::replace`], and whoever reads one believes no more than it says); an object appears
//! whole or not at all; memory is bounded by [`PART_BYTES`] × ([`PARTS_IN_FLIGHT`] + 1), and where it is
//! charged ([`Upload::charging`]) by what is left of its budget or one part, whichever is more; an upload
//! that is dropped is aborted, so that the store keeps no parts. The steps of a multipart upload are
//! retried inside the client, because its complete call cannot be repeated from outside; what the
//! client repeats is not counted. A complete whose answer is lost is settled by the object's size.

use std::{collections::VecDeque, fmt, time::Duration};

use bytes::Bytes;
use object_store::{MultipartUpload, PutOptions, PutPayload, path::Path};
use tokio::sync::oneshot;

use super::{
    Name, Place, Store,
    retry::{Failure, Patience},
};
use crate::{
    clock::Task,
    error::{Error, ErrorKind, Result},
    memory::{Account, Charge},
    stats::{Cause, RequestKind},
};

/// The largest body that is sent as one PUT, in bytes.
pub const SINGLE_PUT_BYTES: usize = 64 << 20;

/// The size of a part of a multipart upload, in bytes. Stores want 5 MiB or more.
pub const PART_BYTES: usize = 8 << 20;

/// The size of a part where a budget has no room for several of [`PART_BYTES`]: the least that stores take.
pub const LEAST_PART_BYTES: usize = 5 << 20;

/// How many parts of one upload are on their way at once.
pub const PARTS_IN_FLIGHT: usize = 4;

/// Stores take no more parts than this.
const MOST_PARTS: usize = 10_000;

/// How long one step of a multipart upload may take, retries inside the client included.
const STEP_LIMIT: Duration = Duration::from_secs(120);

impl Store {
    /// Writes an object under a name never used before. Retried with the same bytes until the
    /// deadline; the chunks are sent as they are, without copying them together.
    pub async fn put_new(&self, name: &Name, body: Vec<Bytes>, cause: Cause) -> Result<()> {
        if body.iter().map(Bytes::len).sum::<usize>() <= SINGLE_PUT_BYTES {
            return self.put_whole(name, body, cause).await;
        }
        let mut patience = self.patience("PUT", &name.path());
        loop {
            let mut upload = self.upload(name, cause);
            let sent = async { upload.write(body.clone()).await.map(|()| upload) }.await;
            let done = match sent {
                Ok(upload) => upload.finish().await,
                Err(error) => Err(error),
            };
            match done {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    patience.wait(Failure::failed(error.to_string())).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes an object whether or not it is there, and whatever is in it. Only for what may lose its bytes to
    /// a PUT that was sent long ago: pins.
    pub async fn replace(&self, name: &Name, body: Bytes, cause: Cause) -> Result<()> {
        self.put_whole(name, vec![body], cause).await
    }

    /// The body as one PUT, repeated until it is definitely there.
    async fn put_whole(&self, name: &Name, body: Vec<Bytes>, cause: Cause) -> Result<()> {
        let location = self.place.location(name)?;
        let payload = PutPayload::from_iter(body);
        let mut patience = self.patience("PUT", &name.path());
        loop {
            let options = PutOptions::default();
            match self.place.put_once(&location, &payload, options, &patience, cause).await {
                Ok(()) => return Ok(()),
                Err(failure) => patience.wait(failure).await?,
            }
        }
    }

    /// Starts a streaming upload of a new object. Nothing is sent before the first part is full.
    pub fn upload(&self, name: &Name, cause: Cause) -> Upload {
        Upload {
            store: self.clone(),
            name: name.clone(),
            cause,
            filling: Vec::new(),
            filling_bytes: 0,
            part_bytes: PART_BYTES,
            account: None,
            charge: None,
            written: 0,
            multipart: None,
        }
    }
}

/// A streaming upload of one object; see [`Store::upload`].
pub struct Upload {
    store: Store,
    name: Name,
    cause: Cause,
    /// The part being filled.
    filling: Vec<Bytes>,
    filling_bytes: usize,
    /// The size of every part but the last.
    part_bytes: usize,
    account: Option<Account>,
    /// For the part being filled.
    charge: Option<Charge>,
    written: u64,
    multipart: Option<Multipart>,
}

/// A multipart upload that has begun.
struct Multipart {
    upload: Box<dyn MultipartUpload>,
    in_flight: VecDeque<Part>,
    parts: usize,
}

/// A part on its way.
struct Part {
    result: oneshot::Receiver<Result<(), Failure>>,
    /// Given back when it has landed.
    _charge: Option<Charge>,
    /// Ends the part's request when the upload is dropped.
    _task: Task,
}

impl Upload {
    /// Charges what it holds to `account`. As long as that has no room for another part, one has to land before the
    /// next is filled. Before the first write.
    #[must_use]
    pub fn charging(mut self, account: &Account) -> Self {
        if account.memory.part(account.what) < (PARTS_IN_FLIGHT + 1) * PART_BYTES {
            self.part_bytes = LEAST_PART_BYTES;
        }
        self.charge = Some(account.hold(0));
        self.account = Some(account.clone());
        self
    }

    /// Whether another part may be filled beside those on their way.
    fn has_room(&self) -> bool {
        self.account.as_ref().is_none_or(|account| account.memory.left(account.what) >= self.part_bytes)
    }

    /// Hands over bytes, which are not copied. Waits only when [`PARTS_IN_FLIGHT`] parts are on their way, or
    /// as many as there is memory for. After an error the upload is finished; the store keeps nothing of it.
    pub async fn write(&mut self, chunks: Vec<Bytes>) -> Result<()> {
        let bytes: usize = chunks.iter().map(Bytes::len).sum();
        if let Some(charge) = &mut self.charge {
            charge.becomes(charge.bytes() + bytes);
        }
        for mut chunk in chunks {
            self.written += chunk.len() as u64;
            while self.filling_bytes + chunk.len() >= self.part_bytes {
                let rest = chunk.split_off(self.part_bytes - self.filling_bytes);
                self.filling.push(chunk);
                self.filling_bytes = self.part_bytes;
                self.send_part().await?;
                chunk = rest;
            }
            if !chunk.is_empty() {
                self.filling_bytes += chunk.len();
                self.filling.push(chunk);
            }
        }
        Ok(())
    }

    /// Completes; the object exists, whole, when this returns `Ok` with its length in bytes. A single
    /// PUT if it is smaller than a part.
    pub async fn finish(mut self) -> Result<u64> {
        if self.multipart.is_none() {
            let body = std::mem::take(&mut self.filling);
            self.store.put_whole(&self.name, body, self.cause).await?;
            return Ok(self.written);
        }
        if self.filling_bytes > 0 {
            self.send_part().await?;
        }
        while self.wait_for_oldest().await? {}
        let location = self.store.place.location(&self.name)?;
        let place = &self.store.place;
        if let Some(multipart) = &mut self.multipart {
            let completed = place
                .attempt(RequestKind::Put, self.cause, 0, async {
                    place.within(STEP_LIMIT, multipart.upload.complete()).await.map(|_| ((), 0))
                })
                .await;
            if let Err(failure) = completed {
                let failed = self.failed(failure);
                self.store.settle(&self.name, &location, self.written, failed, self.cause).await?;
            }
        }
        self.multipart = None;
        Ok(self.written)
    }

    /// Gives the upload up and tells the store to forget its parts.
    pub async fn abort(mut self) {
        if let Some(multipart) = self.multipart.take() {
            abort(&self.store, multipart.upload, self.cause).await;
        }
    }

    /// Starts uploading the part that has been filled.
    async fn send_part(&mut self) -> Result<()> {
        let payload = PutPayload::from_iter(std::mem::take(&mut self.filling));
        let filled = std::mem::take(&mut self.filling_bytes);
        let bytes = filled as u64;
        let charge = self.charge.as_mut().map(|charge| charge.split(filled));
        while self.multipart.as_ref().is_some_and(|multipart| multipart.in_flight.len() >= PARTS_IN_FLIGHT) {
            self.wait_for_oldest().await?;
        }
        if self.multipart.is_none() {
            let upload = self.store.begin(&self.name, self.cause).await?;
            self.multipart = Some(Multipart { upload, in_flight: VecDeque::new(), parts: 0 });
        }
        let Some(multipart) = &mut self.multipart else { return Ok(()) };
        multipart.parts += 1;
        if multipart.parts > MOST_PARTS {
            return Err(Error::invalid(format!("an object cannot have more than {MOST_PARTS} parts"))
                .on(self.name.path()));
        }
        let (done, result) = oneshot::channel();
        let (store, cause, sending) = (self.store.clone(), self.cause, multipart.upload.put_part(payload));
        let task = Task::spawn(async move {
            let place = &store.place;
            let sent = place
                .attempt(RequestKind::Put, cause, bytes, async {
                    place.within(STEP_LIMIT, sending).await.map(|()| ((), 0))
                })
                .await;
            // Nobody waits if the upload was dropped meanwhile.
            let _ = done.send(sent);
        });
        multipart.in_flight.push_back(Part { result, _charge: charge, _task: task });
        while !self.has_room() && self.wait_for_oldest().await? {}
        Ok(())
    }

    /// Waits for the oldest part on its way; false if there is none.
    async fn wait_for_oldest(&mut self) -> Result<bool> {
        let Some(part) = self.multipart.as_mut().and_then(|multipart| multipart.in_flight.pop_front()) else {
            return Ok(false);
        };
        match part.result.await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(failure)) => Err(self.failed(failure)),
            Err(_) => Err(Error::closed("the runtime is shutting down").on(self.name.path())),
        }
    }

    fn failed(&self, failure: Failure) -> Error {
        Patience::new(&self.store.place, "multipart PUT", &self.name.path(), None).error(failure)
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("name", &self.name)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(multipart) = self.multipart.take() else { return };
        // Outside a runtime nothing can be sent; the store's own rule for stale parts takes over.
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let (store, cause) = (self.store.clone(), self.cause);
        drop(multipart.in_flight);
        let upload = multipart.upload;
        // The task keeps its own handle, because a dropped handle would end it.
        let (keep, kept) = oneshot::channel::<Task>();
        let task = Task::spawn(async move {
            let _own = kept.await;
            abort(&store, upload, cause).await;
        });
        let _ = keep.send(task);
    }
}

impl Store {
    /// After a complete without a good answer: the object is there in full, or it `failed`.
    async fn settle(
        &self,
        name: &Name,
        location: &Path,
        written: u64,
        failed: Error,
        cause: Cause,
    ) -> Result<()> {
        let mut patience = self.patience("PUT", &name.path());
        loop {
            match self.place.measure(location, &patience, cause).await {
                Ok(size) if size == written => return Ok(()),
                Ok(_) | Err(Failure::Missing) => return Err(failed),
                Err(other) => patience.wait(other).await?,
            }
        }
    }

    async fn begin(&self, name: &Name, cause: Cause) -> Result<Box<dyn MultipartUpload>> {
        let location = self.place.location(name)?;
        let mut patience = self.patience("multipart PUT", &name.path());
        loop {
            let begun = self
                .place
                .attempt(RequestKind::Put, cause, 0, async {
                    let options = object_store::PutMultipartOptions::default();
                    let begin = self.place.multipart.put_multipart_opts(&location, options);
                    self.place.within(STEP_LIMIT, begin).await.map(|upload| (upload, 0))
                })
                .await;
            match begun {
                Ok(upload) => return Ok(upload),
                Err(failure) => patience.wait(failure).await?,
            }
        }
    }
}

impl Place {
    /// One PUT.
    pub(super) async fn put_once(
        &self,
        location: &Path,
        payload: &PutPayload,
        options: PutOptions,
        patience: &Patience<'_>,
        cause: Cause,
    ) -> Result<(), Failure> {
        let bytes = payload.content_length() as u64;
        let limit = patience.attempt_limit(bytes);
        self.attempt(RequestKind::Put, cause, bytes, async {
            self.within(limit, self.objects.put_opts(location, payload.clone(), options)).await?;
            Ok(((), 0))
        })
        .await
    }
}

/// Tells the store to forget an upload. If it does not listen, its rule for stale parts does the rest.
async fn abort(store: &Store, mut upload: Box<dyn MultipartUpload>, cause: Cause) {
    let place = &store.place;
    let aborted = place
        .attempt(RequestKind::Delete, cause, 0, async {
            place.within(STEP_LIMIT, upload.abort()).await.map(|()| ((), 0))
        })
        .await;
    if let Err(failure) = aborted {
        tracing::debug!(?failure, "an upload could not be aborted");
    }
}
