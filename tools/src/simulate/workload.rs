//! What clients do: writes, reads, scans, snapshots; every call and outcome goes into the history.
//!
//! A client does one thing at a time, thinks, and does the next, until the run has had its operations. Writers'
//! clients write puts, deletes and batches, and wait for durability at once, later, or never; they read what
//! their writer has. Readers' clients read with each freshness. Some scans are slow, so that what they read is
//! merged and collected under them.
//!
//! Always true: a value names the write that made it; a write is recorded as accepted in the same step in
//! which the engine says so.

use std::{collections::VecDeque, ops::Bound, sync::Arc, time::Duration};

use bytes::Bytes;
use esker::{Accepted, Db, Error, ErrorKind, Reader, Scan, Snapshot, WriteBatch};
use tokio::sync::Notify;

use super::{
    history::{self, Call, Change, Freshness, HandleId, Key, OpId, Outcome, Range, Reads, Stamp, What},
    judge::judge,
    process::Process,
};

/// A client of a process.
#[derive(Debug)]
pub(crate) struct Client {
    process: Process,
    id: u32,
}

/// A read that failed, as outcome; the error was judged.
fn failed(error: &Error) -> Outcome {
    Outcome::Failed(error.kind())
}

impl Client {
    pub(crate) fn new(process: Process, id: u32) -> Self {
        Self { process, id }
    }

    /// Takes one of the run's operations; false if there is none left.
    async fn takes_one(&mut self) -> bool {
        let think_ms = self.process.dice.wait_ms(self.process.world.drawn.think_ms);
        self.process.clock.sleep(Duration::from_millis(think_ms)).await;
        self.process.world.take_operation()
    }

    fn invoke(&self, handle: HandleId, call: Call) -> OpId {
        let now_us = self.process.world.now_us();
        self.process.world.state().history.invoke(self.id, handle, call, now_us)
    }

    fn returns(&self, op: OpId, outcome: Outcome) {
        let now_us = self.process.world.now_us();
        self.process.world.state().history.returns(op, outcome, now_us);
    }

    fn judge(&self, epoch: Option<u32>, error: &Error, op: OpId, doing: &str) {
        judge(&self.process, epoch, error, &format!("{doing} (operation {op})"));
    }

    fn key(&mut self) -> Key {
        let drawn = &self.process.world.drawn;
        let place = self.process.dice.unit().powf(drawn.key_skew) * drawn.keys as f64;
        Key::new(0, key_name(place as u64))
    }

    /// A range, and how to walk it.
    fn range(&mut self) -> Range {
        let (one, other) = (self.key().name, self.key().name);
        let dice = &mut self.process.dice;
        let (low, high) = (one.clone().min(other.clone()), one.max(other));
        let mut range = Range::all(0);
        match dice.below(4) {
            0 => {}
            1 => range.low = Bound::Included(low),
            2 => range.high = Bound::Excluded(high),
            _ => (range.low, range.high) = (Bound::Included(low), Bound::Included(high)),
        }
        range.reverse = dice.chance(0.4);
        range.limit = dice.chance(0.3).then(|| dice.between(1..=20) as usize);
        range
    }

    /// Gets one key or several.
    async fn get_from(&mut self, source: &Source<'_>, handle: HandleId, epoch: Option<u32>, from: Reads) {
        let many = self.process.dice.chance(0.2);
        let count = if many { self.process.dice.between(2..=6) } else { 1 };
        let keys: Vec<Key> = (0..count).map(|_| self.key()).collect();
        let op = self.invoke(handle, Call::Get(from, keys.clone()));
        let names = keys.iter().map(|key| key.name.clone());
        let got = match (source, many) {
            (Source::Db(db), false) => db.get(&keys[0].name).await.map(|value| vec![value]),
            (Source::Db(db), true) => db.multi_get(names).await,
            (Source::Reader(reader), false) => reader.get(&keys[0].name).await.map(|value| vec![value]),
            (Source::Reader(reader), true) => reader.multi_get(names).await,
            (Source::Snapshot(snapshot), false) => snapshot.get(&keys[0].name).await.map(|value| vec![value]),
            (Source::Snapshot(snapshot), true) => snapshot.multi_get(names).await,
        };
        match got {
            Ok(values) => {
                let seen = |value: Option<Bytes>| value.map(|value| Stamp::seen(&value));
                self.returns(op, Outcome::Values(values.into_iter().map(seen).collect()));
            }
            Err(error) => {
                self.judge(epoch, &error, op, "reading");
                self.returns(op, failed(&error));
            }
        }
    }

    /// Scans a range, sometimes slowly.
    pub(crate) async fn scan_from(
        &mut self,
        source: &Source<'_>,
        handle: HandleId,
        epoch: Option<u32>,
        from: Reads,
        range: Range,
    ) -> bool {
        let op = self.invoke(handle, Call::Scan(from, range.clone()));
        let bounds = (range.low.clone(), range.high.clone());
        let mut scan: Scan = match source {
            Source::Db(db) => db.scan(bounds),
            Source::Reader(reader) => reader.scan(bounds),
            Source::Snapshot(snapshot) => snapshot.scan(bounds),
        };
        if range.reverse {
            scan = scan.rev();
        }
        if let Some(limit) = range.limit {
            scan = scan.limit(limit);
        }
        let slow_ms = if self.process.world.is_healed() { 0 } else { self.slow_ms() };
        let mut rows = Vec::new();
        let cut_short = loop {
            match scan.next().await {
                Ok(Some(row)) => {
                    let key = Key { keyspace: 0, name: row.key };
                    rows.push(history::Row { key, value: Stamp::seen(&row.value), seq: row.seq });
                    if slow_ms > 0 && (rows.len() == 1 || self.process.dice.chance(0.1)) {
                        self.process.clock.sleep(Duration::from_millis(slow_ms)).await;
                    }
                }
                Ok(None) => break None,
                Err(error) => {
                    self.judge(epoch, &error, op, "scanning");
                    break Some(error.kind());
                }
            }
        };
        self.returns(op, Outcome::Rows { rows, cut_short });
        cut_short.is_none()
    }

    /// How long a scan stands still at a row: most not at all, some for longer than the grace after which they pin.
    fn slow_ms(&mut self) -> u64 {
        let retention_ms = self.process.world.drawn.retention.as_millis() as u64;
        let dice = &mut self.process.dice;
        if !dice.chance(0.2) {
            return 0;
        }
        if retention_ms > 5_000 && dice.chance(0.3) {
            return dice.between(retention_ms / 2 + 1..=retention_ms);
        }
        dice.spread(1..=5_000)
    }

    /// Takes a snapshot, and reads from it now and then.
    async fn read_snapshot(&mut self, snapshot: Snapshot, op: OpId, handle: HandleId, epoch: Option<u32>) {
        let source = Source::Snapshot(&snapshot);
        for _ in 0..self.process.dice.between(1..=3) {
            if self.process.dice.chance(0.5) {
                self.get_from(&source, handle, epoch, Reads::Snapshot(op)).await;
            } else {
                let range = self.range();
                self.scan_from(&source, handle, epoch, Reads::Snapshot(op), range).await;
            }
            if self.process.dice.chance(0.3) {
                self.process.pause(1, 5_000).await;
            }
        }
    }
}

/// What is read from.
#[derive(Debug)]
pub(crate) enum Source<'a> {
    Db(&'a Db),
    Reader(&'a Reader),
    Snapshot(&'a Snapshot),
}

/// The name of key `number`: in order, and with prefixes to share.
fn key_name(number: u64) -> String {
    format!("k{:03}/{:05}", number % 7, number)
}

/// A client of a writer, until there is nothing left to do or the writer is finished, of which it tells `over`.
pub(crate) async fn writer_client(
    mut client: Client,
    db: Db,
    handle: HandleId,
    epoch: u32,
    over: Arc<Notify>,
) {
    let mut waiting: VecDeque<(OpId, Accepted)> = VecDeque::new();
    let mut finished = false;
    while !finished && client.takes_one().await {
        let drawn = client.process.world.drawn.clone();
        let dice = &mut client.process.dice;
        if !dice.chance(drawn.reads) {
            finished = client.write(&db, handle, epoch, &mut waiting).await;
        } else if dice.chance(drawn.scans) {
            let range = client.range();
            client.scan_from(&Source::Db(&db), handle, Some(epoch), Reads::Handle, range).await;
        } else if dice.chance(0.05) {
            let op = client.invoke(handle, Call::Snapshot(Freshness::Local));
            let snapshot = db.snapshot();
            client.returns(op, Outcome::Point(snapshot.seq()));
            client.read_snapshot(snapshot, op, handle, Some(epoch)).await;
        } else {
            client.get_from(&Source::Db(&db), handle, Some(epoch), Reads::Handle).await;
        }
    }
    while let Some((op, accepted)) = waiting.pop_front() {
        finished |= client.settle(op, &accepted, epoch).await;
    }
    if finished {
        over.notify_one();
    }
}

impl Client {
    /// Writes one key, or several as one; true if the writer is finished.
    async fn write(
        &mut self,
        db: &Db,
        handle: HandleId,
        epoch: u32,
        waiting: &mut VecDeque<(OpId, Accepted)>,
    ) -> bool {
        let drawn = self.process.world.drawn.clone();
        let count =
            if self.process.dice.chance(drawn.batches) { self.process.dice.between(2..=8) } else { 1 };
        let mut changes: Vec<Change> = Vec::new();
        for _ in 0..count {
            let key = self.key();
            let what = if self.process.dice.chance(drawn.deletes) { What::Delete } else { What::Put };
            if changes.iter().all(|change| change.key != key) {
                changes.push(Change { key, what });
            }
        }
        let op = self.invoke(handle, Call::Write(changes.clone()));
        let mut values = Vec::with_capacity(changes.len());
        for change in 0..changes.len() {
            let padding = self.process.dice.spread(1..=drawn.value_bytes) as usize;
            values.push(Stamp { op, change }.value(padding));
        }
        let accepted = match (&changes[..], self.process.dice.chance(0.8)) {
            ([one], true) if one.what == What::Delete => db.delete(&one.key.name).accepted().await,
            ([one], true) => db.put(&one.key.name, &values[0]).accepted().await,
            _ => {
                let mut batch = WriteBatch::new();
                for (change, value) in changes.iter().zip(&values) {
                    match change.what {
                        What::Delete => batch.delete(db, &change.key.name),
                        _ => batch.put(db, &change.key.name, value),
                    };
                }
                db.write(batch).accepted().await
            }
        };
        match accepted {
            Ok(accepted) => {
                self.returns(op, Outcome::Accepted(accepted.token()));
                if self.process.dice.chance(drawn.durable) {
                    return self.settle(op, &accepted, epoch).await;
                }
                if self.process.dice.chance(0.5) {
                    waiting.push_back((op, accepted));
                }
                if waiting.len() > 5
                    && let Some((op, accepted)) = waiting.pop_front()
                {
                    return self.settle(op, &accepted, epoch).await;
                }
                false
            }
            Err(error) => {
                self.judge(Some(epoch), &error, op, "writing");
                self.returns(op, failed(&error));
                is_finished(&error)
            }
        }
    }

    /// Waits for durability; true if the writer is finished.
    async fn settle(&mut self, op: OpId, accepted: &Accepted, epoch: u32) -> bool {
        let landed = accepted.durable().await;
        let outcome = landed.as_ref().map(drop).map_err(Error::kind);
        let now_us = self.process.world.now_us();
        let checked = {
            let state = &mut *self.process.world.state();
            state.history.lands(op, outcome, now_us);
            landed.as_ref().map_or(Ok(()), |token| {
                state.token = Some(*token);
                state.checker.acknowledged(token.seq)
            })
        };
        if let Err(failure) = checked {
            self.process.world.broken(failure.by([op]));
        }
        match landed {
            Ok(_) => false,
            Err(error) => {
                self.judge(Some(epoch), &error, op, "waiting for durability");
                is_finished(&error)
            }
        }
    }
}

fn is_finished(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Fenced | ErrorKind::Closed | ErrorKind::Corruption)
}

/// A client of a reader.
pub(crate) async fn reader_client(mut client: Client, reader: Reader, handle: HandleId) {
    while client.takes_one().await {
        let scans = client.process.world.drawn.scans;
        let dice = &mut client.process.dice;
        match dice.below(6) {
            0 => client.get_from(&Source::Reader(&reader), handle, None, Reads::Handle).await,
            1 if dice.chance(scans * 10.0) => {
                let range = client.range();
                client.scan_from(&Source::Reader(&reader), handle, None, Reads::Handle, range).await;
            }
            2 => {
                let op = client.invoke(handle, Call::Snapshot(Freshness::Local));
                let snapshot = reader.snapshot();
                client.returns(op, Outcome::Point(snapshot.seq()));
                client.read_snapshot(snapshot, op, handle, None).await;
            }
            kind => {
                let age_ms = client.process.dice.spread(1..=10_000);
                let token = client.process.world.state().token;
                let freshness = match (kind, token) {
                    (3, _) => Freshness::Bounded { age_us: client.process.true_us(age_ms) },
                    (4, Some(token)) => Freshness::AtLeast(token),
                    _ => Freshness::Strong,
                };
                let op = client.invoke(handle, Call::Snapshot(freshness));
                let snapshot = match freshness {
                    Freshness::Bounded { .. } => reader.bounded(Duration::from_millis(age_ms)).await,
                    Freshness::AtLeast(token) => reader.at_least(token).await,
                    Freshness::Strong | Freshness::Local => reader.strong().await,
                };
                match snapshot {
                    Ok(snapshot) => {
                        client.returns(op, Outcome::Point(snapshot.seq()));
                        client.read_snapshot(snapshot, op, handle, None).await;
                    }
                    Err(error) => {
                        client.judge(None, &error, op, "asking for a fresh snapshot");
                        client.returns(op, failed(&error));
                    }
                }
            }
        }
    }
}
