//! Looks over protobuf before it is decoded: a few bytes must not become many.
//!
//! An empty message costs two bytes in a body and hundreds in memory, so a body within its limit could
//! decode into a hundred times as much. No message of ours that repeats is that short: each has an id, a hash
//! or a token that is checked afterwards. This checks its length before.
//!
//! ```text
//! field = varint (number << 3 | type) ‖ value      type 0 varint, 1 eight bytes, 2 varint length ‖ bytes, 5 four bytes
//! ```
//!
//! Always true: nothing is allocated here; what passes decodes into a small multiple of its bytes.

use bytes::Bytes;
use prost::Message;

use crate::{
    codec::varint::{BadInput, Input},
    error::{Error, Result},
};

/// Messages (or bytes) that repeat in one field, or that hold some which do: each of at least so many bytes.
pub(crate) struct Repeated {
    pub(crate) field: u64,
    pub(crate) least: usize,
    pub(crate) fields: &'static [Repeated],
}

/// Id and sum; a hole has no hash.
pub(crate) const SST_BYTES: usize = 56;
/// Id and hash.
const PART_BYTES: usize = 40;
/// A token.
const RING_SLOT_BYTES: usize = 16;
/// A name of a letter.
const KEYSPACE_BYTES: usize = 3;

pub(super) const ROOT: [Repeated; 3] = [
    Repeated { field: 9, least: RING_SLOT_BYTES, fields: &[] },
    Repeated { field: 12, least: KEYSPACE_BYTES, fields: &[] },
    Repeated { field: 13, least: PART_BYTES, fields: &RUN },
];
const RUN: [Repeated; 2] = [
    Repeated { field: 3, least: SST_BYTES, fields: &[] },
    Repeated { field: 4, least: PART_BYTES, fields: &[] },
];
/// A copy has a version in it.
pub(super) const COPY: [Repeated; 1] = [Repeated { field: 1, least: 0, fields: &ROOT }];
pub(super) const PART: [Repeated; 1] = [Repeated { field: 1, least: SST_BYTES, fields: &[] }];

/// The message in `body`, which lies at `offset` of the object `name` and in which `repeated` repeats.
pub(crate) fn decode<M: Message + Default>(
    body: Bytes,
    repeated: &[Repeated],
    name: &str,
    offset: u64,
) -> Result<M> {
    check(&body, repeated).map_err(|wrong| {
        let what = format!("the body cannot be decoded: {}", wrong.what);
        Error::corruption(name, offset + wrong.offset as u64, what)
    })?;
    M::decode(body).map_err(|e| Error::corruption(name, offset, "the body cannot be decoded").because(e))
}

/// Checks that what repeats in `message` is as long as it must be.
fn check(message: &[u8], repeated: &[Repeated]) -> Result<(), BadInput> {
    let mut input = Input::new(message);
    while !input.is_empty() {
        let tag = input.varint()?;
        match tag & 7 {
            0 => drop(input.varint()?),
            1 => drop(input.u64()?),
            2 => {
                let at = input.clone();
                let bytes = input.sized(message.len())?;
                let offset = input.offset() - bytes.len();
                let Some(rule) = repeated.iter().find(|rule| rule.field == tag >> 3) else { continue };
                if bytes.len() < rule.least {
                    return Err(at.bad("an entry is too short to be one"));
                }
                if rule.fields.is_empty() {
                    // Bytes, or a message in which nothing repeats.
                    continue;
                }
                check(bytes, rule.fields).map_err(|bad| BadInput { offset: offset + bad.offset, ..bad })?;
            }
            5 => drop(input.u32()?),
            _ => return Err(input.bad("a field has a type that is not known")),
        }
    }
    Ok(())
}
