//! What is in the store, seen and changed from outside: by the network, by a collector, by the test.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use esker::store::{Folder, Name};
use futures::{FutureExt as _, TryStreamExt as _};
use object_store::{ObjectStore, ObjectStoreExt as _, PutMode, PutPayload, memory::InMemory, path::Path};

/// A store in memory, in which everything happens at once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place(Arc<InMemory>);

impl Place {
    /// The store itself.
    pub(crate) fn store(&self) -> &Arc<InMemory> {
        &self.0
    }

    /// The numbered objects of `folder`.
    pub(crate) fn numbered(&self, folder: Folder) -> BTreeMap<u64, Bytes> {
        let found = self.0.list(Some(&Path::from(folder.path()))).try_collect::<Vec<_>>();
        let found = found.now_or_never().expect("memory answers at once").expect("memory does not fail");
        let number = |path: &Path| Name::parse(path.as_ref()).and_then(|name| name.number());
        found
            .into_iter()
            .filter_map(|meta| {
                let body = async { self.0.get(&meta.location).await?.bytes().await };
                let body = body.now_or_never().expect("memory answers at once").expect("it was listed");
                number(&meta.location).map(|number| (number, body))
            })
            .collect()
    }

    /// A create lands. Gives whether the name was free.
    pub(crate) fn create(&self, name: &Name, body: &Bytes) -> bool {
        let (path, payload) = (Path::from(name.path()), PutPayload::from(body.clone()));
        let created = self.0.put_opts(&path, payload, PutMode::Create.into());
        created.now_or_never().expect("memory answers at once").is_ok()
    }

    /// A delete lands.
    pub(crate) fn delete(&self, name: &Name) {
        let deleted = self.0.delete(&Path::from(name.path())).now_or_never();
        deleted.expect("memory answers at once").expect("memory does not fail");
    }
}
