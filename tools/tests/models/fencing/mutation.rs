//! The mistakes that the model of writers that fence one another must notice.
//!
//! Each breaks a promise:
//!
//! - what was acknowledged is in SSTs or replayed: `FencesCollected`, `ReplayPointCollected`,
//!   `AnothersTakenForOwnWrite`, `AcknowledgedOutOfOrder`, `AcknowledgedOnTimeout`, `ReplayPointAhead`
//! - what an opener did not see never comes back: `NoJump`
//! - only a newer epoch fences: `ShortJump`, `NewerEpochIgnored`, `OwnFenceTakenForAnothers`,
//!   `OwnWriteTakenForAnothers`
//! - nothing is taken for lost: `WindowOverrun`, `DurableWhenSent`, `AnythingBehindIsAHole`, `BoundaryAtTheTail`
//! - void slots are never replayed: `NotValidated`, `FlushUnfenced`
//! - once an opener runs, older epochs acknowledge only what it replayed: `AnothersTakenForOwnFence`
//! - a strong read shows what was there before it: `TailTrusted`, `VersionBeforeWalk`

/// A mistake that the model must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutation {
    /// Collection takes FENCE objects too.
    FencesCollected,
    /// Collection takes the object at the replay point.
    ReplayPointCollected,
    /// A FENCE leads to the next slot.
    NoJump,
    /// A FENCE at f leads to f+K-1.
    ShortJump,
    /// K+1 writes are in flight.
    WindowOverrun,
    /// An opener walks on over objects of a newer epoch.
    NewerEpochIgnored,
    /// An opener does not look at its epoch once its FENCE is there.
    NotValidated,
    /// An opener whose FENCE is there already takes it for another's, and gives up.
    OwnFenceTakenForAnothers,
    /// An opener takes whatever lies in its slot for its FENCE.
    AnothersTakenForOwnFence,
    /// A writer whose write is there already takes it for another's, and gives up.
    OwnWriteTakenForAnothers,
    /// A writer takes whatever lies in its slot for its write.
    AnothersTakenForOwnWrite,
    /// A write is acknowledged as soon as it is in its slot.
    AcknowledgedOutOfOrder,
    /// A write is acknowledged when no answer comes.
    AcknowledgedOnTimeout,
    /// A flush commits the slot of the next write as replay point, whatever has landed.
    ReplayPointAhead,
    /// A flush does not look at the epoch.
    FlushUnfenced,
    /// An object says that all before it was durable, when it was only sent.
    DurableWhenSent,
    /// An opener takes anything behind an absent slot for the sign of a hole.
    AnythingBehindIsAHole,
    /// A reader trusts an absent slot, and does not look at the manifest.
    TailTrusted,
    /// A reader asks only whether the replay point has passed the end of its walk.
    BoundaryAtTheTail,
    /// A reader takes the newest version before it walks, not after.
    VersionBeforeWalk,
}

/// Those that walks by chance find.
pub(super) const MUTATIONS: [Mutation; 19] = [
    Mutation::FencesCollected,
    Mutation::ReplayPointCollected,
    Mutation::NoJump,
    Mutation::ShortJump,
    Mutation::WindowOverrun,
    Mutation::NewerEpochIgnored,
    Mutation::NotValidated,
    Mutation::OwnFenceTakenForAnothers,
    Mutation::AnothersTakenForOwnFence,
    Mutation::OwnWriteTakenForAnothers,
    Mutation::AnothersTakenForOwnWrite,
    Mutation::AcknowledgedOutOfOrder,
    Mutation::AcknowledgedOnTimeout,
    Mutation::ReplayPointAhead,
    Mutation::FlushUnfenced,
    Mutation::DurableWhenSent,
    Mutation::AnythingBehindIsAHole,
    Mutation::TailTrusted,
    Mutation::VersionBeforeWalk,
];
