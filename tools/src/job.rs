//! `esker job`: the records of the compaction job log, listed and shown.

use std::{collections::BTreeSet, io::Write as _, process::ExitCode};

use anyhow::Result;
use clap::ValueEnum;
use esker::{
    compaction::{
        history::{End, History, PastJob},
        log,
        record::{Event, JobRef, Record, SoFar},
    },
    stats::Cause,
    store::{Name, ObjectId},
};
use serde_json::{Value, json};

use crate::{describe, exit::Stop, output::Voice, show, target::Target};

const EXAMPLES: &str = "\
Examples:
  esker job file:///tmp/demo                  every record: who took over, how far jobs have come
  esker job file:///tmp/demo show 17
  esker job s3://bucket/prefix list --json | jq 'select(.unfinished)'

A job writes records only when it is long. One that broke off is carried on by the next compactor.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// What to do
    #[arg(value_enum, default_value_t = Deed::List)]
    deed: Deed,
    /// The slot (show)
    #[arg(value_name = "SLOT")]
    slot: Option<u64>,
    #[command(flatten)]
    voice: Voice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Deed {
    /// All records, one line each
    List,
    /// Everything in one record
    Show,
}

pub(crate) async fn run(args: Args) -> Result<ExitCode> {
    let mut out = args.voice.start();
    let (store, identity) = args.target.database().await?;
    let log = log::read(&store, identity.db_uuid, Cause::Admin).await?;
    let history = log.history();
    if args.deed == Deed::Show {
        let slot = args.slot.ok_or_else(|| {
            Stop::usage("which record is meant?").hint("give a SLOT that `esker job URL list` prints")
        })?;
        let (_, record) = log.records.into_iter().find(|(at, _)| *at == slot).ok_or_else(|| {
            Stop::not_found(format!("there is no record in slot {slot} of the job log"))
                .hint("`esker job URL list` shows which there are")
        })?;
        let record = record?;
        if args.voice.json {
            out.json(&whole(&record, &history))?;
        } else {
            out.fields(&fields(&record, &history))?;
        }
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let wanted = log.records.iter().filter(|(slot, _)| args.slot.is_none_or(|one| one == *slot));
    if args.voice.json {
        for (slot, record) in wanted {
            match record {
                Ok(record) => out.json(&whole(record, &history))?,
                Err(error) => out.json(&json!({ "slot": slot, "error": error.to_string() }))?,
            }
        }
    } else {
        let rows = wanted.map(|(slot, record)| match record {
            Ok(record) => vec![
                slot.to_string(),
                kind(record).to_owned(),
                record.epoch.to_string(),
                show::moment(record.written_ms),
                summary(record),
                state(record, &history),
            ],
            Err(error) => {
                let nothing = String::new;
                vec![slot.to_string(), "?".to_owned(), nothing(), nothing(), error.to_string(), nothing()]
            }
        });
        out.table(&["slot", "kind", "epoch", "written", "what", "state"], rows)?;
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

/// The unfinished job that the next compactor looks at first, in words.
pub(crate) fn unfinished(history: &History) -> Option<String> {
    let (at, past) = history.unfinished().next()?;
    Some(match &past.so_far {
        Some(so_far) => format!("{at} is unfinished: {}", came(so_far)),
        None => format!("{at} is unfinished"),
    })
}

fn kind(record: &Record) -> &'static str {
    match &record.event {
        Some(Event::Takeover(_)) => "TAKEOVER",
        Some(Event::Job(_)) => "JOB",
        Some(Event::Progress(_)) => "PROGRESS",
        Some(Event::Done(_)) => "DONE",
        None => "?",
    }
}

/// The job that the record is about.
fn about(record: &Record) -> Option<JobRef> {
    let epoch = record.epoch;
    match &record.event {
        Some(Event::Job(job)) => Some(JobRef { epoch, job: job.job }),
        Some(Event::Progress(progress)) => Some(JobRef { epoch, job: progress.job }),
        Some(Event::Done(done)) => Some(done.of),
        Some(Event::Takeover(_)) | None => None,
    }
}

fn so_far(record: &Record) -> Option<&SoFar> {
    match &record.event {
        Some(Event::Job(job)) => Some(&job.so_far),
        Some(Event::Progress(progress)) => Some(&progress.so_far),
        _ => None,
    }
}

fn came(so_far: &SoFar) -> String {
    format!(
        "{} of {}, {} read, up to {}",
        show::counted(so_far.outputs.len() as u64, "output"),
        show::size(so_far.bytes()),
        show::counted(so_far.read_entries, "entry").replace("entrys", "entries"),
        describe::key(&so_far.boundary, 30),
    )
}

fn summary(record: &Record) -> String {
    let job = about(record).map(|at| at.to_string()).unwrap_or_default();
    match &record.event {
        Some(Event::Takeover(takeover)) => show::text(takeover.name.as_bytes()),
        Some(Event::Job(of)) => {
            let from = of.from.map(|from| format!(", from {from}")).unwrap_or_default();
            let plan = of.plan();
            format!(
                "{job}{from}: {} into L{} ({}); {}",
                show::counted(plan.ssts() as u64, "SST"),
                of.level,
                plan.reason,
                came(&of.so_far)
            )
        }
        Some(Event::Progress(progress)) => format!("{job}: {}", came(&progress.so_far)),
        Some(Event::Done(done)) if done.published => format!("{job}: published"),
        Some(Event::Done(done)) => format!("{job}: given up, {}", show::text(done.why.as_bytes())),
        None => String::new(),
    }
}

fn state(record: &Record, history: &History) -> String {
    if history.void.contains(&record.slot) {
        return "void".to_owned();
    }
    let end = |past: &PastJob| match &past.end {
        None => "unfinished".to_owned(),
        Some(End::Published) => "published".to_owned(),
        Some(End::GivenUp(_)) => "given up".to_owned(),
        Some(End::CarriedOn(by)) => format!("carried on by {by}"),
    };
    match about(record) {
        Some(at) => history.jobs.get(&at).map(end).unwrap_or_default(),
        None if history.holder.as_ref().is_some_and(|holder| holder.slot == record.slot) => {
            "newest".to_owned()
        }
        None => "older".to_owned(),
    }
}

fn fields(record: &Record, history: &History) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("slot", record.slot.to_string()),
        ("kind", kind(record).to_owned()),
        ("epoch", record.epoch.to_string()),
        ("written", show::moment(record.written_ms)),
        ("token", show::hex(&record.token)),
        ("what", summary(record)),
        ("state", state(record, history)),
    ];
    if let Some(Event::Job(job)) = &record.event {
        fields.extend(
            job.plan().inputs.iter().map(|(run, ssts)| ("input", format!("run {run}: {}", names(ssts)))),
        );
    }
    if let Some(so_far) = so_far(record) {
        fields.extend(so_far.ids().map(|id| ("output", Name::Sst(id).path())));
        fields.push((
            "dropped",
            format!("{} ({})", show::count(so_far.dropped_entries), show::hex(&so_far.dropped)),
        ));
    }
    fields
}

fn names(ids: &[ObjectId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn whole(record: &Record, history: &History) -> Value {
    let mut value = json!({
        "slot": record.slot, "kind": kind(record).to_lowercase(), "epoch": record.epoch,
        "written_ms": record.written_ms, "token": show::hex(&record.token), "state": state(record, history),
        "unfinished": about(record).is_some_and(|at| history.unfinished().any(|(open, _)| open == at)),
    });
    if let Some(at) = about(record) {
        value["job"] = json!({ "epoch": at.epoch, "job": at.job });
    }
    match &record.event {
        Some(Event::Takeover(takeover)) => value["name"] = takeover.name.as_str().into(),
        Some(Event::Job(job)) => {
            value["level"] = job.level.into();
            value["inputs"] = job.plan().ids().map(|id| id.to_string()).collect::<Vec<_>>().into();
            value["from"] =
                job.from.map_or(Value::Null, |from| json!({ "epoch": from.epoch, "job": from.job }));
        }
        Some(Event::Done(done)) => {
            value["published"] = done.published.into();
            value["why"] = done.why.as_str().into();
        }
        Some(Event::Progress(_)) | None => {}
    }
    if let Some(so_far) = so_far(record) {
        let outputs: BTreeSet<String> = so_far.ids().map(|id| id.to_string()).collect();
        value["outputs"] = outputs.into_iter().collect::<Vec<_>>().into();
        value["output_bytes"] = so_far.bytes().into();
        value["boundary_hex"] = show::hex(&so_far.boundary).into();
        value["read_entries"] = so_far.read_entries.into();
        value["dropped_entries"] = so_far.dropped_entries.into();
    }
    value
}
