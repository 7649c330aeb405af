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
    sst::{BlockRef, SstMeta, Tail, decode_block, hole::shown, index::Index},
    stats::Cause,
    store::{Name, ObjectId, Store},
    verify::Finding,
};

/// Salvages every damaged SST of `latest` in one edit.
pub(super) async fn salvage(
    work: &mut Work<'_>,
    manifest: &Manifest,
    latest: &Arc<View>,
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
            saving.read(work.store).await?;
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

    async fn read(&mut self, store: &Store) -> Result<()> {
        let Some(index) = self.index(store).await? else {
            self.holes = vec![(self.lost.first_key.clone(), self.lost.last_key.clone())];
            return Ok(());
        };
        for at in 0..index.blocks() {
            let kept = match self.block(store, index.block(at)).await? {
                Some(block) => self.keep(&index, at, &block)?,
                None => false,
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

    /// The index, if the footer and it can be read.
    async fn index(&self, store: &Store) -> Result<Option<Index>> {
        let meta = self.lost;
        let name = Name::Sst(meta.object_id());
        let read = || async {
            let tail = store.get_range(&name, meta.tail_offset..meta.bytes, Cause::Admin).await?;
            let meta = meta.clone();
            on_cpu(move || Tail::decode_index(&meta, tail)).await?
        };
        no_damage(store.reread(&name, read).await)
    }

    /// The block, if it can be read and holds together.
    async fn block(&self, store: &Store, place: BlockRef) -> Result<Option<Block>> {
        let id = self.lost.object_id();
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

    /// Keeps the entries of block `at`; false if they are not what the index says, and then nothing of it.
    fn keep(&mut self, index: &Index, at: usize, block: &Block) -> Result<bool> {
        if !self.fits(index, at, block)? {
            return Ok(false);
        }
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
        Ok(true)
    }

    fn fits(&self, index: &Index, at: usize, block: &Block) -> Result<bool> {
        let (low, high) = (at.checked_sub(1).map(|before| index.separator(before)), index.separator(at));
        let mut last = self.last.as_ref().map(|(key, seq)| (key.to_vec(), *seq));
        let mut cursor = block.cursor();
        cursor.first()?;
        while cursor.is_valid() {
            let entry = cursor.entry();
            let ascends = last
                .as_ref()
                .is_none_or(|(key, seq)| entry.key > &key[..] || entry.key == &key[..] && entry.seq < *seq);
            let within = low.as_ref().is_none_or(|low| entry.key >= &low[..]) && entry.key <= &high[..];
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
