//! Nothing yet, to be written in this very change.
