//! A run: rounds of sessions, each a process, in an order that rotates.
//!
//! ```text
//! round 1   memory: esker slatedb slatedb-tuned fjall     memory+standard: esker slatedb slatedb-tuned
//! round 2   memory: slatedb slatedb-tuned fjall esker     memory+standard: slatedb slatedb-tuned esker
//! ```
//!
//! So that a machine that gets slower, or busier for a while, is slower for everyone. Where there are several sizes, each
//! begins with another engine too: a scale that is measured in one round would else always have the same one first.
//!
//! Always true: no two sessions run at once; what is measured is on disk after each session; a session that fails is
//! named in the file and in the exit code, and the others go on.
#![expect(clippy::print_stderr, reason = "progress")]

use std::{fs, io::IsTerminal as _, path::Path, process::Stdio, time::Instant};

use anyhow::{Context as _, Result, bail};
use esker::{
    clock::SystemClock,
    testing::{Minio, minio::INSTALL_COMMAND},
};
use esker_bench::sample::{FORMAT, Samples};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{ChildStdout, Command},
};

use crate::{
    engine::Kind,
    options::{Plan, Run},
    session::{Said, Session},
    store::{Base, Server, Store},
};

/// Takes back what stands on the terminal's last line.
const CLEAR: &str = "\r\x1b[K";

/// A file of samples, as it begins: nothing measured, and the machine, versions and options for people.
pub(crate) fn begun(run: &Run) -> Samples {
    let setup = json!({
        "plan": run.plans.first(),
        "rounds": run.rounds,
        "versions": versions(&run.engines),
        "machine": machine(),
    });
    Samples { format: FORMAT, setup, samples: Vec::new(), skipped: Vec::new() }
}

/// Runs everything, adds what it finds to `samples` and writes them to `out`; says whether all sessions went well.
pub(crate) async fn run(run: &Run, samples: &mut Samples, out: &Path) -> Result<bool> {
    let minio = if run.stores.iter().any(|store| store.base == Base::Minio) {
        Some(start_minio().await?)
    } else {
        None
    };
    let server = minio.as_ref().map(server_of).transpose()?;
    let mut went_well = true;
    let started = Instant::now();
    let sessions = sessions(run, server.as_ref(), &mut samples.skipped);
    for (number, session) in sessions.iter().enumerate() {
        let title = format!("{}/{} {}", number + 1, sessions.len(), session.title());
        if let Err(error) = one(session, run, &title, started, samples).await {
            went_well = false;
            let why = format!("{}: {error:#}", session.title());
            eprintln!("{}{why}", if std::io::stderr().is_terminal() { CLEAR } else { "" });
            samples.skipped.push(why);
        }
        write(samples, out)?;
    }
    if std::io::stderr().is_terminal() {
        eprint!("{CLEAR}");
    }
    Ok(went_well)
}

/// Writes the file of samples, a sample a line.
pub(crate) fn write(samples: &Samples, out: &Path) -> Result<()> {
    let text = serde_json::to_string(samples)?.replace("{\"engine\":", "\n{\"engine\":");
    fs::write(out, text).with_context(|| format!("{} cannot be written", out.display()))
}

/// All sessions in their order; what cannot be compared is named in `skipped`.
fn sessions(run: &Run, server: Option<&Server>, skipped: &mut Vec<String>) -> Vec<Session> {
    let mut sessions = Vec::new();
    for round in 1..=run.rounds {
        for store in &run.stores {
            let (here, not_here): (Vec<Kind>, Vec<Kind>) =
                run.engines.iter().partition(|engine| engine.keeps_objects() || store.is_near());
            for engine in not_here {
                let why = format!("{engine} has no object store to lie on {store}");
                if !skipped.contains(&why) {
                    skipped.push(why);
                }
            }
            for (size, plan) in run.plans.iter().enumerate() {
                sessions.extend(
                    rotated(&here, round as usize - 1 + size)
                        .into_iter()
                        .map(|engine| session(plan, engine, *store, round, server)),
                );
            }
        }
    }
    sessions
}

/// `engines`, beginning so many later.
fn rotated(engines: &[Kind], by: usize) -> Vec<Kind> {
    let mut engines = engines.to_vec();
    if !engines.is_empty() {
        let first = by % engines.len();
        engines.rotate_left(first);
    }
    engines
}

fn session(plan: &Plan, engine: Kind, store: Store, round: u32, server: Option<&Server>) -> Session {
    let size = format!("{}-{}", plan.rows, plan.clients);
    Session {
        plan: plan.clone(),
        engine,
        store,
        round,
        server: server.filter(|_| store.base == Base::Minio).cloned(),
        unique: format!("peers-{}-{round}-{engine}-{store}-{size}", std::process::id()).replace('+', "-"),
    }
}

async fn one(
    session: &Session,
    run: &Run,
    title: &str,
    started: Instant,
    samples: &mut Samples,
) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    if !session.measures_memory() {
        // What is freed stays with the process: see `session`.
        command.env("MIMALLOC_PURGE_DELAY", "-1");
    }
    let mut child = command
        .arg("session")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("the session's process could not be started")?;
    let mut stdin = child.stdin.take().context("a process has a standard input")?;
    stdin.write_all(&serde_json::to_vec(session)?).await?;
    drop(stdin);
    let lines = BufReader::new(child.stdout.take().context("a process has a standard output")?).lines();
    let listening = listen(lines, title, started, samples);
    tokio::time::timeout(run.session_limit, listening).await.with_context(|| {
        format!("it took longer than {}", humantime::format_duration(run.session_limit))
    })??;
    let status = child.wait().await?;
    if !status.success() {
        bail!("its process ended with {status}");
    }
    Ok(())
}

async fn listen(
    mut lines: Lines<BufReader<ChildStdout>>,
    title: &str,
    started: Instant,
    samples: &mut Samples,
) -> Result<()> {
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line).with_context(|| format!("its process said {line:?}"))? {
            Said::Measured(sample) => samples.samples.push(*sample),
            Said::Failed(why) => bail!(why),
            Said::Doing(what) if std::io::stderr().is_terminal() => {
                eprint!("{CLEAR}{:>5} s  {title}: {what}", started.elapsed().as_secs());
            }
            Said::Doing(_) => {}
        }
    }
    Ok(())
}

async fn start_minio() -> Result<Minio> {
    Minio::start(&SystemClock::shared()).await?.with_context(|| {
        format!(
            "there is no `minio` program on the PATH or where `go install` puts it; build it with\n  {INSTALL_COMMAND}"
        )
    })
}

/// Its address and keys, taken from the URL it gives.
fn server_of(minio: &Minio) -> Result<Server> {
    let url = minio.url("bucket");
    let parameter = |name: &str| {
        let mut pairs = url.split(['?', '&']).filter_map(|pair| pair.split_once('='));
        let value = pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
        value.with_context(|| format!("MinIO gives no {name}"))
    };
    Ok(Server {
        endpoint: minio.endpoint(),
        key: parameter("access_key_id")?,
        secret: parameter("secret_access_key")?,
    })
}

/// What the run was made on.
fn machine() -> Value {
    let line = |file: &str, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_once(':').map_or("", |(_, value)| value.trim()).to_owned()
    };
    let file = |name: &str| fs::read_to_string(name).unwrap_or_default().trim().to_owned();
    json!({
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "processor": line("/proc/cpuinfo", "model name"),
        "memory": line("/proc/meminfo", "MemTotal"),
        "kernel": file("/proc/sys/kernel/osrelease"),
        "load_before": file("/proc/loadavg"),
    })
}

/// What was run: the engines, the compiler that is there, the allocator, and Esker's commit.
fn versions(engines: &[Kind]) -> Value {
    let says = |program: &str, words: &[&str]| {
        let output = std::process::Command::new(program).args(words).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let mut versions = serde_json::Map::new();
    for engine in engines {
        versions.insert(engine.package().into(), version_of(engine.package()).into());
    }
    versions.insert("rustc".into(), says("rustc", &["--version"]).into());
    versions.insert("commit".into(), says("git", &["describe", "--always", "--dirty"]).into());
    versions.insert("allocator".into(), crate::ALLOCATOR.into());
    versions.insert("build".into(), if cfg!(debug_assertions) { "debug" } else { "release" }.into());
    versions.into()
}

/// The version of a package in this program's lock file.
fn version_of(package: &str) -> String {
    let wanted = format!("name = \"{package}\"");
    let mut lines = include_str!("../Cargo.lock").lines().skip_while(|line| *line != wanted);
    let version = lines.nth(1).and_then(|line| line.split('"').nth(1));
    version.unwrap_or("unknown").to_owned()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::options::Args;

    #[test]
    fn each_round_begins_with_another_engine_and_leaves_none_out() {
        let engines = [Kind::Esker, Kind::SlateDb, Kind::Fjall];
        let rounds: Vec<Vec<Kind>> = (0..4).map(|by| rotated(&engines, by)).collect();
        assert_eq!(rounds[0], engines);
        assert_eq!(rounds[1], [Kind::SlateDb, Kind::Fjall, Kind::Esker]);
        assert_eq!(rounds[3], engines);
    }

    #[test]
    fn each_size_of_a_single_round_begins_with_another_engine() {
        let words = "esker-peers --engines esker,slatedb --stores memory --clients 1,2,4 --rounds 2";
        let run = Args::parse_from(words.split(' ')).run.run().unwrap();
        let sessions = sessions(&run, None, &mut Vec::new());
        let firsts: Vec<(u32, usize, Kind)> =
            sessions.chunks(2).map(|pair| (pair[0].round, pair[0].plan.clients, pair[0].engine)).collect();
        let (esker, slatedb) = (Kind::Esker, Kind::SlateDb);
        assert_eq!(firsts[..3], [(1, 1, esker), (1, 2, slatedb), (1, 4, esker)]);
        assert_eq!(firsts[3..], [(2, 1, slatedb), (2, 2, esker), (2, 4, slatedb)]);
        assert!(sessions.chunks(2).all(|pair| pair[0].engine != pair[1].engine));
    }

    #[test]
    fn the_peers_versions_are_known() {
        assert!(version_of("slatedb").starts_with("0.18."));
        assert!(version_of("fjall").starts_with("3."));
        assert_eq!(version_of("nobody"), "unknown");
    }
}
