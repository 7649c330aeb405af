//! The mistakes that the model of the commit rule must notice.
//!
//! Each breaks a promise:
//!
//! - what was reported as committed is in the chain: `NoVerify`, `PredecessorForFloor`, `RingWithoutToken`
//! - what was reported as not committed is not in the chain: `VerdictByErrorKind`, `RefusalAfterSending`,
//!   `DefeatWhileAbsent`, `OtherBytes`, `RingIgnored`, `ShortRingBelieved`
//! - what is believed is in the chain: `FloorIgnored`, `FloorBeforeGet`
//! - what lies above the floor is of the chain: `DeleteBeforeFloor`, `FloorGoesBack`
//! - the latest is there, above the floor: `LatestCollected`

/// A mistake that the model must notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutation {
    /// A create that succeeded is taken for a commit.
    NoVerify,
    /// Instead of the floor: is the version before it still there, with the bytes it builds on?
    PredecessorForFloor,
    /// "It exists already" is taken for a defeat, and the bytes in the slot are not read.
    VerdictByErrorKind,
    /// "Refused" is taken for a defeat although the same bytes were sent before.
    RefusalAfterSending,
    /// Defeat is reported while nothing is in the slot.
    DefeatWhileAbsent,
    /// Nothing is in the slot: other bytes are offered for it, and the first are forgotten.
    OtherBytes,
    /// Whoever finds another's bytes in its slot does not look at the ring.
    RingIgnored,
    /// A ring that does not reach back as far is taken for a defeat.
    ShortRingBelieved,
    /// The ring lists the slot, which is enough: the token is not compared.
    RingWithoutToken,
    /// A version is believed whatever the floor is.
    FloorIgnored,
    /// The floor is read before the version, not after it.
    FloorBeforeGet,
    /// The collector deletes before it raises the floor.
    DeleteBeforeFloor,
    /// The mark written last is the floor, not the highest.
    FloorGoesBack,
    /// The collector raises the floor over the latest.
    LatestCollected,
}

pub(super) const MUTATIONS: [Mutation; 14] = [
    Mutation::NoVerify,
    Mutation::PredecessorForFloor,
    Mutation::VerdictByErrorKind,
    Mutation::RefusalAfterSending,
    Mutation::DefeatWhileAbsent,
    Mutation::OtherBytes,
    Mutation::RingIgnored,
    Mutation::ShortRingBelieved,
    Mutation::RingWithoutToken,
    Mutation::FloorIgnored,
    Mutation::FloorBeforeGet,
    Mutation::DeleteBeforeFloor,
    Mutation::FloorGoesBack,
    Mutation::LatestCollected,
];
