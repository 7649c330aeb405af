//! The identity object `DB`: created once, never changed.
//!
//! ```text
//!  0  magic "eskerDB1"              8
//!  8  attempt token                16     whose object this is (store::sequence)
//! 24  format version              u32
//! 28  checksum kind               u32     1: XXH3
//! 32  database uuid                16
//! 48  WAL window K                u32
//! 52  required features           u32     a bit each; none yet
//! 56  XXH3-64 of bytes 0..56      u64
//! ```
//!
//! Format, checksum kind and features have had one value each so far. Whoever adds another raises what the versions
//! ask of readers as well (`manifest::Root::min_reader`): a repair makes a lost identity again from the versions.
//!
//! Its uuid is in every object that could be mistaken for another database's: a prefix that was
//! deleted and filled again has another uuid, and old processes and caches notice (faults F34).
//!
//! Always true: of two processes that create at the same moment, one wins and both go on with the
//! winner's identity.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    codec::{
        frame::checksum,
        varint::{BadInput, Input},
    },
    error::{Error, ErrorKind, Result},
    stats::Cause,
    store::{
        Name, Slot, Store,
        probe::{self, Depth},
    },
};

/// The most log objects in flight that a database can be made for.
pub const MAX_WAL_WINDOW: u32 = 256;

const MAGIC: &[u8; 8] = b"eskerDB1";
const FORMAT_VERSION: u32 = 1;
const CHECKSUM_XXH3: u32 = 1;
const BYTES: usize = 64;
const SEED: u64 = 0;
const GIVE_UP: Duration = Duration::from_secs(30);

/// What never changes about a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Which database this is.
    pub db_uuid: u128,
    /// K: the most log objects a writer may have in flight, and the jump behind a fence.
    pub wal_window: u32,
}

impl Identity {
    /// The identity of the database at this place; `None` if there is no database.
    pub async fn load(store: &Store) -> Result<Option<Self>> {
        let read = || async {
            store.get(&Name::Identity, Cause::Open).await?.map(|bytes| Self::decode(&bytes)).transpose()
        };
        store.reread(&Name::Identity, read).await
    }

    /// Creates the identity, after a short test that the store can be trusted, or loads what another
    /// process created at the same moment.
    ///
    /// Fails with `Unsupported`, naming the property, on a store that fails the test.
    pub async fn create(store: &Store, wal_window: u32) -> Result<Self> {
        if !(1..=MAX_WAL_WINDOW).contains(&wal_window) {
            return Err(Error::invalid(format!(
                "a WAL window of {wal_window} is outside 1 to {MAX_WAL_WINDOW}"
            )));
        }
        probe::probe(store, Depth::Short).await?;
        let clock = store.clock();
        let identity = Self { db_uuid: clock.random(), wal_window };
        let body = identity.encode(clock.random().to_le_bytes());
        match store.create(&Name::Identity, vec![body], Cause::Open, Some(GIVE_UP)).await? {
            Slot::Ours => Ok(identity),
            Slot::Theirs(bytes) => match Self::decode(&bytes) {
                // What was read may be wrong, and not what is there: be it theirs or, for all we know, ours.
                Err(error) if error.kind() == ErrorKind::Corruption => Self::load(store).await?.ok_or(error),
                decoded => decoded,
            },
        }
    }

    /// The stored object, as the attempt `token` writes it.
    pub fn encode(&self, token: [u8; 16]) -> Bytes {
        let mut out = BytesMut::with_capacity(BYTES);
        out.put_slice(MAGIC);
        out.put_slice(&token);
        out.put_u32_le(FORMAT_VERSION);
        out.put_u32_le(CHECKSUM_XXH3);
        out.put_u128_le(self.db_uuid);
        out.put_u32_le(self.wal_window);
        out.put_u32_le(0);
        out.put_u64_le(checksum(SEED, &out));
        out.freeze()
    }

    /// Checks and decodes the stored object.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let name = Name::Identity.path();
        let bad = |bad: BadInput| bad.of(name.as_str(), 0);
        let mut input = Input::new(bytes);
        if input.array::<8>().map_err(bad)? != *MAGIC {
            return Err(Error::corruption(name, 0, "this is not the identity object of a database"));
        }
        let body =
            bytes.get(..BYTES - 8).ok_or_else(|| bad(Input::new(&[]).bad("the bytes end too early")))?;
        input.take(16).map_err(bad)?;
        let version = input.u32().map_err(bad)?;
        let kind = input.u32().map_err(bad)?;
        let db_uuid = u128::from_le_bytes(input.array().map_err(bad)?);
        let wal_window = input.u32().map_err(bad)?;
        let features = input.u32().map_err(bad)?;
        if input.u64().map_err(bad)? != checksum(SEED, body) {
            return Err(Error::corruption(name, body.len() as u64, "the checksum does not match"));
        }
        input.finish().map_err(bad)?;
        if version != FORMAT_VERSION || kind != CHECKSUM_XXH3 || features != 0 {
            let what = format!(
                "this database was created by a newer esker: format {version}, checksum kind {kind}, features {features:#x}"
            );
            return Err(Error::unsupported(what).on(name).hint("open this database with a newer esker"));
        }
        if !(1..=MAX_WAL_WINDOW).contains(&wal_window) {
            return Err(Error::corruption(
                name,
                48,
                format!("a WAL window of {wal_window} is outside its limits"),
            ));
        }
        Ok(Self { db_uuid, wal_window })
    }
}
