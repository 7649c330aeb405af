//! The invariants of the store, checked whenever an object lands or goes.
//!
//! ```text
//! put(name, bytes)   SST, part     its name never stood for other bytes                               I9
//!                    log           epoch given out, K in flight, numbers without a hole             I6, I15
//!                    floor         under the latest version                                           I4
//!                    version       chain, ring, nothing goes back                              I1, I3, I10
//!                                  every SST there, whole, of its size; runs sorted, disjoint     I8, I11
//!                                  what changed is a flush or a merge that balances          I12, I13 (merge.rs)
//!                                  what is not in SSTs is in the log                        I5, I7 (walk.rs)
//!               pin, checkpoint holds what it names while it is there, and a pin while it lives       I8
//! delete(name)       not above the floor, not named, not held, not still publishable, no fence     I4, I8
//! ```
//!
//! It is told of everything that the store applies, in that order, and so needs no listing. An SST is decoded
//! when a version names it first, and only what a version changed is looked at, so that a check costs what the
//! commit did. I2 and I14 are about answers, not objects: [`super::model`] and [`super::linear`] judge them.
//!
//! A pin counts if its version is above the floor when the pin lands: a pass whose floor covers the version
//! afterwards lists pins afterwards. What holds already is only prolonged, by a heartbeat that comes in time.
//!
//! Always true: a version at or under the floor is void, whatever it says.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use bytes::Bytes;
use esker::{
    Error,
    codec::sum::Sum,
    manifest::{FIRST_ID, Identity, Root, codec, copy, part},
    store::{Name, ObjectId, Role},
};

use super::{
    failure::Failure,
    merge::{self, Contents},
    walk::Log,
};

/// Rules of objects.
pub(crate) mod rules {
    pub(crate) const NAMES: &str = "a name stands for one object for ever";
    pub(crate) const DECODES: &str = "everything that lands in the store decodes";
    pub(crate) const CHAIN: &str = "every version names the hash of the one before it, which was the latest";
    pub(crate) const RING: &str = "every version remembers who made the ones before it";
    pub(crate) const BACK: &str = "epochs, replay point, numbers and counter floors never go back";
    pub(crate) const FLOOR: &str =
        "the floor lies under the latest version, and only versions under it are deleted";
    pub(crate) const NAMED: &str = "every object that a version, pin or checkpoint names is there, whole";
    pub(crate) const RUNS: &str = "runs are sorted and disjoint, level by level, and no SST is named twice";
    pub(crate) const SUM: &str = "the conservation sum of a version is that of its SSTs";
    pub(crate) const BACK_AGAIN: &str = "an SST that a version has dropped does not come back";
    pub(crate) const PUBLISHABLE: &str = "nothing is deleted that its producer may still publish";
    pub(crate) const EPOCH: &str = "an SST is named by a version that knows its producer's epoch";
}

/// A version that counts.
#[derive(Debug)]
struct Version {
    root: Root,
    hash: u128,
    /// SSTs and parts.
    names: BTreeSet<Name>,
}

/// What a pin or a checkpoint names.
#[derive(Debug)]
struct Hold {
    names: BTreeSet<Name>,
    /// A pin's: when it lapses without another heartbeat, by the store's clock.
    until_ms: u64,
}

/// What has been seen of a store.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    objects: BTreeMap<Name, Bytes>,
    /// The hash of the first bytes under every name.
    first: BTreeMap<Name, u128>,
    log: Option<Log>,
    db_uuid: u128,
    /// Those above the floor.
    versions: BTreeMap<u64, Version>,
    floor: u64,
    contents: BTreeMap<ObjectId, Contents>,
    /// SSTs that a version named and a later one did not.
    dropped: BTreeSet<ObjectId>,
    /// Pins and checkpoints that count, or did until they lapsed.
    holds: BTreeMap<Name, Hold>,
    /// The time by the store's clock.
    now_ms: u64,
}

impl Checker {
    /// Of an empty store.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The latest version.
    pub(crate) fn latest(&self) -> Option<&Root> {
        self.versions.last_key_value().map(|(_, version)| &version.root)
    }

    /// What is told from here on happens at this time.
    pub(crate) fn at(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// `bytes` came to lie at `path` (without the database's prefix).
    pub(crate) fn put(&mut self, path: &str, bytes: &Bytes) -> Result<(), Failure> {
        // Objects of the probe, and whatever else is no database's.
        let Some(name) = Name::parse(path) else { return Ok(()) };
        let hash = codec::object_hash(bytes);
        let before = *self.first.entry(name.clone()).or_insert(hash);
        if before != hash && self.is_for_ever(&name) {
            let there = if self.objects.contains_key(&name) { "was replaced" } else { "was made again" };
            return Err(Failure::new(rules::NAMES, format!("{name} {there} with other bytes")));
        }
        let old = self.objects.insert(name.clone(), bytes.clone());
        if let Name::Pin(_) | Name::Checkpoint(_) = name {
            return self.hold(name, bytes);
        }
        if old.is_some_and(|old| old == bytes) {
            return Ok(());
        }
        match name {
            Name::Identity => {
                let identity = Identity::decode(bytes).map_err(|error| undecodable(&error))?;
                self.db_uuid = identity.db_uuid;
                self.log = Some(Log::new(identity.db_uuid, identity.wal_window));
                Ok(())
            }
            Name::Manifest(id) if id > self.floor => self.version(id, bytes, hash),
            Name::Wal(slot) if slot >= self.replay_from() => {
                let epoch = self.latest().map_or(0, |root| root.writer.epoch);
                self.log.as_mut().map_or(Ok(()), |log| log.put(slot, bytes, epoch))
            }
            Name::ManifestFloor(floor) => self.raise(floor),
            _ => Ok(()),
        }
    }

    /// What lay at `path` was deleted.
    pub(crate) fn delete(&mut self, path: &str) -> Result<(), Failure> {
        let Some(name) = Name::parse(path) else { return Ok(()) };
        if self.objects.remove(&name).is_none() {
            return Ok(());
        }
        match &name {
            Name::Manifest(id) if *id > self.floor => {
                Err(Failure::new(rules::FLOOR, format!("version {id} went, and the floor is {}", self.floor)))
            }
            Name::Wal(slot) => {
                let needed = self.versions.values().map(|version| version.root.writer.replay_from).min();
                let log = self.log.as_mut();
                log.map_or(Ok(()), |log| log.delete(*slot, needed.unwrap_or(u64::MAX)))
            }
            Name::Pin(_) | Name::Checkpoint(_) => {
                self.holds.remove(&name);
                Ok(())
            }
            Name::Sst(id) | Name::Part(id) => self.may_go(&name, *id),
            _ => Ok(()),
        }
    }

    /// A pin or a checkpoint landed: it holds what it names from now on, if it counts.
    fn hold(&mut self, name: Name, bytes: &Bytes) -> Result<(), Failure> {
        let copied = copy::decode(&name, self.db_uuid, bytes).map_err(|error| undecodable(&error))?;
        let Some(copied) = copied else {
            self.holds.remove(&name);
            return Ok(());
        };
        let until_ms =
            if copied.life_ms == 0 { u64::MAX } else { self.now_ms.saturating_add(copied.life_ms) };
        let now_ms = self.now_ms;
        if let Some(hold) = self.holds.get_mut(&name).filter(|hold| hold.until_ms >= now_ms) {
            hold.until_ms = hold.until_ms.max(until_ms);
            return Ok(());
        }
        let mut names = BTreeSet::new();
        if copied.root.id <= self.floor {
            // Void, unless others hold all of it: a checkpoint is made under a pin.
            let Ok(root) = self.complete(copied.root, &mut names) else { return Ok(()) };
            names.extend(root.ssts().map(|meta| Name::Sst(meta.object_id())));
            let is_held = |hold: &Hold| hold.until_ms >= now_ms && names.is_subset(&hold.names);
            if matches!(name, Name::Checkpoint(_)) && self.holds.values().any(is_held) {
                self.holds.insert(name, Hold { names, until_ms });
            }
            return Ok(());
        }
        let root = self.complete(copied.root, &mut names)?;
        names.extend(root.ssts().map(|meta| Name::Sst(meta.object_id())));
        if let Some(gone) = names.iter().find(|named| !self.objects.contains_key(named)) {
            return Err(Failure::new(rules::NAMED, format!("{name} names {gone}, which is not there")));
        }
        self.holds.insert(name, Hold { names, until_ms });
        Ok(())
    }

    /// A write with this number was acknowledged as durable.
    pub(crate) fn acknowledged(&self, seq: u64) -> Result<(), Failure> {
        self.log.as_ref().map_or(Ok(()), |log| log.acknowledged(seq))
    }

    /// The highest number that is durable.
    #[cfg(test)]
    pub(crate) fn durable_seq(&self) -> u64 {
        self.log.as_ref().map_or(0, Log::durable_seq)
    }

    /// Whether other bytes under `name` are wrong: not in a slot that is void, where what lands late is nobody's.
    fn is_for_ever(&self, name: &Name) -> bool {
        match name {
            Name::Identity | Name::Sst(_) | Name::Part(_) | Name::Blob(_) => true,
            Name::Manifest(id) => *id > self.floor,
            Name::Wal(slot) => *slot >= self.replay_from(),
            _ => false,
        }
    }

    fn replay_from(&self) -> u64 {
        self.latest().map_or(0, |root| root.writer.replay_from)
    }

    fn raise(&mut self, floor: u64) -> Result<(), Failure> {
        if let Some(latest) = self.latest()
            && floor >= latest.id
        {
            let detail = format!("the floor was raised to {floor}, and version {} is the latest", latest.id);
            return Err(Failure::new(rules::FLOOR, detail));
        }
        self.floor = self.floor.max(floor);
        self.versions = self.versions.split_off(&(self.floor + 1));
        Ok(())
    }

    fn may_go(&mut self, name: &Name, id: ObjectId) -> Result<(), Failure> {
        self.contents.remove(&id);
        if let Some((version, _)) = self.versions.iter().find(|(_, version)| version.names.contains(name)) {
            return Err(Failure::new(
                rules::NAMED,
                format!("{name} was deleted, and version {version} names it"),
            ));
        }
        let holds = |hold: &Hold| hold.until_ms >= self.now_ms && hold.names.contains(name);
        if let Some((hold, _)) = self.holds.iter().find(|(_, hold)| holds(hold)) {
            return Err(Failure::new(rules::NAMED, format!("{name} was deleted, and {hold} names it")));
        }
        let Some(latest) = self.latest() else { return Ok(()) };
        let (epoch, counter_floor) = match id.role {
            Role::Writer => (latest.writer.epoch, latest.writer.counter_floor),
            Role::Compactor => (latest.compactor.epoch, latest.compactor.counter_floor),
        };
        if (id.epoch, id.counter) >= (epoch, counter_floor) {
            let detail =
                format!("{name} was deleted while epoch {epoch} may publish from counter {counter_floor}");
            return Err(Failure::new(rules::PUBLISHABLE, detail));
        }
        Ok(())
    }

    /// A version landed above the floor.
    fn version(&mut self, id: u64, bytes: &Bytes, hash: u128) -> Result<(), Failure> {
        let stored = codec::decode(id, self.db_uuid, bytes).map_err(|error| undecodable(&error))?;
        let mut names = BTreeSet::new();
        let root = self.complete(stored, &mut names)?;
        self.check_runs(&root)?;
        let mut new = Vec::new();
        for meta in root.ssts() {
            let sst = meta.object_id();
            let name = Name::Sst(sst);
            let Some(object) = self.objects.get(&name) else {
                return Err(Failure::new(
                    rules::NAMED,
                    format!("version {id} names {name}, which is not there"),
                ));
            };
            if let Entry::Vacant(place) = self.contents.entry(sst) {
                new.push(sst);
                let contents = Contents::of(meta, object).map_err(|error| undecodable(&error))?;
                place.insert(contents);
            }
            if self.contents[&sst].meta != *meta {
                let detail = format!("version {id} describes {name} otherwise than the version before");
                return Err(Failure::new(rules::NAMED, detail));
            }
            names.insert(name);
        }
        for sst in &new {
            let known = match sst.role {
                Role::Writer => root.writer.epoch,
                Role::Compactor => root.compactor.epoch,
            };
            if sst.epoch > known {
                let detail = format!("version {id} names {}, and the epoch is {known}", Name::Sst(*sst));
                return Err(Failure::new(rules::EPOCH, detail));
            }
        }
        match self.versions.last_key_value() {
            Some((_, before)) => {
                check_forward(before, &root)?;
                merge::check(&before.root, &root, &self.contents)?;
                let named: BTreeSet<ObjectId> = root.ssts().map(|meta| meta.object_id()).collect();
                if let Some(back) = named.intersection(&self.dropped).next() {
                    let detail = format!("version {id} names {} again", Name::Sst(*back));
                    return Err(Failure::new(rules::BACK_AGAIN, detail));
                }
                let old = before.root.ssts().map(|meta| meta.object_id());
                self.dropped.extend(old.filter(|sst| !named.contains(sst)));
            }
            None if id == FIRST_ID => {}
            None => return Err(Failure::new(rules::CHAIN, format!("the first version is {id}"))),
        }
        if let Some(log) = &self.log {
            log.check(&root)?;
        }
        self.versions.insert(id, Version { root, hash, names });
        Ok(())
    }

    /// Puts back what lies in parts; notes their names.
    fn complete(&self, mut root: Root, names: &mut BTreeSet<Name>) -> Result<Root, Failure> {
        let id = root.id;
        for run in &mut root.runs {
            let mut inline = std::mem::take(&mut run.ssts).into_iter();
            for of in &run.parts {
                let (found, name) = match of.object_id() {
                    Some(part) => {
                        (self.objects.get(&Name::Part(part)).map(|bytes| (part, bytes)), Name::Part(part))
                    }
                    None => {
                        return Err(Failure::new(
                            rules::NAMED,
                            format!("version {id} names a part by no name"),
                        ));
                    }
                };
                let Some((part, bytes)) = found else {
                    return Err(Failure::new(
                        rules::NAMED,
                        format!("version {id} names {name}, which is not there"),
                    ));
                };
                if codec::object_hash(bytes).to_le_bytes() != of.hash[..] {
                    return Err(Failure::new(
                        rules::NAMED,
                        format!("version {id} names {name} with another hash"),
                    ));
                }
                let before = (of.at as usize).saturating_sub(run.ssts.len());
                run.ssts.extend(inline.by_ref().take(before));
                run.ssts.extend(part::decode(part, bytes).map_err(|error| undecodable(&error))?);
                names.insert(name);
            }
            run.ssts.extend(inline);
        }
        Ok(root)
    }

    fn check_runs(&self, root: &Root) -> Result<(), Failure> {
        let fail = |what: String| Err(Failure::new(rules::RUNS, format!("version {}: {what}", root.id)));
        let (mut sum, mut ids) = (Sum::default(), BTreeSet::new());
        for (at, run) in root.runs.iter().enumerate() {
            if at > 0 && root.runs[at - 1].level > run.level {
                return fail(format!("run {} of level {} lies under a deeper one", run.id, run.level));
            }
            for pair in run.ssts.windows(2) {
                if pair[0].last_key >= pair[1].first_key {
                    return fail(format!(
                        "{} and {} of run {} overlap",
                        pair[0].object_id(),
                        pair[1].object_id(),
                        run.id
                    ));
                }
            }
            for meta in &run.ssts {
                sum.add(&meta.sum());
                if !ids.insert(meta.object_id()) {
                    return fail(format!("{} is named twice", meta.object_id()));
                }
            }
        }
        if sum.to_bytes() != root.sum[..] {
            let detail = format!("version {} says otherwise than its {} SSTs", root.id, ids.len());
            return Err(Failure::new(rules::SUM, detail));
        }
        Ok(())
    }
}

/// `next` follows on `before`, and nothing in it goes back.
fn check_forward(before: &Version, next: &Root) -> Result<(), Failure> {
    let base = &before.root;
    if next.id != base.id + 1 || next.prev_hash[..] != before.hash.to_le_bytes() {
        let detail =
            format!("version {} landed after version {}, and does not follow on it", next.id, base.id);
        return Err(Failure::new(rules::CHAIN, detail));
    }
    let remembers = |root: &Root, id: u64, token: &Bytes| {
        root.ring.iter().any(|slot| slot.id == id && slot.token == *token)
    };
    let kept =
        next.ring.iter().filter(|slot| slot.id < next.id).all(|slot| remembers(base, slot.id, &slot.token));
    if !remembers(next, base.id, &base.token) || !remembers(next, next.id, &next.token) || !kept {
        return Err(Failure::new(rules::RING, format!("version {} does not", next.id)));
    }
    let (w0, w1, c0, c1) = (&base.writer, &next.writer, &base.compactor, &next.compactor);
    let facts = [
        (
            "the writer's epoch or counter floor",
            (u64::from(w0.epoch), w0.counter_floor),
            (u64::from(w1.epoch), w1.counter_floor),
        ),
        (
            "the compactor's epoch or counter floor",
            (u64::from(c0.epoch), c0.counter_floor),
            (u64::from(c1.epoch), c1.counter_floor),
        ),
        ("the replay point", (w0.replay_from, 0), (w1.replay_from, 0)),
        ("the last number", (w0.last_seq, 0), (w1.last_seq, 0)),
        ("the tail of the log", (w0.tail_hint, 0), (w1.tail_hint, 0)),
        ("the last fence", (w0.fence_slot, w0.fence_epoch.into()), (w1.fence_slot, w1.fence_epoch.into())),
        ("the next run", (base.next_run, 0), (next.next_run, 0)),
        ("the next keyspace", (u64::from(base.next_keyspace), 0), (u64::from(next.next_keyspace), 0)),
    ];
    if let Some((what, from, to)) = facts.into_iter().find(|(_, from, to)| to < from) {
        let detail = format!("{what} went from {from:?} to {to:?} in version {}", next.id);
        return Err(Failure::new(rules::BACK, detail));
    }
    if base.keyspaces.iter().any(|keyspace| !next.keyspaces.contains(keyspace)) {
        return Err(Failure::new(rules::BACK, format!("a keyspace is gone in version {}", next.id)));
    }
    Ok(())
}

fn undecodable(error: &Error) -> Failure {
    Failure::new(rules::DECODES, error.to_string())
}

#[cfg(test)]
mod tests;
