//! The same, without async: for threads, scripts and foreign languages.
//!
//! A handle owns a thread with a runtime of its own, on which the engine's tasks and all waiting happen. A call
//! hands its future to that thread and waits for the answer on a plain channel, so it works outside a runtime,
//! and inside one too (where it blocks the thread it is called on, as it says). What is in memory is read
//! without leaving the caller's thread.
//!
//! ```
//! # fn main() -> esker::Result<()> {
//! let db = esker::blocking::Db::open("memory://blocking")?;
//! db.put("k", "v")?;
//! assert_eq!(db.get("k")?.as_deref(), Some(&b"v"[..]));
//! for row in db.scan_prefix("") {
//!     assert_eq!(row?.key, "k");
//! }
//! db.close()
//! # }
//! ```
//!
//! Always true: a call ends when the engine's own deadlines say so; dropping the last handle joins its thread.

use std::{
    fmt,
    future::Future,
    ops::RangeBounds,
    sync::{Arc, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use tokio::{runtime, sync::oneshot};

use crate::{
    clock::blocking_threads,
    db,
    error::{Error, Result},
    key::KeyspaceId,
    range::KeyRange,
    read::{self, Row, Token},
    write::{WriteBatch, batch::In},
};

/// What a runtime that is shut down waits for its CPU work.
const SHUT_DOWN: Duration = Duration::from_secs(5);
/// Rows brought over from the runtime's thread at once: few at first, for those who want only few.
const FIRST_ROWS: usize = 16;
const MOST_ROWS: usize = 4096;
/// But no more bytes of keys and values than this, plus one row.
const MOST_BYTES: usize = 4 << 20;

/// A database opened for writing; see [`crate::Db`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Db {
    // Declared, and so dropped, before the thread that it lives on.
    db: db::Db,
    thread: Arc<Thread>,
}

/// A keyspace; see [`crate::Keyspace`].
#[derive(Debug, Clone)]
pub struct Keyspace {
    keyspace: db::Keyspace,
    thread: Arc<Thread>,
}

/// A reader; see [`crate::Reader`]. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Reader {
    reader: read::Reader,
    thread: Arc<Thread>,
}

/// The rows of a range: an iterator of `Result<Row>` that ends after an error.
#[derive(Debug)]
pub struct Scan {
    scan: Option<read::Scan>,
    ready: std::vec::IntoIter<Row>,
    failed: Option<Error>,
    rows: usize,
    thread: Arc<Thread>,
}

impl Db {
    /// Opens the database at `url`, creating it if there is none; see [`crate::Db::open`].
    pub fn open(url: impl AsRef<str>) -> Result<Db> {
        Self::open_with(db::Db::builder(url))
    }

    /// Opens with options: `blocking::Db::open_with(esker::Db::builder(url).memory_bytes(…))`.
    pub fn open_with(builder: db::Builder) -> Result<Db> {
        let thread = Thread::start()?;
        let db = thread.wait(builder.open())?;
        Ok(Db { db, thread })
    }

    /// Sets `key` to `value`; durable when it returns.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Token> {
        let (db, key, value) = (self.db.clone(), own(key), own(value));
        self.thread.wait(async move { db.put(key, value).await })
    }

    /// Removes `key`; durable when it returns.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<Token> {
        let (db, key) = (self.db.clone(), own(key));
        self.thread.wait(async move { db.delete(key).await })
    }

    /// Applies `batch` as a whole; durable when it returns.
    pub fn write(&self, batch: WriteBatch) -> Result<Token> {
        let db = self.db.clone();
        self.thread.wait(async move { db.write(batch).await })
    }

    /// Applies `batch` as a whole, visible when it returns; [`sync`](Db::sync) makes it durable.
    pub fn write_accepted(&self, batch: WriteBatch) -> Result<Token> {
        let db = self.db.clone();
        self.thread.wait(async move { Ok(db.write(batch).accepted().await?.token()) })
    }

    /// The value of `key`, or `None`. A function call if it is in memory.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        if let Some(answer) = self.db.get_cached(key.as_ref()) {
            return answer;
        }
        let (db, key) = (self.db.clone(), own(key));
        self.thread.wait(async move { db.get(key).await })
    }

    /// The values of many keys, in the order of the keys, read as of one moment.
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Bytes>>> {
        let db = self.db.clone();
        let keys: Vec<_> = keys.into_iter().map(own).collect();
        self.thread.wait(async move { db.multi_get(keys).await })
    }

    /// The rows with a key in `range`, ascending.
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan {
        Scan::new(self.db.scan(range), &self.thread)
    }
    /// The rows whose key begins with `prefix`, ascending.
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Scan {
        Scan::new(self.db.scan_prefix(prefix), &self.thread)
    }
    /// The rows with a key in `range`, ascending.
    pub fn scan_range(&self, range: KeyRange) -> Scan {
        Scan::new(self.db.scan_range(range), &self.thread)
    }

    /// Opens the keyspace `name`, creating it if it is new.
    pub fn keyspace(&self, name: &str) -> Result<Keyspace> {
        let (db, name) = (self.db.clone(), name.to_owned());
        let keyspace = self.thread.wait(async move { db.keyspace(&name).await })?;
        Ok(Keyspace { keyspace, thread: self.thread.clone() })
    }

    /// Makes everything accepted so far durable.
    pub fn sync(&self) -> Result<Token> {
        let db = self.db.clone();
        self.thread.wait(async move { db.sync().await })
    }
    /// Writes the memtable to level 0.
    pub fn flush(&self) -> Result<()> {
        let db = self.db.clone();
        self.thread.wait(async move { db.flush().await })
    }
    /// Keeps everything so far under `name`; see [`crate::Db::checkpoint`].
    pub fn checkpoint(&self, name: &str) -> Result<()> {
        let (db, name) = (self.db.clone(), name.to_owned());
        self.thread.wait(async move { db.checkpoint(&name).await.map(drop) })
    }
    /// The names of all checkpoints.
    pub fn checkpoints(&self) -> Result<Vec<String>> {
        let db = self.db.clone();
        self.thread.wait(async move { db.checkpoints().await })
    }
    /// Deletes a checkpoint; see [`crate::Db::delete_checkpoint`].
    pub fn delete_checkpoint(&self, name: &str) -> Result<()> {
        let (db, name) = (self.db.clone(), name.to_owned());
        self.thread.wait(async move { db.delete_checkpoint(&name).await })
    }
    /// Merges until nothing is due.
    pub fn compact(&self) -> Result<()> {
        let db = self.db.clone();
        self.thread.wait(async move { db.compact().await })
    }
    /// Makes everything durable and stops the background work. Idempotent.
    pub fn close(&self) -> Result<()> {
        let db = self.db.clone();
        self.thread.wait(async move { db.close().await })
    }

    /// The async handle, for what has no blocking form.
    pub fn as_async(&self) -> &db::Db {
        &self.db
    }
}

impl Keyspace {
    /// The keyspace's name.
    pub fn name(&self) -> &str {
        self.keyspace.name()
    }
    /// Sets `key` to `value`; durable when it returns.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Token> {
        let (keyspace, key, value) = (self.keyspace.clone(), own(key), own(value));
        self.thread.wait(async move { keyspace.put(key, value).await })
    }
    /// Removes `key`; durable when it returns.
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<Token> {
        let (keyspace, key) = (self.keyspace.clone(), own(key));
        self.thread.wait(async move { keyspace.delete(key).await })
    }
    /// The value of `key`, or `None`.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        if let Some(answer) = self.keyspace.get_cached(key.as_ref()) {
            return answer;
        }
        let (keyspace, key) = (self.keyspace.clone(), own(key));
        self.thread.wait(async move { keyspace.get(key).await })
    }
    /// The rows with a key in `range`, ascending.
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan {
        Scan::new(self.keyspace.scan(range), &self.thread)
    }
    /// The rows whose key begins with `prefix`, ascending.
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Scan {
        Scan::new(self.keyspace.scan_prefix(prefix), &self.thread)
    }
}

impl Reader {
    /// Opens a reader of the database at `url`; see [`crate::Reader::open`].
    pub fn open(url: impl AsRef<str>) -> Result<Reader> {
        Self::open_with(read::Reader::builder(url))
    }

    /// Opens with options.
    pub fn open_with(builder: read::ReaderBuilder) -> Result<Reader> {
        let thread = Thread::start()?;
        let reader = thread.wait(builder.open())?;
        Ok(Reader { reader, thread })
    }

    /// The value of `key`, or `None`.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        let (reader, key) = (self.reader.clone(), own(key));
        self.thread.wait(async move { reader.get(key).await })
    }
    /// The values of many keys, in the order of the keys, read as of one moment.
    pub fn multi_get<K: AsRef<[u8]>>(&self, keys: impl IntoIterator<Item = K>) -> Result<Vec<Option<Bytes>>> {
        let reader = self.reader.clone();
        let keys: Vec<_> = keys.into_iter().map(own).collect();
        self.thread.wait(async move { reader.multi_get(keys).await })
    }
    /// The rows with a key in `range`, ascending.
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Scan {
        Scan::new(self.reader.scan(range), &self.thread)
    }
    /// The rows whose key begins with `prefix`, ascending.
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Scan {
        Scan::new(self.reader.scan_prefix(prefix), &self.thread)
    }
    /// Waits until the write of `token` is visible here.
    pub fn at_least(&self, token: Token) -> Result<()> {
        let reader = self.reader.clone();
        self.thread.wait(async move { reader.at_least(token).await.map(drop) })
    }
    /// The same reader, looking at the keyspace `name`.
    pub fn keyspace(&self, name: &str) -> Result<Reader> {
        let (reader, name) = (self.reader.clone(), name.to_owned());
        let reader = self.thread.wait(async move { reader.keyspace(&name).await })?;
        Ok(Reader { reader, thread: self.thread.clone() })
    }
}

impl Scan {
    fn new(scan: read::Scan, thread: &Arc<Thread>) -> Self {
        let ready = Vec::new().into_iter();
        Self { scan: Some(scan), ready, failed: None, rows: FIRST_ROWS, thread: thread.clone() }
    }

    /// Descending order. Before the first row only.
    #[must_use]
    pub fn rev(mut self) -> Self {
        self.scan = self.scan.map(read::Scan::rev);
        self
    }
    /// At most `rows` rows. Before the first row only.
    #[must_use]
    pub fn limit(mut self, rows: usize) -> Self {
        self.scan = self.scan.map(|scan| scan.limit(rows));
        self
    }

    /// Brings the next rows over.
    fn fill(&mut self) {
        let Some(mut scan) = self.scan.take() else { return };
        let want = self.rows;
        self.rows = (want * 4).min(MOST_ROWS);
        let brought = self.thread.wait(async move {
            let mut rows = Vec::with_capacity(want);
            let mut bytes = 0;
            let end = loop {
                match scan.next().await {
                    Ok(Some(row)) => {
                        bytes += row.key.len() + row.value.len();
                        rows.push(row);
                    }
                    Ok(None) => break Ok(None),
                    Err(error) => break Err(error),
                }
                if rows.len() == want || bytes >= MOST_BYTES {
                    break Ok(Some(scan));
                }
            };
            Ok((rows, end))
        });
        match brought {
            Ok((rows, end)) => {
                self.ready = rows.into_iter();
                match end {
                    Ok(more) => self.scan = more,
                    Err(error) => self.failed = Some(error),
                }
            }
            Err(error) => self.failed = Some(error),
        }
    }
}

impl Iterator for Scan {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Result<Row>> {
        if self.ready.len() == 0 && self.failed.is_none() {
            self.fill();
        }
        self.ready.next().map(Ok).or_else(|| self.failed.take().map(Err))
    }
}

impl In for Db {
    fn keyspace_id(&self) -> KeyspaceId {
        self.db.keyspace_id()
    }
}

impl In for Keyspace {
    fn keyspace_id(&self) -> KeyspaceId {
        self.keyspace.keyspace_id()
    }
}

/// A thread with a runtime, on which everything that waits is done.
struct Thread {
    runtime: runtime::Handle,
    /// Dropped to end the thread.
    stop: Option<oneshot::Sender<()>>,
    joined: Option<JoinHandle<()>>,
}

impl Thread {
    fn start() -> Result<Arc<Self>> {
        let failed = |error: std::io::Error| {
            Error::unavailable("the thread of a blocking handle could not be started").because(error)
        };
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(blocking_threads())
            .build()
            .map_err(failed)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let joined = std::thread::Builder::new()
            .name("esker".to_owned())
            .spawn(move || {
                // An error means that the sender was dropped, which is the signal.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_timeout(SHUT_DOWN);
            })
            .map_err(failed)?;
        Ok(Arc::new(Self { runtime: handle, stop: Some(stop), joined: Some(joined) }))
    }

    /// Runs `future` on the thread and waits for what it gives.
    fn wait<T: Send + 'static>(&self, future: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
        let (answer, answered) = mpsc::sync_channel(1);
        let running = self.runtime.spawn(async move {
            // Whoever waits cannot go away: it waits without a deadline of its own.
            let _ = answer.send(future.await);
        });
        let received = answered.recv();
        drop(running);
        received.unwrap_or_else(|_| Err(Error::closed("the thread of a blocking handle has ended")))
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(joined) = self.joined.take() {
            // A panic there was reported by the panic hook.
            let _ = joined.join();
        }
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Thread")
    }
}

fn own(bytes: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(bytes.as_ref())
}
