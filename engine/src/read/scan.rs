//! Range reads: rows in key order, as a stream.
//!
//! ```text
//! poll ── step the merge, synchronously ── row
//!              └─ bytes missing ── one boxed future: all sources' misses in one round, and read-ahead
//! ```
//!
//! The first round brings one block of each source, which is all that most short scans need; where the store is far it brings
//! what the rows that are wanted may take, in the same request: ten rows reach into the next block one time in four, and
//! waiting once more costs a thousand times what a block does. Every later
//! round brings, with the block that is missing, those that follow it: 32 KiB at first, doubling up to
//! 8 MiB, in parallel requests of a MiB, so that a long scan is bound by bandwidth and a short one pays for little.
//! From rounds of 512 KiB on, what comes next is under way while rows are taken, in pieces of a quarter of a round and
//! eight of them at most: one round would be as slow as the slowest of its requests. All of it is charged to the memory
//! budget before it is sent; where that has no room, less is brought ahead, down to the blocks that are missing.
//!
//! Always true: no future is made and nothing is locked or allocated for a row whose bytes are here,
//! but for one chunk of memory per some thousand keys; once a scan has failed or ended it stays ended.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, future::BoxFuture};
use tokio::sync::oneshot;

use super::{Fetched, Fetcher, SuperVersion, keeper::Hold, window::Window};
use crate::{
    chaos::{Bug, bug},
    clock::Task,
    error::{Error, ErrorKind, Result},
    key::{KEYSPACE_BYTES, KeyspaceId, Seq},
    memory::{Charge, Use},
    merge::{Direction, Missing, Source, Step, Tree, Visible},
    range::KeyRange,
    sst::OpenSst,
    stats::Cause,
    store::ObjectId,
};

/// Stored bytes that a round after the first brings beyond what is missing, for each source that
/// waits: the first time, and at most.
const FIRST_AHEAD_BYTES: u64 = 32 << 10;
const MOST_AHEAD_BYTES: u64 = 8 << 20;
/// Rounds that bring as much as this are begun before they are needed.
const OVERLAP_FROM_BYTES: u64 = 512 << 10;
/// In so many pieces.
const PIECES: u64 = 4;
/// So many may be under way, for all runs.
const MOST_COMING: usize = 8;

/// No read-ahead while more than this (decoded) waits to be used.
const WINDOW_BYTES: usize = 32 << 20;

/// How often a scan that has given no row yet begins again at a newer version.
const MOST_RESTARTS: u32 = 5;

/// Memory for keys is taken in chunks: the first of a scan is small, each of the next four times as large, up to the last size.
const FIRST_KEY_CHUNK: usize = 512;
const KEY_CHUNK: usize = 32 << 10;

/// A row. Key and value share the memory they were read into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The user key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The number of the write that put it.
    pub seq: Seq,
    /// When it expires, in wall-clock milliseconds; 0 if it does not.
    pub expire_at_ms: u64,
}

/// A scan: `'static + Send`, a [`futures::Stream`] of `Result<Row>`, and [`next().await`](Self::next).
///
/// It reads one moment: writes made after it was created do not show (a scan of a handle, not of a snapshot,
/// whose version turns out to be collected before its first row begins once more at a newer one). It holds its
/// version, so a scan that is kept for long keeps memtables in memory, and pins the version in the store once it
/// has lasted for half the database's retention, until it is dropped. If it may not or cannot keep the pin up, it
/// fails with [`SnapshotExpired`](crate::ErrorKind::SnapshotExpired) when what it reads has been collected, never
/// with wrong rows.
///
/// ```no_run
/// # async fn f(db: esker::Db) -> esker::Result<()> {
/// let mut rows = db.scan("a".."z").rev().limit(10);
/// while let Some(row) = rows.next().await? {
///     assert!(row.key.as_ref() < b"z".as_slice());
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Scan {
    state: State,
}

#[derive(Debug)]
enum State {
    /// Not started: order and limit can still change.
    New(Box<Plan>),
    Running(Box<Running>),
    /// Will fail at the next call.
    Failed(Error),
    Done,
}

/// What is to be read.
struct Plan {
    fetcher: Fetcher,
    sv: Arc<SuperVersion>,
    keyspace: KeyspaceId,
    range: KeyRange,
    seq: Seq,
    now_ms: u64,
    direction: Direction,
    limit: usize,
    hold: Option<Arc<Hold>>,
    again: Option<Again>,
}

/// Brings the newest version, and the number that goes with it.
pub(crate) type Again = Arc<dyn Fn() -> BoxFuture<'static, Result<(Arc<SuperVersion>, Seq)>> + Send + Sync>;

/// A round under way.
type Round = BoxFuture<'static, Result<Brought>>;

/// A round that nobody waits for yet.
struct Coming {
    blocks: Vec<(ObjectId, usize)>,
    answer: oneshot::Receiver<Result<Brought>>,
    /// Held so that the requests end with us.
    task: Task,
}

/// What a round is to bring.
struct Ahead {
    missing: Vec<Missing>,
    /// The memory for it.
    charge: Charge,
}

/// What a round brings.
enum Brought {
    /// What was missing, with what came, and the memory for it.
    Bytes(Vec<(Missing, Fetched)>, Charge),
    /// A newer version to begin at.
    Newer(Arc<SuperVersion>, Seq),
}

/// Where a scan that has not given a row may begin again.
struct Restart {
    again: Again,
    keyspace: KeyspaceId,
    range: KeyRange,
    now_ms: u64,
    direction: Direction,
    left: u32,
}

struct Running {
    rows: Visible,
    window: Window,
    fetch: Option<Round>,
    /// Rounds after that, under way in the background.
    coming: Vec<Coming>,
    /// The tail that is under way, and what brings it.
    tail: Option<(ObjectId, Task)>,
    /// Read-ahead of the next round, if there is memory for it.
    ahead_bytes: u64,
    left: usize,
    keys: BytesMut,
    /// The size of the chunk that they are in.
    key_chunk: usize,
    hold: Option<Arc<Hold>>,
    /// Until the first row.
    restart: Option<Box<Restart>>,
}

impl Scan {
    /// The rows of `range` that are visible at `seq` and `now_ms`. `range` is a `Result` so that a bad
    /// range is reported by the first `next`.
    pub fn new(
        fetcher: Fetcher,
        sv: Arc<SuperVersion>,
        keyspace: KeyspaceId,
        range: Result<KeyRange>,
        seq: Seq,
        now_ms: u64,
    ) -> Self {
        let hold = fetcher.hold(&sv.view);
        Self::held(fetcher, sv, keyspace, range, seq, now_ms, hold)
    }

    /// The same for one who holds the version already.
    pub(super) fn held(
        fetcher: Fetcher,
        sv: Arc<SuperVersion>,
        keyspace: KeyspaceId,
        range: Result<KeyRange>,
        seq: Seq,
        now_ms: u64,
        hold: Option<Arc<Hold>>,
    ) -> Self {
        let state = match range {
            Ok(range) => State::New(Box::new(Plan {
                fetcher,
                sv,
                keyspace,
                range,
                seq,
                now_ms,
                direction: Direction::Forward,
                limit: usize::MAX,
                hold,
                again: None,
            })),
            Err(error) => State::Failed(error),
        };
        Self { state }
    }

    /// A scan that fails with `error` at once.
    pub fn failed(error: Error) -> Self {
        Self { state: State::Failed(error) }
    }

    /// If the version has been collected before the first row was given, begins once more at what `again` brings.
    #[must_use]
    pub(crate) fn or_again(mut self, again: Again) -> Self {
        if let State::New(plan) = &mut self.state {
            plan.again = Some(again);
        }
        self
    }

    /// Descending order. Has an effect only before the first `next`.
    #[must_use]
    pub fn rev(mut self) -> Self {
        if let State::New(plan) = &mut self.state {
            plan.direction = Direction::Reverse;
        }
        self
    }

    /// At most `rows` rows. Has an effect only before the first `next`.
    #[must_use]
    pub fn limit(mut self, rows: usize) -> Self {
        if let State::New(plan) = &mut self.state {
            plan.limit = rows;
        }
        self
    }

    /// The next row; `None` after the last. Fails with `Invalid` for a bad range, `SnapshotExpired`,
    /// `Corruption`, or as the store does; after a failure there are no more rows.
    pub async fn next(&mut self) -> Result<Option<Row>> {
        std::future::poll_fn(|cx| self.poll_row(cx)).await
    }

    fn poll_row(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Row>>> {
        let running = match &mut self.state {
            State::Running(running) => running,
            _ => match self.start() {
                Ok(Some(running)) => running,
                Ok(None) => return Poll::Ready(Ok(None)),
                Err(error) => return Poll::Ready(Err(error)),
            },
        };
        let row = ready!(running.poll_row(cx));
        if !matches!(row, Ok(Some(_))) {
            self.state = State::Done;
        }
        Poll::Ready(row)
    }

    #[cold]
    fn start(&mut self) -> Result<Option<&mut Box<Running>>> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::New(plan) => self.state = State::Running(Box::new(plan.start())),
            State::Failed(error) => return Err(error),
            State::Running(_) | State::Done => {}
        }
        Ok(match &mut self.state {
            State::Running(running) => Some(running),
            _ => None,
        })
    }
}

impl Stream for Scan {
    type Item = Result<Row>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_row(cx).map(Result::transpose)
    }
}

impl Plan {
    fn start(self) -> Running {
        let (keyspace, now_ms, direction) = (self.keyspace, self.now_ms, self.direction);
        let rows = rows(&self.sv, &self.range, keyspace, self.seq, now_ms, direction).wanted(self.limit);
        let restart = self.again.map(|again| {
            let left = MOST_RESTARTS;
            Box::new(Restart { again, keyspace, range: self.range, now_ms, direction, left })
        });
        Running {
            rows,
            window: Window::new(self.fetcher),
            fetch: None,
            coming: Vec::new(),
            tail: None,
            ahead_bytes: 0,
            left: self.limit,
            keys: BytesMut::with_capacity(FIRST_KEY_CHUNK),
            key_chunk: FIRST_KEY_CHUNK,
            // slatedb #2073: the lease ended before the scan.
            hold: self.hold.filter(|_| !bug(Bug::ScanUnprotected)),
            restart,
        }
    }
}

impl Running {
    fn poll_row(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Row>>> {
        if self.left == 0 {
            return Poll::Ready(Ok(None));
        }
        loop {
            if let Some(fetch) = &mut self.fetch {
                let fetched = ready!(fetch.as_mut().poll(cx));
                self.fetch = None;
                match fetched {
                    Ok(Brought::Bytes(fetched, charge)) => {
                        self.window.take_in(fetched, charge);
                        self.begin_next();
                    }
                    Ok(Brought::Newer(sv, seq)) => self.begin_at(&sv, seq),
                    // slatedb #2073: a scan over SSTs that are gone skipped them.
                    Err(error) if error.kind() == ErrorKind::SnapshotExpired && bug(Bug::ExpiredIsTheEnd) => {
                        return Poll::Ready(Ok(None));
                    }
                    Err(error) => self.fetch = Some(self.begin_again(error)?),
                }
                continue;
            }
            match self.rows.step(&self.window)? {
                Step::Ready => {
                    self.left -= 1;
                    self.restart = None;
                    return Poll::Ready(Ok(self.row()));
                }
                Step::End => return Poll::Ready(Ok(None)),
                Step::Missing(_) => {
                    // What comes for another run goes on beside it.
                    let coming = self.take_coming();
                    self.fetch = Some(coming.unwrap_or_else(|| self.round()));
                }
            }
        }
    }

    #[inline]
    fn row(&mut self) -> Option<Row> {
        let entry = self.rows.row()?;
        let (seq, expire_at_ms) = (entry.seq, entry.expire_at_ms);
        let user_key = entry.key.get(KEYSPACE_BYTES..).unwrap_or_default();
        if self.keys.capacity() < user_key.len() {
            self.key_chunk = (self.key_chunk * 4).min(KEY_CHUNK);
            self.keys = BytesMut::with_capacity(self.key_chunk.max(user_key.len()));
        }
        self.keys.extend_from_slice(user_key);
        Some(Row { key: self.keys.split().freeze(), value: self.rows.value(), seq, expire_at_ms })
    }

    /// One round: what is missing, and what will be next.
    fn round(&mut self) -> Round {
        let missing = self.rows.missing().to_vec();
        let has_block = missing.iter().any(|one| matches!(one, Missing::Block(..)));
        let blocks = missing.iter().filter(|one| matches!(one, Missing::Block(..)));
        self.window.is_at(blocks.map(Missing::memory_bytes).sum());
        let is_far = self.window.fetcher().is_far();
        let wanted = self.wanted_bytes(&missing, is_far);
        if self.ahead_bytes == 0 && is_far {
            self.ahead_bytes =
                if wanted < u64::MAX { wanted.min(OVERLAP_FROM_BYTES) } else { FIRST_AHEAD_BYTES };
        }
        let wish = if self.window.bytes() < WINDOW_BYTES { self.ahead_bytes.min(wanted) } else { 0 };
        let Ahead { missing, charge } = self.ahead(&missing, wish);
        if has_block {
            self.ahead_bytes = (self.ahead_bytes * 2).clamp(FIRST_AHEAD_BYTES, MOST_AHEAD_BYTES);
        }
        self.bring(missing, charge)
    }

    /// Stored bytes that the wanted rows may take behind the `missing` blocks, if they all come from one source: whole blocks,
    /// one more for what is less than a block if the store is far, and a little more, as blocks are not of one size.
    fn wanted_bytes(&self, missing: &[Missing], is_far: bool) -> u64 {
        if self.left == usize::MAX {
            return u64::MAX;
        }
        let of = |one: &Missing| {
            let (meta, block) = (&one.sst().meta, one.stored_bytes().max(1));
            let rows = (self.left as u64).min(meta.entries);
            let bytes = u128::from(meta.tail_offset) * u128::from(rows) / u128::from(meta.entries.max(1));
            let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
            let blocks = if is_far { bytes.div_ceil(block) } else { bytes / block };
            blocks.saturating_mul(block).saturating_add(block / 4)
        };
        let blocks = missing.iter().filter(|one| matches!(one, Missing::Block(..)));
        blocks.map(of).max().unwrap_or(0)
    }

    /// Keeps rounds under way behind what has come, if there is so much to read that waiting for them shows: several
    /// small ones rather than a large one, as that would be as slow as the slowest of its requests.
    fn begin_next(&mut self) {
        if self.ahead_bytes < OVERLAP_FROM_BYTES || self.window.bytes() >= WINDOW_BYTES {
            return;
        }
        let mut ahead = Vec::new();
        self.rows.ahead(self.ahead_bytes * 2, &self.window, &mut ahead);
        ahead.retain(|one| !self.is_here(one));
        if let Some(Missing::Tail(sst)) = ahead.pop_if(|one| matches!(one, Missing::Tail(_))) {
            self.begin_tail(sst);
        }
        let mut ahead = ahead.into_iter();
        let piece_bytes = self.ahead_bytes / PIECES;
        self.ahead_bytes = (self.ahead_bytes * 2).min(MOST_AHEAD_BYTES);
        while self.coming.len() < MOST_COMING {
            let (mut piece, mut bytes) = (Vec::new(), 0);
            while bytes < piece_bytes
                && let Some(one) = ahead.next()
            {
                bytes += one.stored_bytes();
                piece.push(one);
            }
            // What is less than a piece waits until it is one, or the next thing that is missing.
            let is_little = bytes < piece_bytes && !self.coming.is_empty();
            if piece.is_empty() || is_little {
                return;
            }
            let want = piece.iter().map(Missing::memory_bytes).sum();
            let charge = self.window.fetcher().memory().ask(Use::Scans, want, 0);
            if charge.bytes() < want {
                return;
            }
            self.begin(piece, charge);
        }
    }

    /// Begins a round of blocks in the background.
    fn begin(&mut self, missing: Vec<Missing>, charge: Charge) {
        let block = |one: &Missing| match one {
            Missing::Block(sst, index) => Some((sst.id, *index)),
            Missing::Tail(_) => None,
        };
        let blocks: Vec<_> = missing.iter().filter_map(block).collect();
        let (send, answer) = oneshot::channel();
        let round = self.bring(missing, charge);
        let task = Task::try_spawn(async move {
            // Nobody wants it any more if the receiver is gone.
            let _ = send.send(round.await);
        });
        if let Some(task) = task {
            self.window.expect(&blocks);
            self.coming.push(Coming { blocks, answer, task });
        }
    }

    /// Begins to fetch the tail of the SST that comes after this one.
    fn begin_tail(&mut self, sst: Arc<OpenSst>) {
        if self.tail.as_ref().is_some_and(|(id, _)| *id == sst.id) {
            return;
        }
        let (fetcher, id) = (self.window.fetcher().clone(), sst.id);
        let task = Task::try_spawn(async move {
            // Whoever needs it fetches it, or joins in, and is told.
            let _ = fetcher.fetch(&[Missing::Tail(sst)], Cause::Read).await;
        });
        self.tail = task.map(|task| (id, task));
    }

    /// The round under way that brings something that is missing.
    fn take_coming(&mut self) -> Option<Round> {
        let brings_any = |coming: &Coming| {
            let is_one = |one: &Missing| matches!(one, Missing::Block(sst, index) if coming.blocks.contains(&(sst.id, *index)));
            self.rows.missing().iter().any(is_one)
        };
        let at = self.coming.iter().position(brings_any)?;
        let coming = self.coming.remove(at);
        self.window.expect_no_longer(&coming.blocks);
        Some(coming.round(self.hold.clone()))
    }

    fn is_here(&self, one: &Missing) -> bool {
        match one {
            Missing::Block(sst, index) => self.window.has(sst, *index) || self.window.is_coming(sst, *index),
            Missing::Tail(_) => false,
        }
    }

    /// What the window has not got of `missing`, and up to `wish` stored bytes of what comes behind it, for each source
    /// that waits: as much as there is memory for.
    fn ahead(&self, missing: &[Missing], wish: u64) -> Ahead {
        let cost = |all: &[Missing]| all.iter().map(Missing::memory_bytes).sum::<usize>();
        let find = |bytes: u64| {
            let mut all = missing.to_vec();
            if bytes > 0 {
                self.rows.ahead(bytes, &self.window, &mut all);
            }
            all.retain(|one| !self.is_here(one));
            all
        };
        let all = find(wish);
        let (least, want) = (cost(&find(0)), cost(&all));
        let mut charge = self.window.fetcher().memory().ask(Use::Scans, want, least);
        let given = charge.bytes();
        if given >= want {
            return Ahead { missing: all, charge };
        }
        let bytes = u128::from(wish) * (given - least) as u128 / (want - least) as u128;
        let bytes = u64::try_from(bytes).unwrap_or(wish);
        let missing = find(bytes);
        charge.becomes(cost(&missing));
        Ahead { missing, charge }
    }

    /// Brings `missing`.
    fn bring(&self, missing: Vec<Missing>, charge: Charge) -> Round {
        let (fetcher, hold) = (self.window.fetcher().clone(), self.hold.clone());
        Box::pin(async move {
            if let Some(hold) = hold {
                hold.secure().await?;
            }
            let fetched = match fetcher.fetch(&missing, Cause::Read).await {
                Ok(fetched) => fetched,
                Err(error) => return Err(fetcher.expired(error).await),
            };
            Ok(Brought::Bytes(missing.into_iter().zip(fetched).collect(), charge))
        })
    }

    /// The round after a failure, if there is to be one: for a newer version.
    fn begin_again(&mut self, error: Error) -> Result<Round> {
        match &mut self.restart {
            Some(restart) if error.kind() == ErrorKind::SnapshotExpired && restart.left > 0 => {
                restart.left -= 1;
                let newest = (restart.again)();
                Ok(Box::pin(async move {
                    let (sv, seq) = newest.await?;
                    Ok(Brought::Newer(sv, seq))
                }))
            }
            _ => Err(error),
        }
    }

    fn begin_at(&mut self, sv: &Arc<SuperVersion>, seq: Seq) {
        let Some(restart) = &self.restart else { return };
        let Restart { keyspace, range, now_ms, direction, .. } = &**restart;
        self.rows = rows(sv, range, *keyspace, seq, *now_ms, *direction).wanted(self.left);
        self.hold = self.window.fetcher().hold(&sv.view);
        self.window.clear();
        self.coming.clear();
    }
}

impl Coming {
    /// The rest of it, for one who waits.
    fn round(self, hold: Option<Arc<Hold>>) -> Round {
        Box::pin(async move {
            // It was fetched while the version was held; it is shown only while it still is.
            if let Some(hold) = hold {
                hold.secure().await?;
            }
            let brought = self.answer.await;
            drop(self.task);
            brought.map_err(|e| Error::closed("a read stopped, the runtime is shutting down").because(e))?
        })
    }
}

/// The rows of a range, from the beginning.
fn rows(
    sv: &SuperVersion,
    range: &KeyRange,
    keyspace: KeyspaceId,
    seq: Seq,
    now_ms: u64,
    direction: Direction,
) -> Visible {
    let memtables = sv.memtables().map(|memtable| Source::Mem(Arc::clone(memtable)));
    let runs = sv.view.runs.iter().map(|run| Source::Run(Arc::clone(&run.ssts)));
    Visible::new(Tree::new(memtables.chain(runs), &range.full(keyspace), direction), seq, now_ms)
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("range", &self.range).field("seq", &self.seq).finish_non_exhaustive()
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("left", &self.left).field("ahead_bytes", &self.ahead_bytes).finish()
    }
}
