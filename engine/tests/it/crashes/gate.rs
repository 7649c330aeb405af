//! A process's way to the store, on which chosen calls meet a fault.
//!
//! Always true: the same life makes the same calls in the same order, so a call is named by its number; what
//! a dead process had sent may still land, and nothing else of it does.

use std::{
    fmt,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use esker::clock::SharedClock;
use futures::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use object_store::{
    CopyOptions, Error as StoreError, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult,
    Result as StoreResult, memory::InMemory, path::Path,
};
use parking_lot::Mutex;
use tokio::sync::watch;

/// What a call meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meets {
    /// It does not reach the store.
    FailsBefore,
    /// The store does it, and its answer is lost.
    LosesReply,
    /// Its sender gives up; the store does it at the next turn of the life.
    LandsLate,
    /// Its sender gives up; the store does it after everything else.
    LandsMuchLater,
    /// The store does it now, and once more after everything else.
    LandsTwice,
    /// The process dies before it.
    DiesBefore,
    /// The process dies after it was done.
    DiesAfter,
    /// The process dies, and then the store does it.
    DiesAndLandsLate,
}

impl Meets {
    pub(crate) const ALL: [Meets; 8] = [
        Meets::FailsBefore,
        Meets::LosesReply,
        Meets::LandsLate,
        Meets::LandsMuchLater,
        Meets::LandsTwice,
        Meets::DiesBefore,
        Meets::DiesAfter,
        Meets::DiesAndLandsLate,
    ];
}

/// A call under way that nobody waits for any more.
#[derive(Debug, Clone)]
enum Late {
    Put(Path, PutPayload, PutOptions),
    Delete(Path),
}

/// The objects, and what is on its way to them.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) objects: Arc<InMemory>,
    soon: Mutex<Vec<Late>>,
    at_last: Mutex<Vec<Late>>,
}

impl World {
    /// A world with these objects.
    pub(crate) fn of(objects: InMemory) -> Self {
        Self { objects: Arc::new(objects), ..Self::default() }
    }

    /// What was late lands.
    pub(crate) async fn land_late(&self) {
        self.land(&self.soon).await;
    }

    /// What was very late lands.
    pub(crate) async fn land_all(&self) {
        self.land(&self.soon).await;
        self.land(&self.at_last).await;
    }

    /// What dead readers had pinned has lapsed: so much time has passed by the store's clock.
    pub(crate) async fn pins_lapse(&self) {
        let pins: Vec<_> = self.objects.list(Some(&Path::from("pin"))).collect().await;
        for pin in pins {
            let pin = pin.expect("memory lists");
            self.objects.delete(&pin.location).await.expect("memory deletes");
        }
    }

    async fn land(&self, late: &Mutex<Vec<Late>>) {
        let landing = std::mem::take(&mut *late.lock());
        for call in landing {
            // Whoever sent it is not there to hear the answer.
            let _ = match call {
                Late::Put(path, payload, options) => {
                    self.objects.put_opts(&path, payload, options).await.map(drop)
                }
                Late::Delete(path) => self.objects.delete(&path).await,
            };
        }
    }
}

/// One process's way to the store.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    world: Arc<World>,
    clock: SharedClock,
    faults: Arc<Vec<(u64, Meets)>>,
    calls: Arc<AtomicU64>,
    dead: Arc<watch::Sender<bool>>,
}

impl Gate {
    pub(crate) fn new(world: &Arc<World>, clock: SharedClock, faults: Vec<(u64, Meets)>) -> Self {
        Self {
            world: world.clone(),
            clock,
            faults: Arc::new(faults),
            calls: Arc::default(),
            dead: Arc::new(watch::channel(false).0),
        }
    }

    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Ready once the process is dead.
    pub(crate) async fn death(&self) {
        let mut dead = self.dead.subscribe();
        // The sender lives as long as this gate.
        let _ = dead.wait_for(|dead| *dead).await;
    }

    async fn dies<T>(&self) -> T {
        self.dead.send_replace(true);
        pending().await
    }

    async fn call<'a, T>(
        &self,
        path: &Path,
        late: Option<Late>,
        send: impl Fn() -> BoxFuture<'a, StoreResult<T>>,
    ) -> StoreResult<T> {
        if *self.dead.borrow() {
            return pending().await;
        }
        let number = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        // A way takes time, so that several calls are on it at once.
        self.clock.sleep(Duration::from_millis(1)).await;
        if *self.dead.borrow() {
            return pending().await;
        }
        let meets = self.faults.iter().find(|(call, _)| *call == number).map(|(_, meets)| *meets);
        let no_answer = || StoreError::Generic {
            store: "Gate",
            source: format!("the call on {path} got no answer, on purpose").into(),
        };
        match meets {
            None => {}
            Some(Meets::FailsBefore) => return Err(no_answer()),
            Some(Meets::LosesReply) => {
                let _ = send().await;
                return Err(no_answer());
            }
            Some(Meets::LandsLate) => {
                self.world.soon.lock().extend(late);
                return Err(no_answer());
            }
            Some(Meets::LandsMuchLater) => {
                self.world.at_last.lock().extend(late);
                return Err(no_answer());
            }
            Some(Meets::LandsTwice) => self.world.at_last.lock().extend(late),
            Some(Meets::DiesBefore) => return self.dies().await,
            Some(Meets::DiesAfter) => {
                let _ = send().await;
                return self.dies().await;
            }
            Some(Meets::DiesAndLandsLate) => {
                self.world.soon.lock().extend(late);
                return self.dies().await;
            }
        }
        let answer = send().await;
        self.clock.sleep(Duration::from_millis(1)).await;
        if *self.dead.borrow() { pending().await } else { answer }
    }

    fn listing(
        &self,
        path: Path,
        list: impl Fn() -> BoxStream<'static, StoreResult<ObjectMeta>> + Send + Sync + 'static,
    ) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let gate = self.clone();
        async move {
            let listed = gate
                .call(&path, None, || {
                    let all = list();
                    async move { Ok(all.collect::<Vec<_>>().await) }.boxed()
                })
                .await;
            stream::iter(listed.unwrap_or_else(|error| vec![Err(error)]))
        }
        .flatten_stream()
        .boxed()
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

#[async_trait]
impl ObjectStore for Gate {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> StoreResult<PutResult> {
        let late = Late::Put(location.clone(), payload.clone(), opts.clone());
        let objects = &self.world.objects;
        self.call(location, Some(late), || objects.put_opts(location, payload.clone(), opts.clone())).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        opts: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        let objects = &self.world.objects;
        self.call(location, None, || objects.put_multipart_opts(location, opts.clone())).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        let objects = &self.world.objects;
        self.call(location, None, || objects.get_opts(location, options.clone())).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, StoreResult<Path>>,
    ) -> BoxStream<'static, StoreResult<Path>> {
        let gate = self.clone();
        locations
            .then(move |location| {
                let gate = gate.clone();
                async move {
                    let location = location?;
                    let late = Late::Delete(location.clone());
                    let objects = &gate.world.objects;
                    gate.call(&location, Some(late), || objects.delete(&location).boxed()).await?;
                    Ok(location)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let (objects, path) = (self.world.objects.clone(), prefix.cloned().unwrap_or_default());
        self.listing(path.clone(), move || objects.list(Some(&path)))
    }

    fn list_with_offset(
        &self,
        prefix: Option<&Path>,
        offset: &Path,
    ) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        let (objects, path) = (self.world.objects.clone(), prefix.cloned().unwrap_or_default());
        let offset = offset.clone();
        self.listing(path.clone(), move || objects.list_with_offset(Some(&path), &offset))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        let path = prefix.cloned().unwrap_or_default();
        let objects = &self.world.objects;
        self.call(&path, None, || objects.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        let objects = &self.world.objects;
        self.call(to, None, || objects.copy_opts(from, to, options.clone())).await
    }
}
