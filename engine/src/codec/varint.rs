//! Varints, and reading with every length checked.
//!
//! ```text
//! varint = LEB128 of a u64: seven bits a byte, low bits first, high bit set on all but the last
//! ```
//!
//! Always true: a value has one encoding; an over-long one is an error, so that equal bytes and
//! equal meaning are the same thing. [`Input`] never reads past its end and never panics.

use bytes::BufMut;

use crate::error::Error;

/// The longest varint of a u64, in bytes.
pub const MAX_VARINT_BYTES: usize = 10;

/// Appends `value` as a varint.
#[inline]
pub fn put_varint(out: &mut impl BufMut, value: u64) {
    if value < 0x80 {
        return out.put_u8(value as u8);
    }
    let mut bytes = [0; MAX_VARINT_BYTES];
    let mut rest = value;
    let mut n = 0;
    while rest >= 0x80 {
        bytes[n] = rest as u8 | 0x80;
        rest >>= 7;
        n += 1;
    }
    bytes[n] = rest as u8;
    out.put_slice(&bytes[..=n]);
}

/// The bytes that [`put_varint`] appends for `value`.
#[inline]
pub fn varint_bytes(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// The varint at the start of `bytes` and its length; `None` if it is cut off, over-long or past 64 bits.
#[inline]
pub fn get_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    match *bytes.first()? {
        one if one < 0x80 => Some((one as u64, 1)),
        _ => get_long_varint(bytes),
    }
}

/// What was wrong with the bytes given to an [`Input`], and where. The caller knows the object and
/// makes an [`Error`] of it with [`BadInput::of`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadInput {
    /// Bytes from the start of the input.
    pub offset: usize,
    /// What was wrong there: a sentence without a full stop.
    pub what: &'static str,
}

impl BadInput {
    /// As a corruption of `object`, in which the input began at byte `base`.
    pub fn of(self, object: impl Into<String>, base: u64) -> Error {
        Error::corruption(object, base.saturating_add(self.offset as u64), self.what)
    }
}

/// Reads bytes from front to back. Every read checks what is left.
///
/// ```
/// use esker::codec::varint::{Input, put_varint};
///
/// let mut bytes = vec![7];
/// put_varint(&mut bytes, 300);
/// let mut input = Input::new(&bytes);
/// assert_eq!(input.u8(), Ok(7));
/// assert_eq!(input.varint(), Ok(300));
/// assert!(input.finish().is_ok());
/// ```
#[derive(Debug, Clone)]
pub struct Input<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Input<'a> {
    /// Reads `bytes` from their start.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }
    /// Bytes read so far.
    pub fn offset(&self) -> usize {
        self.offset
    }
    /// The bytes not yet read.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.offset..]
    }
    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.offset == self.bytes.len()
    }
    /// A complaint about the byte that would be read next.
    pub fn bad(&self, what: &'static str) -> BadInput {
        BadInput { offset: self.offset, what }
    }

    /// The next `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], BadInput> {
        let taken = self.rest().get(..n).ok_or_else(|| self.bad("the bytes end too early"))?;
        self.offset += n;
        Ok(taken)
    }
    /// The next `N` bytes, as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], BadInput> {
        let taken = *self.rest().first_chunk().ok_or_else(|| self.bad("the bytes end too early"))?;
        self.offset += N;
        Ok(taken)
    }
    /// One byte.
    pub fn u8(&mut self) -> Result<u8, BadInput> {
        self.array().map(|[byte]| byte)
    }
    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> Result<u16, BadInput> {
        self.array().map(u16::from_le_bytes)
    }
    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> Result<u32, BadInput> {
        self.array().map(u32::from_le_bytes)
    }
    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> Result<u64, BadInput> {
        self.array().map(u64::from_le_bytes)
    }
    /// A varint.
    pub fn varint(&mut self) -> Result<u64, BadInput> {
        let (value, n) =
            get_varint(self.rest()).ok_or_else(|| self.bad("a varint is cut off or over-long"))?;
        self.offset += n;
        Ok(value)
    }
    /// A varint that is a length, and the bytes of that length. Refuses more than `limit` bytes.
    pub fn sized(&mut self, limit: usize) -> Result<&'a [u8], BadInput> {
        let start = self.clone();
        let n = self.varint()?;
        if n > limit as u64 {
            *self = start;
            return Err(self.bad("a length is over its limit"));
        }
        self.take(n as usize)
    }
    /// Fails if anything is left.
    pub fn finish(self) -> Result<(), BadInput> {
        if self.is_empty() { Ok(()) } else { Err(self.bad("there are bytes after the end")) }
    }
}

#[cold]
fn get_long_varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut value = 0u64;
    for (n, &byte) in bytes.iter().take(MAX_VARINT_BYTES).enumerate() {
        value |= ((byte & 0x7F) as u64) << (7 * n);
        if byte < 0x80 {
            let over_long = byte == 0;
            let past_64_bits = n == MAX_VARINT_BYTES - 1 && byte > 1;
            return (!over_long && !past_64_bits).then_some((value, n + 1));
        }
    }
    None
}
