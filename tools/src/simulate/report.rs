//! A failure, told to a person: what was broken, how to see it again, and what led to it.
//!
//! ```text
//! FAILED     a strong read sees everything acknowledged, or seen, before it was called
//!            operation 812 is at 40, and 44 was known durable when it was called
//! again      cargo simulate 7 --operations 1200 --without pauses,409
//! history    4 of 1640 operations, and what happened around them
//!    12.345 s  n0.1  c3  w790  put k1/00012, delete k2/00007    → 3-44 accepted, durable at 12.420 s
//!    12.601 s  n0.1            CRASHED
//!  ► 12.702 s  n4.0  c9   812  strong snapshot                  → 40 at 12.731 s
//! ```
//!
//! Of the operations, those that the failure names are told, the snapshots they read, and the last writes of the
//! keys concerned; of the events, what happened to the processes of these while they were at it.
//!
//! Always true: lines are in the order in which things began; columns are aligned; a long list says how much it
//! leaves out.

use std::{collections::BTreeSet, fmt::Write as _, ops::Bound};

use super::{
    failure::Failure,
    history::{
        Call, Change, Event, Freshness, HandleKind, Happening, History, Key, Node, OpId, Operation, Outcome,
        Place, Range, Reads, What,
    },
    shorten::Options,
};

/// Writes of the keys concerned that are told besides the operations that a failure names.
const WRITES: usize = 12;

/// Lines of events.
const EVENTS: usize = 24;

/// Changes, values or rows of an operation that are told.
const FEW: usize = 6;

/// Everything that is told of a failure.
pub(crate) fn tell(history: &History, failure: &Failure, options: &Options) -> String {
    let mut text =
        format!("FAILED     {}\n           {}\nagain      {options}\n", failure.rule, failure.detail);
    let told = operations(history, failure);
    if told.is_empty() {
        tell_events(&mut text, history);
        return text;
    }
    let mut lines: Vec<Line> =
        told.iter().map(|op| line(history, *op, failure.operations.contains(op))).collect();
    let events = events(history, &told);
    lines.extend(events.iter().map(|event| event_line(event)));
    lines.sort_by_key(|line| line.at);
    let _ = writeln!(
        text,
        "history    {} of {} operations, and what happened around them",
        told.len(),
        history.operations.len()
    );
    write_lines(&mut text, &lines);
    text
}

/// The last events, when a failure names no operation.
fn tell_events(text: &mut String, history: &History) {
    let last = history.events.len().saturating_sub(EVENTS);
    let lines: Vec<Line> = history.events[last..].iter().map(event_line).collect();
    let _ = writeln!(text, "history    the last {} of {} events", lines.len(), history.events.len());
    write_lines(text, &lines);
}

/// A line of the history.
struct Line {
    at: Place,
    is_named: bool,
    columns: [String; 4],
    outcome: String,
}

fn write_lines(text: &mut String, lines: &[Line]) {
    let width =
        |column: usize| lines.iter().map(|line| line.columns[column].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2), width(3).min(60)];
    for line in lines {
        let mark = if line.is_named { '►' } else { ' ' };
        let [node, client, op, what] = &line.columns;
        let [a, b, c, d] = widths;
        let row = format!(
            " {mark} {:>10}  {node:<a$}  {client:<b$}  {op:>c$}  {what:<d$}  {}",
            seconds(line.at),
            line.outcome
        );
        let _ = writeln!(text, "{}", row.trim_end());
    }
}

/// The operations to tell of, ascending.
fn operations(history: &History, failure: &Failure) -> BTreeSet<OpId> {
    let mut told: BTreeSet<OpId> =
        failure.operations.iter().copied().filter(|op| *op < history.operations.len()).collect();
    let taken: Vec<OpId> = told
        .iter()
        .filter_map(|op| match &history.operations[*op].call {
            Call::Get(Reads::Snapshot(of), _) | Call::Scan(Reads::Snapshot(of), _) => Some(*of),
            _ => None,
        })
        .collect();
    told.extend(taken);
    let until = told
        .iter()
        .map(|op| &history.operations[*op])
        .map(|operation| operation.returned.unwrap_or(operation.invoked))
        .max();
    let concerns = |operation: &Operation| {
        until.is_none_or(|until| operation.invoked < until)
            && operation.changes().iter().any(|change| failure.keys.contains(&change.key))
    };
    let writes = (0..history.operations.len()).rev().filter(|op| concerns(&history.operations[*op]));
    told.extend(writes.take(WRITES));
    told
}

/// What happened to the processes of these operations while they were at it.
fn events<'a>(history: &'a History, told: &BTreeSet<OpId>) -> Vec<&'a Event> {
    let of = || told.iter().map(|op| &history.operations[*op]);
    let nodes: BTreeSet<Node> = of().map(|operation| history.handles[operation.handle].node).collect();
    let from = of().map(|operation| operation.invoked).min().unwrap_or_default();
    let until =
        of().map(|operation| operation.returned.unwrap_or(operation.invoked)).max().unwrap_or_default();
    let within = |event: &&Event| from <= event.at && event.at <= until;
    let concerns = |event: &&Event| match (&event.happening, event.node) {
        (Happening::Healed, _) => true,
        (_, Some(node)) => nodes.contains(&node),
        (_, None) => false,
    };
    let all: Vec<&Event> = history.events.iter().filter(within).filter(concerns).collect();
    let (notes, lives): (Vec<&Event>, Vec<&Event>) =
        all.into_iter().partition(|event| matches!(event.happening, Happening::Note(_)));
    // Lives and deaths first; of the notes the last.
    let room = EVENTS.saturating_sub(lives.len()).min(notes.len());
    let mut kept = lives;
    kept.extend(&notes[notes.len() - room..]);
    kept
}

fn event_line(event: &Event) -> Line {
    let what = match &event.happening {
        Happening::Started => "STARTED".to_owned(),
        Happening::Crashed => "CRASHED".to_owned(),
        Happening::Paused => "STANDS STILL".to_owned(),
        Happening::Resumed => "GOES ON".to_owned(),
        Happening::Fenced(handle) => format!("FENCED (handle {handle})"),
        Happening::Manifest(id) => format!("version {id} landed"),
        Happening::Healed => "FAULTS END".to_owned(),
        Happening::Note(note) => note.clone(),
    };
    let node = event.node.map_or_else(String::new, |node| node.to_string());
    Line {
        at: event.at,
        is_named: false,
        columns: [node, String::new(), String::new(), what],
        outcome: String::new(),
    }
}

fn line(history: &History, op: OpId, is_named: bool) -> Line {
    let operation = &history.operations[op];
    let handle = &history.handles[operation.handle];
    let who = match handle.kind {
        HandleKind::Writer { epoch, .. } => format!("{} e{epoch}", handle.node),
        HandleKind::Reader => format!("{} r{}", handle.node, operation.handle),
    };
    let name = if operation.changes().is_empty() { op.to_string() } else { format!("w{op}") };
    let columns = [who, format!("c{}", operation.client), name, call(&operation.call)];
    Line { at: operation.invoked, is_named, columns, outcome: outcome(operation) }
}

fn call(call: &Call) -> String {
    match call {
        Call::Write(changes) => few(changes, |change| {
            let Change { key, what } = change;
            let verb = match what {
                What::Put => "put",
                What::PutExpiring => "put expiring",
                What::Delete => "delete",
            };
            format!("{verb} {key}")
        }),
        Call::Snapshot(freshness) => match freshness {
            Freshness::Local => "snapshot".to_owned(),
            Freshness::Bounded { age_us } => format!("snapshot within {:.3} s", *age_us as f64 / 1e6),
            Freshness::AtLeast(token) => format!("snapshot with {token}"),
            Freshness::Strong => "strong snapshot".to_owned(),
        },
        Call::Get(reads, keys) => format!("get {}{}", few(keys, Key::to_string), source(*reads)),
        Call::Scan(reads, range) => format!("scan {}{}", bounds(range), source(*reads)),
    }
}

fn source(reads: Reads) -> String {
    match reads {
        Reads::Handle => String::new(),
        Reads::Snapshot(op) => format!(" in snapshot {op}"),
    }
}

fn bounds(range: &Range) -> String {
    let low = match &range.low {
        Bound::Included(low) => format!("[{}", low.escape_ascii()),
        Bound::Excluded(low) => format!("({}", low.escape_ascii()),
        Bound::Unbounded => "(".to_owned(),
    };
    let high = match &range.high {
        Bound::Included(high) => format!("{}]", high.escape_ascii()),
        Bound::Excluded(high) => format!("{})", high.escape_ascii()),
        Bound::Unbounded => ")".to_owned(),
    };
    let way = if range.reverse { ", descending" } else { "" };
    let limit = range.limit.map_or_else(String::new, |limit| format!(", at most {limit}"));
    format!("{low} … {high}{way}{limit}")
}

fn outcome(operation: &Operation) -> String {
    let at = |place: Option<Place>| place.map_or_else(String::new, |place| format!(" at {}", seconds(place)));
    let returned = at(operation.returned);
    match &operation.outcome {
        Outcome::Open => "→ never returned".to_owned(),
        Outcome::Failed(kind) => format!("→ {}{returned}", kind.as_str()),
        Outcome::Accepted(token) => {
            let landing = match operation.landing {
                None => String::new(),
                Some(landing) => match landing.outcome {
                    Ok(()) => format!(", durable{}", at(Some(landing.at))),
                    Err(kind) => format!(", then {}{}", kind.as_str(), at(Some(landing.at))),
                },
            };
            format!("→ {token} accepted{landing}")
        }
        Outcome::Point(point) => format!("→ at {point},{returned}"),
        Outcome::Values(values) => {
            let shown =
                few(values, |value| value.map_or_else(|| "nothing".to_owned(), |seen| seen.to_string()));
            format!("→ {shown}{returned}")
        }
        Outcome::Rows { rows, cut_short } => {
            let shown = few(rows, |row| format!("{} = {}", row.key, row.value));
            let end = cut_short.map_or_else(String::new, |kind| format!(", then {}", kind.as_str()));
            format!("→ {} rows ({shown}){end}{returned}", rows.len())
        }
    }
}

/// The first few, and how many more.
fn few<T>(all: &[T], shown: impl Fn(&T) -> String) -> String {
    let mut text = all.iter().take(FEW).map(shown).collect::<Vec<_>>().join(", ");
    if all.len() > FEW {
        let _ = write!(text, ", and {} more", all.len() - FEW);
    }
    text
}

fn seconds(place: Place) -> String {
    format!("{:.3} s", place.at_us as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use esker::Token;

    use super::*;
    use crate::history::{HandleKind, Seen, Stamp};

    #[test]
    fn a_failure_is_told_with_what_led_to_it_and_nothing_else() {
        let mut history = History::new();
        let node = Node { index: 3, incarnation: 1 };
        let writer = history.open(node, HandleKind::Writer { epoch: 2, base: 0 }, 1_000);
        let change = |name| Change { key: Key::new(0, name), what: What::Put };
        for (at, name) in [(10_000, "other"), (20_000, "k1")] {
            let op = history.invoke(4, writer, Call::Write(vec![change(name)]), at);
            history.returns(op, Outcome::Accepted(Token { epoch: 2, seq: op as u64 + 1 }), at + 1_000);
            history.lands(op, Ok(()), at + 2_000);
        }
        history.event(Some(node), Happening::Paused, 25_000);
        history.event(Some(Node { index: 9, incarnation: 0 }), Happening::Crashed, 26_000);
        let read = history.invoke(5, writer, Call::Get(Reads::Handle, vec![Key::new(0, "k1")]), 30_000);
        let value = Some(Seen::Write(Stamp { op: 0, change: 0 }));
        history.returns(read, Outcome::Values(vec![value]), 31_000);
        let failure = Failure::new("a rule", "operation 2 broke it").by([read]).on([&Key::new(0, "k1")]);
        let told = tell(&history, &failure, &Options::new(7, 100));
        let expected = "\
FAILED     a rule
           operation 2 broke it
again      cargo simulate 7 --operations 100
history    2 of 3 operations, and what happened around them
      0.020 s  n3.1 e2  c4  w1  put k1        → 2-2 accepted, durable at 0.022 s
      0.025 s  n3.1             STANDS STILL
 ►    0.030 s  n3.1 e2  c5   2  get k1        → w0 at 0.031 s
";
        assert_eq!(told, expected);
    }
}
