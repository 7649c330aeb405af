//! The states of the model of writers that fence one another, and its steps.

pub(super) const EPOCHS: usize = 3;

pub(super) const SLOTS: usize = 18;

/// The most writes of an epoch. Write `n` of epoch `e` is bit `PUTS * (e - 1) + n`.
pub(super) const PUTS: u8 = 3;

/// What a slot holds. In one byte, for there are many: 0 nothing, `e` the FENCE of epoch e, 8 and up a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Object(pub(super) u8);

pub(super) const ABSENT: Object = Object(0);

impl Object {
    pub(super) fn fence(e: u8) -> Self {
        Self(e)
    }

    pub(super) fn data(e: u8, n: u8) -> Self {
        Self(8 + PUTS * (e - 1) + n)
    }

    /// Whether it is a FENCE. Not asked of what is absent.
    pub(super) fn is_fence(self) -> bool {
        self.0 < 8
    }

    pub(super) fn epoch(self) -> u8 {
        if self.is_fence() { self.0 } else { (self.0 - 8) / PUTS + 1 }
    }

    /// Its write as a bit; none if it is a FENCE or absent.
    pub(super) fn bit(self) -> u16 {
        if self.is_fence() { 0 } else { 1 << (self.0 - 8) }
    }
}

/// The newest version of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Root {
    pub(super) epoch: u8,
    pub(super) replay_from: u8,
    pub(super) tail_hint: u8,
    /// The slot and the epoch of the last FENCE whose writer was let in.
    pub(super) fence_slot: u8,
    pub(super) fence_epoch: u8,
    /// Writes in SSTs.
    pub(super) flushed: u16,
}

/// A place in a walk along the log, and what was replayed on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Walk {
    pub(super) slot: u8,
    pub(super) max_epoch: u8,
    pub(super) found: u16,
}

impl Walk {
    pub(super) fn start(root: &Root) -> Self {
        Self { slot: root.replay_from, ..Self::default() }
    }

    /// Steps over `object`.
    pub(super) fn pass(&mut self, object: Object, jump: u8) {
        if object.epoch() < self.max_epoch {
            self.slot += 1;
            return;
        }
        self.max_epoch = object.epoch();
        self.found |= object.bit();
        self.slot += if object.is_fence() { jump } else { 1 };
    }
}

/// Where a writer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum At {
    #[default]
    Away,
    Walk,
    Fence,
    Validate,
    Run,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Writer {
    pub(super) at: At,
    /// Its walk; once it runs, the slot of its FENCE, and all that was written before it.
    pub(super) walk: Walk,
    /// What the version that gave it the epoch says of the log's end and of the last FENCE; nothing once it runs.
    pub(super) tail_hint: u8,
    pub(super) fence_slot: u8,
    pub(super) fence_epoch: u8,
    /// Slots, as bits, into which it has sent its FENCE.
    pub(super) fences: u32,
    /// How many writes it has sent.
    pub(super) sent: u8,
    /// What each says was durable before it: how many writes of this epoch.
    pub(super) durable: [u8; PUTS as usize],
}

/// Where the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Reading {
    #[default]
    No,
    Walk,
    Check,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Reader {
    pub(super) at: Reading,
    /// The version it has.
    pub(super) version: Root,
    /// Where the walk begins, and all that the reader knows from before.
    pub(super) place: Walk,
    pub(super) walk: Walk,
    /// What this read must answer with at least.
    pub(super) must: u16,
    /// How many reads are over.
    pub(super) reads: u8,
    /// What all of them have shown.
    pub(super) shown: u16,
}

/// What somebody has come to that must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Fault {
    #[default]
    None,
    /// A slot was taken for lost.
    Hole,
    /// A writer has given up, and no newer epoch made it.
    FencedByNone,
    /// A read did not see what it had to.
    StaleRead,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) log: [Object; SLOTS],
    pub(super) root: Root,
    pub(super) writers: [Writer; EPOCHS],
    pub(super) acknowledged: u16,
    /// Slots, as bits, for which a DELETE was sent.
    pub(super) deletes: u32,
    pub(super) reader: Reader,
    pub(super) fault: Fault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Writer e commits the claim of epoch e.
    Claim(u8),
    /// It looks at the next slot; if that is absent, it sends its FENCE there.
    Walk(u8),
    /// The FENCE that e has sent into this slot lands.
    LandFence(u8, u8),
    /// It sees what is in the slot of its FENCE.
    SeeFence(u8),
    Validate(u8),
    /// It sends its next write.
    Send(u8),
    /// Write n of e lands in its slot.
    Land(u8, u8),
    /// Writer e sees what is in the slot of its write n, and acknowledges it.
    Acknowledge(u8, u8),
    /// It commits SSTs of all that it knows before this slot, the new replay point.
    Flush(u8, u8),
    Collect(u8),
    /// A strong read begins; anew, or where the one before has ended.
    Read(bool),
    ReadSlot,
    /// The reader takes the newest version.
    Check,
}

pub(super) fn bits(mask: u32) -> impl Iterator<Item = u8> {
    (0..32).filter(move |bit| mask & (1 << bit) != 0)
}

/// All writes of epochs before `e`.
pub(super) fn older(e: u8) -> u16 {
    (1 << (PUTS * (e - 1))) - 1
}

impl State {
    pub(super) fn object(&self, slot: u8) -> Object {
        self.log.get(usize::from(slot - 1)).copied().unwrap_or_default()
    }

    pub(super) fn put(&mut self, slot: u8, object: Object) -> Option<()> {
        let place = self.log.get_mut(usize::from(slot - 1))?;
        (*place == ABSENT).then(|| *place = object)
    }

    pub(super) fn writer(&self, e: u8) -> &Writer {
        &self.writers[usize::from(e - 1)]
    }

    /// How many writes of `e` are acknowledged, with none missing before them.
    pub(super) fn acked(&self, e: u8) -> u8 {
        let own = self.acknowledged >> (PUTS * (e - 1)) & ((1 << PUTS) - 1);
        own.trailing_ones() as u8
    }

    /// The epochs that run, or have run.
    pub(super) fn ran(&self) -> impl Iterator<Item = u8> {
        (1..=EPOCHS as u8).filter(|e| self.writer(*e).at == At::Run)
    }
}
