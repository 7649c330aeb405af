//! A hole: a range of keys whose entries were in an SST that the store has lost.
//!
//! A salvage keeps what it can read of a damaged SST and puts a hole where the rest was: an entry of the
//! manifest like an SST's, at the same place in the order of runs, but without an object.
//!
//! ```text
//! level 1   [ a   S   c ]            S lost a block in its middle
//!
//! level 1   [ a   S'  c ]            S' is what could be read of S
//!           [    H      ]            a run of holes, right behind: newer data still comes in front of it
//! ```
//!
//! So whoever looks for a key finds what is newer than the loss, and where nothing is, learns that something may
//! have been there. The hole carries the conservation sum of what was lost, so the sums still add up.
//!
//! Always true: a read that comes to a hole fails with `Corruption` and says which keys, never "absent"; no merge
//! takes a hole in; a hole is never in one run with SSTs; it goes only when what was lost is put back.

use bytes::Bytes;

use crate::{
    block::MAX_FULL_KEY_BYTES,
    codec::sum::Sum,
    error::{Error, ErrorKind, Result},
    key::KEYSPACE_BYTES,
    sst::SstMeta,
    store::{Name, ObjectId},
};

/// The bytes of a key that a sentence shows.
const SHOWN_BYTES: usize = 40;

/// What is known of the entries that a hole stands for, beside the fields of [`SstMeta`] itself.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hole {
    /// The SST they were in: an [`ObjectId`], as bytes. Collection keeps the object, should there be one.
    #[prost(bytes = "bytes", tag = "1")]
    pub lost: Bytes,
    /// What was found to be wrong with it, for people.
    #[prost(string, tag = "2")]
    pub why: String,
}

impl SstMeta {
    /// The entry of a hole called `id`, for the keys `first_key..=last_key` of `lost`, which held `entries` entries
    /// there with this sum. Of several holes in one SST, one tells of all entries and the others of none.
    pub fn hole(
        id: ObjectId,
        lost: &SstMeta,
        (first_key, last_key): (Bytes, Bytes),
        (entries, sum): (u64, &Sum),
        why: &str,
    ) -> Self {
        Self {
            id: id.to_bytes().into(),
            first_key,
            last_key,
            min_seq: lost.min_seq,
            max_seq: lost.max_seq,
            entries,
            sum: Bytes::copy_from_slice(&sum.to_bytes()),
            hole: Some(Hole { lost: lost.lost_id().to_bytes().into(), why: why.to_owned() }),
            ..Self::default()
        }
    }

    /// Whether this stands for entries that were lost, and there is no object.
    #[inline]
    pub fn is_hole(&self) -> bool {
        self.hole.is_some()
    }

    /// The object that the entries are in, or were in before they were lost.
    pub fn lost_id(&self) -> ObjectId {
        let lost = self.hole.as_ref().and_then(|hole| ObjectId::from_bytes(&hole.lost));
        lost.unwrap_or_else(|| self.object_id())
    }

    /// The error of a read that comes to this hole; of an SST that is none, that of a bug.
    #[cold]
    pub fn lost(&self) -> Error {
        let why = self.hole.as_ref().map_or("", |hole| hole.why.as_str());
        let (first, last) = (shown(&self.first_key), shown(&self.last_key));
        let what = format!(
            "the entries of keys {first} to {last} have been lost, and what was there cannot be known: {why}"
        );
        Error::new(ErrorKind::Corruption, what)
            .on(Name::Sst(self.lost_id()).path())
            .hint("a copy of the database from before the loss still has them, and they can be read there; keys that are written anew can be \
                   read here, and `esker export --skip-holes` gives the rows beside")
    }

    pub(super) fn check_hole(&self, hole: &Hole) -> Result<(), &'static str> {
        let say = |ok: bool, what| if ok { Ok(()) } else { Err(what) };
        say(ObjectId::from_bytes(&hole.lost).is_some(), "a hole names no object that was lost")?;
        say(Sum::from_bytes(&self.sum).is_some(), "its sum has the wrong shape")?;
        say(self.bytes == 0 && self.tail_offset == 0 && self.blocks == 0, "a hole has no bytes")?;
        say(self.first_key.len().max(self.last_key.len()) <= MAX_FULL_KEY_BYTES, "a key is over the limit")?;
        say(self.first_key <= self.last_key && self.min_seq <= self.max_seq, "its bounds are inverted")
    }
}

/// A full key for a sentence: without its keyspace, escaped, and not too long.
pub fn shown(full_key: &[u8]) -> String {
    let user_key = full_key.get(KEYSPACE_BYTES..).unwrap_or_default();
    let cut = &user_key[..user_key.len().min(SHOWN_BYTES)];
    let more = if cut.len() < user_key.len() { "…" } else { "" };
    format!("\"{}{more}\"", cut.escape_ascii())
}
