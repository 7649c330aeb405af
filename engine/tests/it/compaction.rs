//! Compaction: what is picked, what a merge makes of it, whose turn it is, and what is collected.

mod collecting;
mod fixture;
mod holding;
mod jobs;
mod merging;
mod picking;
mod records;
mod roles;
mod tree;
