//! A full copy of a version outside the manifest: what a pin and a checkpoint are.
//!
//! An envelope (`codec/envelope.rs`) with the magic "eskerPIN" or "eskerCPT", seeded with the hash of the object's
//! own path, around: the root in its stored form, with the names of its parts; the hash of its object; how long a pin
//! lives; when and by whom it was made.
//!
//! The manifest's own object of the version may be collected; what the copy names is kept as long as the
//! copy is there ([`compaction::collect`](mod@crate::compaction::collect)). A pin whose reader has finished is
//! written over with a body without a root: it holds nothing any more, and the next collection removes it.
//!
//! Always true: a copy names what its version names, no more and no less; a copy in another object's place,
//! or of another database, is an error; whatever a program does not understand it refuses by name.

use std::sync::Arc;

use bytes::Bytes;
use twox_hash::XxHash3_64;

use crate::{
    codec::envelope::{BODY_AT, Envelope, VERSION_AT},
    error::{Error, Result},
    manifest::{Manifest, Root, View, codec, part, wire},
    stats::Cause,
    store::{Folder, Name, Token},
};

/// The most bytes of a copy's body: a root's, and some for the rest.
pub const MAX_BODY_BYTES: u64 = codec::MAX_BODY_BYTES + (1 << 20);
const _: () = assert!(MAX_BODY_BYTES + (64 << 10) < Folder::Checkpoint.most_object_bytes());
/// The longest that a pin may say it lives, in milliseconds.
pub const MAX_LIFE_MS: u64 = 24 * 3600 * 1000;

const PIN: Envelope = Envelope {
    magic: b"eskerPIN",
    max_body_bytes: MAX_BODY_BYTES,
    not_this: "this is not a pin or checkpoint of this place",
    damaged: "the checksum does not match: the bytes are damaged, or belong to another object",
};
const CHECKPOINT: Envelope = Envelope { magic: b"eskerCPT", ..PIN };
const FORMAT_VERSION: u32 = 1;
const HASH_BYTES: usize = 16;

/// A version, copied.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionCopy {
    /// The version, in its stored form.
    pub root: Root,
    /// XXH3-128 of the version's own object.
    pub hash: u128,
    /// How long a pin counts after its last heartbeat, in milliseconds; 0 for a checkpoint, which counts for ever.
    pub life_ms: u64,
    /// When it was made, by the maker's wall clock; for people.
    pub made_ms: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Body {
    /// None: a pin that was released.
    #[prost(message, optional, tag = "1")]
    root: Option<Root>,
    #[prost(bytes = "bytes", tag = "2")]
    hash: Bytes,
    #[prost(uint64, tag = "3")]
    life_ms: u64,
    #[prost(uint64, tag = "4")]
    made_ms: u64,
}

impl VersionCopy {
    /// A copy of `view`; `life_ms` is 0 for a checkpoint.
    pub fn of(view: &View, life_ms: u64, made_ms: u64) -> Self {
        Self { root: part::stored(&view.root), hash: view.stored_hash(), life_ms, made_ms }
    }

    /// The version, complete: parts that `near` has are taken from it, the others fetched. Fails with
    /// `Corruption` if a part is missing or damaged, or if the copy breaks the rules of a version.
    pub async fn view(&self, manifest: &Manifest, near: Option<&View>, cause: Cause) -> Result<Arc<View>> {
        let near_root = near.map(|view| &view.root);
        let root = part::complete(manifest.store(), self.root.clone(), near_root, cause).await?;
        Ok(Arc::new(View::stored(root, self.hash, near)?))
    }
}

/// The object `name` (a pin or a checkpoint) that holds `copy`; without one, a pin that was released.
pub fn encode(name: &Name, token: Token, copy: Option<&VersionCopy>) -> Bytes {
    let body = copy.map_or_else(Body::default, |copy| Body {
        root: Some(copy.root.clone()),
        hash: Bytes::copy_from_slice(&copy.hash.to_le_bytes()),
        life_ms: copy.life_ms,
        made_ms: copy.made_ms,
    });
    envelope(name).seal(&token.0, FORMAT_VERSION, seed(name), &body)
}

/// The pin or checkpoint `name`: `None` if it is not there, `Some(None)` if it is a pin that was released.
pub async fn load(manifest: &Manifest, name: &Name, cause: Cause) -> Result<Option<Option<VersionCopy>>> {
    let (store, db_uuid) = (manifest.store(), manifest.identity().db_uuid);
    let read = || async {
        let found = store.get(name, cause).await?;
        found.map(|bytes| decode(name, db_uuid, &bytes)).transpose()
    };
    store.reread(name, read).await
}

/// Checks and decodes the object `name` of the database `db_uuid`; `None` is a pin that was released.
///
/// Fails with `Corruption` naming object and offset, or with `Unsupported` naming the version or the
/// feature that this program does not know.
pub fn decode(name: &Name, db_uuid: u128, bytes: &Bytes) -> Result<Option<VersionCopy>> {
    let path = name.path();
    let corrupt = |offset: u64, what: &str| Error::corruption(path.as_str(), offset, what);
    let opened = envelope(name).open(seed(name), bytes).map_err(|bad| bad.of(path.as_str(), 0))?;
    if opened.version != FORMAT_VERSION {
        let what = format!(
            "this copy was written by a newer esker: format {}, and {FORMAT_VERSION} is known",
            opened.version
        );
        return Err(Error::unsupported(what).at(path, VERSION_AT).hint("use a newer esker"));
    }
    let at = BODY_AT;
    let body: Body = wire::decode(opened.body, &wire::COPY, &path, at)?;
    let Some(root) = body.root else {
        return match name {
            Name::Pin(_) => Ok(None),
            _ => Err(corrupt(at, "there is no version in it")),
        };
    };
    codec::check_readable(&root, &path, at)?;
    codec::check_stored(&root, db_uuid, &path, at)?;
    let hash = <[u8; HASH_BYTES]>::try_from(&body.hash[..]);
    let hash = u128::from_le_bytes(hash.map_err(|_| corrupt(at, "the hash of the version is malformed"))?);
    let lives = if matches!(name, Name::Pin(_)) { 1..=MAX_LIFE_MS } else { 0..=0 };
    if !lives.contains(&body.life_ms) {
        return Err(corrupt(at, "the time it says it lives is outside its limits"));
    }
    Ok(Some(VersionCopy { root, hash, life_ms: body.life_ms, made_ms: body.made_ms }))
}

fn envelope(name: &Name) -> Envelope {
    if matches!(name, Name::Pin(_)) { PIN } else { CHECKPOINT }
}

/// The seed of the checksum of the object `name`.
pub(crate) fn seed(name: &Name) -> u64 {
    XxHash3_64::oneshot(name.path().as_bytes())
}
