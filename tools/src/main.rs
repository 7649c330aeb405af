//! `esker`: the command that looks inside a database, checks it, and moves data in and out.
//!
//! Every verb is one file with an `Args` and a `run`. `esker VERB URL …` is the one grammar: the
//! database comes first; `--url URL` or the variable `ESKER_URL` may say it instead.
//!
//! Always true: data goes to stdout, everything else to stderr; a verb that only reads never claims a
//! role, so it can be run beside a live writer and a live compactor.

mod checkpoint;
mod compact;
mod compare;
mod copies;
mod count;
mod delete;
mod describe;
mod doctor;
mod exit;
mod export;
mod gc;
mod get;
mod info;
mod job;
mod load;
mod lsm;
mod manifest;
mod output;
mod progress;
mod put;
mod range;
mod repair;
mod scan;
mod scrub;
mod show;
mod soak;
mod sst;
mod stop;
mod target;
mod verify;
mod wal;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

/// Filling a million rows with it is a quarter quicker than with the allocator of the C library, and reading them a tenth: what
/// is given back is given out again, where that one asks the system for it anew.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXAMPLES: &str = "\
Examples:
  esker load  file:///tmp/demo people.csv --key id      fill a database (it is created if need be)
  esker scan  file:///tmp/demo --prefix 10 --limit 5    look at some rows
  esker info  s3://bucket/prefix                        what is in there, who writes it
  esker lsm   s3://bucket/prefix                        the tree, drawn
  esker bench                                           measure this machine, in about two minutes

The database is the first word after the verb. To leave it out, say `--url URL` or set ESKER_URL:
  export ESKER_URL='s3://bucket/prefix?endpoint=http://localhost:9000'
  esker get some-key

URLs: file:///path or a plain path, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix.
Credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, …).

Exit codes: 0 done, 1 error, 2 usage, 3 no such key or database, 4 corruption, 5 conflict or fenced.";

/// Look inside an Esker database, check it, move data in and out.
#[derive(Debug, Parser)]
#[command(name = "esker", version, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the value of a key
    Get(get::Args),
    /// Give a key a value (takes the writer role over)
    Put(put::Args),
    /// Delete keys (takes the writer role over)
    Delete(delete::Args),
    /// Print the rows of a range, in order
    Scan(scan::Args),
    /// Count the rows of a range
    Count(count::Args),
    /// Load rows from a file or standard input (takes the writer role over)
    Load(load::Args),
    /// Write all rows of one consistent snapshot to a file
    Export(export::Args),
    /// Check that every row of a file is in the database, cold and warm
    Compare(compare::Args),
    /// Say what the database is: identity, roles, keyspaces, sizes
    Info(info::Args),
    /// Draw the tree: levels by key range
    Lsm(lsm::Args),
    /// List, show or dump versions of the manifest
    Manifest(manifest::Args),
    /// List, show or dump SSTs
    Sst(sst::Args),
    /// List, show or dump objects of the write-ahead log
    Wal(wal::Args),
    /// List or show records of the compaction job log
    Job(job::Args),
    /// Check every checksum, order and reference
    Verify(verify::Args),
    /// Verify all the time, slowly, from where it stopped
    Scrub(scrub::Args),
    /// Mend what is damaged, by a ladder of remedies; says what it would do unless told to do it
    Repair(repair::Args),
    /// Test the store and the way to it; works before there is a database
    Doctor(doctor::Args),
    /// Delete what no version needs any more
    Gc(gc::Args),
    /// Keep a version under a name; list and delete such
    Checkpoint(checkpoint::Args),
    /// Merge until nothing is due (takes the compactor role)
    Compact(compact::Args),
    /// Kill real processes at random on a store that misbehaves, and check that nothing is lost
    Soak(soak::Args),
    /// A process of a soak
    #[command(hide = true)]
    SoakChild(soak::child::Args),
    /// Measure: load, hand over to a compactor, YCSB A to F, a table
    Bench(esker_bench::Args),
    /// Run the compactor service (the same as `esker-compactor`)
    Compactor(esker_compactor::Args),
}

/// The verbs that do not take a database as their first word; they have flags of their own.
const DOORS: [&str; 5] = ["bench", "compactor", "help", "soak", "soak-child"];

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    let json = words.iter().take_while(|word| *word != "--").any(|word| word == "--json");
    let words = match target::as_text(words) {
        Ok(words) => words,
        Err(stop) => return exit::report(&stop.into(), json),
    };
    let words = match target::place_url(words, std::env::var("ESKER_URL").ok(), &DOORS) {
        Ok(words) => words,
        Err(stop) => return exit::report(&stop.into(), json),
    };
    let parsed = Cli::command().try_get_matches_from(words).and_then(|found| Cli::from_arg_matches(&found));
    let cli = match parsed {
        Ok(cli) => cli,
        // Help and version are no errors, and go to stdout as they are.
        Err(error) if json && error.use_stderr() => {
            return exit::report(&exit::Stop::of(&error).into(), json);
        }
        Err(error) => error.exit(),
    };
    let runtime = match esker_compactor::runtime() {
        Ok(runtime) => runtime,
        Err(error) => {
            return exit::report(&anyhow::Error::new(error).context("the async runtime cannot start"), json);
        }
    };
    let ended = runtime.block_on(run(cli.verb));
    // A thread that reads a terminal may wait for its next line for ever.
    runtime.shutdown_background();
    match ended {
        Ok(code) => code,
        Err(error) => exit::report(&error, json),
    }
}

async fn run(verb: Verb) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Get(args) => get::run(args).await,
        Verb::Put(args) => put::run(args).await,
        Verb::Delete(args) => delete::run(args).await,
        Verb::Scan(args) => scan::run(args).await,
        Verb::Count(args) => count::run(args).await,
        Verb::Load(args) => load::run(args).await,
        // What goes to standard output leaves nothing to remove, and waits for whoever reads it.
        Verb::Export(args) if args.is_file() => stop::unless_stopped(export::run(args)).await,
        Verb::Export(args) => export::run(args).await,
        Verb::Compare(args) => compare::run(args).await,
        Verb::Info(args) => info::run(args).await,
        Verb::Lsm(args) => lsm::run(args).await,
        Verb::Manifest(args) => manifest::run(args).await,
        Verb::Sst(args) => sst::run(args).await,
        Verb::Wal(args) => wal::run(args).await,
        Verb::Job(args) => job::run(args).await,
        Verb::Verify(args) => verify::run(args).await,
        Verb::Scrub(args) => scrub::run(args).await,
        Verb::Repair(args) => repair::run(args).await,
        Verb::Doctor(args) => doctor::run(args).await,
        Verb::Gc(args) => gc::run(args).await,
        Verb::Checkpoint(args) => checkpoint::run(args).await,
        Verb::Compact(args) => compact::run(args).await,
        Verb::Soak(args) => stop::unless_stopped(soak::run(args)).await,
        Verb::SoakChild(args) => soak::child::run(args).await,
        Verb::Bench(args) => stop::unless_stopped(esker_bench::run(args)).await,
        Verb::Compactor(args) => {
            esker_compactor::log_to_stderr();
            Ok(ExitCode::from(esker_compactor::run(args).await?.code()))
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_grammar_has_no_contradictions() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn every_verb_teaches_with_examples() {
        for verb in super::Cli::command().get_subcommands() {
            if super::DOORS.contains(&verb.get_name()) {
                continue;
            }
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                help.matches("esker ").count() >= 2,
                "`esker {} --help` shows fewer than two examples",
                verb.get_name()
            );
        }
    }
}
