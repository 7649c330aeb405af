//! What the three rules bring: clients who each wait for their write before the next, a store whose PUTs scatter as those of stores
//! do, and this module's own [`Pace`], in a time that is only counted.
//!
//! `cargo test -p esker pace::model -- --nocapture` prints the table.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    f64::consts::TAU,
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};

use super::{Pace, Waiting};

const WINDOW: usize = 8;
const SECONDS: u64 = 60;

/// Which rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    None,
    Apart,
    Together,
    All,
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A client writes.
    Write,
    /// The object of this number has landed in its slot.
    Landed(usize),
    /// The pause is over.
    Alarm,
}

/// An object in flight.
#[derive(Debug)]
struct Flying {
    number: usize,
    sent: Duration,
    took: Option<Duration>,
    writes: usize,
}

struct Chance(SmallRng);

impl Chance {
    /// Between 0 and 1, and neither.
    fn part(&mut self) -> f64 {
        ((self.0.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Lognormal: a median of 30 ms, and one in a hundred over 120.
    fn put(&mut self) -> Duration {
        let normal = (-2.0 * self.part().ln()).sqrt() * (TAU * self.part()).cos();
        Duration::from_secs_f64(0.030 * (0.596 * normal).exp())
    }

    /// How long a client takes to write again: half a millisecond at most, but for the `late` part of them a PUT's median.
    fn thought(&mut self, late: f64) -> Duration {
        let most = if late > 0.0 && self.part() < late { 0.030 } else { 0.0005 };
        Duration::from_secs_f64(most * self.part())
    }
}

/// Writes and PUTs a second.
fn run(clients: usize, late: f64, rules: Rules) -> (f64, f64) {
    let mut chance = Chance(SmallRng::seed_from_u64(1));
    let mut events: BinaryHeap<Reverse<(Duration, usize, Event)>> = BinaryHeap::new();
    let mut order = 0..;
    let mut at = |events: &mut BinaryHeap<_>, time, event| {
        events.push(Reverse((time, order.next().unwrap_or_default(), event)));
    };
    for _ in 0..clients {
        at(&mut events, chance.thought(late), Event::Write);
    }
    let mut pace = Pace::default();
    let mut flying: VecDeque<Flying> = VecDeque::new();
    let (mut asking, mut expected, mut writes, mut puts) = (0_usize, 0, 0, 0);
    while let Some(Reverse((now, _, event))) = events.pop() {
        if now > Duration::from_secs(SECONDS) {
            break;
        }
        match event {
            Event::Write => {
                asking += 1;
                // Who pokes the task: see `Landing::ask`.
                if !asking.is_power_of_two() && asking != expected {
                    continue;
                }
            }
            Event::Landed(number) => {
                if let Some(one) = flying.iter_mut().find(|one| one.number == number) {
                    one.took = Some(now - one.sent);
                }
            }
            Event::Alarm => {}
        }
        // They are acknowledged in order.
        while let Some(took) = flying.front().and_then(|oldest| oldest.took) {
            let told = flying.pop_front().map_or(0, |oldest| oldest.writes);
            writes += told;
            expected = match rules {
                Rules::None => 0,
                Rules::Apart => pace.landed(now, took, 0, asking),
                Rules::Together | Rules::All => pace.landed(now, took, told, asking),
            };
            for _ in 0..told {
                at(&mut events, now + chance.thought(late), Event::Write);
            }
        }
        if asking == 0 || flying.len() == WINDOW {
            continue;
        }
        let ahead = if rules == Rules::All { flying.iter().map(|one| one.writes).sum() } else { 0 };
        if let Some(left) = pace.left(now, flying.is_empty(), Waiting { ahead, asking }) {
            at(&mut events, now + left, Event::Alarm);
            continue;
        }
        pace.sent(now);
        flying.push_back(Flying { number: puts, sent: now, took: None, writes: asking });
        at(&mut events, now + chance.put(), Event::Landed(puts));
        (asking, expected, puts) = (0, 0, puts + 1);
    }
    (f64::from(u32::try_from(writes).unwrap_or(u32::MAX)) / SECONDS as f64, puts as f64 / SECONDS as f64)
}

/// The same for each of the rules, told.
fn table(clients: usize, late: f64) -> [(f64, f64); 4] {
    [Rules::None, Rules::Apart, Rules::Together, Rules::All].map(|rules| {
        let (writes, puts) = run(clients, late, rules);
        println!("{clients:>7}   {:>3.0} %   {rules:<8?}   {writes:>8.0}   {puts:>6.1}", late * 100.0);
        (writes, puts)
    })
}

#[test]
fn writers_go_together() {
    println!("clients    late   rules      writes/s   PUTs/s");
    for clients in [1, 2, 4, 16, 256] {
        let [none, apart, together, all] = table(clients, 0.0);
        // One after another, and nobody ever late, would be a client's share of the PUT's mean of 35.8 ms.
        let limit = clients as f64 / 0.0358;
        for rates in [together, all] {
            assert!(rates.0 > 0.9 * limit, "{clients} clients: {rates:?} of {limit}");
            assert!(rates.1 < 30.0, "{clients} clients: {rates:?}");
        }
        if clients == 1 {
            assert_eq!((none, apart, all), (together, together, together), "one by itself waits for nobody");
        } else {
            assert!(all.0 > 1.1 * apart.0.max(none.0), "{clients}: {all:?} {apart:?} {none:?}");
            assert!(all.1 < apart.1 && apart.1 < none.1, "{clients}: {all:?} {apart:?} {none:?}");
        }
    }
}

#[test]
fn a_few_who_are_late_do_not_put_the_many_off() {
    for (clients, late) in [(16, 0.03), (256, 0.03), (256, 0.1)] {
        let [none, apart, together, all] = table(clients, late);
        let best = none.0.max(apart.0).max(together.0);
        assert!(
            all.0 > 1.02 * best,
            "{clients} clients, {late} late: {all:?} {together:?} {apart:?} {none:?}"
        );
        assert!(all.1 < 0.9 * together.1, "{clients} clients, {late} late: {all:?} {together:?}");
    }
    // Where all are late there are no many, and nothing is lost.
    let [_, apart, together, all] = table(256, 1.0);
    assert!(all.0 > 0.97 * apart.0.max(together.0), "{all:?} {together:?} {apart:?}");
}
