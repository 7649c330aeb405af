//! Room in memory for a write: had at once, after a pause, or when some is given back.
//!
//! Always true: room that is not used, because the write failed or its future was dropped, is given back.

use std::time::Duration;

use crate::{
    chaos::{self, Bug, bug},
    error::{Error, Result},
    memory::MemoryStats,
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
        let (budget, held) = (self.budget(), self.budget().memory().stats());
        let error = Error::unavailable(format!(
            "a write of {bytes} bytes found no room in the memory budget for {:?}: held are {held}; nothing was written",
            self.settings().deadline,
        ));
        error.hint(match Holder::of(&held, budget.held_by_readers()) {
            Holder::Merges(bytes) => format!(
                "merges hold {bytes} bytes of it: try again later, and give the database more memory (`memory_bytes`; with 16 MiB \
                 and more a merge leaves room)"
            ),
            Holder::Readers(bytes) => format!(
                "snapshots and scans hold {bytes} bytes of it: drop them, or give the database more memory"
            ),
            Holder::Store => "the store takes no writes, or takes them too slowly; try again later".to_owned(),
        })
    }
}

/// Who has to give something back before there is room.
#[derive(Debug, PartialEq, Eq)]
enum Holder {
    /// Merges, which hold more than half of the budget.
    Merges(usize),
    /// Snapshots and scans: memtables, and what was fetched for them.
    Readers(usize),
    /// Nobody here: what is to be sent is not taken.
    Store,
}

impl Holder {
    fn of(held: &MemoryStats, memtables_read: usize) -> Self {
        let merges = held.merge_input_bytes + held.merge_output_bytes;
        let readers = memtables_read + held.scan_bytes;
        match readers {
            _ if merges > held.limit_bytes / 2 => Self::Merges(merges),
            0 => Self::Store,
            _ => Self::Readers(readers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_the_memory_is_named() {
        let held = |scan_bytes, merge_output_bytes| MemoryStats {
            limit_bytes: 1000,
            memtable_bytes: 250,
            scan_bytes,
            merge_output_bytes,
            ..MemoryStats::default()
        };
        assert_eq!(Holder::of(&held(0, 0), 0), Holder::Store);
        assert_eq!(Holder::of(&held(0, 400), 0), Holder::Store, "a merge may hold its part");
        assert_eq!(Holder::of(&held(50, 400), 250), Holder::Readers(300));
        assert_eq!(Holder::of(&held(350, 2700), 250), Holder::Merges(2700));
    }
}
