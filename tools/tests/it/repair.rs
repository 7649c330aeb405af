//! `esker repair` and `esker scrub` from the outside: damage done by hand, and mended by the words of the page.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::Command,
};

use crate::shell::{Shell, database, esker, files, flip, newest};

/// All objects and their bytes.
fn everything(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    files(folder).into_iter().map(|path| (path.clone(), fs::read(path).expect("the object"))).collect()
}

fn copy(from: &Path, to: &Path) {
    for path in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(path, target).unwrap();
    }
}

#[test]
fn a_salvage_is_told_first_then_done_and_its_hole_reads_as_corruption() {
    let shell = Shell::new();
    let (url, folder) = database(&shell);
    let sst = files(&folder)
        .into_iter()
        .filter(|p| p.to_str().unwrap().contains("/sst/"))
        .max_by_key(|p| fs::metadata(p).unwrap().len())
        .unwrap();
    // In the first block, so that the first keys go.
    flip(&sst, 100);
    let before = everything(&folder);
    let told = shell.run(&["repair", &url, "--salvage"]);
    assert_eq!(told.code, 4, "{}", told.err);
    let said = String::from_utf8_lossy(&told.out).into_owned();
    assert!(said.contains("would keep") && said.contains("\"k00000\""), "{said}");
    assert!(told.err.contains("--yes"), "{}", told.err);
    assert_eq!(everything(&folder), before, "a dry run changed something");

    let record = shell.path("record.jsonl");
    let done = shell.ok(&["repair", &url, "--salvage", "--yes", "--record", record.to_str().unwrap()]);
    assert!(done.contains("whole but for 1 hole"), "{done}");
    for words in [&["info", &url][..], &["lsm", &url]] {
        let said = shell.ok(words);
        assert!(said.contains("\"k00000\" to \"") && said.contains("lost"), "{words:?}: {said}");
    }
    assert!(shell.ok(&["lsm", &url, "--ascii"]).contains('x'));
    let info: serde_json::Value = serde_json::from_str(&shell.ok(&["info", &url, "--json"])).unwrap();
    let lost = info["tree"]["lost_entries"].as_u64().unwrap();
    assert_eq!((info["tree"]["holes"].as_u64(), info["holes"].as_array().unwrap().len()), (Some(1), 1));
    // What is lost is not counted among what is there: 4,000 rows in SSTs.
    assert_eq!(info["tree"]["entries"].as_u64().unwrap() + lost, 4_000, "{info}");
    assert!(fs::read_to_string(&record).unwrap().contains("\"rung\":\"salvage\""));
    for (path, bytes) in &before {
        assert_eq!(&fs::read(path).unwrap(), bytes, "{} was changed", path.display());
    }
    let verified = shell.ok(&["verify", &url, "--json"]);
    let verified: serde_json::Value = serde_json::from_str(&verified).unwrap();
    assert_eq!((verified["ok"].as_bool(), verified["holes"].as_array().unwrap().len()), (Some(true), 1));

    shell.fails(&["get", &url, "k00000"], 4, "have been lost");
    assert_eq!(shell.ok(&["get", &url, "k03999"]).trim_end(), format!("value 3999 {}", 3999 * 7919 % 10007));
    assert_eq!(shell.ok(&["get", &url, "late"]).trim_end(), "only in the log");
    shell.fails(&["scan", &url], 4, "have been lost");
    // The rows beside it go into a file, and the rest is told.
    let (rest, rest_again) = (shell.path("rest.jsonl"), shell.path("rest.parquet"));
    shell.fails(&["export", &url, rest.to_str().unwrap()], 4, "--skip-holes");
    let export = |to: &Path, flag| shell.run(&["export", &url, to.to_str().unwrap(), "--skip-holes", flag]);
    let said = export(&rest, "--hash");
    assert!(said.code == 0 && said.err.contains("left out \"k00000\" to \""), "{}", said.err);
    let kept = fs::read_to_string(&rest).unwrap();
    let kept: Vec<serde_json::Value> = kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    // 4,000 in SSTs, less those of one block, and one in the log.
    assert_eq!(kept.len() as u64, 4_001 - lost);
    assert_eq!(kept[0]["key"].as_str(), Some(format!("k{lost:05}").as_str()));
    let said: serde_json::Value = serde_json::from_slice(&export(&rest_again, "--json").out).unwrap();
    assert_eq!((said["rows"].as_u64(), said["left_out"].as_array().unwrap().len()), (Some(4_001 - lost), 1));
    assert_eq!(said["left_out"][0]["first_key"].as_str(), Some("k00000"), "{said}");
    assert_eq!(shell.ok(&["count", &url, "--from", "k02000", "--to", "l"]).trim(), "2000");
    // What is written anew is read; a merge carries the hole on.
    shell.ok(&["put", &url, "k00000", "anew"]);
    shell.ok(&["compact", &url]);
    assert_eq!(shell.ok(&["get", &url, "k00000"]).trim_end(), "anew");
    shell.fails(&["get", &url, "k00001"], 4, "have been lost");
    assert!(shell.ok(&["verify", &url]).contains("whole but for 1 hole"));
}

#[test]
fn a_copy_mends_whatever_is_damaged() {
    let shell = Shell::new();
    let (url, folder) = database(&shell);
    let replica = shell.path("replica");
    copy(&folder, &replica);
    for part in ["/DB", "/manifest/", "/sst/", "/wal/"] {
        let target = newest(&folder, part);
        let whole = fs::read(&target).unwrap();
        flip(&target, whole.len() / 2);
        let told = shell.run(&["repair", &url, "--from", replica.to_str().unwrap()]);
        assert_eq!(told.code, 4, "{part}: {}", told.err);
        shell.ok(&["repair", &url, "--from", replica.to_str().unwrap(), "--yes"]);
        assert_eq!(fs::read(&target).unwrap(), whole, "{part}");
        shell.ok(&["verify", &url]);
    }
}

#[test]
fn a_database_that_a_copy_goes_beyond_is_not_called_whole() {
    let shell = Shell::new();
    let (url, folder) = database(&shell);
    let replica = shell.path("replica");
    copy(&folder, &replica);
    let from = replica.to_str().unwrap();
    assert!(shell.ok(&["repair", &url, "--from", from]).ends_with("whole\n"));
    // As far as anyone can tell here nothing is missing.
    shell.ok(&["put", from, "later", "v"]);
    shell.ok(&["verify", &url]);
    for words in [&["repair", &url, "--from", from][..], &["repair", &url, "--from", from, "--yes"]] {
        let said = shell.run(words);
        let text = String::from_utf8_lossy(&said.out).into_owned();
        assert_eq!(said.code, 4, "{text}");
        assert!(text.contains("goes on behind what is here"), "{text}");
        let verdict = text.lines().last().unwrap();
        assert!(verdict.contains("not known to be all") && verdict.contains("versions to"), "{text}");
    }
    let said = shell.run(&["repair", &url, "--from", from, "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&said.out).unwrap();
    assert_eq!((said.code, told["ok"].as_bool()), (4, Some(false)), "{told}");
    assert!(told["copy_goes_on"].as_str().unwrap().contains("versions to"), "{told}");
}

#[test]
fn going_back_says_what_it_costs() {
    let shell = Shell::new();
    let (url, folder) = database(&shell);
    fs::remove_file(newest(&folder, "/sst/")).unwrap();
    let offered = shell.run(&["repair", &url]);
    assert_eq!(offered.code, 4);
    let said = String::from_utf8_lossy(&offered.out).into_owned();
    assert!(said.contains("--rollback") && said.contains("--salvage"), "{said}");
    let done = shell.ok(&["repair", &url, "--rollback", "--yes"]);
    assert!(done.contains("nothing is lost"), "{done}");
    assert_eq!(shell.ok(&["count", &url]).trim(), "4001");
    shell.ok(&["verify", &url]);
}

#[test]
fn a_cut_log_says_which_numbers_are_lost() {
    let shell = Shell::new();
    let url = shell.url("db");
    let large = "x".repeat(3000);
    shell.ok(&["put", &url, "k0", "v"]);
    shell.ok(&["put", &url, "k1", &large]);
    shell.ok(&["put", &url, "k2", "v"]);
    let folder = shell.path("db");
    let before = everything(&folder);
    let log = |path: &&(PathBuf, Vec<u8>)| path.0.to_str().unwrap().contains("/wal/");
    let by_size = before.iter().filter(log).max_by_key(|(_, bytes)| bytes.len()).unwrap();
    fs::remove_file(&by_size.0).unwrap();
    let said = shell.run(&["repair", &url]);
    assert_eq!(said.code, 4, "{}", said.err);
    let text = String::from_utf8_lossy(&said.out).into_owned();
    assert!(text.contains("number 2 is lost") && text.contains("--cut-log"), "{text}");
    let done = shell.ok(&["repair", &url, "--cut-log", "--yes"]);
    assert!(done.contains("lost: number 2"), "{done}");
    assert_eq!(shell.ok(&["get", &url, "k0"]).trim_end(), "v");
    shell.fails(&["get", &url, "k1"], 3, "");
    assert_eq!(shell.ok(&["get", &url, "k2"]).trim_end(), "v");
    shell.ok(&["put", &url, "k1", "again"]);
    shell.ok(&["verify", &url]);
}

#[test]
fn a_scrub_finds_what_rots_and_keeps_its_place() {
    let shell = Shell::new();
    let (url, folder) = database(&shell);
    let cursor = shell.path("cursor.json");
    let words = ["scrub", &url, "--once", "--rate", "1GiB/s", "--cursor", cursor.to_str().unwrap()];
    assert!(shell.ok(&words).contains("round 1:"));
    let before = everything(&folder);
    assert_eq!(fs::read_to_string(&cursor).unwrap(), "{\"rounds\":1,\"after\":null}");
    flip(&newest(&folder, "/sst/"), 200);
    let said = shell.run(&words);
    assert_eq!(said.code, 4, "{}", said.err);
    let text = String::from_utf8_lossy(&said.out).into_owned();
    assert!(text.contains("round 2:") && text.contains("sst/"), "{text}");
    assert_eq!(everything(&folder).len(), before.len());
    fs::write(&cursor, "no cursor").unwrap();
    shell.fails(&words, 2, "not the cursor of a scrub");
}

#[cfg(unix)]
#[test]
fn a_scrub_that_goes_on_for_ever_ends_in_order_when_it_is_told_to() {
    let shell = Shell::new();
    let (url, _) = database(&shell);
    for signal in ["TERM", "INT"] {
        let words = ["scrub", &url, "--every", "1h", "--rate", "1GiB/s"];
        let mut scrub = esker().args(words).spawn().expect("esker starts");
        let mut said = BufReader::new(scrub.stdout.take().expect("a pipe")).lines();
        assert!(said.next().expect("a line").expect("text").contains("round 1:"));
        let sent = Command::new("kill").args([format!("-{signal}"), scrub.id().to_string()]).status();
        assert!(sent.expect("kill starts").success());
        assert_eq!(scrub.wait().expect("it ends").code(), Some(0), "{signal}");
    }
}

#[test]
fn damage_is_damage_though_nobody_reads_what_is_said_of_it() {
    let shell = Shell::new();
    let (url, folder) = database(&shell);
    fs::remove_file(newest(&folder, "/sst/")).unwrap();
    for words in [&["verify", &url, "--json"][..], &["verify", &url], &["scrub", &url], &["repair", &url]] {
        let mut deaf = esker().args(words).spawn().expect("esker starts");
        drop(deaf.stdout.take());
        assert_eq!(deaf.wait().expect("it ends").code(), Some(4), "{words:?}");
    }
}

#[test]
fn what_is_left_after_a_repair_is_told_with_what_would_end_it() {
    let shell = Shell::new();
    let (url, folder) = database(&shell);
    shell.ok(&["checkpoint", &url, "create", "kept"]);
    fs::remove_file(newest(&folder, "/sst/")).unwrap();
    let said = shell.run(&["repair", &url, "--salvage", "--yes"]);
    assert_eq!(said.code, 4, "{}", said.err);
    let text = String::from_utf8_lossy(&said.out).into_owned();
    assert!(text.contains("`esker checkpoint URL delete kept`"), "{text}");
    shell.ok(&["checkpoint", &url, "delete", "kept"]);
    assert!(shell.ok(&["verify", &url]).contains("whole but for 1 hole"));
}

#[test]
fn a_repair_for_a_script_prints_one_object_and_nothing_beside() {
    let shell = Shell::new();
    let (url, folder) = database(&shell);
    flip(&newest(&folder, "/sst/"), 100);
    let said = shell.run(&["repair", &url, "--salvage", "--yes", "--json"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let told: serde_json::Value = serde_json::from_slice(&said.out).unwrap();
    assert_eq!((told["ok"].as_bool(), told["acted"].as_bool()), (Some(true), Some(true)));
}
