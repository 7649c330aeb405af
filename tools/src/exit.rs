//! How a verb ends: exit codes, and errors as one or two sentences.
//!
//! ```text
//! 0 done   1 error   2 usage   3 no such key or database   4 corruption   5 conflict or fenced
//! ```
//!
//! Always true: an error prints one `error:` line and at most one `hint:` line on stderr; a reader of
//! our stdout that went away (`esker scan … | head`) is no error.

use std::{fmt, io, process::ExitCode};

use esker::{ErrorKind, manifest::is_unfinished, store::is_refused};

/// The exit codes; scripts rely on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// The store, a file or the network failed.
    Error = 1,
    /// The command line, or a value in it, is wrong.
    Usage = 2,
    /// There is no such key, object or database.
    NotFound = 3,
    /// Stored bytes are not what was written.
    Corruption = 4,
    /// Another process holds or took over the role.
    Conflict = 5,
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// An error of this command itself; the engine's are [`esker::Error`].
#[derive(Debug)]
pub(crate) struct Stop {
    code: Code,
    what: String,
    hint: Option<String>,
}

impl Stop {
    /// The command line cannot be parsed. Its help is the hint.
    pub(crate) fn of(error: &clap::Error) -> Self {
        let text = error.to_string();
        let (what, usage) = text.split_once("\n\nUsage:").unwrap_or((text.as_str(), ""));
        let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let stop = Self::usage(line(what.trim_start_matches("error: ")));
        match usage.split_once("\n\n").map_or(usage, |(usage, _)| usage).trim() {
            "" => stop.hint("`esker help` shows the verbs, `esker help VERB` how one is used"),
            usage => stop.hint(format!("usage: {}", line(usage))),
        }
    }
    /// The command line is wrong.
    pub(crate) fn usage(what: impl Into<String>) -> Self {
        Self { code: Code::Usage, what: what.into(), hint: None }
    }
    /// What was asked for is not there.
    pub(crate) fn not_found(what: impl Into<String>) -> Self {
        Self { code: Code::NotFound, what: what.into(), hint: None }
    }
    /// Input that cannot be used, or any other failure.
    pub(crate) fn failed(what: impl Into<String>) -> Self {
        Self { code: Code::Error, what: what.into(), hint: None }
    }
    /// What to try: a sentence without a full stop.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Stop {}

/// Prints `error` on stderr, as JSON if `json`, and gives the exit code that belongs to it.
pub(crate) fn report(error: &anyhow::Error, json: bool) -> ExitCode {
    if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) {
        return ExitCode::SUCCESS;
    }
    let told = Told::of(error);
    let line = if json { told.json() } else { told.text() };
    // With stderr gone as well there is nobody left to tell.
    let _ = io::Write::write_all(&mut io::stderr(), line.as_bytes());
    told.code.into()
}

/// An error, taken apart for people and for scripts.
struct Told {
    code: Code,
    kind: &'static str,
    what: String,
    object: Option<String>,
    offset: Option<u64>,
    hint: Option<String>,
}

impl Told {
    fn of(error: &anyhow::Error) -> Self {
        let mut told = Self {
            code: Code::Error,
            kind: "error",
            what: String::new(),
            object: None,
            offset: None,
            hint: None,
        };
        for cause in error.chain() {
            if !told.what.is_empty() {
                told.what.push_str(": ");
            }
            if let Some(engine) = cause.downcast_ref::<esker::Error>() {
                // The engine's sentence already ends in its source.
                told.what.push_str(&engine.sentence());
                told.code = code_of(engine);
                told.kind = engine.kind().as_str();
                told.object = engine.object().map(str::to_owned);
                told.offset = engine.offset();
                told.hint = engine.hint_text().map(str::to_owned);
                break;
            }
            // What another floor found wrong with the words, it says as clap does.
            let usage = cause.downcast_ref::<clap::Error>().map(Stop::of);
            let stop = usage.as_ref().or_else(|| cause.downcast_ref::<Stop>());
            told.what.push_str(&stop.map_or_else(|| cause.to_string(), |stop| stop.what.clone()));
            if let Some(stop) = stop {
                told.code = stop.code;
                told.hint.clone_from(&stop.hint);
                told.kind = match stop.code {
                    Code::Usage => "usage",
                    Code::NotFound => "not_found",
                    Code::Corruption => "corruption",
                    Code::Conflict => "conflict",
                    Code::Error => "error",
                };
            }
        }
        told
    }

    fn text(&self) -> String {
        let mut text = format!("error: {}\n", self.what);
        if let Some(hint) = &self.hint {
            text.push_str(&format!("hint: {hint}\n"));
        }
        text
    }

    fn json(&self) -> String {
        let mut line = serde_json::json!({
            "error": self.what, "kind": self.kind, "object": self.object, "offset": self.offset, "hint": self.hint,
        })
        .to_string();
        line.push('\n');
        line
    }
}

fn code_of(error: &esker::Error) -> Code {
    match error.kind() {
        ErrorKind::Invalid if is_unfinished(error) => Code::NotFound,
        // No access, no bucket, a disk that is read-only: the words were right, the store failed.
        ErrorKind::Invalid if is_refused(error) => Code::Error,
        ErrorKind::Invalid => Code::Usage,
        ErrorKind::Corruption => Code::Corruption,
        ErrorKind::Fenced | ErrorKind::Conflict => Code::Conflict,
        _ => Code::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_hint_gets_a_line_of_its_own() {
        let error = anyhow::Error::new(
            esker::Error::corruption("sst/ab/x", 7, "the checksum differs").hint("restore it"),
        );
        let told = Told::of(&error.context("reading"));
        assert_eq!(
            told.text(),
            "error: reading: the checksum differs (in sst/ab/x at byte 7)\nhint: restore it\n"
        );
        assert_eq!(told.code, Code::Corruption);
        assert!(told.json().contains(r#""offset":7"#));
    }

    #[test]
    fn a_store_that_refuses_is_no_mistake_on_the_command_line() {
        use esker::{
            stats::Cause,
            store::Folder,
            testing::{Fault, FaultyStore, Operation, Rule, SimClock},
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let _entered = runtime.enter();
        let faulty = FaultyStore::memory(SimClock::shared(1), 1);
        faulty.add(Rule::on(Operation::List).meets(Fault::Refuse));
        let store = faulty.store();
        let refused = runtime.block_on(store.list(Folder::Wal, None, Cause::Admin));
        let error = refused.expect_err("refused");
        assert_eq!((error.kind(), code_of(&error)), (ErrorKind::Invalid, Code::Error), "{error}");
        assert_eq!(code_of(&esker::Error::invalid("a range that ends before it begins")), Code::Usage);
    }

    #[test]
    fn our_own_errors_carry_their_code_through_context() {
        let error =
            anyhow::Error::new(Stop::not_found("no key \"a\"").hint("look with `esker scan`")).context("get");
        assert_eq!(Told::of(&error).code, Code::NotFound);
        assert_eq!(Told::of(&error).text(), "error: get: no key \"a\"\nhint: look with `esker scan`\n");
    }
}
