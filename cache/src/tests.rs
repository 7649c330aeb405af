//! What the public API does not show: eviction, the ledger, and whose files are deleted.

use std::{
    fs,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use bytes::Bytes;

use crate::{
    directory::{Directory, Extent, Refusal},
    entry::{Ledger, SsdEntry, footprint},
    id::{BlockId, Class},
    memory::MemoryTier,
    objects::Objects,
    options::{CacheOptions, SsdOptions},
    shard::ENTRY_OVERHEAD,
    ssd::Ssd,
    stats::CacheStats,
};

const SMALL: Extent = Extent { blocks: 4, block_bytes: 64 << 10 };

fn id(n: u64) -> BlockId {
    BlockId { object: 0xE5CE_0000_0000_0000_0000_0000_0000_0000 | u128::from(n), offset: n * 4096 }
}

fn block(n: u64, len: usize) -> Bytes {
    Bytes::from((0..len).map(|i| (n as usize * 31 + i) as u8).collect::<Vec<_>>())
}

#[test]
fn the_hash_of_an_id_is_the_same_in_every_run() {
    // On the SSD entries are found by it: if this fails, LAYOUT has to be counted up.
    assert_eq!(BlockId { object: 1 << 100 | 7, offset: 4096 }.hash64(), 3_786_319_909_527_378_900);
    let distinct: std::collections::HashSet<_> = (0..100_000).map(|n| id(n).hash64()).collect();
    assert_eq!(distinct.len(), 100_000);
}

#[test]
fn memory_never_exceeds_its_budget_and_keeps_what_is_used() {
    const BUDGET: usize = 8 << 20;
    let tier = MemoryTier::new(BUDGET, Arc::default());
    for n in 0..64 {
        tier.insert(id(n), block(n, 16 << 10), false);
    }
    for n in 0..10_000 {
        tier.insert(id(1000 + n), block(n, 1 + (n as usize * 7919) % (32 << 10)), false);
        // Asked for now and then, while a scan of once-used blocks passes by.
        assert_eq!(tier.get(&id(n % 64)), Some(block(n % 64, 16 << 10)), "after {n} others");
        assert!(tier.bytes() <= BUDGET);
    }
    assert!(tier.bytes() > BUDGET / 2, "evicts no more than it must: {}", tier.bytes());
}

#[test]
fn a_value_as_large_as_the_whole_tier_is_kept_and_a_larger_one_is_not() {
    const BUDGET: usize = 64 << 20;
    let tier = MemoryTier::new(BUDGET, Arc::default());
    for n in 0..3000 {
        tier.insert(id(n), block(n, 16 << 10), false);
    }
    let largest = Bytes::from(vec![1; BUDGET - ENTRY_OVERHEAD]);
    tier.insert(id(9000), largest.clone(), false);
    assert_eq!(tier.get_again(&id(9000)), Some(largest));
    assert_eq!(tier.bytes(), BUDGET);
    tier.insert(id(9001), Bytes::from(vec![1; BUDGET - ENTRY_OVERHEAD + 1]), false);
    assert!(!tier.contains(&id(9001)));
    assert!(tier.contains(&id(9000)), "what does not fit evicts nothing");
    MemoryTier::new(0, Arc::default()).insert(id(1), Bytes::new(), false);
}

#[test]
fn threads_inserting_together_stay_within_the_budget() {
    const BUDGET: usize = 4 << 20;
    let tier = MemoryTier::new(BUDGET, Arc::default());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let tier = &tier;
            scope.spawn(move || {
                for n in 0..3000_u64 {
                    let n = n * 4 + thread;
                    tier.insert(id(n), block(n, 4 << 10), false);
                    if let Some(found) = tier.get(&id(n / 2)) {
                        assert_eq!(found, block(n / 2, 4 << 10));
                    }
                }
            });
        }
    });
    assert!(tier.bytes() <= BUDGET, "{}", tier.bytes());
    let held: usize = (0..12_000).filter(|n| tier.contains(&id(*n))).count();
    assert_eq!(held * ((4 << 10) + ENTRY_OVERHEAD), tier.bytes(), "the account agrees with what is there");
}

/// Half of a block that is whole, twice as long as it has to be; nothing of one with an odd number.
fn halve(bytes: &Bytes) -> Option<Bytes> {
    assert_eq!(bytes.len(), 16 << 10, "an entry is squeezed once");
    bytes[0].is_multiple_of(2).then(|| Bytes::copy_from_slice(&bytes[..8 << 10]))
}

/// A block that [`halve`] halves, if `n` is even.
fn doubled(n: u64) -> Bytes {
    Bytes::from(vec![n as u8; 16 << 10])
}

fn squeezing(budget: usize) -> MemoryTier {
    let tier = MemoryTier::new(budget, Arc::default());
    tier.squeeze_with(halve);
    tier
}

#[test]
fn what_is_cold_is_squeezed_before_anything_is_evicted() {
    const BUDGET: usize = 16 << 20;
    let tier = squeezing(BUDGET);
    let hot: Vec<_> = (0..16).map(|n| 2 * n).collect();
    let blocks: Vec<_> = (0..1700).map(|n| 2 * n).collect();
    for n in &blocks {
        tier.insert(id(*n), doubled(*n), false);
        assert!(tier.bytes() <= BUDGET);
        hot.iter().filter(|hot| *hot <= n).for_each(|hot| drop(tier.get(&id(*hot))));
    }
    let held = |n: &u64| {
        tier.get_again(&id(*n)).map(|bytes| {
            assert!(bytes.iter().all(|byte| *byte == *n as u8));
            bytes.len()
        })
    };
    assert!(blocks.iter().all(|n| held(n).is_some()), "1.66 times the budget fits");
    assert!(hot.iter().all(|n| held(n) == Some(16 << 10)), "what is asked for stays as it is");
    let squeezed = blocks.iter().filter(|n| held(n) == Some(8 << 10)).count() as u64;
    assert_eq!(tier.squeezed(), (squeezed, squeezed * (8 << 10)));
}

#[test]
fn what_comes_back_is_kept_if_it_fits_squeezed() {
    const BUDGET: usize = 16 << 20;
    let tier = squeezing(BUDGET);
    // All of it, squeezed but for a thirtieth, is within the budget; with an eighth as it came, it is not.
    let blocks = BUDGET as u64 * 30 / 31 / ((8 << 10) + ENTRY_OVERHEAD as u64);
    let mut missed = 0;
    for round in 0..12 {
        missed = 0;
        for n in 0..blocks {
            let n = n * 7919 % blocks * 2;
            if tier.get(&id(n)).is_none() {
                missed += 1;
                tier.insert(id(n), doubled(n), false);
            }
        }
        assert!(tier.bytes() <= BUDGET, "in round {round}");
    }
    assert!(missed * 100 <= blocks, "{missed} of {blocks} are not kept");
}

#[test]
fn what_is_asked_for_all_the_time_is_kept_if_it_fits_squeezed() {
    const BUDGET: usize = 16 << 20;
    let tier = squeezing(BUDGET);
    let blocks = BUDGET as u64 * 30 / 31 / ((8 << 10) + ENTRY_OVERHEAD as u64);
    let (mut state, mut missed) = (1_u64, 0);
    for read in 0..blocks * 120 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let n = state % blocks * 2;
        if tier.get(&id(n)).is_none() {
            missed += u64::from(read > blocks * 60);
            tier.insert(id(n), doubled(n), false);
        }
    }
    assert!(missed * 1000 <= blocks * 60, "{missed} of {} reads are missed", blocks * 60);
}

#[test]
fn a_long_scan_is_not_worth_squeezing() {
    const BUDGET: usize = 16 << 20;
    let tier = squeezing(BUDGET);
    // What is asked for again fills the main queue.
    for n in 0..3000 {
        tier.insert(id(2 * n), doubled(2 * n), false);
        drop(tier.get(&id(2 * n)));
    }
    for n in 3000..6000 {
        tier.insert(id(2 * n), doubled(2 * n), false);
    }
    let before = tier.squeezed().0;
    for n in 6000..9000 {
        tier.insert(id(2 * n), doubled(2 * n), false);
    }
    let squeezed = tier.squeezed().0 - before;
    assert!(squeezed < 300, "{squeezed} of 3000");
}

#[test]
fn what_nobody_reads_any_more_leaves_first_and_is_not_squeezed() {
    const BUDGET: usize = 16 << 20;
    const FILL: u64 = 2000;
    let objects = Arc::<Objects>::default();
    let tier = MemoryTier::new(BUDGET, Arc::clone(&objects));
    tier.squeeze_with(halve);
    let of = |object: u128, n: u64| BlockId { object, offset: n << 14 };
    let [old, new] = [1, 2].map(|object| objects.used(object));
    for n in 0..FILL {
        tier.insert(of(old.id(), n), doubled(2 * n), false);
        // Even what is asked for more than anything.
        (0..4).for_each(|_| drop(tier.get(&of(old.id(), n))));
    }
    let other_user = objects.used(old.id());
    drop(old);
    assert!(!objects.gone().contains(1), "somebody reads it yet");
    drop(other_user);
    assert!(objects.gone().contains(1) && !objects.gone().contains(new.id()));
    let before = tier.squeezed().0;
    let room = BUDGET / ((16 << 10) + ENTRY_OVERHEAD);
    for n in 0..room as u64 {
        tier.insert(of(new.id(), n), doubled(2 * n), false);
        assert!(tier.bytes() <= BUDGET);
    }
    assert!(
        (0..room as u64).all(|n| tier.contains(&of(new.id(), n))),
        "what is read took the place of the rest"
    );
    let squeezed = tier.squeezed().0 - before;
    assert!(squeezed <= 8, "{squeezed}: one a shard at most, before the others were swept");
    assert!((0..FILL).all(|n| !tier.contains(&of(1, n))));
    let again = objects.used(1);
    assert!(!objects.gone().contains(again.id()), "it is read again");
}

#[test]
fn threads_that_squeeze_stay_within_the_budget_and_lose_nothing() {
    const BUDGET: usize = 4 << 20;
    let tier = squeezing(BUDGET);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let tier = &tier;
            scope.spawn(move || {
                for n in 0..2000_u64 {
                    let n = n * 4 % 1500 + thread;
                    tier.insert(id(n), doubled(n), false);
                    if let Some(found) = tier.get(&id(n / 2)) {
                        assert!(found.iter().all(|byte| *byte == (n / 2) as u8));
                        assert!(
                            found.len() == 16 << 10 || found.len() == 8 << 10 && (n / 2).is_multiple_of(2)
                        );
                    }
                }
            });
        }
    });
    assert!(tier.bytes() <= BUDGET, "{}", tier.bytes());
    let held: usize =
        (0..1600).filter_map(|n| tier.get_again(&id(n))).map(|bytes| bytes.len() + ENTRY_OVERHEAD).sum();
    assert_eq!(held, tier.bytes(), "the account agrees with what is there");
    assert!(tier.squeezed().0 > 0 && held > BUDGET / 2);
}

#[test]
fn an_entry_of_the_ssd_does_not_pass_for_another() {
    let ledger = Ledger::new(1 << 20);
    let ticket = ledger.ticket(id(1), 100).expect("there is room");
    let entry = SsdEntry::new(&id(1), block(1, 100), ticket);
    assert_eq!(entry.verified(&id(1)), Some(block(1, 100)));
    assert_eq!(entry.verified(&id(2)), None);
}

#[test]
fn the_ledger_drops_what_does_not_fit_and_counts_it() {
    let ledger = Ledger::new(3 * footprint(4000));
    let held: Vec<_> = (0..5).map_while(|n| ledger.ticket(id(n), 4000)).collect();
    assert_eq!(held.len(), 3);
    assert_eq!(ledger.dropped.load(Relaxed), 1);
    drop(held);
    assert_eq!(ledger.take_settled(), [id(0), id(1), id(2)], "what was refused did not settle");
    assert!(ledger.ticket(id(9), 4000).is_some());
}

#[test]
fn only_files_of_the_cache_are_ever_deleted() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name);
    fs::write(path("thesis.txt"), "years of work").expect("writes");
    for name in ["esker-cache-v0-foyer-0.18", "esker-cache-vacation", "esker-cache-v1-foyer-0.22-notes"] {
        fs::create_dir_all(path(name).join("data")).expect("creates");
        fs::write(path(name).join("LAYOUT"), "something else").expect("writes");
        fs::write(path(name).join("data/foyer-storage-direct-fs-00000000"), "old").expect("writes");
    }
    let current = path("esker-cache-v1-foyer-0.22");
    fs::create_dir_all(current.join("meta")).expect("creates");
    fs::write(current.join("meta/foyer-storage-direct-fs-00000077"), "of another layout").expect("writes");
    fs::write(current.join("meta/mine"), "not the cache's").expect("writes");

    let opened = Directory::open(dir.path(), SMALL, SMALL).expect("opens");
    assert!(!path("esker-cache-v0-foyer-0.18").exists(), "an older version's files go");
    assert!(path("esker-cache-vacation/data/foyer-storage-direct-fs-00000000").exists());
    assert!(path("esker-cache-v1-foyer-0.22-notes/data/foyer-storage-direct-fs-00000000").exists());
    assert_eq!(fs::read_to_string(path("thesis.txt")).expect("reads"), "years of work");
    assert_eq!(fs::read_to_string(current.join("meta/mine")).expect("reads"), "not the cache's");
    assert!(!current.join("meta/foyer-storage-direct-fs-00000077").exists());
    let reserved = fs::metadata(opened.data().join("foyer-storage-direct-fs-00000003")).expect("is there");
    assert_eq!(reserved.len(), SMALL.block_bytes);

    // What belongs to this layout is kept; another size of it starts afresh.
    let block = opened.data().join("foyer-storage-direct-fs-00000002");
    fs::write(&block, [7; 10]).expect("writes");
    drop(opened);
    drop(Directory::open(dir.path(), SMALL, SMALL).expect("opens"));
    assert_eq!(fs::read(&block).expect("reads")[..10], [7; 10]);
    let larger = Extent { blocks: 5, ..SMALL };
    drop(Directory::open(dir.path(), SMALL, larger).expect("opens"));
    assert_eq!(fs::read(&block).expect("reads")[..10], [0; 10]);
}

#[test]
fn a_disk_that_is_full_is_found_full_at_once_and_left_as_it_was() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    // More than any disk has: 64 files of 128 TiB each.
    let huge = Extent { blocks: 64, block_bytes: 1 << 47 };
    match Directory::open(dir.path(), SMALL, huge) {
        Err(Refusal::Without(reason)) => assert!(reason.contains("cannot be reserved"), "{reason}"),
        other => panic!("a disk was not full: {other:?}"),
    }
    let left: Vec<_> =
        fs::read_dir(dir.path()).expect("lists").map(|e| e.expect("lists").file_name()).collect();
    assert_eq!(left, ["esker-cache.lock"], "the space is given back");
}

#[tokio::test]
async fn writes_that_do_not_arrive_are_faults_and_give_the_disk_a_rest() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let ssd = Some(SsdOptions { dir: dir.path().to_owned(), bytes: 32 << 20 });
    let options = CacheOptions { ssd, ..CacheOptions::default() };
    let ssd = Ssd::open(&options).await.expect("opens").expect("is asked for");
    let counted = || {
        let mut stats = CacheStats::default();
        ssd.write_into(&mut stats);
        (stats.ssd_writes, stats.ssd_dropped, stats.ssd_faults)
    };
    // Accepted, and let go of without having been written: what a write error looks like from outside of foyer.
    drop(ssd.tier(Class::Data).ledger.ticket(id(1), 100));
    for n in 2..300 {
        ssd.offer(id(n), Class::Data, block(n, 100));
    }
    assert_eq!(counted(), (1 + 298 - 256, 256, 1), "256 writes are left out, then it is tried again");
    assert_eq!(ssd.load(id(299), Class::Data).await, Some(block(299, 100)));
    assert_eq!(ssd.load(id(2), Class::Data).await, None);
    ssd.close().await;
    assert_eq!(counted().2, 1, "what was written arrived");
}

#[test]
fn the_shares_of_memory_add_up() {
    for meta_share in [0.0, 0.1, 0.25, 1.0] {
        let options = CacheOptions { meta_share, ..CacheOptions::default() };
        options.check().expect("is a share");
        let (meta, data) = options.split(1_000_003);
        assert_eq!(meta + data, 1_000_003);
    }
    for meta_share in [-0.1, 1.1, f64::NAN] {
        CacheOptions { meta_share, ..CacheOptions::default() }.check().expect_err("is no share");
    }
}
