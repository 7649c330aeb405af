//! Reading again what did not check: a bit that flipped on the way is not one that flipped at rest.
//!
//! ```text
//! read, check ── sound ──► done
//!      │ Corruption
//!      ▼
//! wait, read, check ── sound ──► done, and nobody needs to know
//!      │ Corruption, twice
//!      ▼
//! Corruption: object, offset, and that it was read three times
//! ```
//!
//! Networks and proxies cut answers short, flip bits and mix answers up; the checksums notice, and only reading
//! again tells whether the object is damaged or the answer was (faults F10, F11, §4.5 rung 1).
//!
//! Always true: bytes that check at first cost nothing extra; an object that is missing is not asked for again;
//! every read is an ordinary request, with its retries and its meter.

use std::future::Future;

use super::{Name, Store, is_missing, retry::Failure};
use crate::{
    chaos,
    error::{Error, ErrorKind, Result},
};

/// How often bytes that do not check are read before they are called corrupt.
pub const READS: u32 = 3;

impl Store {
    /// What `read` makes of the object `name`: it fetches, and checks and decodes what comes. As long as it fails
    /// with `Corruption` it is called again, [`READS`] times in all, with the usual pauses; then it is `Corruption`
    /// that names the object and an offset, and says how often it was read.
    pub async fn reread<T, F, Fut>(&self, name: &Name, mut read: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        let mut error = match read().await {
            Err(error) if may_pass(&error) => error,
            done => return done,
        };
        let mut patience = self.patience("GET", &name.path());
        let mut reads = 1;
        while reads < READS && patience.pause_after(&Failure::failed("bytes that do not check")).await {
            tracing::debug!(%error, reads, "what was read does not check; reading it again");
            chaos::mark("bytes that do not check are read again");
            reads += 1;
            match read().await {
                Err(again) if may_pass(&again) => error = again,
                done => return done,
            }
        }
        Err(after(error, name, reads))
    }
}

/// Whether another read may find it sound.
fn may_pass(error: &Error) -> bool {
    error.kind() == ErrorKind::Corruption && !is_missing(error)
}

/// The error of an object that was read `reads` times.
fn after(error: Error, name: &Name, reads: u32) -> Error {
    let error = match (error.object(), error.offset()) {
        (Some(_), Some(_)) => error,
        (object, offset) => {
            let (object, offset) = (object.map_or_else(|| name.path(), str::to_owned), offset.unwrap_or(0));
            error.at(object, offset)
        }
    };
    let hint = match error.hint_text() {
        Some(hint) => format!("it was read {reads} times, and was never right; {hint}"),
        None => format!(
            "it was read {reads} times, and was never right; `esker verify` lists what is damaged, `esker repair` says what can be done"
        ),
    };
    error.hint(hint)
}
