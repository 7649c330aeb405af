//! Reading objects: whole, by range, by many ranges.
//!
//! Always true: what is returned has exactly the length asked for (or, for a whole object, the length
//! the store announced); `object_store` itself does not check that a body ends where it should. Wrong
//! lengths are fetched again, then are `Corruption` with object and offset. Whether the *bytes* are
//! right is for the checksums of whoever reads them.

use std::{fmt, ops::Range};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::{GetOptions, GetRange, GetResult, GetResultPayload, path::Path};

use super::{
    Name, Place, Store,
    retry::{Failure, Patience},
};
use crate::{
    chaos::{Bug, bug},
    error::{Error, Result},
    stats::{Cause, RequestKind},
};

/// Ranges of one object with at most this many bytes between them are fetched together: at usual
/// distances to a store, a request costs about as much time as this many bytes.
pub const COALESCE_GAP_BYTES: u64 = 256 << 10;

/// Ranges are not fetched together beyond this size, so that the pieces come in parallel: one stream of a store brings some
/// 90 MB/s, so this takes about as long to come as to begin to.
const COALESCED_BYTES: u64 = 1 << 20;

/// Requests of one call in flight at once.
const PARALLEL: usize = 16;

/// Whether `error` says that an object is not in the store at all: it was collected, or lost.
///
/// ```
/// # use esker::{Error, store::is_missing};
/// assert!(!is_missing(&Error::corruption("sst/…", 0, "a checksum does not match")));
/// ```
pub fn is_missing(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<Missing>())
}

/// The source of errors about objects that are not there.
#[derive(Debug)]
pub(crate) struct Missing;

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is missing from the store")
    }
}

impl std::error::Error for Missing {}

impl Store {
    /// The object's bytes, `None` if it is not there. Of one that is larger than any of its kind
    /// ([`Name::most_bytes`]) only so many and one more, which whoever decodes it refuses.
    pub async fn get(&self, name: &Name, cause: Cause) -> Result<Option<Bytes>> {
        self.get_at(&self.place.location(name)?, name.most_bytes(), cause).await
    }

    /// The same, by path: all of it, or `most + 1` bytes.
    pub(super) async fn get_at(&self, location: &Path, most: u64, cause: Cause) -> Result<Option<Bytes>> {
        let mut patience = self.patience("GET", self.place.shown(location));
        loop {
            match self.place.get_whole_once(location, most, &patience, cause).await {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(Failure::Missing) => return Ok(None),
                Err(failure) => patience.wait(failure).await?,
            }
        }
    }

    /// Exactly the bytes of `range`, of an object that must be there and be long enough.
    ///
    /// Fails with `Corruption` if it is not: missing (see [`is_missing`]), or too short, with the
    /// offset where it ends.
    pub async fn get_range(&self, name: &Name, range: Range<u64>, cause: Cause) -> Result<Bytes> {
        if range.start >= range.end {
            return if range.start == range.end {
                Ok(Bytes::new())
            } else {
                Err(Error::invalid(format!("the byte range {range:?} is inverted")).on(name.path()))
            };
        }
        let location = self.place.location(name)?;
        let mut patience = self.patience("GET", &name.path());
        let mut measured = false;
        loop {
            match self.place.get_once(&location, Wanted::Range(&range), &patience, cause).await {
                Ok(bytes) => return Ok(bytes),
                Err(Failure::Missing) => return Err(missing(name, range.start)),
                Err(failure) => {
                    // Stores differ in what they say about a range beyond the end; the size decides.
                    let odd = matches!(
                        failure,
                        Failure::WrongLength { .. } | Failure::Failed { unreachable: false, .. }
                    );
                    if odd && !measured {
                        measured = true;
                        self.check_length(name, &location, &range, &patience, cause).await?;
                    }
                    patience.wait(failure).await?;
                }
            }
        }
    }

    /// Several ranges of one object, in the order asked for. Near ones are fetched together
    /// ([`COALESCE_GAP_BYTES`]), the pieces in parallel; results of one piece share its memory.
    pub async fn get_ranges(&self, name: &Name, ranges: &[Range<u64>], cause: Cause) -> Result<Vec<Bytes>> {
        if let [range] = ranges {
            return Ok(vec![self.get_range(name, range.clone(), cause).await?]);
        }
        let pieces = coalesce(ranges);
        let fetched: Vec<Bytes> = stream::iter(pieces.iter().cloned())
            .map(|piece| self.get_range(name, piece, cause))
            .buffered(PARALLEL)
            .try_collect()
            .await?;
        ranges
            .iter()
            .map(|range| {
                if range.start >= range.end {
                    // Empty, or inverted: answered without a request.
                    return match range.start == range.end {
                        true => Ok(Bytes::new()),
                        false => Err(Error::invalid(format!("the byte range {range:?} is inverted"))),
                    };
                }
                let at = pieces.partition_point(|piece| piece.start <= range.start) - 1;
                let from = (range.start - pieces[at].start) as usize;
                Ok(fetched[at].slice(from..from + (range.end - range.start) as usize))
            })
            .collect()
    }

    /// Fails if the object is known to be shorter than `range` needs.
    async fn check_length(
        &self,
        name: &Name,
        location: &Path,
        range: &Range<u64>,
        patience: &Patience<'_>,
        cause: Cause,
    ) -> Result<()> {
        match self.place.measure(location, patience, cause).await {
            Ok(size) if size < range.end => Err(Error::corruption(
                name.path(),
                size,
                format!("the object ends after {size} bytes, {} were expected", range.end),
            )
            .hint("it was cut short or replaced: `esker verify` lists what else is damaged")),
            Err(Failure::Missing) => Err(missing(name, range.start)),
            // Long enough, or no answer: the reading itself goes on trying.
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// What one GET asks for.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// The whole object, whose body is not read if it has more bytes than this.
    AtMost(u64),
    /// These bytes of it, and exactly these.
    Range(&'a Range<u64>),
}

impl Place {
    /// One GET of the whole object; of one with more than `most` bytes, `most + 1` of them by a second GET.
    pub(super) async fn get_whole_once(
        &self,
        location: &Path,
        most: u64,
        patience: &Patience<'_>,
        cause: Cause,
    ) -> Result<Bytes, Failure> {
        match self.get_once(location, Wanted::AtMost(most), patience, cause).await {
            Err(Failure::TooLarge) => {
                self.get_once(location, Wanted::Range(&(0..most + 1)), patience, cause).await
            }
            done => done,
        }
    }

    /// One GET; the body is read to its end.
    pub(super) async fn get_once(
        &self,
        location: &Path,
        wanted: Wanted<'_>,
        patience: &Patience<'_>,
        cause: Cause,
    ) -> Result<Bytes, Failure> {
        self.attempt(RequestKind::Get, cause, 0, async {
            let (range, known) = match wanted {
                Wanted::AtMost(_) => (None, 0),
                Wanted::Range(range) => (Some(GetRange::Bounded(range.clone())), range.end - range.start),
            };
            let options = GetOptions { range, ..GetOptions::default() };
            let result =
                self.within(patience.attempt_limit(known), self.objects.get_opts(location, options)).await?;
            let expected = match wanted {
                Wanted::AtMost(most) if result.meta.size > most => return Err(Failure::TooLarge),
                Wanted::AtMost(_) => 0..result.meta.size,
                Wanted::Range(range) => range.clone(),
            };
            let wanted = expected.end - expected.start;
            if result.range != expected {
                let got = result.range.end.saturating_sub(result.range.start);
                return Err(Failure::WrongLength { got, wanted });
            }
            let bytes = self.within(patience.attempt_limit(wanted), async { Ok(body(result, wanted).await) });
            let bytes = bytes.await??;
            let received = bytes.len() as u64;
            Ok((bytes, received))
        })
        .await
    }

    /// The object's size in bytes, by HEAD.
    pub(super) async fn measure(
        &self,
        location: &Path,
        patience: &Patience<'_>,
        cause: Cause,
    ) -> Result<u64, Failure> {
        self.attempt(RequestKind::Get, cause, 0, async {
            let options = GetOptions { head: true, ..GetOptions::default() };
            let result =
                self.within(patience.attempt_limit(0), self.objects.get_opts(location, options)).await?;
            Ok((result.meta.size, 0))
        })
        .await
    }
}

/// The body, which must be `wanted` bytes long. Memory is taken as bytes arrive, not as announced.
async fn body(result: GetResult, wanted: u64) -> Result<Bytes, Failure> {
    if let GetResultPayload::File(..) = result.payload {
        // Read in one piece; the chunked stream of a file that shrinks meanwhile never ends.
        let bytes = result.bytes().await?;
        return match bytes.len() as u64 == wanted {
            true => Ok(bytes),
            false => Err(Failure::WrongLength { got: bytes.len() as u64, wanted }),
        };
    }
    let mut arriving = result.into_stream();
    let mut chunks: Vec<Bytes> = Vec::new();
    let mut got = 0u64;
    while let Some(chunk) = arriving.next().await {
        let chunk = chunk?;
        got += chunk.len() as u64;
        if got > wanted {
            break;
        }
        chunks.push(chunk);
    }
    // rustfs #4594, scylla #31730.
    if got > wanted || (got < wanted && !bug(Bug::ShortBodyAccepted)) {
        return Err(Failure::WrongLength { got, wanted });
    }
    if let [only] = &mut chunks[..] {
        return Ok(std::mem::take(only));
    }
    let mut whole = BytesMut::with_capacity(chunks.iter().map(Bytes::len).sum());
    for chunk in &chunks {
        whole.extend_from_slice(chunk);
    }
    Ok(whole.freeze())
}

/// Sorted pieces that cover every non-empty range.
fn coalesce(ranges: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut sorted: Vec<Range<u64>> =
        ranges.iter().filter(|range| range.start < range.end).cloned().collect();
    sorted.sort_unstable_by_key(|range| (range.start, range.end));
    let mut pieces: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match pieces.last_mut() {
            // Overlapping ranges always share a piece, so that each lies in one whole.
            Some(piece)
                if range.start < piece.end
                    || (range.start - piece.end <= COALESCE_GAP_BYTES
                        && range.end - piece.start <= COALESCED_BYTES) =>
            {
                piece.end = piece.end.max(range.end);
            }
            _ => pieces.push(range),
        }
    }
    pieces
}

fn missing(name: &Name, offset: u64) -> Error {
    Error::corruption(name.path(), offset, "an object that the database refers to cannot be read")
        .because(Missing)
        .hint("it was deleted from outside, or collected after this view of the database was loaded")
}
