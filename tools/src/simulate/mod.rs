//! The deterministic simulator: its oracles.
#![allow(dead_code, reason = "the world that calls the oracles is being written beside them")]

mod failure;
mod history;
