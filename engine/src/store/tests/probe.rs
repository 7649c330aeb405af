//! The probe: sound stores pass, and each kind of naive store is refused by the name of what it lacks.

use std::{fmt, ops::Range, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    FutureExt as _, StreamExt as _,
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, Error, GetOptions, GetRange, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result, memory::InMemory, path::Path,
};
use parking_lot::Mutex;

use crate::{
    clock::SystemClock,
    error::ErrorKind,
    stats::RequestKind,
    store::{
        Store,
        probe::{Depth, examine, probe},
    },
};

/// What a naive store does wrong.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    /// Checks whether the object is there, and then writes it.
    ChecksThenWrites,
    IgnoresTheCondition,
    /// A refused create has overwritten the object all the same.
    RefusesAndWrites,
    /// Lists what was there at the listing before.
    ListsLate,
    /// Once absent, absent for the next read as well.
    CachesAbsence,
    /// Starts every range at a multiple of 4096.
    RoundsRanges,
    /// Gives the whole object for a range, and says so.
    IgnoresRanges,
    /// Cuts listings at 1000 names.
    OnePageOnly,
    /// Keeps only the last part of a multipart upload.
    LosesParts,
}

#[derive(Debug)]
struct Naive {
    sound: Arc<InMemory>,
    flaw: Flaw,
    listed_before: Mutex<Vec<ObjectMeta>>,
    absent: Mutex<Vec<Path>>,
}

impl Naive {
    fn store(flaw: Flaw) -> Store {
        let naive =
            Naive { sound: Arc::default(), flaw, listed_before: Mutex::default(), absent: Mutex::default() };
        Store::from_object_store(Arc::new(naive), "naive://", SystemClock::shared())
    }
}

impl fmt::Display for Naive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.flaw)
    }
}

#[async_trait]
impl ObjectStore for Naive {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        mut opts: PutOptions,
    ) -> Result<PutResult> {
        if opts.mode == PutMode::Create {
            match self.flaw {
                Flaw::IgnoresTheCondition => opts.mode = PutMode::Overwrite,
                Flaw::ChecksThenWrites => {
                    if self.sound.head(location).await.is_ok() {
                        let path = location.to_string();
                        return Err(Error::AlreadyExists { path, source: "412".into() });
                    }
                    tokio::task::yield_now().await;
                    opts.mode = PutMode::Overwrite;
                }
                Flaw::RefusesAndWrites => {
                    let there = self.sound.head(location).await.is_ok();
                    let put = self.sound.put(location, payload).await;
                    let path = location.to_string();
                    return if there {
                        Err(Error::AlreadyExists { path, source: "412".into() })
                    } else {
                        put
                    };
                }
                _ => {}
            }
        }
        self.sound.put_opts(location, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.sound.put_multipart_opts(location, opts).await?;
        match self.flaw {
            Flaw::LosesParts => Ok(Box::new(Forgetful { upload, last: None })),
            _ => Ok(upload),
        }
    }

    async fn get_opts(&self, location: &Path, mut options: GetOptions) -> Result<GetResult> {
        if self.flaw == Flaw::CachesAbsence {
            let mut absent = self.absent.lock();
            if let Some(at) = absent.iter().position(|path| path == location) {
                absent.remove(at);
                return Err(Error::NotFound { path: location.to_string(), source: "404".into() });
            }
        }
        let asked = options.range.clone();
        match (&mut options.range, self.flaw) {
            (Some(GetRange::Bounded(range)), Flaw::RoundsRanges) => {
                let to = range.start / 4096 * 4096;
                *range = to..to + (range.end - range.start);
            }
            (range, Flaw::IgnoresRanges) => *range = None,
            _ => {}
        }
        let mut result = self.sound.get_opts(location, options).await;
        match (&mut result, asked) {
            (Err(_), _) if self.flaw == Flaw::CachesAbsence => self.absent.lock().push(location.clone()),
            (Ok(result), Some(GetRange::Bounded(asked))) if self.flaw == Flaw::RoundsRanges => {
                result.range = asked;
            }
            _ => {}
        }
        result
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.sound.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.sound.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let now = self.sound.list(prefix);
        match self.flaw {
            Flaw::OnePageOnly => now.take(1000).boxed(),
            Flaw::ListsLate => {
                // Memory has its answer ready.
                let now = now.map(|meta| meta.unwrap()).collect::<Vec<_>>().now_or_never().unwrap();
                let before = std::mem::replace(&mut *self.listed_before.lock(), now);
                stream::iter(before.into_iter().map(Ok)).boxed()
            }
            _ => now,
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.sound.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.sound.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct Forgetful {
    upload: Box<dyn MultipartUpload>,
    last: Option<PutPayload>,
}

#[async_trait]
impl MultipartUpload for Forgetful {
    fn put_part(&mut self, data: PutPayload) -> object_store::UploadPart {
        self.last = Some(data);
        Box::pin(async { Ok(()) })
    }
    async fn complete(&mut self) -> Result<PutResult> {
        if let Some(last) = self.last.take() {
            self.upload.put_part(last).await?;
        }
        self.upload.complete().await
    }
    async fn abort(&mut self) -> Result<()> {
        self.upload.abort().await
    }
}

#[tokio::test]
async fn each_naive_store_is_refused_by_the_name_of_what_it_lacks() {
    for (flaw, depth, property) in [
        (Flaw::ChecksThenWrites, Depth::Short, "of concurrent creates exactly one wins"),
        (Flaw::IgnoresTheCondition, Depth::Short, "create fails where an object is"),
        (Flaw::RefusesAndWrites, Depth::Short, "create fails where an object is"),
        (Flaw::ListsLate, Depth::Short, "what was written is listed at once"),
        (Flaw::CachesAbsence, Depth::Short, "what was written is read at once"),
        (Flaw::RoundsRanges, Depth::Short, "a byte range is exactly that range"),
        (Flaw::IgnoresRanges, Depth::Short, "a byte range is exactly that range"),
        (Flaw::OnePageOnly, Depth::Long, "a listing of several pages is complete"),
        (Flaw::LosesParts, Depth::Long, "a multipart upload arrives whole"),
    ] {
        let error = probe(&Naive::store(flaw), depth).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{flaw:?}");
        assert!(error.to_string().contains(property), "{flaw:?}: {error}");
        let report = examine(&Naive::store(flaw), depth).await.unwrap();
        assert!(!report.is_ok() && report.to_string().contains("FAILED"), "{flaw:?}: {report}");
    }
}

#[tokio::test]
async fn sound_stores_pass_and_are_left_clean() {
    let dir = tempfile::tempdir().unwrap();
    let url = dir.path().to_str().unwrap();
    for (url, depth) in [("memory://", Depth::Short), ("memory://", Depth::Long), (url, Depth::Short)] {
        let store = Store::open(url, SystemClock::shared()).unwrap();
        let report = probe(&store, depth).await.unwrap();
        assert_eq!(report.timings.is_empty(), depth == Depth::Short);
        let left: Vec<_> =
            store.place.objects.list(Some(&store.place.path("probe").unwrap())).collect().await;
        assert!(left.is_empty(), "{left:?}");
        let seen = store.stats().snapshot();
        let requests: u64 = RequestKind::ALL.iter().map(|kind| seen.total(*kind)).sum();
        assert!(requests < if depth == Depth::Short { 150 } else { 10_000 }, "{url}: {seen}");
    }
}
