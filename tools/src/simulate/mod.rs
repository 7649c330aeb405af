//! The deterministic simulator: its oracles.
#![allow(dead_code, reason = "the world that calls the oracles is being written beside them")]

mod failure;
mod history;
mod invariants;
mod linear;
mod merge;
mod model;
mod order;
mod walk;

#[cfg(test)]
mod tests;
