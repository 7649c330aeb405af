//! Who holds which version of a handle, and what is to be done about it: decisions only.
//!
//! ```text
//! young ── older than the grace, or wanted ──► write ──► held ──► renew, every quarter of a pin's life
//!   ▲                                          │  │        └── not renewed for too long ──► lost
//!   └── a hold on the same version comes       │  └── the version was collected ──────────► lost
//!                                              └── the store refuses, or is away ──► unpinned: again later
//! ```
//!
//! Holds on one version share one pin. As long as all holds on a version are young nothing is sent: a database
//! with a million short scans an hour writes no pin, because each of them is gone before its grace is over.
//!
//! Always true: a pin is released when its last hold goes, or when it is lost, and never before; a version whose
//! pin was lost stays lost for those who hold it, and is tried anew for those who come later.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{
    chaos,
    error::{Error, ErrorKind},
    manifest::{Pin, View},
};

/// No pin is written sooner than this only because a hold is there; one that is about to fetch may want it at once.
const SOONEST: Duration = Duration::from_secs(1);
/// A write or renewal that failed is tried again after this.
const TRY_AGAIN: Duration = Duration::from_secs(15);
/// After the store has refused a pin it is left alone with pins for this long.
const REFUSED: Duration = Duration::from_secs(300);

/// All holds of one handle.
#[derive(Debug, Default)]
pub(super) struct Holds {
    entries: BTreeMap<u64, Entry>,
    /// The entry that a new hold on a version joins.
    by_version: BTreeMap<u64, u64>,
    next: u64,
    released: VecDeque<Pin>,
    /// Releases under way.
    releasing: usize,
    refused_until: Duration,
    /// When the keeper looks again by itself; `None` if it waits to be woken.
    looks_at: Option<Duration>,
    /// No handle and no hold is left.
    closed: bool,
    /// The keeper is gone, with its runtime: nothing is pinned any more.
    orphaned: bool,
}

/// Which hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HoldKey {
    entry: u64,
    begun: Duration,
    number: u64,
}

/// Whether a hold may fetch now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Yes.
    Go,
    /// Not before its pin is written: wake the keeper, and ask again when something has changed.
    Wait,
    /// What it holds has been collected, or may have been.
    Lost,
}

/// A request that is due, for an entry.
#[derive(Debug)]
pub(super) enum Job {
    Write(u64, Pin),
    Renew(u64, Pin),
    Release(Pin),
}

/// What became of one.
#[derive(Debug)]
pub(super) enum Done {
    /// Written (begun at this moment): whether it holds.
    Wrote(u64, Duration, Result<bool, Error>),
    /// Renewed (begun at this moment), or not.
    Renewed(u64, Duration, Result<(), Error>),
    Released,
}

/// What is to be done now, and when to look again.
#[derive(Debug)]
pub(super) struct Due {
    pub(super) jobs: Vec<Job>,
    pub(super) look_at: Option<Duration>,
    /// There will never be anything to do.
    pub(super) finished: bool,
}

#[derive(Debug)]
struct Entry {
    view: Arc<View>,
    grace: Duration,
    holds: BTreeSet<(Duration, u64)>,
    status: Status,
    pin: Option<Pin>,
    /// Somebody waits to fetch.
    is_wanted: bool,
    /// A request for it is under way.
    is_busy: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Young,
    Held { until: Duration, renew_at: Duration },
    Unpinned { again_at: Duration },
    Lost,
}

impl Holds {
    /// A hold on `view` from `now` on; and whether the keeper has to be woken.
    pub(super) fn add(&mut self, view: &Arc<View>, now: Duration) -> (HoldKey, bool) {
        self.next += 1;
        let number = self.next;
        let entry = *self.by_version.entry(view.id()).or_insert(number);
        let held = self.entries.entry(entry).or_insert_with(|| Entry::young(view));
        held.holds.insert((now, number));
        let due = now.saturating_add(held.grace.max(SOONEST));
        (HoldKey { entry, begun: now, number }, self.looks_at.is_none_or(|at| due < at))
    }

    /// A hold is gone; says whether the keeper has to be woken.
    pub(super) fn drop_hold(&mut self, key: HoldKey) -> bool {
        let Some(entry) = self.entries.get_mut(&key.entry) else { return false };
        entry.holds.remove(&(key.begun, key.number));
        self.forget_unheld(key.entry)
    }

    /// Whether the holder of `key` may fetch at `now`.
    pub(super) fn verdict(&mut self, key: HoldKey, now: Duration) -> Verdict {
        let Some(entry) = self.entries.get_mut(&key.entry) else { return Verdict::Go };
        match entry.status {
            Status::Lost => Verdict::Lost,
            Status::Held { until, .. } if now < until => Verdict::Go,
            Status::Held { .. } => {
                self.lose(key.entry);
                Verdict::Lost
            }
            Status::Unpinned { .. } => Verdict::Go,
            Status::Young if self.orphaned || now < self.refused_until => Verdict::Go,
            Status::Young => {
                let is_old = now >= key.begun.saturating_add(entry.grace);
                if !is_old && !entry.is_wanted && !chaos::rare("a read is pinned at once") {
                    return Verdict::Go;
                }
                entry.is_wanted = true;
                Verdict::Wait
            }
        }
    }

    /// What is due at `now`, at most `room` requests of it.
    pub(super) fn due(&mut self, now: Duration, room: usize, fresh: impl Fn(&View) -> Pin) -> Due {
        let (mut jobs, mut look_at) = (Vec::new(), None::<Duration>);
        let too_late: Vec<u64> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.is_too_late(now))
            .map(|(number, _)| *number)
            .collect();
        too_late.into_iter().for_each(|number| self.lose(number));
        while jobs.len() < room
            && let Some(pin) = self.released.pop_front()
        {
            self.releasing += 1;
            jobs.push(Job::Release(pin));
        }
        for (number, entry) in &mut self.entries {
            let Some(at) = entry.due_at(self.refused_until) else { continue };
            if at > now {
                look_at = Some(look_at.map_or(at, |look_at| look_at.min(at)));
            } else if jobs.len() < room {
                entry.is_busy = true;
                let pin = entry.pin.get_or_insert_with(|| fresh(&entry.view)).clone();
                jobs.push(match entry.status {
                    Status::Held { .. } => Job::Renew(*number, pin),
                    _ => Job::Write(*number, pin),
                });
            }
        }
        self.looks_at = look_at;
        let finished = self.closed && self.entries.is_empty() && self.released.is_empty() && jobs.is_empty();
        Due { jobs, look_at, finished }
    }

    /// Takes in what became of a request.
    pub(super) fn settle(&mut self, done: Done, now: Duration) {
        let number = match &done {
            Done::Wrote(number, ..) | Done::Renewed(number, ..) => *number,
            Done::Released => {
                self.releasing -= 1;
                return;
            }
        };
        let Some(entry) = self.entries.get_mut(&number) else { return };
        entry.is_busy = false;
        let held_until = match entry.status {
            Status::Held { until, .. } => Some(until),
            _ => None,
        };
        match done {
            Done::Wrote(_, began, Ok(true)) => {
                chaos::mark("scan pinned");
                entry.status = held_from(began);
                entry.is_wanted = false;
            }
            Done::Wrote(_, _, Ok(false)) => self.lose(number),
            Done::Wrote(_, _, Err(error)) => {
                entry.is_wanted = false;
                let mut again_at = now + TRY_AGAIN;
                if matches!(error.kind(), ErrorKind::Invalid | ErrorKind::Unsupported) {
                    tracing::info!(%error, "the store takes no pins from us; reads go on without");
                    again_at = now + REFUSED;
                    self.refused_until = again_at;
                    // Nothing was written that there would be to release.
                    entry.pin = None;
                } else {
                    tracing::warn!(%error, "a version could not be pinned; trying again");
                }
                entry.status = Status::Unpinned { again_at };
            }
            Done::Renewed(_, began, Ok(())) if held_until.is_some_and(|until| now < until) => {
                entry.status = held_from(began);
            }
            Done::Renewed(_, _, Err(error)) if held_until.is_some_and(|until| now < until) => {
                tracing::warn!(%error, "a pin could not be renewed; trying again");
                if let Status::Held { renew_at, .. } = &mut entry.status {
                    *renew_at = now + TRY_AGAIN;
                }
            }
            Done::Renewed(..) => self.lose(number),
            Done::Released => {}
        }
        self.forget_unheld(number);
    }

    /// Whether nothing that nobody holds is still pinned, as far as can be helped.
    pub(super) fn is_drained(&self) -> bool {
        let unheld = |entry: &Entry| entry.holds.is_empty();
        self.orphaned
            || (self.released.is_empty() && self.releasing == 0 && !self.entries.values().any(unheld))
    }

    /// No handle and no hold is left: what is to be released is the last thing to do.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// The keeper is gone.
    pub(super) fn orphan(&mut self) {
        self.orphaned = true;
    }

    /// Drops an entry that nobody holds and no request is under way for; says whether its pin is to be released.
    fn forget_unheld(&mut self, number: u64) -> bool {
        if !self.entries.get(&number).is_some_and(|entry| entry.holds.is_empty() && !entry.is_busy) {
            return false;
        }
        let Some(entry) = self.entries.remove(&number) else { return false };
        self.leave(entry.view.id(), number);
        let Some(pin) = entry.pin else { return false };
        self.released.push_back(pin);
        true
    }

    fn lose(&mut self, number: u64) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        entry.status = Status::Lost;
        let (pin, version) = (entry.pin.take(), entry.view.id());
        self.released.extend(pin);
        self.leave(version, number);
    }

    /// The next hold on `version` does not join the entry `number`.
    fn leave(&mut self, version: u64, number: u64) {
        if self.by_version.get(&version) == Some(&number) {
            self.by_version.remove(&version);
        }
    }
}

impl Entry {
    fn young(view: &Arc<View>) -> Self {
        Self {
            view: Arc::clone(view),
            grace: Duration::from_millis(view.root.options.retention_ms / 2),
            holds: BTreeSet::new(),
            status: Status::Young,
            pin: None,
            is_wanted: false,
            is_busy: false,
        }
    }

    fn is_too_late(&self, now: Duration) -> bool {
        matches!(self.status, Status::Held { until, .. } if until <= now)
    }

    /// When a request for it is due.
    fn due_at(&self, refused_until: Duration) -> Option<Duration> {
        if self.is_busy {
            return None;
        }
        match self.status {
            Status::Young if self.is_wanted => Some(Duration::ZERO),
            Status::Young => {
                let (oldest, _) = self.holds.first()?;
                Some(oldest.saturating_add(self.grace.max(SOONEST)).max(refused_until))
            }
            Status::Held { renew_at, .. } => Some(renew_at),
            Status::Unpinned { again_at } => Some(again_at),
            Status::Lost => None,
        }
    }
}

fn held_from(began: Duration) -> Status {
    Status::Held { until: began + Pin::counts_for(), renew_at: began + Pin::heartbeat() }
}
