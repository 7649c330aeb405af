//! Rung 2 for what a salvage has given up: a copy that still has the SST fills its holes.
//!
//! ```text
//! level 1   [ a  S' c ]        S was lost, and S' saved of it
//!           [    H    ]   +   S from a copy   ─▶   [ F ]   the entries of S that lie in H, and were not saved
//! ```
//!
//! A hole begins at a key of which newer versions may have been saved. How many is told by the conservation sum of
//! what was lost: what is put in adds up to it, or nothing is.
//!
//! Always true: what fills the holes of an SST is, to the entry, what was lost of it; the copy's SST was read whole,
//! and its name is given out once.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    block::Block,
    clock::on_cpu,
    codec::sum::Sum,
    error::{ErrorKind, Result},
    key::EntryRef,
    manifest::{Edit, Identity, Manifest, View, salvage::Salvaged},
    repair::{Names, Rung, Work, claim_compactor, copy::known_ssts, tree::Building},
    sst::{SstMeta, Tail, decode_block, index::Index},
    stats::Cause,
    store::{Name, ObjectId, Store},
    verify::{Pace, Report, Severity, sst},
};

/// How many ways to share the versions of the first keys of holes are tried.
const MAX_TRIES: usize = 4096;

/// The holes of one lost SST, ascending; they are in runs of this level.
#[derive(Debug, Default)]
struct Lost {
    level: u32,
    holes: Vec<SstMeta>,
}

/// Fills what holes `report` tells of and `from` has the SSTs for.
pub(super) async fn holes(work: &mut Work<'_>, from: &Store, report: &Report) -> Result<()> {
    if report.findings.iter().all(|finding| finding.severity != Severity::Hole) {
        return Ok(());
    }
    let manifest = Manifest::open(work.store.clone()).await?;
    let latest = match manifest.latest(Cause::Admin).await {
        Ok(latest) => latest,
        // First things first.
        Err(error) if error.kind() == ErrorKind::Corruption => return Ok(()),
        Err(error) => return Err(error),
    };
    if Identity::load(from).await.ok().flatten().as_ref() != Some(manifest.identity()) {
        return Ok(());
    }
    let theirs = known_ssts(from).await?;
    let mut ready = Vec::new();
    for (id, lost) in lost(&latest) {
        match had(from, id, &lost, &theirs).await? {
            Ok(fill) => ready.push((id, fill)),
            Err(why) => {
                let name = Name::Sst(id);
                let what = format!("the holes of {name} cannot be filled from {}: {why}", from.url());
                work.tell(Rung::Told, Some(name), what, false);
            }
        }
    }
    if ready.is_empty() {
        return Ok(());
    }
    let act = work.options.act;
    let (base, mut names) = if act {
        claim_compactor(&manifest, &latest, &work.options.name).await?
    } else {
        (Arc::clone(&latest), Names::none())
    };
    let mut salvaged = Vec::new();
    let mut of_base = lost(&base);
    for (id, fill) in ready {
        let Some(lost) = of_base.remove(&id) else { continue };
        let filled = fill.build(work.store, from, &base, &lost, &mut names, act).await?;
        let entries: u64 = filled.iter().flat_map(|one| &one.kept).map(|sst| sst.entries).sum();
        let verb = if act { "put back" } else { "would put back" };
        let name = Name::Sst(id);
        let what = format!("{verb} {entries} entries of {name} from {}, where holes were", from.url());
        work.tell(Rung::Copy, Some(name), what, act);
        salvaged.extend(filled);
    }
    if act && !salvaged.is_empty() {
        let edit = Edit::Salvage { epoch: names.epoch, salvaged, counter_floor: names.counter };
        let view = manifest.commit(&base, &edit, Cause::Admin).await?;
        let what = format!("version {} has them", view.id());
        work.tell(Rung::Copy, Some(Name::Manifest(view.id())), what, true);
    }
    Ok(())
}

fn lost(view: &View) -> BTreeMap<ObjectId, Lost> {
    let mut all: BTreeMap<ObjectId, Lost> = BTreeMap::new();
    for run in &view.root.runs {
        for hole in run.ssts.iter().filter(|sst| sst.is_hole()) {
            let lost = all.entry(hole.lost_id()).or_default();
            lost.level = run.level;
            lost.holes.push(hole.clone());
        }
    }
    for lost in all.values_mut() {
        lost.holes.sort_by(|a, b| a.first_key.cmp(&b.first_key));
    }
    all
}

/// What of an SST goes into its holes.
#[derive(Debug)]
struct Fill {
    meta: SstMeta,
    /// For each hole, how many versions of its first key were saved.
    saved: Vec<usize>,
}

/// How the copy's SST fills the holes, or why it does not.
async fn had(
    from: &Store,
    id: ObjectId,
    lost: &Lost,
    theirs: &[SstMeta],
) -> Result<std::result::Result<Fill, String>> {
    let Some(meta) = theirs.iter().find(|meta| meta.object_id() == id && !meta.is_hole()) else {
        return Ok(Err("no version there names it any more".to_owned()));
    };
    let findings = sst::check(from, meta, &Pace::new(from.clock().clone(), None)).await?;
    if let Some(finding) = findings.into_iter().find(|finding| finding.severity == Severity::Damage) {
        return Ok(Err(finding.what));
    }
    // Of each hole: the sums of the versions of its first key, newest first; and of everything else.
    let mut firsts: Vec<Vec<Sum>> = vec![Vec::new(); lost.holes.len()];
    let mut rest = Sum::default();
    let mut within = Within::open(from, meta, &lost.holes).await?;
    while let Some(block) = within.next_block().await? {
        within.each_entry(&block, |hole, entry| {
            let mut sum = Sum::default();
            sum.add_entry(entry);
            if entry.key == lost.holes[hole].first_key {
                firsts[hole].push(sum);
            } else {
                rest.add(&sum);
            }
            Ok(())
        })?;
    }
    let mut wanted = Sum::default();
    lost.holes.iter().for_each(|hole| wanted.add(&hole.sum()));
    wanted.remove(&rest);
    let mut tries = MAX_TRIES;
    Ok(match shared(&firsts, &wanted, &mut tries) {
        Some(saved) => Ok(Fill { meta: meta.clone(), saved }),
        None => Err("what it has of these keys does not add up to what was lost".to_owned()),
    })
}

/// How many of the newest versions to leave out of each of `firsts`, so that the others add up to `wanted`.
fn shared(firsts: &[Vec<Sum>], wanted: &Sum, tries: &mut usize) -> Option<Vec<usize>> {
    let Some((first, others)) = firsts.split_first() else {
        return (*wanted == Sum::default()).then(Vec::new);
    };
    for saved in 0..=first.len() {
        *tries = tries.checked_sub(1)?;
        let mut left = *wanted;
        first[saved..].iter().for_each(|sum| left.remove(sum));
        if let Some(mut found) = shared(others, &left, tries) {
            found.insert(0, saved);
            return Some(found);
        }
    }
    None
}

impl Fill {
    /// The SSTs that take the places of the holes, in one pass over the copy's.
    async fn build(
        &self,
        store: &Store,
        from: &Store,
        base: &View,
        lost: &Lost,
        names: &mut Names,
        act: bool,
    ) -> Result<Vec<Salvaged>> {
        let empty = |hole: &SstMeta| Salvaged { out: hole.object_id(), kept: Vec::new(), holes: Vec::new() };
        let mut filled: Vec<Salvaged> = lost.holes.iter().map(empty).collect();
        // What is being built: the hole being filled last, and those before it that end in the same block.
        let mut building: Vec<(usize, Building)> = Vec::new();
        let mut skipped = vec![0; lost.holes.len()];
        let mut within = Within::open(from, &self.meta, &lost.holes).await?;
        while let Some(block) = within.next_block().await? {
            within.each_entry(&block, |hole, entry| {
                if entry.key == lost.holes[hole].first_key && skipped[hole] < self.saved[hole] {
                    skipped[hole] += 1;
                    return Ok(());
                }
                if building.last().is_none_or(|(of, _)| *of != hole) {
                    let id = names.next(store);
                    building.push((hole, Building::new(store, id, &base.root.options, lost.level, act)?));
                }
                building.last_mut().map_or(Ok(()), |(_, building)| building.add(entry))
            })?;
            let full = building.len().saturating_sub(1);
            for (hole, full) in building.drain(..full) {
                filled[hole].kept.extend(full.finish().await?);
            }
            if let Some((_, building)) = building.last_mut() {
                building.send().await?;
            }
        }
        for (hole, full) in building {
            filled[hole].kept.extend(full.finish().await?);
        }
        Ok(filled)
    }
}

/// What of an SST lies in holes, which ascend and do not overlap: its blocks in order, without those that lie in none.
struct Within<'a> {
    from: &'a Store,
    id: ObjectId,
    index: Index,
    /// The next block.
    at: usize,
    holes: &'a [SstMeta],
    /// The first hole that does not lie before what was read.
    hole: usize,
}

impl<'a> Within<'a> {
    async fn open(from: &'a Store, meta: &SstMeta, holes: &'a [SstMeta]) -> Result<Self> {
        let id = meta.object_id();
        let tail = from.get_range(&Name::Sst(id), meta.tail_offset..meta.bytes, Cause::Admin).await?;
        let of = meta.clone();
        let index = on_cpu(move || Tail::decode_index(&of, tail)).await??;
        Ok(Self { from, id, index, at: 0, holes, hole: 0 })
    }

    /// The next block that may have entries in a hole; `None` at the end.
    async fn next_block(&mut self) -> Result<Option<Block>> {
        while self.at < self.index.blocks() {
            let at = self.at;
            self.at += 1;
            if let Some(before) = at.checked_sub(1) {
                self.pass(&self.index.separator(before));
            }
            let Some(hole) = self.holes.get(self.hole) else { break };
            if self.index.separator(at)[..] < hole.first_key[..] {
                continue;
            }
            let (id, place) = (self.id, self.index.block(at));
            let range = place.offset..place.offset + u64::from(place.bytes);
            let stored = self.from.get_range(&Name::Sst(id), range, Cause::Admin).await?;
            return on_cpu(move || decode_block(id, place, stored)).await?.map(Some);
        }
        Ok(None)
    }

    /// Calls `each` with every entry of `block` that lies in a hole, and in which.
    fn each_entry(
        &mut self,
        block: &Block,
        mut each: impl FnMut(usize, EntryRef<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut cursor = block.cursor();
        cursor.first()?;
        while cursor.is_valid() {
            let entry = cursor.entry();
            self.pass(entry.key);
            let Some(hole) = self.holes.get(self.hole) else { break };
            if hole.first_key <= entry.key {
                each(self.hole, entry)?;
            }
            cursor.next()?;
        }
        Ok(())
    }

    /// Goes on to the first hole that does not end before `key`.
    fn pass(&mut self, key: &[u8]) {
        while self.holes.get(self.hole).is_some_and(|hole| hole.last_key < key) {
            self.hole += 1;
        }
    }
}
