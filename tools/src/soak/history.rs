//! What the processes of a soak did, and whether that can have been right.
//!
//! ```text
//! B child.n group put|del begin     an operation begins          A child.n end   it is acknowledged
//! N child.n                         it was refused: never visible   U child.n    it is unknown
//! R group mode floor end child.n|-  a read: what it saw, and how fresh it promised to be
//! W what                            something that must not be, seen by the process itself
//! E kind                            a typed error               O   a writer has taken over
//! ```
//!
//! A group is a few keys that are written in one batch and read in one snapshot, so it is one register whose
//! every value is written once. Times are of the machine's one clock in milliseconds, rounded so that an
//! operation never seems shorter than it was; `floor` is the moment whose state the read must at least show.
//!
//! Always true: what is said to be wrong is wrong in every possible order of the operations:
//!
//! 1. a value that is read was begun before the read ended, and not refused;
//! 2. a value is not older than one that had certainly replaced it at the read's floor (a write is certainly
//!    done when it is acknowledged, or when anyone has read it);
//! 3. nothing is read where something certainly was, unless a deletion may have come.
//!
//! At a checkpoint nobody runs and a new writer has taken over: what is read then is all that may ever be seen
//! again, and history starts anew from it.

use std::collections::BTreeMap;

/// An operation: which process, and which of its operations.
pub(super) type OpId = (u64, u64);

/// Milliseconds of the machine's clock.
type Time = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Begun,
    Acknowledged(Time),
    Refused,
}

#[derive(Debug, Clone, Copy)]
struct Op {
    group: u64,
    deletes: bool,
    begin: Time,
    state: State,
}

#[derive(Debug, Clone, Copy)]
struct Read {
    group: u64,
    floor: Time,
    end: Time,
    seen: Option<OpId>,
    child: u64,
}

/// Everything since the last checkpoint, and counts since the start.
#[derive(Debug, Default)]
pub(super) struct History {
    ops: BTreeMap<OpId, Op>,
    reads: Vec<Read>,
    /// What each group held at the last checkpoint.
    base: BTreeMap<u64, Option<OpId>>,
    wrong: Vec<String>,
    pub(super) counts: Counts,
}

/// What was done in all.
#[derive(Debug, Default, Clone)]
pub(super) struct Counts {
    /// How often a writer took over.
    pub(super) opened: u64,
    pub(super) begun: u64,
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    pub(super) reads: BTreeMap<String, u64>,
    pub(super) errors: BTreeMap<String, u64>,
    /// How processes ended that were not killed.
    pub(super) endings: BTreeMap<String, u64>,
}

/// What was done to one group.
#[derive(Debug, Default)]
struct Past {
    ops: Vec<(OpId, Op)>,
    reads: Vec<Read>,
}

/// One group's operations, ready to be asked about.
struct Register {
    /// What was certainly done by when, ascending; each with the latest begin up to there.
    done: Vec<(Time, Time, OpId)>,
    /// Deletions by their begin, each with the latest end up to there.
    absences: Vec<(Time, Time)>,
}

/// Nothing can be known to have ended later.
const NEVER: Time = Time::MAX;
/// Stands for what a checkpoint found.
const BASE: OpId = (0, 0);

impl History {
    /// Takes down a line that process `child` said. What is no line of ours is skipped: a killed process may
    /// end in the middle of one.
    pub(super) fn hear(&mut self, child: u64, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        match (words[0], number(1)) {
            ("B", Some(n)) => {
                let (Some(group), Some(kind), Some(begin)) = (number(2), words.get(3), number(4)) else {
                    return;
                };
                self.counts.begun += 1;
                self.ops
                    .insert((child, n), Op { group, deletes: *kind == "del", begin, state: State::Begun });
            }
            ("A", Some(n)) => {
                let Some(end) = number(2) else { return };
                self.counts.acknowledged += 1;
                self.settle((child, n), State::Acknowledged(end));
            }
            ("N", Some(n)) => {
                self.counts.refused += 1;
                self.settle((child, n), State::Refused);
            }
            ("R", Some(group)) => {
                let (Some(mode), Some(floor), Some(end), Some(seen)) =
                    (words.get(2), number(3), number(4), words.get(5))
                else {
                    return;
                };
                let seen = match *seen {
                    "-" => None,
                    id => match parse_id(id) {
                        Some(id) => Some(id),
                        None => return,
                    },
                };
                *self.counts.reads.entry((*mode).to_owned()).or_default() += 1;
                self.reads.push(Read { group, floor, end, seen, child });
            }
            ("W", _) => self.wrong.push(format!("process {child}: {}", words[1..].join(" "))),
            ("E", _) => {
                *self.counts.errors.entry(words.get(1).copied().unwrap_or("?").to_owned()).or_default() += 1;
            }
            ("O", _) => self.counts.opened += 1,
            _ => {}
        }
    }

    /// Notes something wrong that was seen from outside.
    pub(super) fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }

    fn settle(&mut self, id: OpId, state: State) {
        if let Some(op) = self.ops.get_mut(&id) {
            op.state = state;
        }
    }

    /// Notes what a checkpoint found of `group`: a read that shows everything acknowledged so far.
    pub(super) fn found(&mut self, group: u64, now: Time, seen: Option<OpId>) {
        self.reads.push(Read { group, floor: now, end: now, seen, child: 0 });
    }

    /// Judges everything since the last checkpoint, starts anew from what it `found`, and gives all that is
    /// wrong.
    pub(super) fn judge(&mut self, found: &BTreeMap<u64, Option<OpId>>) -> Vec<String> {
        let mut wrong = std::mem::take(&mut self.wrong);
        let mut groups: BTreeMap<u64, Past> = BTreeMap::new();
        for (id, op) in std::mem::take(&mut self.ops) {
            groups.entry(op.group).or_default().ops.push((id, op));
        }
        for read in std::mem::take(&mut self.reads) {
            groups.entry(read.group).or_default().reads.push(read);
        }
        for (group, Past { ops, reads }) in groups {
            let base = self.base.get(&group).copied().flatten();
            wrong.extend(judge_group(group, base, &ops, &reads));
        }
        self.base.clone_from(found);
        wrong
    }
}

/// `child.n`, as values carry it.
pub(super) fn parse_id(text: &str) -> Option<OpId> {
    let (child, n) = text.split_once('.')?;
    Some((child.parse().ok()?, n.parse().ok()?))
}

fn judge_group(group: u64, base: Option<OpId>, ops: &[(OpId, Op)], reads: &[Read]) -> Vec<String> {
    let by_id: BTreeMap<OpId, Op> = ops.iter().copied().collect();
    let mut seen_at: BTreeMap<OpId, Time> = BTreeMap::new();
    for read in reads {
        if let Some(id) = read.seen {
            let first = seen_at.entry(id).or_insert(read.end);
            *first = read.end.min(*first);
        }
    }
    let end_of = |id: OpId, op: &Op| {
        let acknowledged = if let State::Acknowledged(end) = op.state { end } else { NEVER };
        acknowledged.min(seen_at.get(&id).copied().unwrap_or(NEVER))
    };
    let register = Register::new(base.is_none(), ops, end_of);
    let mut wrong = Vec::new();
    for read in reads {
        let (latest, latest_id) = register.certain_at(read.floor);
        let told = |what: String| {
            format!(
                "group {group}, read by process {} (from {}, until {}): {what}",
                read.child, read.floor, read.end
            )
        };
        let over = || format!("{}.{}, begun at {latest}, had certainly been done", latest_id.0, latest_id.1);
        match read.seen {
            Some(id) if Some(id) == base => {
                if latest > 0 {
                    wrong.push(told(format!(
                        "{}.{} from before the last checkpoint is back; {}",
                        id.0,
                        id.1,
                        over()
                    )));
                }
            }
            Some(id) => match by_id.get(&id) {
                None => {
                    wrong.push(told(format!("{}.{} was never begun, or lost at a checkpoint", id.0, id.1)))
                }
                Some(op) if op.state == State::Refused => {
                    wrong.push(told(format!("{}.{} is there, though it was refused", id.0, id.1)));
                }
                Some(op) if op.deletes => wrong.push(told(format!("{}.{} is a deletion", id.0, id.1))),
                Some(op) if op.begin > read.end => {
                    wrong.push(told(format!("{}.{} was begun only at {}", id.0, id.1, op.begin)));
                }
                Some(op) if end_of(id, op) < latest => {
                    wrong.push(told(format!("{}.{} is there, but {}", id.0, id.1, over())));
                }
                Some(_) => {}
            },
            None if register.may_be_absent(read.end, latest) => {}
            None => wrong.push(told(format!("nothing is there, but {}", over()))),
        }
    }
    wrong
}

impl Register {
    fn new(starts_absent: bool, ops: &[(OpId, Op)], end_of: impl Fn(OpId, &Op) -> Time) -> Self {
        let mut done: Vec<(Time, Time, OpId)> = ops
            .iter()
            .map(|(id, op)| (end_of(*id, op), op.begin, *id))
            .filter(|(end, _, _)| *end != NEVER)
            .collect();
        done.sort_unstable();
        for at in 1..done.len() {
            if done[at].1 < done[at - 1].1 {
                (done[at].1, done[at].2) = (done[at - 1].1, done[at - 1].2);
            }
        }
        let mut absences: Vec<(Time, Time)> = ops
            .iter()
            .filter(|(_, op)| op.deletes && op.state != State::Refused)
            .map(|(id, op)| (op.begin, end_of(*id, op)))
            .chain(starts_absent.then_some((0, 0)))
            .collect();
        absences.sort_unstable();
        for at in 1..absences.len() {
            absences[at].1 = absences[at].1.max(absences[at - 1].1);
        }
        Self { done, absences }
    }

    /// The latest begin among all that was certainly done before `time`; 0 if nothing was.
    fn certain_at(&self, time: Time) -> (Time, OpId) {
        let before = self.done.partition_point(|(end, _, _)| *end < time);
        before.checked_sub(1).map_or((0, BASE), |last| (self.done[last].1, self.done[last].2))
    }

    /// Whether a deletion (or a start with nothing) may be what a read until `end` saw, when something begun at
    /// `latest` had certainly been done.
    fn may_be_absent(&self, end: Time, latest: Time) -> bool {
        let before = self.absences.partition_point(|(begin, _)| *begin <= end);
        before.checked_sub(1).is_some_and(|last| self.absences[last].1 >= latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(lines: &[&str]) -> Vec<String> {
        let mut history = History::default();
        for line in lines {
            history.hear(1, line);
        }
        history.judge(&BTreeMap::new())
    }

    #[test]
    fn a_right_history_is_not_accused() {
        let right = [
            "B 1 7 put 10",
            "A 1 20",
            "R 7 strong 25 30 1.1",
            "B 2 7 put 30",
            // While 2 is on its way either is right.
            "R 7 strong 31 33 1.1",
            "R 7 strong 31 33 1.2",
            "A 2 40",
            "B 3 7 del 50",
            "R 7 strong 55 56 1.2",
            "R 7 strong 57 58 -",
            // As old as it said it may be.
            "A 3 60",
            "R 7 bounded 45 90 1.2",
            "B 4 7 put 95",
            "N 4",
            "R 7 strong 100 101 -",
        ];
        assert_eq!(judged(&right), Vec::<String>::new());
    }

    #[test]
    fn each_kind_of_wrong_is_found() {
        let with = |line: &'static str| {
            let before =
                ["B 1 7 put 10", "A 1 20", "B 2 7 put 30", "A 2 40", "B 3 7 put 50", "B 4 7 put 5", "N 4"];
            judged(&[&before[..], &[line]].concat())
        };
        for (line, words) in [
            ("R 7 strong 45 46 1.1", "1.1 is there, but 1.2, begun at 30"),
            ("R 7 strong 45 46 -", "nothing is there"),
            ("R 7 strong 45 46 1.3", "begun only at 50"),
            ("R 7 strong 45 46 1.4", "though it was refused"),
            ("R 7 strong 45 46 1.9", "never begun"),
            ("R 8 strong 45 46 1.1", "never begun"),
            ("W rows of two batches", "rows of two batches"),
        ] {
            let wrong = with(line);
            assert!(wrong.len() == 1 && wrong[0].contains(words), "{line}: {wrong:?}");
        }
        assert!(with("R 7 strong 45 60 1.3").is_empty());
    }

    #[test]
    fn what_anyone_has_read_counts_as_done() {
        let wrong = judged(&[
            "B 1 7 put 10",
            "B 2 7 put 30",
            "R 7 strong 35 40 1.2",
            "A 1 20",
            "R 7 strong 45 50 1.1",
        ]);
        assert!(wrong.len() == 1 && wrong[0].contains("but 1.2"), "{wrong:?}");
    }

    #[test]
    fn after_a_checkpoint_only_what_it_found_may_be_seen() {
        let mut history = History::default();
        history.hear(1, "B 1 7 put 10");
        history.hear(1, "B 2 7 put 11");
        let found = BTreeMap::from([(7, Some((1, 2)))]);
        history.found(7, 100, Some((1, 2)));
        assert!(history.judge(&found).is_empty());
        history.hear(2, "R 7 strong 110 111 1.2");
        assert!(history.judge(&found).is_empty());
        history.hear(2, "R 7 strong 120 121 1.1");
        assert_eq!(history.judge(&found).len(), 1);
        history.hear(2, "R 7 strong 120 121 -");
        assert_eq!(history.judge(&found).len(), 1);
        history.hear(2, "B 1 7 put 125");
        history.hear(2, "A 1 126");
        history.hear(2, "R 7 strong 127 128 1.2");
        assert_eq!(history.judge(&found).len(), 1);
    }
}
