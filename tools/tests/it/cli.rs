//! Every verb, through the built binary, on a database in a folder.

use std::{
    ffi::OsStr,
    io::Write as _,
    os::unix::ffi::OsStrExt as _,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::shell::{Shell, esker};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

#[test]
fn what_was_put_can_be_got_scanned_counted_and_deleted() {
    let shell = Shell::new();
    let url = &shell.url("db");
    for (key, value) in [("a", "1"), ("b", "2"), ("user:1", "Ada"), ("user:2", "Bob")] {
        assert_eq!(shell.ok(&["put", url, key, value]), "");
    }
    assert_eq!(shell.ok(&["get", url, "user:1"]), "Ada\n");
    assert_eq!(shell.ok(&["scan", url]), "a\t1\nb\t2\nuser:1\tAda\nuser:2\tBob\n");
    assert_eq!(shell.ok(&["scan", url, "--prefix", "user:", "--reverse", "--limit", "1"]), "user:2\tBob\n");
    assert_eq!(shell.ok(&["scan", url, "--from", "b", "--to", "user:2", "--keys"]), "b\nuser:1\n");
    assert_eq!(shell.ok(&["scan", url, "--from", "b", "--to", "b"]), "");
    assert_eq!(shell.ok(&["scan", url, "--limit", "0"]), "");
    assert_eq!(shell.ok(&["count", url, "--prefix", "user:"]), "2\n");
    shell.ok(&["delete", url, "a", "user:1", "never-there"]);
    assert_eq!(shell.ok(&["scan", url]), "b\t2\nuser:2\tBob\n");
    shell.fails(&["get", url, "a"], 3, "error: there is no key \"a\"");
}

#[test]
fn the_url_may_come_from_a_flag_or_the_environment() {
    let shell = Shell::new();
    let url = shell.url("db");
    shell.ok(&["put", "--url", &url, "k", "v"]);
    let output = esker().args(["get", "k"]).env("ESKER_URL", &url).output().unwrap();
    assert_eq!(output.stdout, b"v\n");
    shell.fails(&["get", "k"], 2, "Usage: esker get");
}

#[test]
fn binary_keys_and_values_go_in_and_out_as_hex() {
    let shell = Shell::new();
    let url = &shell.url("db");
    shell.ok(&["put", url, "00ff10", "0a00", "--hex"]);
    assert_eq!(shell.ok(&["get", url, "00ff10", "--hex"]), "0a00\n");
    assert_eq!(shell.ok(&["scan", url]), "\\x00\\xff\\x10\t\\n\\x00\n");
    assert_eq!(shell.ok(&["scan", url, "--prefix", "00ff", "--hex"]), "00ff10\t0a00\n");
    let row = json(&shell.ok(&["scan", url, "--json"]));
    assert_eq!(row["key_hex"], "00ff10");
    // The value is UTF-8, if odd; the exact bytes come back either way.
    assert_eq!(row["value"], "\n\0");
    assert_eq!(shell.run(&["get", url, "00ff10", "--hex", "--raw"]).out, b"\n\0");
    shell.fails(&["get", url, "xyz", "--hex"], 2, "\"xyz\" is not hex");
    // One key must not become another by being made readable.
    let output = esker().args(["put", url]).arg(OsStr::from_bytes(b"\xff")).arg("v").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("word 3 of the command line") && said.contains("--hex"), "{said}");
}

#[test]
fn a_value_comes_from_standard_input_byte_for_byte() {
    let shell = Shell::new();
    let url = &shell.url("db");
    let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    assert_eq!(shell.run_with(&["put", url, "k"], &bytes).code, 0);
    assert_eq!(shell.run(&["get", url, "k", "--raw"]).out, bytes);
}

#[test]
fn keyspaces_are_apart_and_a_wrong_name_is_told_which_there_are() {
    let shell = Shell::new();
    let url = &shell.url("db");
    shell.ok(&["put", url, "k", "here"]);
    shell.ok(&["put", url, "k", "there", "--keyspace", "people"]);
    assert_eq!(shell.ok(&["get", url, "k"]), "here\n");
    assert_eq!(shell.ok(&["get", url, "k", "--keyspace", "people"]), "there\n");
    assert_eq!(shell.ok(&["count", url, "--all"]), "2\n");
    let said = shell.fails(&["get", url, "k", "--keyspace", "peple"], 3, "there is no keyspace \"peple\"");
    assert!(said.err.contains("hint: there are: default, people"), "{}", said.err);
}

#[test]
fn a_row_past_its_time_is_not_there() {
    let shell = Shell::new();
    let url = &shell.url("db");
    shell.ok(&["put", url, "kept", "v", "--ttl", "1day"]);
    let rows = shell.file("rows.jsonl", "{\"key\":\"old\",\"value\":\"v\",\"expire_at_ms\":1}\n");
    shell.ok(&["load", url, &rows]);
    assert_eq!(shell.ok(&["scan", url, "--keys"]), "kept\n");
    let row = json(&shell.ok(&["scan", url, "--json"]));
    assert!(row["expire_at_ms"].as_u64().unwrap() > 1_000_000_000_000);
}

#[test]
fn loading_an_export_gives_an_equal_database() {
    let shell = Shell::new();
    let url = &shell.url("db");
    let mut rows = String::new();
    for n in 0..3000 {
        rows.push_str(&format!("{{\"key\":\"k{n:05}\",\"value\":\"v{n}\",\"keyspace\":\"ks{}\"}}\n", n % 3));
    }
    rows.push_str("{\"key_hex\":\"00ff\",\"value_hex\":\"fe\",\"expire_at_ms\":99999999999999}\n{\"key\":\"\",\"value\":\"\"}\n");
    let rows = shell.file("rows.jsonl", rows);
    let loaded = json(&shell.ok(&["load", url, &rows, "--json", "--compaction", "off"]));
    assert_eq!(loaded["rows"], 3002);
    let hash = shell.ok(&["count", url, "--all", "--hash"]);
    assert!(hash.starts_with("3002 "), "{hash}");
    for name in ["copy.jsonl", "copy.parquet"] {
        let file = shell.path(name);
        let file = file.to_str().unwrap();
        assert_eq!(shell.ok(&["export", url, file, "--hash"]), hash);
        let copy = &shell.url(&format!("db-{name}"));
        shell.ok(&["load", copy, file]);
        assert_eq!(shell.ok(&["count", copy, "--all", "--hash"]), hash);
        let expiry = |url: &str| {
            json(&shell.ok(&["scan", url, "--json", "--prefix", "00ff", "--hex"]))["expire_at_ms"].clone()
        };
        assert_eq!(expiry(copy), 99_999_999_999_999_u64);
        shell.ok(&["compare", copy, file]);
        shell.fails(&["export", url, file], 1, "exists");
        shell.ok(&["export", url, file, "--force"]);
        assert!(!shell.path(&format!("{name}.partial")).exists());
    }
    let streamed = shell.ok(&["export", url, "-"]);
    assert_eq!(streamed.lines().count(), 3002);
    let copy = &shell.url("piped");
    assert_eq!(shell.run_with(&["load", copy, "-"], streamed.as_bytes()).code, 0);
    assert_eq!(shell.ok(&["count", copy, "--all", "--hash"]), hash);
}

#[test]
fn a_bad_line_stops_a_load_and_says_how_much_is_in() {
    let shell = Shell::new();
    let url = &shell.url("db");
    let rows = shell
        .file("rows.jsonl", "{\"key\":\"a\",\"value\":\"1\"}\n{\"key\":\"b\",\"value\":\"2\"}\n{nonsense}\n");
    let said = shell.fails(&["load", url, &rows], 1, "rows.jsonl, line 3");
    assert!(said.err.contains("after 2 rows, which are in the database"), "{}", said.err);
    assert_eq!(shell.ok(&["count", url]), "2\n");
    shell.fails(&["load", url, "/no/such/file.jsonl"], 1, "cannot be opened");
}

#[test]
fn a_load_that_loses_the_writer_role_claims_no_row_that_is_lost() {
    let shell = Shell::new();
    let url = &shell.url("db");
    shell.ok(&["put", url, "before", "v"]);
    let epoch = || json(&shell.ok(&["info", url, "--json"]))["writer"]["epoch"].as_u64();
    let first = epoch();
    let mut load = esker()
        .args(["load", url, "-", "--format", "jsonl", "--keyspace", "rows"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut rows = load.stdin.take().unwrap();
    for n in 0..3000 {
        writeln!(rows, "{{\"key\":\"k{n:05}\",\"value\":\"v\"}}").unwrap();
    }
    rows.flush().unwrap();
    while epoch() == first {
        assert!(load.try_wait().unwrap().is_none(), "the load ended before its input");
    }
    shell.ok(&["put", url, "taken", "over"]);
    drop(rows);
    let ended = load.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(5), "{said}");
    let claimed: u64 = match said.split_once("the first ").or_else(|| said.split_once("stopped after ")) {
        Some((_, "row")) => 1,
        Some((_, rest)) => rest.split(' ').next().unwrap().replace(',', "").parse().unwrap(),
        None => 0,
    };
    let counted = shell.run(&["count", url, "--keyspace", "rows"]);
    let there: u64 = if counted.code == 3 { 0 } else { counted.ok(&["count"]).trim().parse().unwrap() };
    assert!(claimed <= there, "{claimed} rows were claimed and {there} are there: {said}");
}

#[test]
fn a_load_that_is_stopped_says_how_far_it_came_though_its_input_goes_on() {
    let shell = Shell::new();
    let url = shell.url("db");
    // Its input goes on, and nothing comes.
    let mut load = esker()
        .args(["load", &url, "-", "--batch", "10"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("esker starts");
    let mut stdin = load.stdin.take().expect("a pipe");
    for n in 0..1000 {
        writeln!(stdin, "{{\"key\":\"{n:04}\",\"value\":\"v\"}}").expect("it reads");
    }
    stdin.flush().expect("it reads");
    while shell.run(&["get", &url, "0000"]).code != 0 {
        assert!(load.try_wait().expect("it runs").is_none(), "the load ended before its input");
    }
    let sent = Command::new("kill").args(["-TERM", &load.id().to_string()]).status();
    assert!(sent.expect("kill starts").success());
    let ended = load.wait_with_output().expect("it ends");
    let err = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(1), "{err}");
    let said = "loading stopped after ";
    let rows = err.split(said).nth(1).and_then(|rest| rest.split(" rows, which are in the database").next());
    let rows: usize = rows.unwrap_or_default().replace(',', "").parse().unwrap_or_else(|_| panic!("{err}"));
    assert!(rows > 0 && rows.is_multiple_of(10), "{err}");
    assert_eq!(shell.ok(&["count", &url]).trim(), rows.to_string(), "{err}");
    drop(stdin);
}

#[test]
fn input_without_a_byte_has_no_rows() {
    let shell = Shell::new();
    let url = &shell.url("db");
    assert_eq!(json(&shell.ok(&["load", url, "-", "--json"]))["rows"], 0);
    assert_eq!(json(&shell.ok(&["load", url, &shell.file("nothing", ""), "--json"]))["rows"], 0);
    let csv = shell.file("nothing.csv", "");
    assert_eq!(json(&shell.ok(&["load", url, &csv, "--key", "id", "--json"]))["rows"], 0);
}

#[test]
fn a_life_of_over_a_thousand_years_is_refused() {
    let shell = Shell::new();
    let url = &shell.url("db");
    for ttl in ["1001years", "500000000y", "18446744073709551615s", "99999999999999999999999y"] {
        shell.fails(&["put", url, "k", "v", "--ttl", ttl], 2, "it is over a thousand years");
    }
    shell.ok(&["put", url, "k", "v", "--ttl", "1000years"]);
    assert_eq!(shell.ok(&["get", url, "k"]), "v\n");
}

#[cfg(unix)]
#[test]
fn an_export_replaces_files_and_nothing_else() {
    use std::os::unix::{fs::FileTypeExt as _, fs::symlink, net::UnixListener};
    let shell = Shell::new();
    let url = &shell.url("db");
    shell.ok(&["put", url, "k", "v"]);
    let export = |name: &str| {
        let path = shell.path(name);
        shell.run(&["export", url, path.to_str().unwrap(), "--format", "jsonl", "--force"])
    };
    let socket = UnixListener::bind(shell.path("socket")).unwrap();
    std::fs::create_dir(shell.path("folder")).unwrap();
    symlink("socket", shell.path("to-socket")).unwrap();
    symlink("nowhere", shell.path("to-nothing")).unwrap();
    symlink("real", shell.path("beside.partial")).unwrap();
    for (name, kind) in [
        ("socket", "a socket"),
        ("to-socket", "a socket"),
        ("folder", "a directory"),
        ("to-nothing", "a symbolic link to nothing"),
        ("beside", "a symbolic link"),
    ] {
        let said = export(name);
        assert_eq!(said.code, 1, "{name}: {}", said.err);
        assert!(said.err.contains(kind), "{name}: {}", said.err);
    }
    drop(socket);
    assert!(shell.path("socket").metadata().unwrap().file_type().is_socket());
    assert!(shell.path("to-nothing").is_symlink() && !shell.path("nowhere").exists());
    assert!(shell.path("beside.partial").is_symlink());

    std::fs::create_dir(shell.path("far")).unwrap();
    shell.file("far/real", "old");
    symlink("far/real", shell.path("link")).unwrap();
    assert_eq!(export("link").code, 0);
    assert!(shell.path("link").is_symlink(), "the link was replaced");
    assert!(std::fs::read_to_string(shell.path("far/real")).unwrap().contains("\"key\":\"k\""));
    assert!(!shell.path("far/real.partial").exists());
    shell.fails(&["export", url, "/dev/null", "--format", "jsonl"], 1, "/dev/null is a device");
}

#[cfg(target_os = "linux")]
#[test]
fn an_export_that_cannot_go_on_says_what_it_was_writing() {
    let shell = Shell::new();
    let url = &shell.url("db");
    shell.ok(&["put", url, "k", "v"]);
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut export = std::process::Command::new(env!("CARGO_BIN_EXE_esker"));
    let said = export.args(["export", url, "-"]).stdout(full).output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(1), "{text}");
    assert!(text.contains("standard output could not be written: No space left"), "{text}");
    shell.fails(&["put", "/proc/nowhere", "k", "v"], 1, "no directory can be made there");
}

#[test]
fn a_log_that_goes_into_a_file_has_no_colour_codes() {
    let shell = Shell::new();
    let words = ["compactor", "--url", &shell.url("nowhere"), "--once"];
    let ended = esker().args(words).env_remove("NO_COLOR").output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(said.contains(" ERROR there is no database at"), "{said}");
    assert!(!said.contains('\x1b'), "{said}");
}

#[test]
fn a_csv_file_with_an_open_quote_or_a_doubled_column_is_told_its_line() {
    let shell = Shell::new();
    let url = &shell.url("db");
    let open = shell.file("open.csv", "id,x\n1,2\n3,\"four\n5,6\n");
    let said = shell.fails(&["load", url, &open, "--key", "id"], 1, "open.csv, line 3: a quote is opened");
    assert!(said.err.contains("after 1 row, which is in the database"), "{}", said.err);
    assert_eq!(shell.ok(&["scan", url, "--keys"]), "1\n");
    let doubled = shell.file("doubled.csv", "id,x,x\n1,2,3\n");
    shell.fails(&["load", url, &doubled, "--key", "id"], 1, "line 1: two columns are named \"x\"");
}

#[test]
fn csv_and_json_objects_load_by_a_key_column() {
    let shell = Shell::new();
    let url = &shell.url("db");
    let csv = shell.file("people.csv", "id,name\n7,Ada\n8,\"Bob, jr\"\n7,Ada again\n");
    shell.ok(&["load", url, &csv, "--key", "id", "--value", "name"]);
    assert_eq!(shell.ok(&["scan", url]), "7\tAda again\n8\tBob, jr\n");
    let objects = shell.file("events.jsonl", "{\"id\":\"x\",\"n\":1}\n");
    shell.ok(&["load", url, &objects, "--key", "id", "--keyspace", "events"]);
    assert_eq!(shell.ok(&["get", url, "x", "--keyspace", "events"]), "{\"id\":\"x\",\"n\":1}\n");
    shell.ok(&["compare", url, &csv, "--key", "id", "--value", "name"]);
    shell.ok(&["put", url, "7", "changed"]);
    let said = shell.run(&["compare", url, &csv, "--key", "id", "--value", "name"]);
    assert_eq!(said.code, 1);
    assert!(String::from_utf8_lossy(&said.out).contains("different: \"7\""));
}

#[test]
fn the_tree_is_shown_merged_checked_and_collected() {
    let shell = Shell::new();
    let url = &shell.url("db");
    for round in 0..3 {
        let rows: String =
            (0..500).map(|n| format!("{{\"key\":\"k{n:04}\",\"value\":\"{round}\"}}\n")).collect();
        let rows = shell.file("rows.jsonl", rows);
        shell.ok(&["load", url, &rows, "--compaction", "off"]);
    }
    let lsm = shell.ok(&["lsm", url]);
    assert!(lsm.starts_with("L0  3 runs, 3 SSTs, "), "{lsm}");
    assert!(lsm.contains("│░"), "{lsm}");
    assert_eq!(json(&shell.ok(&["lsm", url, "--json"]))["levels"][0]["ssts"], 3);
    assert!(shell.ok(&["info", url]).contains("writer"));
    assert_eq!(json(&shell.ok(&["info", url, "--json"]))["tree"]["entries"], 1500);
    assert_eq!(json(&shell.ok(&["verify", url, "--json"]))["ok"], true);

    let ssts = shell.ok(&["sst", url, "list", "--json"]);
    assert_eq!(ssts.lines().count(), 3);
    let id = json(ssts.lines().next().unwrap())["id"].as_str().unwrap().to_owned();
    assert!(shell.ok(&["sst", url, "show", &id]).contains("first key"));
    assert_eq!(shell.ok(&["sst", url, "dump", &id]).lines().count(), 500);
    shell.fails(&["sst", url, "show", "zzz"], 3, "no SST of version");

    assert!(shell.ok(&["manifest", url]).contains("replay from slot"));
    let versions = shell.ok(&["manifest", url, "list", "--json"]).lines().count();
    assert!(versions >= 4, "{versions} versions");
    assert_eq!(json(&shell.ok(&["manifest", url, "dump"]))["runs"].as_array().unwrap().len(), 3);
    shell.fails(&["manifest", url, "show", "99999"], 3, "there is no version 99999");

    assert!(shell.ok(&["wal", url]).contains("FENCE"));
    shell.fails(&["wal", url, "show", "99999"], 3, "no WAL object in slot 99999");

    let before = shell.ok(&["count", url, "--hash"]);
    let compacted = json(&shell.ok(&["compact", url, "--all", "--json"]));
    assert_eq!(compacted["dropped_entries"], 1000);
    let takeover = json(&shell.ok(&["job", url, "--json"]));
    assert_eq!((&takeover["kind"], &takeover["slot"]), (&"takeover".into(), &1.into()));
    assert!(shell.ok(&["job", url, "show", "1"]).contains("TAKEOVER"));
    shell.fails(&["job", url, "show", "7"], 3, "no record in slot 7");
    shell.fails(&["job", url, "show"], 2, "which record is meant");
    assert_eq!(json(&shell.ok(&["info", url, "--json"]))["unfinished_job"], Value::Null);
    assert_eq!(json(&shell.ok(&["verify", url, "--json"]))["job_records"], 1);
    assert_eq!(shell.ok(&["sst", url, "--json"]).lines().count(), 1);
    let would = json(&shell.ok(&["gc", url, "--dry-run", "--retention", "0s", "--json"]));
    let did = json(&shell.ok(&["gc", url, "--retention", "0s", "--json"]));
    assert_eq!(would["deleted"], did["deleted"]);
    assert!(!did["deleted"].as_array().unwrap().is_empty());
    assert_eq!(shell.ok(&["count", url, "--hash"]), before);
    assert_eq!(json(&shell.ok(&["verify", url, "--json"]))["ok"], true);
}

#[test]
fn a_reader_of_our_output_may_leave() {
    let shell = Shell::new();
    let url = &shell.url("db");
    let rows: String =
        (0..20_000).map(|n| format!("{{\"key\":\"k{n:05}\",\"value\":\"some value\"}}\n")).collect();
    let rows = shell.file("rows.jsonl", rows);
    shell.ok(&["load", url, &rows]);
    let mut scan = esker().args(["scan", url]).stdout(Stdio::piped()).spawn().unwrap();
    drop(scan.stdout.take());
    let ended = scan.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
    assert_eq!(ended.status.code(), Some(0));
}

#[test]
fn reading_verbs_leave_the_writer_alone() {
    let shell = Shell::new();
    let url = &shell.url("db");
    shell.ok(&["put", url, "k", "v"]);
    let writer = || json(&shell.ok(&["info", url, "--json"]))["writer"]["epoch"].clone();
    let epoch = writer();
    let file = shell.path("x.jsonl");
    shell.ok(&["get", url, "k"]);
    shell.ok(&["scan", url]);
    shell.ok(&["count", url, "--hash"]);
    shell.ok(&["export", url, file.to_str().unwrap()]);
    shell.ok(&["compare", url, file.to_str().unwrap()]);
    shell.ok(&["verify", url]);
    shell.ok(&["doctor", url, "--quick"]);
    shell.ok(&["gc", url, "--dry-run"]);
    shell.fails(&["get", url, "nothing"], 3, "");
    shell.fails(&["delete", url, "k", "--keyspace", "nothing"], 3, "no keyspace");
    assert_eq!(writer(), epoch);
}

#[test]
fn doctor_looks_at_a_place_with_and_without_a_database() {
    let shell = Shell::new();
    let url = &shell.url("db");
    let before = shell.ok(&["doctor", url, "--quick"]);
    assert!(before.contains('✓') && !before.contains('✗'), "{before}");
    shell.ok(&["put", url, "k", "v"]);
    assert_eq!(json(&shell.ok(&["doctor", url, "--json"]))["ok"], true);
    assert_eq!(shell.ok(&["count", url]), "1\n");
}

#[test]
fn wrong_places_and_words_are_told_apart_by_exit_code() {
    let shell = Shell::new();
    let nowhere = &shell.url("nowhere");
    for words in [
        &["get", nowhere, "k"][..],
        &["scan", nowhere],
        &["info", nowhere],
        &["verify", nowhere],
        &["lsm", nowhere],
        &["gc", nowhere],
        &["delete", nowhere, "k"],
    ] {
        shell.fails(words, 3, "error: there is no database at");
    }
    let there = &shell.url("there");
    shell.ok(&["put", there, "k", "v"]);
    // Whatever is not there is told alike.
    for (words, what) in [
        (&["get", there, "nokey"][..], "no key"),
        (&["get", there, "k", "--keyspace", "none"], "no keyspace"),
        (&["scan", there, "--checkpoint", "none"], "no checkpoint"),
        (&["count", there, "--checkpoint", "none"], "no checkpoint"),
        (&["export", there, "-", "--checkpoint", "none"], "no checkpoint"),
        (&["checkpoint", there, "delete", "none"], "no checkpoint"),
        (&["lsm", there, "--version", "999"], "no version"),
        (&["manifest", there, "show", "999"], "no version"),
        (&["wal", there, "show", "999"], "no WAL object"),
        (&["job", there, "show", "999"], "no record"),
        (&["repair", there, "--from", nowhere], "no database"),
    ] {
        shell.fails(words, 3, what);
    }
    assert!(!shell.path("nowhere").exists(), "looking made a folder");
    shell.file("plain", "a file");
    let plain = &shell.url("plain");
    assert_ne!(shell.run(&["scan", plain]).code, 0);
    shell.fails(&["scan", "nope://x"], 2, "nope");
    shell.fails(&["scan", "s3://bucket/prefix?colour=red"], 2, "colour");
    shell.fails(&["frobnicate", nowhere], 2, "frobnicate");
    let url = &shell.url("db");
    shell.ok(&["put", url, "", "empty key"]);
    assert_eq!(shell.ok(&["get", url, ""]), "empty key\n");
    shell.fails(&["scan", url, "--from", "z", "--to", "a"], 2, "after its end");
    let said = shell.run(&["scan", url, "--from", "z", "--to", "a", "--json"]);
    assert_eq!(json(&said.err)["kind"], "invalid");
}

#[test]
fn for_a_script_every_error_is_json_and_nothing_else_is_on_stderr() {
    let shell = Shell::new();
    let url = &shell.url("db");
    shell.ok(&["put", url, "k", "v"]);
    for words in [
        &["get", "--json"][..],
        &["get", url, "k", "--jsn", "--json"],
        &["frobnicate", url, "--json"],
        &["scan", url, "--limit", "many", "--json"],
        &["repair", url, "--salvage", "--rollback", "--json"],
    ] {
        let said = shell.run(words);
        assert_eq!((said.code, said.out.len()), (2, 0), "{words:?}");
        let told = json(&said.err);
        assert_eq!(told["kind"], "usage", "{told}");
        let what = told["error"].as_str().unwrap();
        assert!(!what.is_empty() && !what.starts_with("error") && told["hint"].is_string(), "{told}");
    }
    assert!(shell.ok(&["get", "--help", "--json"]).contains("Usage: esker get"));
    let said = shell.run(&["checkpoint", url, "create", "one", "--json"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    json(&String::from_utf8(said.out).unwrap());
}

#[test]
fn keys_and_values_at_the_limit_fit_and_over_it_are_refused() {
    let shell = Shell::new();
    let url = &shell.url("db");
    let key = "k".repeat(64 << 10);
    shell.ok(&["put", url, &key, "v"]);
    assert_eq!(shell.ok(&["get", url, &key]), "v\n");
    shell.fails(&["put", url, &format!("{key}k"), "v"], 2, "over the limit of 65536");
    let value = vec![b'v'; 64 << 20];
    assert_eq!(shell.run_with(&["put", url, "big"], &value).code, 0);
    assert!(shell.run(&["get", url, "big", "--raw"]).out == value, "a value of 64 MiB came back changed");
    let said = shell.run_with(&["put", url, "bigger"], &vec![b'v'; (64 << 20) + 1]);
    assert_eq!(said.code, 2, "{}", said.err);
    assert!(said.err.contains("over the limit of 67108864"), "{}", said.err);
    let odd = shell.file("odd.jsonl", "{\"key_hex\":\"00\",\"value\":\"\"}\n{\"key_hex\":\"ff\",\"value\":\"\"}\n{\"key_hex\":\"ffff00\",\"value\":\"\"}\n");
    shell.ok(&["load", url, &odd, "--keyspace", "odd"]);
    assert_eq!(shell.ok(&["scan", url, "--keyspace", "odd", "--keys", "--hex"]), "00\nff\nffff00\n");
}
