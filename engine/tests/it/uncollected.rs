//! A database that merges by itself, in a store that deletes nothing for a while.
//!
//! Always true: each test runs in one thread and virtual time.

use std::{sync::Arc, time::Duration};

use esker::{
    Db,
    manifest::StoredShape,
    stats::Cause,
    store::Folder,
    testing::{Fault, FaultyStore, Operation, Rule, SimClock},
};

use crate::virtual_time::simulated;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn garbage_that_cannot_be_collected_holds_up_no_merge_and_goes_when_it_can() {
    simulated(async {
        let clock = SimClock::shared(1);
        let store = FaultyStore::memory(clock.clone(), 1);
        let shape = StoredShape::leveled();
        let due = shape.l0_runs as usize;
        let builder = Db::builder("uncollected").object_store(Arc::new(store.clone())).clock(clock.clone());
        let db = builder.shape(shape).open().await.unwrap();
        let flush = async |n: usize| {
            db.put(n.to_be_bytes(), "v").await.unwrap();
            db.flush().await.unwrap();
            db.view().runs.iter().filter(|run| run.level == 0).count()
        };
        for n in 0..due {
            flush(n).await;
        }
        store.add(Rule::on(Operation::Delete).meets(Fault::Refuse));
        // Once what was merged is too old to be kept, each pass fails; after an hour those are long as seldom as they get.
        clock.sleep(HOUR).await;
        let refused = store.faults();
        assert!(refused > 0, "nothing was to be collected");

        let mut most = 0;
        for n in 0..120 {
            most = most.max(flush(n).await);
            clock.sleep(SECOND).await;
        }
        assert!(most <= due, "{most} runs in level 0, and {due} make a merge due");
        assert!(store.faults() > refused, "collecting was tried again meanwhile");

        store.clear();
        clock.sleep(HOUR).await;
        let kept = store.sound_store().list(Folder::Sst, None, Cause::Admin).await.unwrap();
        let named = db.view().runs.iter().map(|run| run.ssts.len()).sum::<usize>();
        assert_eq!(kept.len(), named, "what nobody names is gone");
    });
}
