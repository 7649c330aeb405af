//! Verifying: is what is stored what was written, and does it fit together?
//!
//! ```text
//! survey   every version, pin and checkpoint: decodes, follows the one before, names what is there
//! sst      one SST: every checksum, the order, the filter, every count and sum; block by block
//! order    the newest version across runs: newer runs hold newer versions of a key, no number twice
//! log      every object of the log, and that the walk over it misses none
//! lost     what is there and no version knows of: a newer one is missing
//! jobs     every record of the job log
//! look     survey, log, lost and jobs, again if others changed something under it
//! read     every SST, and the order; judged by a look that comes after it
//! scrub    a look and every SST, again and again, slowly, from where it stopped; no order and orphans
//! ```
//!
//! What is found is data ([`Finding`]), so that a service can call this as well as a person. A read that failed is
//! made once more before it is believed: what only the first read saw was on the way, not in the store.
//!
//! Always true: nothing is ever written but a pin on the version that is read, once that has lasted; memory does not grow with the database but for the list of its SSTs; what
//! a writer, a compactor or a collection at work could make look wrong is looked at again before it is reported.

mod jobs;
pub mod log;
mod look;
pub(crate) mod lost;
mod order;
mod pace;
mod read;
pub mod scrub;
pub mod sst;
pub mod survey;

use std::fmt;

pub use pace::Pace;
pub use scrub::{Place, Scrub, Stepped};
pub use survey::Survey;

use crate::{
    compaction::{Collected, collect},
    error::{Error, ErrorKind, Result},
    store::{Name, Store},
    verify::{look::Looked, read::Read},
};

/// More findings than this are counted and not kept.
pub const MAX_FINDINGS: usize = 10_000;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; nothing that the newest version needs is touched by it.
    Notice,
    /// A loss that a repair has marked: reads of it fail, and everything else is whole.
    Hole,
    /// Stored bytes are not what they must be.
    Damage,
}

impl Severity {
    /// As one lower-case word, for logs and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Hole => "hole",
            Self::Damage => "damage",
        }
    }
}

/// Something that is not as it must be, or is worth knowing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Which object.
    pub object: Name,
    /// The byte in it, where one is known.
    pub offset: Option<u64>,
    /// What is wrong: a sentence without a full stop.
    pub what: String,
    /// Whether it is damage that only superseded versions are touched by, and therefore a notice.
    pub is_superseded: bool,
}

impl Finding {
    /// Damage of `object`.
    pub fn damage(object: Name, what: impl Into<String>) -> Self {
        Self { severity: Severity::Damage, object, offset: None, what: what.into(), is_superseded: false }
    }
    /// Something worth knowing about `object`.
    pub fn notice(object: Name, what: impl Into<String>) -> Self {
        Self { severity: Severity::Notice, ..Self::damage(object, what) }
    }

    /// The finding that an error about stored bytes is; `object` if it names none. Any other error is no finding,
    /// and comes back: a store that does not answer, a format of a newer version.
    pub fn of(object: &Name, error: Error) -> Result<Self> {
        if error.kind() != ErrorKind::Corruption {
            return Err(error);
        }
        let text = error.sentence();
        let what = match (error.object(), error.offset()) {
            (Some(object), Some(offset)) => text.replace(&format!(" (in {object} at byte {offset})"), ""),
            (Some(object), None) => text.replace(&format!(" (in {object})"), ""),
            _ => text,
        };
        Ok(Self {
            severity: Severity::Damage,
            object: error.object().and_then(Name::parse).unwrap_or_else(|| object.clone()),
            offset: error.offset(),
            what,
            is_superseded: false,
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offset {
            Some(offset) => write!(f, "{} at byte {offset}: {}", self.object, self.what),
            None => write!(f, "{}: {}", self.object, self.what),
        }
    }
}

/// How to verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyOptions {
    /// References and sizes only: no SST is read, and of the log only what may be a FENCE.
    pub quick: bool,
    /// How many SSTs are read at a time (default 2). Each holds its tail and about a MiB of blocks.
    pub parallel: usize,
    /// At most so many bytes of SSTs a second; `None` is as fast as the store gives.
    pub bytes_per_second: Option<u64>,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self { quick: false, parallel: 2, bytes_per_second: None }
    }
}

/// What was looked at, and what was found.
#[derive(Debug, Default)]
pub struct Report {
    /// What was found, at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub more: u64,
    /// Versions looked at.
    pub versions: u64,
    /// SSTs that some version, pin or checkpoint names.
    pub ssts: u64,
    /// Bytes of SSTs that were read.
    pub sst_bytes: u64,
    /// Entries that those SSTs hold.
    pub entries: u64,
    /// Pins and checkpoints.
    pub copies: u64,
    /// Objects of the log.
    pub wal_objects: u64,
    /// Records of the compaction job log.
    pub job_records: u64,
    /// What nothing names.
    pub orphans: Vec<(Name, u64)>,
    /// What a collection would take now; `None` if that cannot be foretold, because something is damaged or
    /// another collection is at work.
    pub garbage: Option<Collected>,
}

impl Report {
    /// Files a finding.
    pub fn add(&mut self, finding: Finding) {
        // The first are the ones to read; damage is never crowded out by notices.
        if self.findings.len() < MAX_FINDINGS
            || finding.severity == Severity::Damage && self.damage().count() < MAX_FINDINGS
        {
            self.findings.push(finding);
        } else {
            self.more += 1;
        }
    }

    /// The findings that are damage.
    pub fn damage(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Damage)
    }

    /// Whether nothing is damaged (marked holes are not counted).
    pub fn is_whole(&self) -> bool {
        self.damage().next().is_none()
    }
}

/// Called now and then: bytes of SSTs read so far, and how many there are to read.
pub type Progress<'a> = &'a (dyn Fn(u64, u64) + Sync);

/// Verifies the database in `store`. Safe beside writers, compactors and collections.
///
/// A full check that outlives half the time for which versions are kept pins the one it reads, as long reads do. Where it may not
/// write it goes on without, and says nothing of what is collected under it, but that the order across runs was not checked.
///
/// Damage is in the report. Fails with `Invalid` if there is no database, and as the store does.
pub async fn verify(store: &Store, options: &VerifyOptions, progress: Progress<'_>) -> Result<Report> {
    let mut looked = Looked::at(store, options.quick).await?;
    let mut read = Read::default();
    if let Some(found) = looked.found.as_ref().filter(|_| !options.quick) {
        read.all(found, options, progress).await?;
        if !looked.is_current(store).await? {
            looked = Looked::at(store, options.quick).await?;
        }
    }
    let Looked { mut report, found, .. } = looked;
    let Some((manifest, survey)) = found else { return Ok(report) };
    read.file(&survey, &mut report);
    if report.is_whole() {
        // What a collection would do can be foretold only of a database that is whole.
        report.garbage = match collect::collect(&manifest, None, true).await {
            Ok(collected) => Some(collected),
            Err(error) if error.kind() == ErrorKind::Conflict => None,
            Err(error) => return Err(error),
        };
    }
    Ok(report)
}
