//! The oracles pass what a right engine does, and find each kind of wrong in it.
//!
//! [`Toy`] is a database in a few lines that keeps every promise and records a history; each test spoils one
//! record of it, as one bug would have.

use std::collections::BTreeMap;

use esker::{ErrorKind, Token};

use super::{
    failure::Failure,
    history::{
        Call, Change, Freshness, HandleId, HandleKind, History, Key, Node, OpId, Outcome, Range, Reads, Row,
        Seen, Stamp, What,
    },
    linear, model,
    order::{Fate, Order, rules as order_rules},
};

/// A database that keeps its promises, one step at a time.
struct Toy {
    history: History,
    now_us: u64,
    /// Every entry that was accepted and is not lost, by number.
    entries: BTreeMap<u64, (Key, Option<Stamp>)>,
    /// Where batches end.
    ends: Vec<u64>,
    durable: u64,
    epoch: u32,
    writer: HandleId,
    /// What each reader has got to.
    points: BTreeMap<HandleId, u64>,
}

impl Toy {
    fn new() -> Self {
        let mut toy = Self {
            history: History::new(),
            now_us: 0,
            entries: BTreeMap::new(),
            ends: vec![0],
            durable: 0,
            epoch: 0,
            writer: 0,
            points: BTreeMap::new(),
        };
        toy.take_over();
        toy
    }

    fn tick(&mut self) -> u64 {
        self.now_us += 10;
        self.now_us
    }

    /// Another process becomes the writer: what was not durable is lost.
    fn take_over(&mut self) -> HandleId {
        self.epoch += 1;
        self.entries.split_off(&(self.durable + 1));
        self.ends.retain(|end| *end <= self.durable);
        let now = self.tick();
        let kind = HandleKind::Writer { epoch: self.epoch, base: self.durable };
        self.writer = self.history.open(Node { index: self.epoch, incarnation: 0 }, kind, now);
        self.writer
    }

    fn reader(&mut self) -> HandleId {
        let now = self.tick();
        let reader = self.history.open(Node { index: 90, incarnation: 0 }, HandleKind::Reader, now);
        self.points.insert(reader, self.durable);
        reader
    }

    /// A write of `keys`, accepted; a key that begins with `-` is deleted.
    fn accept(&mut self, keys: &[&str]) -> OpId {
        let changes: Vec<Change> = keys
            .iter()
            .map(|key| match key.strip_prefix('-') {
                Some(key) => Change { key: Key::new(0, key), what: What::Delete },
                None => Change { key: Key::new(0, key), what: What::Put },
            })
            .collect();
        let now = self.tick();
        let op = self.history.invoke(0, self.writer, Call::Write(changes.clone()), now);
        let mut seq = self.last();
        for (change, of) in changes.into_iter().enumerate() {
            seq += 1;
            let value = (of.what != What::Delete).then_some(Stamp { op, change });
            self.entries.insert(seq, (of.key, value));
        }
        self.ends.push(seq);
        let now = self.tick();
        self.history.returns(op, Outcome::Accepted(Token { epoch: self.epoch, seq }), now);
        op
    }

    fn last(&self) -> u64 {
        *self.ends.last().unwrap()
    }

    /// Everything accepted lands; the waits of `ops` end.
    fn land(&mut self, ops: &[OpId]) {
        self.durable = self.last();
        for op in ops {
            let now = self.tick();
            self.history.lands(*op, Ok(()), now);
        }
    }

    fn put(&mut self, keys: &[&str]) -> OpId {
        let op = self.accept(keys);
        self.land(&[op]);
        op
    }

    fn at(&self, key: &Key, point: u64) -> Option<Seen> {
        let mut before = self.entries.range(..=point).rev();
        before.find(|(_, (k, _))| k == key).and_then(|(_, (_, value))| value.map(Seen::Write))
    }

    fn point(&self, handle: HandleId) -> u64 {
        self.points.get(&handle).copied().unwrap_or_else(|| self.last())
    }

    fn snapshot(&mut self, handle: HandleId, freshness: Freshness) -> OpId {
        let now = self.tick();
        let op = self.history.invoke(1, handle, Call::Snapshot(freshness), now);
        if freshness != Freshness::Local {
            self.points.entry(handle).and_modify(|point| *point = self.durable);
        }
        let (now, point) = (self.tick(), self.point(handle));
        self.history.returns(op, Outcome::Point(point), now);
        op
    }

    fn seen(&self, handle: HandleId, reads: Reads) -> u64 {
        match reads {
            Reads::Handle => self.point(handle),
            Reads::Snapshot(op) => match self.history.operations[op].outcome {
                Outcome::Point(point) => point,
                _ => panic!("no snapshot"),
            },
        }
    }

    fn get(&mut self, handle: HandleId, reads: Reads, keys: &[&str]) -> OpId {
        let keys: Vec<Key> = keys.iter().map(|key| Key::new(0, key)).collect();
        let now = self.tick();
        let op = self.history.invoke(2, handle, Call::Get(reads, keys.clone()), now);
        let point = self.seen(handle, reads);
        let values = keys.iter().map(|key| self.at(key, point)).collect();
        let now = self.tick();
        self.history.returns(op, Outcome::Values(values), now);
        op
    }

    fn scan(&mut self, handle: HandleId, reads: Reads, range: &Range) -> OpId {
        let now = self.tick();
        let op = self.history.invoke(3, handle, Call::Scan(reads, range.clone()), now);
        let point = self.seen(handle, reads);
        let mut newest: BTreeMap<&Key, (u64, Option<Stamp>)> = BTreeMap::new();
        for (seq, (key, value)) in self.entries.range(..=point) {
            newest.insert(key, (*seq, *value));
        }
        let mut rows: Vec<Row> = newest
            .into_iter()
            .filter(|(key, _)| range.contains(key))
            .filter_map(|(key, (seq, value))| Some(Row { key: key.clone(), value: Seen::Write(value?), seq }))
            .collect();
        if range.reverse {
            rows.reverse();
        }
        rows.truncate(range.limit.unwrap_or(usize::MAX));
        let now = self.tick();
        self.history.returns(op, Outcome::Rows { rows, cut_short: None }, now);
        op
    }

    fn check(&self) -> Result<(), Failure> {
        model::check(&self.history)?;
        linear::check(&self.history, &Order::of(&self.history)?).map(drop)
    }

    /// The rule that the history breaks.
    #[track_caller]
    fn broken(&self) -> &'static str {
        self.check().expect_err("nothing was found").rule
    }

    fn values(&mut self, op: OpId) -> &mut Vec<Option<Seen>> {
        match &mut self.history.operations[op].outcome {
            Outcome::Values(values) => values,
            other => panic!("{other:?}"),
        }
    }

    fn rows(&mut self, op: OpId) -> &mut Vec<Row> {
        match &mut self.history.operations[op].outcome {
            Outcome::Rows { rows, .. } => rows,
            other => panic!("{other:?}"),
        }
    }

    fn set_point(&mut self, op: OpId, point: u64) {
        self.history.operations[op].outcome = Outcome::Point(point);
    }
}

fn wrote(op: OpId) -> Option<Seen> {
    Some(Seen::Write(Stamp { op, change: 0 }))
}

#[test]
fn a_right_history_passes_with_takeovers_lost_writes_and_all_kinds_of_reads() {
    let mut toy = Toy::new();
    let reader = toy.reader();
    let both = toy.put(&["a", "b"]);
    let lost = toy.accept(&["c"]);
    let first = toy.writer;
    toy.get(first, Reads::Handle, &["c"]);
    let held = toy.snapshot(first, Freshness::Local);
    toy.take_over();
    let again = toy.put(&["c", "d"]);
    toy.put(&["-a"]);
    let frozen = toy.get(first, Reads::Snapshot(held), &["c", "a"]);
    *toy.values(frozen) = vec![wrote(lost), wrote(both)];
    for freshness in [Freshness::Local, Freshness::Strong, Freshness::Bounded { age_us: 15 }] {
        let snapshot = toy.snapshot(reader, freshness);
        toy.get(reader, Reads::Snapshot(snapshot), &["a", "b", "c"]);
        for (reverse, limit) in [(false, None), (true, None), (false, Some(1)), (true, Some(2))] {
            toy.scan(reader, Reads::Snapshot(snapshot), &Range { reverse, limit, ..Range::all(0) });
        }
    }
    toy.scan(toy.writer, Reads::Handle, &Range::all(0));
    toy.check().unwrap();
    let order = Order::of(&toy.history).unwrap();
    assert_eq!((order.fate(lost), order.fate(again)), (Fate::Lost, Fate::Durable));
}

#[test]
fn an_acknowledged_write_that_the_next_writer_does_not_have_is_found() {
    let mut toy = Toy::new();
    toy.put(&["a"]);
    let op = toy.accept(&["b"]);
    toy.take_over();
    let now = toy.tick();
    toy.history.lands(op, Ok(()), now);
    assert_eq!(toy.broken(), order_rules::ACKNOWLEDGED);
}

#[test]
fn an_acknowledged_write_that_no_read_shows_is_found() {
    let mut toy = Toy::new();
    let reader = toy.reader();
    let first = toy.put(&["a"]);
    toy.put(&["a"]);
    let strong = toy.snapshot(reader, Freshness::Strong);
    let get = toy.get(reader, Reads::Snapshot(strong), &["a"]);
    toy.check().unwrap();
    toy.values(get)[0] = wrote(first);
    assert_eq!(toy.broken(), model::rules::STALE);
    let of = Order::of(&toy.history).unwrap();
    assert_eq!(linear::check(&toy.history, &of).unwrap_err().rule, linear::RULE, "a second opinion");
    toy.values(get)[0] = None;
    assert_eq!(toy.broken(), model::rules::STALE);
    assert!(linear::check(&toy.history, &of).is_err());
}

#[test]
fn a_write_that_failed_as_fenced_and_is_taken_over_is_found() {
    let mut toy = Toy::new();
    let op = toy.accept(&["a"]);
    let now = toy.tick();
    toy.history.lands(op, Err(ErrorKind::Fenced), now);
    toy.check().unwrap();
    toy.durable = toy.last();
    toy.take_over();
    assert_eq!(toy.broken(), order_rules::REFUSED);
}

#[test]
fn a_write_that_failed_as_fenced_and_is_read_is_found() {
    let mut toy = Toy::new();
    let reader = toy.reader();
    toy.put(&["a"]);
    let op = toy.accept(&["a"]);
    let now = toy.tick();
    toy.history.lands(op, Err(ErrorKind::Fenced), now);
    toy.take_over();
    let get = toy.get(reader, Reads::Handle, &["a"]);
    toy.check().unwrap();
    toy.values(get)[0] = wrote(op);
    assert_eq!(toy.broken(), model::rules::NOT_APPLIED);
}

#[test]
fn an_unknown_write_may_be_there_or_not_but_not_both() {
    for lands in [true, false] {
        let mut toy = Toy::new();
        let reader = toy.reader();
        let first = toy.put(&["a"]);
        let op = toy.accept(&["a"]);
        let now = toy.tick();
        toy.history.lands(op, Err(ErrorKind::OutcomeUnknown), now);
        if lands {
            toy.durable = toy.last();
        }
        toy.take_over();
        let (one, two) = (toy.snapshot(reader, Freshness::Strong), toy.snapshot(reader, Freshness::Strong));
        toy.get(reader, Reads::Snapshot(one), &["a"]);
        let get = toy.get(reader, Reads::Snapshot(two), &["a"]);
        toy.check().unwrap();
        toy.values(get)[0] = wrote(if lands { first } else { op });
        assert_eq!(toy.broken(), if lands { model::rules::STALE } else { model::rules::NOT_APPLIED });
    }
}

#[test]
fn what_survives_of_accepted_writes_is_a_prefix() {
    let mut toy = Toy::new();
    toy.accept(&["a"]);
    let second = toy.accept(&["b"]);
    toy.take_over();
    toy.check().unwrap();
    let reader = toy.reader();
    let get = toy.get(reader, Reads::Handle, &["a", "b"]);
    toy.check().unwrap();
    toy.values(get)[1] = wrote(second);
    assert_eq!(toy.broken(), model::rules::NOT_APPLIED, "a hole before it");
}

#[test]
fn half_a_batch_is_found_wherever_it_shows() {
    let mut toy = Toy::new();
    let reader = toy.reader();
    let old = toy.put(&["a", "b"]);
    toy.put(&["a", "b"]);
    let get = toy.get(toy.writer, Reads::Handle, &["a", "b"]);
    let strong = toy.snapshot(reader, Freshness::Strong);
    let scan = toy.scan(reader, Reads::Snapshot(strong), &Range::all(0));
    toy.check().unwrap();

    let good = toy.history.clone();
    toy.values(get)[1] = Some(Seen::Write(Stamp { op: old, change: 1 }));
    assert_eq!(toy.broken(), model::rules::STALE, "its writer had accepted the newer one");

    toy.history = good.clone();
    toy.rows(scan)[0].value = Seen::Write(Stamp { op: old, change: 0 });
    assert_eq!(toy.broken(), model::rules::STALE);

    toy.history = good;
    toy.set_point(strong, 3);
    assert_eq!(toy.broken(), model::rules::WHOLE);
}

#[test]
fn a_direct_read_that_mixes_two_moments_is_found() {
    let mut toy = Toy::new();
    let reader = toy.reader();
    let old = toy.put(&["a", "b"]);
    let new = toy.put(&["a", "b"]);
    toy.points.insert(reader, toy.durable);
    let get = toy.get(reader, Reads::Handle, &["a", "b"]);
    toy.check().unwrap();
    *toy.values(get) = vec![
        Some(Seen::Write(Stamp { op: new, change: 0 })),
        Some(Seen::Write(Stamp { op: old, change: 1 })),
    ];
    assert_eq!(toy.broken(), model::rules::ONE_MOMENT);
}

#[test]
fn half_a_batch_after_a_takeover_is_found() {
    let mut toy = Toy::new();
    toy.accept(&["a", "b"]);
    toy.take_over();
    let base = 1;
    toy.history.handles[toy.writer].kind = HandleKind::Writer { epoch: 2, base };
    assert_eq!(toy.broken(), order_rules::BATCH);
}

#[test]
fn numbers_with_a_hole_or_out_of_order_are_found() {
    let mut toy = Toy::new();
    let (first, second) = (toy.put(&["a"]), toy.put(&["b"]));
    toy.check().unwrap();
    let good = toy.history.clone();
    toy.history.operations[second].outcome = Outcome::Accepted(Token { epoch: 1, seq: 3 });
    assert_eq!(toy.broken(), order_rules::NUMBERS);
    toy.history = good.clone();
    toy.history.operations[first].outcome = Outcome::Accepted(Token { epoch: 1, seq: 2 });
    toy.history.operations[second].outcome = Outcome::Accepted(Token { epoch: 1, seq: 1 });
    assert_eq!(toy.broken(), order_rules::NUMBERS);
    toy.history = good;
    toy.history.operations[second].outcome = Outcome::Accepted(Token { epoch: 1, seq: 1 });
    assert_eq!(toy.broken(), order_rules::NUMBERS, "a number given twice");
}

#[test]
fn a_writer_that_forgets_what_the_one_before_it_took_over_is_found() {
    let mut toy = Toy::new();
    toy.put(&["a"]);
    toy.take_over();
    toy.take_over();
    toy.history.operations[0].landing = None;
    toy.check().unwrap();
    toy.history.handles[toy.writer].kind = HandleKind::Writer { epoch: 3, base: 0 };
    assert_eq!(toy.broken(), order_rules::BASES);
    toy.history.handles[toy.writer].kind = HandleKind::Writer { epoch: 2, base: 1 };
    assert_eq!(toy.broken(), order_rules::EPOCHS);
}

#[test]
fn what_a_reader_saw_and_the_next_writer_has_not_is_found() {
    let mut toy = Toy::new();
    let reader = toy.reader();
    let op = toy.put(&["a"]);
    toy.history.operations[op].landing = None;
    toy.snapshot(reader, Freshness::Strong);
    toy.take_over();
    toy.check().unwrap();
    toy.history.handles[toy.writer].kind = HandleKind::Writer { epoch: 2, base: 0 };
    assert_eq!(toy.broken(), order_rules::SEEN);
}

#[test]
fn a_writer_that_knows_late_that_it_is_open_need_not_have_what_its_successor_wrote() {
    let mut toy = Toy::new();
    let reader = toy.reader();
    let slow = toy.take_over();
    toy.take_over();
    toy.put(&["a"]);
    toy.snapshot(reader, Freshness::Strong);
    let now = toy.tick();
    toy.history.handles[slow].opened = toy.history.place(now);
    toy.check().unwrap();
}

#[test]
fn freshness_that_was_asked_for_and_not_given_is_found() {
    let mut toy = Toy::new();
    let reader = toy.reader();
    toy.put(&["a"]);
    let second = toy.put(&["a"]);
    let token = toy.history.operations[second].token().unwrap();
    toy.now_us += 1000;
    for (freshness, rule) in [
        (Freshness::Strong, model::rules::STRONG),
        (Freshness::Bounded { age_us: 500 }, model::rules::BOUNDED),
        (Freshness::AtLeast(token), model::rules::AT_LEAST),
    ] {
        let mut toy = Toy {
            history: toy.history.clone(),
            entries: toy.entries.clone(),
            ends: toy.ends.clone(),
            points: toy.points.clone(),
            ..toy
        };
        let snapshot = toy.snapshot(reader, freshness);
        toy.check().unwrap();
        toy.set_point(snapshot, 1);
        assert_eq!(toy.broken(), rule);
    }
    let old = toy.snapshot(reader, Freshness::Bounded { age_us: 5000 });
    toy.set_point(old, 0);
    toy.check().unwrap();
}

#[test]
fn a_strong_read_behind_another_readers_read_is_found() {
    let mut toy = Toy::new();
    let (one, two) = (toy.reader(), toy.reader());
    let op = toy.put(&["a"]);
    toy.history.operations[op].landing = None;
    toy.points.insert(one, toy.durable);
    toy.get(one, Reads::Handle, &["a"]);
    let strong = toy.snapshot(two, Freshness::Strong);
    toy.check().unwrap();
    toy.set_point(strong, 0);
    assert_eq!(toy.broken(), model::rules::STRONG);
}

#[test]
fn a_handle_that_goes_back_in_time_is_found() {
    let mut toy = Toy::new();
    let reader = toy.reader();
    let old = toy.put(&["a"]);
    toy.put(&["a"]);
    toy.points.insert(reader, toy.durable);
    toy.get(reader, Reads::Handle, &["a"]);
    let get = toy.get(reader, Reads::Handle, &["a"]);
    let snapshot = toy.snapshot(reader, Freshness::Local);
    toy.check().unwrap();
    let good = toy.history.clone();
    toy.values(get)[0] = wrote(old);
    assert_eq!(toy.broken(), model::rules::STALE);
    toy.history = good;
    toy.set_point(snapshot, 1);
    assert_eq!(toy.broken(), model::rules::MONOTONIC);
}

#[test]
fn a_get_that_is_under_way_while_writes_are_lost_may_have_seen_them() {
    let mut toy = Toy::new();
    toy.put(&["a"]);
    let (first, now) = (toy.writer, toy.tick());
    let get = toy.history.invoke(1, first, Call::Get(Reads::Handle, vec![Key::new(0, "a")]), now);
    toy.accept(&["b"]);
    let seen = toy.accept(&["a"]);
    let now = toy.tick();
    toy.history.returns(get, Outcome::Values(vec![wrote(seen)]), now);
    toy.take_over();
    toy.check().unwrap();
}

#[test]
fn a_writer_that_does_not_see_its_own_write_is_found() {
    let mut toy = Toy::new();
    let old = toy.put(&["a"]);
    toy.accept(&["a"]);
    let get = toy.get(toy.writer, Reads::Handle, &["a"]);
    let snapshot = toy.snapshot(toy.writer, Freshness::Local);
    toy.check().unwrap();
    let good = toy.history.clone();
    toy.values(get)[0] = wrote(old);
    assert_eq!(toy.broken(), model::rules::STALE);
    let of = Order::of(&toy.history).unwrap();
    assert!(linear::check(&toy.history, &of).is_err(), "a second opinion");
    toy.history = good;
    toy.set_point(snapshot, 1);
    assert_eq!(toy.broken(), model::rules::OWN);
}

#[test]
fn a_snapshot_that_changes_is_found() {
    let mut toy = Toy::new();
    toy.put(&["a"]);
    let snapshot = toy.snapshot(toy.writer, Freshness::Local);
    let new = toy.put(&["a", "b"]);
    let get = toy.get(toy.writer, Reads::Snapshot(snapshot), &["a"]);
    let scan = toy.scan(toy.writer, Reads::Snapshot(snapshot), &Range::all(0));
    toy.check().unwrap();
    let good = toy.history.clone();
    toy.values(get)[0] = wrote(new);
    assert_eq!(toy.broken(), model::rules::FUTURE);
    toy.history = good;
    let value = Seen::Write(Stamp { op: new, change: 1 });
    toy.rows(scan).push(Row { key: Key::new(0, "b"), value, seq: 3 });
    assert_eq!(toy.broken(), model::rules::FUTURE);
}

#[test]
fn a_scan_that_misses_repeats_or_misplaces_a_row_is_found() {
    let mut toy = Toy::new();
    let first = toy.put(&["a", "b", "c", "d"]);
    toy.put(&["-c"]);
    let all = toy.scan(toy.writer, Reads::Handle, &Range::all(0));
    let two = toy.scan(toy.writer, Reads::Handle, &Range { limit: Some(2), reverse: true, ..Range::all(0) });
    toy.check().unwrap();
    let good = toy.history.clone();
    let spoilt = |op, spoil: &dyn Fn(&mut Vec<Row>)| {
        let mut toy = Toy { history: good.clone(), ..Toy::new() };
        spoil(toy.rows(op));
        toy.broken()
    };
    let deleted = Row { key: Key::new(0, "c"), value: Seen::Write(Stamp { op: first, change: 2 }), seq: 3 };
    assert_eq!(spoilt(all, &|rows| drop(rows.remove(1))), model::rules::STALE);
    assert_eq!(spoilt(all, &|rows| rows.insert(2, deleted.clone())), model::rules::STALE);
    assert_eq!(spoilt(all, &|rows| drop(rows.pop())), model::rules::STALE, "it ended too early");
    assert_eq!(spoilt(all, &|rows| rows.swap(0, 1)), model::rules::ROWS);
    assert_eq!(spoilt(all, &|rows| rows.insert(1, rows[0].clone())), model::rules::ROWS);
    assert_eq!(spoilt(all, &|rows| rows[0].seq = 2), model::rules::VALUE);
    assert_eq!(spoilt(two, &|rows| drop(rows.remove(0))), model::rules::STALE);
    assert_eq!(spoilt(two, &|rows| rows.reverse()), model::rules::ROWS);
    // A scan that failed on the way says nothing of the rest.
    toy.rows(all).truncate(1);
    if let Outcome::Rows { cut_short, .. } = &mut toy.history.operations[all].outcome {
        *cut_short = Some(ErrorKind::SnapshotExpired);
    }
    toy.check().unwrap();
}

#[test]
fn bytes_that_nobody_wrote_there_are_found() {
    let mut toy = Toy::new();
    let (a, b) = (toy.put(&["a"]), toy.put(&["b"]));
    let get = toy.get(toy.writer, Reads::Handle, &["a"]);
    assert_eq!(wrote(a), toy.values(get)[0]);
    for wrong in [Some(Seen::Damaged), wrote(b), wrote(99), wrote(get)] {
        toy.values(get)[0] = wrong;
        assert_eq!(toy.broken(), model::rules::VALUE);
    }
}

#[test]
fn a_value_that_expires_may_be_gone_and_never_uncovers_an_older_one() {
    let mut toy = Toy::new();
    let old = toy.put(&["a"]);
    let op = toy.put(&["a"]);
    if let Call::Write(changes) = &mut toy.history.operations[op].call {
        changes[0].what = What::PutExpiring;
    }
    let get = toy.get(toy.writer, Reads::Handle, &["a"]);
    toy.check().unwrap();
    toy.values(get)[0] = None;
    toy.check().unwrap();
    toy.values(get)[0] = wrote(old);
    assert_eq!(toy.broken(), model::rules::STALE);
}

/// A long run of a right database, by chance.
fn long(seed: u64, steps: usize) -> Toy {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut dice = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below
    };
    let names: Vec<String> = (0..12).flat_map(|n| [format!("k{n:02}"), format!("-k{n:02}")]).collect();
    let mut toy = Toy::new();
    let readers = [toy.reader(), toy.reader()];
    let mut waiting = Vec::new();
    for _ in 0..steps {
        let handle = [readers[0], readers[1], toy.writer][dice(3)];
        match dice(12) {
            0..4 => {
                let keys: Vec<&str> = (0..=dice(3)).map(|_| names[dice(names.len())].as_str()).collect();
                waiting.push(toy.accept(&keys));
            }
            4 => {
                toy.land(&waiting);
                waiting.clear();
            }
            5 if dice(10) == 0 => {
                toy.take_over();
                waiting.clear();
            }
            6 | 7 => {
                let keys: Vec<&str> = (0..=dice(4)).map(|_| names[dice(12) * 2].as_str()).collect();
                toy.get(handle, Reads::Handle, &keys);
            }
            8 | 9 => {
                let limit = (dice(2) == 0).then(|| dice(6) + 1);
                let range = Range { reverse: dice(2) == 0, limit, ..Range::all(0) };
                toy.scan(handle, Reads::Handle, &range);
            }
            _ => {
                let strong = toy.snapshot(readers[dice(2)], Freshness::Strong);
                let reader = toy.history.operations[strong].handle;
                toy.get(reader, Reads::Snapshot(strong), &[&names[dice(12) * 2]]);
            }
        }
    }
    toy
}

#[test]
fn long_right_histories_pass_and_a_spoilt_read_in_them_is_found() {
    let mut found = 0;
    for seed in 1..60 {
        let mut toy = long(seed, 300);
        toy.check().unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        let reads: Vec<OpId> = (0..toy.history.operations.len())
            .filter(|op| matches!(&toy.history.operations[*op].outcome, Outcome::Values(values) if values[0].is_some()))
            .collect();
        let read = reads[reads.len() / 2];
        toy.values(read)[0] = None;
        found += usize::from(toy.check().is_err());
    }
    assert!(found > 50, "{found} of 59");
}
