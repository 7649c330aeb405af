//! Trying again: what an answer of the store means, how long to wait, and when to stop.
//!
//! ```text
//! answer                                  is          then
//! 404                                     Missing     the caller decides (a 404 is often the good news)
//! 412, 409, 304, "already exists"         Contested   the caller looks into the slot
//! 401, 403, no bucket, redirect, other 4xx,
//!   unsupported, read-only or full disk   Refused     stop: asking again does not help
//! a body of the wrong length              WrongLength twice more, then Corruption
//! 5xx, 408, 429, timeout, no connection   Failed      wait 50 ms to 2 s with jitter, until the deadline
//! ```
//!
//! Always true: no verdict about what is stored comes from this table; only the decision whether to
//! ask again, and the words of the error. Texts of stores are trimmed and secrets struck out before
//! they are shown.

use std::{error::Error as _, fmt, io, sync::atomic::Ordering, time::Duration};

use super::{ATTEMPT_LIMIT, Place, transfer_time};
use crate::error::{Error, ErrorKind, Result};

const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How long an unreachable store is tried that has never answered: most likely the address is wrong.
const FIRST_CONTACT: Duration = Duration::from_secs(5);
/// How often a body of the wrong length is fetched before it is called corrupt.
const LENGTH_ATTEMPTS: u32 = 3;
/// How the answers of the local file system begin.
const LOCAL: &str = "Generic LocalFileSystem error";
/// How much of a store's own words is shown.
const LONGEST_ANSWER: usize = 300;

/// Why an attempt did not give what was asked for.
#[derive(Debug, Clone)]
pub(super) enum Failure {
    /// There is no such object.
    Missing,
    /// The condition did not hold, or so the store says.
    Contested,
    /// Asking again does not help.
    Refused { kind: ErrorKind, sentence: &'static str, hint: &'static str, answer: String },
    /// The body has not the length it should have.
    WrongLength { got: u64, wanted: u64 },
    /// The object is larger than any of its kind; its body was not read.
    TooLarge,
    /// Asking again may help.
    Failed { answer: String, unreachable: bool },
}

impl Failure {
    /// A failure that asking again may mend.
    pub(super) fn failed(answer: impl Into<String>) -> Self {
        Self::Failed { answer: answer.into(), unreachable: false }
    }

    /// Whether the local file system says no for good: nothing was written, and nothing is on its way.
    pub(super) fn is_of_disk(&self) -> bool {
        matches!(self, Self::Refused { answer, .. } if answer.starts_with(LOCAL))
    }

    /// Whether the store did its work and this is what it had to say.
    pub(super) fn is_an_answer(&self) -> bool {
        matches!(self, Self::Missing | Self::Contested)
    }
}

impl From<object_store::Error> for Failure {
    fn from(error: object_store::Error) -> Self {
        use object_store::Error as E;
        let text = error.to_string();
        let code = between(&text, "<Code>", "</Code>").unwrap_or_default();
        let refused = |kind, sentence, hint| Self::Refused { kind, sentence, hint, answer: summary(&text) };
        if matches!(code, "NoSuchBucket" | "ContainerNotFound") {
            return refused(
                ErrorKind::Invalid,
                "the bucket does not exist",
                "create the bucket first, or check its name, the endpoint and the region",
            );
        }
        match &error {
            E::NotFound { .. } => Self::Missing,
            E::AlreadyExists { .. } | E::Precondition { .. } | E::NotModified { .. } => Self::Contested,
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
                refused(ErrorKind::Invalid, "the store refused access", access_hint(code))
            }
            E::NotSupported { .. } | E::NotImplemented { .. } => refused(
                ErrorKind::Unsupported,
                "the store cannot do what is needed",
                "`esker doctor` says what the store lacks",
            ),
            E::InvalidPath { .. } | E::UnknownConfigurationKey { .. } => refused(
                ErrorKind::Invalid,
                "the store does not take this name",
                "check the prefix in the URL",
            ),
            _ => match disk_fault(&error) {
                Some((kind, sentence, hint)) => refused(kind, sentence, hint),
                None if text.contains("169.254.169.254") || text.contains("169.254.170.2") => refused(
                    ErrorKind::Invalid,
                    "no credentials were found",
                    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or access_key_id and \
                     secret_access_key in the URL, or anonymous=true",
                ),
                None if is_redirect(&text) => refused(
                    ErrorKind::Invalid,
                    "the store answered with a redirect",
                    "the bucket lies in another region or behind another endpoint: set region or endpoint in the URL",
                ),
                None if is_final_status(&text, code) => refused(
                    ErrorKind::Invalid,
                    "the store refused the request",
                    "check bucket, endpoint and region in the URL",
                ),
                None => Self::Failed { answer: summary(&text), unreachable: is_unreachable(&error) },
            },
        }
    }
}

/// One operation being tried: when it began, how often it was tried, and when it ends.
pub(super) struct Patience<'a> {
    place: &'a Place,
    verb: &'static str,
    object: String,
    started: Duration,
    /// `None` is for ever.
    deadline: Option<Duration>,
    attempts: u32,
    wrong_lengths: u32,
}

impl<'a> Patience<'a> {
    /// Begins `verb` (GET, PUT …) on `object`.
    pub(super) fn new(
        place: &'a Place,
        verb: &'static str,
        object: &str,
        deadline: Option<Duration>,
    ) -> Self {
        let started = place.clock.monotonic();
        Self { place, verb, object: object.to_owned(), started, deadline, attempts: 0, wrong_lengths: 0 }
    }

    /// How long one attempt may take that moves `bytes`.
    pub(super) fn attempt_limit(&self, bytes: u64) -> Duration {
        self.deadline.map_or(ATTEMPT_LIMIT, |deadline| deadline.min(ATTEMPT_LIMIT)) + transfer_time(bytes)
    }

    /// Waits before the next attempt; or says why there shall be none.
    pub(super) async fn wait(&mut self, failure: Failure) -> Result<()> {
        self.attempts += 1;
        if let Failure::WrongLength { got, wanted } = failure {
            self.wrong_lengths += 1;
            if self.wrong_lengths >= LENGTH_ATTEMPTS {
                return Err(self.wrong_length(got, wanted));
            }
        }
        if let Failure::Refused { .. } = failure {
            return Err(self.error(failure));
        }
        if !self.pause(&failure).await {
            return Err(self.error(failure));
        }
        Ok(())
    }

    /// The same, for one who must not stop at a refusal because an earlier attempt may still land. For
    /// that reason too it ends with `Unavailable`, whatever the last answer was.
    pub(super) async fn wait_despite_refusal(&mut self, failure: Failure) -> Result<()> {
        self.attempts += 1;
        if self.attempts.is_power_of_two() && self.attempts >= 8 {
            let answer = self.error(failure.clone());
            tracing::warn!(attempts = self.attempts, "still trying: {answer}");
        }
        if !self.pause(&failure).await {
            return Err(self.undecided(failure));
        }
        Ok(())
    }

    /// After an answer that came and is of no use: sleeps before the next attempt; false, without sleeping, if that
    /// would end after the deadline.
    pub(super) async fn pause_after(&mut self, failure: &Failure) -> bool {
        self.attempts += 1;
        self.pause(failure).await
    }

    /// Sleeps with jitter; false, without sleeping, if that would end after the deadline.
    async fn pause(&mut self, failure: &Failure) -> bool {
        let full = (FIRST_WAIT * 2u32.pow((self.attempts - 1).min(8))).min(LONGEST_WAIT);
        let jitter = (self.place.clock.random() as u32) as f64 / f64::from(u32::MAX);
        let pause = full.mul_f64(0.5 + 0.5 * jitter);
        let elapsed = self.place.clock.monotonic().saturating_sub(self.started);
        let first_contact = matches!(failure, Failure::Failed { unreachable: true, .. })
            && !self.place.reached.load(Ordering::Relaxed);
        let deadline = match self.deadline {
            Some(deadline) if first_contact => Some(deadline.min(FIRST_CONTACT)),
            other => other,
        };
        if deadline.is_some_and(|deadline| elapsed + pause > deadline) {
            return false;
        }
        self.place.clock.sleep(pause).await;
        true
    }

    /// The error of an operation that ends with `failure` while an earlier attempt may still land.
    fn undecided(&self, failure: Failure) -> Error {
        let error = self.error(failure);
        if error.kind() == ErrorKind::Unavailable {
            return error;
        }
        Error::unavailable(format!(
            "{} at {} may have been done or not: {} attempts did not tell",
            self.verb, self.place.url, self.attempts
        ))
        .on(&self.object)
        .because(error)
    }

    /// The error that `failure` ends this operation with.
    pub(super) fn error(&self, failure: Failure) -> Error {
        let elapsed = self.place.clock.monotonic().saturating_sub(self.started);
        let gave_up = |why: &str| {
            let seconds = elapsed.as_secs_f64();
            let tried = match self.attempts {
                // They were not counted here.
                0 => String::new(),
                1 => format!(" in 1 attempt over {seconds:.1} s"),
                many => format!(" in {many} attempts over {seconds:.1} s"),
            };
            Error::unavailable(format!("{} at {} did not succeed{tried}", self.verb, self.place.url))
                .on(&self.object)
                .because(Answer(self.place.without_secrets(why)))
        };
        match failure {
            Failure::Refused { kind, sentence, hint, answer } => {
                Error::new(kind, format!("{sentence}: {} at {}", self.verb, self.place.url))
                    .on(&self.object)
                    .because(Answer(self.place.without_secrets(&answer)))
                    .hint(hint)
            }
            Failure::Failed { answer, unreachable: true } => gave_up(&answer)
                .hint("check that the endpoint in the URL is right and can be reached from here"),
            Failure::Failed { answer, unreachable: false } => gave_up(&answer),
            Failure::WrongLength { got, wanted } => self.wrong_length(got, wanted),
            Failure::Missing => gave_up("the object is not there"),
            // Whoever reads whole objects reads the beginning of such a one.
            Failure::TooLarge => gave_up("the object is larger than any of its kind"),
            Failure::Contested => gave_up("the store reports a conflict, yet nothing is there"),
        }
    }

    fn wrong_length(&self, got: u64, wanted: u64) -> Error {
        Error::corruption(
            &self.object,
            got.min(wanted),
            format!("the store sends {got} bytes where {wanted} were announced or asked for"),
        )
        .hint("the object is damaged, or something between here and the store cuts answers short")
    }
}

/// Whether `error` is of kind `Invalid` because a store, and not this library, says no: to whoever asks, to the
/// bucket, to a disk that is read-only.
pub fn is_refused(error: &Error) -> bool {
    let source = std::error::Error::source(error);
    error.kind() == ErrorKind::Invalid && source.is_some_and(|source| source.is::<Answer>())
}

/// Whether `error` is what the local file system says no to for good, a full disk among it: who waits is told at once.
pub(crate) fn is_of_disk(error: &Error) -> bool {
    let answer = std::error::Error::source(error).and_then(|source| source.downcast_ref::<Answer>());
    answer.is_some_and(|answer| answer.0.starts_with(LOCAL))
}

/// What a store said, as the source of an [`Error`].
#[derive(Debug)]
pub(super) struct Answer(pub(super) String);

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Answer {}

fn access_hint(code: &str) -> &'static str {
    match code {
        "InvalidAccessKeyId" => {
            "the access key id is not known there: check AWS_ACCESS_KEY_ID or access_key_id"
        }
        "SignatureDoesNotMatch" => {
            "the secret access key is wrong: check AWS_SECRET_ACCESS_KEY or secret_access_key"
        }
        "RequestTimeTooSkewed" => "the clock of this machine is wrong: set it",
        "ExpiredToken" | "TokenRefreshRequired" => "the session token has expired: fetch new credentials",
        _ => "check the credentials, and that they may list, get, put and delete objects under this prefix",
    }
}

/// What the local file system says no to for good.
fn disk_fault(error: &object_store::Error) -> Option<(ErrorKind, &'static str, &'static str)> {
    if !matches!(error, object_store::Error::Generic { store: "LocalFileSystem", .. }) {
        return None;
    }
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return match io.kind() {
                io::ErrorKind::PermissionDenied => Some((
                    ErrorKind::Invalid,
                    "the file system refused access",
                    "check who owns the directory and its permissions",
                )),
                io::ErrorKind::ReadOnlyFilesystem => Some((
                    ErrorKind::Invalid,
                    "the file system is read-only",
                    "choose a directory that can be written",
                )),
                io::ErrorKind::NotFound if error.to_string().contains("create dir") => Some((
                    ErrorKind::Invalid,
                    "no directory can be made there",
                    "choose a directory on a file system that can be written",
                )),
                io::ErrorKind::NotADirectory => Some((
                    ErrorKind::Invalid,
                    "a file lies where a directory should be",
                    "give the path of a directory",
                )),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    Some((ErrorKind::Unavailable, "the disk is full", "free some space and try again"))
                }
                io::ErrorKind::IsADirectory => Some((
                    ErrorKind::Invalid,
                    "a directory lies where a file should be",
                    "choose a directory in which nothing else is kept",
                )),
                io::ErrorKind::InvalidFilename => Some((
                    ErrorKind::Invalid,
                    "the file system does not take this name",
                    "choose a directory with a shorter path",
                )),
                // Its kind is not stable in the standard library.
                _ if io.to_string().contains("symbolic links") => Some((
                    ErrorKind::Invalid,
                    "the path is a loop of symbolic links",
                    "give the path of a directory",
                )),
                _ => None,
            };
        }
        source = cause.source();
    }
    None
}

fn is_redirect(text: &str) -> bool {
    text.contains("redirect without LOCATION") || matches!(status(text), Some(300..=399))
}

fn is_final_status(text: &str, code: &str) -> bool {
    // S3 says 400 for a token that has expired and for a client that was too slow; both may pass.
    let may_pass = matches!(code, "ExpiredToken" | "RequestTimeout" | "SlowDown");
    matches!(status(text), Some(400..=499))
        && !may_pass
        && !matches!(status(text), Some(408 | 416 | 425 | 429))
}

/// The HTTP status in the words of `object_store`, which keeps it private.
fn status(text: &str) -> Option<u16> {
    text.split_once("non-2xx status code: ")?.1.get(..3)?.parse().ok()
}

#[cfg(any(feature = "s3", feature = "gcs", feature = "azure"))]
fn is_unreachable(error: &object_store::Error) -> bool {
    use object_store::client::{HttpError, HttpErrorKind};
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(http) = cause.downcast_ref::<HttpError>() {
            return http.kind() == HttpErrorKind::Connect;
        }
        source = cause.source();
    }
    false
}

#[cfg(not(any(feature = "s3", feature = "gcs", feature = "azure")))]
fn is_unreachable(_: &object_store::Error) -> bool {
    false
}

/// A store's words, short: code and message of an XML answer, else the text on one line.
pub(super) fn summary(text: &str) -> String {
    let words = match (between(text, "<Code>", "</Code>"), between(text, "<Message>", "</Message>")) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => text.split_whitespace().collect::<Vec<_>>().join(" "),
    };
    match words.char_indices().nth(LONGEST_ANSWER) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words.trim_end_matches('.').to_owned(),
    }
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    Some(text.split_once(open)?.1.split_once(close)?.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;
    use crate::{clock::SystemClock, store::Store};

    #[tokio::test(start_paused = true)]
    async fn attempts_are_told_where_they_were_counted() {
        let store =
            Store::from_object_store(Arc::new(InMemory::new()), "memory://place", SystemClock::shared());
        let mut patience = store.patience("PUT", "DB");
        let told = |patience: &Patience<'_>| patience.error(Failure::Missing).to_string();
        let text = told(&patience);
        assert!(text.contains("PUT at memory://place did not succeed (in DB)"), "{text}");
        for wanted in ["in 1 attempt over", "in 2 attempts over"] {
            assert!(patience.pause_after(&Failure::Missing).await);
            let text = told(&patience);
            assert!(text.contains(wanted), "{text}");
        }
    }
}
