//! The executable `esker-compactor`, from outside: exit codes, events, turns, signals.

use std::{
    io::Read,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use esker::{Compaction, Db, clock::SystemClock};

/// How long stopping may take.
const PATIENCE: Duration = Duration::from_secs(10);

fn compactor(url: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_esker-compactor"));
    command.args(["--url", url]).env_remove("ESKER_URL").stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A database in `folder` with some L0 runs that nobody has merged.
fn with_work(folder: &std::path::Path) -> String {
    let url = format!("file://{}", folder.display());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        for round in 0..6 {
            let db = Db::builder(&url).compaction(Compaction::Off).open().await.expect("a database");
            for key in 0..200 {
                db.put(format!("key-{key:04}"), format!("round {round}")).accepted().await.expect("a write");
            }
            db.flush().await.expect("a flush");
            db.close().await.expect("a close");
        }
    });
    url
}

fn rows(url: &str) -> usize {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let db = Db::builder(url).compaction(Compaction::Off).open().await.expect("a database");
        let mut rows = 0;
        for key in 0..200 {
            let value = db.get(format!("key-{key:04}")).await.expect("a read").expect("a row");
            assert_eq!(&value[..], b"round 5");
            rows += 1;
        }
        db.close().await.expect("a close");
        rows
    })
}

fn wait(mut child: Child) -> Output {
    let clock = SystemClock::shared();
    while child.try_wait().expect("a child").is_none() {
        assert!(clock.monotonic() < PATIENCE, "it does not end");
        std::thread::yield_now();
    }
    child.wait_with_output().expect("its output")
}

#[test]
fn once_merges_collects_and_exits() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = with_work(folder.path());
    let output = compactor(&url)
        .args(["--once", "--json", "--retention", "0s", "--memory", "1MiB"])
        .output()
        .expect("a run");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let events: Vec<serde_json::Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("every line is an event"))
        .collect();
    let names: Vec<&str> = events.iter().filter_map(|event| event["event"].as_str()).collect();
    assert_eq!(names, ["claimed", "merged", "collected", "finished"], "{}", text(&output));
    assert_eq!(events[1]["reason"], "l0");
    assert!(events[2]["objects"].as_u64() > Some(6), "{}", events[2]);
    assert_eq!(rows(&url), 200);
    let again = compactor(&url).args(["--once", "--retention", "0s"]).output().expect("a run");
    assert_eq!(again.status.code(), Some(0), "{}", text(&again));
    assert!(text(&again).contains("0 merges"), "{}", text(&again));
}

#[test]
fn each_way_to_fail_has_its_exit_code() {
    let folder = tempfile::tempdir().expect("a folder");
    let empty = format!("file://{}", folder.path().display());
    let code = |args: &[&str], url: &str| {
        let output = compactor(url).args(args).output().expect("a run");
        (output.status.code(), text(&output))
    };
    let (none, said) = code(&["--once"], &empty);
    assert_eq!(none, Some(3), "{said}");
    assert!(said.contains("no database"), "{said}");
    let unfinished = tempfile::tempdir().expect("a folder");
    let url = with_work(unfinished.path());
    for entry in std::fs::read_dir(unfinished.path()).expect("a listing") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).expect("removed");
        }
    }
    let (unfinished, said) = code(&["--once"], &url);
    assert!(said.contains("never finished being created"), "{said}");
    assert_eq!(unfinished, Some(3), "{said}");
    assert_eq!(code(&["--once"], "ftp://nowhere").0, Some(2));
    assert_eq!(code(&["--once", "--watch"], &empty).0, Some(2));
    assert_eq!(code(&["--interval", "soon"], &empty).0, Some(2));
    let (little, said) = code(&["--memory", "64KiB"], &empty);
    assert_eq!(little, Some(2), "{said}");
    assert!(said.contains("1MiB at least"), "{said}");
    let (help, said) = code(&["--help"], &empty);
    assert_eq!(help, Some(0));
    assert!(said.contains("Examples:") && said.contains("Exit codes:"), "{said}");
}

#[test]
fn the_second_of_two_is_told_whose_turn_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = with_work(folder.path());
    // The holder is killed and cannot give the role up; it is at work for all the second can know.
    let mut first =
        compactor(&url).args(["--watch", "--json", "--name", "first:1"]).spawn().expect("a watcher");
    let mut out = first.stdout.take().expect("its events");
    let mut seen = String::new();
    while !seen.contains("\"claimed\"") {
        let mut piece = [0; 256];
        let bytes = out.read(&mut piece).expect("its events");
        assert!(bytes > 0, "it ended after {seen}");
        seen.push_str(&String::from_utf8_lossy(&piece[..bytes]));
    }
    first.kill().expect("a kill");
    first.wait().expect("its end");
    let second = compactor(&url).args(["--once", "--name", "second:2"]).output().expect("a run");
    assert_eq!(second.status.code(), Some(5), "{}", text(&second));
    assert!(text(&second).contains("first:1"), "{}", text(&second));
    let forced = compactor(&url).args(["--once", "--force", "--retention", "0s"]).output().expect("a run");
    assert_eq!(forced.status.code(), Some(0), "{}", text(&forced));
    assert_eq!(rows(&url), 200);
}

#[cfg(unix)]
#[test]
fn a_watcher_works_answers_and_stops_on_sigterm() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = with_work(folder.path());
    let args = ["--watch", "--json", "--interval", "100ms", "--retention", "0s", "--status", "127.0.0.1:0"];
    let mut watcher = compactor(&url).args(args).spawn().expect("a watcher");
    let mut out = watcher.stdout.take().expect("its events");
    let mut seen = String::new();
    while !seen.contains("\"collected\"") {
        let mut piece = [0; 256];
        let bytes = out.read(&mut piece).expect("its events");
        assert!(bytes > 0, "it ended after {seen}");
        seen.push_str(&String::from_utf8_lossy(&piece[..bytes]));
    }
    assert!(seen.contains("\"merged\""), "{seen}");
    let kill = Command::new("kill").args(["-TERM", &watcher.id().to_string()]).status().expect("kill");
    assert!(kill.success());
    let output = wait(watcher);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    // It gave the role up: the next need not wait.
    let next = compactor(&url).args(["--once", "--name", "next:1"]).output().expect("a run");
    assert_eq!(next.status.code(), Some(0), "{}", text(&next));
    assert_eq!(rows(&url), 200);
}
