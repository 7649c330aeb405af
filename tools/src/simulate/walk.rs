//! The log of the simulated store, walked as it grows.
//!
//! Two walks over the same objects must end in the same place: this one, which began at the first slot and has
//! seen every object land, and the one that a reader or an opener begins at the replay point of a version.
//!
//! Always true: `durable_seq` is the highest number that an opener would find, had every version been lost.

use std::collections::BTreeMap;

use bytes::Bytes;
use esker::{
    Error,
    manifest::Root,
    wal::{Cursor, WalObject},
};

use super::failure::Failure;

/// Rules of the log.
pub(crate) mod rules {
    pub(crate) const DECODES: &str = "every object of the log decodes";
    pub(crate) const EPOCHS: &str = "an object of the log is of an epoch that was given out";
    pub(crate) const WRITERS: &str = "all objects of the log of an epoch are by the writer that has it";
    pub(crate) const WINDOW: &str = "a writer has at most K objects of the log in flight";
    pub(crate) const NUMBERS: &str = "the numbers along the log ascend without a hole";
    pub(crate) const REPLAY_POINT: &str = "what lies before the replay point is in SSTs";
    pub(crate) const REPLAYED: &str = "replay from the replay point finds everything that is not in SSTs";
    pub(crate) const NEEDED: &str = "no object of the log is deleted that replay needs";
    pub(crate) const FENCES: &str = "no fence is ever deleted, and the last one is where versions say";
    pub(crate) const ACKNOWLEDGED: &str = "what is acknowledged is in SSTs or in the log";
}

/// The log so far.
#[derive(Debug)]
pub(crate) struct Log {
    db_uuid: u128,
    window: u32,
    objects: BTreeMap<u64, WalObject>,
    /// The walk from the first slot.
    cursor: Cursor,
    durable_seq: u64,
    /// The last number of each DATA object along the walk, by its slot.
    ends: BTreeMap<u64, u64>,
}

impl Log {
    /// The empty log of a database.
    pub(crate) fn new(db_uuid: u128, window: u32) -> Self {
        let cursor = Cursor { slot: esker::manifest::FIRST_SLOT, ..Cursor::default() };
        Self { db_uuid, window, objects: BTreeMap::new(), cursor, durable_seq: 0, ends: BTreeMap::new() }
    }

    /// The highest number that an opener would find.
    #[cfg(test)]
    pub(crate) fn durable_seq(&self) -> u64 {
        self.durable_seq
    }

    /// Something landed in `slot`; `epoch` is the highest that was given out.
    pub(crate) fn put(&mut self, slot: u64, bytes: &Bytes, epoch: u32) -> Result<(), Failure> {
        let object = WalObject::decode(slot, self.db_uuid, bytes.clone())
            .map_err(|error: Error| Failure::new(rules::DECODES, error.to_string()))?;
        let of = object.header().epoch;
        if of > epoch {
            return Err(Failure::new(
                rules::EPOCHS,
                format!("slot {slot} is of epoch {of}, and {epoch} is the last"),
            ));
        }
        let is_data = matches!(object, WalObject::Data { .. });
        let most = self.cursor.slot + u64::from(self.window);
        if is_data && of == self.cursor.max_epoch && slot >= most {
            let detail = format!(
                "epoch {of} wrote slot {slot} while slot {} was empty, and K is {}",
                self.cursor.slot, self.window
            );
            return Err(Failure::new(rules::WINDOW, detail));
        }
        self.objects.insert(slot, object);
        self.walk()
    }

    fn walk(&mut self) -> Result<(), Failure> {
        while let Some(object) = self.objects.get(&self.cursor.slot) {
            let slot = self.cursor.slot;
            let counts = pass(&mut self.cursor, object, self.window)?;
            if let (true, WalObject::Data { header, last_seq, .. }) = (counts, object) {
                if header.first_seq != self.durable_seq + 1 {
                    let detail = format!(
                        "slot {slot} of epoch {} begins with {}, and the log was at {}",
                        header.epoch, header.first_seq, self.durable_seq
                    );
                    return Err(Failure::new(rules::NUMBERS, detail));
                }
                self.durable_seq = *last_seq;
                self.ends.insert(slot, *last_seq);
            }
        }
        Ok(())
    }

    /// A version landed: what it says of the log must be so.
    pub(crate) fn check(&self, root: &Root) -> Result<(), Failure> {
        let (id, writer) = (root.id, &root.writer);
        let (from, stored) = (writer.replay_from, writer.last_seq);
        let behind = self.ends.range(..from).next_back();
        if from > self.cursor.slot || stored > self.durable_seq {
            let detail = format!(
                "version {id} has the replay point {from} and numbers up to {stored}; the log ends before slot {}, at {}",
                self.cursor.slot, self.durable_seq
            );
            return Err(Failure::new(rules::REPLAY_POINT, detail));
        }
        if let Some((slot, last)) = behind.filter(|(_, last)| **last > stored) {
            let detail = format!(
                "version {id} holds numbers up to {stored} and replays from slot {from}; slot {slot} holds {last}"
            );
            return Err(Failure::new(rules::REPLAY_POINT, detail));
        }
        let mut cursor = Cursor::start(root);
        let mut next = stored + 1;
        while let Some(object) = self.objects.get(&cursor.slot) {
            let slot = cursor.slot;
            let counts = pass(&mut cursor, object, self.window)?;
            let (true, WalObject::Data { header, last_seq, .. }) = (counts, object) else { continue };
            if header.first_seq > next {
                let detail = format!(
                    "version {id} needs {next} next, and slot {slot} begins with {}",
                    header.first_seq
                );
                return Err(Failure::new(rules::REPLAYED, detail));
            }
            next = next.max(last_seq + 1);
        }
        if cursor.slot != self.cursor.slot || next != self.durable_seq + 1 {
            let detail = format!(
                "from slot {from} of version {id} the walk ends at slot {} with number {}; the whole log, at slot {} with {}",
                cursor.slot,
                next - 1,
                self.cursor.slot,
                self.durable_seq
            );
            return Err(Failure::new(rules::REPLAYED, detail));
        }
        let fence = self.objects.get(&writer.fence_slot);
        let is_there =
            matches!(fence, Some(WalObject::Fence { header, .. }) if header.epoch == writer.fence_epoch);
        if writer.fence_slot != 0 && !is_there {
            let detail = format!(
                "version {id} says that slot {} has the fence of epoch {}",
                writer.fence_slot, writer.fence_epoch
            );
            return Err(Failure::new(rules::FENCES, detail));
        }
        if writer.tail_hint >= self.cursor.slot {
            let detail = format!(
                "version {id} says that slot {} is durable, and slot {} is empty",
                writer.tail_hint, self.cursor.slot
            );
            return Err(Failure::new(rules::REPLAYED, detail));
        }
        Ok(())
    }

    /// The object in `slot` was deleted; `needed_from` is the least replay point of the versions that are left.
    pub(crate) fn delete(&mut self, slot: u64, needed_from: u64) -> Result<(), Failure> {
        match self.objects.remove(&slot) {
            Some(WalObject::Fence { header, .. }) => {
                Err(Failure::new(rules::FENCES, format!("that of epoch {} in slot {slot}", header.epoch)))
            }
            Some(WalObject::Data { .. }) if slot >= needed_from => {
                let detail = format!("slot {slot} went, and a version replays from slot {needed_from}");
                Err(Failure::new(rules::NEEDED, detail))
            }
            _ => Ok(()),
        }
    }

    /// A write with this number was acknowledged.
    pub(crate) fn acknowledged(&self, seq: u64) -> Result<(), Failure> {
        if seq > self.durable_seq {
            let detail = format!("{seq} was acknowledged, and the log ends with {}", self.durable_seq);
            return Err(Failure::new(rules::ACKNOWLEDGED, detail));
        }
        Ok(())
    }
}

/// Steps over `object`. Gives whether it counts.
fn pass(cursor: &mut Cursor, object: &WalObject, window: u32) -> Result<bool, Failure> {
    cursor.pass(object, window).map_err(|error| Failure::new(rules::WRITERS, error.to_string()))
}
