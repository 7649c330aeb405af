//! Tests of the manifest's formats and edits that need no store.

use std::fmt::Write as _;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::{
    error::{Error, ErrorKind},
    key::{EntryRef, Kind},
    store::{Name, ObjectId, Role},
};

const UUID: u128 = 0x0123_4567_89AB_CDEF_0011_2233_4455_6677;

/// An SST that holds `keys`, a letter each, all with number `seq`; a compactor made it if its counter is 100 or more.
pub(super) fn sst(counter: u64, keys: &str, seq: u64) -> SstMeta {
    let mut sum = Sum::default();
    for key in keys.split("").filter(|key| !key.is_empty()) {
        sum.add(&sum_of(key, seq));
    }
    let role = if counter < 100 { Role::Writer } else { Role::Compactor };
    let id = ObjectId { role, epoch: 1, counter, nonce: counter * 7 };
    SstMeta {
        id: id.to_bytes().into(),
        bytes: 1000,
        tail_offset: 500,
        first_key: key_of(&keys[..1]),
        last_key: key_of(&keys[keys.len() - 1..]),
        min_seq: seq,
        max_seq: seq,
        entries: keys.len() as u64,
        raw_bytes: 2000,
        hash: Bytes::from_static(&[7; 16]),
        sum: Bytes::copy_from_slice(&sum.to_bytes()),
        blocks: 1,
        ..SstMeta::default()
    }
}

/// An output that holds what `inputs` held, under new keys bounds.
fn merged(counter: u64, keys: &str, inputs: &[&SstMeta]) -> SstMeta {
    let mut sum = Sum::default();
    inputs.iter().for_each(|input| sum.add(&Sum::from_bytes(&input.sum).expect("made above")));
    let seqs = || inputs.iter().map(|input| input.min_seq);
    SstMeta {
        min_seq: seqs().min().unwrap_or(1),
        max_seq: seqs().max().unwrap_or(1),
        sum: Bytes::copy_from_slice(&sum.to_bytes()),
        ..sst(counter, keys, 1)
    }
}

fn key_of(letter: &str) -> Bytes {
    [&[0, 0, 0, 0], letter.as_bytes()].concat().into()
}

fn sum_of(letter: &str, seq: u64) -> Sum {
    let key = key_of(letter);
    let mut sum = Sum::default();
    sum.add_entry(EntryRef { key: &key, seq, kind: Kind::Put, expire_at_ms: 0, value: b"v" });
    sum
}

fn options() -> StoredOptions {
    StoredOptions {
        block_bytes: 16 << 10,
        codecs: vec![1, 2],
        sst_bytes: 64 << 20,
        retention_ms: 900_000,
        wal_window: 4,
        ..StoredOptions::default()
    }
}

/// A version of writer epoch 1 and compactor epoch 1 with these runs: level, then SSTs.
fn tree(runs: &[(u32, &[SstMeta])]) -> Root {
    let mut root = Root::first(UUID, options());
    root.token = Bytes::from_static(b"sixteen bytes...");
    (root.writer.epoch, root.compactor.epoch) = (1, 1);
    (root.writer.name, root.compactor.name) = ("writer-host:1".into(), "compactor-host:1".into());
    let mut sum = Sum::default();
    for (level, ssts) in runs {
        root.runs.push(Run { id: root.next_run, level: *level, ssts: ssts.to_vec(), parts: Vec::new() });
        root.next_run += 1;
        ssts.iter().for_each(|sst| sum.add(&Sum::from_bytes(&sst.sum).expect("made above")));
    }
    root.sum = Bytes::copy_from_slice(&sum.to_bytes());
    root
}

/// The runs as text: a line each, the level and the counters.
fn shape(root: &Root) -> String {
    root.runs.iter().fold(String::new(), |mut text, run| {
        let counters: Vec<_> = run.ssts.iter().map(|sst| sst.object_id().counter.to_string()).collect();
        let _ = write!(text, "{}:{} ", run.level, counters.join(","));
        text
    })
}

fn ids(ssts: &[&SstMeta]) -> Vec<ObjectId> {
    ssts.iter().map(|sst| sst.object_id()).collect()
}

fn compact(inputs: &[&SstMeta], outputs: &[SstMeta], level: u32) -> Edit {
    Edit::Compact {
        epoch: 1,
        inputs: ids(inputs),
        outputs: outputs.to_vec(),
        level,
        dropped: Sum::default(),
        counter_floor: 0,
        busy_until_ms: 9,
    }
}

fn flush(ssts: &[SstMeta], replay_from: u64, last_seq: u64) -> Edit {
    Edit::Flush { epoch: 1, ssts: ssts.to_vec(), replay_from, tail_hint: 3, last_seq, counter_floor: 5 }
}

#[track_caller]
fn refused(outcome: Result<Root>, kind: ErrorKind, saying: &str) -> Error {
    let error = outcome.expect_err("this must be refused");
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(saying), "{error} does not say {saying:?}");
    error
}

mod stored_form {
    use super::*;

    fn sample() -> Root {
        let mut root = tree(&[(0, &[sst(3, "ac", 9)]), (1, &[sst(1, "af", 4), sst(2, "gz", 5)])]);
        root.id = 7;
        root.ring =
            (1..=7).map(|id| RingSlot { id, token: Bytes::from_static(b"sixteen bytes...") }).collect();
        root.committed_ms = 1_700_000_000_000;
        root
    }

    fn resealed(stored: &Bytes, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut bytes = stored[..stored.len() - 8].to_vec();
        change(&mut bytes);
        let seed = crate::codec::frame::place_seed(0x6D61_6E69_6665_7374, 7);
        bytes.extend_from_slice(&crate::codec::frame::checksum(seed, &bytes).to_le_bytes());
        bytes.into()
    }

    #[test]
    fn the_first_version_of_the_format_is_still_read_and_written() {
        golden("manifest_v1.bin", &codec::encode(&sample()));
        let stored = std::fs::read(golden_path("manifest_v1.bin")).expect("the golden file is there");
        assert_eq!(codec::decode(7, UUID, &stored.into()).expect("it is sound"), sample());
    }

    #[test]
    fn a_version_with_a_hole_needs_a_program_that_knows_holes() {
        let (kept, lost) = (sst(3, "ac", 9), sst(4, "bd", 9));
        let mut root = tree(&[(0, std::slice::from_ref(&lost))]);
        root.id = 7;
        let mut sum = lost.sum();
        sum.remove(&kept.sum());
        let hole = SstMeta::hole(
            ObjectId { counter: 5, ..kept.object_id() },
            &lost,
            (key_of("b"), key_of("d")),
            (2, &sum),
            "the checksum of a block is wrong",
        );
        let kept = SstMeta { first_key: key_of("b"), last_key: key_of("c"), ..kept };
        let salvaged = vec![salvage::Salvaged { out: lost.object_id(), kept: vec![kept], holes: vec![hole] }];
        let next = Edit::Salvage { epoch: 1, salvaged: salvaged.clone(), counter_floor: 6 };
        let next = next.apply(&root).expect("it adds up");
        assert_eq!((shape(&next).as_str(), next.required_features), ("0:3 0:5 ", codec::FEATURE_HOLES));
        assert_eq!(next.sum, root.sum);
        golden("manifest_hole_v1.bin", &codec::encode(&next));
        let stored = std::fs::read(golden_path("manifest_hole_v1.bin")).expect("the golden file is there");
        assert_eq!(codec::decode(7, UUID, &stored.into()).expect("it is sound"), next);
        // Without the mark an older program would not know.
        let unmarked = Root { required_features: 0, ..next.clone() };
        refused(codec::decode(7, UUID, &codec::encode(&unmarked)), ErrorKind::Corruption, "not marked");
        // What does not add up is not committed; nor does a compaction take a hole in.
        let mut short = salvaged;
        short[0].holes.clear();
        let short = Edit::Salvage { epoch: 1, salvaged: short, counter_floor: 6 };
        refused(short.apply(&root), ErrorKind::Corruption, "do not add up");
        let taken = next.runs[1].ssts[0].clone();
        refused(
            compact(&[&taken], std::slice::from_ref(&taken), 1).apply(&next),
            ErrorKind::Conflict,
            "not in version",
        );
    }

    #[test]
    fn every_flipped_byte_and_every_truncation_is_corruption_of_the_named_object() {
        let stored = codec::encode(&sample());
        let damaged = (0..stored.len()).flat_map(|at| {
            let mut flipped = stored.to_vec();
            flipped[at] ^= 0x40;
            [Bytes::from(flipped), stored.slice(..at)]
        });
        for bytes in damaged {
            let error = codec::decode(7, UUID, &bytes).expect_err("damage must be found");
            assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
            assert_eq!(error.object(), Some("manifest/00000000000000000007"));
            assert!(error.offset().is_some());
        }
    }

    #[test]
    fn an_object_that_was_copied_to_another_slot_or_database_is_refused() {
        let stored = codec::encode(&sample());
        let error = codec::decode(8, UUID, &stored).expect_err("the slot is wrong");
        assert_eq!(error.kind(), ErrorKind::Corruption);
        let error = codec::decode(7, UUID + 1, &stored).expect_err("the database is wrong");
        assert!(error.to_string().contains("another database"), "{error}");
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        let newer = |change: fn(&mut Root)| {
            let mut root = sample();
            change(&mut root);
            codec::decode(7, UUID, &codec::encode(&root))
        };
        refused(
            newer(|root| root.min_reader = 2),
            ErrorKind::Unsupported,
            "newer esker: it asks for reader version 2",
        );
        refused(newer(|root| root.required_features = 1 << 5), ErrorKind::Unsupported, "feature 5");
        let stored = resealed(&codec::encode(&sample()), |bytes| bytes[24] = 9);
        refused(codec::decode(7, UUID, &stored), ErrorKind::Unsupported, "format 9");
        let optional =
            newer(|root| (root.optional_features, root.min_writer) = (1 << 5, 2)).expect("it can be read");
        assert_eq!(optional.check_writable().expect_err("but not written").kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn a_root_that_breaks_the_rules_is_refused_though_its_checksum_is_right() {
        let broken: [fn(&mut Root); 7] = [
            |root| root.prev_hash = Bytes::new(),
            |root| root.sum = Bytes::from_static(&[0xFF; 32]),
            |root| root.runs.swap(0, 1),
            |root| root.runs[0].id = root.runs[1].id,
            |root| root.runs[0].ssts[0].id = Bytes::new(),
            |root| root.keyspaces.push(root.keyspaces[0].clone()),
            |root| root.ring[0].token = Bytes::new(),
        ];
        for change in broken {
            let mut root = sample();
            change(&mut root);
            refused(codec::decode(7, UUID, &codec::encode(&root)), ErrorKind::Corruption, "");
        }
        let stored = resealed(&codec::encode(&sample()), |bytes| bytes[40..60].fill(0xFF));
        refused(codec::decode(7, UUID, &stored), ErrorKind::Corruption, "a type that is not known");
    }

    #[test]
    fn a_view_refuses_runs_that_overlap_and_ssts_named_twice() {
        let overlapping = tree(&[(1, &[sst(1, "ac", 1), sst(2, "bd", 1)])]);
        assert_eq!(View::new(overlapping, None).expect_err("they overlap").kind(), ErrorKind::Corruption);
        let twice = tree(&[(0, &[sst(1, "ac", 1)]), (1, &[sst(1, "ac", 1)])]);
        assert!(View::new(twice, None).expect_err("named twice").to_string().contains("twice"));
    }

    #[test]
    fn a_view_shares_open_ssts_with_the_view_before() {
        let before = View::new(tree(&[(0, &[sst(1, "ac", 1)])]), None).expect("sound");
        let after = View::new(tree(&[(0, &[sst(2, "ac", 2)]), (1, &[sst(1, "ac", 1)])]), Some(&before))
            .expect("sound");
        let id = sst(1, "ac", 1).object_id();
        assert!(std::sync::Arc::ptr_eq(before.sst(id).expect("there"), after.sst(id).expect("there")));
        assert_eq!(after.keyspace("default"), Some(DEFAULT_KEYSPACE));
        assert_eq!(after.keyspace("none"), None);
    }

    #[test]
    fn the_identity_of_the_first_format_is_still_read_and_written() {
        let identity = Identity { db_uuid: UUID, wal_window: 8 };
        golden("identity_v1.bin", &identity.encode(*b"sixteen bytes..."));
        let stored = std::fs::read(golden_path("identity_v1.bin")).expect("the golden file is there");
        assert_eq!(Identity::decode(&stored).expect("sound"), identity);
        for at in 0..stored.len() {
            let mut flipped = stored.clone();
            flipped[at] ^= 1;
            for damaged in [&flipped[..], &stored[..at]] {
                let error = Identity::decode(damaged).expect_err("damage must be found");
                assert_eq!((error.kind(), error.object()), (ErrorKind::Corruption, Some("DB")), "{error}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_is_written_reads_back(
            id in 1u64..1 << 62,
            ssts in prop::collection::vec((any::<u64>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..40)), 0..20),
            name in ".{0,40}",
            token in any::<[u8; 16]>(),
        ) {
            let mut root = tree(&[]);
            (root.id, root.writer.name, root.token) = (id, name, Bytes::copy_from_slice(&token));
            for (n, (counter, seq, key)) in ssts.into_iter().enumerate() {
                let meta = SstMeta {
                    last_key: [&key[..], b"z"].concat().into(),
                    first_key: key.into(),
                    ..sst(counter / 8, "a", seq)
                };
                root.runs.push(Run { id: n as u64 + 1, level: n as u32 / 4, ssts: vec![meta], parts: vec![] });
                root.next_run += 1;
            }
            let stored = codec::encode(&root);
            prop_assert_eq!(codec::decode(id, UUID, &stored).expect("sound"), root);
        }

        #[test]
        fn arbitrary_bytes_are_an_error_and_nothing_worse(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut sealed = codec::encode(&tree(&[])).to_vec();
            let at = bytes.len().min(sealed.len());
            sealed[..at].copy_from_slice(&bytes[..at]);
            for bytes in [Bytes::from(bytes), sealed.into()] {
                let _ = Identity::decode(&bytes);
                let _ = part::decode(sst(1, "a", 1).object_id(), &bytes);
                prop_assert!(bytes.starts_with(b"eskerMAN") || codec::decode(1, UUID, &bytes).is_err());
            }
        }
    }
}

mod edits {
    #![expect(clippy::cloned_ref_to_slice_refs, reason = "trees read better as lists of what is in them")]
    use super::*;

    #[test]
    fn a_claim_takes_the_next_epoch_and_says_whose_it_is() {
        let base = tree(&[]);
        let next = Edit::ClaimWriter { uuid: 5, name: "host:9".into() }
            .apply(&base)
            .expect("a claim is always possible");
        assert_eq!((next.writer.epoch, next.writer.counter_floor, &*next.writer.name), (2, 0, "host:9"));
        assert_eq!(next.writer.uuid[..], 5u128.to_le_bytes());
        assert_eq!((next.compactor, next.writer.replay_from), (base.compactor.clone(), FIRST_SLOT));
        let claim = Edit::ClaimCompactor {
            uuid: 6,
            name: "host:8".into(),
            busy_until_ms: 77,
            now_ms: 7,
            force: true,
        };
        let next = claim.apply(&base).expect("a claim is always possible");
        assert_eq!((next.compactor.epoch, next.compactor.busy_until_ms), (2, 77));
        assert_eq!(next.writer, base.writer);
    }

    #[test]
    fn a_superseded_role_is_fenced_and_told_by_whom() {
        let mut base = tree(&[]);
        (base.writer.epoch, base.compactor.epoch) = (4, 3);
        let error = refused(flush(&[], 1, 0).apply(&base), ErrorKind::Fenced, "writer-host:1");
        assert!(error.to_string().contains("epoch 4"), "{error}");
        let edit = Edit::CompactorState { epoch: 1, counter_floor: 0, busy_until_ms: 0 };
        refused(edit.apply(&base), ErrorKind::Fenced, "compactor-host:1");
        refused(
            Edit::CreateKeyspace { epoch: 1, name: "a".into() }.apply(&base),
            ErrorKind::Fenced,
            "writer-host:1",
        );
        refused(
            Edit::CreateKeyspace { epoch: 9, name: "a".into() }.apply(&base),
            ErrorKind::Corruption,
            "epoch 9",
        );
    }

    #[test]
    fn a_flush_becomes_the_newest_run_and_moves_the_replay_point() {
        let base = tree(&[(0, &[sst(1, "az", 1)])]);
        let next = flush(&[sst(2, "ac", 2), sst(3, "dz", 2)], 4, 2).apply(&base).expect("sound");
        assert_eq!(shape(&next), "0:2,3 0:1 ");
        assert_eq!(next.sum, tree(&[(0, &[sst(1, "az", 1), sst(2, "ac", 2), sst(3, "dz", 2)])]).sum);
        let WriterState { replay_from, tail_hint, last_seq, counter_floor, .. } = next.writer;
        assert_eq!((replay_from, tail_hint, last_seq, counter_floor), (4, 3, 2, 5));
        let empty = flush(&[], 6, 2).apply(&next).expect("an empty flush only moves the replay point");
        assert_eq!((shape(&empty), empty.writer.replay_from), (shape(&next), 6));
    }

    #[test]
    fn a_flush_that_would_go_back_or_be_in_twice_is_refused() {
        let base = flush(&[sst(2, "ac", 2)], 4, 2).apply(&tree(&[])).expect("sound");
        refused(flush(&[], 3, 2).apply(&base), ErrorKind::Invalid, "replay point back from 4 to 3");
        refused(flush(&[], 4, 1).apply(&base), ErrorKind::Invalid, "last sequence number back from 2 to 1");
        refused(flush(&[sst(2, "ac", 2)], 4, 2).apply(&base), ErrorKind::Invalid, "already");
        refused(flush(&[sst(2, "ac", 3)], 5, 3).apply(&base), ErrorKind::Invalid, "already");
        refused(flush(&[sst(3, "ac", 9)], 5, 3).apply(&base), ErrorKind::Invalid, "sequence number 9");
        refused(flush(&[sst(3, "ac", 3), sst(4, "bd", 3)], 5, 3).apply(&base), ErrorKind::Invalid, "overlap");
    }

    #[test]
    fn a_keyspace_is_created_once() {
        let create = |name: &str| Edit::CreateKeyspace { epoch: 1, name: name.into() };
        let base = create("users").apply(&tree(&[])).expect("sound");
        assert_eq!(base.keyspaces.iter().map(|k| k.id).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(create("users").apply(&base).expect("there already"), base);
        assert_eq!(create("default").apply(&base).expect("there already"), base);
        assert_eq!(create("more").apply(&base).expect("sound").keyspaces[2].id, 2);
        refused(create("").apply(&base), ErrorKind::Invalid, "1 to 255");
        refused(create(&"x".repeat(256)).apply(&base), ErrorKind::Invalid, "256");
    }

    /// The tree, the inputs' counters, the outputs' keys, their level; then the tree that results.
    #[test]
    fn compactions_put_their_outputs_where_they_belong() {
        let (f3, f2, f1) = (sst(3, "ah", 9), sst(2, "ag", 8), sst(1, "bf", 7));
        let (a, m, t) = (sst(101, "ac", 1), sst(102, "gm", 2), sst(103, "tz", 3));
        let old = sst(104, "az", 0);

        // Leveled: L0 and what it overlaps in L1, into the same run; newer flushes stay in front.
        let base = tree(&[
            (0, &[f3.clone()]),
            (0, &[f2.clone()]),
            (0, &[f1.clone()]),
            (1, &[a.clone(), m.clone(), t.clone()]),
        ]);
        let out = merged(110, "am", &[&f2, &f1, &a, &m]);
        let next = compact(&[&f2, &f1, &a, &m], &[out], 1).apply(&base).expect("sound");
        assert_eq!(shape(&next), "0:3 1:110,103 ");
        assert_eq!(next.sum, base.sum, "nothing was dropped");

        // A move into a leveled run joins it.
        let base = tree(&[(1, &[m.clone()]), (2, &[a.clone(), t.clone()])]);
        let next = compact(&[&m], std::slice::from_ref(&m), 2).apply(&base).expect("sound");
        assert_eq!(shape(&next), "2:101,102,103 ");

        // Tiered: a new run in front of those of its level.
        let base = tree(&[(0, &[f3.clone()]), (0, &[f2.clone()]), (1, &[old.clone()])]);
        let out = merged(110, "ah", &[&f3, &f2]);
        assert_eq!(shape(&compact(&[&f3, &f2], &[out], 1).apply(&base).expect("sound")), "1:110 1:104 ");

        // Older runs of one level merged among themselves keep their place.
        let base = tree(&[(1, &[f3.clone()]), (1, &[f2.clone()]), (1, &[old.clone()])]);
        let out = merged(110, "az", &[&f2, &old]);
        assert_eq!(shape(&compact(&[&f2, &old], &[out], 1).apply(&base).expect("sound")), "1:3 1:110 ");

        // To a level that is not there yet, and past one that is.
        let base = tree(&[(0, &[f3.clone()]), (1, &[sst(105, "xz", 1)])]);
        assert_eq!(
            shape(&compact(&[&f3], &[merged(110, "ah", &[&f3])], 3).apply(&base).expect("sound")),
            "1:105 3:110 "
        );

        // Everything merged away.
        let mut gone = compact(&[&f3], &[], 1);
        if let Edit::Compact { dropped, .. } = &mut gone {
            *dropped = Sum::from_bytes(&f3.sum).expect("made above");
        }
        let next = gone.apply(&base).expect("sound");
        assert_eq!((shape(&next), next.sum), ("1:105 ".to_owned(), tree(&[(1, &[sst(105, "xz", 1)])]).sum));
    }

    #[test]
    fn a_compaction_whose_input_is_gone_is_a_conflict() {
        let base = tree(&[(0, &[sst(1, "ac", 1)])]);
        let error = refused(
            compact(&[&sst(2, "ac", 1)], &[], 1).apply(&base),
            ErrorKind::Conflict,
            "not in version 1",
        );
        assert!(error.is_retryable());
        refused(compact(&[], &[], 1).apply(&base), ErrorKind::Invalid, "needs inputs");
    }

    #[test]
    fn a_compaction_that_loses_or_makes_an_entry_is_corruption() {
        let (one, two) = (sst(1, "abc", 2), sst(2, "ac", 1));
        let base = tree(&[(0, &[one.clone()]), (0, &[two.clone()])]);
        let lost = merged(110, "ac", &[&one]);
        refused(
            compact(&[&one, &two], &[lost.clone()], 1).apply(&base),
            ErrorKind::Corruption,
            "does not balance",
        );
        let mut told = compact(&[&one, &two], &[lost], 1);
        if let Edit::Compact { dropped, .. } = &mut told {
            *dropped = Sum::from_bytes(&two.sum).expect("made above");
        }
        assert_eq!(told.apply(&base).expect("what was dropped was told").sum, one.sum);
    }

    #[test]
    fn a_compaction_that_would_change_the_order_of_data_is_refused() {
        let (new, mid, old) = (sst(3, "ac", 3), sst(2, "bd", 2), sst(1, "ad", 1));
        let base = tree(&[(0, &[new.clone()]), (0, &[mid.clone()]), (1, &[old.clone()])]);
        // Newer data past older that stays.
        let out = merged(110, "ac", &[&new]);
        refused(compact(&[&new], &[out], 1).apply(&base), ErrorKind::Invalid, "change order");
        // Older data in front of newer that stays.
        let base = tree(&[(1, &[new.clone()]), (1, &[mid.clone()]), (1, &[old.clone()])]);
        let out = merged(110, "ad", &[&new, &old]);
        refused(compact(&[&new, &old], &[out], 1).apply(&base), ErrorKind::Invalid, "change order");
        // The same, where keys do not meet, is fine.
        let far = sst(4, "xz", 2);
        let base = tree(&[(1, &[new.clone()]), (1, &[far]), (1, &[old.clone()])]);
        let out = merged(110, "ad", &[&new, &old]);
        assert_eq!(shape(&compact(&[&new, &old], &[out], 1).apply(&base).expect("sound")), "1:110 1:4 ");
    }

    #[test]
    fn outputs_outside_their_inputs_are_refused() {
        let one = sst(1, "bd", 5);
        let base = tree(&[(0, &[one.clone()]), (1, &[sst(100, "mn", 1)])]);
        let wide = merged(110, "ad", &[&one]);
        refused(compact(&[&one], &[wide], 1).apply(&base), ErrorKind::Invalid, "no input holds");
        let newer = SstMeta { max_seq: 6, ..merged(110, "bd", &[&one]) };
        refused(compact(&[&one], &[newer], 1).apply(&base), ErrorKind::Invalid, "no input holds");
        let named = SstMeta { id: sst(100, "mn", 1).id, ..merged(110, "bd", &[&one]) };
        refused(compact(&[&one], &[named], 1).apply(&base), ErrorKind::Invalid, "already");
    }

    #[test]
    fn an_edit_knows_whether_it_is_in_already() {
        let edit = flush(&[sst(2, "ac", 2)], 4, 2);
        let base = tree(&[]);
        let next = edit.apply(&base).expect("sound");
        assert!(!edit.is_in(&base) && edit.is_in(&next));
        let two = sst(2, "ac", 2);
        let merge = compact(&[&two], &[merged(110, "ac", &[&two])], 1);
        assert!(!merge.is_in(&next) && merge.is_in(&merge.apply(&next).expect("sound")));
        assert!(!compact(&[&two], &[two.clone()], 1).is_in(&next), "a move proves nothing");
    }
}

mod parts {
    use super::*;
    use crate::{clock::SystemClock, stats::Cause, store::Store};

    fn numbered(n: u64) -> SstMeta {
        let key = |n: u64| Bytes::from(format!("\0\0\0\0key number {n:012}"));
        SstMeta { first_key: key(2 * n), last_key: key(2 * n + 1), ..sst(1000 + n, "a", n + 1) }
    }

    fn ids_from(first: u64) -> impl FnMut() -> ObjectId {
        let mut counter = first;
        move || {
            counter += 1;
            ObjectId { role: Role::Compactor, epoch: 1, counter, nonce: counter }
        }
    }

    /// Packs, stores the parts, checks that the stored form makes the same version again.
    async fn store_and_complete(store: &Store, base: &Root, next: &mut Root, first: u64) -> part::Packed {
        let packed = part::pack(base, next, ids_from(first));
        for (id, body) in &packed.parts {
            store.put_new(&Name::Part(*id), vec![body.clone()], Cause::Manifest).await.expect("stored");
        }
        let read = part::complete(store, packed.root.clone(), None, Cause::Manifest).await.expect("complete");
        assert_eq!(&read, next);
        let near =
            part::complete(store, packed.root.clone(), Some(base), Cause::Manifest).await.expect("complete");
        assert_eq!(&near, next);
        packed
    }

    fn memory(name: &str) -> Store {
        Store::open(&format!("memory://manifest-parts-{name}"), SystemClock::shared())
            .expect("memory is always there")
    }

    #[tokio::test]
    async fn a_version_of_100_000_ssts_is_stored_under_64_kib_and_changes_cheaply() {
        let store = memory("large");
        let all: Vec<_> = (0..100_000).map(numbered).collect();
        let mut base = tree(&[(1, &all[..10_000]), (2, &all[10_000..])]);
        let first = store_and_complete(&store, &tree(&[]), &mut base, 0).await;
        assert!(codec::encode(&first.root).len() < 64 << 10, "{} bytes", codec::encode(&first.root).len());

        // A flush writes no part; neither does a claim.
        let mut next = flush(&[sst(1, "az", 200_000)], 2, 200_000).apply(&base).expect("sound");
        let second = store_and_complete(&store, &base, &mut next, 1000).await;
        assert!(second.parts.is_empty() && codec::encode(&second.root).len() < 64 << 10);

        // Compactions that bite pieces out of two runs write few parts, and the root stays small.
        let mut written = 0;
        for round in 0..40u64 {
            let base = next;
            let at = (round as usize * 977) % 9_000;
            let moved = base.runs[1].ssts[at].clone();
            next = compact(&[&moved], std::slice::from_ref(&moved), 2).apply(&base).expect("sound");
            let packed = part::pack(&base, &mut next, ids_from(2000 + round * 100));
            written += packed.parts.len();
            assert!(packed.parts.len() <= 4, "round {round} wrote {} parts", packed.parts.len());
            assert!(
                codec::encode(&packed.root).len() < 64 << 10,
                "{} bytes",
                codec::encode(&packed.root).len()
            );
        }
        assert!(written > 0, "forty torn parts do not fit inline");
    }

    #[tokio::test]
    async fn a_missing_or_damaged_part_is_corruption_that_names_it() {
        let store = memory("damage");
        let all: Vec<_> = (0..500).map(numbered).collect();
        let mut root = tree(&[(1, &all)]);
        let packed = part::pack(&tree(&[]), &mut root, ids_from(0));
        let error = part::complete(&store, packed.root.clone(), None, Cause::Manifest)
            .await
            .expect_err("nothing is there");
        assert!(error.object().is_some_and(|name| name.starts_with("part/")), "{error}");
        let (id, body) = packed.parts[0].clone();
        golden("manifest_part_v1.bin", &part::encode(id, &all[..3]));
        let small = part::encode(id, &all[..3]);
        assert_eq!(part::decode(id, &small).expect("sound"), &all[..3]);
        for at in 0..small.len() {
            let mut flipped = small.to_vec();
            flipped[at] ^= 0x10;
            for damaged in [Bytes::from(flipped), small.slice(..at)] {
                assert_eq!(part::decode(id, &damaged).expect_err("damage").kind(), ErrorKind::Corruption);
            }
        }
        let elsewhere = ObjectId { nonce: id.nonce + 1, ..id };
        assert_eq!(part::decode(elsewhere, &body).expect_err("its place").kind(), ErrorKind::Corruption);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn whatever_changes_the_stored_form_makes_the_same_version(
            rounds in prop::collection::vec((0usize..4000, 1usize..300, any::<bool>()), 1..12),
        ) {
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(async {
                let store = memory(&format!("{rounds:?}"));
                let all: Vec<_> = (0..4000).map(numbered).collect();
                let mut base = tree(&[(1, &all[..2000]), (2, &all[2000..])]);
                store_and_complete(&store, &tree(&[]), &mut base, 0).await;
                for (round, (at, n, removed)) in rounds.into_iter().enumerate() {
                    let mut next = base.clone();
                    let run = &mut next.runs[at % 2];
                    let start = at % run.ssts.len().max(1);
                    let end = (start + n).min(run.ssts.len());
                    if removed {
                        run.ssts.drain(start..end);
                    } else {
                        for (k, sst) in run.ssts[start..end].iter_mut().enumerate() {
                            let id = ObjectId { counter: (round * 10_000 + k) as u64, nonce: 1, ..sst.object_id() };
                            sst.id = id.to_bytes().into();
                        }
                    }
                    let packed = store_and_complete(&store, &base, &mut next, 1_000_000 * (round as u64 + 1)).await;
                    let inline: usize = packed.root.ssts().map(|sst| prost::Message::encoded_len(sst) + 4).sum();
                    assert!(inline <= part::INLINE_BYTES, "{inline} bytes are inline");
                    base = next;
                }
            });
        }
    }
}

mod copies {
    use super::*;
    use crate::{
        codec::frame::checksum,
        manifest::copy::{VersionCopy, decode, encode},
        store::Token,
    };

    const TOKEN: Token = Token(*b"sixteen bytes...");

    fn names() -> [Name; 2] {
        [Name::Pin(0xABCD), Name::checkpoint("before").expect("a name")]
    }

    fn sample(name: &Name) -> VersionCopy {
        let mut root = tree(&[(0, &[sst(3, "ac", 9)]), (1, &[sst(1, "af", 4), sst(2, "gz", 5)])]);
        root.id = 7;
        let life_ms = if matches!(name, Name::Pin(_)) { 600_000 } else { 0 };
        VersionCopy { root, hash: UUID, life_ms, made_ms: 1_700_000_000_000 }
    }

    fn resealed(name: &Name, stored: &Bytes, change: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut bytes = stored[..stored.len() - 8].to_vec();
        change(&mut bytes);
        let seed = twox_hash::XxHash3_64::oneshot(name.path().as_bytes());
        bytes.extend_from_slice(&checksum(seed, &bytes).to_le_bytes());
        bytes.into()
    }

    #[test]
    fn the_first_format_of_a_pin_and_of_a_checkpoint_is_still_read_and_written() {
        for (name, file) in names().iter().zip(["pin_v1.bin", "checkpoint_v1.bin"]) {
            golden(file, &encode(name, TOKEN, Some(&sample(name))));
            let stored = std::fs::read(golden_path(file)).expect("the golden file is there").into();
            assert_eq!(decode(name, UUID, &stored).expect("sound"), Some(sample(name)));
        }
        let [pin, checkpoint] = names();
        let released = encode(&pin, TOKEN, None);
        golden("pin_released_v1.bin", &released);
        assert_eq!(decode(&pin, UUID, &released).expect("sound"), None);
        let empty = encode(&checkpoint, TOKEN, None);
        assert_eq!(decode(&checkpoint, UUID, &empty).expect_err("empty").kind(), ErrorKind::Corruption);
    }

    #[test]
    fn every_flipped_byte_and_every_truncation_of_a_copy_names_object_and_offset() {
        for name in names() {
            let stored = encode(&name, TOKEN, Some(&sample(&name)));
            for at in 0..stored.len() {
                let mut flipped = stored.to_vec();
                flipped[at] ^= 0x40;
                for bytes in [Bytes::from(flipped), stored.slice(..at)] {
                    let error = decode(&name, UUID, &bytes).expect_err("damage must be found");
                    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
                    assert_eq!(error.object(), Some(name.path().as_str()));
                    assert!(error.offset().is_some(), "{error}");
                }
            }
        }
    }

    #[test]
    fn a_copy_in_another_place_or_database_is_refused() {
        let [pin, checkpoint] = names();
        let stored = encode(&pin, TOKEN, Some(&sample(&pin)));
        for other in [Name::Pin(1), checkpoint] {
            assert_eq!(decode(&other, UUID, &stored).expect_err("elsewhere").kind(), ErrorKind::Corruption);
        }
        let error = decode(&pin, UUID + 1, &stored).expect_err("the database is wrong");
        assert!(error.to_string().contains("another database"), "{error}");
    }

    #[test]
    fn a_newer_copy_is_refused_by_name_and_one_that_breaks_the_rules_is_damaged() {
        for name in names() {
            let changed = |change: fn(&mut VersionCopy)| {
                let mut copy = sample(&name);
                change(&mut copy);
                decode(&name, UUID, &encode(&name, TOKEN, Some(&copy))).expect_err("it must be refused")
            };
            assert_eq!(changed(|copy| copy.root.min_reader = 2).kind(), ErrorKind::Unsupported);
            assert_eq!(changed(|copy| copy.root.required_features = 1 << 63).kind(), ErrorKind::Unsupported);
            let newer = resealed(&name, &encode(&name, TOKEN, Some(&sample(&name))), |bytes| bytes[24] = 9);
            let error = decode(&name, UUID, &newer).expect_err("a newer format");
            assert_eq!((error.kind(), error.offset()), (ErrorKind::Unsupported, Some(24)));
            assert_eq!(changed(|copy| copy.life_ms = u64::MAX).kind(), ErrorKind::Corruption);
            assert_eq!(changed(|copy| copy.root.runs.swap(0, 1)).kind(), ErrorKind::Corruption);
            assert_eq!(changed(|copy| copy.root.prev_hash = Bytes::new()).kind(), ErrorKind::Corruption);
        }
    }

    #[test]
    fn the_stored_form_of_a_version_leaves_out_what_its_parts_hold() {
        let many: Vec<SstMeta> = (0..400)
            .map(|n| SstMeta {
                first_key: format!("\0\0\0\0{n:06}").into(),
                last_key: format!("\0\0\0\0{n:06}x").into(),
                ..sst(n, "a", 1)
            })
            .collect();
        let base = tree(&[]);
        let mut root = tree(&[(0, &[sst(900, "ac", 9)]), (1, &many)]);
        let mut made = 0;
        let packed = part::pack(&base, &mut root, || {
            made += 1;
            ObjectId { role: Role::Writer, epoch: 1, counter: 1000 + made, nonce: made }
        });
        assert!(made > 0, "the tree is large enough for parts");
        assert_eq!(part::stored(&root), packed.root);
    }
}

fn golden_path(name: &str) -> std::path::PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", name].iter().collect()
}

/// The bytes must be those of the golden file; with `ESKER_GOLDEN=write` they become it.
fn golden(name: &str, bytes: &[u8]) {
    if std::env::var_os("ESKER_GOLDEN").is_some_and(|mode| mode == "write") {
        std::fs::write(golden_path(name), bytes).expect("the golden file can be written");
    }
    let stored = std::fs::read(golden_path(name)).expect("the golden file is there");
    assert_eq!(stored, bytes, "the format has changed: {name}");
}
