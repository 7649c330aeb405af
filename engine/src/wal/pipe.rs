//! What lies between those who write and the task that uploads the log: objects that wait to be sent, and who waits for them.
//!
//! ```text
//!  landings   │ in flight │ in flight │ cut, not sent │ open │     one each, in slot order
//!                                       └── cuts ──┘     ▲ writers ask here
//! ```
//!
//! Always true: the last landing is the open buffer's, at every moment that anybody can see; a landing says "durable" only after
//! every landing before it; once the pipe has stopped, every landing has an outcome.

use std::{
    collections::VecDeque,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{Notify, futures::Notified};

use crate::{
    chaos::{Bug, bug},
    clock::SharedClock,
    error::{Error, ErrorKind, Result},
    key::Seq,
    store::is_of_disk,
    wal::{pace::Waiting, record::SealedLog},
};

/// What becomes of one log object: the place where its writers wait.
#[derive(Debug)]
pub struct Landing {
    done: OnceLock<Result<()>>,
    /// Whether somebody has asked for it. One who gave up waiting has: what was accepted is sent.
    wanted: AtomicBool,
    /// How many ask for it now.
    asking: AtomicUsize,
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
pub(super) struct Trouble {
    why: Mutex<Option<Error>>,
    noted: Notify,
}

impl Landing {
    /// Whether somebody has asked for it.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// One more asks for it, until the guard is dropped. Pokes the task for the first of them, whenever they are twice as many
    /// (few may have become many), and for the last of those who are expected. Who asks while [`Pipe::landed`] reads how many
    /// ask and says how many are expected may poke nobody: the task, which has just called that, looks at who
    /// [waits](Pipe::waiting) before it sleeps.
    fn ask(&self) -> Asking<'_> {
        let asking = self.asking.fetch_add(1, Ordering::SeqCst) + 1;
        let is_first = !self.wanted.swap(true, Ordering::AcqRel);
        if is_first || asking.is_power_of_two() || asking == self.expected.load(Ordering::SeqCst) {
            self.poke.notify_one();
        }
        Asking(self)
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
        let _asking = self.ask();
        tokio::select! {
            biased;
            done = self.settled() => done,
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

    /// Waits for the outcome, however long it takes, and asks for nothing: for an object that is cut off already.
    pub async fn settled(&self) -> Result<()> {
        loop {
            let arrived = self.arrived.notified();
            tokio::pin!(arrived);
            arrived.as_mut().enable();
            if let Some(done) = self.done.get() {
                return done.clone();
            }
            arrived.await;
        }
    }

    fn land(&self, outcome: Result<()>) {
        // The first outcome stands: what has landed cannot be un-landed by a later stop.
        if self.done.set(outcome).is_ok() {
            self.arrived.notify_waiters();
        }
    }
}

/// One who asks for an object to be sent, and waits.
struct Asking<'a>(&'a Landing);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.asking.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Trouble {
    pub(super) fn note(&self, why: &Error) {
        *self.why.lock() = Some(why.clone());
        self.noted.notify_waiters();
    }

    pub(super) fn is_over(&self) {
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
pub(super) struct Cut {
    pub(super) slot: u64,
    pub(super) log: SealedLog,
}

#[derive(Debug, Default)]
struct Queue {
    cuts: VecDeque<Cut>,
    /// One for each object not yet landed, in slot order; the last belongs to the open buffer.
    landings: VecDeque<Arc<Landing>>,
    stopped: Option<Error>,
}

/// What lies between the put path and the task that uploads.
#[derive(Debug)]
pub struct Pipe {
    queue: Mutex<Queue>,
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
            queue: Mutex::default(),
            poke: Arc::default(),
            durable_seq: AtomicU64::new(durable_seq),
            durable_slot: AtomicU64::new(durable_slot),
            trouble: Arc::default(),
            clock,
            deadline,
        }
    }

    /// The landing of the first object. [`Self::cut`] gives those of the next.
    pub fn open(&self) -> Arc<Landing> {
        self.open_locked(&mut self.queue.lock())
    }

    /// Hands over the log of the open landing, for `slot`, and opens the landing of the next object. Slots go up by one.
    pub fn cut(&self, slot: u64, log: SealedLog) -> Arc<Landing> {
        let mut queue = self.queue.lock();
        if queue.stopped.is_none() {
            debug_assert!(
                queue.cuts.back().is_none_or(|before| before.slot + 1 == slot),
                "slots go up by one"
            );
            queue.cuts.push_back(Cut { slot, log });
            self.poke.notify_one();
        }
        self.open_locked(&mut queue)
    }

    fn open_locked(&self, queue: &mut Queue) -> Arc<Landing> {
        let landing = Arc::new(Landing {
            done: OnceLock::new(),
            wanted: AtomicBool::new(false),
            asking: AtomicUsize::new(0),
            expected: AtomicUsize::new(0),
            arrived: Notify::new(),
            poke: self.poke.clone(),
            trouble: self.trouble.clone(),
            clock: self.clock.clone(),
            deadline: self.deadline,
        });
        match &queue.stopped {
            Some(error) => landing.land(Err(error.clone())),
            None => queue.landings.push_back(landing.clone()),
        }
        landing
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
        let mut queue = self.queue.lock();
        if queue.stopped.is_none() {
            queue.stopped = Some(error.clone());
            queue.cuts.clear();
            for landing in queue.landings.drain(..) {
                landing.land(Err(error.clone()));
            }
        }
    }

    /// The next one to send, if it `fits` by its bytes.
    pub(super) fn next(&self, fits: impl FnOnce(usize) -> bool) -> Option<Cut> {
        self.queue.lock().cuts.pop_front_if(|cut| fits(cut.log.bytes))
    }

    /// The oldest object in flight has landed. `expect` is told how many waited for it and how many ask for the open one, and
    /// says with how many of those the task is to be poked.
    pub(super) fn landed(&self, slot: u64, last_seq: Seq, expect: impl FnOnce(usize, usize) -> usize) {
        let mut queue = self.queue.lock();
        self.durable_slot.store(slot, Ordering::Release);
        self.durable_seq.store(last_seq, Ordering::Release);
        // Before they are told: those who go at once would not count, and those who come back at once would count twice.
        if let (Some(oldest), Some(open)) = (queue.landings.front(), queue.landings.back()) {
            let [told, asking] = [oldest, open].map(|one| one.asking.load(Ordering::SeqCst));
            open.expected.store(expect(told, asking), Ordering::SeqCst);
        }
        if let Some(landing) = queue.landings.pop_front() {
            landing.land(Ok(()));
        }
    }

    /// Who waits for what is cut off next, and for what lies before it; `None` if nobody has asked for it yet, or if something
    /// that was cut off is not sent: behind that, what is open goes on filling.
    pub(super) fn waiting(&self) -> Option<Waiting> {
        let queue = self.queue.lock();
        queue.landings.back().filter(|open| open.is_wanted() && queue.cuts.is_empty())?;
        let mut asking = queue.landings.iter().rev().map(|landing| landing.asking.load(Ordering::SeqCst));
        Some(Waiting { asking: asking.next().unwrap_or(0), ahead: asking.sum() })
    }

    /// The task looks again when this is poked.
    pub(super) fn poked(&self) -> Notified<'_> {
        self.poke.notified()
    }

    /// Why the log cannot be sent just now, if so.
    pub(super) fn trouble(&self) -> &Trouble {
        &self.trouble
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn who_is_told_is_counted_first_and_once() {
        let pipe = Pipe::new(0, 0, SystemClock::shared(), Duration::from_secs(1));
        let (oldest, open) = (pipe.open(), pipe.open());
        let _asking = [oldest.ask(), oldest.ask(), open.ask()];
        pipe.landed(1, 1, |told, asking| {
            assert!(oldest.outcome().is_none(), "one of them may be back already, and counts twice");
            assert_eq!((told, asking), (2, 1));
            told + asking
        });
        assert!(oldest.outcome().is_some_and(|done| done.is_ok()));
        assert_eq!(open.expected.load(Ordering::SeqCst), 3);
    }
}
