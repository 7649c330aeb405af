//! The envelope of an object that is one protobuf message: versions, pins, checkpoints, records of the job log.
//!
//! ```text
//!  0  magic                         8     which kind of object this is
//!  8  attempt token                16     whose object this is (store::sequence)
//! 24  format version              u32
//! 28  body bytes                  u64
//! 36  body                                the message
//!  …  XXH3-64 of everything before  u64   seeded with the place it belongs to
//! ```
//!
//! Always true: the envelope is the same in every format version, so damage is told from novelty: [`Envelope::open`]
//! does not look at the version, its caller does, at [`VERSION_AT`].

use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;

use crate::codec::{
    frame::checksum,
    varint::{BadInput, Input},
};

/// Where the format version lies.
pub(crate) const VERSION_AT: u64 = 24;
/// Where the body begins.
pub(crate) const BODY_AT: u64 = 36;
/// The bytes of an attempt's token.
pub(crate) const TOKEN_BYTES: usize = 16;

const LENGTH_AT: usize = 28;
const CHECKSUM_BYTES: usize = 8;

/// A kind of object, and what is said of bytes that are none.
pub(crate) struct Envelope {
    pub(crate) magic: &'static [u8; 8],
    pub(crate) max_body_bytes: u64,
    /// That the magic is another's.
    pub(crate) not_this: &'static str,
    /// That the checksum does not match.
    pub(crate) damaged: &'static str,
}

/// What lies in an envelope whose checksum is right.
pub(crate) struct Opened {
    pub(crate) token: [u8; TOKEN_BYTES],
    pub(crate) version: u32,
    pub(crate) body: Bytes,
}

impl Envelope {
    /// The object that holds `body`. The token is of [`TOKEN_BYTES`].
    pub(crate) fn seal(&self, token: &[u8], version: u32, seed: u64, body: &impl Message) -> Bytes {
        debug_assert_eq!(token.len(), TOKEN_BYTES, "whoever creates an object makes its token");
        let body_bytes = body.encoded_len();
        let mut out = BytesMut::with_capacity(BODY_AT as usize + body_bytes + CHECKSUM_BYTES);
        out.put_slice(self.magic);
        out.put_slice(token);
        out.put_u32_le(version);
        out.put_u64_le(body_bytes as u64);
        body.encode_raw(&mut out);
        out.put_u64_le(checksum(seed, &out));
        out.freeze()
    }

    /// What lies in `bytes`, once length and checksum are right.
    pub(crate) fn open(&self, seed: u64, bytes: &Bytes) -> Result<Opened, BadInput> {
        let bad = |offset: usize, what: &'static str| BadInput { offset, what };
        let mut input = Input::new(bytes);
        if input.array::<8>()? != *self.magic {
            return Err(bad(0, self.not_this));
        }
        let token = input.array()?;
        let version = input.u32()?;
        let body_bytes = input.u64()?;
        let whole = body_bytes.checked_add(BODY_AT + CHECKSUM_BYTES as u64);
        if body_bytes > self.max_body_bytes || whole != Some(bytes.len() as u64) {
            return Err(bad(LENGTH_AT, "the length of the body does not fit the object"));
        }
        let (sealed, sum) = bytes.split_at(bytes.len() - CHECKSUM_BYTES);
        if checksum(seed, sealed).to_le_bytes() != *sum {
            return Err(bad(sealed.len(), self.damaged));
        }
        Ok(Opened { token, version, body: bytes.slice(BODY_AT as usize..sealed.len()) })
    }
}
