//! What is in the store, seen and changed from outside: by the network, by a collector, by the test.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use esker::store::{Folder, Name};
use futures::{FutureExt as _, TryStreamExt as _};
use object_store::{
    ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, memory::InMemory, path::Path,
};
use parking_lot::Mutex;

/// How old an object is that has aged.
const AGE: Duration = Duration::from_secs(3600);

/// A store in memory, in which everything happens at once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    store: Arc<InMemory>,
    ages: Ages,
}

/// The objects that have grown old by the store's own clock, and were not written since.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ages(Arc<Mutex<BTreeSet<Path>>>);

impl Ages {
    /// What a listing shows of an object.
    pub(crate) fn shown(&self, mut meta: ObjectMeta) -> ObjectMeta {
        if self.0.lock().contains(&meta.location) {
            meta.last_modified -= AGE;
        }
        meta
    }

    pub(crate) fn is_written(&self, path: &Path) {
        self.0.lock().remove(path);
    }
}

impl Place {
    /// The store itself.
    pub(crate) fn store(&self) -> &Arc<InMemory> {
        &self.store
    }

    pub(crate) fn ages(&self) -> &Ages {
        &self.ages
    }

    /// The names of what is in `folder`.
    pub(crate) fn names(&self, folder: Folder) -> BTreeSet<Name> {
        self.listed(folder).into_iter().filter_map(|meta| Name::parse(meta.location.as_ref())).collect()
    }

    fn listed(&self, folder: Folder) -> Vec<ObjectMeta> {
        let found = self.store.list(Some(&Path::from(folder.path()))).try_collect::<Vec<_>>();
        found.now_or_never().expect("memory answers at once").expect("memory does not fail")
    }

    /// The numbered objects of `folder`.
    pub(crate) fn numbered(&self, folder: Folder) -> BTreeMap<u64, Bytes> {
        let number = |path: &Path| Name::parse(path.as_ref()).and_then(|name| name.number());
        self.listed(folder)
            .into_iter()
            .filter_map(|meta| {
                let body = async { self.store.get(&meta.location).await?.bytes().await };
                let body = body.now_or_never().expect("memory answers at once").expect("it was listed");
                number(&meta.location).map(|number| (number, body))
            })
            .collect()
    }

    /// A create lands. Gives whether the name was free.
    pub(crate) fn create(&self, name: &Name, body: &Bytes) -> bool {
        let (path, payload) = (Path::from(name.path()), PutPayload::from(body.clone()));
        let created = self.store.put_opts(&path, payload, PutMode::Create.into());
        created.now_or_never().expect("memory answers at once").is_ok()
    }

    /// A PUT lands, over whatever is there.
    pub(crate) fn put(&self, name: &Name, body: &Bytes) {
        let path = Path::from(name.path());
        self.ages.is_written(&path);
        let put = self.store.put(&path, PutPayload::from(body.clone())).now_or_never();
        put.expect("memory answers at once").expect("memory does not fail");
    }

    /// An object grows old: an hour passes by the store's own clock, in which nobody writes it.
    pub(crate) fn age(&self, name: &Name) {
        self.ages.0.lock().insert(Path::from(name.path()));
    }

    /// A delete lands.
    pub(crate) fn delete(&self, name: &Name) {
        let deleted = self.store.delete(&Path::from(name.path())).now_or_never();
        deleted.expect("memory answers at once").expect("memory does not fail");
    }
}
