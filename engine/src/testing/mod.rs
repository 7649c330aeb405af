//! For tests, ours and yours: stores that fail on purpose, hostile bytes, and a real server to fail against.
//!
//! | to attack | use |
//! |---|---|
//! | code that takes an `ObjectStore`, or a [`Db`](crate::Db) | [`FaultyStore`] around its store |
//! | a whole program, in any language, that speaks S3 | `FaultProxy` in front of its server (cargo feature `testing-proxy`) |
//!
//! Both follow [`Rule`]s, built or read from [text](rule_text). An application of one's own, attacked:
//!
//! ```
//! use esker::{Db, ErrorKind, clock::SystemClock, testing::{FaultyStore, parse_rules}};
//! use std::sync::Arc;
//!
//! /// The application: it counts visits.
//! async fn visit(db: &Db) -> esker::Result<u64> {
//!     let seen = db.get("visits").await?.and_then(|n| std::str::from_utf8(&n).ok()?.parse().ok()).unwrap_or(0);
//!     db.put("visits", (seen + 1).to_string()).await?;
//!     Ok(seen + 1)
//! }
//!
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
//! let clock = SystemClock::shared();
//! let faulty = FaultyStore::memory(clock.clone(), 7);
//! let db = Db::builder("memory://visits").object_store(Arc::new(faulty.clone())).open().await?;
//! // From here on one answer in three to a PUT is lost, and one request in five fails.
//! for rule in parse_rules("put chance=0.3 -> drop_reply\nany chance=0.2 -> status=503")? {
//!     faulty.add(rule);
//! }
//! for n in 1..=5 {
//!     assert_eq!(visit(&db).await?, n, "a visit was counted twice, or not at all");
//! }
//! faulty.clear();
//! db.close().await?;
//! # Ok::<(), esker::Error>(()) }).unwrap();
//! ```
//!
//! Always true: nothing here is used by the engine itself; everything takes its clock and its seed as
//! arguments, so that a failing run can be run again.

#[cfg(feature = "testing-proxy")]
pub mod fault_proxy;
pub mod faulty_store;
pub mod hostile;
#[cfg(feature = "testing-proxy")]
mod http;
pub mod minio;
pub mod rule;
pub mod rule_text;
#[cfg(feature = "testing-proxy")]
mod s3;
mod script;
pub mod sim_clock;

#[cfg(feature = "testing-proxy")]
pub use fault_proxy::FaultProxy;
pub use faulty_store::FaultyStore;
pub use minio::Minio;
pub use rule::{Fault, Latency, Operation, Rule};
pub use rule_text::parse_rules;
pub use sim_clock::{SimClock, single_threaded};

pub use crate::chaos::Storm;
