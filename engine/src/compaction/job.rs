//! A job: reads inputs by big ranges, merges, uploads outputs.
use std::sync::Arc;
use crate::{compaction::plan::Plan, codec::sum::Sum, error::Result, manifest::View, sst::SstMeta, store::Store, key::Seq};
#[derive(Debug)]
pub struct Output { pub ssts: Vec<SstMeta>, pub dropped: Sum, pub stats: JobStats }
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct JobStats { pub read_bytes: u64, pub written_bytes: u64, pub read_entries: u64, pub written_entries: u64, pub dropped_entries: u64 }
