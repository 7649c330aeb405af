//! Counters: every request has a cause and a price.
use std::sync::Arc;
/// Why a request was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause { Open, Manifest, Wal, Flush, Compact, Read, Poll, Gc, Probe, Admin }
/// What kind of request it was, as the store bills it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RequestKind { Put, Get, List, Delete }
impl Cause { pub const ALL: [Cause; 10] = [Cause::Open, Cause::Manifest, Cause::Wal, Cause::Flush, Cause::Compact, Cause::Read, Cause::Poll, Cause::Gc, Cause::Probe, Cause::Admin]; pub fn as_str(self) -> &'static str { todo!() } }
impl RequestKind { pub const ALL: [RequestKind; 4] = [RequestKind::Put, RequestKind::Get, RequestKind::List, RequestKind::Delete]; pub fn as_str(self) -> &'static str { todo!() } }
/// Live counters of one store handle; plain atomics.
#[derive(Debug, Default)]
pub struct Stats {}
impl Stats {
    pub fn request(&self, kind: RequestKind, cause: Cause, bytes: u64) { todo!() }
    /// An attempt that failed (it is also counted as a request).
    pub fn failure(&self, kind: RequestKind, cause: Cause) { todo!() }
    pub fn snapshot(&self) -> StatsSnapshot { todo!() }
}
/// The counters at one moment. Subtract two to get an interval.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatsSnapshot { pub requests: Vec<RequestCount> }
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestCount { pub kind: RequestKind, pub cause: Cause, pub requests: u64, pub failures: u64, pub bytes: u64 }
impl StatsSnapshot {
    pub fn since(&self, earlier: &StatsSnapshot) -> StatsSnapshot { todo!() }
    pub fn count(&self, kind: RequestKind, cause: Cause) -> RequestCount { todo!() }
    pub fn total(&self, kind: RequestKind) -> u64 { todo!() }
    pub fn dollars(&self, prices: &Prices) -> f64 { todo!() }
}
/// What a store charges. S3 standard by default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prices { pub put_per_1000: f64, pub get_per_1000: f64, pub list_per_1000: f64, pub delete_per_1000: f64 }
