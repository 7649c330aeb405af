//! A version as readers use it: decoded, complete, immutable.
//!
//! Views share the [`OpenSst`]s of the views before them by id, so the tail of an SST is read once
//! however many versions hold it. Always true: `runs` and `root.runs` say the same in the same order.

use std::{collections::HashMap, sync::Arc};

use crate::{
    error::{Error, Result},
    key::KeyspaceId,
    manifest::{Root, codec},
    sst::OpenSst,
    store::{Name, ObjectId},
};

/// A sorted run of a version.
#[derive(Debug, Clone)]
pub struct RunView {
    /// Its number.
    pub id: u64,
    /// Its level.
    pub level: u32,
    /// Its SSTs: disjoint, ascending.
    pub ssts: Arc<[Arc<OpenSst>]>,
}

impl RunView {
    /// Whether it stands for entries that were lost, and holds no SST.
    pub fn is_hole(&self) -> bool {
        self.ssts.first().is_some_and(|sst| sst.meta.is_hole())
    }
}

/// One version, decoded, parts loaded. Immutable.
#[derive(Debug)]
pub struct View {
    /// What the version says; every run's `ssts` is complete.
    pub root: Root,
    /// The runs, newest data first.
    pub runs: Vec<RunView>,
    by_id: HashMap<ObjectId, Arc<OpenSst>>,
    stored_hash: u128,
}

impl View {
    /// The view of a complete `root`. Shares the open SSTs of `previous` by id.
    ///
    /// Fails with `Corruption` if the runs break the rules at the head of [`crate::manifest`]. The
    /// conservation sum is not looked at: a root that was never stored may have none.
    pub fn new(root: Root, previous: Option<&Self>) -> Result<Self> {
        Self::build(root, 0, previous)
    }

    /// The same, of a version whose object hashes to `stored_hash`: the next version will name it. Fails
    /// with `Corruption` as well if the conservation sum is off.
    pub(crate) fn stored(root: Root, stored_hash: u128, previous: Option<&Self>) -> Result<Self> {
        codec::check_sum(&root).map_err(|what| Error::corruption(Name::Manifest(root.id).path(), 0, what))?;
        Self::build(root, stored_hash, previous)
    }

    fn build(root: Root, stored_hash: u128, previous: Option<&Self>) -> Result<Self> {
        let corrupt = |what: String| Error::corruption(Name::Manifest(root.id).path(), 0, what);
        let mut by_id = HashMap::with_capacity(root.runs.iter().map(|run| run.ssts.len()).sum());
        let mut runs = Vec::with_capacity(root.runs.len());
        for run in &root.runs {
            codec::check_order(run).map_err(corrupt)?;
            let mut ssts = Vec::with_capacity(run.ssts.len());
            for meta in &run.ssts {
                let id = ObjectId::from_bytes(&meta.id)
                    .ok_or_else(|| corrupt(format!("the entry of {} is malformed", codec::sst_name(meta))))?;
                let open = match previous.and_then(|view| view.sst(id)) {
                    Some(open) => open.clone(),
                    None => OpenSst::new(meta.clone())?,
                };
                if by_id.insert(id, open.clone()).is_some() {
                    return Err(corrupt(format!("{} is named twice", codec::sst_name(meta))));
                }
                ssts.push(open);
            }
            runs.push(RunView { id: run.id, level: run.level, ssts: ssts.into() });
        }
        Ok(Self { root, runs, by_id, stored_hash })
    }

    /// The number of this version.
    pub fn id(&self) -> u64 {
        self.root.id
    }

    /// The SST of this id, if the version holds it.
    pub fn sst(&self, id: ObjectId) -> Option<&Arc<OpenSst>> {
        self.by_id.get(&id)
    }

    /// The keyspace of this name, if there is one.
    pub fn keyspace(&self, name: &str) -> Option<KeyspaceId> {
        self.root
            .keyspaces
            .iter()
            .find(|keyspace| keyspace.name == name)
            .map(|keyspace| KeyspaceId(keyspace.id))
    }

    /// XXH3-128 of the stored object; 0 for a view that was not read from a store.
    pub fn stored_hash(&self) -> u128 {
        self.stored_hash
    }
}
