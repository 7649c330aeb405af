//! Linearizability, key by key: every read and write of a key took effect at one moment of its call.
//!
//! Two kinds of registers are checked. Of all readers together: the reads of strong snapshots, and every write
//! from its call to its acknowledgement. Of each writer: its own reads, its writes from call to acceptance, and
//! what it took over. Numbers and tokens play no part here, so this is a second opinion beside [`super::model`].
//!
//! Keys are independent of each other (linearizability is local), and a value names its write, so most keys
//! need no search (Gibbons and Korach): all calls of one value form a zone,
//!
//! ```text
//! forward    [first return … last call]     the value is the key's throughout
//! backward   [last call … first return]     the value is the key's at some moment within
//! ```
//!
//! and the history is right if no two forward zones overlap and no backward zone lies inside a forward one. Only
//! "nothing there" can come from several deletes; such keys are searched (Wing and Gong, with Lowe's memory
//! of the states seen).
//!
//! Always true: what is reported is wrong; a search that is given up is counted, and never passes for a proof.

mod search;

use std::collections::{BTreeMap, HashSet};

use super::{
    failure::Failure,
    history::{
        Call, Freshness, HandleId, HandleKind, History, Key, OpId, Operation, Outcome, Place, Range, Reads,
        Seen, Stamp, What,
    },
    order::{Fate, Order},
};
use search::{Verdict, search};

/// The rule.
pub(crate) const RULE: &str =
    "the reads and writes of a key take effect one after the other, each during its call";

/// What was checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Checked {
    /// Keys of registers.
    pub(crate) keys: usize,
    /// Calls on them.
    pub(crate) calls: usize,
    /// Of the keys: those that had to be searched.
    pub(crate) searched: usize,
    /// Of those: the ones whose search was given up.
    pub(crate) given_up: usize,
}

/// One call on one key: what it wrote or read, and the places between which it took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Action {
    op: OpId,
    is_write: bool,
    value: Option<Stamp>,
    from: u64,
    to: u64,
}

type Register = BTreeMap<Key, Vec<Action>>;

/// Checks the register of all strong reads, and the one of every writer.
pub(crate) fn check(history: &History, order: &Order) -> Result<Checked, Failure> {
    let mut checked = Checked::default();
    let expiring = history
        .operations
        .iter()
        .flat_map(Operation::changes)
        .filter(|change| change.what == What::PutExpiring)
        .map(|change| &change.key)
        .collect();
    check_register(strong(history), &expiring, &mut checked)?;
    for (handle, of) in history.handles.iter().enumerate() {
        if let HandleKind::Writer { epoch, .. } = of.kind {
            check_register(own(history, order, handle, epoch, of.opened), &expiring, &mut checked)?;
        }
    }
    Ok(checked)
}

/// Keys in `expiring` had values that expire: that nothing was found there proves nothing.
fn check_register(
    register: Register,
    expiring: &HashSet<&Key>,
    checked: &mut Checked,
) -> Result<(), Failure> {
    for (key, mut actions) in register {
        if expiring.contains(&key) {
            actions.retain(|action| action.is_write || action.value.is_some());
        }
        drop_unread(&mut actions);
        if actions.iter().all(|action| action.is_write) {
            continue;
        }
        checked.keys += 1;
        checked.calls += actions.len();
        let verdict = match zones(&actions) {
            Some(verdict) => verdict,
            None => {
                checked.searched += 1;
                match search(actions) {
                    Verdict::Right => Ok(()),
                    Verdict::Wrong(ops) => Err(ops),
                    Verdict::GivenUp => {
                        checked.given_up += 1;
                        Ok(())
                    }
                }
            }
        };
        verdict.map_err(|Conflict { ops, what }| {
            Failure::new(RULE, format!("at {key}, {what}")).by(ops).on([&key])
        })?;
    }
    Ok(())
}

/// What does not fit, and the operations that show it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Conflict {
    ops: Vec<OpId>,
    what: String,
}

/// Writes, and the reads of strong snapshots.
fn strong(history: &History) -> Register {
    let mut register = Register::new();
    for (op, operation) in history.operations.iter().enumerate() {
        if operation.token().is_some() && !operation.refused() {
            let to = operation.acknowledged().map_or(u64::MAX, |at| at.order);
            write(&mut register, op, operation, to);
        }
    }
    each_read(history, |op, operation, reads| {
        let Reads::Snapshot(taken) = reads else { return };
        let snapshot = &history.operations[taken];
        if let (Call::Snapshot(Freshness::Strong), Some(returned)) = (&snapshot.call, snapshot.returned) {
            read(&mut register, op, operation, (snapshot.invoked.order, returned.order));
        }
    });
    register
}

/// What `handle` wrote and read, and what it took over. Ends with the first write that it lost at a takeover:
/// from there on what it shows is not what it was.
fn own(history: &History, order: &Order, handle: HandleId, epoch: u32, opened: Place) -> Register {
    let is_lost = |op: OpId| order.fate(op) == Fate::Lost;
    let of_handle = |operation: &Operation| operation.handle == handle;
    let end = history
        .operations
        .iter()
        .enumerate()
        .find(|(op, operation)| of_handle(operation) && is_lost(*op))
        .map_or(u64::MAX, |(_, operation)| operation.invoked.order);
    let mut register = Register::new();
    for (op, operation) in history.operations.iter().enumerate() {
        let Some(token) = operation.token() else { continue };
        if of_handle(operation) {
            if operation.invoked.order <= end {
                let to = operation.returned.filter(|_| !is_lost(op)).map_or(u64::MAX, |at| at.order);
                write(&mut register, op, operation, to);
            }
        } else if token.epoch < epoch && !operation.refused() {
            let to = operation.acknowledged().map_or(u64::MAX, |at| at.order.min(opened.order));
            write(&mut register, op, operation, to.max(operation.invoked.order + 1));
        }
    }
    each_read(history, |op, operation, reads| {
        let call = match reads {
            Reads::Handle => operation,
            Reads::Snapshot(taken) => &history.operations[taken],
        };
        // One that was still under way may have seen what is not in the register.
        if let (true, Some(returned)) = (of_handle(operation), call.returned)
            && returned.order < end
        {
            read(&mut register, op, operation, (call.invoked.order, returned.order));
        }
    });
    register
}

fn each_read<'a>(history: &'a History, mut visit: impl FnMut(OpId, &'a Operation, Reads)) {
    for (op, operation) in history.operations.iter().enumerate() {
        if let Call::Get(reads, _) | Call::Scan(reads, _) = &operation.call {
            visit(op, operation, *reads);
        }
    }
}

/// The last change of each key: what a batch overwrites itself is never to be seen.
fn write(register: &mut Register, op: OpId, operation: &Operation, to: u64) {
    let from = operation.invoked.order;
    let mut last = BTreeMap::new();
    for (change, of) in operation.changes().iter().enumerate() {
        last.insert(&of.key, (of.what != What::Delete).then_some(Stamp { op, change }));
    }
    for (key, value) in last {
        register.entry(key.clone()).or_default().push(Action { op, is_write: true, value, from, to });
    }
}

fn read(register: &mut Register, op: OpId, operation: &Operation, (from, to): (u64, u64)) {
    let mut saw = |key: &Key, value: Option<Seen>| {
        let value = match value {
            None => None,
            Some(Seen::Write(stamp)) => Some(stamp),
            Some(Seen::Damaged) => return,
        };
        register.entry(key.clone()).or_default().push(Action { op, is_write: false, value, from, to });
    };
    match (&operation.call, &operation.outcome) {
        (Call::Get(_, keys), Outcome::Values(values)) => {
            keys.iter().zip(values).for_each(|(key, value)| saw(key, *value));
        }
        (Call::Scan(_, Range { .. }), Outcome::Rows { rows, .. }) => {
            rows.iter().for_each(|row| saw(&row.key, Some(row.value)));
        }
        _ => {}
    }
}

/// Drops what proves nothing: writes of unknown outcome that nobody saw.
fn drop_unread(actions: &mut Vec<Action>) {
    let read: HashSet<Option<Stamp>> =
        actions.iter().filter(|action| !action.is_write).map(|action| action.value).collect();
    actions.retain(|action| !action.is_write || action.to != u64::MAX || read.contains(&action.value));
}

/// The verdict by zones; `None` if a read found nothing and several writes can be why.
fn zones(actions: &[Action]) -> Option<Result<(), Conflict>> {
    let mut values: BTreeMap<Option<Stamp>, Vec<&Action>> = BTreeMap::new();
    for action in actions {
        values.entry(action.value).or_default().push(action);
    }
    // In the beginning there is nothing.
    let nothing = Action { op: OpId::MAX, is_write: true, value: None, from: 0, to: 0 };
    if let Some(empty) = values.get_mut(&None) {
        if empty.iter().all(|action| action.is_write) {
            // Nobody read it: each of these writes is a value of its own.
            let deletes = values.remove(&None).unwrap_or_default();
            return Some(verdict(values.into_values().chain(deletes.into_iter().map(|delete| vec![delete]))));
        }
        if empty.iter().any(|action| action.is_write) {
            return None;
        }
        empty.push(&nothing);
    }
    Some(verdict(values.into_values()))
}

/// All calls of one value.
#[derive(Debug, Clone, Copy)]
struct Zone {
    first_return: u64,
    last_call: u64,
    write: OpId,
    read: Option<OpId>,
}

fn verdict<'a>(values: impl Iterator<Item = Vec<&'a Action>>) -> Result<(), Conflict> {
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    for actions in values {
        let Some(write) = actions.iter().find(|action| action.is_write) else {
            let what = format!(
                "operation {} read a value whose write was refused or is a later writer's",
                actions[0].op
            );
            return Err(Conflict { ops: vec![actions[0].op], what });
        };
        let reads = || actions.iter().filter(|action| !action.is_write);
        if let Some(early) = reads().find(|read| read.to < write.from) {
            let what = format!("operation {} read what operation {} had not written yet", early.op, write.op);
            return Err(Conflict { ops: vec![early.op, write.op], what });
        }
        let zone = Zone {
            first_return: actions.iter().map(|action| action.to).min().unwrap_or(0),
            last_call: actions.iter().map(|action| action.from).max().unwrap_or(0),
            write: write.op,
            read: reads().max_by_key(|read| read.from).map(|read| read.op),
        };
        if zone.first_return < zone.last_call { forward.push(zone) } else { backward.push(zone) }
    }
    let conflict = |a: &Zone, b: &Zone| {
        let ops = [Some(a.write), a.read, Some(b.write), b.read];
        let reader = a.read.or(b.read).unwrap_or(OpId::MAX);
        let written =
            |op: OpId| if op == OpId::MAX { "the beginning".to_owned() } else { format!("operation {op}") };
        Conflict {
            ops: ops.into_iter().flatten().filter(|op| *op != OpId::MAX).collect(),
            what: format!(
                "operation {reader} read the value of {}, though that of {} came between",
                written(a.write),
                written(b.write)
            ),
        }
    };
    forward.sort_unstable_by_key(|zone| zone.first_return);
    for pair in forward.windows(2) {
        if pair[1].first_return < pair[0].last_call {
            return Err(conflict(&pair[0], &pair[1]));
        }
    }
    for zone in &backward {
        let before = forward.partition_point(|around| around.first_return < zone.last_call);
        if let Some(around) = before.checked_sub(1).map(|at| &forward[at])
            && zone.first_return < around.last_call
        {
            return Err(conflict(around, zone));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(is_write: bool, op: OpId, value: usize, from: u64, to: u64) -> Action {
        let value = (value > 0).then_some(Stamp { op: value, change: 0 });
        Action { op, is_write, value, from, to }
    }
    fn write(op: OpId, value: usize, from: u64, to: u64) -> Action {
        action(true, op, value, from, to)
    }
    fn read(op: OpId, value: usize, from: u64, to: u64) -> Action {
        action(false, op, value, from, to)
    }

    /// Both ways of judging, which must agree.
    fn is_right(actions: &[Action]) -> bool {
        let mut kept = actions.to_vec();
        drop_unread(&mut kept);
        let by_search = match search(kept.clone()) {
            Verdict::Right => true,
            Verdict::Wrong(_) => false,
            Verdict::GivenUp => panic!("given up"),
        };
        if let Some(by_zones) = zones(&kept) {
            assert_eq!(by_zones.is_ok(), by_search, "{kept:#?}");
        }
        by_search
    }

    #[test]
    fn an_old_value_after_a_newer_one_was_read_is_found() {
        let good =
            [write(1, 1, 1, 4), write(2, 2, 5, 12), read(3, 1, 6, 8), read(4, 2, 7, 9), read(5, 2, 10, 11)];
        assert!(is_right(&good));
        let mut bad = good;
        bad[4].value = Some(Stamp { op: 1, change: 0 });
        assert!(!is_right(&bad));
    }

    #[test]
    fn an_acknowledged_write_that_a_later_read_misses_is_found() {
        assert!(is_right(&[write(1, 1, 1, 2), write(2, 2, 3, 6), read(3, 1, 4, 5)]), "it was under way");
        assert!(!is_right(&[write(1, 1, 1, 2), write(2, 2, 3, 4), read(3, 1, 5, 6)]), "it had returned");
        assert!(!is_right(&[write(1, 1, 1, 2), read(3, 0, 5, 6)]), "nothing is older than the first write");
    }

    #[test]
    fn a_write_of_unknown_outcome_may_take_effect_late_or_never() {
        let unknown = write(2, 2, 3, u64::MAX);
        assert!(is_right(&[write(1, 1, 1, 2), unknown, read(3, 1, 4, 5)]));
        assert!(is_right(&[write(1, 1, 1, 2), unknown, read(3, 1, 4, 5), read(4, 2, 6, 7)]));
        let flickers = [write(1, 1, 1, 2), unknown, read(3, 2, 4, 5), read(4, 1, 6, 7)];
        assert!(!is_right(&flickers), "once seen, it stays");
    }

    #[test]
    fn a_value_read_before_it_was_written_is_found() {
        assert!(!is_right(&[read(3, 1, 1, 2), write(1, 1, 3, 4)]));
        assert!(!is_right(&[read(3, 7, 1, 2), write(1, 1, 3, 4)]), "nobody wrote it");
    }

    #[test]
    fn deletes_are_told_apart_by_searching() {
        let good =
            [write(1, 1, 1, 2), write(2, 0, 3, 4), read(3, 0, 5, 6), write(4, 4, 7, 8), write(5, 0, 9, 12)];
        assert_eq!(zones(&good), None, "two deletes and the beginning can be why nothing was read");
        assert!(is_right(&good));
        let with = |read: Action| good.iter().copied().chain([read]).collect::<Vec<_>>();
        assert!(is_right(&with(read(6, 4, 10, 11))));
        assert!(is_right(&with(read(6, 0, 10, 11))));
        assert!(!is_right(&with(read(6, 4, 13, 14))), "the delete has returned");
        assert!(!is_right(&with(read(6, 1, 10, 11))), "two writes ago");
    }

    /// Numbers from a seed.
    fn dice(mut state: u64) -> impl FnMut(u64) -> u64 {
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) % below
        }
    }

    /// Calls of some clients on a register that answers truly.
    fn true_history(seed: u64, calls: usize, deletes: u64) -> Vec<Action> {
        let mut dice = dice(seed * 2 + 1);
        let mut clock = 0;
        let mut value = 0;
        let mut actions: Vec<Action> = Vec::new();
        // (action, whether it has taken effect)
        let mut open: Vec<(Action, bool)> = Vec::new();
        let mut op = 0;
        while actions.len() < calls {
            clock += 1;
            match dice(3) {
                0 if open.len() < 5 => {
                    op += 1;
                    let is_write = dice(2) == 0;
                    let written = if dice(10) < deletes { 0 } else { op };
                    open.push((
                        action(is_write, op, if is_write { written } else { 0 }, clock, u64::MAX),
                        false,
                    ));
                }
                1 if !open.is_empty() => {
                    let at = dice(open.len() as u64) as usize;
                    let (action, done) = &mut open[at];
                    if !*done {
                        *done = true;
                        if action.is_write {
                            value = action.value.map_or(0, |stamp| stamp.op);
                        } else {
                            action.value = (value > 0).then_some(Stamp { op: value, change: 0 });
                        }
                    }
                }
                _ => {
                    if let Some(at) = open.iter().position(|(_, done)| *done) {
                        let (action, _) = open.remove(at);
                        actions.push(Action { to: clock, ..action });
                    }
                }
            }
        }
        actions.extend(
            open.into_iter().filter(|(action, done)| *done && action.is_write).map(|(action, _)| action),
        );
        actions
    }

    #[test]
    fn true_histories_pass_and_both_judges_agree_on_spoilt_ones() {
        let mut found = 0;
        for seed in 0..300 {
            let good = true_history(seed, 30, seed % 3);
            assert!(is_right(&good), "seed {seed}: {good:#?}");
            let mut dice = dice(seed + 1000);
            let mut bad = good.clone();
            let read = bad.iter().position(|action| !action.is_write && dice(3) == 0);
            let other = bad[dice(bad.len() as u64) as usize].value;
            if let Some(read) = read {
                bad[read].value = other;
                found += usize::from(!is_right(&bad));
            }
        }
        assert!(found > 80, "only {found} of 300 spoilt histories were found out");
    }

    /// Whether some order explains what was read: all that are possible are tried.
    fn naively_right(
        actions: &[Action],
        put: u32,
        value: Option<Stamp>,
        seen: &mut HashSet<(u32, Option<Stamp>)>,
    ) -> bool {
        let open = || (0..actions.len()).filter(|at| put & (1 << at) == 0);
        if open().all(|at| actions[at].is_write && actions[at].to == u64::MAX) {
            return true;
        }
        if !seen.insert((put, value)) {
            return false;
        }
        let first_end = open().map(|at| actions[at].to).min().unwrap_or(0);
        open().any(|at| {
            let action = &actions[at];
            action.from <= first_end
                && (action.is_write || action.value == value)
                && naively_right(actions, put | 1 << at, action.value, seen)
        })
    }

    #[test]
    fn the_search_agrees_with_one_that_tries_everything() {
        let (mut right, mut wrong) = (0, 0);
        for seed in 0..4_000 {
            let mut dice = dice(seed + 77);
            let mut actions = true_history(seed, 12, 3 + seed % 5);
            for action in &mut actions {
                if action.is_write && dice(5) == 0 {
                    action.to = u64::MAX;
                }
            }
            for _ in 0..dice(3) {
                let (one, other) = (dice(actions.len() as u64) as usize, dice(actions.len() as u64) as usize);
                if !actions[one].is_write {
                    actions[one].value = actions[other].value;
                }
            }
            let expected = naively_right(&actions, 0, None, &mut HashSet::new());
            *(if expected { &mut right } else { &mut wrong }) += 1;
            assert_eq!(search(actions.clone()) == Verdict::Right, expected, "seed {seed}: {actions:#?}");
        }
        assert!(right > 1_000 && wrong > 300, "{right} right, {wrong} wrong");
    }

    #[test]
    fn thousands_of_calls_on_one_key_are_checked_without_giving_up() {
        for deletes in [0, 2] {
            let good = true_history(7, 6000, deletes);
            let mut checked = Checked::default();
            check_register(Register::from([(Key::new(0, "k"), good)]), &HashSet::new(), &mut checked)
                .unwrap();
            assert_eq!((checked.keys, checked.given_up), (1, 0));
            assert_eq!(checked.searched, usize::from(deletes > 0));
        }
    }
}
