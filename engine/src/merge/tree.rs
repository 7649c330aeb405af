//! The merge: a loser tree over all sources.
//!
//! ```text
//!            winner              each node keeps the loser of the match played there, so the
//!         ┌── loser ──┐          next entry costs one comparison per level on one path
//!      loser        loser        (Knuth, The Art of Computer Programming, vol. 3, 5.4.1)
//!     s0    s1     s2    s3
//! ```
//!
//! One shortcut: a source that wins twice in a row is likely to win again (runs are long in practice),
//! so from then on its next entry is compared with the runner-up alone, and the tree rests.
//!
//! Always true: between two steps either every source that has not ended is on an entry, or the
//! sources that are not are named by [`Tree::missing`].

use std::cmp::Ordering;

use bytes::Bytes;

use super::{BlockSource, Direction, Missing, Source, Step, source::Cursor};
use crate::{
    block::stretch::{Room, Stretch},
    error::{Error, Result},
    key::EntryRef,
    range::FullRange,
};

/// All entries of several sources, in order.
#[derive(Debug)]
pub struct Tree {
    /// In the order given: among entries of the same place, the earlier source comes first.
    cursors: Vec<Cursor>,
    ended: Vec<bool>,
    direction: Direction,
    /// `losers[1..]`: the loser at each inner node; the leaves follow, source `i` at `len + i`.
    losers: Vec<usize>,
    winner: usize,
    /// The best source but for the winner, when known.
    runner_up: Option<usize>,
    /// The sources that have to step before there is a next entry.
    due: Vec<usize>,
    missing: Vec<Missing>,
    started: bool,
    /// The block of the winner of which no stretch was given out, and none will be while nothing else changes.
    refused: Option<(usize, usize)>,
}

impl Tree {
    /// A merge of `sources` within `range`, standing before its first entry. Newer sources come first.
    pub fn new(sources: impl IntoIterator<Item = Source>, range: &FullRange, direction: Direction) -> Self {
        let cursors: Vec<_> =
            sources.into_iter().map(|source| Cursor::new(source, range.clone(), direction)).collect();
        let count = cursors.len();
        Self {
            cursors,
            ended: vec![false; count],
            direction,
            losers: vec![0; count],
            winner: 0,
            runner_up: None,
            due: (0..count).collect(),
            missing: Vec::new(),
            started: false,
            refused: None,
        }
    }

    /// The same for one who wants few of the values: that of the entry it is on is empty until it is [brought](Self::bring).
    pub(super) fn lazy(mut self) -> Self {
        self.cursors.iter_mut().for_each(Cursor::make_lazy);
        self
    }

    /// Brings the value of the entry the merge is on.
    #[inline]
    pub(super) fn bring(&mut self) -> Result<()> {
        if self.is_ready() { self.cursors[self.winner].bring() } else { Ok(()) }
    }

    /// Which way it goes.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// The entry the merge is on; `None` before the first step, at the end, and while bytes are missing.
    #[inline]
    pub fn peek(&self) -> Option<EntryRef<'_>> {
        self.is_ready().then(|| self.cursors[self.winner].entry())
    }

    /// The value of that entry, sharing the bytes it lies in; empty where [`Self::peek`] is `None`.
    #[inline]
    pub fn value(&self) -> Bytes {
        if self.is_ready() { self.cursors[self.winner].value() } else { Bytes::new() }
    }

    /// To the next entry. After [`Step::Missing`], bring all that [`Self::missing`] names and call again.
    #[inline]
    pub fn advance(&mut self, blocks: &impl BlockSource) -> Result<Step> {
        if self.is_ready() {
            match self.cursors[self.winner].step(blocks)? {
                Step::Ready => {
                    if let Some(second) = self.runner_up
                        && self.compare(self.winner, second).is_lt()
                    {
                        return Ok(Step::Ready);
                    }
                    self.replay();
                    return Ok(Step::Ready);
                }
                Step::End => {
                    self.ended[self.winner] = true;
                    self.replay();
                    return Ok(if self.ended[self.winner] { Step::End } else { Step::Ready });
                }
                Step::Missing(missing) => {
                    self.due.push(self.winner);
                    self.missing.push(missing.clone());
                    return Ok(Step::Missing(missing));
                }
            }
        }
        self.resume(blocks)
    }

    /// The entries of the winner's block from this one on that come before anything that another source has (see
    /// [`RunCursor::take`](super::RunCursor::take)). They have been passed then, as if stepped over one by one.
    pub(super) fn take(&mut self, most: usize, room: &mut Room) -> Result<Option<Stretch>> {
        // Who has won once may lose at the next entry.
        if !self.is_ready() || (self.runner_up.is_none() && self.cursors.len() > 1) {
            return Ok(None);
        }
        let rival = self.runner_up.filter(|second| !self.ended[*second]);
        let (winner, rival) = match rival {
            Some(second) => match self.cursors.get_disjoint_mut([self.winner, second]) {
                Ok([winner, second]) => (winner, Some(second.order().0)),
                Err(_) => return Ok(None),
            },
            None => (&mut self.cursors[self.winner], None),
        };
        let Cursor::Run(run) = winner else { return Ok(None) };
        let place = run.place();
        if self.refused == Some(place) {
            return Ok(None);
        }
        let taken = run.take(rival, most, room)?;
        if taken.is_some() {
            self.due.push(self.winner);
        } else {
            self.refused = Some(place);
        }
        Ok(taken)
    }

    /// To be told once the rows of what was [taken](Self::take) have been shown, before the next step.
    pub(super) fn has_shown(&mut self, stretch: &mut Stretch) {
        if let Cursor::Run(run) = &mut self.cursors[self.winner] {
            run.has_shown(stretch);
        }
    }

    /// An error in what was [taken](Self::take), with the place where it lies. Before the next step.
    #[cold]
    pub(super) fn named(&self, error: Error) -> Error {
        match &self.cursors[self.winner] {
            Cursor::Run(run) => run.named(error),
            Cursor::Mem(_) => error,
        }
    }

    /// Which of the sources the entry of [`Self::peek`] is from, in the order they were given.
    pub(crate) fn source(&self) -> usize {
        self.winner
    }

    /// Which block of its SST that entry is in.
    pub(crate) fn block(&self) -> Option<usize> {
        match self.cursors.get(self.winner)? {
            Cursor::Run(run) => Some(run.place().1),
            Cursor::Mem(_) => None,
        }
    }

    /// What is missing before the next entry, of all sources: fetch it in one parallel round.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// What the sources that wait will need after that, at most `bytes` for each (see [`RunCursor::ahead`](super::RunCursor::ahead)).
    pub fn ahead(&self, bytes: u64, blocks: &impl BlockSource, found: &mut Vec<Missing>) {
        for &source in &self.due {
            if let Cursor::Run(run) = &self.cursors[source] {
                run.ahead(bytes, blocks, found);
            }
        }
    }

    #[inline]
    fn is_ready(&self) -> bool {
        self.started && self.due.is_empty() && !self.ended[self.winner]
    }

    /// Steps the sources that are due; plays once all of them are on an entry or at their end.
    fn resume(&mut self, blocks: &impl BlockSource) -> Result<Step> {
        if !self.started && self.missing.is_empty() {
            // All first blocks are looked for before one is searched: memory answers many as soon as one.
            self.cursors.iter_mut().for_each(|cursor| cursor.begin(blocks));
        }
        self.missing.clear();
        let mut due = std::mem::take(&mut self.due);
        let mut failed = None;
        due.retain(|&source| match self.cursors[source].step(blocks) {
            Ok(Step::Ready) => false,
            Ok(Step::End) => {
                self.ended[source] = true;
                false
            }
            Ok(Step::Missing(missing)) => {
                self.missing.push(missing);
                true
            }
            Err(error) => {
                failed = Some(error);
                true
            }
        });
        self.due = due;
        if let Some(error) = failed {
            return Err(error);
        }
        if let Some(missing) = self.missing.first() {
            return Ok(Step::Missing(missing.clone()));
        }
        if self.cursors.is_empty() {
            return Ok(Step::End);
        }
        if self.started {
            self.replay();
        } else {
            self.started = true;
            self.play();
        }
        Ok(if self.ended[self.winner] { Step::End } else { Step::Ready })
    }

    /// Plays all matches, from the leaves up.
    fn play(&mut self) {
        let count = self.cursors.len();
        let mut winners = vec![0; 2 * count];
        for (source, leaf) in winners[count..].iter_mut().enumerate() {
            *leaf = source;
        }
        for node in (1..count).rev() {
            let (left, right) = (winners[2 * node], winners[2 * node + 1]);
            let left_wins = self.compare(left, right).is_lt();
            (winners[node], self.losers[node]) = if left_wins { (left, right) } else { (right, left) };
        }
        self.winner = winners[1];
        self.runner_up = None;
    }

    /// Plays the matches on the path of the last winner, whose entry has changed.
    fn replay(&mut self) {
        let before = self.winner;
        let mut winner = before;
        let mut node = (winner + self.cursors.len()) / 2;
        while node > 0 {
            if self.compare(self.losers[node], winner).is_lt() {
                std::mem::swap(&mut self.losers[node], &mut winner);
            }
            node /= 2;
        }
        self.winner = winner;
        self.refused = None;
        self.runner_up = if winner == before { self.best_loser() } else { None };
    }

    /// The runner-up: it lost to the winner itself, so it is on the winner's path.
    fn best_loser(&self) -> Option<usize> {
        let mut node = (self.winner + self.cursors.len()) / 2;
        let mut best: Option<usize> = None;
        while node > 0 {
            let loser = self.losers[node];
            if best.is_none_or(|best| self.compare(loser, best).is_lt()) {
                best = Some(loser);
            }
            node /= 2;
        }
        best
    }

    /// The order of two sources by their entries; one that has ended comes last.
    #[inline]
    fn compare(&self, a: usize, b: usize) -> Ordering {
        match (self.ended[a], self.ended[b]) {
            (false, false) => {}
            (a_ended, b_ended) => return a_ended.cmp(&b_ended).then(a.cmp(&b)),
        }
        let ((key, seq), (other_key, other_seq)) = (self.cursors[a].order(), self.cursors[b].order());
        let order = key.cmp(other_key).then_with(|| other_seq.cmp(&seq));
        match self.direction {
            Direction::Forward => order,
            Direction::Reverse => order.reverse(),
        }
        .then(a.cmp(&b))
    }
}
