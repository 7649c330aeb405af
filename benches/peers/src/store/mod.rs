//! Where a session's bytes lie: an object store, counted and perhaps shaped, and a folder for engines of one machine.
//!
//! | name | is |
//! |---|---|
//! | `memory` | `object_store`'s, in the process |
//! | `dir`, `dir-fsync` | files in a temporary folder, without and with fsync |
//! | `minio` | a MinIO server that the run starts on a loopback port, over a temporary folder |
//! | any of them with `+standard`, `+express` | the same behind a latency ([`latency`]) |
//!
//! Always true: each session has a folder, or a prefix, that nobody had before, and it is gone afterwards.

pub(crate) mod latency;
pub(crate) mod shaped;
mod timer;

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use anyhow::{Context as _, Result, bail};
use futures::TryStreamExt as _;
use object_store::{
    ClientOptions, ObjectStore, aws::AmazonS3Builder, local::LocalFileSystem, memory::InMemory, path::Path,
    prefix::PrefixStore,
};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use self::{latency::Profile, shaped::Shaped};

/// A kind of store, and how far away it seems to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Store {
    pub(crate) base: Base,
    pub(crate) distance: Distance,
}

/// What holds the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Base {
    Memory,
    Folder { fsync: bool },
    Minio,
}

/// How long a request takes beyond what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Distance {
    None,
    Standard,
    Express,
}

/// A running MinIO server, as a session finds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Server {
    pub(crate) endpoint: String,
    pub(crate) key: String,
    pub(crate) secret: String,
}

/// The place of one session.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) objects: Shaped,
    prefix: Path,
    profile: Option<Profile>,
    fsync: bool,
    if_match: bool,
    folder: TempDir,
}

/// The place of one database.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    /// For an engine that keeps objects: the root is the database's.
    pub(crate) objects: Arc<dyn ObjectStore>,
    /// For an engine that keeps files; it exists and is empty at first.
    pub(crate) folder: PathBuf,
    /// Whether what is durable has to survive the loss of power.
    pub(crate) fsync: bool,
    /// Whether an object can be replaced on the condition that it is still the one that was read.
    pub(crate) if_match: bool,
}

impl Store {
    pub(crate) fn profile(self) -> Option<Profile> {
        match self.distance {
            Distance::None => None,
            Distance::Standard => Some(Profile::standard()),
            Distance::Express => Some(Profile::express()),
        }
    }

    /// Whether an engine that keeps files has anything to compare here.
    pub(crate) fn is_near(self) -> bool {
        self.distance == Distance::None && self.base != Base::Minio
    }
}

impl Place {
    /// A fresh one. `unique` makes its prefix another than every other session's.
    pub(crate) fn prepare(store: Store, server: Option<&Server>, unique: &str, seed: u64) -> Result<Self> {
        let folder = TempDir::with_prefix("esker-peers-").context("no temporary folder could be made")?;
        let below: Arc<dyn ObjectStore> = match store.base {
            Base::Memory => Arc::new(InMemory::new()),
            Base::Folder { fsync } => {
                let objects = folder.path().join("objects");
                std::fs::create_dir(&objects)?;
                Arc::new(LocalFileSystem::new_with_prefix(objects)?.with_fsync(fsync))
            }
            Base::Minio => Arc::new(client(server.context("no MinIO server was started")?)?),
        };
        let fsync = matches!(store.base, Base::Folder { fsync: true });
        // `object_store` has that condition for all of these but the folder.
        let if_match = !matches!(store.base, Base::Folder { .. });
        let objects = Shaped::new(below, seed).context("no timer thread could be started")?;
        let prefix = Path::from(unique);
        Ok(Self { objects, prefix, profile: store.profile(), fsync, if_match, folder })
    }

    /// From now on requests take their time, or no longer.
    pub(crate) fn shape(&self, on: bool) {
        self.objects.shape(if on { self.profile } else { None });
    }

    /// The place of the database `name`, always the same.
    pub(crate) fn home(&self, name: &str) -> Result<Home> {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder)?;
        let prefix = self.prefix.clone().join(name);
        let objects = Arc::new(PrefixStore::new(self.objects.clone(), prefix));
        Ok(Home { objects, folder, fsync: self.fsync, if_match: self.if_match })
    }

    /// Bytes of all objects of the database `name`, parts of uploads that never ended not.
    pub(crate) async fn objects_bytes(&self, name: &str) -> Result<u64> {
        let listed = self.objects.list_uncounted(&self.prefix.clone().join(name));
        Ok(listed.try_fold(0, |sum, object| std::future::ready(Ok(sum + object.size))).await?)
    }

    /// Deletes everything.
    pub(crate) async fn remove(self) -> Result<()> {
        self.shape(false);
        let objects: Vec<Path> =
            self.objects.list(Some(&self.prefix)).map_ok(|object| object.location).try_collect().await?;
        let names = futures::stream::iter(objects.into_iter().map(Ok));
        self.objects.delete_stream(Box::pin(names)).try_collect::<Vec<_>>().await?;
        self.folder.close().context("the temporary folder could not be removed")
    }
}

fn client(server: &Server) -> Result<impl ObjectStore> {
    // An error says that there is one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = ClientOptions::new().with_allow_http(true).with_pool_max_idle_per_host(256);
    AmazonS3Builder::new()
        .with_client_options(options)
        .with_endpoint(&server.endpoint)
        .with_region("us-east-1")
        .with_bucket_name("bucket")
        .with_access_key_id(&server.key)
        .with_secret_access_key(&server.secret)
        .build()
        .context("no client of MinIO could be made")
}

impl FromStr for Store {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        let (base, distance) = name.split_once('+').unwrap_or((name, ""));
        let base = match base {
            "memory" => Base::Memory,
            "dir" => Base::Folder { fsync: false },
            "dir-fsync" => Base::Folder { fsync: true },
            "minio" => Base::Minio,
            _ => bail!("there is no store `{name}`; known are memory, dir, dir-fsync and minio"),
        };
        let distance = match distance {
            "" => Distance::None,
            "standard" => Distance::Standard,
            "express" => Distance::Express,
            _ => bail!("`{name}` ends with no latency; known are +standard and +express"),
        };
        Ok(Self { base, distance })
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.base {
            Base::Memory => "memory",
            Base::Folder { fsync: false } => "dir",
            Base::Folder { fsync: true } => "dir-fsync",
            Base::Minio => "minio",
        })?;
        f.write_str(match self.distance {
            Distance::None => "",
            Distance::Standard => "+standard",
            Distance::Express => "+express",
        })
    }
}

#[cfg(test)]
mod tests {
    use object_store::{ObjectStoreExt as _, PutMode, UpdateVersion};

    use super::*;

    #[test]
    fn a_store_is_named_as_it_is_read() {
        for name in ["memory", "dir", "dir-fsync+standard", "minio", "memory+express"] {
            assert_eq!(name.parse::<Store>().unwrap().to_string(), name);
        }
        assert!("memory+slow".parse::<Store>().is_err() && "disk".parse::<Store>().is_err());
    }

    #[tokio::test]
    async fn a_home_says_whether_an_object_can_be_replaced_on_a_condition() {
        for name in ["memory", "dir"] {
            let place = Place::prepare(name.parse().unwrap(), None, "r1", 1).unwrap();
            let (home, object) = (place.home("one").unwrap(), Path::from("x"));
            let put = home.objects.put(&object, vec![1].into()).await.unwrap();
            let mode = PutMode::Update(UpdateVersion::from(put));
            let replaced = home.objects.put_opts(&object, vec![2].into(), mode.into()).await;
            assert_eq!(replaced.is_ok(), home.if_match, "{name}: {replaced:?}");
        }
    }

    #[tokio::test]
    async fn two_databases_of_a_session_do_not_meet_and_nothing_is_left_of_them() {
        for name in ["memory", "dir"] {
            let place = Place::prepare(name.parse().unwrap(), None, "r1", 1).unwrap();
            let (one, two) = (place.home("one").unwrap(), place.home("two").unwrap());
            one.objects.put(&Path::from("x"), vec![1].into()).await.unwrap();
            assert!(two.objects.get(&Path::from("x")).await.is_err());
            assert!(place.home("one").unwrap().objects.get(&Path::from("x")).await.is_ok());
            let requests = place.objects.requests();
            assert_eq!(
                (place.objects_bytes("one").await.unwrap(), place.objects_bytes("two").await.unwrap()),
                (1, 0)
            );
            assert_eq!(place.objects.requests(), requests, "looking is not measured");
            let (objects, folder) = (place.objects.clone(), place.folder.path().to_owned());
            place.remove().await.unwrap();
            assert!(objects.list(None).try_collect::<Vec<_>>().await.is_ok_and(|left| left.is_empty()));
            assert!(!folder.exists());
        }
    }
}
