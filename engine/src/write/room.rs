//! Room in memory for a write: had at once, after a pause, or when some is given back.
//!
//! Always true: room that is not used, because the write failed or its future was dropped, is given back.

use std::time::Duration;

use crate::{
    chaos::{self, Bug, bug},
    error::{Error, Result},
    write::{
        budget::{Admission, MemoryBudget},
        head::{Settings, Writer},
    },
};

/// How often a writer that waits looks again by itself: readers let go of memtables silently.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Memory charged for a write that has not been made yet. Given back when dropped.
#[derive(Debug)]
pub(super) struct Room<'a> {
    budget: &'a MemoryBudget,
    bytes: usize,
}

impl Room<'_> {
    /// The write is made: its bytes stay charged, and whoever holds them gives them back.
    pub(super) fn keep(mut self) -> usize {
        std::mem::take(&mut self.bytes)
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        // slatedb #1967, lix #948.
        if self.bytes > 0 && !bug(Bug::RoomNotGivenBack) {
            self.budget.release(self.bytes);
        }
    }
}

impl Writer {
    /// Memory for a write of `bytes`: at once below half the budget, after a pause above, and at the
    /// limit when some has been given back. Fails with `Unavailable` at the deadline; nothing was written.
    pub(super) async fn room(&self, bytes: usize) -> Result<Room<'_>> {
        if chaos::rare("a write asks for room the long way") || !self.budget().try_charge(bytes) {
            return self.wait_for_room(bytes).await;
        }
        Ok(Room { budget: self.budget(), bytes })
    }

    #[cold]
    async fn wait_for_room(&self, bytes: usize) -> Result<Room<'_>> {
        let budget = self.budget();
        let admission = match budget.admit(bytes) {
            Admission::Full => self.wait_in_line(bytes).await?,
            admission => admission,
        };
        let room = Room { budget, bytes };
        if let Admission::Pause(pause) = admission {
            self.settings().clock.sleep(pause).await;
        }
        Ok(room)
    }

    /// Waits behind those who came earlier, then for enough to be given back.
    async fn wait_in_line(&self, bytes: usize) -> Result<Admission> {
        let budget = self.budget();
        let Settings { clock, deadline, .. } = self.settings();
        let began = clock.monotonic();
        let place = budget.stand_in_line();
        let _first = tokio::select! {
            biased;
            first = place.first() => first,
            () = clock.sleep(*deadline) => return Err(self.no_room(bytes)),
        };
        loop {
            let released = budget.released();
            tokio::pin!(released);
            released.as_mut().enable();
            let admission = budget.admit_first(bytes);
            if admission != Admission::Full {
                return Ok(admission);
            }
            if let Some(error) = self.stopped() {
                return Err(error);
            }
            if clock.monotonic().saturating_sub(began) >= *deadline {
                return Err(self.no_room(bytes));
            }
            self.freeze_for_room();
            tokio::select! {
                biased;
                () = released => {}
                () = clock.sleep(LOOK_AGAIN) => budget.sweep(),
            }
        }
    }

    fn no_room(&self, bytes: usize) -> Error {
        let budget = self.budget();
        let error = Error::unavailable(format!(
            "a write of {bytes} bytes found no room in the memory budget for {:?}: held are {}; nothing was written",
            self.settings().deadline,
            budget.memory().stats(),
        ));
        match budget.held_by_readers() {
            0 => error.hint("the store takes no writes, or takes them too slowly; try again later"),
            held => error.hint(format!(
                "snapshots and scans hold {held} bytes of it: drop them, or give the database more memory"
            )),
        }
    }
}
