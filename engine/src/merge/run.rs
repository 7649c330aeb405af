//! A cursor over one sorted run.
