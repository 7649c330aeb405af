//! The cache as its callers see it: through `BlockCache`, its counters, and the files it leaves.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use esker_cache::{BlockCache, BlockId, CacheOptions, Class, SsdOptions};
use futures::{
    channel::oneshot,
    executor::block_on,
    future::{join, join_all, poll_immediate},
};

type Fetched = Result<Bytes, String>;

const MIB: usize = 1 << 20;

fn id(n: u64) -> BlockId {
    BlockId { object: 1 << 127 | u128::from(n / 100), offset: (n % 100) << 14 }
}

fn block(n: u64, len: usize) -> Bytes {
    Bytes::from((0..len).map(|i| (n as usize * 131 + i * 7) as u8).collect::<Vec<_>>())
}

fn with_ssd(dir: &Path, memory_bytes: usize, ssd_mib: u64) -> CacheOptions {
    let ssd = Some(SsdOptions { dir: dir.to_owned(), bytes: ssd_mib << 20 });
    CacheOptions { memory_bytes, ssd, ..CacheOptions::default() }
}

async fn open(options: CacheOptions) -> BlockCache {
    BlockCache::open(options).await.expect("opens")
}

async fn never() -> Fetched {
    panic!("fetched what the cache should have had")
}

/// All files under `dir` that hold entries.
fn entry_files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("lists").map(|e| e.expect("lists").path()) {
        if entry.is_dir() {
            found.extend(entry_files(&entry));
        } else if entry.to_string_lossy().contains("foyer-storage") {
            found.push(entry);
        }
    }
    found
}

#[test]
fn what_is_put_in_comes_out_of_its_class_and_no_other() {
    let cache = BlockCache::in_memory(8 * MIB);
    cache.insert(id(1), Class::Data, block(1, 100));
    cache.insert(id(2), Class::Meta, Bytes::new());
    assert_eq!(cache.get(&id(1), Class::Data), Some(block(1, 100)));
    assert_eq!(cache.get(&id(2), Class::Meta), Some(Bytes::new()));
    assert_eq!(cache.get(&id(1), Class::Meta), None);
    assert_eq!(cache.get(&id(3), Class::Data), None);
    assert!(cache.contains(&id(1), Class::Data) && !cache.contains(&id(2), Class::Data));
    assert_eq!(block_on(cache.lookup(id(1), Class::Data)), Some(block(1, 100)));
    let stats = cache.stats();
    assert_eq!((stats.memory_hits, stats.memory_misses, stats.inserts), (3, 2, 2));
    assert_eq!((stats.ssd_enabled, stats.ssd_bytes, stats.ssd_misses), (false, 0, 0));
}

#[test]
fn metadata_outlives_a_flood_of_data() {
    let cache = BlockCache::in_memory(16 * MIB);
    for n in 0..100 {
        cache.insert(id(n), Class::Meta, block(n, 16 << 10));
    }
    for n in 0..10_000 {
        cache.insert(id(n), Class::Data, block(n, 16 << 10));
    }
    assert!(cache.stats().memory_bytes <= 16 * MIB as u64);
    for n in 0..100 {
        assert_eq!(cache.get(&id(n), Class::Meta), Some(block(n, 16 << 10)));
    }
}

#[test]
fn a_hundred_waiters_are_served_by_one_fetch_without_any_runtime() {
    let cache = BlockCache::in_memory(8 * MIB);
    let (go, gate) = oneshot::channel::<()>();
    let mut gate = Some(gate);
    let waiters: Vec<_> = (0..100)
        .map(|_| {
            let gate = gate.take();
            cache.get_or_fetch(id(1), Class::Data, move || async move {
                gate.expect("only the first fetch is awaited").await.expect("opens");
                Fetched::Ok(block(1, 5000))
            })
        })
        .collect();
    let opening = async { go.send(()).expect("is awaited") };
    let (answers, ()) = block_on(join(join_all(waiters), opening));
    assert!(answers.iter().all(|answer| *answer == Ok(block(1, 5000))));
    let stats = cache.stats();
    assert_eq!((stats.fetches, stats.joined, stats.fetched_bytes), (1, 99, 5000));
    assert_eq!((stats.memory_hits, stats.memory_misses), (0, 100));
    assert_eq!(block_on(cache.get_or_fetch(id(1), Class::Data, never)), Ok(block(1, 5000)));
}

#[test]
fn threads_that_miss_together_fetch_once() {
    let cache = BlockCache::in_memory(64 * MIB);
    let fetched = Arc::new(AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let (cache, fetched) = (cache.clone(), fetched.clone());
            scope.spawn(move || {
                for n in 0..2000 {
                    let fetched = fetched.clone();
                    let fetch = || async move {
                        fetched.fetch_add(1, Relaxed);
                        Fetched::Ok(block(n, 64))
                    };
                    assert_eq!(block_on(cache.get_or_fetch(id(n), Class::Data, fetch)), Ok(block(n, 64)));
                }
            });
        }
    });
    assert_eq!(fetched.load(Relaxed), 2000);
    assert_eq!(cache.stats().fetches, 2000);
}

#[test]
fn a_fetch_that_fails_fails_all_its_waiters_and_leaves_nothing() {
    let cache = BlockCache::in_memory(8 * MIB);
    let (go, gate) = oneshot::channel::<()>();
    let first = cache.get_or_fetch(id(1), Class::Data, || async move {
        gate.await.expect("opens");
        Fetched::Err("the store is away".to_owned())
    });
    let others = join_all((0..9).map(|_| cache.get_or_fetch(id(1), Class::Data, never)));
    let opening = async { go.send(()).expect("is awaited") };
    let (first, (others, ())) = block_on(join(first, join(others, opening)));
    assert_eq!(first, Err("the store is away".to_owned()));
    assert!(others.iter().all(|answer| *answer == first), "{others:?}");
    assert!(!cache.contains(&id(1), Class::Data));
    let again = cache.get_or_fetch(id(1), Class::Data, || async { Fetched::Ok(block(1, 10)) });
    assert_eq!(block_on(again), Ok(block(1, 10)));
    let stats = cache.stats();
    assert_eq!((stats.fetches, stats.failed_fetches, stats.fetched_bytes, stats.joined), (2, 1, 10, 9));
}

#[test]
fn a_caller_that_is_cancelled_fails_nobody() {
    let cache = BlockCache::in_memory(8 * MIB);
    let (go, gate) = oneshot::channel::<()>();
    let mut leader = Box::pin(cache.get_or_fetch(id(1), Class::Data, || async move {
        gate.await.expect("opens");
        Fetched::Ok(block(1, 10))
    }));
    let mut follower = Box::pin(cache.get_or_fetch(id(1), Class::Data, never));
    assert!(block_on(poll_immediate(&mut leader)).is_none());
    assert!(block_on(poll_immediate(&mut follower)).is_none());
    drop(leader);
    go.send(()).expect("the fetch lives on");
    assert_eq!(block_on(follower), Ok(block(1, 10)));
    assert_eq!(cache.stats().fetches, 1);

    // When everyone has left, the fetch is gone, and the next caller starts another.
    let (go, gate) = oneshot::channel::<()>();
    let mut only = Box::pin(cache.get_or_fetch(id(2), Class::Data, || async move {
        gate.await.expect("opens");
        Fetched::Ok(block(2, 10))
    }));
    assert!(block_on(poll_immediate(&mut only)).is_none());
    drop(only);
    assert!(go.send(()).is_err(), "the fetch was dropped with its last waiter");
    let next = cache.get_or_fetch(id(2), Class::Data, || async { Fetched::Ok(block(2, 20)) });
    assert_eq!(block_on(next), Ok(block(2, 20)));
}

#[test]
fn callers_with_different_errors_do_not_mix() {
    let cache = BlockCache::in_memory(8 * MIB);
    let (go, gate) = oneshot::channel::<()>();
    let mut one = Box::pin(cache.get_or_fetch(id(1), Class::Data, || async move {
        gate.await.map_err(|_| "never opened".to_owned())?;
        Fetched::Ok(block(1, 10))
    }));
    assert!(block_on(poll_immediate(&mut one)).is_none());
    let other = cache.get_or_fetch(id(1), Class::Data, || async { Err::<Bytes, u32>(404) });
    assert_eq!(block_on(other), Err(404));
    go.send(()).expect("is awaited");
    assert_eq!(block_on(one), Ok(block(1, 10)));
}

#[tokio::test]
async fn what_is_on_the_ssd_survives_a_restart() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let cache = open(with_ssd(dir.path(), 32 * MIB, 64)).await;
    assert!(cache.stats().ssd_enabled && cache.stats().ssd_bytes > 60 << 20);
    for n in 0..500 {
        let class = if n % 5 == 0 { Class::Meta } else { Class::Data };
        let fetch = || async move { Fetched::Ok(block(n, 100 + n as usize * 20)) };
        assert_eq!(cache.get_or_fetch(id(n), class, fetch).await, Ok(block(n, 100 + n as usize * 20)));
    }
    let stats = cache.stats();
    assert_eq!((stats.fetches, stats.ssd_misses, stats.ssd_writes), (500, 500, 500), "{stats:?}");
    cache.close().await;
    assert!(!cache.stats().ssd_enabled);
    assert!(cache.get(&id(1), Class::Data).is_some(), "memory goes on");
    drop(cache);

    let cache = open(with_ssd(dir.path(), 32 * MIB, 64)).await;
    for n in 0..500 {
        let class = if n % 5 == 0 { Class::Meta } else { Class::Data };
        assert!(cache.get(&id(n), class).is_none());
        assert!(cache.contains(&id(n), class));
        let found = if n % 2 == 0 {
            cache.get_or_fetch(id(n), class, never).await.ok()
        } else {
            cache.lookup(id(n), class).await
        };
        assert_eq!(found, Some(block(n, 100 + n as usize * 20)));
        assert!(cache.get(&id(n), class).is_some(), "it is in memory now");
    }
    assert!(cache.lookup(id(999), Class::Data).await.is_none());
    let stats = cache.stats();
    assert_eq!(
        (stats.ssd_hits, stats.ssd_misses, stats.ssd_faults, stats.fetches),
        (500, 1, 0, 0),
        "{stats:?}"
    );
    assert_eq!(stats.ssd_writes, 0, "what came from the SSD is not written to it again");
    cache.close().await;
}

#[tokio::test]
async fn the_ssd_serves_what_memory_evicted_and_keeps_metadata_through_a_flood() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let cache = open(with_ssd(dir.path(), 4 * MIB, 40)).await;
    for n in 0..50 {
        cache.insert(id(n), Class::Meta, block(n, 15_000));
    }
    for n in 0..6000 {
        cache.insert(id(n), Class::Data, block(n, 16 << 10));
    }
    for n in 0..50 {
        assert_eq!(cache.lookup(id(n), Class::Meta).await, Some(block(n, 15_000)), "metadata {n}");
    }
    cache.close().await;
    drop(cache);
    let cache = open(with_ssd(dir.path(), 4 * MIB, 40)).await;
    for n in 0..50 {
        assert_eq!(cache.lookup(id(n), Class::Meta).await, Some(block(n, 15_000)), "metadata {n}");
    }
    let mut kept = 0;
    for n in 0..6000 {
        if let Some(found) = cache.lookup(id(n), Class::Data).await {
            assert_eq!(found, block(n, 16 << 10));
            kept += 1;
        }
    }
    assert!(kept > 100, "some of a flood of 94 MiB are there: {kept}");
    // An entry of 16 KiB takes five pages of 4 KiB, and nine tenths of the 40 MiB are for data.
    assert!(kept < 36 * MIB / (20 << 10), "the tier is not larger than it may be: {kept}");
}

#[tokio::test]
async fn a_flipped_byte_on_the_ssd_is_a_fault_and_a_miss_and_never_wrong_bytes() {
    const MARK: &[u8] = b"an entry begins";
    let marked = |n: u64| -> Bytes { [MARK, &[n as u8], &block(n, 10_000)].concat().into() };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let cache = open(with_ssd(dir.path(), 16 * MIB, 32)).await;
    for n in 0..200 {
        cache.insert(id(n), Class::Data, marked(n));
    }
    cache.close().await;
    drop(cache);
    // In every entry one bit: of the even ones in the bytes, of the odd ones in what stands before them.
    let mut flipped = 0;
    for file in entry_files(dir.path()) {
        let mut bytes = fs::read(&file).expect("reads");
        for page in (0..bytes.len()).step_by(4096) {
            let Some(at) = bytes[page..page + 128].windows(MARK.len()).position(|w| w == MARK) else {
                continue;
            };
            let n = usize::from(bytes[page + at + MARK.len()]);
            let at = if n % 2 == 0 { at + (n * 47) % 10_000 } else { n % at };
            bytes[page + at] ^= 1 << (n % 8);
            flipped += 1;
        }
        fs::write(&file, bytes).expect("writes");
    }
    assert_eq!(flipped, 200);

    let cache = open(with_ssd(dir.path(), 16 * MIB, 32)).await;
    for n in 0..200 {
        let found = cache.get_or_fetch(id(n), Class::Data, || async move { Fetched::Ok(marked(n)) }).await;
        assert_eq!(found, Ok(marked(n)));
    }
    let stats = cache.stats();
    // Some fields of foyer's header are of no consequence.
    assert!(stats.ssd_faults > 150, "{stats:?}");
    assert_eq!(stats.fetches, 200 - stats.ssd_hits, "{stats:?}");
    cache.close().await;
    drop(cache);

    // What was fetched in place of the damaged was written again.
    let cache = open(with_ssd(dir.path(), 16 * MIB, 32)).await;
    for n in 0..200 {
        assert_eq!(cache.get_or_fetch(id(n), Class::Data, never).await, Ok(marked(n)));
    }
    assert_eq!(cache.stats().ssd_faults, 0);
}

#[tokio::test]
async fn files_of_noise_or_cut_short_are_misses() {
    for damage in ["noise", "cut"] {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let cache = open(with_ssd(dir.path(), 16 * MIB, 32)).await;
        for n in 0..50 {
            cache.insert(id(n), Class::Data, block(n, 10_000));
        }
        cache.close().await;
        drop(cache);
        for file in entry_files(dir.path()) {
            let len = fs::metadata(&file).expect("is there").len() as usize;
            let bytes = if damage == "cut" { Bytes::new() } else { block(len as u64, len) };
            fs::write(&file, bytes).expect("writes");
        }
        let cache = open(with_ssd(dir.path(), 16 * MIB, 32)).await;
        for n in 0..50 {
            assert_eq!(cache.lookup(id(n), Class::Data).await, None, "{damage}");
            cache.insert(id(n), Class::Data, block(n, 10_000));
        }
        assert!(cache.stats().ssd_enabled, "{damage}");
        cache.close().await;
    }
}

#[tokio::test]
async fn a_directory_in_use_is_refused_by_name_until_it_is_released() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let first = open(with_ssd(dir.path(), MIB, 32)).await;
    let error = BlockCache::open(with_ssd(dir.path(), MIB, 32)).await.expect_err("is locked");
    assert!(error.to_string().contains(&dir.path().display().to_string()), "{error}");
    assert!(error.to_string().contains("in use by another cache: give each process"), "{error}");
    first.close().await;
    let second = open(with_ssd(dir.path(), MIB, 32)).await;
    drop(second);
    open(with_ssd(dir.path(), MIB, 32)).await.close().await;
}

#[tokio::test]
async fn what_the_user_must_mend_is_an_error_and_what_the_disk_refuses_is_not() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").expect("writes");
    for path in [file.clone(), file.join("below")] {
        let error = BlockCache::open(with_ssd(&path, MIB, 32)).await.expect_err("is no directory");
        assert!(error.message.contains("name a directory"), "{error}");
    }
    let error = BlockCache::open(with_ssd(dir.path(), MIB, 1)).await.expect_err("is too small");
    assert!(error.message.contains("too small"), "{error}");

    // 64 TiB: no disk of a test has them.
    let cache = open(with_ssd(dir.path(), MIB, 64 << 20)).await;
    let stats = cache.stats();
    assert_eq!((stats.ssd_enabled, stats.ssd_bytes, stats.ssd_faults), (false, 0, 1));
    let found = cache.get_or_fetch(id(1), Class::Data, || async { Fetched::Ok(block(1, 10)) }).await;
    assert_eq!(found, Ok(block(1, 10)));
    assert_eq!(cache.get(&id(1), Class::Data), Some(block(1, 10)));
    cache.close().await;
}

#[tokio::test]
async fn values_too_large_for_the_ssd_stay_in_memory() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let cache = open(with_ssd(dir.path(), 128 * MIB, 32)).await;
    cache.insert(id(1), Class::Data, Bytes::from(vec![7; 64 * MIB]));
    assert_eq!(cache.get(&id(1), Class::Data).map(|b| b.len()), Some(64 * MIB));
    cache.insert(id(2), Class::Data, Bytes::from(vec![7; 128 * MIB]));
    assert!(!cache.contains(&id(2), Class::Data));
    let fetched =
        cache.get_or_fetch(id(3), Class::Data, || async { Fetched::Ok(vec![7; 100 * MIB].into()) }).await;
    assert_eq!(fetched.map(|b| b.len()), Ok(100 * MIB), "what is not cached is still answered");
    assert_eq!(cache.stats().ssd_writes, 0);
    cache.close().await;
}

#[tokio::test]
async fn a_burst_is_written_whole_or_its_drops_are_counted() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let cache = open(with_ssd(dir.path(), 64 * MIB, 128)).await;
    for n in 0..3000 {
        cache.insert(id(n), Class::Data, block(n, 16 << 10));
    }
    cache.close().await;
    let before = cache.stats();
    assert_eq!(before.ssd_writes + before.ssd_dropped, 3000);
    assert_eq!(before.ssd_faults, 0, "{before:?}");
    assert!(before.ssd_writes >= 390, "a write buffer's worth at least: {before:?}");
    drop(cache);
    let cache = open(with_ssd(dir.path(), 64 * MIB, 128)).await;
    let mut found = 0;
    for n in 0..3000 {
        found += u64::from(cache.lookup(id(n), Class::Data).await.is_some());
    }
    assert_eq!(found, before.ssd_writes, "every entry that was accepted is there");
}

#[test]
fn a_cache_opened_on_one_runtime_serves_another_and_none() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let runtime = || tokio::runtime::Builder::new_current_thread().build().expect("starts");
    let cache = runtime().block_on(open(with_ssd(dir.path(), 0, 32)));
    cache.insert(id(1), Class::Data, block(1, 10));
    assert_eq!(runtime().block_on(cache.lookup(id(1), Class::Data)), Some(block(1, 10)));
    assert_eq!(block_on(cache.get_or_fetch(id(1), Class::Data, never)), Ok(block(1, 10)));
    block_on(cache.close());
    let cache = block_on(open(with_ssd(dir.path(), 0, 32)));
    assert_eq!(block_on(cache.lookup(id(1), Class::Data)), Some(block(1, 10)));
}
