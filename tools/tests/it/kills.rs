//! A short soak: `kill -9` at random moments of every process there is, with the history kept by another.
//!
//! What a soak does and checks is in `tools/src/soak`; here it is run for some ten seconds on a directory and as
//! long on MinIO behind the fault proxy. `ESKER_FULL=1` makes it 20 minutes and 300 kills.

use serde_json::Value;

use crate::shell::Shell;

fn length() -> [&'static str; 4] {
    if std::env::var_os("ESKER_FULL").is_some() {
        ["--minutes", "20", "--kills", "300"]
    } else {
        ["--minutes", "0.3", "--kills", "8"]
    }
}

fn soak(words: &[&str]) -> (i32, Vec<Value>, String) {
    let shell = Shell::new();
    let words = [&["soak", "--json"], words].concat();
    let said = shell.run(&words);
    let out = String::from_utf8(said.out).expect("text on standard output");
    println!("{out}{}", said.err);
    let lines = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    (said.code, lines, said.err)
}

fn kills(outcome: &Value) -> u64 {
    outcome["kills"].as_object().expect("kills").values().filter_map(Value::as_u64).sum()
}

#[test]
fn nothing_is_lost_when_every_process_is_killed_at_random() {
    let (code, outcomes, err) = soak(&length());
    assert_eq!(code, 0, "{outcomes:?} {err}");
    if outcomes.len() == 1 {
        assert!(err.contains("skipped: no minio binary"), "{err}");
    }
    for outcome in &outcomes {
        assert!(kills(outcome) >= 4, "{outcome}");
        assert!(outcome["writes_acknowledged"].as_u64() > Some(20), "the writers hardly wrote: {outcome}");
        assert!(outcome["reads"]["strong"].as_u64() > Some(20), "the readers hardly read: {outcome}");
        assert!(outcome["takeovers"].as_u64() > Some(1), "{outcome}");
    }
    if let Some(behind_proxy) = outcomes.get(1) {
        let faults: u64 =
            behind_proxy["faults"].as_object().expect("faults").values().filter_map(Value::as_u64).sum();
        assert!(faults > 50, "{behind_proxy}");
    }
}

#[test]
fn a_store_that_loses_what_it_acknowledged_is_found_out() {
    let shell = Shell::new();
    let lies = shell.file(
        "lies.txt",
        "# every twentieth log object is acknowledged and not kept\nput wal/ every=20 -> false_success\n",
    );
    let (code, outcomes, err) = soak(&["--minutes", "0.3", "--kills", "4", "--faults", &lies]);
    if outcomes.len() < 2 {
        assert!(err.contains("skipped: no minio binary"), "{err}");
        return;
    }
    assert_eq!(code, 4, "a store that lies was believed: {outcomes:?}");
    assert_eq!(outcomes[0]["wrong"].as_array().map(Vec::len), Some(0), "{}", outcomes[0]);
    assert!(outcomes[1]["wrong"].as_array().is_some_and(|wrong| !wrong.is_empty()), "{}", outcomes[1]);
}

#[test]
fn a_mistake_in_the_faults_and_a_place_that_is_taken_are_refused() {
    let shell = Shell::new();
    let rules = shell.file("faults.txt", "put wal/ -> drop_replies\n");
    shell.fails(&["soak", "--faults", &rules], 2, "line 1 of the faults is wrong");
    let url = shell.url("db");
    shell.ok(&["put", &url, "k", "v"]);
    shell.fails(&["soak", "--url", &url], 2, "there is a database at");
}
