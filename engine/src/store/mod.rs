//! The one door to the object store: names, requests, retries, meters. Nothing above names `object_store`.
pub mod names;
pub mod url;
pub mod meter;
pub mod retry;
pub mod fetch;
pub mod sequence;
pub mod probe;
pub use names::{Folder, Name, ObjectId, Role};
pub use sequence::{Sequence, Slot, Token};
use std::{ops::Range, sync::Arc};
use bytes::Bytes;
use object_store::ObjectStore;
use crate::{clock::SharedClock, error::Result, stats::{Cause, Stats}};

/// A database's place in an object store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {}
/// What LIST says of an object.
#[derive(Debug, Clone)]
pub struct Listed { pub name: Name, pub bytes: u64, pub modified_ms: u64 }

impl Store {
    /// Opens by URL: `file:///path`, a plain path, `memory://name`, `s3://bucket/prefix?endpoint=…`, `gs://`, `az://`.
    pub fn open(url: &str, clock: SharedClock) -> Result<Store> { todo!() }
    /// Any `ObjectStore` under `label` (for errors). The tests' way in.
    pub fn from_object_store(store: Arc<dyn ObjectStore>, label: &str, clock: SharedClock) -> Store { todo!() }
    /// The URL without secrets.
    pub fn url(&self) -> &str { todo!() }
    pub fn clock(&self) -> &SharedClock { todo!() }
    pub fn stats(&self) -> &Arc<Stats> { todo!() }
    /// The object's bytes; `None` if it is not there. Length-checked.
    pub async fn get(&self, name: &Name, cause: Cause) -> Result<Option<Bytes>> { todo!() }
    /// Exactly `range` of an object whose size is known; a short or missing answer is Corruption (missing: the object is named).
    pub async fn get_range(&self, name: &Name, range: Range<u64>, cause: Cause) -> Result<Bytes> { todo!() }
    /// Several ranges of one object, coalesced by our own gap, fetched in parallel.
    pub async fn get_ranges(&self, name: &Name, ranges: &[Range<u64>], cause: Cause) -> Result<Vec<Bytes>> { todo!() }
    /// Writes an object under a name never used before; multipart above 64 MiB. Retried with the same bytes.
    pub async fn put_new(&self, name: &Name, body: Vec<Bytes>, cause: Cause) -> Result<()> { todo!() }
    /// Starts a streaming upload of a new object; parts go up while later parts are built.
    pub fn upload(&self, name: &Name, cause: Cause) -> Upload { todo!() }
    /// Everything in `folder`, sorted by name; complete or an error. `after`: only names after it.
    pub async fn list(&self, folder: Folder, after: Option<&Name>, cause: Cause) -> Result<Vec<Listed>> { todo!() }
    /// Deletes; missing objects count as deleted.
    pub async fn delete(&self, names: &[Name], cause: Cause) -> Result<()> { todo!() }
}
/// A streaming upload.
#[derive(Debug)]
pub struct Upload {}
impl Upload {
    /// Hands over bytes. Waits only when the upload is further behind than its window.
    pub async fn write(&mut self, chunks: Vec<Bytes>) -> Result<()> { todo!() }
    /// Completes; the object exists (whole) when this returns Ok. A single PUT if it is small.
    pub async fn finish(self) -> Result<u64> { todo!() }
    pub async fn abort(self) { todo!() }
}
#[cfg(test)]
mod tests;
