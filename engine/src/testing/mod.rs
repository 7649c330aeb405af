//! For tests, ours and yours: stores that fail on purpose, and a real server to fail against.
//!
//! Always true: nothing here is used by the engine itself; everything takes its clock and its seed as
//! arguments, so that a failing run can be run again.

pub mod faulty_store;
pub mod minio;
pub mod sim_clock;

pub use faulty_store::{Fault, FaultyStore, Operation, Rule};
pub use minio::Minio;
pub use sim_clock::{SimClock, single_threaded};

pub use crate::chaos::Storm;
