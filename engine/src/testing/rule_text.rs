//! Rules as text: what `esker soak --faults FILE` and a test in a hurry read.
//!
//! ```text
//! # A comment. One rule a line; the first that fires wins.
//! put wal/* nth=3 -> drop_reply
//! any chance=0.01 -> status=503
//! get ^db/sst/ every=100 node=reader-1 -> truncate=512
//! list manifest first=2 -> stale_list=1
//! put chance=0.02 -> late=2s
//! any -> latency=pareto(5ms,1.5)
//!
//! rule      = operation [path] {word} "->" fault
//! operation = any put begin part complete abort get list delete copy
//! path      = a piece of the path; * and ? stand for anything and for one character, ^ and $ for its ends;
//!             in "quotes" if it has spaces or a = in it
//! word      = nth=N  first=N  every=N  chance=P  node=LABEL
//! fault     = fail_before drop_reply withhold late=TIME delay=TIME duplicate false_conflict false_missing
//!             false_success refuse status=CODE error_body truncate=N cut=N reset=N flip=N shift=N swap stale_list=N
//!             stale_404=TIME hang hang_reply latency=fixed(TIME) latency=uniform(TIME,TIME)
//!             latency=pareto(TIME,SHAPE)
//! TIME      = 250us  20ms  1.5s  2m  1h
//! ```
//!
//! Always true: what a rule prints reads back as the same rule; a mistake is named with its line, and what was
//! probably meant.

use std::{fmt, str::FromStr, time::Duration};

use super::rule::{Fault, Latency, Operation, Rule, When};
use crate::error::{Error, Result};

const FAULTS: [&str; 23] = [
    "fail_before",
    "drop_reply",
    "withhold",
    "late",
    "delay",
    "duplicate",
    "false_conflict",
    "false_missing",
    "refuse",
    "status",
    "false_success",
    "error_body",
    "truncate",
    "cut",
    "reset",
    "flip",
    "shift",
    "swap",
    "stale_list",
    "stale_404",
    "hang",
    "hang_reply",
    "latency",
];

const WORDS: [&str; 5] = ["nth", "first", "every", "chance", "node"];

/// The rules of a file, a line each; empty lines and those that begin with `#` are skipped.
///
/// ```
/// let rules = esker::testing::parse_rules("# two\nput wal/ -> drop_reply\nany chance=0.1 -> status=503\n")?;
/// assert_eq!(rules.len(), 2);
/// let error = esker::testing::parse_rules("put -> dorp_reply").unwrap_err();
/// assert!(error.to_string().contains("line 1") && error.to_string().contains("did you mean drop_reply?"));
/// # Ok::<(), esker::Error>(())
/// ```
pub fn parse_rules(text: &str) -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        rules.push(parse(line).map_err(|wrong| wrong.error(&format!("line {}", number + 1)))?);
    }
    Ok(rules)
}

impl FromStr for Rule {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        parse(text.trim()).map_err(|wrong| wrong.error("the rule"))
    }
}

/// What is wrong with a rule, and what might help.
struct Wrong {
    what: String,
    hint: String,
}

impl Wrong {
    fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }

    /// A word that is none of those known.
    fn unknown(kind: &str, word: &str, known: &[&str]) -> Self {
        let near = known.iter().min_by_key(|name| strsim::damerau_levenshtein(name, word));
        let hint = match near {
            Some(near) if strsim::damerau_levenshtein(near, word) <= 3 => format!("did you mean {near}?"),
            _ => format!("known are {}", known.join(", ")),
        };
        Self::new(format!("{word:?} is no {kind}"), hint)
    }

    fn error(self, place: &str) -> Error {
        Error::invalid(format!("{place} of the faults is wrong: {}", self.what)).hint(self.hint)
    }
}

fn parse(line: &str) -> Result<Rule, Wrong> {
    let words = words(line)?;
    let Some(arrow) = words.iter().position(|word| word.text == "->" && !word.quoted) else {
        return Err(Wrong::new("it has no ->", "write it like: put wal/* nth=3 -> drop_reply"));
    };
    let (calls, fault) = (&words[..arrow], &words[arrow + 1..]);
    let [fault] = fault else {
        return Err(Wrong::new(
            "after -> there is not one fault",
            "one rule has one fault; write another line",
        ));
    };
    let Some((operation, rest)) = calls.split_first() else {
        return Err(Wrong::new("it names no operation", "begin with any, put, get, list …"));
    };
    let names = Operation::ALL.map(Operation::as_str);
    let operation = Operation::ALL
        .into_iter()
        .find(|known| known.as_str() == operation.text)
        .ok_or_else(|| Wrong::unknown("operation", &operation.text, &names))?;
    let mut rule = Rule::on(operation);
    let mut narrowed = false;
    for (at, word) in rest.iter().enumerate() {
        match word.text.split_once('=').filter(|_| !word.quoted) {
            None if at == 0 => rule = rule.path(word.text.as_str()),
            None => return Err(Wrong::unknown("word of a rule", &word.text, &WORDS)),
            Some(("node", label)) => rule = rule.node(label),
            Some((name, value)) => {
                if std::mem::replace(&mut narrowed, true) {
                    return Err(Wrong::new(
                        "it says twice which calls",
                        "one of nth, first, every and chance is enough",
                    ));
                }
                rule.when = match name {
                    "nth" => When::Nth(count(name, value)?),
                    "first" => When::First(count(name, value)?),
                    "every" => When::Every(count(name, value)?),
                    "chance" => When::Chance(chance(value)?),
                    _ => return Err(Wrong::unknown("word of a rule", name, &WORDS)),
                };
            }
        }
    }
    let fault = parse_fault(&fault.text)?;
    if operation != Operation::Any && !fault.concerns(operation) {
        let what = format!("{} means nothing to {}", fault.as_str(), operation.as_str());
        return Err(Wrong::new(what, "no such call would ever meet it"));
    }
    Ok(rule.meets(fault))
}

fn parse_fault(text: &str) -> Result<Fault, Wrong> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let needs = |what: &str| Wrong::new(format!("{name} needs {what}"), format!("write it like {name}=…"));
    let number = || value.ok_or_else(|| needs("a number")).and_then(|value| any_number(name, value));
    let span = || value.ok_or_else(|| needs("a time")).and_then(time);
    let fault = match name {
        "late" => return span().map(Fault::Late),
        "delay" => return span().map(Fault::Delay),
        "stale_404" => return span().map(Fault::StaleMissing),
        "status" => {
            let code = number()?;
            return u16::try_from(code)
                .ok()
                .filter(|code| (300..600).contains(code))
                .map(Fault::Status)
                .ok_or_else(|| {
                    Wrong::new(format!("{code} is no status of an error"), "use one from 300 to 599")
                });
        }
        "truncate" => return number().map(Fault::Truncate),
        "cut" => return number().map(Fault::Cut),
        "reset" => return number().map(Fault::Reset),
        "flip" => return number().map(Fault::Flip),
        "shift" => return number().map(Fault::Shift),
        "stale_list" => return number().map(Fault::StaleList),
        "latency" => return latency(value.ok_or_else(|| needs("a distribution"))?).map(Fault::Latency),
        "fail_before" => Fault::FailBefore,
        "drop_reply" => Fault::DropReply,
        "withhold" => Fault::Withhold,
        "duplicate" => Fault::Duplicate,
        "false_conflict" => Fault::FalseConflict,
        "false_missing" => Fault::FalseMissing,
        "refuse" => Fault::Refuse,
        "false_success" => Fault::FalseSuccess,
        "error_body" => Fault::ErrorBody,
        "swap" => Fault::Swap,
        "hang" => Fault::Hang,
        "hang_reply" => Fault::HangReply,
        _ => return Err(Wrong::unknown("fault", name, &FAULTS)),
    };
    match value {
        None => Ok(fault),
        Some(_) => Err(Wrong::new(format!("{name} takes no value"), format!("write {name} alone"))),
    }
}

fn latency(text: &str) -> Result<Latency, Wrong> {
    let wrong = || {
        Wrong::new(
            format!("{text:?} is no distribution"),
            "write fixed(10ms), uniform(1ms,20ms) or pareto(5ms,1.5)",
        )
    };
    let (name, rest) = text.split_once('(').ok_or_else(wrong)?;
    let inside = rest.strip_suffix(')').ok_or_else(wrong)?;
    match (name, inside.split_once(',')) {
        ("fixed", None) => Ok(Latency::Fixed(time(inside)?)),
        ("uniform", Some((from, to))) => {
            let (from, to) = (time(from)?, time(to)?);
            if from > to { Err(wrong()) } else { Ok(Latency::Uniform(from, to)) }
        }
        ("pareto", Some((least, shape))) => {
            let shape: f64 = shape.trim().parse().map_err(|_| wrong())?;
            if !(0.01..=1000.0).contains(&shape) {
                return Err(wrong());
            }
            Ok(Latency::pareto(time(least)?, shape))
        }
        _ => Err(wrong()),
    }
}

fn any_number(name: &str, value: &str) -> Result<u64, Wrong> {
    value.parse().map_err(|_| Wrong::new(format!("{name}={value} is no number"), "use digits only"))
}

/// A count of calls, which begins at one.
fn count(name: &str, value: &str) -> Result<u64, Wrong> {
    match any_number(name, value)? {
        0 => Err(Wrong::new(format!("{name}=0 is no call"), "calls are counted from 1")),
        n => Ok(n),
    }
}

fn chance(value: &str) -> Result<f64, Wrong> {
    let wrong = || Wrong::new(format!("chance={value} is no probability"), "use a number from 0 to 1");
    value.parse().ok().filter(|p| (0.0..=1.0).contains(p)).ok_or_else(wrong)
}

const UNITS: [(&str, u64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

fn time(text: &str) -> Result<Duration, Wrong> {
    let text = text.trim();
    let wrong = || Wrong::new(format!("{text:?} is no time"), "write it like 250us, 20ms, 1.5s, 2m or 1h");
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit_at);
    let nanos = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, nanos)| *nanos).ok_or_else(wrong)?;
    match number.parse::<u64>() {
        Ok(whole) => whole.checked_mul(nanos).map(Duration::from_nanos).ok_or_else(wrong),
        Err(_) => {
            let parts: f64 = number.parse().map_err(|_| wrong())?;
            Duration::try_from_secs_f64(parts * nanos as f64 / 1e9).map_err(|_| wrong())
        }
    }
}

/// A word of a line, and whether it stood in quotes.
struct Word {
    text: String,
    quoted: bool,
}

fn words(line: &str) -> Result<Vec<Word>, Wrong> {
    let mut words = Vec::new();
    let mut rest = line.chars().peekable();
    while let Some(c) = rest.next() {
        if c.is_whitespace() {
            continue;
        }
        let mut text = String::new();
        let quoted = c == '"';
        if quoted {
            loop {
                match rest.next() {
                    Some('"') => break,
                    Some('\\') => text.extend(rest.next()),
                    Some(c) => text.push(c),
                    None => return Err(Wrong::new("a quote is not closed", "put \" at its end")),
                }
            }
        } else {
            text.push(c);
            while let Some(c) = rest.next_if(|c| !c.is_whitespace()) {
                text.push(c);
            }
        }
        words.push(Word { text, quoted });
    }
    Ok(words)
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.operation.as_str())?;
        if !self.path.is_empty() {
            let plain = !self.path.contains(|c: char| c.is_whitespace() || c == '"' || c == '=' || c == '\\')
                && self.path != "->";
            if plain {
                write!(f, " {}", self.path)?;
            } else {
                write!(f, " \"{}\"", self.path.replace('\\', "\\\\").replace('"', "\\\""))?;
            }
        }
        if !self.node.is_empty() {
            write!(f, " node={}", self.node)?;
        }
        match self.when {
            When::Always => {}
            When::Nth(n) => write!(f, " nth={n}")?,
            When::First(n) => write!(f, " first={n}")?,
            When::Every(n) => write!(f, " every={n}")?,
            When::Chance(probability) => write!(f, " chance={probability}")?,
        }
        write!(f, " -> {}", self.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.as_str();
        match self {
            Self::Late(time) | Self::Delay(time) | Self::StaleMissing(time) => {
                write!(f, "{name}={}", Shown(*time))
            }
            Self::Status(code) => write!(f, "{name}={code}"),
            Self::Truncate(n)
            | Self::Cut(n)
            | Self::Reset(n)
            | Self::Flip(n)
            | Self::Shift(n)
            | Self::StaleList(n) => write!(f, "{name}={n}"),
            Self::Latency(Latency::Fixed(time)) => write!(f, "{name}=fixed({})", Shown(*time)),
            Self::Latency(Latency::Uniform(from, to)) => {
                write!(f, "{name}=uniform({},{})", Shown(*from), Shown(*to))
            }
            Self::Latency(Latency::Pareto { least, shape_percent }) => {
                write!(f, "{name}=pareto({},{})", Shown(*least), f64::from(*shape_percent) / 100.0)
            }
            _ => f.write_str(name),
        }
    }
}

/// A time in the largest unit that shows it whole.
struct Shown(Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        let seconds_at_most = &UNITS[..4];
        let (unit, size) =
            seconds_at_most.iter().rev().find(|(_, size)| nanos % size == 0).copied().unwrap_or(UNITS[0]);
        write!(f, "{}{unit}", nanos / size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rule_prints_reads_back() {
        let ms = Duration::from_millis;
        let faults = [
            Fault::FailBefore,
            Fault::DropReply,
            Fault::Withhold,
            Fault::Late(ms(1500)),
            Fault::Delay(Duration::from_nanos(7)),
            Fault::Duplicate,
            Fault::FalseConflict,
            Fault::FalseMissing,
            Fault::Refuse,
            Fault::Status(503),
            Fault::FalseSuccess,
            Fault::ErrorBody,
            Fault::Truncate(0),
            Fault::Cut(7),
            Fault::Reset(1 << 40),
            Fault::Flip(3),
            Fault::Shift(1),
            Fault::Swap,
            Fault::StaleList(2),
            Fault::StaleMissing(Duration::from_secs(3600)),
            Fault::Hang,
            Fault::HangReply,
            Fault::Latency(Latency::Fixed(Duration::from_micros(250))),
            Fault::Latency(Latency::Uniform(ms(1), ms(20))),
            Fault::Latency(Latency::pareto(ms(5), 1.25)),
        ];
        for fault in faults {
            assert!(FAULTS.contains(&fault.as_str()), "{fault}");
            for rule in [
                Rule::on(Operation::Any).meets(fault),
                Rule::on(Operation::Any).path("^a b\\\"=?*$").node("writer-1").chance(0.125).meets(fault),
                Rule::on(Operation::Any).path("->").every(3).meets(fault),
                Rule::on(Operation::Any).path("wal/*").nth(1).meets(fault),
                Rule::on(Operation::Any).first(u64::MAX).meets(fault),
            ] {
                assert_eq!(rule.to_string().parse::<Rule>().unwrap(), rule, "{rule}");
            }
        }
        for operation in Operation::ALL {
            let rule = Rule::on(operation);
            assert_eq!(rule.to_string().parse::<Rule>().unwrap(), rule);
        }
    }

    #[test]
    fn a_mistake_is_named_with_its_line_and_what_was_meant() {
        for (text, words) in [
            ("put wal/ drop_reply", "no ->"),
            ("\n# fine\npit wal/ -> drop_reply", "line 3"),
            ("pit -> drop_reply", "did you mean put?"),
            ("put -> drop_repyl", "did you mean drop_reply?"),
            ("put nht=1 -> hang", "did you mean nth?"),
            ("put a b -> hang", "\"b\" is no word of a rule"),
            ("put nth=0 -> hang", "counted from 1"),
            ("put nth=1 chance=0.5 -> hang", "twice"),
            ("put chance=2 -> hang", "from 0 to 1"),
            ("put -> hang hang", "not one fault"),
            ("put ->", "not one fault"),
            ("-> hang", "names no operation"),
            ("put -> status=200", "300 to 599"),
            ("put -> status", "needs a number"),
            ("get -> truncate=x", "no number"),
            ("put -> delay=5", "is no time"),
            ("put -> delay=99999999999h", "is no time"),
            ("put -> hang=1", "takes no value"),
            ("put \"wal -> hang", "not closed"),
            ("put -> flip=3", "flip means nothing to put"),
            ("get -> latency=normal(1ms)", "pareto(5ms,1.5)"),
            ("get -> latency=uniform(5ms,1ms)", "no distribution"),
        ] {
            let error = parse_rules(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text:?}: {error}");
        }
    }
}
