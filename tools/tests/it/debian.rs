//! Real input: Debian's package index, loaded, merged by a compactor of its own process, read back
//! cold and warm by a third, exported, loaded again.
//!
//! The index is the one apt keeps on this machine; where there is none, one like it is made. The
//! usual run takes about 20,000 stanzas; with `ESKER_FULL=1` it takes all of them.

use std::{fs, path::Path};

use esker::{clock::SystemClock, testing::Minio};
use serde_json::Value;

use crate::shell::{Shell, esker};

/// Stanzas of the usual run.
const USUAL: usize = 20_000;

/// The text of a package index: real, if apt keeps one here.
fn index() -> (String, Vec<u8>) {
    let full = std::env::var_os("ESKER_FULL").is_some_and(|v| v == "1");
    let limit = if full { usize::MAX } else { USUAL };
    let mut text = Vec::new();
    let mut names = Vec::new();
    let mut stanzas = 0;
    let mut lists: Vec<_> = fs::read_dir("/var/lib/apt/lists")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains("_Packages")))
        .collect();
    lists.sort();
    for list in lists {
        let Some(whole) = unpacked(&list) else { continue };
        names.push(list.file_name().unwrap_or_default().to_string_lossy().into_owned());
        for stanza in whole.split_inclusive("\n\n").filter(|s| !s.trim().is_empty()) {
            if stanzas == limit {
                return (names.join(", "), text);
            }
            stanzas += 1;
            text.extend_from_slice(stanza.trim_end_matches('\n').as_bytes());
            text.extend_from_slice(b"\n\n");
        }
    }
    if stanzas > 1000 {
        return (names.join(", "), text);
    }
    ("an index made up here".to_owned(), made_up(USUAL))
}

fn unpacked(list: &Path) -> Option<String> {
    let bytes = fs::read(list).ok()?;
    if bytes.starts_with(&[0x04, 0x22, 0x4d, 0x18]) {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut lz4_flex::frame::FrameDecoder::new(&bytes[..]), &mut text).ok()?;
        return Some(text);
    }
    String::from_utf8(bytes).ok()
}

fn made_up(stanzas: usize) -> Vec<u8> {
    let mut text = String::new();
    for n in 0..stanzas {
        let words = ["a fast", "a small", "an old", "a plain"][n % 4];
        text.push_str(&format!(
            "Package: made-up-{n}\nVersion: {}.{}-{}\nArchitecture: amd64\nMaintainer: Nobody <nobody@example.org>\n\
             Installed-Size: {}\nDescription: {words} package, number {n}\n It exists for this test.\n .\n And it has éè.\n\n",
            n % 9,
            n % 31,
            n % 5,
            n * 7 % 9999
        ));
    }
    text.into_bytes()
}

/// The rows that the index stands for: of stanzas with one key, the last.
fn rows(text: &[u8]) -> std::collections::BTreeMap<Vec<u8>, Vec<u8>> {
    let text = std::str::from_utf8(text).expect("an index in UTF-8");
    let field = |stanza: &str, name: &str| {
        stanza.lines().find_map(|line| line.strip_prefix(name)).expect("a key field").trim().to_owned()
    };
    text.split("\n\n")
        .filter(|stanza| !stanza.trim().is_empty())
        .map(|stanza| {
            let key = ["Package:", "Version:", "Architecture:"].map(|name| field(stanza, name)).join("/");
            (key.into_bytes(), format!("{stanza}\n").into_bytes())
        })
        .collect()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// The whole journey, with the database at `url` and its copies at `copies`.
fn journey(shell: &Shell, url: &str, copies: [&str; 2]) {
    let (source, text) = index();
    let expected = rows(&text);
    eprintln!(
        "{source}: {} packages, {} bytes, into {}",
        expected.len(),
        text.len(),
        url.split('?').next().unwrap_or_default()
    );
    let packed = zstd::stream::encode_all(&text[..], 1).expect("zstd in memory");
    let file = shell.file("Packages.zst", packed);

    // One process writes, another merges.
    let loaded = json(&shell.ok(&["load", url, &file, "--compaction", "off", "--json"]));
    assert!(loaded["rows"].as_u64().unwrap() >= expected.len() as u64);
    let merged = esker().args(["compactor", "--url", url, "--once"]).output().expect("the compactor starts");
    assert!(merged.status.success(), "the compactor: {}", String::from_utf8_lossy(&merged.stderr));

    // A third reads every stanza back by key, cold and then warm, and compares all bytes.
    let compared = json(&shell.ok(&["compare", url, &file, "--json"]));
    for (pass, name) in ["cold", "warm"].iter().enumerate() {
        assert_eq!(compared["passes"][pass]["pass"], *name);
        assert_eq!(compared["passes"][pass]["rows"], loaded["rows"]);
        assert_eq!(compared["passes"][pass]["differing"], 0);
        eprintln!(
            "{name}: {} s, {} GETs",
            compared["passes"][pass]["read_seconds"], compared["passes"][pass]["get_requests"]
        );
    }
    assert!(compared["passes"][1]["get_requests"].as_u64() <= compared["passes"][0]["get_requests"].as_u64());

    // And a scan, checked here against our own reading of the file.
    let scanned = shell.ok(&["scan", url, "--json"]);
    assert_eq!(scanned.lines().count(), expected.len());
    for (line, (key, value)) in scanned.lines().zip(&expected) {
        let row = json(line);
        assert_eq!(row["key"].as_str().map(str::as_bytes), Some(&key[..]));
        assert_eq!(row["value"].as_str().map(str::as_bytes), Some(&value[..]));
    }
    assert_eq!(shell.run(&["verify", url]).code, 0);

    // Out and in again, by both formats, gives an equal database.
    let hash = shell.ok(&["count", url, "--all", "--hash"]);
    assert!(hash.starts_with(&format!("{} ", expected.len())), "{hash}");
    for (format, copy) in ["parquet", "jsonl"].into_iter().zip(copies) {
        let path = shell.path(&format!("out.{format}"));
        let path = path.to_str().expect("a path in UTF-8");
        assert_eq!(shell.ok(&["export", url, path, "--hash"]), hash);
        shell.ok(&["load", copy, path]);
        assert_eq!(shell.ok(&["count", copy, "--all", "--hash"]), hash, "by {format}");
    }
}

#[test]
fn debian_packages_go_in_are_merged_read_back_and_come_out_equal() {
    let shell = Shell::new();
    let (url, parquet, jsonl) = (shell.url("db"), shell.url("parquet"), shell.url("jsonl"));
    journey(&shell, &url, [&parquet, &jsonl]);
}

#[test]
fn debian_packages_make_the_same_journey_on_minio() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let started = runtime.block_on(Minio::start(&SystemClock::shared())).expect("minio starts");
    let Some(minio) = started else {
        eprintln!("skipped: no minio binary on this machine");
        return;
    };
    let shell = Shell::new();
    let (url, parquet, jsonl) =
        (minio.url("bucket/db"), minio.url("bucket/parquet"), minio.url("bucket/jsonl"));
    journey(&shell, &url, [&parquet, &jsonl]);

    // And what can be wrong with a bucket, each in a sentence.
    let secret = url.rsplit_once("secret_access_key=").expect("a secret in the URL").1;
    let doctor = shell.ok(&["doctor", &url, "--quick"]);
    assert!(!doctor.contains(secret), "the secret was printed");
    let wrong_key = url.replace(secret, "not-the-secret");
    let said = shell.run(&["get", &wrong_key, "k"]);
    assert!(matches!(said.code, 1..=2), "wrong credentials: {}", said.err);
    assert!(said.err.starts_with("error: "), "{}", said.err);
    let said = shell.run(&["get", &minio.url("no-such-bucket/db"), "k"]);
    assert!(matches!(said.code, 1..=3), "a missing bucket: {}", said.err);
    assert!(said.err.contains("no-such-bucket"), "{}", said.err);
    assert!(!said.err.contains(secret), "the secret was printed");
}
