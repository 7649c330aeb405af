//! What people read is in memory before it is flushed, and after it is merged.

use std::ops::Range;

use super::*;

const ROWS: u32 = 2000;

fn row(n: u32, version: u32) -> Vec<u8> {
    format!("{n}@{version} ").repeat(40).into_bytes()
}

async fn write(db: &Db, rows: Range<u32>, version: u32) {
    for n in rows {
        db.put(n.to_be_bytes(), row(n, version)).accepted().await.unwrap();
    }
}

/// Reads rows and gives how many requests that took.
async fn read(db: &Db, rows: Range<u32>, version: u32) -> u64 {
    let before = db.stats().count(RequestKind::Get, Cause::Read).requests;
    for n in rows {
        assert_eq!(value(db, n.to_be_bytes()).await.unwrap(), row(n, version));
    }
    db.stats().count(RequestKind::Get, Cause::Read).requests - before
}

#[tokio::test]
async fn what_is_read_stays_in_memory_through_a_flush_and_a_merge_and_what_is_not_read_does_not() {
    let db = small(&memory())
        .cache_bytes(32 << 20)
        .shape(StoredShape { l0_runs: 2, ..StoredShape::leveled() })
        .open()
        .await
        .unwrap();
    write(&db, 0..ROWS, 1).await;
    assert_eq!(read(&db, 0..500, 1).await, 0, "the memtable has it");
    db.flush().await.unwrap();
    assert_eq!(read(&db, 0..500, 1).await, 0, "it was read while it was in the memtable");
    assert_eq!(read(&db, 1500..1501, 1).await, 1, "nobody had read it; the tail came with the others");

    // Over all of them, so that nothing can be moved as it is.
    for n in (0..ROWS).step_by(100) {
        write(&db, n..n + 1, 2).await;
    }
    db.flush().await.unwrap();
    db.compact().await.unwrap();
    assert_eq!(db.view().runs.len(), 1, "all of it is one run");
    assert_eq!(read(&db, 1..100, 1).await + read(&db, 401..500, 1).await, 0, "what was in memory, is");
    assert!(read(&db, 1001..1100, 1).await > 0, "what was not, is not");
    assert_eq!(read(&db, 400..401, 2).await, 0);
}
