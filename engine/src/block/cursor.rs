//! Walks a block forward and backward without decoding it into rows.
//!
//! One key buffer is kept and its end rewritten at every step. Going back is harder, since an entry
//! is stored as what it adds to the one before it: the first step back within a restart interval
//! walks the interval once and stacks what each step forward overwrote, and every further step back
//! pops. So a step back costs O(1) amortised, and the stack is never larger than the interval.
//!
//! Always true: a cursor stands on an entry or nowhere (before the first, after the last, after an
//! error); the value it stands on is here (of a packed block: the chunk in which it lies, decompressed on arriving in
//! it, and never for an entry that is only passed; by a lazy cursor when it is asked for); `back`, if not empty, holds the entries from the restart up to the one before this one.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::{
    block::{
        Block, Head, MAX_FULL_KEY_BYTES, bad,
        packed::Values,
        search::{Probe, restart_before},
        stretch::{Room, Stretch, Writing},
    },
    error::Result,
    key::{EntryRef, Kind, Seq},
};

/// A position in a block.
///
/// ```
/// # use esker::{block::{Block, BlockBuilder}, key::{EntryRef, Kind}};
/// # let mut builder = BlockBuilder::new(16);
/// # for (seq, key) in [b"\0\0\0\0a", b"\0\0\0\0b"].into_iter().enumerate() {
/// #     builder.add(EntryRef { key, seq: seq as u64, kind: Kind::Put, expire_at_ms: 0, value: b"v" });
/// # }
/// # let block = Block::parse(builder.finish().into())?;
/// let mut cursor = block.cursor();
/// cursor.seek(b"\0\0\0\0b", u64::MAX)?;
/// while cursor.is_valid() {
///     assert_eq!(cursor.key(), b"\0\0\0\0b");
///     cursor.next()?;
/// }
/// # Ok::<(), esker::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct BlockCursor {
    block: Block,
    /// The number of this entry; the number of entries when standing nowhere.
    index: usize,
    key: Vec<u8>,
    here: Here,
    /// The one under the cursor is among them, unless it is still to be asked for.
    values: Values,
    is_lazy: bool,
    back: Vec<(Here, usize)>,
    tails: Vec<u8>,
}

/// What is read once on arriving at an entry.
#[derive(Debug, Clone, Copy)]
struct Here {
    /// How much of the key is the one before's.
    shared: usize,
    /// Where the next entry's front begins.
    next_at: usize,
    /// Among the values.
    value_at: usize,
    value_bytes: usize,
    kind: Kind,
}

impl BlockCursor {
    /// A cursor that stands nowhere yet.
    pub fn new(block: Block) -> Self {
        let here = Here { shared: 0, next_at: 0, value_at: 0, value_bytes: 0, kind: Kind::Put };
        let (index, values) = (block.entries(), block.values_here());
        Self {
            block,
            index,
            key: Vec::new(),
            here,
            values,
            is_lazy: false,
            back: Vec::new(),
            tails: Vec::new(),
        }
    }
    /// A cursor over a block of which some values may never be wanted: the value under it is empty until it is
    /// [brought](Self::bring).
    pub(crate) fn lazy(block: Block) -> Self {
        Self { is_lazy: true, ..Self::new(block) }
    }
    /// The block it walks.
    pub fn block(&self) -> &Block {
        &self.block
    }
    /// Whether it stands on an entry.
    #[inline]
    pub fn is_valid(&self) -> bool {
        self.index < self.block.entries()
    }

    /// The number of the entry under the cursor.
    #[inline]
    pub(crate) fn index(&self) -> usize {
        debug_assert!(self.is_valid());
        self.index
    }

    /// The entry under the cursor. Call only when valid (asserted in debug; never panics else).
    #[inline]
    pub fn entry(&self) -> EntryRef<'_> {
        EntryRef {
            key: self.key(),
            seq: self.seq(),
            kind: self.kind(),
            expire_at_ms: self.expire_at_ms(),
            value: self.values.get(self.value_range()),
        }
    }
    /// The full key under the cursor.
    #[inline]
    pub fn key(&self) -> &[u8] {
        debug_assert!(self.is_valid());
        &self.key
    }
    /// The sequence number under the cursor.
    #[inline]
    pub fn seq(&self) -> Seq {
        debug_assert!(self.is_valid());
        self.block.seq(self.index)
    }
    /// The kind under the cursor.
    #[inline]
    pub fn kind(&self) -> Kind {
        debug_assert!(self.is_valid());
        self.here.kind
    }
    /// When the entry under the cursor expires, in wall-clock milliseconds.
    #[inline]
    pub fn expire_at_ms(&self) -> u64 {
        debug_assert!(self.is_valid());
        self.block.expire_at_ms(self.index)
    }
    /// The value under the cursor, sharing the block's bytes, or those of a chunk of it.
    #[inline]
    pub fn value(&self) -> Bytes {
        debug_assert!(self.is_valid());
        self.values.share(self.value_range())
    }

    /// The entries from this one on whose keys lie before `until`, at most `most`; `None` if that would be less than two. The
    /// cursor is then on the last of them, without its value: all that it may be told is to go on to the next.
    /// Fails with `Corruption` where an entry makes no sense, and has not moved.
    pub(crate) fn take(
        &mut self,
        until: Option<&[u8]>,
        most: usize,
        room: &mut Room,
    ) -> Result<Option<Stretch>> {
        let mut bound = until.map(Probe::new);
        let is_before = bound.as_mut().is_none_or(|bound| bound.order(0, &self.key).is_lt());
        if most < 2 || !is_before {
            return Ok(None);
        }
        let (first, mut index, mut here) = (self.index, self.index, self.here);
        // Asked before anything is allocated: where sources alternate there is no second one.
        let Some(mut head) = self.look(index, &here, &mut bound)? else { return Ok(None) };
        let mut writing = Writing::new(&self.block, std::mem::take(room));
        if writing.key(here.next_at, 0, &self.key)?.is_none() {
            return Ok(None);
        }
        writing.entry(first, &self.value_range(), false)?;
        loop {
            let (at, value_at) = (here.next_at, here.value_at + here.value_bytes);
            let value = self.block.value_range(value_at, head.value_bytes)?;
            let Some(goes_on) = writing.key(at, head.shared, self.block.suffix(&head))? else { break };
            index += 1;
            let kind = writing.entry(index, &value, goes_on)?;
            let (shared, value_bytes) = (head.shared, head.value_bytes);
            here = Here { shared, next_at: head.next(), value_at, value_bytes, kind };
            if writing.len() >= most {
                break;
            }
            match self.look(index, &here, &mut bound)? {
                Some(next) => head = next,
                None => break,
            }
        }
        self.key.clear();
        self.key.extend_from_slice(writing.last_key());
        let stretch = writing.finish(first, std::mem::take(&mut self.values));
        self.forget();
        (self.index, self.here) = (index, here);
        Ok(Some(stretch))
    }

    /// The front of the entry after that with this number, if there is one before `bound`.
    #[inline]
    fn look(&self, index: usize, here: &Here, bound: &mut Option<Probe<'_>>) -> Result<Option<Head>> {
        if index + 1 >= self.block.entries() {
            return Ok(None);
        }
        let head = self.block.head(here.next_at)?;
        if let Some(bound) = bound {
            if (index + 1).is_multiple_of(self.block.interval()) {
                bound.restart();
            }
            if !bound.order(head.shared, self.block.suffix(&head)).is_lt() {
                return Ok(None);
            }
        }
        Ok(Some(head))
    }

    /// The entries from the first up to this one; `None` if their keys are too large to be written out. The cursor is then on
    /// the first of them, with neither key nor value: all that it may be told is to go on to the one before, which is nowhere.
    /// Fails with `Corruption` where an entry makes no sense, and has not moved.
    pub(crate) fn take_back(&mut self, room: &mut Room) -> Result<Option<Stretch>> {
        let stretch = self.block.stretch(0..self.index + 1, room)?;
        if stretch.is_some() {
            self.forget();
            self.index = 0;
        }
        Ok(stretch)
    }

    /// Takes back what is here of the values of `stretch`, which it has given: the next entries may share a chunk with it.
    pub(crate) fn keep_values(&mut self, stretch: &mut Stretch) {
        self.values = std::mem::take(&mut stretch.values);
    }

    /// To the first entry.
    pub fn first(&mut self) -> Result<()> {
        self.jump(0)?;
        self.settle()
    }
    /// To the last entry.
    pub fn last(&mut self) -> Result<()> {
        self.jump(self.block.restarts() - 1)?;
        while self.index + 1 < self.block.entries() {
            self.advance()?;
        }
        self.settle()
    }
    /// To the first entry at or after (key, seq), key ascending, seq *descending*:
    /// `seek(key, u64::MAX)` finds the first entry with a key of at least `key`.
    pub fn seek(&mut self, key: &[u8], seq: Seq) -> Result<()> {
        self.find(key, seq)?;
        self.settle()
    }
    /// To the last entry strictly before (key, seq).
    pub fn seek_before(&mut self, key: &[u8], seq: Seq) -> Result<()> {
        self.find(key, seq)?;
        if self.is_valid() { self.prev() } else { self.last() }
    }
    /// To the next entry; nowhere after the last. From nowhere to nowhere.
    #[inline]
    #[expect(
        clippy::should_implement_trait,
        reason = "a cursor moves and may fail; it lends, it does not give"
    )]
    pub fn next(&mut self) -> Result<()> {
        self.step()?;
        self.settle()
    }
    /// To the entry before; nowhere before the first. From nowhere to nowhere.
    pub fn prev(&mut self) -> Result<()> {
        if !self.is_valid() || self.index == 0 {
            self.leave();
            return Ok(());
        }
        let Some((here, tail)) = self.back.pop() else {
            self.walk_back()?;
            return self.settle();
        };
        self.key.truncate(self.here.shared);
        self.key.extend_from_slice(&self.tails[tail..]);
        self.tails.truncate(tail);
        self.here = here;
        self.index -= 1;
        self.settle()
    }

    /// Brings the value of the entry arrived at, unless it is here.
    #[inline]
    fn settle(&mut self) -> Result<()> {
        if self.is_lazy { Ok(()) } else { self.bring() }
    }

    /// Brings the value under a lazy cursor, if there is one. Fails with `Corruption` if it cannot be decompressed; the
    /// cursor then stands nowhere.
    #[inline]
    pub(crate) fn bring(&mut self) -> Result<()> {
        if !self.is_valid() || self.values.cover(&self.value_range()) { Ok(()) } else { self.decompress() }
    }

    #[cold]
    fn decompress(&mut self) -> Result<()> {
        match self.block.values(self.value_range()) {
            Ok(values) => {
                self.values = values;
                Ok(())
            }
            Err(e) => {
                self.leave();
                Err(e)
            }
        }
    }

    /// To where [`Self::seek`] goes, without the value.
    fn find(&mut self, key: &[u8], seq: Seq) -> Result<()> {
        let restart = match restart_before(&self.block, key, seq) {
            Ok(restart) => restart,
            Err(e) => {
                self.leave();
                return Err(e);
            }
        };
        self.jump(restart)?;
        let mut probe = Probe::new(key);
        loop {
            let before = match probe.order(self.here.shared, &self.key[self.here.shared..]) {
                Ordering::Less => true,
                Ordering::Equal => self.seq() > seq,
                Ordering::Greater => false,
            };
            if !before {
                return Ok(());
            }
            self.step()?;
            if !self.is_valid() {
                return Ok(());
            }
            if self.index.is_multiple_of(self.block.interval()) {
                probe.restart();
            }
        }
    }
    /// To where [`Self::next`] goes, without the value.
    #[inline]
    fn step(&mut self) -> Result<()> {
        if !self.back.is_empty() {
            self.forget();
        }
        if self.index + 1 < self.block.entries() {
            self.advance()
        } else {
            self.leave();
            Ok(())
        }
    }

    /// To the entry before, by walking there from its restart and stacking what lies between.
    fn walk_back(&mut self) -> Result<()> {
        let to = self.index - 1;
        self.jump(to / self.block.interval())?;
        while self.index < to {
            let left = self.here;
            let tail = self.tails.len();
            // What the step overwrites begins where the next key stops sharing; a front that cannot
            // be read is the step's error to give.
            let shared = self.block.head(left.next_at).map_or(0, |head| head.shared);
            self.tails.extend_from_slice(self.key.get(shared..).unwrap_or_default());
            self.advance()?;
            self.back.push((left, tail));
        }
        Ok(())
    }

    fn jump(&mut self, restart: usize) -> Result<()> {
        self.forget();
        self.key.clear();
        let (at, value_at) = self.block.restart(restart);
        self.arrive(restart * self.block.interval(), at, value_at)
    }

    #[inline]
    fn advance(&mut self) -> Result<()> {
        self.arrive(self.index + 1, self.here.next_at, self.here.value_at + self.here.value_bytes)
    }

    #[inline]
    fn arrive(&mut self, index: usize, at: usize, value_at: usize) -> Result<()> {
        match self.read(index, at, value_at) {
            Ok(()) => Ok(()),
            Err(e) => {
                self.leave();
                Err(e)
            }
        }
    }

    #[inline]
    fn read(&mut self, index: usize, at: usize, value_at: usize) -> Result<()> {
        let head = self.block.head(at)?;
        if head.shared > self.key.len() {
            return Err(bad(at, "an entry shares more than there is"));
        }
        if head.shared + head.unshared > MAX_FULL_KEY_BYTES {
            return Err(bad(at, "a key is over the limit"));
        }
        self.block.value_range(value_at, head.value_bytes)?;
        let kind = self.block.kind(index)?;
        self.key.truncate(head.shared);
        self.key.extend_from_slice(self.block.suffix(&head));
        self.here =
            Here { shared: head.shared, next_at: head.next(), value_at, value_bytes: head.value_bytes, kind };
        self.index = index;
        Ok(())
    }

    #[inline]
    fn value_range(&self) -> std::ops::Range<usize> {
        self.here.value_at..self.here.value_at + self.here.value_bytes
    }

    fn leave(&mut self) {
        self.forget();
        self.index = self.block.entries();
    }

    fn forget(&mut self) {
        self.back.clear();
        self.tails.clear();
    }
}
