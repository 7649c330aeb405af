//! `kill -9`, at random moments, of a writer and of a compactor, with a recorder in another process.
//!
//! The recorder is the test. It starts itself again as the writer, which says on its standard output what it is about to
//! write and what has become durable; the recorder reads that, so a killed writer cannot forget. After every kill a fresh
//! reader must find, of every key, the last acknowledged version or a later one that was at least begun.
//!
//! A few kills by default; `ESKER_FULL=1` makes it 100 of each on a directory and 20 of each on MinIO.
#![expect(clippy::disallowed_methods, reason = "kills come at moments of real time")]

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use esker::{Compaction, Db, Reader, clock::SystemClock, testing::Minio};
use tempfile::TempDir;

const CHILD: &str = "ESKER_KILL_WRITER";
const KEYS: u64 = 400;
const CLIENTS: u64 = 8;

#[test]
fn nothing_acknowledged_is_lost_when_writer_and_compactor_are_killed_on_a_directory() {
    let folder = TempDir::new().unwrap();
    let kills = if full() { 100 } else { 6 };
    Trial::new(format!("file://{}/db", folder.path().display()), 1).run(kills);
}

#[test]
fn nothing_acknowledged_is_lost_when_writer_and_compactor_are_killed_on_minio() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some(server) = runtime.block_on(Minio::start(&SystemClock::shared())).unwrap() else {
        eprintln!("skipped: no minio binary");
        return;
    };
    let kills = if full() { 20 } else { 2 };
    Trial::new(server.url("bucket/kills"), 2).run(kills);
}

/// Not a test of its own: what the recorder starts as its writer.
#[test]
fn the_writer_process_of_the_kill_tests() {
    let Ok(url) = std::env::var(CHILD) else { return };
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(write_for_ever(url));
}

fn full() -> bool {
    std::env::var_os("ESKER_FULL").is_some()
}

/// Writes every key over and over until killed: `B key version` before a put, `D key version` when it is durable.
async fn write_for_ever(url: String) {
    let start: u64 = std::env::var("ESKER_KILL_VERSION").unwrap().parse().unwrap();
    let db = Db::builder(&url)
        .compaction(Compaction::Off)
        .memtable_bytes(256 << 10)
        .retention(Duration::ZERO)
        .open()
        .await
        .unwrap();
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let db = db.clone();
        clients.push(tokio::spawn(async move {
            for version in start.. {
                for key in (client..KEYS).step_by(CLIENTS as usize) {
                    say(&format!("B {key} {version}"));
                    db.put(name(key), value(key, version)).await.unwrap();
                    say(&format!("D {key} {version}"));
                }
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
}

/// One write of a whole line: a line is there or it is not.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

fn name(key: u64) -> String {
    format!("key-{key:05}")
}

/// The version, then bytes that follow from it.
fn value(key: u64, version: u64) -> String {
    format!("{version} {}", format!("{key}/{version};").repeat(20))
}

/// What the recorder knows of a key.
#[derive(Debug, Default, Clone, Copy)]
struct Known {
    begun: u64,
    durable: u64,
}

struct Trial {
    url: String,
    known: BTreeMap<u64, Known>,
    random: u64,
    next_version: u64,
    writes: u64,
}

impl Trial {
    fn new(url: String, seed: u64) -> Self {
        Self { url, known: BTreeMap::new(), random: seed, next_version: 1, writes: 0 }
    }

    fn run(mut self, kills: usize) {
        let started = Instant::now();
        for kill in 0..kills {
            let writer = self.start_writer();
            let heard = record(writer.1);
            // Every other writer is killed wherever it happens to be, opening perhaps; the rest while they write.
            let mut lines = if kill % 2 == 0 { until_durable(&heard) } else { Vec::new() };
            // The compactor lives through several writers and dies at moments of its own.
            let mut compactor = self.start_compactor();
            thread::sleep(self.dice(50, 700));
            kill_9(&mut compactor);
            let mut again = self.start_compactor();
            thread::sleep(self.dice(20, 400));
            let mut writer = writer.0;
            kill_9(&mut writer);
            lines.extend(heard);
            self.learn(&lines);
            self.check(kill);
            kill_9(&mut again);
        }
        self.settle();
        println!(
            "{kills} kills of the writer, {} of the compactor, {} durable writes, {:.0} s: nothing lost, nothing left",
            2 * kills,
            self.writes,
            started.elapsed().as_secs_f64()
        );
        assert!(self.writes >= kills as u64 / 2, "the writers hardly wrote: {} writes", self.writes);
    }

    fn start_writer(&self) -> (Child, std::process::ChildStdout) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["kills::the_writer_process_of_the_kill_tests", "--exact", "--nocapture"])
            .env(CHILD, &self.url)
            .env("ESKER_KILL_VERSION", self.next_version.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        (child, output)
    }

    fn start_compactor(&self) -> Child {
        Command::new(env!("CARGO_BIN_EXE_esker"))
            .args([
                "compactor",
                "--watch",
                "--force",
                "--interval",
                "50ms",
                "--retention",
                "0s",
                "--url",
                &self.url,
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// A time between the two, in milliseconds (splitmix64).
    fn dice(&mut self, least: u64, most: u64) -> Duration {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        Duration::from_millis(least + (z ^ z >> 31) % (most - least))
    }

    fn learn(&mut self, lines: &[String]) {
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            let [mark @ ("B" | "D"), key, version] = words[..] else { continue };
            let (Ok(key), Ok(version)) = (key.parse::<u64>(), version.parse::<u64>()) else { continue };
            let known = self.known.entry(key).or_default();
            if mark == "B" {
                known.begun = known.begun.max(version);
            } else {
                known.durable = known.durable.max(version);
                self.writes += 1;
            }
            self.next_version = self.next_version.max(version + 1);
        }
    }

    /// A fresh reader finds every acknowledged write.
    fn check(&mut self, kill: usize) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let rows = runtime.block_on(async {
            let reader = match Reader::open(&self.url).await {
                Ok(reader) => reader,
                // Killed before it had made a database.
                Err(e) if self.writes == 0 && e.kind() == esker::ErrorKind::Invalid => return None,
                Err(e) => panic!("after kill {kill} the database cannot be read: {e}"),
            };
            let snapshot = reader.strong().await.unwrap_or_else(|e| panic!("after kill {kill}: {e}"));
            let mut scan = snapshot.scan::<&str>(..);
            let mut rows = BTreeMap::new();
            while let Some(row) = scan.next().await.unwrap_or_else(|e| panic!("after kill {kill}: {e}")) {
                rows.insert(
                    String::from_utf8(row.key.to_vec()).unwrap(),
                    String::from_utf8(row.value.to_vec()).unwrap(),
                );
            }
            Some(rows)
        });
        let Some(rows) = rows else { return };
        for key in 0..KEYS {
            let known = self.known.get(&key).copied().unwrap_or_default();
            let Some(found) = rows.get(&name(key)) else {
                assert_eq!(
                    known.durable,
                    0,
                    "after kill {kill} {} is gone; durable was {known:?}",
                    name(key)
                );
                continue;
            };
            let version: u64 = found.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(
                *found,
                value(key, version),
                "after kill {kill} {} has bytes never written",
                name(key)
            );
            assert!(
                (known.durable..=known.begun).contains(&version),
                "after kill {kill} {} is at version {version}; {known:?}",
                name(key)
            );
            // What a reader has seen must never vanish again.
            self.known.entry(key).or_default().durable = version;
        }
    }

    /// All is merged, nothing is damaged, and after two collections no garbage is left.
    fn settle(&mut self) {
        // A new writer takes over, so that what the dead one left unpublished can be told from what may still come.
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let db = Db::builder(&self.url).compaction(Compaction::Off).open().await.unwrap();
            db.flush().await.unwrap();
            db.close().await.unwrap();
        });
        esker(&["compactor", "--once", "--force", "--retention", "0s", "--url", &self.url]);
        // The compactor's last commit, by which it gives its role up, superseded a version: so collect by itself.
        for _ in 0..2 {
            esker(&["gc", "--retention", "0s", &self.url]);
        }
        let left = esker(&["gc", "--dry-run", "--json", "--retention", "0s", &self.url]);
        let left: serde_json::Value = serde_json::from_str(left.trim()).unwrap();
        assert_eq!(left["deleted"].as_array().map(Vec::len), Some(0), "garbage is left: {left}");
        assert_eq!(left["waiting"], 0, "something waits for its producer: {left}");
        esker(&["verify", &self.url]);
        self.check(usize::MAX);
    }
}

/// What a writer says, line by line, until it dies.
fn record(output: std::process::ChildStdout) -> mpsc::Receiver<String> {
    let (say, heard) = mpsc::channel();
    thread::spawn(move || {
        BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| say.send(line))
    });
    heard
}

/// What a writer says up to its first durable write.
fn until_durable(heard: &mpsc::Receiver<String>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    while !lines.last().is_some_and(|line| line.starts_with("D ")) {
        let line = heard
            .recv_timeout(Duration::from_secs(120))
            .expect("a writer writes something within two minutes");
        lines.push(line);
    }
    lines
}

fn kill_9(child: &mut Child) {
    // SIGKILL on Unix: nothing in the child runs any more.
    child.kill().unwrap();
    child.wait().unwrap();
}

fn esker(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_esker")).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "esker {} failed: {}{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}
