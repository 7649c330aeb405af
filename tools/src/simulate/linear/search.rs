//! The search for an order of the calls on one key, where a read that found nothing can have several reasons.
//!
//! Writes are tried in every order that their calls allow (Wing and Gong, with Lowe's memory of the states seen).
//! Most steps need no choice, because what they put is in nobody's way, or because any order that puts it otherwise
//! can be turned into one that puts it so:
//!
//! ```text
//! a read of what the key has           changes nothing
//! a value, before its last read        no other write comes in between: nobody writes it twice
//! a value all of whose calls can be    put whole wherever a write follows, or the value there is past:
//!   put now                              the one hides it, the other is hidden by nobody's need
//! a delete                             of those that can be put now, the one that must be put first
//! ```
//!
//! Always true: what is called wrong has no order; a search that is given up says so.

use std::collections::{BTreeMap, HashSet};

use super::{Action, Conflict};
use crate::history::{OpId, Stamp};

/// Choices after which the search of one key is given up.
const MOST_CHOICES: usize = 200_000;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Right,
    Wrong(Conflict),
    GivenUp,
}

/// A state of the search.
struct Choice {
    /// What was put last to get to it.
    put: Vec<usize>,
    /// What the key has in it.
    value: Shown,
    /// The writes still to be tried from it.
    others: Vec<usize>,
}

/// What the key has in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Shown {
    Nothing,
    /// A value that is still to be read.
    Value(Stamp),
    /// One that nobody reads any more: what comes next may hide it.
    Past,
}

/// Looks for an order. What can be put without a loss is put at once; only the other writes are choices.
pub(super) fn search(mut actions: Vec<Action>) -> Verdict {
    actions.sort_unstable_by_key(|action| (action.from, action.to));
    let mut search = Search::new(actions);
    let mut seen = HashSet::new();
    let mut choices: Vec<Choice> = Vec::new();
    let (mut tried, mut least_left, mut stuck) = (0, usize::MAX, None);
    let mut put = Vec::new();
    search.put_free(&mut put);
    loop {
        let left = search.left();
        if left == 0 {
            return Verdict::Right;
        }
        if left <= least_left {
            least_left = left;
            stuck = search.next_to_end();
        }
        tried += 1;
        if tried > MOST_CHOICES {
            return Verdict::GivenUp;
        }
        let others = if seen.insert(search.state()) { search.writes() } else { Vec::new() };
        choices.push(Choice { put: std::mem::take(&mut put), value: search.value, others });
        // The next write to try: of this state, or of the nearest before it that has one left.
        loop {
            let Some(choice) = choices.last_mut() else {
                let ops: Vec<OpId> = stuck.into_iter().collect();
                let named = ops.iter().map(|op| format!("operation {op}")).collect::<String>();
                return Verdict::Wrong(Conflict {
                    what: format!("no order of the calls explains what was read; {named} fits nowhere"),
                    ops,
                });
            };
            search.value = choice.value;
            if let Some(next) = choice.others.pop() {
                search.write(next, &mut put);
                break;
            }
            let undone = choices.pop().map(|choice| choice.put).unwrap_or_default();
            search.undo(&undone);
        }
    }
}

/// What is put so far.
struct Search {
    actions: Vec<Action>,
    done: Vec<bool>,
    /// All before it are done.
    first: usize,
    value: Shown,
    /// How many reads of a value are still to be put.
    reads_left: BTreeMap<Stamp, usize>,
}

impl Search {
    fn new(actions: Vec<Action>) -> Self {
        let mut reads_left = BTreeMap::new();
        for stamp in actions.iter().filter(|action| !action.is_write).filter_map(|action| action.value) {
            *reads_left.entry(stamp).or_default() += 1;
        }
        Self { done: vec![false; actions.len()], first: 0, value: Shown::Nothing, reads_left, actions }
    }

    /// What can come next: nothing that is not done ends before it begins.
    fn next(&self) -> impl Iterator<Item = usize> + '_ {
        let mut first_end = u64::MAX;
        let open = (self.first..self.actions.len()).filter(|at| !self.done[*at]);
        open.take_while(move |at| {
            let action = &self.actions[*at];
            let is_next = action.from <= first_end;
            first_end = first_end.min(action.to);
            is_next
        })
    }

    fn left_of(&self, stamp: Stamp) -> usize {
        self.reads_left.get(&stamp).copied().unwrap_or(0)
    }

    fn mark(&mut self, at: usize, put: &mut Vec<usize>) {
        self.done[at] = true;
        if let (false, Some(stamp)) = (self.actions[at].is_write, self.actions[at].value) {
            self.reads_left.entry(stamp).and_modify(|left| *left -= 1);
        }
        put.push(at);
        while self.done.get(self.first) == Some(&true) {
            self.first += 1;
        }
    }

    /// Puts `write`, hidden before it what it can hide, and what follows from it.
    fn write(&mut self, write: usize, put: &mut Vec<usize>) {
        while self.put_whole(Some(write), put) {}
        self.mark(write, put);
        self.value = match self.actions[write].value {
            None => Shown::Nothing,
            Some(stamp) if self.left_of(stamp) == 0 => Shown::Past,
            Some(stamp) => Shown::Value(stamp),
        };
        self.put_free(put);
    }

    /// Puts all that needs no choice.
    fn put_free(&mut self, put: &mut Vec<usize>) {
        loop {
            let shown = self.value;
            let value = match shown {
                Shown::Nothing => None,
                Shown::Value(stamp) => Some(stamp),
                Shown::Past if self.put_whole(None, put) => continue,
                Shown::Past => return,
            };
            let fits = |at: &usize| !self.actions[*at].is_write && self.actions[*at].value == value;
            let reads: Vec<usize> = self.next().filter(fits).collect();
            reads.iter().for_each(|at| self.mark(*at, put));
            if value.is_some_and(|stamp| self.left_of(stamp) == 0) {
                self.value = Shown::Past;
            } else if reads.is_empty() {
                return;
            }
        }
    }

    /// Puts the values all of whose calls can be put now, but for that of `but`; false if there is none.
    fn put_whole(&mut self, but: Option<usize>, put: &mut Vec<usize>) -> bool {
        let but = but.and_then(|at| self.actions[at].value);
        let whole: Vec<usize> =
            self.whole().into_iter().filter(|at| self.actions[*at].value != but).collect();
        whole.iter().for_each(|at| self.mark(*at, put));
        !whole.is_empty()
    }

    /// The calls of values that can be put now as a whole.
    fn whole(&self) -> Vec<usize> {
        let mut values: BTreeMap<Stamp, (bool, Vec<usize>)> = BTreeMap::new();
        for at in self.next() {
            if let Some(stamp) = self.actions[at].value {
                let (is_written, calls) = values.entry(stamp).or_default();
                *is_written |= self.actions[at].is_write;
                calls.push(at);
            }
        }
        let is_whole = |stamp: &Stamp, calls: &[usize]| calls.len() == self.left_of(*stamp) + 1;
        let whole = values.into_iter().filter(|(stamp, (written, calls))| *written && is_whole(stamp, calls));
        whole.flat_map(|(_, (_, calls))| calls).collect()
    }

    /// The writes among which there is a choice.
    fn writes(&self) -> Vec<usize> {
        if matches!(self.value, Shown::Value(_)) {
            // What is still to read it cannot come before something else has, which would hide it.
            return Vec::new();
        }
        let is_write = |at: &usize| self.actions[*at].is_write;
        let (deletes, mut writes): (Vec<usize>, Vec<usize>) =
            self.next().filter(is_write).partition(|at| self.actions[*at].value.is_none());
        writes.extend(deletes.into_iter().min_by_key(|at| self.actions[*at].to));
        writes
    }

    /// How many calls must still be put: all but writes of unknown outcome.
    fn left(&self) -> usize {
        let open = (self.first..self.actions.len()).filter(|at| !self.done[*at]);
        open.filter(|at| !self.actions[*at].is_write || self.actions[*at].to != u64::MAX).count()
    }

    fn undo(&mut self, put: &[usize]) {
        for at in put {
            self.done[*at] = false;
            self.first = self.first.min(*at);
            if let (false, Some(stamp)) = (self.actions[*at].is_write, self.actions[*at].value) {
                *self.reads_left.entry(stamp).or_default() += 1;
            }
        }
    }

    fn state(&self) -> (Shown, usize, Vec<usize>) {
        let ahead = (self.first..self.actions.len()).filter(|at| self.done[*at]).collect();
        (self.value, self.first, ahead)
    }

    fn next_to_end(&self) -> Option<OpId> {
        let open = self.next().map(|at| &self.actions[at]);
        open.min_by_key(|action| (action.is_write, action.to)).map(|action| action.op)
    }
}
