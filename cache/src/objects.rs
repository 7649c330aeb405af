//! Which objects nobody will read again: the memory tier sweeps their blocks out before it squeezes or evicts anything.
//!
//! An SST that was merged away leaves its blocks in memory, and S3-FIFO takes its time to find out that nobody asks for
//! them; squeezing them is work for nothing. Whoever reads an object says so for as long as it does ([`CachedObject`]).
//!
//! Always true: an object is gone only if it was used and is used by nobody now; of those that are gone the latest
//! [`MOST_GONE`] are remembered, and nothing else grows with the number of objects that ever were.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
};

use parking_lot::{RwLock, RwLockReadGuard};

use crate::id::IdHash;

/// How many objects are remembered as gone. The blocks of the others age as all do.
const MOST_GONE: usize = 4096;

/// Who is used, and who was.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    known: RwLock<Known>,
    /// How often an object went.
    departures: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    users: HashMap<u128, usize, IdHash>,
    gone: HashSet<u128, IdHash>,
    /// The same, in the order they went; those that came back are in it still.
    order: VecDeque<u128>,
}

/// Those who are gone, for as long as this is held.
pub(crate) struct Gone<'a>(RwLockReadGuard<'a, Known>);

/// A reader of the blocks of one object. With the last one of an object dropped, what the memory tier holds of it is the
/// first to leave.
#[derive(Debug)]
pub struct CachedObject {
    objects: Arc<Objects>,
    id: u128,
}

impl CachedObject {
    /// The object's id: [`BlockId::object`](crate::BlockId::object).
    pub fn id(&self) -> u128 {
        self.id
    }
}

impl Drop for CachedObject {
    fn drop(&mut self) {
        self.objects.release(self.id);
    }
}

impl Gone<'_> {
    /// Whether `object` is among them.
    pub(crate) fn contains(&self, object: u128) -> bool {
        self.0.gone.contains(&object)
    }
}

impl Objects {
    /// One more user of `id`.
    pub(crate) fn used(self: &Arc<Self>, id: u128) -> CachedObject {
        let mut known = self.known.write();
        *known.users.entry(id).or_default() += 1;
        known.gone.remove(&id);
        CachedObject { objects: Arc::clone(self), id }
    }

    /// Changes whenever an object goes.
    pub(crate) fn departures(&self) -> u64 {
        self.departures.load(Acquire)
    }

    /// Those who are gone now.
    pub(crate) fn gone(&self) -> Gone<'_> {
        Gone(self.known.read())
    }

    fn release(&self, id: u128) {
        let mut known = self.known.write();
        let Some(users) = known.users.get_mut(&id) else { return };
        *users -= 1;
        if *users > 0 {
            return;
        }
        known.users.remove(&id);
        known.gone.insert(id);
        known.order.push_back(id);
        while known.order.len() > MOST_GONE {
            let Some(oldest) = known.order.pop_front() else { break };
            known.gone.remove(&oldest);
        }
        self.departures.fetch_add(1, Release);
    }
}
