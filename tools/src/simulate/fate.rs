//! What becomes of a request: when it is applied, whether it is applied again, what comes back, and when.
//!
//! ```text
//! weather   bursts of 5xx everywhere or in one folder, credentials lost by one process    lasts
//! fate      one request: lost reply, delayed, twice, 409, hang, slow, a spoiled body      drawn anew for each
//! ```
//!
//! Always true: in healed weather every request is applied once and answered truly and soon.

use super::{
    dice::Dice,
    swarm::{Drawn, Rates},
};

/// What a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Verb {
    /// A PUT that creates.
    Create,
    /// A PUT that overwrites.
    Put,
    /// A GET, or a HEAD.
    Get,
    /// One page of a LIST.
    List,
    /// A DELETE.
    Delete,
}

/// What comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The truth.
    True,
    /// 5xx.
    Failed,
    /// 409.
    Conflict,
    /// 403.
    Forbidden,
    /// The connection breaks.
    Lost,
    /// Nothing, ever.
    Nothing,
}

/// What is done to a body on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoil {
    /// It ends early; the number says where.
    Truncate(u64),
    /// A bit is flipped; the number says which.
    Flip(u64),
    /// It is another object's; the number says whose.
    Swap(u64),
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fate {
    /// When it is applied after it was sent; `None` is never.
    pub(crate) applied_ms: Option<u64>,
    /// When, after that, it is applied again.
    pub(crate) again_ms: Option<u64>,
    /// What comes back.
    pub(crate) answer: Answer,
    /// How long the answer takes: after it is applied if it is the truth, else after it was sent.
    pub(crate) answered_ms: u64,
    /// What is done to the body of a true answer.
    pub(crate) spoil: Option<Spoil>,
    /// How many faults that is.
    pub(crate) faults: u64,
}

/// What lasts: bursts, and lost credentials.
#[derive(Debug, Default)]
pub(crate) struct Weather {
    burst_until_ms: u64,
    burst_chance: f64,
    /// Empty: everywhere.
    burst_folder: &'static str,
    /// Machine, and until when its credentials are refused.
    forbidden: Vec<(u32, u64)>,
    /// Nothing goes wrong from here on.
    pub(crate) healed: bool,
}

/// The longest a request stays on its way: 30 minutes.
pub(crate) const LONGEST_DELAY_MS: u64 = 30 * 60 * 1000;

const FOLDERS: [&str; 6] = ["", "", "wal/", "manifest/", "sst/", "floor/"];

impl Weather {
    /// The credentials of machine `index` are refused until then.
    pub(crate) fn forbid(&mut self, index: u32, until_ms: u64) {
        self.forbidden.retain(|(machine, _)| *machine != index);
        self.forbidden.push((index, until_ms));
    }

    /// Whether something happens to everyone at this moment.
    fn bursts(&mut self, rates: &Rates, now_ms: u64, path: &str, dice: &mut Dice) -> bool {
        if dice.chance(rates.burst) {
            self.burst_until_ms = now_ms + dice.spread(100..=60_000);
            self.burst_chance = dice.pick(&[0.1, 0.3, 0.3, 1.0]);
            self.burst_folder = dice.pick(&FOLDERS);
        }
        now_ms < self.burst_until_ms && path.starts_with(self.burst_folder) && dice.chance(self.burst_chance)
    }

    /// What becomes of a request of machine `index` at `now_ms`.
    pub(crate) fn fate(
        &mut self,
        drawn: &Drawn,
        now_ms: u64,
        index: u32,
        verb: Verb,
        path: &str,
        dice: &mut Dice,
    ) -> Fate {
        let (rates, latency_ms) = (&drawn.rates, drawn.latency_ms);
        let (there, back) = (dice.between(0..=latency_ms), dice.between(0..=latency_ms));
        let mut fate = Fate {
            applied_ms: Some(there),
            again_ms: None,
            answer: Answer::True,
            answered_ms: back,
            spoil: None,
            faults: 0,
        };
        if self.healed {
            return fate;
        }
        let refused = |answer| Fate { applied_ms: None, answer, faults: 1, ..fate };
        if self.forbidden.iter().any(|(machine, until_ms)| *machine == index && now_ms < *until_ms) {
            return refused(Answer::Forbidden);
        }
        if self.bursts(rates, now_ms, path, dice) {
            // Half of the servers that say 5xx have done it.
            let done = dice.chance(0.3);
            return Fate { applied_ms: done.then_some(there), ..refused(Answer::Failed) };
        }
        if dice.chance(rates.hang) {
            let done = dice.chance(0.5);
            return Fate { applied_ms: done.then_some(there), ..refused(Answer::Nothing) };
        }
        if verb == Verb::Create && dice.chance(rates.conflict) {
            return refused(Answer::Conflict);
        }
        if dice.chance(rates.slow) {
            fate.answered_ms = dice.tail_ms(latency_ms + 1, 0.7, 30_000);
            fate.faults += 1;
        }
        if dice.chance(rates.lost) {
            fate.answer = Answer::Lost;
            fate.faults += 1;
            if dice.chance(0.3) {
                // It broke on the way there.
                fate.applied_ms = None;
            }
        }
        match verb {
            Verb::Create | Verb::Put | Verb::Delete => {
                if dice.chance(rates.delayed) {
                    fate.applied_ms = Some(dice.spread(1_000..=LONGEST_DELAY_MS));
                    fate.answer = dice.pick(&[Answer::Lost, Answer::Nothing]);
                    fate.faults += 1;
                }
                if verb != Verb::Delete && dice.chance(rates.duplicated) {
                    fate.again_ms = Some(dice.spread(10..=LONGEST_DELAY_MS));
                    fate.faults += 1;
                }
            }
            Verb::Get => {
                fate.spoil = if dice.chance(rates.truncated) {
                    Some(Spoil::Truncate(dice.bits()))
                } else if dice.chance(rates.flipped) {
                    Some(Spoil::Flip(dice.bits()))
                } else if dice.chance(rates.swapped) {
                    Some(Spoil::Swap(dice.bits()))
                } else {
                    None
                };
                fate.faults += u64::from(fate.spoil.is_some());
            }
            Verb::List => {
                if dice.chance(rates.listing) {
                    fate.answer = Answer::Lost;
                    fate.faults += 1;
                }
            }
        }
        fate
    }
}
