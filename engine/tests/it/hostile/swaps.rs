//! Right bytes in wrong places: any two objects of a database exchanged, any two blocks of an SST.
//!
//! Always true: each case is detected, by an error that names one of the two, or is harmless.

use bytes::Bytes;
use esker::{
    manifest::Manifest,
    sst::Tail,
    stats::Cause,
    store::{Name, Store},
    testing::SimClock,
};

use super::database::{Database, Tally};

#[test]
fn any_two_objects_exchanged_are_detected_or_harmless() {
    let mut tally = Tally::default();
    for database in [Database::small(), Database::with_parts()] {
        for (at, (a, of_a)) in database.objects.iter().enumerate() {
            for (b, of_b) in &database.objects[at + 1..] {
                let swapped = [(a.as_str(), of_b.clone()), (b.as_str(), of_a.clone())];
                database.check(&swapped, &format!("{a} and {b} exchanged"), &mut tally);
                for one in &swapped {
                    database.check(
                        std::slice::from_ref(one),
                        &format!("{} replaced: {a}, {b}", one.0),
                        &mut tally,
                    );
                }
            }
        }
    }
    tally.print("objects exchanged");
    assert!(tally.detected > tally.harmless, "{tally:?}");
}

#[test]
fn any_two_blocks_of_an_sst_exchanged_are_detected() {
    let database = Database::small();
    let mut tally = Tally::default();
    let metas = database.metas();
    for (path, bytes) in database.of("sst/") {
        let Some(meta) = metas.iter().find(|meta| Name::Sst(meta.object_id()).path() == *path) else {
            continue;
        };
        let tail = Tail::decode(meta, bytes.slice(meta.tail_offset as usize..)).expect("it is sound");
        let blocks: Vec<Bytes> = tail
            .places()
            .map(|place| bytes.slice(place.offset as usize..(place.offset + u64::from(place.bytes)) as usize))
            .collect();
        let rest = &bytes[meta.tail_offset as usize..];
        for a in 0..blocks.len() {
            for b in a + 1..blocks.len() {
                let mut order: Vec<&[u8]> = blocks.iter().map(|block| &block[..]).collect();
                order.swap(a, b);
                let swapped = [order.concat(), rest.to_vec()].concat();
                let what = format!("{path}, blocks {a} and {b} exchanged");
                database.check(&[(path, swapped.into())], &what, &mut tally);
                // One in the place of both, where it fits.
                let mut doubled: Vec<&[u8]> = blocks.iter().map(|block| &block[..]).collect();
                doubled[b] = &blocks[a];
                let doubled = [doubled.concat(), rest.to_vec()].concat();
                database.check(&[(path, doubled.into())], &format!("{path}, block {a} twice"), &mut tally);
            }
        }
    }
    tally.print("blocks exchanged");
    assert!(tally.cases >= 20 && tally.harmless == 0, "{tally:?}");
}

impl Database {
    /// The entries of the SSTs of the latest version.
    fn metas(&self) -> Vec<esker::sst::SstMeta> {
        self.run(async |objects| {
            let store = Store::from_object_store(objects, "memory://hostile", SimClock::shared(1));
            let view =
                Manifest::open(store).await.expect("it opens").latest(Cause::Admin).await.expect("it loads");
            view.root.ssts().cloned().collect()
        })
    }
}
