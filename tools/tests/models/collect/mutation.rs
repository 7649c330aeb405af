//! The mistakes that the model of collection beside writers, pins and checkpoints must notice.
//!
//! Each breaks a promise:
//!
//! - a pin that is counted on names no deleted SST: `PinsBeforeFloor`, `PinsIgnored`, `NoFloorCheckOfPin`,
//!   `FloorCheckBeforePin`, `ReleasedAtOnce`
//! - a checkpoint that counts names no deleted SST: `CheckpointsBeforePins`, `MissingVersionPassedOver`,
//!   `CheckpointsIgnored`, `CheckpointWithoutPin`, `NoFloorCheckOfCheckpoint`
//! - a version above the floor is there: `DropBeforeFloor`
//! - a version above the floor names no deleted SST: `VersionsBeforePins`, `LatestVersionOnly`
//! - the latest version names no deleted SST: `ByAge`, `EpochInclusive`, `CounterFloorTooHigh`, `CommitUnfenced`
//! - a name is given out once: `EpochReused`
//! - a reader that believes in its pin finds every SST: `LapsedGoesOn`

/// A mistake that the model must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutation {
    /// The collector lists pins before it raises the floor.
    PinsBeforeFloor,
    /// The collector lists checkpoints before pins.
    CheckpointsBeforePins,
    /// The collector drops versions before it raises the floor.
    DropBeforeFloor,
    /// The collector reads the versions when it chooses F, the epoch and the counter floor after the pins.
    VersionsBeforePins,
    /// The collector looks at the latest version only.
    LatestVersionOnly,
    /// The collector goes over a version that another pass has dropped.
    MissingVersionPassedOver,
    /// The collector does not look at pins.
    PinsIgnored,
    /// The collector does not look at checkpoints.
    CheckpointsIgnored,
    /// What nothing names is deleted, whoever may still publish it.
    ByAge,
    /// SSTs of the current epoch are settled.
    EpochInclusive,
    /// The counter floor is committed above what is undecided.
    CounterFloorTooHigh,
    /// A commit does not look at the epoch.
    CommitUnfenced,
    /// A writer takes the epoch of the one before it in the names it gives.
    EpochReused,
    /// A reader does not look at the floor once its pin is written.
    NoFloorCheckOfPin,
    /// The floor is looked at before the pin is written, and not after.
    FloorCheckBeforePin,
    /// The pin is released when the scan begins.
    ReleasedAtOnce,
    /// A reader whose pin has lapsed goes on.
    LapsedGoesOn,
    /// A checkpoint is made without a pin.
    CheckpointWithoutPin,
    /// A maker whose pin has lapsed does not look at the floor once the checkpoint is there.
    NoFloorCheckOfCheckpoint,
}

/// Those that walks by chance find.
pub(super) const MUTATIONS: [Mutation; 15] = [
    Mutation::DropBeforeFloor,
    Mutation::VersionsBeforePins,
    Mutation::LatestVersionOnly,
    Mutation::PinsIgnored,
    Mutation::CheckpointsIgnored,
    Mutation::ByAge,
    Mutation::EpochInclusive,
    Mutation::CounterFloorTooHigh,
    Mutation::CommitUnfenced,
    Mutation::EpochReused,
    Mutation::NoFloorCheckOfPin,
    Mutation::FloorCheckBeforePin,
    Mutation::ReleasedAtOnce,
    Mutation::LapsedGoesOn,
    Mutation::CheckpointWithoutPin,
];
