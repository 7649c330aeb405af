//! Finding a database at a place, and making one where there is none.
//!
//! ```text
//! DB    manifest/   wal/    sst/ floor/
//! no    empty       empty   whatever      nothing is here: create DB, then version 1
//! no    something in either               Corruption: creating over it would lose it
//! yes   empty       empty   empty         its creator is at it, or died of it: create version 1
//! yes   empty       something in one      Corruption: every version is missing
//! ```
//!
//! Always true: of two processes that create at the same moment both open what one of them made; nothing is created
//! beside data whose identity or manifest is gone.

use std::time::Duration;

use crate::{
    error::{Error, Result},
    manifest::{
        FIRST_ID, Identity, Manifest, Root, StoredOptions, codec,
        commit::{is_empty, is_unfinished, prepare},
    },
    stats::Cause,
    store::{Folder, Name, Sequence, Store, Token},
};

/// How long the create of version 1 may be without an answer.
const CREATE_TIME: Duration = Duration::from_secs(30);

impl Manifest {
    /// Opens an existing database. `Invalid` with a hint if there is none at this place.
    pub async fn open(store: Store) -> Result<Self> {
        let none = no_database(&store);
        Self::find(store).await?.ok_or(none)
    }

    /// The database at this place, if there is one.
    ///
    /// Fails with `Corruption` if there is data here whose identity object is missing.
    pub async fn find(store: Store) -> Result<Option<Self>> {
        let Some(identity) = Identity::load(&store).await? else {
            return refuse_orphans(&store).await.map(|()| None);
        };
        Ok(Some(Self::of(store, identity)))
    }

    /// Opens, or creates with `options` if nothing is there (testing the store first). Of two processes
    /// that create at the same moment both open what one of them made.
    ///
    /// Fails with `Corruption` if there is data here whose identity object is missing: creating over it
    /// would lose it.
    pub async fn open_or_create(store: Store, options: StoredOptions) -> Result<Self> {
        let identity = match Identity::load(&store).await? {
            Some(identity) => identity,
            None => {
                refuse_orphans(&store).await?;
                Identity::create(&store, options.wal_window).await?
            }
        };
        let manifest = Self::of(store, identity);
        match manifest.top(0, Cause::Open).await {
            Err(error) if is_unfinished(&error) => manifest.create_first(options).await?,
            top => drop(top?),
        }
        Ok(manifest)
    }

    /// Creates version 1 of a database whose identity is there and whose manifest is empty.
    async fn create_first(&self, options: StoredOptions) -> Result<()> {
        let (store, identity) = (self.store(), self.identity());
        let clock = store.clock();
        let options = StoredOptions { wal_window: identity.wal_window, ..options };
        let mut root = Root::first(identity.db_uuid, options);
        prepare(&mut root, FIRST_ID, Token::fresh(&**clock), clock.wall_ms());
        let body = codec::encode(&root);
        // Ours or another creator's: either way there is a first version now.
        Sequence::new(store.clone(), Folder::Manifest)
            .create(FIRST_ID, vec![body], Cause::Open, Some(CREATE_TIME))
            .await?;
        Ok(())
    }
}

/// Fails if there is data without an identity object.
async fn refuse_orphans(store: &Store) -> Result<()> {
    if is_empty(store, &[Folder::Manifest, Folder::Wal]).await? || Identity::load(store).await?.is_some() {
        return Ok(());
    }
    let what =
        format!("the identity object is missing, and there are objects of a database at {}", store.url());
    Err(Error::corruption(Name::Identity.path(), 0, what)
        .hint("`esker repair` makes it again, from a copy or from what the versions say of it"))
}

fn no_database(store: &Store) -> Error {
    Error::invalid(format!("there is no database at {}", store.url()))
        .hint("check the URL, or open it for writing with creation allowed to make one")
}
