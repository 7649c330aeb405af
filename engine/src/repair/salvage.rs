//! Rung 4: what can be read of a damaged SST is written into a new one; the rest becomes holes.
//!
//! ```text
//! blocks     0    1    2    3          block 1 is damaged
//! kept       ████      ████████        a new SST, in the place of the old
//! hole           (s0 … s1]             from behind the separator of block 0 to that of block 1
//! ```
//!
//! The versions of one key may go on from a damaged block into the next. Those behind it are older than what was
//! lost, so they are not kept: they would be found in front of the hole. Those before it are newer, and stay.
//!
//! Without an index (it is damaged, or the object has lost its end) the blocks are found one after the other
//! ([`walk`]). Then no separator says what a lost block may have held: its hole goes from the last key that was kept
//! to the first behind it, and both may have versions in it.
//!
//! Always true: what is kept and what is lost add up to what the SST held, by the conservation sum; every key that
//! may have been in a damaged block lies in a hole; an SST whose blocks all read and that still does not add up
//! is left alone.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use crate::{
    block::Block,
    clock::on_cpu,
    codec::sum::Sum,
    error::{ErrorKind, Result},
    key::{KEYSPACE_BYTES, Kind, Seq},
    manifest::{Edit, Manifest, View, salvage::Salvaged},
    repair::{Names, Rung, Work, claim_compactor, tree::Building},
    sst::{BlockRef, SstMeta, Tail, decode_block, hole::shown, index::Index, walk},
    stats::Cause,
    store::{Name, ObjectId, Store},
    verify::{Finding, Survey},
};

/// Bytes of an SST that are read at a time while its blocks are searched.
const WINDOW_BYTES: u64 = 1 << 20;

/// Salvages every damaged SST of `latest` in one edit.
pub(super) async fn salvage(
    work: &mut Work<'_>,
    manifest: &Manifest,
    latest: &Arc<View>,
    survey: &Survey,
    damaged: &BTreeMap<ObjectId, Finding>,
) -> Result<()> {
    let act = work.options.act;
    let (base, mut names) = if act {
        claim_compactor(manifest, latest, &work.options.name).await?
    } else {
        (Arc::clone(latest), Names::none())
    };
    let mut salvaged = Vec::new();
    for run in &base.runs {
        for sst in run.ssts.iter().filter(|sst| !sst.meta.is_hole()) {
            let Some(finding) = damaged.get(&sst.id) else { continue };
            let name = Name::Sst(sst.id);
            let mut saving = Saving::new(work.store, &base, &sst.meta, run.level, &mut names, act)?;
            saving.read(work.store, survey.stored_bytes(&name)).await?;
            let blocks = (saving.good, sst.meta.blocks);
            let Some(one) = saving.finish(work.store, &mut names, &finding.what).await? else {
                let what = format!(
                    "{name} cannot be salvaged: every block of it can be read, and they do not add up to what the manifest says"
                );
                work.tell(Rung::Told, Some(name), what, false);
                continue;
            };
            work.tell(Rung::Salvage, Some(name.clone()), sentence(&name, &sst.meta, &one, blocks, act), act);
            salvaged.push(one);
        }
    }
    if !act || salvaged.is_empty() {
        return Ok(());
    }
    let edit = Edit::Salvage { epoch: names.epoch, salvaged, counter_floor: names.counter };
    let view = manifest.commit(&base, &edit, Cause::Admin).await?;
    let what = format!("version {} has what was saved, and holes for the rest", view.id());
    work.tell(Rung::Salvage, Some(Name::Manifest(view.id())), what, true);
    Ok(())
}

fn sentence(name: &Name, lost: &SstMeta, one: &Salvaged, blocks: (u64, u64), act: bool) -> String {
    let kept: u64 = one.kept.iter().map(|sst| sst.entries).sum();
    let verb = if act { "kept" } else { "would keep" };
    let holes: Vec<String> = one
        .holes
        .iter()
        .map(|hole| format!("{} to {}", shown(&hole.first_key), shown(&hole.last_key)))
        .collect();
    let rest = if holes.is_empty() {
        "nothing is lost".to_owned()
    } else {
        format!("reads of keys {} will fail, and never say that nothing was there", holes.join(", "))
    };
    format!(
        "{verb} {kept} of {} entries of {name} ({} of {} blocks); {rest}",
        lost.entries, blocks.0, blocks.1
    )
}

/// One SST being salvaged.
struct Saving<'a> {
    lost: &'a SstMeta,
    building: Building,
    sum: Sum,
    entries: u64,
    /// Closed ranges of keys, ascending and disjoint.
    holes: Vec<(Bytes, Bytes)>,
    /// Blocks that could be read.
    good: u64,
    /// Behind a damaged block: the key whose older versions may follow.
    skip: Option<Bytes>,
    /// The entry kept last.
    last: Option<(Bytes, Seq)>,
}

impl<'a> Saving<'a> {
    fn new(
        store: &Store,
        base: &View,
        lost: &'a SstMeta,
        level: u32,
        names: &mut Names,
        act: bool,
    ) -> Result<Self> {
        let building = Building::new(store, names.next(store), &base.root.options, level, act)?;
        Ok(Self {
            lost,
            building,
            sum: Sum::default(),
            entries: 0,
            holes: Vec::new(),
            good: 0,
            skip: None,
            last: None,
        })
    }

    /// Reads all of it; `stored_bytes` are there.
    async fn read(&mut self, store: &Store, stored_bytes: u64) -> Result<()> {
        let Some(index) = index(store, self.lost).await? else {
            return self.walk(store, stored_bytes).await;
        };
        for at in 0..index.blocks() {
            let kept = match block(store, self.lost.object_id(), index.block(at)).await? {
                Some(block) if self.fits(Some((&index, at)), &block)? => {
                    self.keep(&block)?;
                    true
                }
                _ => false,
            };
            if kept {
                self.good += 1;
                self.building.send().await?;
            } else {
                self.lose(&index, at);
            }
        }
        Ok(())
    }

    /// Finds and keeps the blocks without an index.
    async fn walk(&mut self, store: &Store, stored_bytes: u64) -> Result<()> {
        let end = self.lost.tail_offset.min(stored_bytes);
        let starts = starts(store, self.lost, stored_bytes).await?;
        let mut window = Window::default();
        let (mut at, mut is_lost) = (0, false);
        while at < end {
            let mut behind = starts.iter().copied().filter(|start| *start > at);
            let next = behind.next();
            // A start that is wrong costs nothing: the one behind it bounds the search.
            let limit = behind.next().unwrap_or(u64::MAX).min(end) - at;
            let Some((bytes, block)) = find(store, self.lost.object_id(), &mut window, at, limit).await?
            else {
                is_lost = true;
                at = next.unwrap_or(end);
                continue;
            };
            at += bytes;
            if !self.fits(None, &block)? {
                is_lost = true;
                continue;
            }
            if std::mem::take(&mut is_lost) {
                let mut cursor = block.cursor();
                cursor.first()?;
                let first = Bytes::copy_from_slice(cursor.key());
                self.lose_until(first.clone());
                self.skip = Some(first);
            }
            self.keep(&block)?;
            self.good += 1;
            self.building.send().await?;
        }
        if is_lost || end < self.lost.tail_offset {
            self.lose_until(self.lost.last_key.clone());
        }
        Ok(())
    }

    /// Keeps the entries of a block that fits.
    fn keep(&mut self, block: &Block) -> Result<()> {
        let mut cursor = block.cursor();
        cursor.first()?;
        while cursor.is_valid() {
            let entry = cursor.entry();
            // Older versions of a key of which newer ones may be lost.
            if self.skip.as_ref().is_some_and(|key| entry.key == &key[..]) {
                cursor.next()?;
                continue;
            }
            self.skip = None;
            self.building.add(entry)?;
            self.sum.add_entry(entry);
            self.entries += 1;
            self.last = Some((Bytes::copy_from_slice(entry.key), entry.seq));
            cursor.next()?;
        }
        Ok(())
    }

    /// Whether the block follows what was kept, and is what the index says of it, where there is one.
    fn fits(&self, index: Option<(&Index, usize)>, block: &Block) -> Result<bool> {
        let low = index.and_then(|(index, at)| Some(index.separator(at.checked_sub(1)?)));
        let high = index.map(|(index, at)| index.separator(at));
        let mut last = self.last.as_ref().map(|(key, seq)| (key.to_vec(), *seq));
        let mut cursor = block.cursor();
        cursor.first()?;
        while cursor.is_valid() {
            let entry = cursor.entry();
            let ascends = last
                .as_ref()
                .is_none_or(|(key, seq)| entry.key > &key[..] || entry.key == &key[..] && entry.seq < *seq);
            let within = low.as_ref().is_none_or(|low| entry.key >= &low[..])
                && high.as_ref().is_none_or(|high| entry.key <= &high[..]);
            let known = entry.kind != Kind::RangeDelete && entry.key.len() >= KEYSPACE_BYTES;
            let of_sst = self.lost.first_key <= entry.key && entry.key <= &self.lost.last_key[..];
            if !ascends || !within || !known || !of_sst {
                return Ok(false);
            }
            last = Some((entry.key.to_vec(), entry.seq));
            cursor.next()?;
        }
        Ok(true)
    }

    /// Marks what block `at` may have held as lost.
    fn lose(&mut self, index: &Index, at: usize) {
        let first = match at.checked_sub(1) {
            None => self.lost.first_key.clone(),
            Some(before) if index.is_split(before) => index.separator(before).into(),
            Some(before) => successor(index.separator(before)),
        };
        let is_last = at + 1 == index.blocks();
        let last: Bytes = if is_last { self.lost.last_key.clone() } else { index.separator(at).into() };
        let first = first.max(self.lost.first_key.clone()).min(last.clone());
        let last = last.min(self.lost.last_key.clone());
        self.skip = index.is_split(at).then(|| last.clone());
        self.add_hole(first, last);
    }

    /// Marks everything from what was kept last to the key `last` as lost, both included.
    fn lose_until(&mut self, last: Bytes) {
        let first = self.last.as_ref().map_or_else(|| self.lost.first_key.clone(), |(key, _)| key.clone());
        self.add_hole(first, last);
    }

    fn add_hole(&mut self, first: Bytes, last: Bytes) {
        match self.holes.last_mut() {
            // Blocks that lie side by side make one hole; only skipped versions may be between two.
            Some((_, end)) if first <= successor(end.to_vec()) => *end = last,
            _ => self.holes.push((first, last)),
        }
    }

    /// What takes the place of the SST; `None` if nothing is lost and still something is wrong.
    async fn finish(self, store: &Store, names: &mut Names, why: &str) -> Result<Option<Salvaged>> {
        let mut sum = self.lost.sum();
        sum.remove(&self.sum);
        if self.holes.is_empty() && sum != Sum::default() {
            return Ok(None);
        }
        let kept: Vec<SstMeta> = self.building.finish().await?.into_iter().collect();
        let mut left = (self.lost.entries.saturating_sub(self.entries), sum);
        let holes = self
            .holes
            .into_iter()
            .map(|keys| {
                let (entries, sum) = std::mem::take(&mut left);
                SstMeta::hole(names.next(store), self.lost, keys, (entries, &sum), why)
            })
            .collect();
        Ok(Some(Salvaged { out: self.lost.object_id(), kept, holes }))
    }
}

/// Bytes of the object that are held while its blocks are searched.
#[derive(Default)]
struct Window {
    start: u64,
    bytes: Bytes,
}

impl Window {
    /// What it holds from byte `at` on.
    fn from(&self, at: u64) -> Bytes {
        let skipped = at.checked_sub(self.start).and_then(|skipped| usize::try_from(skipped).ok());
        skipped
            .filter(|skipped| *skipped < self.bytes.len())
            .map_or_else(Bytes::new, |s| self.bytes.slice(s..))
    }
}

/// The first full key behind `key`.
fn successor(key: Vec<u8>) -> Bytes {
    let mut next = key;
    next.push(0);
    next.resize(next.len().max(KEYSPACE_BYTES), 0);
    next.into()
}

/// What was read; `None` if it is damaged or missing.
fn no_damage<T>(read: Result<T>) -> Result<Option<T>> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::Corruption => Ok(None),
        Err(error) => Err(error),
    }
}

/// The index, if the footer and it can be read.
async fn index(store: &Store, meta: &SstMeta) -> Result<Option<Index>> {
    let name = Name::Sst(meta.object_id());
    let read = || async {
        let tail = store.get_range(&name, meta.tail_offset..meta.bytes, Cause::Admin).await?;
        let meta = meta.clone();
        on_cpu(move || Tail::decode_index(&meta, tail)).await?
    };
    no_damage(store.reread(&name, read).await)
}

/// The block, if it can be read and holds together.
async fn block(store: &Store, id: ObjectId, place: BlockRef) -> Result<Option<Block>> {
    let name = Name::Sst(id);
    let read = || async {
        let range = place.offset..place.offset + u64::from(place.bytes);
        let stored = store.get_range(&name, range, Cause::Admin).await?;
        on_cpu(move || {
            let block = decode_block(id, place, stored)?;
            block.validate()?;
            Ok(block)
        })
        .await?
    };
    no_damage(store.reread(&name, read).await)
}

/// Where blocks may start, by what is left of the index.
async fn starts(store: &Store, meta: &SstMeta, stored_bytes: u64) -> Result<Vec<u64>> {
    if stored_bytes < meta.bytes {
        return Ok(Vec::new());
    }
    let name = Name::Sst(meta.object_id());
    let tail = no_damage(store.get_range(&name, meta.tail_offset..meta.bytes, Cause::Admin).await)?;
    Ok(tail.map_or_else(Vec::new, |tail| walk::doubtful_ends(meta, &tail)))
}

/// The block that starts at `at` and has at most `limit` bytes, and how many it has.
async fn find(
    store: &Store,
    id: ObjectId,
    window: &mut Window,
    at: u64,
    limit: u64,
) -> Result<Option<(u64, Block)>> {
    let limit = limit.min(walk::MAX_STORED_BLOCK as u64);
    let mut read_twice = false;
    loop {
        let bytes = window.from(at);
        let held = bytes.len() as u64;
        let found = on_cpu(move || {
            let length = walk::find_end(id, at, &bytes)?;
            let place = BlockRef { offset: at, bytes: length as u32 };
            let block = decode_block(id, place, bytes.slice(..length)).ok()?;
            block.validate().ok()?;
            Some((length as u64, block))
        })
        .await?;
        if found.is_some() || read_twice {
            return Ok(found);
        }
        // What was wrong on the way is right now.
        read_twice = held >= limit;
        let more = if read_twice { limit } else { limit.min((2 * held).max(WINDOW_BYTES)) };
        let name = Name::Sst(id);
        let read = store.get_range(&name, at..at + more, Cause::Admin).await;
        let Some(bytes) = no_damage(read)? else { return Ok(None) };
        *window = Window { start: at, bytes };
    }
}
