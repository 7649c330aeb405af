//! Damage done by hand: each kind of object flipped, cut or removed. The answer is always an error
//! that names the object, exit code 4, and never a wrong row.

use std::{fs, path::Path};

use crate::shell::{Shell, database, files, flip, newest};

#[test]
fn a_flipped_byte_in_any_kind_of_object_is_found_and_named() {
    for (part, name, verb) in [
        ("/DB", "DB", "scan"),
        ("/manifest/", "manifest/", "scan"),
        ("/sst/", "sst/", "scan"),
        ("/wal/", "wal/", "verify"),
    ] {
        let shell = Shell::new();
        let (url, folder) = database(&shell);
        let target = newest(&folder, part);
        let bytes = fs::read(&target).unwrap().len();
        // Not in the magic and version in front, which are another sentence.
        flip(&target, bytes / 2);
        let said = shell.run(&[verb, &url]);
        assert_eq!(said.code, 4, "{verb} of a damaged {part} ended with {}: {}", said.code, said.err);
        let told = format!("{}{}", said.err, String::from_utf8_lossy(&said.out));
        assert!(told.contains(name), "{told} does not name {name}");
        let verified = shell.run(&["verify", &url]);
        assert_eq!(verified.code, 4, "verify of a damaged {part}: {}", verified.err);
    }
}

#[test]
fn every_byte_of_an_sst_is_under_a_checksum() {
    let shell = Shell::new();
    let (url, folder) = database(&shell);
    let target = newest(&folder, "/sst/");
    let whole = fs::read(&target).unwrap();
    for at in [0, 1, whole.len() / 3, whole.len() - 40, whole.len() - 1] {
        flip(&target, at);
        let said = shell.run(&["verify", &url]);
        assert_eq!(said.code, 4, "a flip at byte {at} of {} was not seen", whole.len());
        assert!(String::from_utf8_lossy(&said.out).contains("sst/"));
        fs::write(&target, &whole).unwrap();
    }
    shell.ok(&["verify", &url]);
}

#[test]
fn a_short_sst_and_a_missing_one_are_corruption() {
    let shell = Shell::new();
    let (url, folder) = database(&shell);
    let target = newest(&folder, "/sst/");
    let whole = fs::read(&target).unwrap();
    fs::write(&target, &whole[..whole.len() / 2]).unwrap();
    for verb in ["scan", "verify"] {
        let said = shell.run(&[verb, &url]);
        assert_eq!(said.code, 4, "{verb} of a short SST: {}", said.err);
    }
    fs::remove_file(&target).unwrap();
    // A reader cannot know whether a collection came first, and says so; `verify` can.
    for (verb, codes) in [("scan", &[1, 4][..]), ("verify", &[4])] {
        let said = shell.run(&[verb, &url]);
        assert!(codes.contains(&said.code), "{verb} without an SST ended with {}: {}", said.code, said.err);
        assert!(format!("{}{}", said.err, String::from_utf8_lossy(&said.out)).contains("sst/"));
    }
    fs::write(&target, &whole).unwrap();
    shell.ok(&["verify", &url]);
}

#[test]
fn a_slot_missing_from_the_log_is_never_taken_for_its_end() {
    let shell = Shell::new();
    let url = shell.url("db");
    for n in 0..3 {
        shell.ok(&["put", &url, &format!("k{n}"), "v"]);
    }
    let folder = shell.path("db");
    let epoch_before = files(&folder.join("wal")).len();
    assert!(epoch_before >= 3);
    // The oldest object of the log, which a replay needs.
    fs::remove_file(&files(&folder.join("wal"))[0]).unwrap();
    let said = shell.run(&["verify", &url]);
    assert_eq!(said.code, 4, "{}{}", String::from_utf8_lossy(&said.out), said.err);
}

#[test]
fn a_version_missing_above_the_floor_is_named() {
    let shell = Shell::new();
    let (url, folder) = database(&shell);
    let versions = files(&folder.join("manifest"));
    assert!(versions.len() >= 3);
    let middle = &versions[versions.len() / 2];
    let whole = fs::read(middle).unwrap();
    fs::remove_file(middle).unwrap();
    let named = |said: &str, path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap();
        assert!(said.contains(name) && said.contains("missing"), "{said} does not name {name}");
    };
    let said = shell.run(&["verify", &url]);
    assert_eq!(said.code, 4, "{}", said.err);
    named(&String::from_utf8_lossy(&said.out), middle);
    fs::write(middle, whole).unwrap();
    shell.ok(&["verify", &url]);

    // The marks say which versions were collected; without them those are missing.
    shell.ok(&["gc", &url, "--retention", "0s"]);
    shell.ok(&["verify", &url]);
    fs::remove_dir_all(folder.join("floor")).unwrap();
    let said = shell.run(&["verify", &url]);
    assert_eq!(said.code, 4, "{}", said.err);
    named(&String::from_utf8_lossy(&said.out), &versions[0]);
}

#[test]
fn what_holds_collections_up_is_told_with_a_way_out() {
    let shell = Shell::new();
    let (url, folder) = database(&shell);
    fs::create_dir_all(folder.join("job")).unwrap();
    fs::write(folder.join("job/00000000000000000009"), "a record that nobody can read").unwrap();
    let said = shell.run(&["verify", &url]);
    let told = String::from_utf8_lossy(&said.out).into_owned();
    assert_eq!(said.code, 0, "{told}{}", said.err);
    let holds = |line: &str| line.contains("because of job/") && line.contains("`esker compact`");
    assert!(told.lines().any(holds), "{told}");
    assert!(shell.ok(&["verify", &url, "--json"]).contains("\"held_by\""));
    let said = shell.run(&["gc", &url]);
    assert!(said.code == 0 && said.err.contains("`esker compact`"), "{}", said.err);
    // What is advised ends it.
    shell.ok(&["compact", &url]);
    assert!(!shell.ok(&["verify", &url]).contains("because of"));
}

#[test]
fn a_newer_format_is_refused_and_said_to_be_newer() {
    let shell = Shell::new();
    let (url, folder) = database(&shell);
    let target = folder.join("DB");
    // The identity's version lies at byte 24, its checksum at the end (engine/src/manifest/identity.rs).
    let mut bytes = fs::read(&target).unwrap();
    bytes[24..28].copy_from_slice(&2_u32.to_le_bytes());
    let (body, sum) = bytes.split_last_chunk_mut::<8>().unwrap();
    *sum = esker::codec::frame::checksum(0, body).to_le_bytes();
    fs::write(&target, &bytes).unwrap();
    for words in [&["scan", &url][..], &["verify", &url], &["info", &url], &["doctor", &url, "--quick"]] {
        let (said, verb) = (shell.run(words), words[0]);
        assert_ne!(said.code, 0, "{verb} took a newer format for its own");
        let told = format!("{}{}", said.err, String::from_utf8_lossy(&said.out));
        assert!(told.contains("newer"), "{verb}: {told}");
        if verb != "doctor" {
            assert_eq!(said.code, 1, "{verb}: {told}");
            assert!(said.err.contains("hint: "), "{verb}: {told}");
        }
    }
    assert_ne!(shell.run(&["put", &url, "k", "v"]).code, 0);
    assert_eq!(fs::read(&target).unwrap(), bytes, "a newer database was changed");
}

#[test]
fn no_byte_of_the_identity_can_change_unseen() {
    let shell = Shell::new();
    let (url, folder) = database(&shell);
    let target = folder.join("DB");
    let whole = fs::read(&target).unwrap();
    for at in 0..whole.len() {
        flip(&target, at);
        let said = shell.run(&["get", &url, "k00000"]);
        assert_ne!(said.code, 0, "byte {at} of DB was changed, and nobody noticed");
        assert!(said.err.starts_with("error: "), "{}", said.err);
        assert_eq!(said.out, b"");
        fs::write(&target, &whole).unwrap();
    }
}

#[test]
fn a_database_without_its_identity_is_damaged_and_not_absent() {
    let shell = Shell::new();
    let (url, folder) = database(&shell);
    let copy = fs::read(folder.join("DB")).unwrap();
    fs::remove_file(folder.join("DB")).unwrap();
    for words in [
        &["get", &url, "late"][..],
        &["put", &url, "k", "v"],
        &["info", &url],
        &["lsm", &url],
        &["wal", &url],
        &["job", &url],
        &["gc", &url],
        &["checkpoint", &url],
        &["compactor", "--url", &url, "--once"],
    ] {
        let said = shell.run(words);
        assert_eq!(said.code, 4, "{words:?}: {}", said.err);
        assert!(said.err.contains("DB") && said.err.contains("esker repair"), "{words:?}: {}", said.err);
    }
    for verb in ["verify", "scrub", "repair"] {
        let said = shell.run(&[verb, &url]);
        assert_eq!(said.code, 4, "{verb}: {}", said.err);
        assert!(String::from_utf8_lossy(&said.out).contains("✗ DB"), "{verb}");
    }
    assert!(shell.ok(&["repair", &url, "--yes"]).contains("made DB again"));
    assert_eq!(fs::read(folder.join("DB")).unwrap().len(), copy.len());
    assert_eq!(shell.ok(&["get", &url, "late"]).trim_end(), "only in the log");
    shell.ok(&["verify", &url]);
}

#[test]
fn a_damaged_job_record_is_told_and_the_advice_ends_it() {
    let shell = Shell::new();
    let (url, folder) = database(&shell);
    shell.ok(&["compact", &url]);
    flip(&newest(&folder, "/job/"), 60);
    assert!(shell.ok(&["scrub", &url]).contains("1 notice"));
    let told = shell.ok(&["verify", &url]);
    assert!(told.contains("job/") && told.contains("`esker compact`"), "{told}");
    shell.ok(&["compact", &url]);
    assert!(shell.ok(&["scrub", &url]).contains("0 notices"));
    let told = shell.ok(&["verify", &url]);
    assert!(!told.contains("job/"), "{told}");
}

#[test]
fn no_verb_answers_short_over_a_hole_in_the_log() {
    let shell = Shell::new();
    let url = shell.url("db");
    for n in 0..3 {
        shell.ok(&["put", &url, &format!("k{n}"), "v"]);
    }
    let log = files(&shell.path("db").join("wal"));
    assert_eq!(log.len(), 6, "a fence and an object each");
    let out = shell.path("out.jsonl");
    let out = out.to_str().unwrap();
    for lost in &log {
        let whole = fs::read(lost).unwrap();
        fs::remove_file(lost).unwrap();
        let name = lost.file_name().and_then(|name| name.to_str()).unwrap();
        for words in [
            &["get", &url, "k0"][..],
            &["count", &url],
            &["scan", &url],
            &["export", &url, out],
            &["put", &url, "k3", "v"],
            &["verify", &url],
        ] {
            let said = shell.run(words);
            let told = format!("{}{}", said.err, String::from_utf8_lossy(&said.out));
            assert_eq!(said.code, 4, "{words:?} without {name}: {told}");
            assert!(told.contains(name), "{words:?} does not name {name}: {told}");
        }
        fs::write(lost, whole).unwrap();
        assert_eq!(shell.ok(&["get", &url, "k2"]).trim(), "v");
    }
    shell.ok(&["verify", &url]);
}

#[test]
fn a_log_that_was_removed_is_missed_and_no_slot_is_used_again() {
    for flushed in [false, true] {
        let shell = Shell::new();
        let (url, folder) = if flushed {
            database(&shell)
        } else {
            let url = shell.url("db");
            shell.ok(&["put", &url, "late", "only in the log"]);
            (url, shell.path("db"))
        };
        let log = files(&folder.join("wal"));
        let last = log.last().unwrap().clone();
        fs::remove_dir_all(folder.join("wal")).unwrap();
        for words in [
            &["get", &url, "late"][..],
            &["count", &url],
            &["scan", &url],
            &["put", &url, "k", "v"],
            &["verify", &url],
            &["verify", &url, "--quick"],
        ] {
            let said = shell.run(words);
            let told = format!("{}{}", said.err, String::from_utf8_lossy(&said.out));
            assert_eq!(said.code, 4, "{words:?}, flushed {flushed}: {told}");
            assert!(told.contains("wal/"), "{words:?}: {told}");
        }
        assert!(files(&folder.join("wal")).is_empty(), "a slot was used again");
        assert!(shell.run(&["put", &url, "k", "v"]).err.contains("--cut-log"));
        shell.ok(&["repair", &url, "--cut-log", "--yes"]);
        shell.ok(&["verify", &url]);
        shell.ok(&["put", &url, "k", "v"]);
        let new = files(&folder.join("wal"));
        assert!(!new.is_empty() && new.iter().all(|path| *path > last), "{new:?} after {}", last.display());
        assert_eq!(shell.ok(&["get", &url, "k"]).trim(), "v");
    }
}
