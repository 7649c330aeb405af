//! A first program: write, read, scan, and read again through a reader.
//!
//! ```text
//! cargo run -p esker --example first                     # in memory
//! cargo run -p esker --example first -- file:///tmp/esker-first
//! cargo run -p esker --example first -- s3://bucket/prefix
//! ```
#![expect(clippy::print_stdout, reason = "it is what the example shows")]

use std::time::Duration;

use esker::{Db, Reader, WriteBatch};

#[tokio::main(flavor = "current_thread")]
async fn main() -> esker::Result<()> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "memory://first".to_owned());
    let db = Db::open(&url).await?;

    // Durable when it returns: the write lies in the object store.
    let token = db.put("greeting", "hello").await?;
    println!("written at {token}");

    // Visible at once, durable later: for those who would rather not wait for each write.
    let mut last = None;
    for n in 0..1000 {
        last = Some(db.put(format!("row/{n:04}"), format!("value {n}")).accepted().await?);
    }
    if let Some(last) = last {
        last.durable().await?;
    }

    // A batch is applied whole or not at all, across keyspaces.
    let users = db.keyspace("users").await?;
    let mut batch = WriteBatch::new();
    batch.put(&users, "ada", "countess").put(&db, "users", "1").delete(&db, "row/0000");
    db.write(batch).await?;
    db.put("session", "short-lived").ttl(Duration::from_secs(3600)).await?;

    println!("greeting = {:?}", db.get("greeting").await?);
    println!("ada = {:?}", users.get("ada").await?);
    let mut newest = db.scan_prefix("row/").rev().limit(3);
    while let Some(row) = newest.next().await? {
        println!("{} = {}", row.key.escape_ascii(), row.value.escape_ascii());
    }

    // A snapshot does not move while the database goes on.
    let snapshot = db.snapshot();
    db.put("greeting", "good bye").await?;
    assert_eq!(snapshot.get("greeting").await?.as_deref(), Some(&b"hello"[..]));

    // A checkpoint keeps what there is now under a name, without copying any data.
    db.checkpoint("before-cleaning").await?;
    db.delete("session").await?;
    let then = Reader::builder(&url).checkpoint("before-cleaning").open().await?;
    println!("the checkpoint still has session = {:?}", then.get("session").await?);
    then.close().await?;
    db.delete_checkpoint("before-cleaning").await?;

    // Any number of other processes may read; a token makes them wait for what was just written.
    let token = db.sync().await?;
    let reader = Reader::open(&url).await?;
    let seen = reader.at_least(token).await?;
    println!("the reader sees greeting = {:?}", seen.get("greeting").await?);

    reader.close().await?;
    db.close().await
}
