//! Compaction: shape, plan, job, publish, collect.
pub mod shape; pub mod plan; pub mod job; pub mod publish; pub mod collect;
