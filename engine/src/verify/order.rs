//! I11 across runs: for every key, what lies in newer runs has higher numbers, and no number is there twice.
//!
//! Most of it is plain from the bounds: where all numbers of the SST in front are above all of the one behind,
//! there is nothing to compare. The others are merged, all in one pass, and every step of the merge is looked at.
//!
//! Always true: memory is that of a merge, two chunks a run, whatever the size of the database.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    clock::on_cpu,
    compaction::ahead::{Ahead, Windows},
    error::{Error, Result},
    manifest::View,
    memory::Memory,
    merge::{Direction, Missing, Source, Step, Tree},
    range::FullRange,
    sst::{OpenSst, hole::shown},
    store::{Name, ObjectId, Store},
    verify::Finding,
};

/// Memory for what is read ahead of the merge, over all runs.
const MEMORY_BYTES: usize = 96 << 20;
/// Entries between two looks at the clock of the runtime.
const TURN_ENTRIES: usize = 100_000;
/// More than this many keys out of order say no more.
const MAX_KEYS: usize = 32;

type Run = Arc<[Arc<OpenSst>]>;

/// Checks the version `view`, whose SSTs are known to be whole. Every finding is about an SST.
pub(super) async fn check(store: &Store, view: &View) -> Result<Vec<Finding>> {
    let doubtful = doubtful(view);
    let runs: Vec<Run> = view
        .runs
        .iter()
        .map(|run| run.ssts.iter().filter(|sst| doubtful.contains(&sst.id)).cloned().collect())
        .filter(|run: &Run| !run.is_empty())
        .collect();
    if runs.len() < 2 {
        return Ok(Vec::new());
    }
    let memory = Memory::of_one_use(MEMORY_BYTES);
    let all = FullRange::all();
    let start = |run: &Run| {
        let room = (Arc::clone(&memory), runs.len());
        Ahead::start(store.clone(), None, Arc::clone(run), room, &all.start)
    };
    let mut reading: Vec<Ahead> = runs.iter().map(start).collect();
    let place: HashMap<ObjectId, usize> =
        runs.iter().enumerate().flat_map(|(at, run)| run.iter().map(move |sst| (sst.id, at))).collect();
    let mut walk = Walk {
        tree: Tree::new(runs.iter().cloned().map(Source::Run), &all, Direction::Forward),
        windows: Windows::new(runs.len()),
        names: runs.iter().filter_map(|run| run.first()).map(|sst| Name::Sst(sst.id)).collect(),
        key: Vec::new(),
        seq: 0,
        source: 0,
        found: Vec::new(),
    };
    loop {
        let (back, turn) = on_cpu(move || {
            let turn = walk.turn();
            (walk, turn)
        })
        .await?;
        walk = back;
        match turn? {
            Turn::More => {}
            Turn::Done => break,
            Turn::Missing(missing) => {
                let waiting: BTreeSet<usize> =
                    missing.iter().filter_map(|one| place.get(&one.sst().id)).copied().collect();
                for at in waiting {
                    let chunk = reading[at].next().await?;
                    walk.windows.show(at, chunk);
                }
            }
        }
    }
    Ok(walk.found)
}

/// The SSTs whose bounds leave open which of two has the newer version of a key that both may hold.
fn doubtful(view: &View) -> BTreeSet<ObjectId> {
    let mut doubtful = BTreeSet::new();
    for (age, newer) in view.runs.iter().enumerate().filter(|(_, run)| !run.is_hole()) {
        for older in view.runs[age + 1..].iter().filter(|run| !run.is_hole()) {
            for sst in newer.ssts.iter() {
                let from = older.ssts.partition_point(|other| other.meta.last_key < sst.meta.first_key);
                for other in older.ssts[from..].iter().take_while(|o| o.meta.first_key <= sst.meta.last_key) {
                    if sst.meta.min_seq <= other.meta.max_seq {
                        doubtful.extend([sst.id, other.id]);
                    }
                }
            }
        }
    }
    doubtful
}

struct Walk {
    tree: Tree,
    windows: Windows,
    names: Vec<Name>,
    key: Vec<u8>,
    seq: u64,
    source: usize,
    found: Vec<Finding>,
}

enum Turn {
    More,
    Missing(Vec<Missing>),
    Done,
}

impl Walk {
    fn turn(&mut self) -> Result<Turn> {
        for _ in 0..TURN_ENTRIES {
            match self.tree.advance(&self.windows)? {
                Step::Ready => {}
                Step::Missing(_) => return Ok(Turn::Missing(self.tree.missing().to_vec())),
                Step::End => return Ok(Turn::Done),
            }
            let Some(entry) = self.tree.peek() else {
                return Err(Error::closed("a merge that was ready has no entry"));
            };
            let source = self.tree.source();
            let same = entry.key == self.key;
            // Versions come newest first; so their runs must, too.
            let wrong = if !same {
                None
            } else if entry.seq == self.seq {
                Some("there twice with the same number")
            } else if source < self.source {
                Some("newer in an older run")
            } else {
                None
            };
            if let Some(wrong) = wrong
                && self.found.len() < MAX_KEYS
            {
                let what = format!(
                    "key {} is {wrong}: numbers {} and {}, the other near {}",
                    shown(entry.key),
                    self.seq,
                    entry.seq,
                    self.names[self.source]
                );
                self.found.push(Finding::damage(self.names[source].clone(), what));
            }
            if !same {
                self.key.clear();
                self.key.extend_from_slice(entry.key);
            }
            (self.seq, self.source) = (entry.seq, source);
        }
        Ok(Turn::More)
    }
}
