//! Finding a database at a place, and making one where there is none.
//!
//! ```text
//! DB    manifest/   wal/ job/ sst/ part/ blob/ floor/ pin/ checkpoint/
//! no    empty       empty                 nothing is here: create DB, then version 1
//! no    an object of ours in any of them  Corruption: creating over it would lose it
//! yes   empty       empty                 its creator is at it, or died of it: create version 1
//! yes   empty       an object in any      Corruption: every version is missing
//! ```
//!
//! Always true: of two processes that create at the same moment both open what one of them made; nothing is created
//! beside remains of a database whose identity or manifest is gone, and no identity is written before that is known.

use std::sync::Arc;

use futures::future::try_join;

use crate::{
    error::{Error, Result},
    manifest::{
        FIRST_ID, Identity, Manifest, Root, StoredOptions, View, codec,
        commit::{COMMIT_TIME, Moment, is_unfinished, moment, prepare, remains},
    },
    stats::Cause,
    store::{Folder, Name, Sequence, Store, Token},
};

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
        Ok(Self::open_listed(store, Some(options)).await?.0)
    }

    /// Opens, and brings the newest version: the versions are listed while the identity is fetched, so that an opener waits
    /// for one round trip less.
    ///
    /// Fails as [`Self::open`] does.
    pub async fn open_newest(store: Store) -> Result<(Self, Arc<View>)> {
        let (manifest, listed) = Self::open_listed(store, None).await?;
        let newest = manifest.latest_from(listed, Cause::Open).await?;
        Ok((manifest, newest))
    }

    /// Opens, or creates if there are options to create with, and brings the newest version for whoever commits on it
    /// before anything else: another round trip less, and only that commit proves that it was the newest.
    ///
    /// Fails as [`Self::open`] and [`Self::open_or_create`] do.
    pub(crate) async fn open_to_commit(
        store: Store,
        create: Option<StoredOptions>,
    ) -> Result<(Self, Arc<View>)> {
        let (manifest, listed) = Self::open_listed(store, create).await?;
        let newest = match listed {
            Some(listed) => manifest.latest_to_commit_on(listed, Cause::Open).await?,
            None => manifest.latest(Cause::Open).await?,
        };
        Ok((manifest, newest))
    }

    /// The database, and the highest version that was listed, with the moment the listing began.
    async fn open_listed(
        store: Store,
        create: Option<StoredOptions>,
    ) -> Result<(Self, Option<(u64, Moment)>)> {
        let asked = moment(&store);
        let versions = Sequence::new(store.clone(), Folder::Manifest);
        let (identity, listed) = try_join(Identity::load(&store), versions.latest(0, Cause::Open)).await?;
        let identity = match (identity, &create) {
            (Some(identity), _) => identity,
            (None, options) => {
                refuse_orphans(&store).await?;
                let options = options.as_ref().ok_or_else(|| no_database(&store))?;
                Identity::create(&store, options.wal_window).await?
            }
        };
        let manifest = Self::of(store, identity);
        if listed.is_none()
            && let Some(options) = create
        {
            match manifest.top(0, Cause::Open).await {
                Err(error) if is_unfinished(&error) => manifest.create_first(options).await?,
                top => drop(top?),
            }
        }
        Ok((manifest, listed.map(|id| (id, asked))))
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
            .create(FIRST_ID, vec![body], Cause::Open, Some(COMMIT_TIME))
            .await?;
        Ok(())
    }
}

/// Fails if there is data without an identity object.
async fn refuse_orphans(store: &Store) -> Result<()> {
    let Some(remain) = remains(store).await? else { return Ok(()) };
    // Whoever creates writes the identity first: what was listed may have come after it.
    if Identity::load(store).await?.is_some() {
        return Ok(());
    }
    let url = store.url();
    let (what, hint) = if remain.folder() == Some(Folder::Manifest) {
        (
            format!("the identity object is missing, and there are objects of a database at {url}"),
            "`esker repair` makes it again, from a copy (--from) or from what the versions say of it",
        )
    } else {
        (
            format!(
                "the identity object is missing and so is every version, and there are objects of a database at {url}, {remain} for one"
            ),
            "`esker repair --from COPY` brings both back, if there is a copy; a new database needs a place with nothing of another",
        )
    };
    Err(Error::corruption(Name::Identity.path(), 0, what).hint(hint))
}

fn no_database(store: &Store) -> Error {
    Error::invalid(format!("there is no database at {}", store.url()))
        .hint("check the URL, or open it for writing with creation allowed to make one")
}
