//! The one door to time, chance and threads.
//!
//! Everything above takes a [`Clock`] and asks it; nothing else in the engine reads a clock, draws
//! a random number, sleeps or spawns. A simulator hands in its own and a run replays from its seed.
//!
//! Always true: [`Clock::monotonic`] never goes back; [`Clock::wall_ms`] may, and nothing that is
//! about safety depends on it.
#![expect(clippy::disallowed_methods, reason = "this file is the door")]

use std::{
    cell::Cell,
    fmt,
    future::Future,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use rand::Rng as _;

use crate::error::{Error, Result};

/// Time and chance, as an argument. See [`SystemClock`].
pub trait Clock: Send + Sync + fmt::Debug {
    /// Milliseconds since the Unix epoch. For expiry of rows and for people; never for safety.
    fn wall_ms(&self) -> u64;
    /// Time since some fixed moment of this process; never goes back.
    fn monotonic(&self) -> Duration;
    /// A future that is ready after `duration`.
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>>;
    /// 128 fresh random bits: attempt tokens, uuids, nonces.
    fn random(&self) -> u128;
}

/// A shared clock.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock and its random source.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// The machine's clock, shared.
    pub fn shared() -> SharedClock {
        Arc::new(Self { start: Instant::now() })
    }
}

impl Clock for SystemClock {
    fn wall_ms(&self) -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
    }
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::time::sleep(duration))
    }
    fn random(&self) -> u128 {
        rand::rng().next_u64() as u128 | (rand::rng().next_u64() as u128) << 64
    }
}

/// Runs `future` with a deadline; `what` names it in the [`ErrorKind::Unavailable`](crate::ErrorKind) it fails with.
pub async fn deadline<T>(
    clock: &dyn Clock,
    limit: Duration,
    what: &str,
    future: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::select! {
        biased;
        done = future => done,
        () = clock.sleep(limit) => Err(Error::unavailable(format!("{what} did not finish within {limit:?}"))),
    }
}

/// A background task. Aborted when the handle is dropped.
#[derive(Debug)]
pub struct Task(tokio::task::JoinHandle<()>);

impl Task {
    /// Starts `future` in the background, on the runtime of the caller.
    pub fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }
    /// The same; `None` if the caller is on no runtime.
    pub fn try_spawn(future: impl Future<Output = ()> + Send + 'static) -> Option<Self> {
        let runtime = tokio::runtime::Handle::try_current().ok()?;
        Some(Self(runtime.spawn(future)))
    }
    /// Waits until the task has ended by itself.
    pub async fn join(mut self) {
        // A panic inside has already been reported by the panic hook; a task that ended is ended.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

thread_local! {
    static ONE_THREAD: Cell<u32> = const { Cell::new(0) };
}

/// While this lives, CPU work of its thread's runtime is done right there instead of on a pool: with a
/// current-thread runtime the whole engine then runs in one thread, and a seed repeats exactly.
#[derive(Debug)]
#[must_use = "it ends when it is dropped"]
pub struct OneThread(PhantomData<*const ()>);

impl OneThread {
    /// From now on, on this thread.
    pub fn begin() -> Self {
        ONE_THREAD.set(ONE_THREAD.get() + 1);
        Self(PhantomData)
    }
}

impl Drop for OneThread {
    fn drop(&mut self) {
        ONE_THREAD.set(ONE_THREAD.get() - 1);
    }
}

/// How many threads a tokio runtime that serves Esker is best given for blocking work (`max_blocking_threads`): files
/// and CPU work go there. Each thread keeps memory of its own that an allocator does not hand to the others, so
/// tokio's 512 cost memory that no budget sees: with a database on local disk and a budget of 1 MiB, loading 26 MB
/// peaked at 328 MB with 512 of them, at 149 with eight and at 114 with four.
///
/// ```
/// let runtime = tokio::runtime::Builder::new_multi_thread()
///     .enable_all()
///     .max_blocking_threads(esker::blocking_threads())
///     .build()?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn blocking_threads() -> usize {
    // Two more than can be at work at once: a write to a disk waits for it.
    std::thread::available_parallelism().map_or(2, usize::from) + 2
}

/// Runs CPU work (compressing, merging, building filters) away from the I/O threads. The work must not wait.
pub async fn on_cpu<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    if ONE_THREAD.get() > 0 {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::closed("a CPU task did not finish, the runtime is shutting down").because(e))
}
