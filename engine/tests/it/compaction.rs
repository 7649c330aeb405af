//! Tests of compaction.
