//! Hostile bytes on the stable toolchain: mutated objects for every target of `esker::testing::hostile`, a
//! sweep of damage over a whole small database, and what either of them once found.

pub(crate) mod allocator;
mod database;
mod found;
mod mutation;
mod sweep;
mod swaps;
mod targets;
