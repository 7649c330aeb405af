//! `esker soak`: real processes, killed at random, on a real store that misbehaves; and nothing is lost.
//!
//! ```text
//! parent ── starts, hears, pauses, kills ──▶ writer  compactor  reader…  collector        (this same binary)
//!    │                                            └──────┬───────┘
//!    └── checks, round the faults ──▶ store ◀── fault proxy            MinIO is killed and started again too
//! ```
//!
//! | file | is |
//! |---|---|
//! | `child.rs` | what the processes do, and what they say of it |
//! | `history.rs` | what they said, and whether it can have been right |
//! | `crew.rs` | the processes: started, heard, paused, killed |
//! | `place.rs` | directory, MinIO behind the proxy, a URL |
//! | `trial.rs` | kills, checkpoints, the end |
//!
//! Always true: it writes nowhere but to a fresh folder, a server of its own, or an empty place at the URL it
//! was given; every process it started has ended when it ends.

pub(crate) mod child;
mod crew;
mod history;
mod place;
mod trial;

use std::{
    collections::BTreeMap, fs, io::Write as _, path::PathBuf, process::ExitCode, sync::Arc, time::Duration,
};

use anyhow::{Context as _, Result};
use esker::{
    clock::{SharedClock, SystemClock},
    manifest::identity::Identity,
    store::Store,
    testing::{Rule, parse_rules},
};
use serde_json::{Value, json};

use self::{
    place::Place,
    trial::{Outcome, Plan, Trial},
};
use crate::{
    exit::{Code, Stop},
    output::Voice,
    progress::{self, Of},
};

const EXAMPLES: &str = "\
Examples:
  esker soak                                         2 minutes, half on a directory, half on MinIO
  esker soak --minutes 120 --kills 300 --seed 7      a night's work
  esker soak --url 's3://bucket/empty?endpoint=http://127.0.0.1:9000' --faults bad-day.txt

Starts writers, a compactor, readers and a collector as processes of their own, kills them (and MinIO) with
SIGKILL, pauses them, takes their roles over, and checks: no acknowledged write lost, nothing read that was
never written, refused writes never visible, batches whole, reads as fresh as they promise, `esker verify`
clean, no garbage after two collections. Without a `minio` binary that half is skipped, and said so.

Faults are rules, a line each, and go through an HTTP proxy in front of the server:
  put wal/ chance=0.01 -> drop_reply
  any chance=0.002 -> status=503
Without --faults there is a mix of all kinds. Exit code 4 if anything is wrong.";

/// What the proxy does when nobody says otherwise: each kind of thing that stores and networks do.
const FAULTS: &str = "\
put    chance=0.01  -> drop_reply
put    chance=0.006 -> late=1500ms
put    chance=0.004 -> duplicate
put    chance=0.004 -> false_conflict
put    chance=0.004 -> reset=200
put    chance=0.001 -> hang_reply
any    chance=0.004 -> status=503
any    chance=0.002 -> status=500
any    chance=0.003 -> fail_before
any    chance=0.0005 -> hang
get    chance=0.004 -> cut=100
get    chance=0.003 -> reset=10
get    chance=0.001 -> truncate=64
get    sst/ chance=0.01 -> flip=100
get    sst/ chance=0.005 -> shift=16
get    sst/ chance=0.005 -> swap
delete chance=0.01  -> error_body
list   chance=0.004 -> cut=100
any    chance=0.1   -> latency=pareto(1ms,1.3)
";

/// How long a trial may take beyond its time, checks and the end included, before it is said to hang.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How long, checks not counted
    #[arg(long, value_name = "MINUTES", default_value_t = 2.0, value_parser = minutes)]
    minutes: f64,
    /// How many processes are killed, at least [default: 6 a minute]
    #[arg(long, value_name = "COUNT")]
    kills: Option<u64>,
    /// An empty place to run on, instead of a directory and MinIO
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Rules for the proxy, a line each, instead of the mix
    #[arg(long, value_name = "FILE")]
    faults: Option<PathBuf>,
    /// Where chance begins; another seed, other moments
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
    /// Only the directory, no server
    #[arg(long, conflicts_with = "url")]
    directory: bool,
    /// How long superseded versions are kept while it runs
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = humantime::parse_duration)]
    retention: Duration,
    /// Reading processes
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u8).range(0..=32))]
    readers: u8,
    /// Keep the folder with the children's logs (and the directory's database)
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    voice: Voice,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if minutes.is_finite() && (0.01..=100_000.0).contains(&minutes) {
        Ok(minutes)
    } else {
        Err("it must be 0.01 to 100000".to_owned())
    }
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start();
    let clock = SystemClock::shared();
    let text = match &args.faults {
        Some(file) => fs::read_to_string(file)
            .map_err(|e| Stop::usage(format!("the faults {} cannot be read: {e}", file.display())))?,
        None => FAULTS.to_owned(),
    };
    let rules = parse_rules(&text)?;
    let mut folder = Folder::create(&clock)?;
    let outcomes = trials(&args, &clock, &rules, &folder).await;
    let is_right = outcomes.as_ref().is_ok_and(|all| all.iter().all(|outcome| outcome.wrong.is_empty()));
    folder.is_wanted = args.keep || !is_right;
    let outcomes = outcomes?;
    for outcome in &outcomes {
        if args.voice.json {
            out.json(&as_json(outcome, args.seed))?;
        } else {
            writeln!(out, "{}", sentence(outcome))?;
        }
        for wrong in &outcome.wrong {
            args.voice.note(&format!("wrong: {wrong}"));
        }
    }
    out.flush()?;
    if folder.is_wanted {
        args.voice
            .note(&format!("the logs of all processes and the history are in {}", folder.path.display()));
    }
    Ok(if is_right { ExitCode::SUCCESS } else { Code::Corruption.into() })
}

async fn trials(args: &Args, clock: &SharedClock, rules: &[Rule], folder: &Folder) -> Result<Vec<Outcome>> {
    let mut places = Vec::new();
    match &args.url {
        Some(url) => {
            let store = Store::open(url, Arc::clone(clock))?;
            if Identity::load(&store).await?.is_some() {
                return Err(Stop::usage(format!("there is a database at {} already", store.url()))
                    .hint("a soak needs an empty place, whose rows are its own")
                    .into());
            }
            places.push(Place::given(url, clock, args.seed, rules).await?);
        }
        None => {
            places.push(Place::directory(&folder.path));
            if !args.directory {
                match Place::minio(clock, args.seed, rules).await? {
                    Some(place) => places.push(place),
                    None => args.voice.note("skipped: no minio binary, so only the directory"),
                }
            }
        }
    }
    let share = places.len() as f64;
    let kills = args.kills.unwrap_or_else(|| (args.minutes * 6.0).ceil() as u64);
    let plan = Plan {
        time: Duration::from_secs_f64(args.minutes * 60.0 / share),
        kills: kills.div_ceil(places.len() as u64),
        seed: args.seed,
        retention: args.retention,
        readers: usize::from(args.readers),
    };
    let mut outcomes = Vec::new();
    for place in places {
        let logs = folder.path.join(place.name);
        fs::create_dir_all(&logs).context("a folder for logs")?;
        let bar = progress::bar(&args.voice, plan.kills, Of::Things("kills"));
        let trial = Trial::new(place, plan, clock, &logs, &bar)?;
        let limit = plan.time * 4 + PATIENCE;
        outcomes.push(tokio::select! {
            biased;
            outcome = trial.run() => outcome?,
            () = clock.sleep(limit) => {
                return Err(Stop::failed(format!("the soak has not ended within {limit:?}: something hangs")).into());
            }
        });
        bar.finish_and_clear();
    }
    Ok(outcomes)
}

/// One line of figures.
fn sentence(outcome: &Outcome) -> String {
    let sum = |map: &BTreeMap<&'static str, u64>| map.values().sum::<u64>();
    let list = |map: &BTreeMap<&'static str, u64>| {
        map.iter().map(|(name, times)| format!("{name} {times}")).collect::<Vec<_>>().join(", ")
    };
    format!(
        "{}: {} kills ({}), {} pauses, {} usurpations, {} writes acknowledged, {} refused, {} reads, {} faults ({}), \
         {} checkpoints, {:.0} s: {}",
        outcome.place,
        sum(&outcome.kills),
        list(&outcome.kills),
        outcome.pauses,
        outcome.usurpations,
        outcome.counts.acknowledged,
        outcome.counts.refused,
        outcome.counts.reads.values().sum::<u64>(),
        sum(&outcome.faults),
        list(&outcome.faults),
        outcome.checkpoints,
        outcome.seconds,
        match outcome.wrong.len() {
            0 => "nothing lost, nothing left over".to_owned(),
            n => format!("{n} WRONG"),
        }
    )
}

fn as_json(outcome: &Outcome, seed: u64) -> Value {
    json!({
        "place": outcome.place, "seed": seed, "seconds": outcome.seconds, "kills": outcome.kills,
        "pauses": outcome.pauses, "usurpations": outcome.usurpations, "checkpoints": outcome.checkpoints,
        "takeovers": outcome.counts.opened, "restarts": outcome.restarts, "endings": outcome.counts.endings,
        "writes_begun": outcome.counts.begun, "writes_acknowledged": outcome.counts.acknowledged,
        "writes_refused": outcome.counts.refused, "reads": outcome.counts.reads, "errors": outcome.counts.errors,
        "requests": outcome.requests, "faults": outcome.faults, "wrong": outcome.wrong,
    })
}

/// The soak's own folder: removed with this, unless it is wanted and there is anything in it.
#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// To be looked into: something was wrong, or somebody said so.
    is_wanted: bool,
}

impl Folder {
    fn create(clock: &SharedClock) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("esker-soak-{:032x}", clock.random()));
        fs::create_dir_all(&path).context("a folder for the soak")?;
        Ok(Self { path, is_wanted: false })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the system's temporary directory harms nobody.
        let _ = if self.is_wanted { fs::remove_dir(&self.path) } else { fs::remove_dir_all(&self.path) };
    }
}
