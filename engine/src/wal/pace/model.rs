//! What the two rules bring: clients who each wait for their write before the next, a store whose PUTs scatter as those of stores
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

use super::Pace;

const WINDOW: usize = 8;
const SECONDS: u64 = 60;

/// Which rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    None,
    Apart,
    Both,
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

    /// How long a client takes to write again.
    fn thought(&mut self) -> Duration {
        Duration::from_secs_f64(0.0005 * self.part())
    }
}

/// Writes and PUTs a second.
fn run(clients: usize, rules: Rules) -> (f64, f64) {
    let mut chance = Chance(SmallRng::seed_from_u64(1));
    let mut events: BinaryHeap<Reverse<(Duration, usize, Event)>> = BinaryHeap::new();
    let mut order = 0..;
    let mut at = |events: &mut BinaryHeap<_>, time, event| {
        events.push(Reverse((time, order.next().unwrap_or_default(), event)));
    };
    for _ in 0..clients {
        at(&mut events, chance.thought(), Event::Write);
    }
    let mut pace = Pace::default();
    let mut flying: VecDeque<Flying> = VecDeque::new();
    let (mut asking, mut writes, mut puts) = (0, 0, 0);
    while let Some(Reverse((now, _, event))) = events.pop() {
        if now > Duration::from_secs(SECONDS) {
            break;
        }
        match event {
            Event::Write => asking += 1,
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
            match rules {
                Rules::None => 0,
                Rules::Apart => pace.landed(now, took, 0, asking),
                Rules::Both => pace.landed(now, took, told, asking),
            };
            for _ in 0..told {
                at(&mut events, now + chance.thought(), Event::Write);
            }
        }
        if asking == 0 || flying.len() == WINDOW {
            continue;
        }
        if let Some(left) = pace.left(now, flying.is_empty(), asking) {
            at(&mut events, now + left, Event::Alarm);
            continue;
        }
        pace.sent(now);
        flying.push_back(Flying { number: puts, sent: now, took: None, writes: asking });
        at(&mut events, now + chance.put(), Event::Landed(puts));
        (asking, puts) = (0, puts + 1);
    }
    (f64::from(u32::try_from(writes).unwrap_or(u32::MAX)) / SECONDS as f64, puts as f64 / SECONDS as f64)
}

#[test]
fn writers_go_together() {
    println!("clients   rules   writes/s   PUTs/s");
    for clients in [1, 2, 4, 16, 256] {
        let [none, apart, both] = [Rules::None, Rules::Apart, Rules::Both].map(|rules| {
            let (writes, puts) = run(clients, rules);
            println!("{clients:>7}   {rules:<5?}   {writes:>8.0}   {puts:>6.1}");
            (writes, puts)
        });
        // One after another, and nobody ever late, would be a client's share of the PUT's mean of 35.8 ms.
        let limit = clients as f64 / 0.0358;
        assert!(both.0 > 0.9 * limit, "{clients} clients: {both:?} of {limit}");
        assert!(both.1 < 30.0, "{clients} clients: {both:?}");
        if clients == 1 {
            assert_eq!((none, apart), (both, both), "one by itself waits for nobody");
        } else {
            assert!(both.0 > 1.1 * apart.0.max(none.0), "{clients}: {both:?} {apart:?} {none:?}");
            assert!(both.1 < apart.1 && apart.1 < none.1, "{clients}: {both:?} {apart:?} {none:?}");
        }
    }
}
