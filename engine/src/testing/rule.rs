//! The language of faults: which calls meet what.
//!
//! A [`Rule`] says which calls (operation, path, node, and which of them: the n-th, the first few, every
//! n-th, by chance) meet which [`Fault`]. The same rules drive a [`FaultyStore`](super::FaultyStore) inside a
//! program and a `FaultProxy` in front of a server; in a file they are
//! [text](super::rule_text), a line each. Each fault is a kind that real stores have shown.
//!
//! Always true: a rule is data: it counts nothing and draws nothing itself; a fault that means nothing to an
//! operation (a flipped bit in a listing) is never met by it.

use std::time::Duration;

/// What kind of call a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Every call.
    Any,
    /// A whole object written, conditionally or not.
    Put,
    /// A multipart upload begun.
    Begin,
    /// A part of one uploaded.
    Part,
    /// A multipart upload completed.
    Complete,
    /// A multipart upload given up.
    Abort,
    /// An object, a range or its size read.
    Get,
    /// A listing.
    List,
    /// A deletion.
    Delete,
    /// A copy or a rename.
    Copy,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Any,
        Self::Put,
        Self::Begin,
        Self::Part,
        Self::Complete,
        Self::Abort,
        Self::Get,
        Self::List,
        Self::Delete,
        Self::Copy,
    ];

    /// Its word in a rule's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Put => "put",
            Self::Begin => "begin",
            Self::Part => "part",
            Self::Complete => "complete",
            Self::Abort => "abort",
            Self::Get => "get",
            Self::List => "list",
            Self::Delete => "delete",
            Self::Copy => "copy",
        }
    }
}

/// What a call meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// An error; nothing was done. Over HTTP the connection is reset before anything is sent on.
    FailBefore,
    /// It was done; an error comes back all the same. Of a listing, the first half comes, then the error.
    /// Over HTTP the connection closes without an answer.
    DropReply,
    /// An error comes back; a PUT is kept aside and done when the test says so (`release_withheld`). (Other
    /// calls are not done at all.)
    Withhold,
    /// An error comes back at once; it is done after this time, when its sender may be long dead. Of PUTs,
    /// copies and deletions.
    Late(Duration),
    /// It is done after this time, and then answered.
    Delay(Duration),
    /// It is done twice, as a proxy that retries does it; the second answer comes back.
    Duplicate,
    /// "Already exists" (or 409) comes back; nothing was done and nothing may be there.
    FalseConflict,
    /// "Not found" comes back, whatever is there. A listing is empty.
    FalseMissing,
    /// "Forbidden" (403) comes back, as while keys are rotated; nothing was done.
    Refuse,
    /// This HTTP status comes back; nothing was done.
    Status(u16),
    /// Success comes back, and nothing was done: a store that loses what it has acknowledged, as one does that
    /// does not sync. No engine can survive it; it is here to show that a check can fail. Of PUTs and deletions.
    FalseSuccess,
    /// Success (200) comes back with an error in its body, as S3 answers long calls; nothing was done. Of
    /// completed uploads, copies and deletions.
    ErrorBody,
    /// The body ends cleanly after this many bytes; of a listing, after this many objects.
    Truncate(u64),
    /// The body ends after this many bytes although more were announced. Of reads and listings.
    Cut(u64),
    /// The connection is reset after this many bytes of the body: of what is read, the answer's. Of what is
    /// written, the request's: nothing was done, unless all of it had arrived.
    Reset(u64),
    /// The lowest bit of the body's byte at this offset is flipped.
    Flip(u64),
    /// The bytes read come from this many places further on; those off the front come at the end.
    Shift(u64),
    /// The body of another object comes back: of the one read last before this one.
    Swap,
    /// A listing lacks this many of its newest objects.
    StaleList(u64),
    /// "Not found" comes back for what was written less than this long ago.
    StaleMissing(Duration),
    /// No answer ever comes; nothing was done.
    Hang,
    /// It was done, and no answer ever comes.
    HangReply,
    /// It takes longer, by a time drawn anew for each call.
    Latency(Latency),
}

/// How much longer calls take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Latency {
    /// Always this much.
    Fixed(Duration),
    /// Anything between the two, evenly.
    Uniform(Duration, Duration),
    /// At least this, with a heavy tail: the share of calls over x is (least / x) to the power of the shape.
    Pareto {
        /// The shortest.
        least: Duration,
        /// The shape, in hundredths: 150 is 1.5. Smaller is heavier.
        shape_percent: u32,
    },
}

/// No drawn time is longer: a tail without end is a hang, which has a word of its own.
const LONGEST_LATENCY: Duration = Duration::from_secs(600);

impl Latency {
    /// A heavy tail; `shape` is rounded to hundredths, 1 to 3 are lifelike.
    pub fn pareto(least: Duration, shape: f64) -> Self {
        Self::Pareto { least, shape_percent: (shape * 100.0).round().max(1.0) as u32 }
    }

    /// The time for one call; `unit` is chance, 0 to 1.
    pub(super) fn draw(self, unit: f64) -> Duration {
        let drawn = match self {
            Self::Fixed(time) => return time,
            Self::Uniform(from, to) => from + to.saturating_sub(from).mul_f64(unit),
            Self::Pareto { least, shape_percent } => {
                let power = 100.0 / f64::from(shape_percent.max(1));
                let seconds = least.as_secs_f64() * (1.0 - unit).max(1e-12).powf(-power);
                Duration::try_from_secs_f64(seconds).unwrap_or(LONGEST_LATENCY)
            }
        };
        drawn.min(LONGEST_LATENCY)
    }
}

impl Fault {
    /// Its word in a rule's text.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::FailBefore => "fail_before",
            Self::DropReply => "drop_reply",
            Self::Withhold => "withhold",
            Self::Late(_) => "late",
            Self::Delay(_) => "delay",
            Self::Duplicate => "duplicate",
            Self::FalseConflict => "false_conflict",
            Self::FalseMissing => "false_missing",
            Self::Refuse => "refuse",
            Self::Status(_) => "status",
            Self::FalseSuccess => "false_success",
            Self::ErrorBody => "error_body",
            Self::Truncate(_) => "truncate",
            Self::Cut(_) => "cut",
            Self::Reset(_) => "reset",
            Self::Flip(_) => "flip",
            Self::Shift(_) => "shift",
            Self::Swap => "swap",
            Self::StaleList(_) => "stale_list",
            Self::StaleMissing(_) => "stale_404",
            Self::Hang => "hang",
            Self::HangReply => "hang_reply",
            Self::Latency(_) => "latency",
        }
    }

    /// Whether it means anything to this kind of call.
    pub fn concerns(&self, operation: Operation) -> bool {
        use Operation as O;
        match self {
            Self::Truncate(_) | Self::Cut(_) => matches!(operation, O::Get | O::List),
            Self::Flip(_) | Self::Shift(_) | Self::Swap | Self::StaleMissing(_) => operation == O::Get,
            Self::StaleList(_) => operation == O::List,
            Self::Late(_) => matches!(operation, O::Put | O::Copy | O::Delete),
            Self::FalseSuccess => matches!(operation, O::Put | O::Delete),
            Self::ErrorBody => matches!(operation, O::Complete | O::Copy | O::Delete),
            _ => true,
        }
    }
}

/// Which calls meet which fault. Made by [`Rule::on`], narrowed, and finished by [`Rule::meets`]; or read from
/// text, which is the same:
///
/// ```
/// use esker::testing::{Fault, Operation, Rule};
///
/// let built = Rule::on(Operation::Put).path("wal/").nth(3).meets(Fault::DropReply);
/// let read: Rule = "put wal/ nth=3 -> drop_reply".parse()?;
/// assert_eq!(built, read);
/// assert_eq!(built.to_string(), "put wal/ nth=3 -> drop_reply");
/// # Ok::<(), esker::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    pub(super) operation: Operation,
    pub(super) path: String,
    pub(super) node: String,
    pub(super) when: When,
    pub(super) fault: Fault,
}

/// Which of the matching calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum When {
    Always,
    Nth(u64),
    First(u64),
    Every(u64),
    Chance(f64),
}

impl Rule {
    /// A rule about every call of this kind; [`Fault::FailBefore`] unless [`Self::meets`] says otherwise.
    pub fn on(operation: Operation) -> Self {
        Self {
            operation,
            path: String::new(),
            node: String::new(),
            when: When::Always,
            fault: Fault::FailBefore,
        }
    }
    /// Only calls whose path contains `piece`, in which `*` stands for anything and `?` for one character;
    /// `^` in front and `$` at the end tie it to the ends of the path. Of a listing, the path is its prefix.
    #[must_use]
    pub fn path(self, piece: impl Into<String>) -> Self {
        Self { path: piece.into(), ..self }
    }
    /// Only calls of the node with this label: see `node` of the store and of the proxy.
    #[must_use]
    pub fn node(self, label: impl Into<String>) -> Self {
        Self { node: label.into(), ..self }
    }
    /// Only the `n`-th matching call, counted from 1.
    #[must_use]
    pub fn nth(self, n: u64) -> Self {
        Self { when: When::Nth(n), ..self }
    }
    /// Only the first `n` matching calls.
    #[must_use]
    pub fn first(self, n: u64) -> Self {
        Self { when: When::First(n), ..self }
    }
    /// Only each `n`-th matching call.
    #[must_use]
    pub fn every(self, n: u64) -> Self {
        Self { when: When::Every(n), ..self }
    }
    /// Each matching call with this probability, 0 to 1.
    #[must_use]
    pub fn chance(self, probability: f64) -> Self {
        Self { when: When::Chance(probability), ..self }
    }
    /// What those calls meet.
    #[must_use]
    pub fn meets(self, fault: Fault) -> Self {
        Self { fault, ..self }
    }

    /// Whether a call is one that this rule counts.
    pub(super) fn matches(&self, operation: Operation, path: &str, node: &str) -> bool {
        (self.operation == Operation::Any || self.operation == operation)
            && self.fault.concerns(operation)
            && (self.node.is_empty() || self.node == node)
            && is_like(path, &self.path)
    }
}

/// Whether `pattern`, as [`Rule::path`] explains it, is found in `path`.
fn is_like(path: &str, pattern: &str) -> bool {
    let (start, pattern) = pattern.strip_prefix('^').map_or((false, pattern), |rest| (true, rest));
    let (end, pattern) = pattern.strip_suffix('$').map_or((false, pattern), |rest| (true, rest));
    if !start && !end && !pattern.contains(['*', '?']) {
        return path.contains(pattern);
    }
    let mut wanted: Vec<char> = pattern.chars().collect();
    if !start {
        wanted.insert(0, '*');
    }
    if !end {
        wanted.push('*');
    }
    glob(&path.chars().collect::<Vec<_>>(), &wanted)
}

/// Whether `wanted` covers the whole of `text`: the last star is the only one worth going back to.
fn glob(text: &[char], wanted: &[char]) -> bool {
    let (mut at, mut pattern_at, mut star) = (0, 0, None);
    while at < text.len() {
        match wanted.get(pattern_at) {
            Some('*') => {
                star = Some((pattern_at, at));
                pattern_at += 1;
            }
            Some(c) if *c == '?' || *c == text[at] => {
                at += 1;
                pattern_at += 1;
            }
            _ => match star {
                Some((star_at, from)) => {
                    star = Some((star_at, from + 1));
                    (at, pattern_at) = (from + 1, star_at + 1);
                }
                None => return false,
            },
        }
    }
    wanted[pattern_at..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_matched_by_piece_or_by_glob() {
        for (path, pattern, like) in [
            ("a/wal/007", "", true),
            ("a/wal/007", "wal/", true),
            ("a/wal/007", "wal/*", true),
            ("a/wal/007", "^wal/", false),
            ("a/wal/007", "^a/*/0?7$", true),
            ("a/wal/007", "^a/*/0?8$", false),
            ("a/wal/007", "w?l*7", true),
            ("a/wal/007", "w??l", false),
            ("aab", "^a*ab$", true),
            ("", "^*$", true),
            ("", "?", false),
        ] {
            assert_eq!(is_like(path, pattern), like, "{path} {pattern}");
        }
    }

    #[test]
    fn latencies_are_drawn_as_they_say() {
        let ms = Duration::from_millis;
        assert_eq!(Latency::Fixed(ms(3)).draw(0.9), ms(3));
        assert_eq!(Latency::Uniform(ms(10), ms(20)).draw(0.5), ms(15));
        let tail = Latency::pareto(ms(10), 2.0);
        assert_eq!(tail.draw(0.0), ms(10));
        assert_eq!(tail.draw(0.99).as_millis(), 100);
        assert_eq!(Latency::pareto(ms(10), 0.01).draw(1.0), LONGEST_LATENCY);
    }
}
