//! An object store that takes as long as one far away, and counts what is asked of it.
//!
//! ```text
//! engine ──▶ Shaped: count, draw a latency ──▶ the store below ──▶ wait until the latency and the bytes' time are over
//! ```
//!
//! Esker and SlateDB use the same `object_store`, so this one wrapper is below both. A request is what S3 bills: one a
//! call, one a part and one each for the begin and the end of a multipart upload, one a thousand names of a LIST or a
//! DELETE. Ranges are merged as the S3 client does, over gaps of up to a mebibyte.
//!
//! Always true: with the same seed requests draw the same latencies in the same order; unshaped, nothing waits and
//! bodies are passed through; what the store below takes is part of the latency, not added to it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use bytes::Bytes;
use esker_bench::sample::Requests;
use futures::{StreamExt as _, stream, stream::BoxStream};
use object_store::{
    CopyOptions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart, path::Path,
};
use parking_lot::Mutex;
use rand::{SeedableRng as _, rngs::SmallRng};

use super::{
    latency::{Lognormal, Profile},
    timer::Timer,
};

/// Names in one page of a LIST, and in one batch of a DELETE.
const PAGE: usize = 1000;

/// A store that is counted, and shaped when it is told to be. Clones are the same store.
#[derive(Debug, Clone)]
pub(crate) struct Shaped {
    below: Arc<dyn ObjectStore>,
    meter: Arc<Meter>,
}

#[derive(Debug)]
struct Meter {
    counts: Counts,
    timer: Timer,
    shape: Mutex<Shape>,
}

#[derive(Debug)]
struct Shape {
    profile: Option<Profile>,
    random: SmallRng,
}

#[derive(Debug, Default)]
struct Counts {
    get: AtomicU64,
    put: AtomicU64,
    list: AtomicU64,
    delete: AtomicU64,
    get_bytes: AtomicU64,
    put_bytes: AtomicU64,
}

/// When a request is over.
#[derive(Debug, Clone, Copy)]
struct Due {
    moment: Instant,
    profile: Profile,
}

impl Shaped {
    /// `below`, counted; latencies will be drawn from `seed`.
    pub(crate) fn new(below: Arc<dyn ObjectStore>, seed: u64) -> std::io::Result<Self> {
        let shape = Mutex::new(Shape { profile: None, random: SmallRng::seed_from_u64(seed) });
        Ok(Self {
            below,
            meter: Arc::new(Meter { counts: Counts::default(), timer: Timer::start()?, shape }),
        })
    }

    /// From now on requests take as long as `profile` says; `None`: as long as they take.
    pub(crate) fn shape(&self, profile: Option<Profile>) {
        self.meter.shape.lock().profile = profile;
    }

    /// What lies below `prefix`; it takes as long as it takes and is not counted.
    pub(crate) fn list_uncounted(&self, prefix: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.below.list(Some(prefix))
    }

    /// What was asked so far.
    pub(crate) fn requests(&self) -> Requests {
        let counts = &self.meter.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Requests {
            get: read(&counts.get),
            put: read(&counts.put),
            list: read(&counts.list),
            delete: read(&counts.delete),
            get_bytes: read(&counts.get_bytes),
            put_bytes: read(&counts.put_bytes),
        }
    }
}

impl Meter {
    fn due(&self, which: impl Fn(&Profile) -> Lognormal, bytes: u64) -> Option<Due> {
        let mut shape = self.shape.lock();
        let profile = shape.profile?;
        let wait = which(&profile).draw(&mut shape.random) + profile.transfer(bytes);
        Some(Due { moment: Instant::now() + wait, profile })
    }

    fn get(&self) -> Option<Due> {
        add(&self.counts.get, 1);
        self.due(|p| p.get, 0)
    }

    fn put(&self, bytes: u64) -> Option<Due> {
        add(&self.counts.put, 1);
        add(&self.counts.put_bytes, bytes);
        self.due(|p| p.put, bytes)
    }

    fn list(&self) -> Option<Due> {
        add(&self.counts.list, 1);
        self.due(|p| p.get, 0)
    }

    fn delete(&self) -> Option<Due> {
        add(&self.counts.delete, 1);
        self.due(|p| p.get, 0)
    }

    async fn until(&self, due: Option<&Due>) {
        if let Some(due) = due {
            self.timer.until(due.moment).await;
        }
    }
}

fn add(count: &AtomicU64, number: u64) {
    count.fetch_add(number, Ordering::Relaxed);
}

/// The body of an answer, each chunk when its last byte would be there.
fn paced(
    meter: Arc<Meter>,
    due: Due,
    body: BoxStream<'static, Result<Bytes>>,
) -> BoxStream<'static, Result<Bytes>> {
    let later = move |sent: &mut u64, chunk: Result<Bytes>| {
        *sent += chunk.as_ref().map_or(0, |bytes| bytes.len() as u64);
        Some((due.moment + due.profile.transfer(*sent), chunk))
    };
    body.scan(0, move |sent, chunk| std::future::ready(later(sent, chunk)))
        .then(move |(moment, chunk)| {
            let meter = Arc::clone(&meter);
            async move {
                meter.timer.until(moment).await;
                chunk
            }
        })
        .boxed()
}

/// `items`, a page at a time: `page` says what the next page waits for.
fn paged<T: Send + 'static>(
    meter: Arc<Meter>,
    page: fn(&Meter) -> Option<Due>,
    items: BoxStream<'static, Result<T>>,
) -> BoxStream<'static, Result<T>> {
    items
        .enumerate()
        .then(move |(at, item)| {
            // The first page was asked for before its first item came.
            let due = if at > 0 && at % PAGE == 0 { page(&meter) } else { None };
            let meter = Arc::clone(&meter);
            async move {
                meter.until(due.as_ref()).await;
                item
            }
        })
        .boxed()
}

/// Waits, and gives the items then.
fn after<T: Send + 'static>(
    meter: Arc<Meter>,
    due: Option<Due>,
    items: BoxStream<'static, Result<T>>,
) -> BoxStream<'static, Result<T>> {
    let wait = async move {
        meter.until(due.as_ref()).await;
        items
    };
    stream::once(wait).flatten().boxed()
}

#[async_trait]
impl ObjectStore for Shaped {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let due = self.meter.put(payload.content_length() as u64);
        let result = self.below.put_opts(location, payload, opts).await;
        self.meter.until(due.as_ref()).await;
        result
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let due = self.meter.put(0);
        let below = self.below.put_multipart_opts(location, opts).await?;
        self.meter.until(due.as_ref()).await;
        Ok(Box::new(Upload { below, meter: Arc::clone(&self.meter) }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let is_head = options.head;
        let due = self.meter.get();
        let result = self.below.get_opts(location, options).await;
        self.meter.until(due.as_ref()).await;
        let mut result = result?;
        if is_head {
            return Ok(result);
        }
        add(&self.meter.counts.get_bytes, result.range.end - result.range.start);
        if let Some(due) = due {
            let (meta, range) = (result.meta.clone(), result.range.clone());
            let (attributes, extensions) = (result.attributes.clone(), result.extensions.clone());
            let body = paced(Arc::clone(&self.meter), due, result.into_stream());
            result =
                GetResult { payload: GetResultPayload::Stream(body), meta, range, attributes, extensions };
        }
        Ok(result)
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let due = self.meter.delete();
        let deleted = paged(Arc::clone(&self.meter), Meter::delete, self.below.delete_stream(locations));
        after(Arc::clone(&self.meter), due, deleted)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let due = self.meter.list();
        let listed = paged(Arc::clone(&self.meter), Meter::list, self.below.list(prefix));
        after(Arc::clone(&self.meter), due, listed)
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, Result<ObjectMeta>> {
        let due = self.meter.list();
        let listed = paged(Arc::clone(&self.meter), Meter::list, self.below.list_with_offset(prefix, offset));
        after(Arc::clone(&self.meter), due, listed)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let due = self.meter.list();
        let result = self.below.list_with_delimiter(prefix).await;
        self.meter.until(due.as_ref()).await;
        result
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let due = self.meter.put(0);
        let result = self.below.copy_opts(from, to, options).await;
        self.meter.until(due.as_ref()).await;
        result
    }
}

impl fmt::Display for Shaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shaped({})", self.below)
    }
}

#[derive(Debug)]
struct Upload {
    below: Box<dyn MultipartUpload>,
    meter: Arc<Meter>,
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let meter = Arc::clone(&self.meter);
        let bytes = data.content_length() as u64;
        let part = self.below.put_part(data);
        Box::pin(async move {
            let due = meter.put(bytes);
            let result = part.await;
            meter.until(due.as_ref()).await;
            result
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let due = self.meter.put(0);
        let result = self.below.complete().await;
        self.meter.until(due.as_ref()).await;
        result
    }

    async fn abort(&mut self) -> Result<()> {
        let due = self.meter.delete();
        let result = self.below.abort().await;
        self.meter.until(due.as_ref()).await;
        result
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use object_store::{ObjectStoreExt as _, WriteMultipart, memory::InMemory};

    use super::*;

    /// How long it is until `due`.
    fn wait_of(due: Option<&Due>) -> Duration {
        due.map_or(Duration::ZERO, |due| due.moment.saturating_duration_since(Instant::now()))
    }

    fn shaped() -> Shaped {
        Shaped::new(Arc::new(InMemory::new()), 5).unwrap()
    }

    #[tokio::test]
    async fn requests_and_bytes_are_counted_as_s3_bills_them() {
        let store = shaped();
        let path = Path::from("a/b");
        store.put(&path, vec![7; 1000].into()).await.unwrap();
        assert_eq!(store.get_range(&path, 10..30).await.unwrap().len(), 20);
        assert!(store.get(&Path::from("a/none")).await.is_err());
        assert_eq!(store.get_ranges(&path, &[0..5, 990..1000]).await.unwrap().len(), 2);
        assert_eq!(store.list(None).collect::<Vec<_>>().await.len(), 1);
        let mut upload = WriteMultipart::new_with_chunk_size(store.put_multipart(&path).await.unwrap(), 100);
        upload.write(&[8; 250]);
        upload.finish().await.unwrap();
        store.delete(&path).await.unwrap();
        let wanted =
            Requests { get: 3, put: 1 + 5, list: 1, delete: 1, get_bytes: 20 + 1000, put_bytes: 1000 + 250 };
        assert_eq!(store.requests(), wanted);
    }

    #[tokio::test]
    async fn a_shaped_request_takes_its_latency_and_its_bytes_time_and_an_unshaped_one_nothing() {
        let store = shaped();
        let path = Path::from("a");
        store.put(&path, vec![0; 450_000].into()).await.unwrap();
        assert!(store.meter.get().is_none());
        store.shape(Some(Profile::express()));
        assert!(wait_of(store.meter.put(9_000_000).as_ref()) > Duration::from_millis(100));
        let started = Instant::now();
        assert_eq!(store.get(&path).await.unwrap().bytes().await.unwrap().len(), 450_000);
        assert!(started.elapsed() > Duration::from_millis(5), "{:?}", started.elapsed());
        store.shape(None);
        assert!(store.meter.get().is_none());
    }

    #[tokio::test]
    async fn a_thousand_names_are_a_page() {
        let store = shaped();
        for number in 0..1001 {
            store.put(&Path::from(format!("n/{number}")), PutPayload::new()).await.unwrap();
        }
        assert_eq!(store.list(None).collect::<Vec<_>>().await.len(), 1001);
        let names = stream::iter((0..1001).map(|number| Ok(Path::from(format!("n/{number}"))))).boxed();
        assert_eq!(store.delete_stream(names).collect::<Vec<_>>().await.len(), 1001);
        assert_eq!((store.requests().list, store.requests().delete), (2, 2));
    }
}
