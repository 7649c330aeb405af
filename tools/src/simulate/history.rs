//! What happened in a run, as data: who called what, when, and what came back.
//!
//! ```text
//! handle   a Db or a Reader, opened by a node's incarnation
//! operation ── invoked ─────────────────────── returned      a call and its outcome
//!   write   ── invoked ── accepted (token) ─── landed        its token is its place in the one order of writes
//!   snapshot── invoked ─────────────────────── point         later reads name it
//! event    a node crashed, a manifest landed, a request was harmed
//! ```
//!
//! The world records, the oracles read; nothing here knows the engine's insides. A value carries the
//! [`Stamp`] of the change that made it, so that a read names what it saw, and the rest of a value follows
//! from the stamp, so that a damaged value is no other write's value.
//!
//! Always true: every record has a [`Place`], and places are in the order in which things happened; an
//! operation is named by its index; a write without a token was never applied, because the world records
//! the token in the same step in which the engine gives it.

use std::{fmt, ops::Bound};

use bytes::{BufMut as _, Bytes, BytesMut};
use esker::{ErrorKind, Token};

/// An operation: its index in [`History::operations`].
pub(crate) type OpId = usize;

/// A handle: its index in [`History::handles`].
pub(crate) type HandleId = usize;

/// When something happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Place {
    /// The place in the one order of everything recorded; no two are equal.
    pub(crate) order: u64,
    /// Virtual microseconds since the run began.
    pub(crate) at_us: u64,
}

/// A process: node `index` in its `incarnation`-th life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Node {
    /// Which machine.
    pub(crate) index: u32,
    /// Which life of it, from 0.
    pub(crate) incarnation: u32,
}

/// A key of a keyspace (0 is the default one).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    /// The keyspace.
    pub(crate) keyspace: u32,
    /// The user key.
    pub(crate) name: Bytes,
}

/// Which change of which operation made a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Stamp {
    /// The write.
    pub(crate) op: OpId,
    /// Its change, from 0.
    pub(crate) change: usize,
}

/// One change of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// The key.
    pub(crate) key: Key,
    /// What becomes of it.
    pub(crate) what: What,
}

/// What a change does to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// It has a value, for ever.
    Put,
    /// It has a value which expires at some time; from when on, the clocks of nodes disagree.
    PutExpiring,
    /// It has none.
    Delete,
}

/// A database or a reader that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handle {
    /// Whose.
    pub(crate) node: Node,
    /// What it is.
    pub(crate) kind: HandleKind,
    /// When opening had succeeded.
    pub(crate) opened: Place,
}

/// What a handle is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HandleKind {
    /// A `Db`.
    Writer {
        /// The epoch, as in its tokens.
        epoch: u32,
        /// The last number it took over: what `snapshot().seq()` says before its first write.
        base: u64,
    },
    /// A `Reader`.
    Reader,
}

/// How fresh a snapshot was asked to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// What the handle has: for a writer everything accepted, for a reader what it has got to.
    Local,
    /// The newest at some moment within the last `age_us` of true time (the reader's drift added).
    Bounded {
        /// The age.
        age_us: u64,
    },
    /// Not older than a write.
    AtLeast(Token),
    /// Everything acknowledged before the call.
    Strong,
}

/// Which state a read reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// That of its handle at some moment of the call.
    Handle,
    /// That of the snapshot taken by this operation.
    Snapshot(OpId),
}

/// A range of keys of one keyspace, and how to walk it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    /// The keyspace.
    pub(crate) keyspace: u32,
    /// Where it begins.
    pub(crate) low: Bound<Bytes>,
    /// Where it ends.
    pub(crate) high: Bound<Bytes>,
    /// Descending.
    pub(crate) reverse: bool,
    /// At most so many rows.
    pub(crate) limit: Option<usize>,
}

/// A call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    /// A batch; one change is a put or a delete.
    Write(Vec<Change>),
    /// Takes a snapshot, for later reads.
    Snapshot(Freshness),
    /// The values of keys: `get`, `multi_get`.
    Get(Reads, Vec<Key>),
    /// The rows of a range.
    Scan(Reads, Range),
}

/// What a call gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It has not returned, and never will: its process died, or the run ended.
    Open,
    /// It failed. A write that failed without a token was not applied.
    Failed(ErrorKind),
    /// The write was accepted, under this token.
    Accepted(Token),
    /// The snapshot sees the writes up to this number.
    Point(u64),
    /// The values of the keys, in their order.
    Values(Vec<Option<Seen>>),
    /// The rows, in the order in which they came. Not the end of the range, if the scan failed before.
    Rows {
        /// The rows.
        rows: Vec<Row>,
        /// Why it ended before its end, if so.
        cut_short: Option<ErrorKind>,
    },
}

/// A value that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// This change's value, whole.
    Write(Stamp),
    /// Bytes that no change wrote.
    Damaged,
}

/// A row of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its key.
    pub(crate) key: Key,
    /// Its value.
    pub(crate) value: Seen,
    /// The number of the write that put it, as the row says.
    pub(crate) seq: u64,
}

/// How the wait for durability ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Landing {
    /// When.
    pub(crate) at: Place,
    /// `Fenced`: it was not applied and never will be. Any other error: it is not known.
    pub(crate) outcome: Result<(), ErrorKind>,
}

/// A call and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    /// Who called; one client calls one thing at a time, unless it waits for durability elsewhere.
    pub(crate) client: u32,
    /// On which handle.
    pub(crate) handle: HandleId,
    /// What.
    pub(crate) call: Call,
    /// When it was called.
    pub(crate) invoked: Place,
    /// When it returned; of a write, when it was accepted or refused.
    pub(crate) returned: Option<Place>,
    /// What it gave.
    pub(crate) outcome: Outcome,
    /// Of an accepted write: how the wait for durability ended, if it was waited for and did.
    pub(crate) landing: Option<Landing>,
}

/// Something that happened to the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// When.
    pub(crate) at: Place,
    /// To which process, if to one.
    pub(crate) node: Option<Node>,
    /// What.
    pub(crate) happening: Happening,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Happening {
    /// A process began.
    Started,
    /// A process ended without a word.
    Crashed,
    /// A process stands still.
    Paused,
    /// A process goes on.
    Resumed,
    /// A handle learned that its role was taken over.
    Fenced(HandleId),
    /// A version of the manifest came to lie in its slot.
    Manifest(u64),
    /// Faults ended: from here on everything must converge.
    Healed,
    /// Anything else worth a line: a fault, a compaction, a collection.
    Note(String),
}

/// A whole run.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    /// In the order of their calls.
    pub(crate) operations: Vec<Operation>,
    /// In the order in which they happened.
    pub(crate) events: Vec<Event>,
    /// In the order in which they were opened.
    pub(crate) handles: Vec<Handle>,
    next: u64,
}

impl History {
    /// Nothing has happened.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The next place in the order, at `now_us`.
    pub(crate) fn place(&mut self, now_us: u64) -> Place {
        self.next += 1;
        Place { order: self.next, at_us: now_us }
    }

    /// A handle was opened.
    pub(crate) fn open(&mut self, node: Node, kind: HandleKind, now_us: u64) -> HandleId {
        let opened = self.place(now_us);
        self.handles.push(Handle { node, kind, opened });
        self.handles.len() - 1
    }

    /// A call begins. For a write, the changes' values are [`Stamp`]ed with the id this gives.
    pub(crate) fn invoke(&mut self, client: u32, handle: HandleId, call: Call, now_us: u64) -> OpId {
        let invoked = self.place(now_us);
        let outcome = Outcome::Open;
        self.operations.push(Operation {
            client,
            handle,
            call,
            invoked,
            returned: None,
            outcome,
            landing: None,
        });
        self.operations.len() - 1
    }

    /// A call returns; a write is accepted or refused.
    pub(crate) fn returns(&mut self, op: OpId, outcome: Outcome, now_us: u64) {
        let place = self.place(now_us);
        let operation = &mut self.operations[op];
        assert!(operation.returned.is_none(), "operation {op} returned twice");
        operation.returned = Some(place);
        operation.outcome = outcome;
    }

    /// The wait for the durability of an accepted write ends. A later outcome than an unknown one stands.
    pub(crate) fn lands(&mut self, op: OpId, outcome: Result<(), ErrorKind>, now_us: u64) {
        let at = self.place(now_us);
        let operation = &mut self.operations[op];
        assert!(operation.token().is_some(), "operation {op} was not accepted");
        operation.landing = Some(Landing { at, outcome });
    }

    /// Something happened.
    pub(crate) fn event(&mut self, node: Option<Node>, happening: Happening, now_us: u64) {
        let at = self.place(now_us);
        self.events.push(Event { at, node, happening });
    }
}

impl Operation {
    /// The token of an accepted write.
    pub(crate) fn token(&self) -> Option<Token> {
        if let Outcome::Accepted(token) = self.outcome { Some(token) } else { None }
    }

    /// The changes of a write; none of another call.
    pub(crate) fn changes(&self) -> &[Change] {
        if let Call::Write(changes) = &self.call { changes } else { &[] }
    }

    /// The number of the first change of an accepted write: a write takes a number for each change, and its
    /// token is the last.
    pub(crate) fn first_seq(&self) -> Option<u64> {
        self.token().map(|token| (token.seq + 1).saturating_sub(self.changes().len() as u64))
    }

    /// When the write was acknowledged as durable.
    pub(crate) fn acknowledged(&self) -> Option<Place> {
        self.landing.filter(|landing| landing.outcome.is_ok()).map(|landing| landing.at)
    }

    /// Whether the write is known not to be applied, now or ever.
    pub(crate) fn refused(&self) -> bool {
        match self.outcome {
            Outcome::Failed(_) | Outcome::Open => true,
            _ => self.landing.is_some_and(|landing| landing.outcome == Err(ErrorKind::Fenced)),
        }
    }
}

impl Key {
    /// A key.
    pub(crate) fn new(keyspace: u32, name: impl AsRef<[u8]>) -> Self {
        Self { keyspace, name: Bytes::copy_from_slice(name.as_ref()) }
    }
}

impl Range {
    /// All of a keyspace, ascending.
    pub(crate) fn all(keyspace: u32) -> Self {
        Self { keyspace, low: Bound::Unbounded, high: Bound::Unbounded, reverse: false, limit: None }
    }

    /// Whether `key` lies in it.
    pub(crate) fn contains(&self, key: &Key) -> bool {
        key.keyspace == self.keyspace
            && match &self.low {
                Bound::Included(low) => *low <= key.name,
                Bound::Excluded(low) => *low < key.name,
                Bound::Unbounded => true,
            }
            && match &self.high {
                Bound::Included(high) => key.name <= *high,
                Bound::Excluded(high) => key.name < *high,
                Bound::Unbounded => true,
            }
    }
}

/// What a value begins with.
const STAMP_BYTES: usize = 12;

impl Stamp {
    /// The value of this change: the stamp, then `padding` bytes that follow from it.
    pub(crate) fn value(self, padding: usize) -> Bytes {
        let mut value = BytesMut::with_capacity(STAMP_BYTES + padding);
        value.put_u64_le(self.op as u64);
        value.put_u32_le(self.change as u32);
        let mut filler = self.filler();
        value.extend((0..padding).map(|_| filler()));
        value.freeze()
    }

    /// Which change made `value`: [`Seen::Damaged`] if none can have.
    pub(crate) fn seen(value: &[u8]) -> Seen {
        let whole = || {
            let (op, rest) = value.split_first_chunk()?;
            let (change, padding) = rest.split_first_chunk()?;
            let op = usize::try_from(u64::from_le_bytes(*op)).ok()?;
            let stamp = Stamp { op, change: u32::from_le_bytes(*change) as usize };
            let mut filler = stamp.filler();
            padding.iter().all(|byte| *byte == filler()).then_some(stamp)
        };
        whole().map_or(Seen::Damaged, Seen::Write)
    }

    /// Bytes that half compress: runs whose bytes and lengths follow from the stamp.
    fn filler(self) -> impl FnMut() -> u8 {
        let mut state = (self.op as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ self.change as u64;
        let mut left = 0;
        let mut byte = 0;
        move || {
            if left == 0 {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                left = state % 7 + 1;
                byte = (state >> 32) as u8;
            }
            left -= 1;
            byte
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}.{}", self.index, self.incarnation)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.keyspace != 0 {
            write!(f, "{}:", self.keyspace)?;
        }
        write!(f, "{}", self.name.escape_ascii())
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}", self.op)?;
        if self.change > 0 {
            write!(f, ".{}", self.change)?;
        }
        Ok(())
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(stamp) => stamp.fmt(f),
            Self::Damaged => f.write_str("damaged bytes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_its_change_and_a_damaged_one_names_none() {
        for padding in [0, 1, 5, 300] {
            let stamp = Stamp { op: 77, change: 3 };
            let value = stamp.value(padding);
            assert_eq!(Stamp::seen(&value), Seen::Write(stamp));
            for at in STAMP_BYTES..value.len() {
                let mut bad = value.to_vec();
                bad[at] ^= 0x10;
                assert_eq!(Stamp::seen(&bad), Seen::Damaged, "byte {at} of {}", value.len());
            }
        }
        assert_eq!(Stamp::seen(b"short"), Seen::Damaged);
    }

    #[test]
    fn a_write_takes_a_number_for_each_change() {
        let mut history = History::new();
        let node = Node { index: 0, incarnation: 0 };
        let writer = history.open(node, HandleKind::Writer { epoch: 1, base: 6 }, 0);
        let change = |name| Change { key: Key::new(0, name), what: What::Put };
        let op = history.invoke(0, writer, Call::Write(vec![change("a"), change("b")]), 1);
        assert!(history.operations[op].refused(), "without a token it was not applied");
        history.returns(op, Outcome::Accepted(Token { epoch: 1, seq: 8 }), 2);
        let operation = &history.operations[op];
        assert_eq!((operation.first_seq(), operation.refused()), (Some(7), false));
        history.lands(op, Err(ErrorKind::OutcomeUnknown), 3);
        history.lands(op, Ok(()), 4);
        let operation = &history.operations[op];
        assert!(operation.invoked < operation.returned.unwrap());
        assert_eq!(operation.acknowledged().map(|at| at.at_us), Some(4));
    }
}
