//! A fault at every store call: one canonical life of a database, lived again with each of its calls, in each
//! role, failing before, losing its reply, landing late, landing twice, or being the last that its process makes.
//!
//! `ESKER_CRASH_PAIRS=n` adds n runs with two faults each, drawn by a fixed seed: the nightly script's part.

pub(super) mod gate;
mod life;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering},
};

use self::{
    gate::Meets,
    life::{Fault, ROLES, live},
};

/// Runs every one of `cases` on two threads; gives how many there were. Fails with the first that fails.
fn run_all(cases: &[Vec<Fault>]) -> usize {
    let next = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while let Some(faults) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if catch_unwind(AssertUnwindSafe(|| live(faults))).is_err() {
                        next.store(cases.len(), Ordering::Relaxed);
                        panic!("the life with these faults went wrong: {faults:?}");
                    }
                }
            });
        }
    });
    cases.len()
}

#[test]
fn one_fault_at_any_call_of_any_role_loses_nothing() {
    let calls = live(&[]);
    let mut cases = Vec::new();
    for (role, calls) in ROLES.into_iter().zip(calls) {
        assert!(calls > 20, "the role {role:?} made {calls} calls only");
        for call in 1..=calls {
            cases.extend(Meets::ALL.map(|meets| vec![Fault { role, call, meets }]));
        }
    }
    assert!(cases.len() >= 2400, "{} runs", cases.len());
    println!("{} runs with one fault each, over {calls:?} calls", run_all(&cases));
}

#[test]
fn two_faults_lose_nothing_either() {
    let pairs = std::env::var("ESKER_CRASH_PAIRS").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let calls = live(&[]);
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut draw = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let cases: Vec<Vec<Fault>> = (0..pairs)
        .map(|_| {
            let mut fault = |near: Option<&Fault>| {
                let at = near.map_or_else(|| draw(4) as usize, |near| near.role as usize);
                let call = match near {
                    // Half of the pairs lie close together, where one mends what the other broke.
                    Some(near) if draw(2) == 0 => near.call + 1 + draw(30),
                    _ => 1 + draw(calls[at]),
                };
                Fault { role: ROLES[at], call, meets: Meets::ALL[draw(Meets::ALL.len() as u64) as usize] }
            };
            let first = fault(None);
            let second = fault(Some(&first));
            let other = fault(None);
            if first.role == other.role { vec![first, second] } else { vec![first, other] }
        })
        .collect();
    println!("{} runs with two faults each", run_all(&cases));
}
