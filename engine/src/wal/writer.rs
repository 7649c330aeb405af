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
//! once, or together with those who were just told that their last write is durable and write again. Behind others it is
//! sent a while after the last of them (`pace.rs` says when), if a slot of the window and memory are free; if not, the buffer
//! goes on filling while the uploads before it travel. Nobody wanting anything means no request: an idle database sends no
//! PUT.
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
//! Always true: a `Landing` (`pipe.rs`) says "durable" only when its object and every object before it lie in
//! their slots with our bytes; once one slot is found to be another's, no later one is ever acknowledged.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, TryFutureExt as _, stream::FuturesOrdered};

use crate::{
    chaos::{Bug, bug},
    clock::{self, SharedClock},
    codec::frame::Codec,
    error::{Error, ErrorKind, Result},
    key::Seq,
    manifest::edit,
    memory::{Charge, Memory, Use},
    stats::Cause,
    store::{self, Name, Sequence, reread::READS},
    wal::{
        pace::Pace,
        pipe::{Cut, Pipe, Trouble},
        record::{WalHeader, WalObject, encode_data},
    },
};

/// Objects above this are compressed on a CPU thread; below it the hop would cost more than the work.
const INLINE_COMPRESS_BYTES: usize = 64 << 10;
/// The same for those that are only copied and summed: the hop may have to wait for a merge's turn.
const INLINE_COPY_BYTES: usize = 1 << 20;
/// The pause before an upload that failed for good in the store floor is begun again.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

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
                    // Whoever asks first pokes this task again.
                    let waiting = pipe.waiting()?;
                    let now = self.clock.monotonic();
                    if let Some(left) = pace.left(now, is_alone, waiting) {
                        alarm.set(&self.clock, now, left);
                        return None;
                    }
                    cut_if_wanted();
                    pipe.next(fits)
                });
                let Some(cut) = next else { break };
                let charge = self.memory.hold(Use::Log, cut.log.bytes);
                pace.sent(self.clock.monotonic());
                let codec = if flying.len() * 2 < self.window { Codec::None } else { Codec::Lz4 };
                let upload = self.upload(cut, codec, charge, pipe.durable_slot(), pipe.trouble()).inspect_ok(
                    |Sent { slot, last_seq, .. }| {
                        // The rule at the head, broken.
                        if bug(Bug::AcknowledgedOutOfOrder) {
                            pipe.landed(*slot, *last_seq, |_, asking| asking);
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
                        let now = self.clock.monotonic();
                        pipe.landed(slot, last_seq, |told, asking| pace.landed(now, took, told, asking));
                    }
                    Err(error) => {
                        // What is still in flight can only land in slots that nobody will read.
                        ends(&error);
                        pipe.stop(&error);
                        return error;
                    }
                },
                () = pipe.poked() => {}
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
        let inline = if codec == Codec::None { INLINE_COPY_BYTES } else { INLINE_COMPRESS_BYTES };
        let body = if log.bytes > inline {
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

/// When to look again, if that is set, and the wait for it.
#[derive(Default)]
struct Alarm(Option<(Duration, Sleep)>);

type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Alarm {
    /// Rings when `left` has passed since `now`, and no more when it would have before.
    fn set(&mut self, clock: &SharedClock, now: Duration, left: Duration) {
        let at = now + left;
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
