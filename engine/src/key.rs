//! Keys, sequence numbers and entry kinds: the words every format shares.
//!
//! ```text
//! full key = keyspace id (u32, big-endian) ‖ user key
//! order    = full key ascending, then sequence number descending, then kind
//! ```
//!
//! Always true: one database never gives the same sequence number to two entries.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::{Error, Result};

/// The number of a keyspace; 0 is the default one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct KeyspaceId(pub u32);

/// The keyspace that `db` itself is.
pub const DEFAULT_KEYSPACE: KeyspaceId = KeyspaceId(0);

/// The position of an entry in the database's one order of writes; the first is 1.
pub type Seq = u64;

/// The largest sequence number that stored bytes may carry: at a thousand million writes a second it is
/// reached after a century, and adding to it cannot overflow.
pub const MAX_SEQ: Seq = 1 << 62;
/// The longest name of a keyspace, in bytes.
pub const MAX_KEYSPACE_NAME_BYTES: usize = 255;
/// The longest user key, in bytes.
pub const MAX_KEY_BYTES: usize = 64 << 10;
/// The longest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 64 << 20;
/// The bytes of the keyspace id in front of every full key.
pub const KEYSPACE_BYTES: usize = 4;
/// "Does not expire", as stored.
pub const NEVER: u64 = 0;

/// What an entry does. The numbers are stored and never change meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// The key has no value from here on.
    Delete = 0,
    /// The key has this value.
    Put = 1,
    /// An operand for the keyspace's merge operator. Reserved.
    Merge = 2,
    /// Every key from this one up to the value (exclusive) has no value. Kept in its own block. Reserved.
    RangeDelete = 3,
    /// The value lies in a blob object. Reserved.
    PutIndirect = 4,
}

impl Kind {
    /// The kind with this number; an unknown number is refused by number, never guessed at.
    pub fn from_u8(n: u8) -> Result<Self> {
        Ok(match n {
            0 => Self::Delete,
            1 => Self::Put,
            2 => Self::Merge,
            3 => Self::RangeDelete,
            4 => Self::PutIndirect,
            _ => {
                return Err(Error::unsupported(format!("entry kind {n} is not known to this version"))
                    .hint("open this database with a newer esker"));
            }
        })
    }
    /// The kind's name in sentences.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Put => "put",
            Self::Merge => "merge operand",
            Self::RangeDelete => "range delete",
            Self::PutIndirect => "put-indirect",
        }
    }
}

/// One entry, borrowed from where it lies. `key` is a full key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryRef<'a> {
    /// The full key.
    pub key: &'a [u8],
    /// Its place in the order of writes.
    pub seq: Seq,
    /// What it does.
    pub kind: Kind,
    /// When it expires, in wall-clock milliseconds; [`NEVER`] if it does not.
    pub expire_at_ms: u64,
    /// The value; empty unless the kind carries one.
    pub value: &'a [u8],
}

/// One entry that owns (shares) its bytes. `key` is a full key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The full key.
    pub key: Bytes,
    /// Its place in the order of writes.
    pub seq: Seq,
    /// What it does.
    pub kind: Kind,
    /// When it expires, in wall-clock milliseconds; [`NEVER`] if it does not.
    pub expire_at_ms: u64,
    /// The value; empty unless the kind carries one.
    pub value: Bytes,
}

impl Entry {
    /// The same entry, borrowed.
    pub fn as_ref(&self) -> EntryRef<'_> {
        EntryRef {
            key: &self.key,
            seq: self.seq,
            kind: self.kind,
            expire_at_ms: self.expire_at_ms,
            value: &self.value,
        }
    }
}

/// Whether an entry that expires at `expire_at_ms` is gone at `now_ms`.
pub fn is_expired(expire_at_ms: u64, now_ms: u64) -> bool {
    expire_at_ms != NEVER && expire_at_ms <= now_ms
}

/// `keyspace ‖ user_key`. Fails if the user key is too long.
pub fn full_key(keyspace: KeyspaceId, user_key: &[u8]) -> Result<Bytes> {
    check_key(user_key)?;
    let mut full = BytesMut::with_capacity(KEYSPACE_BYTES + user_key.len());
    full.put_u32(keyspace.0);
    full.put_slice(user_key);
    Ok(full.freeze())
}

/// Splits a full key into its keyspace and user key; `None` if it is too short to be one.
pub fn split_full_key(full: &[u8]) -> Option<(KeyspaceId, &[u8])> {
    let (id, user) = full.split_first_chunk::<KEYSPACE_BYTES>()?;
    Some((KeyspaceId(u32::from_be_bytes(*id)), user))
}

/// Fails if the user key is longer than [`MAX_KEY_BYTES`].
pub fn check_key(user_key: &[u8]) -> Result<()> {
    if user_key.len() > MAX_KEY_BYTES {
        return Err(Error::invalid(format!(
            "a key of {} bytes is over the limit of {MAX_KEY_BYTES}",
            user_key.len()
        ))
        .hint("use a shorter key, a hash of it for example"));
    }
    Ok(())
}

/// Fails if this is no name of a keyspace: 1 to [`MAX_KEYSPACE_NAME_BYTES`] bytes.
pub fn check_keyspace(name: &str) -> Result<()> {
    if name.is_empty() || name.len() > MAX_KEYSPACE_NAME_BYTES {
        return Err(Error::invalid(format!(
            "a keyspace's name of {} bytes is not 1 to {MAX_KEYSPACE_NAME_BYTES} bytes",
            name.len()
        )));
    }
    Ok(())
}

/// Fails if the value is longer than [`MAX_VALUE_BYTES`].
pub fn check_value(value: &[u8]) -> Result<()> {
    if value.len() > MAX_VALUE_BYTES {
        return Err(Error::invalid(format!(
            "a value of {} bytes is over the limit of {MAX_VALUE_BYTES}",
            value.len()
        ))
        .hint(
            "split the value over several keys, or store the object itself in the bucket and its name here",
        ));
    }
    Ok(())
}
