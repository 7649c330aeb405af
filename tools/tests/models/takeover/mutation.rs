//! The mistakes that the model of compactors that take over from one another must notice.
//!
//! Each breaks a promise:
//!
//! - a version that exists names no deleted SST: `EpochFromTheRoot`, `RootBeforeLog`, `LatestVersionOnly`,
//!   `FloorOnlyBeforeTheList`, `FloorOnlyAfterTheRecords`, `VoidDoneCounts`, `LogIgnored`, `ReadBeforeTakeover`,
//!   `VoidTakeoverGoesOn`, `NoFloorCheck`, `AdoptWithoutRecord`, `VoidJobAdopted`, `DoneJobAdopted`,
//!   `DoneBeforeCommit`, `FloorOverTakeover`, `FloorBeforeRecord`, `CountersBeforeDone`, `CommitUnfenced`

/// A mistake that the model must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutation {
    /// The collector takes the newest epoch from the manifest and not from the log.
    EpochFromTheRoot,
    /// The collector reads the manifest before the job log.
    RootBeforeLog,
    /// The collector looks at the latest version only.
    LatestVersionOnly,
    /// The collector reads floor/job once, before it lists the log.
    FloorOnlyBeforeTheList,
    /// The collector reads floor/job once, after it has read the log.
    FloorOnlyAfterTheRecords,
    /// The collector counts a Done of an epoch that a Takeover has superseded.
    VoidDoneCounts,
    /// The collector does not look at the job log.
    LogIgnored,
    /// An adopter reads the log before its Takeover is in it.
    ReadBeforeTakeover,
    /// A Takeover behind that of a newer epoch goes on as if it counted.
    VoidTakeoverGoesOn,
    /// An adopter does not look at floor/job once its own Job is in the log.
    NoFloorCheck,
    /// An adopter commits outputs that no record of its own names.
    AdoptWithoutRecord,
    /// An adopter believes records of superseded epochs.
    VoidJobAdopted,
    /// An adopter believes jobs that have a Done.
    DoneJobAdopted,
    /// A Done is appended before the commit.
    DoneBeforeCommit,
    /// floor/job is raised above the own Takeover.
    FloorOverTakeover,
    /// floor/job is raised before the own Job names what is adopted.
    FloorBeforeRecord,
    /// The counter floor goes over a job that was given up and has no Done.
    CountersBeforeDone,
    /// A commit does not look at the epoch.
    CommitUnfenced,
}

pub(super) const MUTATIONS: [Mutation; 17] = [
    Mutation::EpochFromTheRoot,
    Mutation::RootBeforeLog,
    Mutation::LatestVersionOnly,
    Mutation::FloorOnlyBeforeTheList,
    Mutation::FloorOnlyAfterTheRecords,
    Mutation::VoidDoneCounts,
    Mutation::LogIgnored,
    Mutation::ReadBeforeTakeover,
    Mutation::VoidTakeoverGoesOn,
    Mutation::NoFloorCheck,
    Mutation::AdoptWithoutRecord,
    Mutation::VoidJobAdopted,
    Mutation::DoneJobAdopted,
    Mutation::DoneBeforeCommit,
    Mutation::FloorOverTakeover,
    Mutation::FloorBeforeRecord,
    Mutation::CommitUnfenced,
];
