//! One history under many option sets gives the same answers (Pebble's metamorphic test).
//!
//! A history is a list of steps drawn from a seed; an option set is a cache, a budget, K, sizes of blocks and
//! memtables, a shape, codecs, a store, who merges and when. None of these may change what a read returns. A
//! history that shows a difference is shortened until every step that is left is needed, and printed.
//!
//! `ESKER_HISTORIES=n` and `ESKER_OPTION_SETS=m` run more of them, `ESKER_HISTORY=seed` one: the nightly script's part.

mod choices;
mod run;
mod steps;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
};

use self::{choices::Choices, run::answers, steps::Step};

const STEPS: usize = 3000;
/// What a snapshot answers that has outlived its retention: any option set may do so.
const EXPIRED: &str = "expired";
/// How many such answers a history may have, so that a bug cannot hide behind them.
const MOST_EXPIRED: usize = STEPS / 100;
/// Shortening a history ends after so many runs.
const MOST_TRIES: usize = 400;

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn options_change_no_answer() {
    let (histories, sets) = (setting("ESKER_HISTORIES", 40), setting("ESKER_OPTION_SETS", 4));
    let only = std::env::var("ESKER_HISTORY").ok().and_then(|text| text.parse::<u64>().ok());
    let (first, end) = only.map_or((0, histories), |seed| (seed, seed + 1));
    let next = AtomicU64::new(first);
    let answered = AtomicU64::new(0);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while let seed = next.fetch_add(1, Ordering::Relaxed)
                    && seed < end
                {
                    let steps = steps::draw(seed, STEPS);
                    let plain = answers(&steps, &Choices::plain());
                    for set in 1..=sets {
                        let choices = Choices::draw(seed, set);
                        if let Some(difference) = difference(&steps, &plain, &choices) {
                            next.store(end, Ordering::Relaxed);
                            show(seed, &steps, &choices, &difference);
                        }
                        answered.fetch_add(plain.len() as u64, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    println!(
        "{} histories of {STEPS} steps under {sets} option sets: {} answers, all equal",
        end - first,
        answered.into_inner()
    );
}

/// What differs, as a sentence.
fn difference(steps: &[Step], plain: &[String], choices: &Choices) -> Option<String> {
    let found = match catch_unwind(AssertUnwindSafe(|| answers(steps, choices))) {
        Ok(found) => found,
        Err(panic) => {
            let words = panic.downcast_ref::<String>().cloned();
            return Some(words.unwrap_or_else(|| "it panics".to_owned()));
        }
    };
    if found.len() != plain.len() {
        return Some(format!("{} answers, where the plain one gives {}", found.len(), plain.len()));
    }
    let expired = found.iter().filter(|answer| *answer == EXPIRED).count();
    if expired > MOST_EXPIRED {
        return Some(format!("{expired} answers are {EXPIRED:?}, and at most {MOST_EXPIRED} are believed"));
    }
    let at = plain.iter().zip(&found).position(|(plain, found)| plain != found && found != EXPIRED)?;
    Some(format!("step {at} {:?}: {} where the plain one answers {}", steps[at], found[at], plain[at]))
}

/// Panics with the shortest history that still differs.
fn show(seed: u64, steps: &[Step], choices: &Choices, difference_at_first: &str) -> ! {
    let differs = |steps: &[Step]| {
        let plain = catch_unwind(AssertUnwindSafe(|| answers(steps, &Choices::plain()))).ok()?;
        difference(steps, &plain, choices)
    };
    let (mut left, mut why) = (steps.to_vec(), difference_at_first.to_owned());
    let (mut piece, mut tries) = (left.len() / 2, 0);
    while piece > 0 && tries < MOST_TRIES {
        let mut at = 0;
        while at < left.len() && tries < MOST_TRIES {
            tries += 1;
            let shorter = [&left[..at], &left[(at + piece).min(left.len())..]].concat();
            match differs(&shorter) {
                Some(still) => (left, why) = (shorter, still),
                None => at += piece,
            }
        }
        piece /= 2;
    }
    let lines: Vec<String> = left.iter().enumerate().map(|(at, step)| format!("{at:5} {step:?}")).collect();
    panic!(
        "history {seed} differs under {choices:?}\n{why}\nshortened from {} steps to {} in {tries} tries:\n{}\nagain: ESKER_HISTORY={seed}",
        steps.len(),
        left.len(),
        lines.join("\n")
    );
}
