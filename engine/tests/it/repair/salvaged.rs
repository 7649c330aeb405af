//! Salvage without an index, and holes that a copy fills again.

use std::collections::BTreeMap;

use bytes::Bytes;
use esker::{
    repair::{RepairOptions, Rung},
    sst::{SstMeta, Tail},
    store::Name,
    verify::{Finding, Severity},
};
use object_store::{ObjectStoreExt as _, path::Path};

use super::{Place, check, fill, key, merge_all, only_sst, salvage, scans_stop_at_a_hole};

/// A database of one SST of many blocks; one key has more versions than fit a block.
async fn one_sst() -> (Place, BTreeMap<String, String>, SstMeta, Bytes) {
    let place = Place::new();
    let db = place.open().await;
    let mut model = BTreeMap::new();
    for n in 0..60 {
        db.put(key(30), format!("an older version, number {n}")).accepted().await.expect("accepted");
    }
    fill(&db, 0..120, "first", &mut model).await;
    db.close().await.expect("closed");
    let meta = only_sst(&place).await;
    let whole = place.bytes(&Name::Sst(meta.object_id())).await;
    (place, model, meta, whole)
}

fn tail_of(meta: &SstMeta, whole: &Bytes) -> Tail {
    Tail::decode(meta, whole.slice(meta.tail_offset as usize..)).expect("a tail")
}

fn holes(findings: &[Finding]) -> usize {
    findings.iter().filter(|finding| finding.severity == Severity::Hole).count()
}

#[tokio::test]
async fn damage_anywhere_in_the_tail_costs_no_entry() {
    let (whole, model, meta, object) = one_sst().await;
    let name = Name::Sst(meta.object_id());
    let (from, to) = (meta.tail_offset as usize, object.len());
    for at in (from..to).step_by((to - from) / 40).chain([to - 1, to - 20, to - 60]) {
        let place = whole.copy();
        place.flip(&name, at).await;
        let outcome = place.repair(salvage()).await;
        let after = outcome.after.expect("it acted");
        assert!(after.is_whole() && holes(&after.findings) == 0, "byte {at}: {:?}", after.findings);
        assert_eq!(check(&place.read(&model).await, &model), 0, "byte {at}");
    }
}

#[tokio::test]
async fn what_is_left_of_a_short_sst_is_kept() {
    let (whole, model, meta, object) = one_sst().await;
    let path = Path::from(Name::Sst(meta.object_id()).path());
    let mut kept_before = 0;
    for tenths in 0..=10 {
        let place = whole.copy();
        let short = object.slice(..meta.tail_offset as usize * tenths / 10);
        place.0.put(&path, short.into()).await.expect("cut");
        let after = place.repair(salvage()).await.after.expect("it acted");
        assert!(after.is_whole(), "{:?}", after.findings);
        let kept = model.len() - check(&place.read(&model).await, &model);
        assert!(kept >= kept_before, "{kept} keys of {tenths} tenths, {kept_before} of less");
        if tenths < 10 {
            scans_stop_at_a_hole(&place, &model).await;
        }
        kept_before = kept;
    }
    assert_eq!(kept_before, model.len(), "the blocks are all there");
}

#[tokio::test]
async fn a_damaged_block_and_a_damaged_index_cost_that_block() {
    let (whole, model, meta, object) = one_sst().await;
    let name = Name::Sst(meta.object_id());
    let tail = tail_of(&meta, &object);
    let filter_bytes =
        u32::from_le_bytes(object[object.len() - 72..][..4].try_into().expect("four")) as usize;
    for block in 0..tail.blocks() {
        let place = whole.copy();
        place.flip(&name, tail.block(block).offset as usize + 3).await;
        let before = place.read(&model).await;
        // In a separator: the index cannot be believed.
        place.flip(&name, meta.tail_offset as usize + filter_bytes + 9).await;
        let after = place.repair(salvage()).await.after.expect("it acted");
        assert!(after.is_whole() && holes(&after.findings) == 1, "block {block}: {:?}", after.findings);
        let read = place.read(&model).await;
        let more =
            read.values().filter(|v| v.is_err()).count() - before.values().filter(|v| v.is_err()).count();
        assert!(more <= 1, "block {block}: {more} more keys cannot be read");
        check(&read, &model);
        scans_stop_at_a_hole(&place, &model).await;
    }
}

#[tokio::test]
async fn the_holes_of_a_salvage_are_filled_from_a_copy_that_comes_later() {
    let (whole, mut model, meta, object) = one_sst().await;
    let name = Name::Sst(meta.object_id());
    let tail = tail_of(&meta, &object);
    let blocks = tail.blocks();
    let late =
        RepairOptions { from: Some(whole.store()), name: "a test".to_owned(), ..RepairOptions::default() };
    for damaged in [vec![0], vec![blocks / 4], vec![1, 4, blocks - 1], (0..blocks).collect()] {
        for index_too in [false, true] {
            let place = whole.copy();
            for block in &damaged {
                place.flip(&name, tail.block(*block).offset as usize + 3).await;
            }
            if index_too {
                place.flip(&name, object.len() - 8 - 72).await;
                place.flip(&name, meta.bytes as usize - 20).await;
            }
            let after = place.repair(salvage()).await.after.expect("it acted");
            assert!(holes(&after.findings) > 0, "{damaged:?}");
            check(&place.read(&model).await, &model);
            let outcome = place.repair(late.clone()).await;
            assert!(outcome.actions.iter().any(|a| a.rung == Rung::Copy && a.done), "{:?}", outcome.actions);
            let after = outcome.after.expect("it acted");
            assert!(after.is_whole() && holes(&after.findings) == 0, "{damaged:?}: {:?}", after.findings);
            assert_eq!(check(&place.read(&model).await, &model), 0, "{damaged:?}");
        }
    }
    // After more was written over the holes and merged around them.
    let place = whole.copy();
    place.flip(&name, tail.block(2).offset as usize + 3).await;
    place.repair(salvage()).await;
    let db = place.open().await;
    for round in ["second", "third"] {
        fill(&db, 0..9, round, &mut model).await;
    }
    db.close().await.expect("closed");
    merge_all(&place).await;
    place.repair(late.clone()).await;
    assert_eq!(check(&place.read(&model).await, &model), 0);
    let report = place.verify().await;
    assert!(report.is_whole() && holes(&report.findings) == 0, "{:?}", report.findings);
    // A copy that has lost the same has nothing to give.
    let place = whole.copy();
    place.flip(&name, tail.block(2).offset as usize + 3).await;
    let copy = place.copy();
    place.repair(salvage()).await;
    let outcome = place.repair(RepairOptions { from: Some(copy.store()), ..late }).await;
    assert!(outcome.after.is_none(), "{:?}", outcome.actions);
    assert!(outcome.actions.iter().any(|a| a.what.contains("cannot be filled")), "{:?}", outcome.actions);
}

#[tokio::test]
async fn why_something_is_lost_is_said_once() {
    let (place, _, meta, object) = one_sst().await;
    let tail = tail_of(&meta, &object);
    place.flip(&Name::Sst(meta.object_id()), tail.block(1).offset as usize + 3).await;
    let outcome = place.repair(salvage()).await;
    let why = "the checksum of a block is wrong";
    assert!(outcome.before.damage().any(|finding| finding.what.contains(why)));
    let after = outcome.after.expect("it acted");
    let hole = after.findings.iter().find(|finding| finding.severity == Severity::Hole).expect("a hole");
    assert_eq!(hole.what.matches(why).count(), 1, "{hole}");
    let reader = place.reader().await;
    let mut said = Vec::new();
    for n in 0..120 {
        said.extend(reader.get(key(n)).await.err().map(|error| error.to_string()));
    }
    assert!(!said.is_empty() && said.iter().all(|said| said.matches(why).count() == 1), "{said:?}");
}

#[tokio::test]
async fn a_hole_that_only_a_checkpoint_has_is_told() {
    let (whole, model, meta, object) = one_sst().await;
    let (place, name) = (whole.copy(), Name::Sst(meta.object_id()));
    place.flip(&name, tail_of(&meta, &object).block(2).offset as usize + 3).await;
    place.repair(salvage()).await;
    let db = place.open().await;
    db.checkpoint("holed").await.expect("made");
    db.close().await.expect("closed");
    // Both have the hole, and it is told once.
    assert_eq!(holes(&place.verify().await.findings), 1);
    let from_copy = RepairOptions { from: Some(whole.store()), ..RepairOptions::default() };
    let after = place.repair(from_copy).await.after.expect("it acted");
    assert!(after.is_whole());
    assert_eq!(check(&place.read(&model).await, &model), 0);
    let told: Vec<_> = after.findings.iter().filter(|f| f.severity == Severity::Hole).collect();
    assert!(told.len() == 1 && told[0].what.contains("checkpoint/holed"), "{:?}", after.findings);
}
