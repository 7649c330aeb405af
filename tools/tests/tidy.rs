//! The house rules that a machine can check: floors, file heads, dead files, words, doors.
//!
//! Style is checked by `cargo test`, not by a tool to install. Each rule names the file and line that breaks it.

use std::{
    fs,
    path::{Path, PathBuf},
};

const CRATES: [&str; 5] = ["cache", "engine", "compactor", "tools", "benches"];

/// Past this a file holds two things.
const MAX_LINES: usize = 700;

/// Words that name nothing (design.md: one word per thing), each with what std or a crate forces on us.
const BANNED: [(&str, &[&str]); 8] = [
    ("manager", &[]),
    ("inner", &["into_inner", "get_inner"]),
    ("handler", &[]),
    ("helper", &[]),
    ("utils", &["crossbeam_utils"]),
    ("util", &["tokio_util"]),
    // The crate `proptest` is used through its own.
    ("prelude", &["proptest::prelude", "prelude::*"]),
    ("segment", &[]),
];

#[test]
fn a_module_names_only_modules_declared_above_it() {
    let src = root().join("engine/src");
    let floors = declared_modules(&src.join("lib.rs"));
    assert!(floors.len() > 15, "the floors of engine/src/lib.rs were not found: {floors:?}");
    let floor = |name: &str| floors.iter().position(|f| f == name);
    let mut broken = Vec::new();
    for file in sources(&src) {
        let relative = file.strip_prefix(&src).unwrap();
        let own = relative
            .components()
            .next()
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap()
            .trim_end_matches(".rs")
            .to_owned();
        if own == "lib" || file.ends_with("tests.rs") {
            continue;
        }
        let own_floor = floor(&own).unwrap_or_else(|| panic!("{} is in no floor of lib.rs", file.display()));
        for (line, text) in code_lines(&file) {
            for named in crate_modules(&text) {
                if let Some(named_floor) = floor(&named)
                    && named_floor > own_floor
                {
                    broken.push(format!(
                        "{}:{line} names `{named}`, which lies above `{own}`",
                        relative.display()
                    ));
                }
            }
        }
    }
    assert!(broken.is_empty(), "floors:\n{}", broken.join("\n"));
}

#[test]
fn every_file_opens_with_what_it_is() {
    let broken: Vec<_> = all_sources()
        .into_iter()
        .filter(|file| {
            let text = read(file);
            let head = text.lines().next().unwrap_or_default();
            !(head.starts_with("//! ") && head.len() > 20)
        })
        .collect();
    assert!(broken.is_empty(), "files without a head: {broken:#?}");
}

#[test]
fn every_file_is_part_of_a_crate() {
    let mut dead = Vec::new();
    for name in CRATES {
        let src = root().join(name).join("src");
        let manifest = read(&root().join(name).join("Cargo.toml"));
        for file in sources(&src) {
            let path = file.strip_prefix(root().join(name)).unwrap().to_str().unwrap();
            if manifest.contains(&format!("path = \"{path}\"")) {
                // A program of its own.
                continue;
            }
            let stem = file.file_stem().unwrap().to_str().unwrap();
            let folder = file.parent().unwrap();
            if ["lib", "main"].contains(&stem) && folder == src {
                continue;
            }
            let (module, holder) = if stem == "mod" {
                (folder.file_name().unwrap().to_str().unwrap(), folder.parent().unwrap())
            } else {
                (stem, folder)
            };
            let declares = |f: PathBuf| f.exists() && declared_modules(&f).iter().any(|m| m == module);
            let beside = holder.with_extension("rs");
            if ![holder.join("mod.rs"), holder.join("lib.rs"), holder.join("main.rs"), beside]
                .into_iter()
                .any(declares)
            {
                dead.push(file);
            }
        }
    }
    assert!(dead.is_empty(), "files that no `mod` line names: {dead:#?}");
}

#[test]
fn no_file_holds_two_things() {
    let long: Vec<_> = all_sources()
        .into_iter()
        .filter(|f| f.components().all(|part| part.as_os_str() != "tests") && !f.ends_with("tests.rs"))
        .map(|f| (read(&f).lines().count(), f))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .collect();
    assert!(long.is_empty(), "files past {MAX_LINES} lines, look for the second thing in them: {long:#?}");
}

#[test]
fn one_word_for_one_thing() {
    let mut broken = Vec::new();
    for file in all_sources() {
        for (line, text) in code_lines(&file) {
            let lower = text.to_lowercase();
            for (word, allowed) in BANNED {
                let without = allowed.iter().fold(lower.clone(), |t, a| t.replace(a, ""));
                if identifiers(&without).any(|i| i.split('_').any(|part| part == word)) {
                    broken.push(format!("{}:{line} says `{word}`", file.display()));
                }
            }
        }
        for (number, text) in read(&file).lines().enumerate() {
            // Spelled in two halves so that this file does not find itself.
            for mark in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:"), concat!("HA", "CK")]
            {
                if text.contains(mark) {
                    broken.push(format!("{}:{} leaves a {mark}", file.display(), number + 1));
                }
            }
        }
    }
    assert!(broken.is_empty(), "words:\n{}", broken.join("\n"));
}

#[test]
fn each_door_is_the_only_one() {
    let src = root().join("engine/src");
    let rules: [(&str, &[&str], &str); 4] = [
        ("object_store::", &["store/", "testing/"], "only the store floor talks to object_store"),
        (
            ".delete(&",
            &["compaction/collect.rs", "store/", "testing/"],
            "only compaction/collect.rs deletes objects",
        ),
        ("SystemTime::now", &["clock.rs"], "only clock.rs reads the time"),
        ("rand::", &["clock.rs", "testing/", "wal/pace/model.rs"], "only clock.rs draws chance"),
    ];
    let mut broken = Vec::new();
    for file in sources(&src) {
        let relative = file.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
        if relative.ends_with("tests.rs") {
            continue;
        }
        for (line, text) in code_lines(&file) {
            for (what, allowed, why) in rules {
                if text.contains(what) && !allowed.iter().any(|a| relative.starts_with(a)) {
                    broken.push(format!("{relative}:{line} has `{what}`: {why}"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "doors:\n{}", broken.join("\n"));
}

#[test]
fn every_crate_shares_the_house_settings() {
    for name in CRATES {
        let manifest = read(&root().join(name).join("Cargo.toml"));
        for line in [
            "edition.workspace = true",
            "rust-version.workspace = true",
            "license.workspace = true",
            "[lints]\nworkspace = true",
        ] {
            assert!(manifest.contains(line), "{name}/Cargo.toml lacks `{line}`");
        }
    }
    let workspace = read(&root().join("Cargo.toml"));
    assert!(workspace.contains("rust-version = \"1.95\"") && workspace.contains("edition = \"2024\""));
    assert!(
        read(&root().join("rust-toolchain.toml")).contains("channel = \"1.95.0\""),
        "the toolchain is pinned"
    );
}

#[test]
fn pages_point_at_files_that_exist() {
    let mut broken = Vec::new();
    for page in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let text = read(&root().join(page));
        for quoted in text.split('`').skip(1).step_by(2) {
            let path = quoted.split_once(':').map_or(quoted, |(path, _)| path);
            let looks_like_a_file =
                path.ends_with(".rs") && path.contains('/') && !path.contains(['*', '{', ' ', '<']);
            if looks_like_a_file
                && !root().join(path).exists()
                && !root().join("engine/src").join(path).exists()
            {
                broken.push(format!("{page} names {path}"));
            }
        }
    }
    assert!(broken.is_empty(), "pages:\n{}", broken.join("\n"));
}

#[test]
fn every_bug_that_can_be_put_back_has_its_place_and_its_finder() {
    let src = root().join("engine/src");
    let chaos = read(&src.join("chaos.rs"));
    let declared = chaos.split("\nbugs! {").nth(1).and_then(|rest| rest.split("\n}").next());
    let table = read(&root().join("tools/tests/seeded_bugs.md"));
    let code: String = sources(&src).iter().map(|file| read(file)).collect();
    let mut broken = Vec::new();
    let mut count = 0;
    for line in declared.expect("the bugs of chaos.rs").lines().filter(|line| !line.is_empty()) {
        let (bug, name) = (identifiers(line).next().unwrap(), line.split('"').nth(1).unwrap());
        count += 1;
        if !code.contains(&format!("bug(Bug::{bug})")) {
            broken.push(format!("{bug} is nowhere"));
        }
        if !table.contains(&format!("| {name} |")) {
            broken.push(format!("{name} is not in tools/tests/seeded_bugs.md"));
        }
    }
    assert!(count > 30, "the bugs of chaos.rs were not found");
    assert!(broken.is_empty(), "bugs:\n{}", broken.join("\n"));
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every source but this one, which has to spell the words it looks for.
fn all_sources() -> Vec<PathBuf> {
    CRATES.iter().flat_map(|c| sources(&root().join(c))).filter(|f| !f.ends_with("tests/tidy.rs")).collect()
}

/// Every `.rs` file below `folder`, but for build output and workspaces of their own.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(dir) = open.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !["target", "peers", "fuzz"].contains(&name) {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The modules a file declares, in order.
fn declared_modules(file: &Path) -> Vec<String> {
    code_lines(file)
        .into_iter()
        .filter_map(|(_, line)| {
            let line = line.trim().trim_start_matches("pub(crate) ").trim_start_matches("pub ");
            Some(line.strip_prefix("mod ")?.split(';').next()?.trim().to_owned())
        })
        .filter(|name| !name.contains('{'))
        .collect()
}

/// Lines of code with comments taken off, numbered from 1. A `use` that spans lines is one line.
fn code_lines(file: &Path) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open_use: Option<(usize, String)> = None;
    for (index, line) in read(file).lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if let Some((start, mut text)) = open_use.take() {
            text.push_str(code.trim());
            if code.contains(';') { lines.push((start, text)) } else { open_use = Some((start, text)) }
        } else if code.trim_start().trim_start_matches("pub ").starts_with("use ") && !code.contains(';') {
            open_use = Some((index + 1, code.to_owned()));
        } else if !code.trim().is_empty() {
            lines.push((index + 1, code.to_owned()));
        }
    }
    lines
}

/// The first path parts after `crate::` in a line, groups included.
fn crate_modules(line: &str) -> Vec<String> {
    let mut named = Vec::new();
    for (at, _) in line.match_indices("crate::") {
        if line[..at].ends_with(|c: char| c == '_' || c.is_alphanumeric()) {
            continue;
        }
        let rest = &line[at + "crate::".len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let (mut depth, mut word) = (0, String::new());
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => named.push(std::mem::take(&mut word)),
                    _ if depth == 0 => word.push(c),
                    _ => {}
                }
            }
            named.push(word);
        } else {
            named.push(rest.to_owned());
        }
    }
    named.into_iter().filter_map(|n| identifiers(n.trim()).next().map(str::to_owned)).collect()
}

fn identifiers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|w| !w.is_empty())
}
