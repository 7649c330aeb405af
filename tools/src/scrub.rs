//! `esker scrub`: verify all the time, slowly, from where it stopped.
//!
//! Always true: it reads and never writes to the database; with --every a store that does not answer is told of and
//! asked again, and ends nothing; the cursor file is replaced whole or not at all, so that
//! a scrub that is killed goes on where it was.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result};
use bytesize::ByteSize;
use esker::{
    Error, ErrorKind,
    clock::SystemClock,
    stats::RequestKind,
    store::ObjectId,
    verify::{Finding, Place, Scrub, Severity, Stepped},
};
use serde_json::{Value, json};

use crate::{
    exit::{Code, Stop},
    output::{Out, Voice},
    show,
    target::Target,
    verify::{as_json, as_line, must_exist},
};

const EXAMPLES: &str = "\
Examples:
  esker scrub s3://bucket/prefix --once
  esker scrub s3://bucket/prefix --rate 20MiB --every 24h --cursor /var/lib/esker/scrub.json

Reads every SST, version and log object, one line for each finding, the counts at the end of a round.
Stop it whenever you like (SIGINT, SIGTERM): with --cursor it goes on behind the last SST it read. Exit code 4 if
anything was found to be wrong (with --once, or when it is stopped).";

/// How long a scrub that never stops leaves a store alone that did not answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Read at most so many bytes a second (20MiB, 20MiB/s)
    #[arg(long, value_name = "BYTES", default_value = "20MiB/s", value_parser = rate)]
    rate: u64,
    /// One round, then stop (the default)
    #[arg(long, conflicts_with = "every")]
    once: bool,
    /// Begin a round every so often, and never stop
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    every: Option<Duration>,
    /// Keep in this file how far it has come
    #[arg(long, value_name = "FILE")]
    cursor: Option<PathBuf>,
    #[command(flatten)]
    voice: Voice,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start().for_code();
    let store = args.target.store()?;
    must_exist(&args.target, &store).await?;
    let place = args.cursor.as_deref().map(load).transpose()?.flatten().unwrap_or_default();
    let clock = SystemClock::shared();
    let mut stop = pin!(esker_compactor::stop_signal().context("cannot listen for signals")?);
    let mut scrub = Scrub::new(store.clone(), place, Some(args.rate));
    let mut totals = Totals::default();
    let mut began = clock.monotonic();
    loop {
        let stepped = tokio::select! {
            biased;
            () = &mut stop => break,
            stepped = scrub.step() => stepped,
        };
        let stepped = match stepped {
            Ok(stepped) => stepped,
            Err(error) => {
                let Some(pause) = pause_after(&error, args.every) else { return Err(error.into()) };
                args.voice.note(&format!("{error}; trying again in {}", humantime::format_duration(pause)));
                tokio::select! {
                    biased;
                    () = &mut stop => break,
                    () = clock.sleep(pause) => continue,
                }
            }
        };
        match stepped {
            Stepped::Surveyed(findings) | Stepped::Read(_, findings) => {
                totals.print(&args.voice, &mut out, &findings)?;
                save(args.cursor.as_deref(), scrub.place())?;
            }
            Stepped::Finished => {
                save(args.cursor.as_deref(), scrub.place())?;
                let requests = store.stats().snapshot();
                totals.end(
                    &args.voice,
                    &mut out,
                    &scrub,
                    requests.total(RequestKind::Get),
                    clock.monotonic() - began,
                )?;
                // Nobody would hear of the next round.
                let Some(every) = args.every.filter(|_| !out.is_closed()) else { break };
                let left = every.saturating_sub(clock.monotonic() - began);
                tokio::select! {
                    biased;
                    () = &mut stop => break,
                    () = clock.sleep(left) => {}
                }
                began = clock.monotonic();
            }
        }
    }
    out.flush()?;
    Ok(if totals.damage == 0 { ExitCode::SUCCESS } else { Code::Corruption.into() })
}

/// How long to wait after `error` before the same step is tried again; `None` if the scrub ends with it.
fn pause_after(error: &Error, every: Option<Duration>) -> Option<Duration> {
    every.filter(|_| error.kind() == ErrorKind::Unavailable).map(|every| every.min(LONGEST_PAUSE))
}

/// What was found since the start.
#[derive(Debug, Default)]
struct Totals {
    damage: u64,
    holes: u64,
    notices: u64,
}

impl Totals {
    fn print(&mut self, voice: &Voice, out: &mut Out, findings: &[Finding]) -> Result<()> {
        for finding in findings {
            match finding.severity {
                Severity::Damage => self.damage += 1,
                Severity::Hole => self.holes += 1,
                Severity::Notice => self.notices += 1,
            }
            if voice.json {
                out.json(&as_json(finding))?;
            } else {
                writeln!(out, "{}", as_line(finding))?;
            }
        }
        Ok(out.flush()?)
    }

    fn end(&self, voice: &Voice, out: &mut Out, scrub: &Scrub, gets: u64, took: Duration) -> Result<()> {
        let (ssts, bytes) = scrub.done();
        let rounds = scrub.place().rounds;
        if voice.json {
            out.json(&json!({
                "rounds": rounds, "ssts": ssts, "bytes": bytes, "gets": gets, "damage": self.damage,
                "holes": self.holes, "notices": self.notices, "seconds": took.as_secs_f64(),
            }))?;
        } else {
            writeln!(
                out,
                "round {rounds}: {} ({}) read with {} GETs in {:.1} s; {}, {}, {}",
                show::counted(ssts, "SST"),
                show::size(bytes),
                show::count(gets),
                took.as_secs_f64(),
                show::counted(self.damage, "problem"),
                show::counted(self.holes, "hole"),
                show::counted(self.notices, "notice"),
            )?;
        }
        Ok(out.flush()?)
    }
}

/// Bytes, with or without "/s" behind them.
fn rate(text: &str) -> Result<u64, String> {
    let bytes: ByteSize = text.strip_suffix("/s").unwrap_or(text).parse()?;
    if bytes.as_u64() == 0 { Err("a rate of nothing never ends".to_owned()) } else { Ok(bytes.as_u64()) }
}

fn load(path: &Path) -> Result<Option<Place>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => {
            return Err(error).with_context(|| format!("the cursor {} cannot be read", path.display()));
        }
    };
    let bad = || {
        Stop::usage(format!("{} is not the cursor of a scrub", path.display()))
            .hint("name another file, or remove this one to begin anew")
    };
    let value: Value = serde_json::from_str(&text).map_err(|_| bad())?;
    let rounds = value["rounds"].as_u64().ok_or_else(bad)?;
    let after = match &value["after"] {
        Value::Null => None,
        after => Some(after.as_str().and_then(ObjectId::parse).ok_or_else(bad)?),
    };
    Ok(Some(Place { rounds, after }))
}

fn save(path: Option<&Path>, place: Place) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let text = json!({ "rounds": place.rounds, "after": place.after.map(|id| id.to_string()) }).to_string();
    let beside = path.with_extension("new");
    fs::write(&beside, text)
        .and_then(|()| fs::rename(&beside, path))
        .with_context(|| format!("the cursor {} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrub_that_never_stops_outlives_a_store_that_does_not_answer() {
        let (silent, day) = (Error::unavailable("no answer"), Duration::from_secs(24 * 3600));
        assert_eq!(pause_after(&silent, Some(day)), Some(LONGEST_PAUSE));
        assert_eq!(pause_after(&silent, Some(Duration::from_secs(1))), Some(Duration::from_secs(1)));
        assert_eq!(pause_after(&silent, None), None);
        assert_eq!(pause_after(&Error::invalid("no database"), Some(day)), None);
    }
}
