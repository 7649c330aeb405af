//! Uploads the log: one object a slot, at most K in flight, acknowledged strictly in slot order.
//!
//! ```text
//!  put ──► open buffer ──seal──► queue ──► at most K uploads ──► landed, in slot order
//!          (write/head)          (Pipe)    (run)                 (Landing)
//!
//!  the k-th object goes to slot t+K+k, t being our fence
//! ```
//!
//! Group commit: whoever wants durability pokes the task. If nothing is in flight, the open buffer is cut off and sent at
//! once. Behind others it is sent a while after the last of them, and together with those who were just told that their
//! last write is durable and write again (`pace.rs`), if a slot of the window is free; if not, the buffer goes on filling while
//! the uploads before it travel, and is sent when the oldest of them lands. Nobody wanting anything means no request: an idle
//! database sends no PUT.
//!
//! While no more than half of the window is in flight the store keeps up, and objects are sent as they are: compressing
//! takes CPU from those who write, and makes nobody's wait shorter. Beyond that fewer bytes go up sooner, and they are.
//!
//! What a writer cannot see: that the slots behind it were emptied from outside. A create succeeds in an empty folder as
//! in a full one, and looking back would cost every write a request. So a writer whose log is deleted under it goes on
//! acknowledging; its entries are in its memtables still, and safe with the next flush. Only if it ends before is what the
//! memtables held lost, and that is told: the next opener misses the FENCE that the version names, and does not open
//! (`loss.rs`).
//!
//! Always true: a [`Landing`] says "durable" only when its object and every object before it lie in
//! their slots with our bytes; once one slot is found to be another's, no later one is ever acknowledged.

use std::{
    collections::VecDeque,
    future::Future,
    mem,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, TryFutureExt as _, stream::FuturesOrdered};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{
    chaos::{Bug, bug},
    clock::{self, SharedClock},
    codec::frame::Codec,
    error::{Error, ErrorKind, Result},
    key::Seq,
    manifest::edit,
    memory::{Charge, Memory, Use},
    stats::Cause,
    store::{self, Name, Sequence, is_of_disk, reread::READS},
    wal::{
        pace::Pace,
        record::{SealedLog, WalHeader, WalObject, encode_data},
    },
};

/// Objects above this are encoded on a CPU thread; below it the hop would cost more than the work.
const INLINE_ENCODE_BYTES: usize = 64 << 10;
/// The pause before an upload that failed for good in the store floor is begun again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What becomes of one log object: the place where its writers wait.
#[derive(Debug)]
pub struct Landing {
    done: OnceLock<Result<()>>,
    /// How many have asked for it.
    waiting: AtomicUsize,
    /// With so many the task is to look again.
    expected: AtomicUsize,
    arrived: Notify,
    poke: Arc<Notify>,
    trouble: Arc<Trouble>,
    clock: SharedClock,
    deadline: Duration,
}

/// Why the log cannot be sent just now.
#[derive(Debug, Default)]
struct Trouble {
    why: Mutex<Option<Error>>,
    noted: Notify,
}

impl Landing {
    /// Whether somebody waits for it.
    pub fn is_wanted(&self) -> bool {
        self.waiting() > 0
    }

    /// How many have asked for it.
    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// One more asks for it. Pokes the task for the first of them, and for the last of those who are expected: each of
    /// the two that could miss the other, this and [`Pipe::expect`], writes before it reads.
    fn ask(&self) {
        let waiting = self.waiting.fetch_add(1, Ordering::SeqCst) + 1;
        if waiting == 1 || waiting == self.expected.load(Ordering::SeqCst) {
            self.poke.notify_one();
        }
    }

    /// The outcome, if it is known.
    pub fn outcome(&self) -> Option<Result<()>> {
        self.done.get().cloned()
    }

    /// Asks for the object to be sent as soon as there is room, and waits until it has landed.
    ///
    /// Fails with what stopped the log ([`ErrorKind::Fenced`] above all: then the write was not applied),
    /// or with [`ErrorKind::OutcomeUnknown`] at the deadline, and at once if the local file system says no (a full disk):
    /// the upload goes on, and may be waited for again.
    pub async fn durable(&self) -> Result<()> {
        if let Some(done) = self.done.get() {
            return done.clone();
        }
        let landed = async {
            let mut has_asked = false;
            loop {
                let arrived = self.arrived.notified();
                tokio::pin!(arrived);
                arrived.as_mut().enable();
                if let Some(done) = self.done.get() {
                    return done.clone();
                }
                if !mem::replace(&mut has_asked, true) {
                    self.ask();
                }
                arrived.await;
            }
        };
        tokio::select! {
            biased;
            done = landed => done,
            // In doubt, done.
            () = self.clock.sleep(self.deadline), if bug(Bug::AcknowledgedOnTimeout) => Ok(()),
            why = self.trouble.for_good() => Err(Error::new(
                ErrorKind::OutcomeUnknown,
                "the write is accepted, but not durable, and cannot be for now",
            )
            .because(why)
            .hint("it is still being tried: mend that and wait again, or call sync()")),
            () = self.clock.sleep(self.deadline) => {
                let what = format!("the write is accepted, but was not confirmed as durable within {:?}", self.deadline);
                let error = Error::new(ErrorKind::OutcomeUnknown, what);
                let error = match self.trouble.why.lock().clone() {
                    Some(why) => error.because(why),
                    None => error,
                };
                Err(error.hint("it is still being sent: wait again, or call sync()"))
            }
        }
    }

    fn land(&self, outcome: Result<()>) {
        // The first outcome stands: what has landed cannot be un-landed by a later stop.
        if self.done.set(outcome).is_ok() {
            self.arrived.notify_waiters();
        }
    }
}

impl Trouble {
    fn note(&self, why: &Error) {
        *self.why.lock() = Some(why.clone());
        self.noted.notify_waiters();
    }

    fn is_over(&self) {
        self.why.lock().take();
    }

    /// Ready when asking again does not help: the local file system says no.
    async fn for_good(&self) -> Error {
        loop {
            let noted = self.noted.notified();
            tokio::pin!(noted);
            noted.as_mut().enable();
            if let Some(why) = self.why.lock().clone().filter(is_of_disk) {
                return why;
            }
            noted.await;
        }
    }
}

/// A log cut off and given its slot.
#[derive(Debug)]
struct Cut {
    slot: u64,
    log: SealedLog,
}

#[derive(Debug, Default)]
struct Waiting {
    cuts: VecDeque<Cut>,
    /// One for each object not yet landed, in slot order; the last belongs to the open buffer.
    landings: VecDeque<Arc<Landing>>,
    stopped: Option<Error>,
}

/// What lies between the put path and the task that uploads.
#[derive(Debug)]
pub struct Pipe {
    waiting: Mutex<Waiting>,
    poke: Arc<Notify>,
    durable_seq: AtomicU64,
    durable_slot: AtomicU64,
    trouble: Arc<Trouble>,
    clock: SharedClock,
    deadline: Duration,
}

impl Pipe {
    /// An empty pipe. Everything up to `durable_seq`, in slots up to `durable_slot`, is durable already.
    pub fn new(durable_seq: Seq, durable_slot: u64, clock: SharedClock, deadline: Duration) -> Self {
        Self {
            waiting: Mutex::default(),
            poke: Arc::default(),
            durable_seq: AtomicU64::new(durable_seq),
            durable_slot: AtomicU64::new(durable_slot),
            trouble: Arc::default(),
            clock,
            deadline,
        }
    }

    /// Opens the landing of the next object. One is open at a time, and the next is opened after the cut.
    pub fn open(&self) -> Arc<Landing> {
        let landing = Arc::new(Landing {
            done: OnceLock::new(),
            waiting: AtomicUsize::new(0),
            expected: AtomicUsize::new(0),
            arrived: Notify::new(),
            poke: self.poke.clone(),
            trouble: self.trouble.clone(),
            clock: self.clock.clone(),
            deadline: self.deadline,
        });
        let mut waiting = self.waiting.lock();
        match &waiting.stopped {
            Some(error) => landing.land(Err(error.clone())),
            None => waiting.landings.push_back(landing.clone()),
        }
        landing
    }

    /// Hands over the log of the open landing, for `slot`. Slots are given in order.
    pub fn send(&self, slot: u64, log: SealedLog) {
        let mut waiting = self.waiting.lock();
        if waiting.stopped.is_none() {
            debug_assert!(
                waiting.cuts.back().is_none_or(|before| before.slot + 1 == slot),
                "slots go up by one"
            );
            waiting.cuts.push_back(Cut { slot, log });
            drop(waiting);
            self.poke.notify_one();
        }
    }

    /// Everything up to this number is durable.
    pub fn durable_seq(&self) -> Seq {
        self.durable_seq.load(Ordering::Acquire)
    }

    /// The highest slot that holds our bytes, with nothing missing below it.
    pub fn durable_slot(&self) -> u64 {
        self.durable_slot.load(Ordering::Acquire)
    }

    /// Ends it: everything that has not landed fails with `error`. The first error stands.
    pub fn stop(&self, error: &Error) {
        let mut waiting = self.waiting.lock();
        if waiting.stopped.is_none() {
            waiting.stopped = Some(error.clone());
            waiting.cuts.clear();
            for landing in waiting.landings.drain(..) {
                landing.land(Err(error.clone()));
            }
        }
    }

    /// The next one to send, if it `fits` by its bytes.
    fn next(&self, fits: impl FnOnce(usize) -> bool) -> Option<Cut> {
        self.waiting.lock().cuts.pop_front_if(|cut| fits(cut.log.bytes))
    }

    /// Gives how many waited for it.
    fn landed(&self, slot: u64, last_seq: Seq) -> usize {
        let mut waiting = self.waiting.lock();
        self.durable_slot.store(slot, Ordering::Release);
        self.durable_seq.store(last_seq, Ordering::Release);
        let Some(landing) = waiting.landings.pop_front() else { return 0 };
        landing.land(Ok(()));
        landing.waiting()
    }

    /// How many wait for what is cut off next.
    fn waiting(&self) -> usize {
        self.waiting.lock().landings.back().map_or(0, |open| open.waiting())
    }

    /// The task is poked when so many wait for what is cut off next.
    fn expect(&self, count: usize) {
        if let Some(open) = self.waiting.lock().landings.back() {
            open.expected.store(count, Ordering::SeqCst);
        }
    }
}

/// Who writes, and how much at a time.
#[derive(Debug, Clone)]
pub struct LogWriter {
    /// The `wal/` sequence.
    pub sequence: Sequence,
    /// The database's uuid, for the object headers.
    pub db_uuid: u128,
    /// This writer's uuid.
    pub writer_uuid: u128,
    /// This writer's epoch.
    pub epoch: u32,
    /// K: objects in flight, at least 1.
    pub window: usize,
    /// Where the bytes of encoded objects are charged while they are in flight. They have to fit beside everything else;
    /// an object that is alone in flight goes in any case.
    pub memory: Arc<Memory>,
    /// For tokens and pauses.
    pub clock: SharedClock,
}

impl LogWriter {
    /// The task: uploads what is cut off, and has the open buffer cut off (`cut_if_wanted`) whenever the
    /// window has room. Runs until the log cannot go on, and says why: to `ends` first, then to all who wait.
    /// However it ends, the pipe is stopped.
    pub async fn run(self, pipe: Arc<Pipe>, cut_if_wanted: impl Fn(), ends: impl FnOnce(&Error)) -> Error {
        let _ended = StopsPipe(&pipe);
        let mut flying = FuturesOrdered::new();
        let (mut pace, mut alarm) = (Pace::default(), Alarm::default());
        loop {
            while flying.len() < self.window {
                let is_alone = flying.is_empty();
                let fits = |bytes: usize| is_alone || bytes <= self.memory.left(Use::Log);
                let next = pipe.next(fits).or_else(|| {
                    let (now, waiting) = (self.clock.monotonic(), pipe.waiting());
                    if waiting > 0
                        && let Some(left) = pace.left(now, is_alone, waiting)
                    {
                        alarm.set(&self.clock, now + left, left);
                        return None;
                    }
                    cut_if_wanted();
                    pipe.next(fits)
                });
                let Some(cut) = next else { break };
                let charge = self.memory.hold(Use::Log, cut.log.bytes);
                pace.sent(self.clock.monotonic());
                let codec = if flying.len() * 2 < self.window { Codec::None } else { Codec::Lz4 };
                let upload = self.upload(cut, codec, charge, pipe.durable_slot(), &pipe.trouble).inspect_ok(
                    |Sent { slot, last_seq, .. }| {
                        // The rule at the head, broken.
                        if bug(Bug::AcknowledgedOutOfOrder) {
                            pipe.landed(*slot, *last_seq);
                        }
                    },
                );
                flying.push_back(upload);
            }
            tokio::select! {
                biased;
                Some(landed) = flying.next() => match landed {
                    Ok(_) if bug(Bug::AcknowledgedOutOfOrder) => {}
                    Ok(Sent { slot, last_seq, took }) => {
                        let told = pipe.landed(slot, last_seq);
                        pipe.expect(pace.landed(self.clock.monotonic(), took, told, pipe.waiting()));
                    }
                    Err(error) => {
                        // What is still in flight can only land in slots that nobody will read.
                        ends(&error);
                        pipe.stop(&error);
                        return error;
                    }
                },
                () = pipe.poke.notified() => {}
                () = alarm.rings() => alarm = Alarm::default(),
            }
        }
    }

    /// Puts one object into its slot, with the same bytes however often it takes.
    async fn upload(
        &self,
        cut: Cut,
        codec: Codec,
        mut charge: Charge,
        durable_to: u64,
        trouble: &Trouble,
    ) -> Result<Sent> {
        let Cut { slot, log } = cut;
        let (last_seq, started) = (log.last_seq, self.clock.monotonic());
        let header = WalHeader {
            db_uuid: self.db_uuid,
            writer_uuid: self.writer_uuid,
            epoch: self.epoch,
            slot,
            token: self.clock.random().to_le_bytes(),
            first_seq: log.first_seq,
            durable_to,
        };
        let body = if log.bytes > INLINE_ENCODE_BYTES {
            clock::on_cpu(move || encode_data(&header, &log, codec)).await?
        } else {
            encode_data(&header, &log, codec)
        };
        charge.becomes(body.len());
        let (mut pause, mut reads) = (FIRST_PAUSE, 0);
        loop {
            match self.sequence.create(slot, vec![body.clone()], Cause::Wal, None).await {
                Ok(store::Slot::Ours) => {
                    trouble.is_over();
                    let took = self.clock.monotonic().saturating_sub(started);
                    return Ok(Sent { slot, last_seq, took });
                }
                Ok(store::Slot::Theirs(bytes)) => {
                    let error = self.taken(slot, bytes);
                    reads += 1;
                    if error.kind() != ErrorKind::Corruption || reads >= READS {
                        return Err(error);
                    }
                    // What was read may be wrong, and not what is there, which may be ours.
                    self.clock.sleep(FIRST_PAUSE).await;
                }
                Err(error) if error.kind() == ErrorKind::Corruption => return Err(error),
                Err(error) => {
                    tracing::warn!(slot, %error, "a log object could not be sent; trying again");
                    trouble.note(&error);
                    self.clock.sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Why our slot holds another's bytes.
    fn taken(&self, slot: u64, bytes: Bytes) -> Error {
        let object = WalObject::decode(slot, self.db_uuid, bytes);
        let name = Name::Wal(slot).path();
        match object {
            Ok(object) if object.header().epoch > self.epoch => {
                let who = match &object {
                    WalObject::Fence { writer_name, .. } => writer_name.as_str(),
                    WalObject::Data { .. } => "another process",
                };
                edit::fenced("writing to", who, object.header().epoch, self.epoch).on(name)
            }
            Ok(object) => Error::corruption(
                name,
                0,
                format!(
                    "a log slot of epoch {} holds an object of epoch {}, which nobody can have written",
                    self.epoch,
                    object.header().epoch
                ),
            ),
            Err(error) => error,
        }
    }
}

/// When to look again, if that is set.
#[derive(Default)]
struct Alarm(Option<(Duration, Pin<Box<dyn Future<Output = ()> + Send>>)>);

impl Alarm {
    /// Rings at `at`, which is in `left`, and no more when it would have before.
    fn set(&mut self, clock: &SharedClock, at: Duration, left: Duration) {
        if self.0.as_ref().is_none_or(|&(before, _)| before != at) {
            self.0 = Some((at, clock.sleep(left)));
        }
    }

    /// Ends when it rings; never if it is not set.
    async fn rings(&mut self) {
        match &mut self.0 {
            Some((_, sleep)) => sleep.await,
            None => std::future::pending().await,
        }
    }
}

/// An object that lies in its slot.
struct Sent {
    slot: u64,
    last_seq: Seq,
    took: Duration,
}

/// Stops the pipe when the task ends, was it by a panic.
struct StopsPipe<'a>(&'a Pipe);

impl Drop for StopsPipe<'_> {
    fn drop(&mut self) {
        self.0.stop(&Error::closed("the task that sends the log has ended"));
    }
}
