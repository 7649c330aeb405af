//! A timer that wakes within some tens of microseconds.
//!
//! Tokio's sleeps in whole milliseconds, which is a quarter of what an express store takes. Here one thread waits for the
//! earliest moment on a condition variable, and wakes who asked for it.
//!
//! Always true: nobody is woken before the moment they asked for; the thread ends when the timer is dropped.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::Arc,
    thread::{Builder, JoinHandle},
    time::Instant,
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// A thread that wakes tasks at moments.
#[derive(Debug)]
pub(crate) struct Timer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    sleepers: BinaryHeap<Reverse<Sleeper>>,
    number: u64,
    ended: bool,
}

/// Ordered by moment; the number makes each another.
#[derive(Debug)]
struct Sleeper {
    until: (Instant, u64),
    wake: oneshot::Sender<()>,
}

impl Timer {
    /// Starts the thread.
    pub(crate) fn start() -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = Builder::new().name("timer".into()).spawn(move || theirs.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Returns at `moment`, or soon after.
    pub(crate) async fn until(&self, moment: Instant) {
        if moment <= Instant::now() {
            return;
        }
        let (wake, woken) = oneshot::channel();
        {
            let mut queue = self.shared.queue.lock();
            queue.number += 1;
            let until = (moment, queue.number);
            queue.sleepers.push(Reverse(Sleeper { until, wake }));
        }
        self.shared.changed.notify_one();
        // It fails only when the timer ends, with everything that waits on it.
        let _ = woken.await;
    }
}

impl Shared {
    fn run(&self) {
        let mut queue = self.queue.lock();
        while !queue.ended {
            match queue.sleepers.peek().map(|first| first.0.until.0) {
                None => self.changed.wait(&mut queue),
                Some(moment) if moment > Instant::now() => {
                    let _ = self.changed.wait_until(&mut queue, moment);
                }
                Some(_) => {
                    if let Some(Reverse(sleeper)) = queue.sleepers.pop() {
                        // Who waits no longer need not be woken.
                        let _ = sleeper.wake.send(());
                    }
                }
            }
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.shared.queue.lock().ended = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed by it.
            let _ = thread.join();
        }
    }
}

impl PartialEq for Sleeper {
    fn eq(&self, other: &Self) -> bool {
        self.until == other.until
    }
}
impl Eq for Sleeper {}
impl PartialOrd for Sleeper {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Sleeper {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.until.cmp(&other.until)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn sleepers_wake_in_the_order_of_their_moments_and_never_early() {
        let timer = Timer::start().unwrap();
        let started = Instant::now();
        let woken = Mutex::new(Vec::new());
        let sleeper = |us: u64| {
            let (timer, woken) = (&timer, &woken);
            async move {
                let moment = started + Duration::from_micros(us);
                timer.until(moment).await;
                assert!(Instant::now() >= moment, "woken early");
                woken.lock().push(us);
            }
        };
        tokio::join!(sleeper(3000), sleeper(1000), sleeper(0), sleeper(2000));
        assert_eq!(*woken.lock(), [0, 1000, 2000, 3000]);
    }
}
