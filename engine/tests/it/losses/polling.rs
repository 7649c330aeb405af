//! A reader that nobody asks, and a hole in the log that it follows.

use super::*;
use crate::hasty::Hasty;

#[tokio::test]
async fn a_reader_that_only_polls_comes_to_know_of_a_hole_and_confirms_nothing_until_it_is_mended() {
    let place = Place::new();
    let db = place.open().await.expect("created");
    put_all(&db, &["a"]).await;
    let clock = Arc::new(Hasty::default());
    let store = place.store_with(clock.clone());
    let reader = Reader::builder("memory://losses").store(store).open().await.expect("opened");
    drop(db);
    clock.naps(20).await;
    // The object behind says that the one in `lost` was durable.
    let (manifest, lost) = (place.manifest().await, 1 + K + 1);
    put_data(&manifest, 1, lost + 1, 3, lost).await;
    let asked = reader.store().stats().snapshot();
    clock.naps(40).await;
    let error = reader.bounded(Duration::from_secs(30)).await.expect_err("nothing was confirmed");
    is_loss_of(lost, &error);
    let spent = reader.store().stats().snapshot().since(&asked);
    assert!(spent.count(RequestKind::List, Cause::Poll).requests > 1);
    assert_eq!(reader.snapshot().seq(), 1, "nothing behind the hole is shown");
    // Brought back from a copy, say.
    put_data(&manifest, 1, lost, 2, lost - 1).await;
    clock.naps(20).await;
    let snapshot = reader.bounded(Duration::from_secs(30)).await.expect("confirmed again");
    assert_eq!(snapshot.seq(), 3);
}
