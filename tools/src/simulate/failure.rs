//! A broken rule: which, how, and which operations and keys show it.

use std::fmt;

use super::history::{Key, OpId};

/// What an oracle found wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// The rule, as a sentence without a full stop. It is always the same for the same rule, so that a
    /// shortened run is known to fail in the same way.
    pub(crate) rule: &'static str,
    /// How it was broken, with names and numbers.
    pub(crate) detail: String,
    /// The operations that show it.
    pub(crate) operations: Vec<OpId>,
    /// The keys concerned.
    pub(crate) keys: Vec<Key>,
}

impl Failure {
    /// `rule` is broken, as `detail` says.
    pub(crate) fn new(rule: &'static str, detail: impl Into<String>) -> Self {
        Self { rule, detail: detail.into(), operations: Vec::new(), keys: Vec::new() }
    }

    /// With the operations that show it.
    pub(crate) fn by(mut self, operations: impl IntoIterator<Item = OpId>) -> Self {
        self.operations.extend(operations);
        self
    }

    /// With the keys concerned.
    pub(crate) fn on<'a>(mut self, keys: impl IntoIterator<Item = &'a Key>) -> Self {
        self.keys.extend(keys.into_iter().cloned());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.detail)
    }
}
