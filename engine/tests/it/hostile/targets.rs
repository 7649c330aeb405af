//! Each target under mutated inputs, for a while: the stable twin of `engine/fuzz`.
//!
//! | environment | does |
//! |---|---|
//! | nothing | two seconds a target, always the same inputs first |
//! | `ESKER_FUZZ_SECONDS=20` | that long a target, from a seed that is drawn and printed |
//! | `ESKER_FUZZ_SEED=5` | from this seed |
//!
//! Always true: every input is held to its target's ceiling of memory; a failure prints the input, to be put
//! into `found.rs` or given to `cargo fuzz`.

use std::{
    hash::{BuildHasher, RandomState},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    time::{Duration, Instant},
};

use esker::testing::hostile::{SEAL, Target, target};

use super::{
    allocator::peak_of,
    mutation::{Chance, mutated},
};

/// Longer than this for one input is a hang, however busy the machine.
const HANG: Duration = Duration::from_secs(30);

#[test]
fn any_bytes_taken_for_a_block_are_refused_or_mean_one_thing() {
    run("block");
}

#[test]
fn any_bytes_taken_for_a_cached_block_are_refused_or_mean_one_thing() {
    run("packed");
}

#[test]
fn any_bytes_taken_for_an_sst_are_refused_or_mean_one_thing() {
    run("sst");
}

#[test]
fn any_bytes_taken_for_a_log_object_are_refused_or_mean_one_thing() {
    run("wal");
}

#[test]
fn any_bytes_taken_for_a_version_are_refused_or_mean_one_thing() {
    run("manifest");
}

#[test]
fn any_bytes_taken_for_a_part_are_refused_or_mean_one_thing() {
    run("part");
}

#[test]
fn any_bytes_taken_for_a_pin_are_refused_or_mean_one_thing() {
    run("pin");
}

#[test]
fn any_bytes_taken_for_a_cache_entry_are_refused_or_mean_one_thing() {
    run("entry");
}

#[test]
fn any_bytes_taken_for_a_job_record_are_refused_or_mean_one_thing() {
    run("job");
}

#[test]
fn any_bytes_taken_for_an_identity_are_refused_or_mean_one_thing() {
    run("identity");
}

#[test]
fn any_bytes_taken_for_compressed_ones_are_refused_or_mean_one_thing() {
    run("frame");
}

#[test]
fn any_bytes_taken_for_a_name_are_refused_or_mean_one_thing() {
    run("names");
}

#[test]
fn any_program_of_operations_agrees_with_a_sorted_map() {
    run("operations");
}

#[expect(clippy::disallowed_methods, reason = "how long to look is measured by the machine's clock")]
#[expect(clippy::print_stdout, reason = "how much was looked at is for whoever runs it")]
fn run(name: &str) {
    let target = target(name).expect("it is in TARGETS");
    let seconds = number("ESKER_FUZZ_SECONDS");
    let seed = number("ESKER_FUZZ_SEED")
        .unwrap_or_else(|| if seconds.is_some() { RandomState::new().hash_one(name) } else { 1 });
    let corpus = corpus(target);
    let (begin, limit) = (Instant::now(), Duration::from_secs(seconds.unwrap_or(2)));
    for (at, input) in corpus.iter().enumerate() {
        execute(target, input, &format!("seed input {at} of the corpus"));
    }
    let mut chance = Chance::new(seed);
    let (mut executions, mut slowest) = (0u64, Duration::ZERO);
    while begin.elapsed() < limit {
        let input = mutated(&corpus, &mut chance);
        executions += 1;
        let started = Instant::now();
        execute(target, &input, &format!("execution {executions} of ESKER_FUZZ_SEED={seed}"));
        slowest = slowest.max(started.elapsed());
        assert!(slowest < HANG, "{name}: {slowest:?} for {}", hex(&input));
    }
    let rate = executions / limit.as_secs().max(1);
    println!("hostile {name}: {executions} executions, {rate} a second, slowest {slowest:?}, seed {seed}");
}

/// Runs one input; fails with the input.
pub(super) fn execute(target: &Target, input: &[u8], which: &str) {
    let (outcome, peak) = peak_of(|| catch_unwind(AssertUnwindSafe(|| (target.run)(input))));
    let shown = || format!("{}, {which}, {} bytes: {}", target.name, input.len(), hex(input));
    assert!(outcome.is_ok(), "the target panicked: {}", shown());
    let ceiling = (target.ceiling)(input.len());
    assert!(peak <= ceiling, "{peak} bytes of memory are over the ceiling of {ceiling}: {}", shown());
}

/// The target's own seeds, and the golden files of its kind.
fn corpus(target: &Target) -> Vec<Vec<u8>> {
    let mut corpus = (target.seeds)();
    let golden = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut files: Vec<_> =
        std::fs::read_dir(golden).expect("it is there").map(|file| file.unwrap().path()).collect();
    files.sort();
    for path in files {
        let name = path
            .file_name()
            .unwrap()
            .to_string_lossy()
            .replace("manifest_part", "part")
            .replace("checkpoint", "pin");
        if name.starts_with(target.name) {
            let object = std::fs::read(&path).expect("it is a file");
            corpus.extend([0, SEAL].map(|flags| [&[flags][..], &object].concat()));
        }
    }
    corpus
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is {value:?}, and should be a number")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
