//! `esker checkpoint`, and what the other verbs make of checkpoints and pins.

use std::fs;

use serde_json::Value;

use crate::shell::{Shell, files};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

#[test]
fn a_checkpoint_keeps_its_rows_through_overwriting_merging_and_collecting() {
    let shell = Shell::new();
    let url = &shell.url("db");
    shell.ok(&["put", url, "k", "before"]);
    shell.ok(&["checkpoint", url, "create", "one", "--flush"]);
    let writer = || json(&shell.ok(&["info", url, "--json"]))["writer"]["epoch"].as_u64();
    let epoch = writer();
    shell.ok(&["checkpoint", url, "create", "two"]);
    assert_eq!(writer(), epoch, "without --flush nobody is fenced");
    for round in 0..3 {
        shell.ok(&["put", url, "k", &format!("after {round}")]);
        shell.ok(&["checkpoint", url, "create", &format!("round-{round}"), "--flush"]);
        shell.ok(&["checkpoint", url, "delete", &format!("round-{round}")]);
    }
    shell.ok(&["compact", url, "--all"]);
    let collected = json(&shell.ok(&["gc", url, "--retention", "0s", "--json"]));
    assert_eq!(collected["kept_for"], serde_json::json!(["checkpoint/one", "checkpoint/two"]));
    assert_eq!(shell.ok(&["scan", url]), "k\tafter 2\n");
    assert_eq!(shell.ok(&["scan", url, "--checkpoint", "one"]), "k\tbefore\n");
    assert_eq!(shell.ok(&["count", url, "--checkpoint", "two"]), "1\n");
    let exported = shell.ok(&["export", url, "-", "--checkpoint", "one"]);
    assert_eq!(json(&exported)["value"], "before");

    let listed = shell.ok(&["checkpoint", url, "list", "--json"]);
    let names: Vec<_> = listed.lines().map(|line| json(line)["name"].clone()).collect();
    assert_eq!(names, ["one", "two"]);
    assert!(shell.ok(&["checkpoint", url]).contains("one"));
    let info = json(&shell.ok(&["info", url, "--json"]));
    assert_eq!(info["checkpoints"].as_array().map(Vec::len), Some(2));
    assert!(shell.ok(&["info", url]).contains("one (version "));
    let verified = json(&shell.ok(&["verify", url, "--json"]));
    assert_eq!(verified["ok"], true);

    shell.fails(&["checkpoint", url, "create", "one"], 2, "already");
    shell.fails(&["checkpoint", url, "create", "no/name"], 2, "cannot be the name");
    shell.fails(&["checkpoint", url, "create"], 2, "which checkpoint");
    shell.fails(&["checkpoint", url, "delete", "three"], 3, "there is no checkpoint \"three\"");
    shell.fails(&["scan", url, "--checkpoint", "three"], 3, "there is no checkpoint \"three\"");
    shell.fails(&["checkpoint", &shell.url("nowhere"), "list"], 3, "there is no database");
    for name in ["one", "two"] {
        shell.ok(&["checkpoint", url, "delete", name]);
    }
    shell.ok(&["gc", url, "--retention", "0s"]);
    let ssts = files(&shell.path("db")).into_iter().filter(|path| path.to_string_lossy().contains("/sst/"));
    assert_eq!(ssts.count(), 1, "what only the checkpoints kept has gone");
}

#[test]
fn damage_to_a_checkpoint_or_to_what_it_alone_names_is_found() {
    let shell = Shell::new();
    let url = &shell.url("db");
    shell.ok(&["put", url, "k", "before"]);
    shell.ok(&["checkpoint", url, "create", "kept", "--flush"]);
    let sst = |part: &str| {
        let all = files(&shell.path("db"));
        all.into_iter().find(|path| path.to_string_lossy().contains(part)).expect("such an object")
    };
    let only_kept = sst("/sst/");
    shell.ok(&["put", url, "k", "after"]);
    shell.ok(&["checkpoint", url, "create", "other", "--flush"]);
    shell.ok(&["checkpoint", url, "delete", "other"]);
    shell.ok(&["compact", url, "--all"]);
    shell.ok(&["gc", url, "--retention", "0s"]);
    shell.ok(&["verify", url]);

    let bytes = fs::read(&only_kept).expect("the checkpoint's SST");
    fs::remove_file(&only_kept).expect("removed");
    let said = shell.run(&["verify", url]);
    assert_eq!(said.code, 4, "{}", said.err);
    fs::write(&only_kept, bytes).expect("put back");
    shell.ok(&["verify", url]);

    let checkpoint = sst("/checkpoint/");
    let mut bytes = fs::read(&checkpoint).expect("the checkpoint");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    fs::write(&checkpoint, bytes).expect("damaged");
    let said = shell.run(&["verify", url]);
    assert_eq!(said.code, 4, "{}", said.err);
    assert!(String::from_utf8_lossy(&said.out).contains("checkpoint/kept"));
    shell.fails(&["scan", url, "--checkpoint", "kept"], 4, "checkpoint/kept");
    assert!(shell.ok(&["info", url]).contains("kept (corruption)"));
    assert_eq!(
        json(&shell.ok(&["gc", url, "--retention", "0s", "--json"]))["held_by"],
        serde_json::json!(["checkpoint/kept"])
    );
    assert_eq!(shell.ok(&["scan", url]), "k\tafter\n");
    // What cannot be read can be deleted.
    shell.ok(&["checkpoint", url, "delete", "kept"]);
    shell.ok(&["verify", url]);
}

#[test]
fn a_checkpoint_was_made_when_it_was_made_in_a_copy_too() {
    let shell = Shell::new();
    let url = &shell.url("db");
    shell.ok(&["put", url, "k", "v"]);
    shell.ok(&["checkpoint", url, "create", "one"]);
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(86_400);
    let object =
        fs::File::options().write(true).open(shell.path("db/checkpoint/one")).expect("the checkpoint");
    let listed = shell.ok(&["checkpoint", url]);
    object.set_modified(old).expect("another time");
    assert_eq!(shell.ok(&["checkpoint", url]), listed);
}
