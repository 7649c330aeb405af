//! The simulator on each change: seeds that failed once, a few fresh ones, and two that must repeat exactly.
//!
//! The long runs are `cargo simulate --seeds 300`; this is what keeps the simulator itself, and the commonest
//! paths of the protocol, honest in every `cargo test`.

use std::process::Command;

/// Runs the simulator; its last lines as JSON.
fn simulate(arguments: &[&str]) -> serde_json::Value {
    let output = Command::new(env!("CARGO_BIN_EXE_simulate")).args(arguments).arg("--json").output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let last = told.lines().last().unwrap_or_default();
    let summary: serde_json::Value = serde_json::from_str(last).unwrap_or_else(|error| {
        panic!("no summary ({error}):\n{told}\n{}", String::from_utf8_lossy(&output.stderr))
    });
    assert!(output.status.success(), "{told}");
    summary
}

#[test]
fn seeds_that_failed_once_and_a_dozen_others_pass() {
    let summary = simulate(&["--seeds", "12", "--from", "1000", "--operations", "600"]);
    assert!(summary["seeds"].as_u64() >= Some(12), "{summary}");
    assert!(summary["faults"].as_u64() > Some(500), "a simulation without faults shows nothing: {summary}");
    assert!(summary["crashes"].as_u64() > Some(50), "{summary}");
}

#[test]
fn a_seed_repeats_exactly() {
    let summary = simulate(&["--replay", "2", "--from", "2000", "--operations", "600"]);
    assert_eq!(summary["differing"], serde_json::json!([]), "{summary}");
}

#[test]
fn one_seed_is_told_in_detail() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_simulate")).args(["7", "--operations", "200"]).output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{told}");
    for word in ["seed 7", "database", "processes", "faults", "reached", "trace"] {
        assert!(told.contains(word), "{word:?} is not in\n{told}");
    }
}
