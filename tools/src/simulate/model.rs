//! The reference model: every read of a history, judged against the one order of writes.
//!
//! ```text
//! point    0 ──── 3 ──── 4 ──── 6 ──── 7 …            where batches end: what a read can be at
//! lowest          ├─ freshness asked, own writes, what the handle has shown before
//! a read                 ├──────┤                     all its keys agree on these points
//! highest                         ─┤                  writes called before it returned
//! ```
//!
//! A read is right if there is one point, not below the lowest it may be at and not above the highest, at
//! which every key it looked at had what it saw; scans look at every key of the range they covered, so a row
//! too many and a row too few are the same mistake. The lowest such point is then what the handle has shown.
//!
//! Always true: a snapshot's point is given by the engine and is the only one its reads may be at; of a
//! direct read the least possible point is taken, so nothing later is judged too strictly.

use std::collections::BTreeMap;

use super::{
    failure::Failure,
    history::{
        Call, Freshness, HandleId, HandleKind, History, Key, OpId, Operation, Outcome, Range, Reads, Row,
        Seen, Stamp, What,
    },
    order::{Eyes, Fate, Order, Version},
};

/// Rules that reads must keep.
pub(crate) mod rules {
    pub(crate) const VALUE: &str = "a key shows only values that were written to it";
    pub(crate) const NOT_APPLIED: &str = "a write that was not applied is never seen";
    pub(crate) const STALE: &str = "a read shows the newest write at its point";
    pub(crate) const ONE_MOMENT: &str =
        "a read of several keys shows one moment: batches whole, every key at the same point";
    pub(crate) const FUTURE: &str = "a read sees only writes that were called before it returned";
    pub(crate) const WHOLE: &str = "a snapshot holds whole batches";
    pub(crate) const MONOTONIC: &str = "what a handle shows never goes back in time";
    pub(crate) const STRONG: &str =
        "a strong read sees everything acknowledged, or seen, before it was called";
    pub(crate) const BOUNDED: &str = "a bounded read sees everything acknowledged longer ago than its bound";
    pub(crate) const AT_LEAST: &str = "a read that waits for a token sees its write";
    pub(crate) const OWN: &str = "a writer sees everything that it accepted before";
    pub(crate) const ROWS: &str =
        "a scan gives the rows of its range, in order, once, and not more than its limit";
}

/// Judges everything in `history`: the order of its writes, then every read. The first failure in time.
pub(crate) fn check(history: &History) -> Result<(), Failure> {
    let order = Order::of(history)?;
    Model::new(history, &order).run()
}

/// What was known when an operation was called.
#[derive(Debug, Clone, Copy, Default)]
struct Before {
    /// What its handle had shown.
    shown: u64,
    /// What its handle, a writer, had accepted.
    own: u64,
    /// What was acknowledged to anybody, or seen by any reader.
    known: u64,
}

#[derive(Debug)]
struct Model<'a> {
    history: &'a History,
    order: &'a Order,
    before: Vec<Before>,
    /// Per handle.
    shown: Vec<u64>,
    own: Vec<u64>,
    known: u64,
    /// What was acknowledged, and when: both ascend.
    acknowledged: Vec<(u64, u64)>,
    /// The highest number called so far, per handle, and of all.
    called: Vec<u64>,
    called_by_all: u64,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Invoked(OpId),
    Returned(OpId),
    Landed(OpId),
}

/// What a read says of one key.
#[derive(Debug, Clone)]
struct Look {
    key: Key,
    saw: Option<Stamp>,
}

impl<'a> Model<'a> {
    fn new(history: &'a History, order: &'a Order) -> Self {
        let base = |handle: &super::history::Handle| match handle.kind {
            HandleKind::Writer { base, .. } => base,
            HandleKind::Reader => 0,
        };
        let bases: Vec<u64> = history.handles.iter().map(base).collect();
        Self {
            history,
            order,
            before: vec![Before::default(); history.operations.len()],
            shown: bases.clone(),
            own: bases.clone(),
            known: 0,
            acknowledged: Vec::new(),
            called: bases,
            called_by_all: 0,
        }
    }

    fn run(mut self) -> Result<(), Failure> {
        let mut steps = Vec::with_capacity(self.history.operations.len() * 3);
        for (op, operation) in self.history.operations.iter().enumerate() {
            steps.push((operation.invoked.order, Step::Invoked(op)));
            steps.extend(operation.returned.map(|at| (at.order, Step::Returned(op))));
            steps.extend(operation.acknowledged().map(|at| (at.order, Step::Landed(op))));
        }
        steps.sort_unstable_by_key(|(order, _)| *order);
        for (_, step) in steps {
            match step {
                Step::Invoked(op) => self.invoked(op),
                Step::Returned(op) => self.returned(op)?,
                Step::Landed(op) => self.landed(op),
            }
        }
        Ok(())
    }

    fn operation(&self, op: OpId) -> &'a Operation {
        &self.history.operations[op]
    }

    fn eyes(&self, handle: HandleId) -> Eyes {
        Eyes::of(&self.history.handles[handle])
    }

    fn invoked(&mut self, op: OpId) {
        let operation = self.operation(op);
        let handle = operation.handle;
        if let Some(token) = operation.token() {
            self.called[handle] = self.called[handle].max(token.seq);
            if self.order.fate(op) != Fate::Lost {
                self.called_by_all = self.called_by_all.max(token.seq);
            }
        }
        self.before[op] = Before { shown: self.shown[handle], own: self.own[handle], known: self.known };
    }

    fn landed(&mut self, op: OpId) {
        let operation = self.operation(op);
        if let (Some(token), Some(at)) = (operation.token(), operation.acknowledged()) {
            self.known = self.known.max(token.seq);
            let most = self.acknowledged.last().map_or(0, |(_, seq)| *seq).max(token.seq);
            self.acknowledged.push((at.at_us, most));
        }
    }

    fn returned(&mut self, op: OpId) -> Result<(), Failure> {
        let operation = self.operation(op);
        let point = match (&operation.call, &operation.outcome) {
            (Call::Write(_), Outcome::Accepted(token)) => {
                // A writer that learned that it was fenced shows what was durable, and no more.
                if self.order.fate(op) != Fate::Lost {
                    let own = &mut self.own[operation.handle];
                    *own = (*own).max(token.seq);
                }
                return Ok(());
            }
            (Call::Snapshot(freshness), Outcome::Point(point)) => {
                self.snapshot(op, *freshness, *point)?;
                Some(*point)
            }
            (Call::Get(reads, keys), Outcome::Values(values)) => {
                let looks = self.values(op, keys, values)?;
                self.judge(op, *reads, &looks)?
            }
            (Call::Scan(reads, range), Outcome::Rows { rows, cut_short }) => {
                let looks = self.rows(op, range, rows, cut_short.is_some())?;
                let point = self.judge(op, *reads, &looks)?;
                self.numbers(op, rows)?;
                point
            }
            _ => None,
        };
        if let Some(point) = point {
            self.show(op, point);
        }
        Ok(())
    }

    /// Notes that a handle has shown `point`.
    fn show(&mut self, op: OpId, point: u64) {
        let handle = self.operation(op).handle;
        let durable = match self.eyes(handle) {
            Eyes::Reader => {
                self.known = self.known.max(point);
                point
            }
            Eyes::Writer(epoch) => point.min(self.order.cut(epoch)),
        };
        // What a writer showed and then lost at a takeover it does not show again.
        if self.order.is_whole(Eyes::Reader, durable) {
            self.shown[handle] = self.shown[handle].max(durable);
        }
    }

    /// The highest point that something which returns now can be at.
    fn highest(&self, handle: HandleId) -> u64 {
        match self.eyes(handle) {
            Eyes::Reader => self.called_by_all,
            Eyes::Writer(_) => self.called[handle],
        }
    }

    fn snapshot(&self, op: OpId, freshness: Freshness, point: u64) -> Result<(), Failure> {
        let operation = self.operation(op);
        let (before, highest) = (self.before[op], self.highest(operation.handle));
        let fail = |rule, detail| Err(Failure::new(rule, detail).by([op]));
        if point > highest {
            return fail(
                rules::FUTURE,
                format!("operation {op} is at {point}, and {highest} was the last number called"),
            );
        }
        if !self.order.is_whole(self.eyes(operation.handle), point) {
            return fail(
                rules::WHOLE,
                format!("operation {op} is at {point}, inside a batch or at a number never given"),
            );
        }
        if point < before.own {
            return fail(
                rules::OWN,
                format!("operation {op} is at {point}, and {} was accepted before it", before.own),
            );
        }
        if point < before.shown {
            return fail(
                rules::MONOTONIC,
                format!("operation {op} is at {point}, and its handle has shown {}", before.shown),
            );
        }
        match freshness {
            Freshness::Strong if point < before.known => fail(
                rules::STRONG,
                format!(
                    "operation {op} is at {point}, and {} was known durable when it was called",
                    before.known
                ),
            ),
            Freshness::AtLeast(token) if point < token.seq => {
                fail(rules::AT_LEAST, format!("operation {op} is at {point}, and waited for {token}"))
            }
            Freshness::Bounded { age_us } => {
                let since = operation.invoked.at_us.saturating_sub(age_us);
                let until = self.acknowledged.partition_point(|(at_us, _)| *at_us < since);
                let due = until.checked_sub(1).map_or(0, |at| self.acknowledged[at].1);
                if point < due {
                    return fail(
                        rules::BOUNDED,
                        format!(
                            "operation {op} is at {point}, and {due} was acknowledged more than {age_us} us before"
                        ),
                    );
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What a `get` or `multi_get` says of its keys.
    fn values(&self, op: OpId, keys: &[Key], values: &[Option<Seen>]) -> Result<Vec<Look>, Failure> {
        if keys.len() != values.len() {
            let detail =
                format!("operation {op} asked for {} keys and got {} values", keys.len(), values.len());
            return Err(Failure::new(rules::VALUE, detail).by([op]));
        }
        let looks = keys.iter().zip(values);
        looks.map(|(key, value)| Ok(Look { key: key.clone(), saw: self.stamp(op, key, *value)? })).collect()
    }

    /// What a scan says of every key that it covered.
    fn rows(&self, op: OpId, range: &Range, rows: &[Row], cut_short: bool) -> Result<Vec<Look>, Failure> {
        let fail = |detail: String, key: &Key| Err(Failure::new(rules::ROWS, detail).by([op]).on([key]));
        for pair in rows.windows(2) {
            let (first, second) = if range.reverse { (&pair[1], &pair[0]) } else { (&pair[0], &pair[1]) };
            if first.key >= second.key {
                return fail(
                    format!("operation {op} gave {} and then {}", pair[0].key, pair[1].key),
                    &pair[0].key,
                );
            }
        }
        if let Some(row) = rows.iter().find(|row| !range.contains(&row.key)) {
            return fail(format!("operation {op} gave {}, outside its range", row.key), &row.key);
        }
        let is_full = range.limit.is_some_and(|limit| rows.len() >= limit);
        if let (Some(limit), Some(last)) = (range.limit, rows.last())
            && rows.len() > limit
        {
            return fail(
                format!("operation {op} gave {} rows with a limit of {limit}", rows.len()),
                &last.key,
            );
        }
        // It says nothing of what lies behind its last row, if it did not go on from there.
        let until = if is_full || cut_short {
            match rows.last() {
                Some(last) => Some(&last.key),
                None => return Ok(Vec::new()),
            }
        } else {
            None
        };
        let is_covered = |key: &Key| match until {
            Some(last) if range.reverse => key >= last,
            Some(last) => key <= last,
            None => true,
        };
        let mut looks: BTreeMap<&Key, Option<Stamp>> = self
            .order
            .keys()
            .filter(|key| range.contains(key) && is_covered(key))
            .map(|key| (key, None))
            .collect();
        for row in rows {
            looks.insert(&row.key, self.stamp(op, &row.key, Some(row.value))?);
        }
        Ok(looks.into_iter().map(|(key, saw)| Look { key: key.clone(), saw }).collect())
    }

    /// The numbers that rows carry are those of the changes they show.
    fn numbers(&self, op: OpId, rows: &[Row]) -> Result<(), Failure> {
        let eyes = self.eyes(self.operation(op).handle);
        for row in rows {
            let Seen::Write(stamp) = row.value else { continue };
            let version = self.order.version(eyes, &row.key, stamp);
            if version.is_some_and(|version| version.seq != row.seq) {
                let detail = format!(
                    "operation {op} gave {stamp} for {} with the number {}, which is another's",
                    row.key, row.seq
                );
                return Err(Failure::new(rules::VALUE, detail).by([op, stamp.op]).on([&row.key]));
            }
        }
        Ok(())
    }

    /// The change that wrote what was seen of `key`.
    fn stamp(&self, op: OpId, key: &Key, seen: Option<Seen>) -> Result<Option<Stamp>, Failure> {
        let stamp = match seen {
            None => return Ok(None),
            Some(Seen::Damaged) => {
                let detail = format!("operation {op} saw bytes at {key} that nobody wrote");
                return Err(Failure::new(rules::VALUE, detail).by([op]).on([key]));
            }
            Some(Seen::Write(stamp)) => stamp,
        };
        let written =
            self.history.operations.get(stamp.op).and_then(|write| write.changes().get(stamp.change));
        if !written.is_some_and(|change| change.key == *key && change.what != What::Delete) {
            let detail =
                format!("operation {op} saw at {key} the value {stamp}, which was not written there");
            return Err(Failure::new(rules::VALUE, detail).by([op]).on([key]));
        }
        let eyes = self.eyes(self.operation(op).handle);
        if self.order.version(eyes, key, stamp).is_none() {
            let why = match (self.order.fate(stamp.op), eyes) {
                (Fate::None, _) => "never accepted",
                (Fate::Lost, _) => "refused, or lost when another writer took over",
                _ => "made by a later writer than the one that shows it",
            };
            let detail = format!("operation {op} saw at {key} the value {stamp}, which was {why}");
            return Err(Failure::new(rules::NOT_APPLIED, detail).by([op, stamp.op]).on([key]));
        }
        Ok(Some(stamp))
    }

    /// Finds the point at which a read was. `None` if it looked at nothing, or at a snapshot that failed.
    fn judge(&self, op: OpId, reads: Reads, looks: &[Look]) -> Result<Option<u64>, Failure> {
        let handle = self.operation(op).handle;
        let (low, high) = match reads {
            Reads::Snapshot(of) => match self.operation(of).outcome {
                Outcome::Point(point) => (point, point),
                _ => return Ok(None),
            },
            Reads::Handle => {
                let low = self.before[op].shown.max(self.before[op].own);
                (low, self.highest(handle).max(low))
            }
        };
        let eyes = self.eyes(handle);
        match self.agree(eyes, looks, low, high) {
            Ok(point) => Ok(matches!(reads, Reads::Handle).then_some(point)),
            Err(_) => Err(self.disagreement(op, eyes, looks, low, high)),
        }
    }

    /// The least point from `low` to `high` at which every look sees what it saw, or the look that has none.
    fn agree<'l>(&self, eyes: Eyes, looks: &'l [Look], low: u64, high: u64) -> Result<u64, &'l Look> {
        let mut point = low;
        loop {
            let mut moved = false;
            for look in looks {
                if fits(self.order.at(eyes, &look.key, point), look.saw) {
                    continue;
                }
                let fitting = |version: &Version| fits(Some(version), look.saw);
                match self.order.next(eyes, &look.key, point, fitting) {
                    Some(next) if next.end <= high => point = next.end,
                    _ => return Err(look),
                }
                moved = true;
            }
            if !moved {
                return Ok(point);
            }
        }
    }

    /// Says why no point fits.
    fn disagreement(&self, op: OpId, eyes: Eyes, looks: &[Look], low: u64, high: u64) -> Failure {
        let alone =
            looks.iter().find(|look| self.agree(eyes, std::slice::from_ref(look), low, high).is_err());
        let Some(look) = alone else {
            // Each key by itself has a point, and they have none in common.
            let (mut shown, mut of) = (Vec::new(), vec![op]);
            let least = |look: &Look| self.agree(eyes, std::slice::from_ref(look), low, high).unwrap_or(low);
            let newest = looks.iter().max_by_key(|look| least(look));
            let point = newest.map_or(low, least);
            let older = looks.iter().filter(|look| !fits(self.order.at(eyes, &look.key, point), look.saw));
            for look in newest.into_iter().chain(older.take(3)) {
                of.extend(look.saw.map(|stamp| stamp.op));
                of.extend(self.order.at(eyes, &look.key, point).map(|version| version.stamp.op));
                shown.push(format!("{} = {}", look.key, Shown(look.saw)));
            }
            of[1..].sort_unstable();
            of.dedup();
            let detail = format!(
                "operation {op} saw {}; the first needs the point {point}, at which the others had changed",
                shown.join(", ")
            );
            let keys: Vec<&Key> = looks.iter().map(|look| &look.key).collect();
            return Failure::new(rules::ONE_MOMENT, detail).by(of).on(keys.into_iter().take(8));
        };
        let due = self.order.at(eyes, &look.key, low);
        let saw = look.saw.and_then(|stamp| self.order.version(eyes, &look.key, stamp));
        let of = [op].into_iter().chain(saw.map(|v| v.stamp.op)).chain(due.map(|v| v.stamp.op));
        let (rule, why) = match saw {
            Some(saw) if saw.end > high => (rules::FUTURE, format!("which has the number {}", saw.seq)),
            _ => (
                rules::STALE,
                match due {
                    Some(due) => format!("and {} (number {}, {})", due.stamp, due.seq, named(due.what)),
                    None => "and nothing".to_owned(),
                },
            ),
        };
        let range = if low == high {
            format!("at {low}")
        } else {
            format!("from {low}, when it was called, to {high}")
        };
        let detail = match rule {
            rules::FUTURE => {
                format!("operation {op} saw at {} {}, {why}; it was {range}", look.key, Shown(look.saw))
            }
            _ => format!("operation {op} saw at {} {}, {why} was due {range}", look.key, Shown(look.saw)),
        };
        Failure::new(rule, detail).by(of).on([&look.key])
    }
}

/// Whether a key whose last change is `version` shows `saw`.
fn fits(version: Option<&Version>, saw: Option<Stamp>) -> bool {
    match (version.map(|version| (version.what, version.stamp)), saw) {
        (None | Some((What::Delete | What::PutExpiring, _)), None) => true,
        (Some((What::Put | What::PutExpiring, stamp)), Some(saw)) => stamp == saw,
        _ => false,
    }
}

fn named(what: What) -> &'static str {
    match what {
        What::Put => "a put",
        What::PutExpiring => "a put that expires",
        What::Delete => "a delete",
    }
}

/// What was seen, in a sentence.
struct Shown(Option<Stamp>);

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(stamp) => stamp.fmt(f),
            None => f.write_str("nothing"),
        }
    }
}
