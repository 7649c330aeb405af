//! What this machine gives, told by the peers: absolute goals mean the machine on which they were set.
//!
//! Always true: nothing here makes a goal reached; it is an estimate, because engines do not all slow down alike.

use esker_bench::figures::short;

use super::{
    goals::{self, PEERS, PeersThere, Wanted, called},
    judge::Judged,
};
use crate::table::sheet;

/// The peer by which absolute goals are scaled.
const BY: &str = "rocksdb";

/// A table of what peers did there and here, and of absolute goals by as much; empty if there is nothing to compare.
///
/// `words` are what people wrote of the machine.
pub(crate) fn section(judged: &[Judged], words: Option<&str>) -> String {
    let lines: Vec<Vec<String>> = judged.iter().filter_map(line).collect();
    if lines.is_empty() {
        return String::new();
    }
    let head = [
        "workload",
        "SlateDB there",
        "SlateDB here",
        "RocksDB there",
        "RocksDB here",
        "Esker here",
        "absolute goal",
        "absolute goal here",
        "is that reached",
    ];
    let head: Vec<String> = head.iter().map(|name| (*name).to_owned()).collect();
    format!(
        "## The machine\n\nAbsolute goals mean the machine on which they were set. Here is what the peers did there and in this run (in \
         brackets the part of it), and what an absolute goal comes to if this machine gives everyone the part that it gives {}. An estimate, as \
         engines do not all slow down alike; it changes no verdict above.\n\n{}\n{}",
        called(BY),
        sheet(&head, lines.into_iter()),
        words.map_or(String::new(), |words| format!("{words}\n\n")),
    )
}

fn line(judged: &Judged) -> Option<Vec<String>> {
    let goal = &judged.goal;
    if goal.store != goals::NEAR {
        return None;
    }
    let then = goals::PEERS_THERE.iter().find(|then| then.workload == goal.workload)?;
    let ours = judged.ours?.median;
    let wanted = goal.wanted.iter().find_map(|wanted| match wanted {
        Wanted::AtLeast(bound) => Some(*bound),
        _ => None,
    });
    let share = part(judged, then, BY);
    let write = |value: f64| goal.figure.write(value);
    let there = |peer: &str| then.of(peer).map_or("–".to_owned(), write);
    let here = |peer: &str| match (median(judged, peer), part(judged, then, peer)) {
        (Some(median), Some(part)) => format!("{} ({})", write(median), short(part)),
        _ => "–".to_owned(),
    };
    let scaled = wanted.zip(share).map(|(wanted, share)| wanted * share);
    Some(vec![
        goal.workload.to_owned(),
        there("slatedb"),
        here("slatedb"),
        there("rocksdb"),
        here("rocksdb"),
        write(ours),
        wanted.map_or("–".into(), write),
        scaled.map_or("–".into(), write),
        match scaled {
            None => "–".into(),
            Some(scaled) if ours >= scaled => "yes".into(),
            Some(scaled) => format!("{} of it", short(ours / scaled)),
        },
    ])
}

/// What `peer` did here.
fn median(judged: &Judged, peer: &str) -> Option<f64> {
    let at = PEERS.iter().position(|(name, _)| *name == peer)?;
    judged.peers.get(at)?.0.map(|spread| spread.median)
}

/// The part of it that `peer` did here of what it did there.
fn part(judged: &Judged, then: &PeersThere, peer: &str) -> Option<f64> {
    Some(median(judged, peer)? / then.of(peer)?)
}

#[cfg(test)]
mod tests {
    use esker_bench::sample::{Sample, Samples};
    use serde_json::Value;

    use super::{super::judge::judge, *};
    use crate::figure::{Figure, OURS};

    fn told(rates: &[(&str, f64)]) -> String {
        let sample = |(engine, rate): &(&str, f64)| Sample {
            engine: (*engine).into(),
            workload: "read-random".into(),
            store: goals::NEAR.into(),
            operations: 1,
            ops_per_second: *rate,
            ..Sample::default()
        };
        let samples = rates.iter().map(sample).collect();
        let samples = Samples { format: 1, setup: Value::Null, samples, skipped: Vec::new() };
        let judged: Vec<Judged> = goals::ALL.iter().map(|goal| judge(goal, &samples.rows(), None)).collect();
        section(&judged, Some("It is slow."))
    }

    #[test]
    fn an_absolute_goal_is_scaled_by_what_the_machine_gives_rocksdb() {
        // RocksDB did 369 k where 900 k are the goal: half of that, half of this.
        let text = told(&[(OURS, 5e5), ("slatedb", 7.05e4), ("rocksdb", 1.845e5)]);
        let line = text.lines().find(|line| line.starts_with("| read-random")).expect("it has a line");
        assert!(text.ends_with("\n\nIt is slow.\n\n"), "{text}");
        assert!(line.contains("70.5 k (0.50)") && line.contains("| 184 k (0.50) |"), "{line}");
        assert!(line.ends_with("| 500 k | 900 k | 450 k | yes |"), "{line}");
        let text = told(&[(OURS, 3e5), ("rocksdb", 1.845e5)]);
        assert!(text.contains("0.67 of it"), "{text}");
        let text = told(&[(OURS, 3e5)]);
        assert!(text.contains("| 300 k | 900 k | – | – |"), "without a peer nothing is estimated: {text}");
        assert_eq!(told(&[]), "");
    }

    #[test]
    fn what_peers_did_is_of_goals_that_are_rates() {
        for then in goals::PEERS_THERE {
            let of_it =
                goals::ALL.iter().filter(|goal| (goal.workload, goal.store) == (then.workload, goals::NEAR));
            let figures: Vec<Figure> = of_it.map(|goal| goal.figure).collect();
            assert_eq!(figures, [Figure::Rate], "{}", then.workload);
        }
    }
}
