//! Tests that need private parts of the store floor.

mod names;
mod probe;
mod url;
