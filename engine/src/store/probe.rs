//! Testing a store before trusting it with data.
//!
//! "S3-compatible" does not mean that put-if-absent is atomic, or that a listing knows what was just
//! written. Several servers accept the condition and ignore it, or check and then write; a database
//! on such a store loses commits without an error. So a store is tested when a database is created
//! (short) and when `esker doctor` asks (long), and refused by the name of what it lacks.
//!
//! | property | short | long |
//! |---|---|---|
//! | of concurrent creates exactly one wins, and its bytes are there | 4 × 8 racers | 50 × 32 |
//! | a create on an existing object fails and leaves it as it was | yes | yes |
//! | what was written is read at once; a name found absent is found once created | 4 rounds | 100 |
//! | what was written is listed at once, what was deleted is not | yes | 20 rounds |
//! | a byte range is exactly that range | yes | yes |
//! | deleting what is not there is no error | yes | yes |
//! | a listing of more than a page is complete | | 1,001 objects |
//! | a multipart upload arrives whole | | 3 parts |
//!
//! Always true: everything happens under `probe/{uuid}/`, which is removed afterwards. That makes this
//! the one place besides garbage collection that deletes: what it deletes no database can refer to. A
//! request that fails is tried again, and bytes that are wrong are read again; only a definite wrong answer counts
//! against the store, and not a body that was damaged once on its way.

use std::{fmt, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, TryStreamExt as _, future, stream};
use object_store::{PutMode, PutOptions, PutPayload, path::Path};

use super::{Store, fetch::Wanted, retry::Failure, upload::PART_BYTES};
use crate::{
    chaos::{Bug, bug},
    error::{Error, ErrorKind, Result},
    stats::{Cause, RequestKind},
};

/// How often an object is read before wrong bytes count as the store's and not as an accident on their way.
const READS: usize = 3;
/// How often what was deleted may be there again before the store is to blame.
const LATE_DUPLICATES: u32 = 2;
/// What the probe reads is its own, whatever its size (one byte more must be a number, too).
const ANY_SIZE: u64 = u64::MAX - 1;

/// How thoroughly to test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Some 100 requests, a second or two: when a database is created.
    Short,
    /// Some 7,000 requests, up to a minute, with timings: for `esker doctor`.
    Long,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Report {
    /// What was tested, in order.
    pub properties: Vec<Property>,
    /// How long requests took; only in the long form.
    pub timings: Vec<Timing>,
}

/// One property a store must have.
#[derive(Debug, Clone)]
pub struct Property {
    /// The property, as a sentence.
    pub property: &'static str,
    /// Whether the store has it, as far as was seen.
    pub ok: bool,
    /// What was done, or what went wrong.
    pub detail: String,
}

/// How long one kind of request took.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// What kind.
    pub operation: &'static str,
    /// How many were timed.
    pub samples: usize,
    /// Half took no longer.
    pub p50: Duration,
    /// Nine of ten took no longer.
    pub p90: Duration,
    /// Ninety-nine of a hundred took no longer.
    pub p99: Duration,
    /// The slowest.
    pub max: Duration,
}

impl Report {
    /// Whether the store has every property tested.
    pub fn is_ok(&self) -> bool {
        self.properties.iter().all(|property| property.ok)
    }

    /// `Unsupported`, naming every property the store lacks; `Ok` if it lacks none.
    pub fn verdict(&self) -> Result<()> {
        let lacking: Vec<String> = self
            .properties
            .iter()
            .filter(|property| !property.ok)
            .map(|property| format!("{} ({})", property.property, property.detail))
            .collect();
        if lacking.is_empty() {
            return Ok(());
        }
        Err(Error::unsupported(format!("a database would not be safe on this store: {}", lacking.join("; ")))
            .hint("use a store whose conditional writes are atomic, or a newer version of this one"))
    }
}

/// Lines for people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Property { property, ok, detail } in &self.properties {
            writeln!(f, "{} {property}: {detail}", if *ok { "ok    " } else { "FAILED" })?;
        }
        for Timing { operation, samples, p50, p90, p99, max } in &self.timings {
            writeln!(
                f,
                "{operation:<7}{samples:>6} × p50 {p50:.1?}, p90 {p90:.1?}, p99 {p99:.1?}, max {max:.1?}"
            )?;
        }
        Ok(())
    }
}

/// Tests the store and refuses it (`Unsupported`, naming the property) if it lacks something.
///
/// ```
/// # use esker::{clock::SystemClock, store::{Store, probe::{probe, Depth}}};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let store = Store::open("memory://probed", SystemClock::shared())?;
/// assert!(probe(&store, Depth::Short).await?.is_ok());
/// # Ok::<(), esker::Error>(()) }).unwrap();
/// ```
pub async fn probe(store: &Store, depth: Depth) -> Result<Report> {
    let report = examine(store, depth).await?;
    // minio #21603, seaweedfs #8800, rustfs #1659: put-if-absent was not one.
    if !bug(Bug::TrustsAnyStore) {
        report.verdict()?;
    }
    Ok(report)
}

/// Tests the store and reports what was found, good or bad. `Err` only if it could not be tested.
pub async fn examine(store: &Store, depth: Depth) -> Result<Report> {
    let folder = format!("probe/{:032x}", store.clock().random());
    let mut probe = Probe { store, folder, depth, next: 0, timed: Vec::new() };
    let properties = probe.run().await;
    // Cleaned up in either case; what cannot be deleted now is in nobody's way.
    let cleaned = probe.clean_up().await;
    let report = Report { properties: properties?, timings: timings(&probe.timed, depth) };
    cleaned?;
    Ok(report)
}

struct Probe<'a> {
    store: &'a Store,
    folder: String,
    depth: Depth,
    next: u64,
    timed: Vec<(&'static str, Duration)>,
}

/// What went wrong, if something did; what was done otherwise.
type Finding = std::result::Result<String, String>;

impl Probe<'_> {
    async fn run(&mut self) -> Result<Vec<Property>> {
        let mut found = Vec::new();
        let mut note = |property, finding: Finding| {
            let ok = finding.is_ok();
            found.push(Property { property, ok, detail: finding.unwrap_or_else(|wrong| wrong) });
        };
        note("create fails where an object is", self.create_on_existing().await?);
        note("of concurrent creates exactly one wins", self.concurrent_creates().await?);
        note("what was written is read at once", self.read_after_write().await?);
        note("what was written is listed at once", self.list_after_write().await?);
        note("a byte range is exactly that range", self.exact_ranges().await?);
        note("deleting what is not there is no error", self.delete_missing().await?);
        if self.depth == Depth::Long {
            note("a listing of several pages is complete", self.long_listing().await?);
            note("a multipart upload arrives whole", self.multipart().await?);
        }
        Ok(found)
    }

    async fn create_on_existing(&mut self) -> Result<Finding> {
        let path = self.fresh()?;
        let (first, second) = (self.body("first"), self.body("second"));
        self.create(&path, &first).await?;
        if self.create(&path, &second).await? {
            return Ok(Err("the condition was ignored: a second create succeeded".into()));
        }
        Ok(match self.get_if(&path, |bytes| *bytes == first).await? {
            Some(bytes) if bytes == first => Ok("refused, and the object is as it was".into()),
            Some(_) => Err("the refused create changed the object".into()),
            None => Err("the object is gone".into()),
        })
    }

    async fn concurrent_creates(&mut self) -> Result<Finding> {
        let (rounds, racers) = if self.depth == Depth::Long { (50, 32) } else { (4, 8) };
        for round in 1..=rounds {
            let path = self.fresh()?;
            let bodies: Vec<Bytes> = (0..racers).map(|racer| self.body(&format!("racer {racer}"))).collect();
            let won = future::try_join_all(bodies.iter().map(|body| self.create_once(&path, body))).await?;
            let winners: Vec<usize> = (0..racers).filter(|racer| won[*racer].is_none()).collect();
            let fits = |bytes: &Bytes| match winners.first() {
                Some(winner) => *bytes == bodies[*winner],
                None => bodies.contains(bytes),
            };
            let stored = self.get_if(&path, fits).await?;
            if winners.len() > 1 {
                let winners = winners.len();
                return Ok(Err(format!("round {round}: {winners} of {racers} concurrent creates succeeded")));
            }
            match (winners.first(), stored) {
                (Some(winner), Some(bytes)) if bytes == bodies[*winner] => {}
                (Some(_), _) => return Ok(Err(format!("round {round}: the winner's bytes are not there"))),
                // Every answer was lost; any racer may have won, but only a racer.
                (None, Some(bytes)) if bodies.contains(&bytes) => {}
                (None, None) => {}
                (None, Some(_)) => return Ok(Err(format!("round {round}: nobody's bytes are there"))),
            }
        }
        Ok(Ok(format!("{rounds} rounds of {racers} racers")))
    }

    async fn read_after_write(&mut self) -> Result<Finding> {
        let rounds = if self.depth == Depth::Long { 100 } else { 4 };
        for round in 1..=rounds {
            let path = self.fresh()?;
            // Asked for first, so that a cache of absent names shows itself.
            if self.get(&path).await?.is_some() {
                return Ok(Err(format!("round {round}: an object that was never written is there")));
            }
            let body = self.body("read after write");
            self.create(&path, &body).await?;
            match self.get_if(&path, |bytes| *bytes == body).await? {
                Some(bytes) if bytes == body => {}
                Some(_) => return Ok(Err(format!("round {round}: other bytes came back"))),
                None => {
                    return Ok(Err(format!("round {round}: absent after it was created (a cached 404?)")));
                }
            }
        }
        Ok(Ok(format!("{rounds} rounds, each name asked for before it existed")))
    }

    async fn list_after_write(&mut self) -> Result<Finding> {
        let rounds = if self.depth == Depth::Long { 20 } else { 2 };
        for round in 1..=rounds {
            let mut doubts = 0;
            loop {
                let path = self.fresh()?;
                self.list().await?;
                let body = self.body("list after write");
                self.create(&path, &body).await?;
                if !self.list().await?.contains(&path) {
                    return Ok(Err(format!("round {round}: an object just written is not listed")));
                }
                self.store.delete_paths(vec![path.clone()], Cause::Probe).await?;
                let what = if self.list().await?.contains(&path) {
                    "is still listed"
                } else if self.get(&path).await?.is_some() {
                    "can still be read"
                } else {
                    break;
                };
                // A create that was sent twice can land again behind the delete, which is the network's doing. A store
                // that does not forget does so under the next name, too.
                doubts += 1;
                if doubts > LATE_DUPLICATES {
                    return Ok(Err(format!("round {round}: an object just deleted {what}")));
                }
            }
        }
        Ok(Ok(format!("{rounds} rounds of writing and deleting")))
    }

    async fn exact_ranges(&mut self) -> Result<Finding> {
        let path = self.fresh()?;
        let body = noise(40_000);
        self.create(&path, &body).await?;
        for range in [0..1, 0..40_000, 1..2, 4095..4097, 8192..16_384, 39_999..40_000] {
            let mut patience = self.store.patience("GET", path.as_ref());
            let mut wrong = 0;
            loop {
                let place = &self.store.place;
                match place.get_once(&path, Wanted::Range(&range), &patience, Cause::Probe).await {
                    Ok(bytes) if bytes == body[range.start as usize..range.end as usize] => break,
                    Ok(_) | Err(Failure::WrongLength { .. }) if wrong + 1 < READS => wrong += 1,
                    Ok(_) => return Ok(Err(format!("bytes {range:?}: other bytes came back"))),
                    Err(Failure::WrongLength { got, .. }) => {
                        return Ok(Err(format!("bytes {range:?}: {got} bytes came back")));
                    }
                    Err(failure) => patience.wait(failure).await?,
                }
            }
        }
        Ok(Ok("6 ranges of an object of 40,000 bytes".into()))
    }

    async fn delete_missing(&mut self) -> Result<Finding> {
        let path = self.fresh()?;
        match self.store.delete_paths(vec![path], Cause::Probe).await {
            Ok(()) => Ok(Ok("counts as deleted".into())),
            Err(error) if error.kind() == ErrorKind::Unavailable => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        }
    }

    async fn long_listing(&mut self) -> Result<Finding> {
        let before = self.list().await?.len();
        let body = self.body("one of many");
        let paths = (0..1001).map(|_| self.fresh()).collect::<Result<Vec<_>>>()?;
        let (this, body) = (&*self, &body);
        // Owned paths: a closure over borrowed ones makes a future that cannot go to a task.
        stream::iter(paths.clone())
            .map(|path| async move { this.create_once(&path, body).await })
            .buffer_unordered(16)
            .try_collect::<Vec<_>>()
            .await?;
        let listed = self.list().await?;
        let missing = paths.iter().filter(|path| !listed.contains(path)).count();
        Ok(match missing {
            0 => Ok(format!("{} objects", listed.len())),
            _ => Err(format!("{missing} of {} objects are not listed", before + paths.len())),
        })
    }

    async fn multipart(&mut self) -> Result<Finding> {
        let path = self.fresh()?;
        let body = noise(2 * PART_BYTES + 999);
        let parts = [0..PART_BYTES, PART_BYTES..2 * PART_BYTES, 2 * PART_BYTES..body.len()];
        let place = &self.store.place;
        let uploaded = place
            .attempt(RequestKind::Put, Cause::Probe, 0, async {
                let mut upload = place.multipart.put_multipart_opts(&path, Default::default()).await?;
                for part in parts.iter().cloned() {
                    place.stats.request(RequestKind::Put, Cause::Probe, part.len() as u64);
                    upload.put_part(PutPayload::from_bytes(body.slice(part))).await?;
                }
                place.stats.request(RequestKind::Put, Cause::Probe, 0);
                upload.complete().await?;
                Ok(((), 0))
            })
            .await;
        if let Err(failure) = uploaded {
            return Err(self.store.patience("multipart PUT", path.as_ref()).error(failure));
        }
        Ok(match self.get_if(&path, |bytes| *bytes == body).await? {
            Some(bytes) if bytes == body => Ok(format!("{} parts, {} bytes", parts.len(), bytes.len())),
            Some(bytes) => Err(format!("{} bytes came back, and not those sent", bytes.len())),
            None => Err("the object is not there".into()),
        })
    }

    async fn clean_up(&self) -> Result<()> {
        let all = self.list_untimed().await?;
        self.store.delete_paths(all, Cause::Probe).await
    }

    /// Creates an object where none is believed to be; true if that definitely succeeded. An unclear
    /// answer is settled as every sequence settles it: by looking.
    async fn create(&mut self, path: &Path, body: &Bytes) -> Result<bool> {
        let started = self.store.clock().monotonic();
        let mut patience = self.store.patience("create", path.as_ref());
        loop {
            let Some(failure) = self.create_once(path, body).await? else {
                self.timed.push(("create", self.store.clock().monotonic() - started));
                return Ok(true);
            };
            match self.get_if(path, |bytes| bytes == body).await? {
                Some(found) => return Ok(found == *body),
                None => patience.wait(failure).await?,
            }
        }
    }

    /// One create: none if it definitely succeeded, else why it did not, or why nobody knows.
    async fn create_once(&self, path: &Path, body: &Bytes) -> Result<Option<Failure>> {
        let patience = self.store.patience("create", path.as_ref());
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let payload = PutPayload::from_bytes(body.clone());
        match self.store.place.put_once(path, &payload, options, &patience, Cause::Probe).await {
            Ok(()) => Ok(None),
            Err(refused @ Failure::Refused { .. }) => Err(patience.error(refused)),
            Err(failure) => Ok(Some(failure)),
        }
    }

    /// Reads once, and again if the bytes do not fit.
    async fn get_if(&mut self, path: &Path, fits: impl Fn(&Bytes) -> bool) -> Result<Option<Bytes>> {
        for _ in 1..READS {
            match self.get(path).await? {
                Some(bytes) if !fits(&bytes) => {}
                found => return Ok(found),
            }
        }
        self.get(path).await
    }

    async fn get(&mut self, path: &Path) -> Result<Option<Bytes>> {
        let started = self.store.clock().monotonic();
        let found = self.store.get_at(path, ANY_SIZE, Cause::Probe).await?;
        self.timed.push(("get", self.store.clock().monotonic() - started));
        Ok(found)
    }

    async fn list(&mut self) -> Result<Vec<Path>> {
        let started = self.store.clock().monotonic();
        let listed = self.list_untimed().await?;
        self.timed.push(("list", self.store.clock().monotonic() - started));
        Ok(listed)
    }

    async fn list_untimed(&self) -> Result<Vec<Path>> {
        let prefix = self.store.place.path(&self.folder)?;
        let mut patience = self.store.patience("LIST", &self.folder);
        loop {
            let limit = patience.attempt_limit(0);
            match self.store.place.list_once(&prefix, None, limit, Cause::Probe).await {
                Ok(found) => return Ok(found.into_iter().map(|meta| meta.location).collect()),
                Err(failure) => patience.wait(failure).await?,
            }
        }
    }

    /// A path never used before.
    fn fresh(&mut self) -> Result<Path> {
        self.next += 1;
        self.store.place.path(&format!("{}/{:06}", self.folder, self.next))
    }

    /// A body that no other call gives.
    fn body(&self, text: &str) -> Bytes {
        let mut body = BytesMut::from(text.as_bytes());
        body.extend_from_slice(&self.store.clock().random().to_le_bytes());
        body.freeze()
    }
}

/// Bytes whose neighbourhoods differ everywhere, so that a shift shows.
fn noise(bytes: usize) -> Bytes {
    (0..bytes as u32).map(|i| (i.wrapping_mul(0x9E37_79B9) >> 24) as u8).collect()
}

fn timings(timed: &[(&'static str, Duration)], depth: Depth) -> Vec<Timing> {
    if depth == Depth::Short {
        return Vec::new();
    }
    ["create", "get", "list"]
        .into_iter()
        .filter_map(|operation| {
            let mut taken: Vec<Duration> =
                timed.iter().filter(|(of, _)| *of == operation).map(|(_, time)| *time).collect();
            taken.sort_unstable();
            let at = |percent: usize| taken.get((taken.len() - 1) * percent / 100).copied();
            let max = *taken.last()?;
            Some(Timing { operation, samples: taken.len(), p50: at(50)?, p90: at(90)?, p99: at(99)?, max })
        })
        .collect()
}
