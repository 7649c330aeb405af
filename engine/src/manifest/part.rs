//! Parts: stretches of long runs, in immutable objects of their own.
//!
//! ```text
//! part/…:  0  magic "eskerPRT"       8
//!          8  format version       u32
//!         12  SSTs                 u32
//!         16  body bytes           u64
//!         24  body                        a PartBody, protobuf
//!          …  XXH3-64 of everything before  u64   seeded with the object's id
//! ```
//!
//! A root may carry [`INLINE_BYTES`] of SST entries itself. Beyond that the runs with the most entries
//! go into parts, like the leaves of a B-tree: a stretch is cut evenly, a small one absorbs a
//! neighbour, and a part whose SSTs are still side by side in the new version is named again, not
//! written again. So a commit on 100,000 SSTs writes a root under 64 KiB and the one or two parts
//! that changed. Parts grow with the database, so that there are never more than some hundreds.
//!
//! Always true: a root names a part only after it has been written; [`complete`] puts back exactly
//! what [`pack`] took out.

use std::{collections::HashMap, ops::Range};

use bytes::{BufMut, Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use prost::Message;

use crate::{
    codec::{
        frame::checksum,
        varint::{BadInput, Input},
    },
    error::{Error, ErrorKind, Result},
    manifest::{Root, Run, codec, wire},
    sst::SstMeta,
    stats::Cause,
    store::{Folder, Missing, Name, ObjectId, Store},
};

/// The bytes of SST entries that a root carries itself before the longest runs go into parts.
pub const INLINE_BYTES: usize = 32 << 10;
/// The least bytes of entries that a part is meant to have.
pub const PART_BYTES: usize = 128 << 10;
/// The most bytes of a part's body.
pub const MAX_BODY_BYTES: u64 = 64 << 20;
/// The most bytes of a part.
pub const MAX_OBJECT_BYTES: u64 = MAX_BODY_BYTES + (HEADER_BYTES + CHECKSUM_BYTES) as u64;
const _: () = assert!(MAX_OBJECT_BYTES < Folder::Part.most_object_bytes());

const MAGIC: &[u8; 8] = b"eskerPRT";
const FORMAT_VERSION: u32 = 1;
const HEADER_BYTES: usize = 24;
const CHECKSUM_BYTES: usize = 8;
/// How many parts a very large database is meant to have.
const MANY_PARTS: usize = 200;
const PARALLEL_GETS: usize = 16;

/// Names a part, and where its SSTs belong in the run.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct PartRef {
    /// The part's object id.
    #[prost(bytes = "bytes", tag = "1")]
    pub id: Bytes,
    /// The bytes of the object.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
    /// How many SSTs it holds.
    #[prost(uint32, tag = "3")]
    pub ssts: u32,
    /// XXH3-128 of the object (16 bytes, little-endian).
    #[prost(bytes = "bytes", tag = "4")]
    pub hash: Bytes,
    /// The place of its first SST in the complete run.
    #[prost(uint32, tag = "5")]
    pub at: u32,
}

/// A root ready to be stored, and the new parts it names.
#[derive(Debug)]
pub struct Packed {
    /// The stored form.
    pub root: Root,
    /// To be written before the root is.
    pub parts: Vec<(ObjectId, Bytes)>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PartBody {
    #[prost(message, repeated, tag = "1")]
    ssts: Vec<SstMeta>,
}

impl PartRef {
    /// The part's object id; `None` if it is malformed.
    pub fn object_id(&self) -> Option<ObjectId> {
        ObjectId::from_bytes(&self.id)
    }
    fn range(&self) -> Range<usize> {
        self.at as usize..self.at as usize + self.ssts as usize
    }
}

/// Moves long stretches of `next` (complete) into parts, keeping those of `base` (complete) that still
/// fit. Sets `next.runs[…].parts`; gives the stored form and the parts to write, named by `new_id`.
pub fn pack(base: &Root, next: &mut Root, mut new_id: impl FnMut() -> ObjectId) -> Packed {
    let known: HashMap<&[u8], (&PartRef, &[SstMeta])> =
        parts_of(base).filter_map(|(part, ssts)| Some((&ssts.first()?.id[..], (part, ssts)))).collect();
    let mut plans: Vec<Vec<Piece>> = next.runs.iter().map(|run| keep(run, &known)).collect();
    let loose: Vec<usize> = next.runs.iter().zip(&plans).map(|(run, plan)| loose_bytes(run, plan)).collect();
    let mut inline: usize = loose.iter().sum();
    if inline > INLINE_BYTES {
        let total = inline + parts_of(base).map(|(part, _)| part.bytes as usize).sum::<usize>();
        let target = PART_BYTES.max(total / MANY_PARTS).min(MAX_BODY_BYTES as usize / 4);
        let mut order: Vec<usize> = (0..plans.len()).collect();
        order.sort_by_key(|run| std::cmp::Reverse(loose[*run]));
        // Down to half, so that not every commit has to write a part.
        for run in order.into_iter().take_while(|run| loose[*run] > 0) {
            if inline <= INLINE_BYTES / 2 {
                break;
            }
            inline -= loose[run];
            plans[run] = cut(&next.runs[run], std::mem::take(&mut plans[run]), target);
        }
    }
    let mut parts = Vec::new();
    let mut stored_runs = Vec::with_capacity(next.runs.len());
    for (run, plan) in next.runs.iter_mut().zip(plans) {
        let mut stored = Run { id: run.id, level: run.level, ..Run::default() };
        for piece in plan {
            match piece {
                Piece::Kept(part) => stored.parts.push(part),
                Piece::Loose(range) => stored.ssts.extend_from_slice(&run.ssts[range]),
                Piece::New(range) => {
                    let id = new_id();
                    let body = encode(id, &run.ssts[range.clone()]);
                    stored.parts.push(PartRef {
                        id: id.to_bytes().into(),
                        bytes: body.len() as u64,
                        ssts: range.len() as u32,
                        hash: Bytes::copy_from_slice(&codec::object_hash(&body).to_le_bytes()),
                        at: range.start as u32,
                    });
                    parts.push((id, body));
                }
            }
        }
        run.parts.clone_from(&stored.parts);
        stored_runs.push(stored);
    }
    let runs = std::mem::replace(&mut next.runs, stored_runs);
    let root = next.clone();
    next.runs = runs;
    Packed { root, parts }
}

/// The stored form of a complete `root`: without the stretches that its parts cover.
pub fn stored(root: &Root) -> Root {
    let mut stored = Root { runs: Vec::with_capacity(root.runs.len()), ..root.clone() };
    for run in &root.runs {
        let mut kept = Run { id: run.id, level: run.level, parts: run.parts.clone(), ..Run::default() };
        let mut from = 0;
        for part in &run.parts {
            kept.ssts.extend_from_slice(run.ssts.get(from..part.range().start).unwrap_or_default());
            from = part.range().end;
        }
        kept.ssts.extend_from_slice(run.ssts.get(from..).unwrap_or_default());
        stored.runs.push(kept);
    }
    stored
}

/// Makes a stored `root` complete: takes the parts that `previous` (complete) has, and fetches the others.
///
/// Fails with `Corruption` if a part is missing or damaged, naming it.
pub async fn complete(store: &Store, mut root: Root, previous: Option<&Root>, cause: Cause) -> Result<Root> {
    let known: HashMap<&[u8], &[SstMeta]> =
        previous.into_iter().flat_map(parts_of).map(|(part, ssts)| (&part.id[..], ssts)).collect();
    let missing: Vec<PartRef> = root
        .runs
        .iter()
        .flat_map(|run| &run.parts)
        .filter(|part| !known.contains_key(&part.id[..]))
        .cloned()
        .collect();
    let fetches: Vec<_> = missing.into_iter().map(|part| fetch(store.clone(), part, cause)).collect();
    let mut fetched =
        stream::iter(fetches).buffered(PARALLEL_GETS).try_collect::<Vec<_>>().await?.into_iter();
    for run in &mut root.runs {
        let mut inline = std::mem::take(&mut run.ssts).into_iter();
        for part in &run.parts {
            let misplaced = || {
                let what =
                    format!("a part of run {} is said to begin at {}, where it cannot", run.id, part.at);
                Error::corruption(Name::Manifest(root.id).path(), 0, what)
            };
            let before = (part.at as usize).checked_sub(run.ssts.len()).ok_or_else(misplaced)?;
            if before > inline.len() {
                return Err(misplaced());
            }
            run.ssts.extend(inline.by_ref().take(before));
            match known.get(&part.id[..]) {
                Some(ssts) => run.ssts.extend_from_slice(ssts),
                None => run.ssts.extend(fetched.next().unwrap_or_default()),
            }
        }
        run.ssts.extend(inline);
    }
    Ok(root)
}

/// The part object `id` that holds `ssts`.
pub fn encode(id: ObjectId, ssts: &[SstMeta]) -> Bytes {
    let body = PartBody { ssts: ssts.to_vec() };
    let body_bytes = body.encoded_len();
    let mut out = BytesMut::with_capacity(HEADER_BYTES + body_bytes + CHECKSUM_BYTES);
    out.put_slice(MAGIC);
    out.put_u32_le(FORMAT_VERSION);
    out.put_u32_le(ssts.len() as u32);
    out.put_u64_le(body_bytes as u64);
    body.encode_raw(&mut out);
    out.put_u64_le(checksum(id.seed(), &out));
    out.freeze()
}

/// Checks and decodes the part object `id`.
pub fn decode(id: ObjectId, bytes: &Bytes) -> Result<Vec<SstMeta>> {
    let name = Name::Part(id).path();
    let corrupt = |offset: u64, what: &str| Error::corruption(name.as_str(), offset, what);
    let bad = |bad: BadInput| bad.of(name.as_str(), 0);
    let mut input = Input::new(bytes);
    if input.array::<8>().map_err(bad)? != *MAGIC {
        return Err(corrupt(0, "this is not a part of a manifest"));
    }
    let version = input.u32().map_err(bad)?;
    let ssts = input.u32().map_err(bad)?;
    let body_bytes = input.u64().map_err(bad)?;
    let whole = body_bytes.checked_add((HEADER_BYTES + CHECKSUM_BYTES) as u64);
    if body_bytes > MAX_BODY_BYTES || whole != Some(bytes.len() as u64) {
        return Err(corrupt(16, "the length of the body does not fit the object"));
    }
    let sealed = &bytes[..bytes.len() - CHECKSUM_BYTES];
    if checksum(id.seed(), sealed).to_le_bytes() != bytes[sealed.len()..] {
        return Err(corrupt(sealed.len() as u64, "the checksum does not match"));
    }
    if version != FORMAT_VERSION {
        let what = format!(
            "this part was written by a newer esker: format {version}, and {FORMAT_VERSION} is known"
        );
        return Err(Error::unsupported(what).at(name, 8).hint("open this database with a newer esker"));
    }
    let body = bytes.slice(HEADER_BYTES..sealed.len());
    let body: PartBody = wire::decode(body, &wire::PART, &name, HEADER_BYTES as u64)?;
    if body.ssts.len() != ssts as usize {
        return Err(corrupt(12, "the body does not hold as many SSTs as the header says"));
    }
    body.ssts.iter().try_for_each(codec::check_sst).map_err(|what| corrupt(HEADER_BYTES as u64, &what))?;
    Ok(body.ssts)
}

async fn fetch(store: Store, part: PartRef, cause: Cause) -> Result<Vec<SstMeta>> {
    let id = part
        .object_id()
        .ok_or_else(|| Error::new(ErrorKind::Corruption, "the manifest names a part by a malformed id"))?;
    let name = Name::Part(id);
    let read = || async {
        let Some(bytes) = store.get(&name, cause).await? else { return Ok(None) };
        if codec::object_hash(&bytes).to_le_bytes() != part.hash[..] {
            return Err(Error::corruption(name.path(), 0, "a part is not the one that the manifest names"));
        }
        let ssts = decode(id, &bytes)?;
        if ssts.len() != part.ssts as usize {
            let what = "a part does not hold as many SSTs as the manifest says";
            return Err(Error::corruption(name.path(), 12, what));
        }
        Ok(Some(ssts))
    };
    let ssts = store.reread(&name, read).await?;
    ssts.ok_or_else(|| {
        Error::corruption(name.path(), 0, "a part of the manifest is missing").because(Missing)
    })
}

/// What becomes of a stretch of a run.
#[derive(Debug)]
enum Piece {
    /// It stays in a part that exists.
    Kept(PartRef),
    /// It stays in the root.
    Loose(Range<usize>),
    /// It goes into a new part.
    New(Range<usize>),
}

/// The parts of a complete root, each with its SSTs.
fn parts_of(root: &Root) -> impl Iterator<Item = (&PartRef, &[SstMeta])> {
    root.runs
        .iter()
        .flat_map(|run| run.parts.iter().filter_map(|part| Some((part, run.ssts.get(part.range())?))))
}

/// The run as known parts and what lies between them.
fn keep(run: &Run, known: &HashMap<&[u8], (&PartRef, &[SstMeta])>) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let (mut at, mut loose_from) = (0, 0);
    while at < run.ssts.len() {
        let same = |ssts: &[SstMeta]| {
            let here = run.ssts[at..].get(..ssts.len());
            here.is_some_and(|here| here.iter().zip(ssts).all(|(a, b)| a.id == b.id))
        };
        match known.get(&run.ssts[at].id[..]) {
            Some((part, ssts)) if same(ssts) => {
                if loose_from < at {
                    pieces.push(Piece::Loose(loose_from..at));
                }
                pieces.push(Piece::Kept(PartRef { at: at as u32, ..(*part).clone() }));
                at += ssts.len();
                loose_from = at;
            }
            _ => at += 1,
        }
    }
    if loose_from < at {
        pieces.push(Piece::Loose(loose_from..at));
    }
    pieces
}

/// Cuts the loose stretches into new parts of about `target` bytes; a stretch under half of that takes
/// a neighbour in, so that parts do not crumble as compactions bite pieces out of them.
fn cut(run: &Run, plan: Vec<Piece>, target: usize) -> Vec<Piece> {
    let mut stretches: Vec<Piece> = Vec::new();
    let mut plan = plan.into_iter().peekable();
    while let Some(piece) = plan.next() {
        let Piece::Loose(mut range) = piece else {
            stretches.push(piece);
            continue;
        };
        if entry_bytes(&run.ssts[range.clone()]) < target / 2 {
            if let Some(Piece::Kept(before)) = stretches.last() {
                range.start = before.range().start;
                stretches.pop();
            } else if let Some(Piece::Kept(after)) = plan.peek() {
                range.end = after.range().end;
                plan.next();
                // What was loose behind the neighbour now touches.
                if let Some(Piece::Loose(behind)) = plan.next_if(|next| matches!(next, Piece::Loose(_))) {
                    range.end = behind.end;
                }
            }
        }
        let bytes = entry_bytes(&run.ssts[range.clone()]);
        let pieces = (bytes / target).max(1);
        let (mut start, mut taken) = (range.start, 0);
        for at in range.clone() {
            taken += entry_bytes(&run.ssts[at..=at]);
            if taken >= bytes / pieces && at + 1 < range.end {
                stretches.push(Piece::New(start..at + 1));
                (start, taken) = (at + 1, 0);
            }
        }
        stretches.push(Piece::New(start..range.end));
    }
    stretches
}

fn loose_bytes(run: &Run, plan: &[Piece]) -> usize {
    let bytes_of = |piece: &Piece| match piece {
        Piece::Loose(range) => entry_bytes(&run.ssts[range.clone()]),
        Piece::Kept(_) | Piece::New(_) => 0,
    };
    plan.iter().map(bytes_of).sum()
}

/// The bytes of these entries inside a message.
fn entry_bytes(ssts: &[SstMeta]) -> usize {
    ssts.iter().map(|sst| 4 + sst.encoded_len()).sum()
}
