//! What one version changed of the one before it: a flush or a merge, entry by entry.
//!
//! | what changed | must be |
//! |---|---|
//! | SSTs came, none went | a flush: exactly the numbers between the last number before and now, each once |
//! | SSTs went | a merge: what came was in what went; what is gone was hidden, or hid nothing |
//! | both or none | nothing of the writer's place moved with a merge |
//!
//! And whatever came or moved lies under newer and over older data, key by key.
//!
//! Always true: an entry that is gone is excused only by a newer entry of its key among what was merged, or by
//! being a delete (or one that expires) with nothing older of its key left anywhere.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use esker::{
    Result as Decoded,
    key::Kind,
    manifest::Root,
    sst::{SstMeta, Tail, decode_block, verify_object},
    store::ObjectId,
};

use super::failure::Failure;

/// Rules of changes.
pub(crate) mod rules {
    pub(crate) const FLUSH: &str = "a flush brings exactly the writes that follow on those in SSTs";
    pub(crate) const PLACE: &str = "a merge moves no writer's place";
    pub(crate) const INVENTED: &str = "a merge brings only entries that it took";
    pub(crate) const LOST: &str = "a merge drops only what is hidden, or hides nothing";
    pub(crate) const DEPTH: &str = "of one key, what lies higher is newer";
}

/// The entries of an SST.
#[derive(Debug)]
pub(crate) struct Contents {
    /// What the version that brought it says of it.
    pub(crate) meta: SstMeta,
    /// By key, then newest first.
    entries: Vec<Held>,
}

/// An entry, without its value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    key: Bytes,
    seq: u64,
    kind: Kind,
    expires: bool,
}

impl Contents {
    /// Checks the object whole, and lists what is in it.
    pub(crate) fn of(meta: &SstMeta, object: &Bytes) -> Decoded<Self> {
        verify_object(meta, object)?;
        let tail = Tail::decode(meta, object.slice(meta.tail_offset as usize..))?;
        let mut entries = Vec::with_capacity(meta.entries as usize);
        for place in tail.places() {
            let from = place.offset as usize;
            let block =
                decode_block(meta.object_id(), place, object.slice(from..from + place.bytes as usize))?;
            let mut cursor = block.cursor();
            cursor.first()?;
            while cursor.is_valid() {
                let key = Bytes::copy_from_slice(cursor.key());
                let expires = cursor.expire_at_ms() != esker::key::NEVER;
                entries.push(Held { key, seq: cursor.seq(), kind: cursor.kind(), expires });
                cursor.next()?;
            }
        }
        Ok(Self { meta: meta.clone(), entries })
    }

    /// The least and greatest number of `key`.
    fn span(&self, key: &Bytes) -> Option<(u64, u64)> {
        let from = self.entries.partition_point(|entry| entry.key < *key);
        let of_key = self.entries[from..].iter().take_while(|entry| entry.key == *key);
        of_key.fold(None, |span, entry| {
            let (least, most) = span.unwrap_or((entry.seq, entry.seq));
            Some((least.min(entry.seq), most.max(entry.seq)))
        })
    }
}

/// Judges what `next` changed of `base`. `contents` has every SST of both.
pub(crate) fn check(
    base: &Root,
    next: &Root,
    contents: &BTreeMap<ObjectId, Contents>,
) -> Result<(), Failure> {
    let places = |root: &Root| -> BTreeMap<ObjectId, u64> {
        let of_run = |run: &'_ esker::manifest::Run| {
            run.ssts.iter().map(|meta| (meta.object_id(), run.id)).collect::<Vec<_>>()
        };
        root.runs.iter().flat_map(of_run).collect()
    };
    let (old, new) = (places(base), places(next));
    let came: Vec<ObjectId> = new.keys().filter(|id| !old.contains_key(id)).copied().collect();
    let gone: Vec<ObjectId> = old.keys().filter(|id| !new.contains_key(id)).copied().collect();
    if gone.is_empty() {
        check_flush(base, next, &came, contents)?;
    } else {
        check_merge(base, next, &gone, &came, contents)?;
    }
    let moved = new.iter().filter(|(id, run)| old.get(id) != Some(run)).map(|(id, _)| *id).collect();
    check_depth(next, &moved, contents)
}

fn entries<'a>(
    ids: &'a [ObjectId],
    contents: &'a BTreeMap<ObjectId, Contents>,
) -> impl Iterator<Item = &'a Held> {
    ids.iter().filter_map(|id| contents.get(id)).flat_map(|contents| &contents.entries)
}

fn check_flush(
    base: &Root,
    next: &Root,
    came: &[ObjectId],
    contents: &BTreeMap<ObjectId, Contents>,
) -> Result<(), Failure> {
    let mut numbers: Vec<u64> = entries(came, contents).map(|entry| entry.seq).collect();
    numbers.sort_unstable();
    let due = base.writer.last_seq + 1..=next.writer.last_seq;
    if numbers.iter().copied().eq(due.clone()) {
        return Ok(());
    }
    let missing = due.clone().find(|seq| numbers.binary_search(seq).is_err());
    let what = match missing {
        Some(missing) => format!("{missing} is missing"),
        None => format!("it has {} entries", numbers.len()),
    };
    let detail = format!(
        "version {} moves the last number from {} to {}, and {what}",
        next.id,
        base.writer.last_seq,
        due.end()
    );
    Err(Failure::new(rules::FLUSH, detail))
}

fn check_merge(
    base: &Root,
    next: &Root,
    gone: &[ObjectId],
    came: &[ObjectId],
    contents: &BTreeMap<ObjectId, Contents>,
) -> Result<(), Failure> {
    if base.writer != next.writer {
        return Err(Failure::new(rules::PLACE, format!("version {} did", next.id)));
    }
    let taken: BTreeSet<&Held> = entries(gone, contents).collect();
    let kept: BTreeSet<&Held> = entries(came, contents).collect();
    if let Some(invented) = kept.difference(&taken).next() {
        let detail = format!("version {} brings {}, which no input has", next.id, Shown(invented));
        return Err(Failure::new(rules::INVENTED, detail));
    }
    let came: BTreeSet<ObjectId> = came.iter().copied().collect();
    for lost in taken.difference(&kept) {
        // Entries are in the order of keys, then numbers.
        let above = Held { seq: lost.seq + 1, kind: Kind::Delete, expires: false, ..(*lost).clone() };
        let is_hidden = taken.range::<Held, _>(&above..).next().is_some_and(|entry| entry.key == lost.key);
        if is_hidden {
            continue;
        }
        let hides = next.ssts().map(SstMeta::object_id).filter(|id| !came.contains(id)).find(|id| {
            let span = contents.get(id).and_then(|contents| contents.span(&lost.key));
            span.is_some_and(|(least, _)| least < lost.seq)
        });
        let is_nothing = lost.kind == Kind::Delete || lost.expires;
        if !is_nothing || hides.is_some() {
            let why = match hides {
                Some(hidden) if is_nothing => format!("it hid what {hidden} has"),
                _ => "nothing newer was merged with it".to_owned(),
            };
            let detail = format!("version {} has lost {}: {why}", next.id, Shown(lost));
            return Err(Failure::new(rules::LOST, detail));
        }
    }
    Ok(())
}

/// Every key of the SSTs in `moved` is newer than below and older than above.
fn check_depth(
    next: &Root,
    moved: &BTreeSet<ObjectId>,
    contents: &BTreeMap<ObjectId, Contents>,
) -> Result<(), Failure> {
    for (depth, run) in next.runs.iter().enumerate() {
        for id in run.ssts.iter().map(SstMeta::object_id).filter(|id| moved.contains(id)) {
            let Some(own) = contents.get(&id) else { continue };
            for (other_depth, other) in next.runs.iter().enumerate().filter(|(at, _)| *at != depth) {
                for beside in &other.ssts {
                    if beside.last_key < own.meta.first_key || own.meta.last_key < beside.first_key {
                        continue;
                    }
                    let Some(beside) = contents.get(&beside.object_id()) else { continue };
                    let (upper, lower) = if depth < other_depth { (own, beside) } else { (beside, own) };
                    check_pair(next, upper, lower)?;
                }
            }
        }
    }
    Ok(())
}

fn check_pair(next: &Root, upper: &Contents, lower: &Contents) -> Result<(), Failure> {
    let mut lower_entries = lower.entries.iter().peekable();
    for entry in &upper.entries {
        while lower_entries.next_if(|below| below.key < entry.key).is_some() {}
        if let Some(below) = lower_entries.peek()
            && below.key == entry.key
            && below.seq >= entry.seq
        {
            let (above, under) = (upper.meta.object_id(), lower.meta.object_id());
            let detail = format!(
                "in version {} {} in {above} lies over {} in {under}",
                next.id,
                Shown(entry),
                Shown(below)
            );
            return Err(Failure::new(rules::DEPTH, detail));
        }
    }
    Ok(())
}

/// An entry in a sentence.
struct Shown<'a>(&'a Held);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let user_key = self.0.key.get(esker::key::KEYSPACE_BYTES..).unwrap_or_default();
        write!(f, "the {} {} of {}", self.0.kind.name(), self.0.seq, user_key.escape_ascii())
    }
}
