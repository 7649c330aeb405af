//! Is what another copy has what was written here first? A replica that was opened and written has the same uuid,
//! and other objects under the same numbers.
//!
//! ```text
//! DB         a version, pin, checkpoint, log object or takeover that is here is of the same uuid, which is drawn once;
//!            else the copy has an SST or part of a name that one has here
//! sst part   the name is given out once: 64 random bits are in it. An SST is what a version here says of it, a
//!            part hashes to what one says
//! manifest   the version behind it, or a pin or checkpoint of it, names its hash; else the ring of a later one
//!            names its token; else it gives an epoch out that the log here has, by the same writer, or the job log, by
//!            the same compactor; else it gives a keyspace out, which only the writer of the version before it can; else
//!            the damaged bytes still carry its token. One that gives out an epoch that the log or the job log here says
//!            another has is refuted: with it, what was written here would be a stranger's
//! wal        a version or a log object here is of the same writer and epoch, and a writer fills a slot once;
//!            else the damaged bytes still carry its token
//! checkpoint the damaged bytes still carry its token
//! ```
//!
//! A token is 16 random bytes that one attempt draws, and it only ever offers the same bytes. What contradicts
//! the evidence is refuted and never put in; what nothing speaks for is unproved: it was written in the same
//! database under the same number, here or in the copy.
//!
//! A version that is reported as damaged does not speak for itself: not its own hash, not its own token, and what it
//! says of others counts only where nothing else does.
//!
//! Always true: nothing is called proved on the word of the copy alone.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::{
    clock::on_cpu,
    compaction::{log, record::Event},
    error::{ErrorKind, Result},
    manifest::{Identity, Root, VersionCopy, codec, copy},
    stats::Cause,
    store::{Folder, Name, ObjectId, Store, Token},
    wal::{WalHeader, WalObject},
};

/// What the evidence says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// These are the bytes.
    Proved,
    /// Nothing speaks for it; why.
    Unproved(String),
    /// These are not the bytes; why.
    Refuted(String),
}

/// What is here and whole, and speaks of what is not.
#[derive(Debug, Default)]
pub(super) struct Evidence {
    /// The hashes of versions: of those that are here, and those that a version, pin or checkpoint names.
    hashes: BTreeMap<u64, [u8; 16]>,
    /// The tokens of versions, from the rings.
    tokens: BTreeMap<u64, Bytes>,
    /// The hashes of parts.
    parts: BTreeMap<ObjectId, Bytes>,
    /// What each version that is here has given out.
    given_out: BTreeMap<u64, GivenOut>,
    /// The writer of each epoch.
    writers: BTreeMap<u32, [u8; 16]>,
    /// The epochs whose writer only a doubtful version tells.
    doubtful: BTreeSet<u32>,
    /// The compactor of each epoch, as its takeover in the job log says.
    compactors: BTreeMap<u32, Bytes>,
    /// The epoch of each log object.
    log: BTreeMap<u64, u32>,
    /// There is a version of another database.
    is_of_another: bool,
}

/// Both roles' epochs, and the number of the next keyspace.
#[derive(Debug)]
struct GivenOut {
    writer: u32,
    compactor: u32,
    next_keyspace: u32,
}

impl Evidence {
    /// Reads every version, pin and checkpoint of `store`, and its log if `with_log`; what is in `damaged` does not speak
    /// for itself.
    pub(super) async fn gather(
        store: &Store,
        identity: &Identity,
        damaged: &[Name],
        with_log: bool,
    ) -> Result<Self> {
        let mut evidence = Self::default();
        let mut doubtful = Vec::new();
        let db_uuid = identity.db_uuid;
        for folder in [Folder::Manifest, Folder::Checkpoint, Folder::Pin] {
            for listed in store.list(folder, None, Cause::Admin).await? {
                let Some(body) = store.get(&listed.name, Cause::Admin).await? else { continue };
                match listed.name.number().filter(|_| folder == Folder::Manifest) {
                    Some(id) => {
                        let Some(root) = if_whole(codec::decode(id, db_uuid, &body))? else {
                            let stored = if_whole(codec::decode_any(id, &body))?;
                            evidence.is_of_another |= stored.is_some_and(|(uuid, _)| uuid != db_uuid);
                            continue;
                        };
                        if damaged.contains(&listed.name) {
                            doubtful.push(root);
                        } else {
                            evidence.version(&root, Some(codec::object_hash(&body)));
                            evidence.given_out.insert(id, GivenOut::of(&root));
                        }
                    }
                    None => {
                        if let Some(copy) = if_whole(copy::decode(&listed.name, db_uuid, &body))?.flatten() {
                            evidence.version(&copy.root, Some(copy.hash));
                        }
                    }
                }
            }
        }
        if with_log {
            for listed in store.list(Folder::Wal, None, Cause::Admin).await? {
                let (Some(slot), Some(body)) =
                    (listed.name.number(), store.get(&listed.name, Cause::Admin).await?)
                else {
                    continue;
                };
                let decoded = on_cpu(move || WalObject::decode(slot, db_uuid, body)).await?;
                if let Some(object) = if_whole(decoded)? {
                    let header = object.header();
                    evidence.log.insert(slot, header.epoch);
                    evidence.writers.entry(header.epoch).or_insert_with(|| header.writer_uuid.to_le_bytes());
                }
            }
        }
        for root in &doubtful {
            if !evidence.writers.contains_key(&root.writer.epoch) {
                evidence.doubtful.insert(root.writer.epoch);
            }
            evidence.version(root, None);
        }
        let jobs = log::read(store, db_uuid, Cause::Admin).await?;
        for record in jobs.records.into_iter().filter_map(|(_, record)| record.ok()) {
            if let Some(Event::Takeover(takeover)) = record.event {
                evidence.compactors.entry(record.epoch).or_insert(takeover.uuid);
            }
        }
        Ok(evidence)
    }

    /// Notes what the version `root` says; `hash` is its own, if it may speak for itself.
    fn version(&mut self, root: &Root, hash: Option<u128>) {
        // Of those who name it, versions come first.
        if let Some(hash) = hash {
            self.hashes.entry(root.id).or_insert_with(|| hash.to_le_bytes());
        }
        if let (Some(before), Ok(hash)) = (root.id.checked_sub(1), root.prev_hash[..].try_into()) {
            self.hashes.entry(before).or_insert(hash);
        }
        for slot in root.ring.iter().filter(|slot| hash.is_some() || slot.id != root.id) {
            self.tokens.entry(slot.id).or_insert_with(|| slot.token.clone());
        }
        for part in root.runs.iter().flat_map(|run| &run.parts) {
            if let Some(id) = part.object_id() {
                self.parts.entry(id).or_insert_with(|| part.hash.clone());
            }
        }
        if let Ok(uuid) = root.writer.uuid[..].try_into() {
            self.writers.entry(root.writer.epoch).or_insert(uuid);
        }
    }

    /// Whether the copy's identity is that of the database here; `shares_objects`: the copy has SSTs or parts of the same
    /// names.
    pub(super) fn of_identity(&self, shares_objects: bool) -> Proof {
        // What belongs to another database is no evidence.
        let is_of_it = !self.hashes.is_empty() || !self.writers.is_empty() || !self.compactors.is_empty();
        if is_of_it || shares_objects {
            return Proof::Proved;
        }
        if self.is_of_another {
            return Proof::Refuted("no version that is here belongs to the copy's database".to_owned());
        }
        Proof::Unproved("nothing that is here says of which database it is".to_owned())
    }

    /// Whether `body` is the part `id`.
    pub(super) fn of_part(&self, id: ObjectId, body: &Bytes) -> Proof {
        match self.parts.get(&id) {
            Some(hash) if hash[..] != codec::object_hash(body).to_le_bytes() => {
                Proof::Refuted("a version names another hash of it".to_owned())
            }
            _ => Proof::Proved,
        }
    }

    /// Whether `body`, which is `root`, is the version of that number; `ours` is what lies there.
    pub(super) fn of_version(&self, root: &Root, body: &Bytes, ours: Option<&Bytes>) -> Proof {
        let id = root.id;
        if let Some(hash) = self.hashes.get(&id) {
            if *hash == codec::object_hash(body).to_le_bytes() {
                return Proof::Proved;
            }
            let what = "what was made from it, or keeps it, names another hash";
            return Proof::Refuted(what.to_owned());
        }
        if let Some(token) = self.tokens.get(&id) {
            if *token == root.token {
                return Proof::Proved;
            }
            return Proof::Refuted("a later version says that another attempt made it".to_owned());
        }
        if let Some(why) = self.takes_an_epoch(root) {
            return Proof::Refuted(why);
        }
        if let Some(before) = id.checked_sub(1).and_then(|before| self.hashes.get(&before)) {
            if root.prev_hash[..] != *before {
                let before = Name::Manifest(id - 1);
                return Proof::Refuted(format!("it was made from other bytes than those of {before} here"));
            }
            if self.given_out.get(&(id - 1)).is_some_and(|before| self.is_given_out(before, root)) {
                return Proof::Proved;
            }
        }
        by_token(body, ours, "no later version is here to say which it was")
    }

    /// Why `root` is of another history: who it says has an epoch is not who had it here.
    fn takes_an_epoch(&self, root: &Root) -> Option<String> {
        let (writer, compactor) = (&root.writer, &root.compactor);
        let sure = self.writers.get(&writer.epoch).filter(|_| !self.doubtful.contains(&writer.epoch));
        if sure.is_some_and(|uuid| writer.uuid != uuid[..]) {
            return Some(format!("another writer had epoch {} here", writer.epoch));
        }
        let sure = self.compactors.get(&compactor.epoch);
        sure.is_some_and(|uuid| *uuid != compactor.uuid)
            .then(|| format!("another compactor had epoch {} here", compactor.epoch))
    }

    /// Whether `root`, made from what has given out what `before` says, gives more out, and to whom had it here.
    ///
    /// An epoch is given out by one commit; the log here has it by the same writer, or the job log by the same
    /// compactor. A keyspace is given out by the writer alone, which commits a version of a number once.
    fn is_given_out(&self, before: &GivenOut, root: &Root) -> bool {
        let now = GivenOut::of(root);
        let by_writer = now.writer > before.writer
            || now.writer == before.writer && now.next_keyspace > before.next_keyspace;
        let writer = self.writers.get(&now.writer).map(|uuid| &uuid[..]);
        let compactor = self.compactors.get(&now.compactor);
        by_writer && writer == Some(&root.writer.uuid[..])
            || now.compactor > before.compactor && compactor == Some(&root.compactor.uuid)
    }

    /// Whether `body`, which holds `copy`, is the checkpoint of that name; `ours` is what lies there.
    pub(super) fn of_checkpoint(
        &self,
        copy: Option<&VersionCopy>,
        body: &Bytes,
        ours: Option<&Bytes>,
    ) -> Proof {
        let Some(copy) = copy else { return Proof::Refuted("there is no version in it".to_owned()) };
        if self.hashes.get(&copy.root.id).is_some_and(|hash| *hash != copy.hash.to_le_bytes()) {
            return Proof::Refuted("it keeps another version than the one of that number here".to_owned());
        }
        by_token(body, ours, "a name can be given again, to another version")
    }

    /// Whether `body`, whose header this is, is the log object of that slot; `ours` is what lies there.
    pub(super) fn of_log(&self, header: &WalHeader, body: &Bytes, ours: Option<&Bytes>) -> Proof {
        let epoch = header.epoch;
        match self.writers.get(&epoch) {
            Some(uuid) if *uuid != header.writer_uuid.to_le_bytes() => {
                return Proof::Refuted(format!("another writer had epoch {epoch} here"));
            }
            _ => {}
        }
        if self.log.range(..header.slot).next_back().is_some_and(|(_, before)| *before > epoch) {
            return Proof::Refuted(format!("epoch {epoch} was over before that slot"));
        }
        if self.writers.contains_key(&epoch) {
            return Proof::Proved;
        }
        by_token(body, ours, &format!("nothing here is of its writer, in epoch {epoch}"))
    }
}

impl GivenOut {
    fn of(root: &Root) -> Self {
        let next_keyspace = root.next_keyspace;
        Self { writer: root.writer.epoch, compactor: root.compactor.epoch, next_keyspace }
    }
}

/// What the damaged bytes say, if there are any.
fn by_token(body: &Bytes, ours: Option<&Bytes>, otherwise: &str) -> Proof {
    let (of_copy, ours) = (Token::of(body), ours.and_then(|ours| Token::of(ours)));
    match ours {
        Some(_) if ours == of_copy => Proof::Proved,
        Some(_) => Proof::Unproved(format!("{otherwise}, and the damaged bytes carry another token")),
        None => Proof::Unproved(otherwise.to_owned()),
    }
}

/// What was decoded; `None` if it is damaged.
fn if_whole<T>(decoded: Result<T>) -> Result<Option<T>> {
    match decoded {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::Corruption => Ok(None),
        Err(error) => Err(error),
    }
}
