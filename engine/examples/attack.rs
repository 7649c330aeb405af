//! Attacking an application: a bank whose sum must stay, over a store that fails by rules.
//!
//! ```text
//! cargo run -p esker --example attack                    # the rules below, in memory
//! cargo run -p esker --example attack -- my-faults.txt   # rules of your own, a line each
//! ```
//!
//! The same rules drive `FaultProxy`, which stands in front of a real S3 server, and `esker soak --faults`.
#![expect(clippy::print_stdout, reason = "it is what the example shows")]

use std::sync::Arc;

use esker::{
    Db, ErrorKind, WriteBatch,
    clock::SystemClock,
    testing::{FaultyStore, parse_rules},
};

const RULES: &str = "\
# what a bad day looks like
put chance=0.2  -> drop_reply
put chance=0.1  -> late=20ms
any chance=0.1  -> status=503
get chance=0.1  -> cut=100
any             -> latency=pareto(200us,1.5)
";

const ACCOUNTS: u64 = 8;
const EACH: i64 = 100;

#[tokio::main(flavor = "current_thread")]
async fn main() -> esker::Result<()> {
    let rules = match std::env::args().nth(1) {
        Some(file) => std::fs::read_to_string(&file)
            .map_err(|e| esker::Error::invalid(format!("the rules {file:?} cannot be read")).because(e))?,
        None => RULES.to_owned(),
    };
    let faulty = FaultyStore::memory(SystemClock::shared(), 42);
    let open = || Db::builder("memory://bank").object_store(Arc::new(faulty.clone())).open();

    let bank = open().await?;
    let mut opening = WriteBatch::new();
    for account in 0..ACCOUNTS {
        opening.put(&bank, name(account), EACH.to_string());
    }
    bank.write(opening).await?;

    for rule in parse_rules(&rules)? {
        println!("from now on: {rule}");
        faulty.add(rule);
    }
    let (mut done, mut failed) = (0, 0);
    for n in 0..200 {
        match transfer(&bank, n % ACCOUNTS, (n * 3 + 1) % ACCOUNTS, 7).await {
            Ok(()) => done += 1,
            // The store was away, or it is unknown whether it was done: either way nothing is half done.
            Err(error) if error.is_retryable() || error.kind() == ErrorKind::OutcomeUnknown => failed += 1,
            Err(error) => return Err(error),
        }
    }
    // A crash, as rude as it can be had inside one process; and a new start on a store that is sound again.
    drop(bank);
    println!("{done} transfers done, {failed} failed; faults met: {:?}", faulty.met());
    faulty.clear();
    let bank = open().await?;
    let mut sum = 0;
    for account in 0..ACCOUNTS {
        sum += balance(&bank, account).await?;
    }
    assert_eq!(sum, ACCOUNTS as i64 * EACH, "money was made or lost");
    println!("the sum is still {sum}");
    bank.close().await
}

fn name(account: u64) -> String {
    format!("account/{account}")
}

async fn balance(bank: &Db, account: u64) -> esker::Result<i64> {
    let found = bank.get(name(account)).await?;
    Ok(found.and_then(|text| std::str::from_utf8(&text).ok()?.parse().ok()).unwrap_or(0))
}

async fn transfer(bank: &Db, from: u64, to: u64, amount: i64) -> esker::Result<()> {
    if from == to {
        return Ok(());
    }
    let mut batch = WriteBatch::new();
    batch.put(bank, name(from), (balance(bank, from).await? - amount).to_string());
    batch.put(bank, name(to), (balance(bank, to).await? + amount).to_string());
    bank.write(batch).await.map(drop)
}
