//! The loser tree over all sources.
