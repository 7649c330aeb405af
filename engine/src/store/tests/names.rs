//! Names: the grammar and nothing but the grammar.

use proptest::prelude::*;

use crate::store::names::{Folder, MAX_NUMBER, Name, ObjectId, Role};

fn object_id() -> impl Strategy<Value = ObjectId> {
    (prop_oneof![Just(Role::Writer), Just(Role::Compactor)], any::<u32>(), any::<u64>(), any::<u64>())
        .prop_map(|(role, epoch, counter, nonce)| ObjectId { role, epoch, counter, nonce })
}

fn number() -> impl Strategy<Value = u64> {
    0..=MAX_NUMBER
}

fn name() -> impl Strategy<Value = Name> {
    prop_oneof![
        Just(Name::Identity),
        number().prop_map(Name::Manifest),
        number().prop_map(Name::Wal),
        number().prop_map(Name::Job),
        number().prop_map(Name::ManifestFloor),
        number().prop_map(Name::JobFloor),
        object_id().prop_map(Name::Sst),
        object_id().prop_map(Name::Part),
        object_id().prop_map(Name::Blob),
        any::<u128>().prop_map(Name::Pin),
        "[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}".prop_map(Name::Checkpoint),
    ]
}

proptest! {
    #[test]
    fn every_name_parses_back(name in name()) {
        prop_assert_eq!(Name::parse(&name.path()), Some(name));
    }

    #[test]
    fn every_object_id_survives_text_and_bytes(id in object_id()) {
        prop_assert_eq!(ObjectId::parse(&id.to_string()), Some(id));
        prop_assert_eq!(ObjectId::from_bytes(&id.to_bytes()), Some(id));
        prop_assert_eq!(id.to_bytes().len(), super::super::names::OBJECT_ID_BYTES);
    }

    #[test]
    fn what_parses_is_spelled_exactly_so(path in "(DB|manifest|wal|sst|floor|pin|checkpoint|/|[0-9a-fwc+./-]){0,12}") {
        if let Some(name) = Name::parse(&path) {
            prop_assert_eq!(name.path(), path);
        }
    }

    #[test]
    fn one_changed_character_never_gives_the_same_name(name in name(), at in any::<prop::sample::Index>(), c in "[ -~]") {
        let path = name.path();
        let at = at.index(path.len());
        let mut changed = path.clone();
        changed.replace_range(at..=at, &c);
        prop_assert!(changed == path || Name::parse(&changed) != Some(name));
    }
}

#[test]
fn paths_are_what_the_grammar_draws() {
    let id = ObjectId { role: Role::Writer, epoch: 0x1f, counter: 2, nonce: 0xabc };
    assert_eq!(id.to_string(), "w0000001f-0000000002-0000000000000abc");
    assert_eq!(Name::Identity.path(), "DB");
    assert_eq!(Name::Manifest(7).path(), "manifest/00000000000000000007");
    assert_eq!(Name::Wal(MAX_NUMBER).path(), "wal/04611686018427387904");
    assert_eq!(Name::JobFloor(1).path(), "floor/job/00000000000000000001");
    assert_eq!(Name::Pin(1).path(), "pin/00000000000000000000000000000001");
    assert_eq!(Name::Checkpoint("a.b".into()).path(), "checkpoint/a.b");
    assert_eq!(Name::Sst(id).path(), format!("sst/{:02x}/{id}", id.seed() as u8));
}

/// The hash is in names and checksums on disk: it may never change.
#[test]
fn the_seed_of_an_id_is_fixed_for_ever() {
    let id = ObjectId { role: Role::Compactor, epoch: 1, counter: 2, nonce: 3 };
    assert_eq!(format!("{:016x}", id.seed()), "dd72ac1427489342");
    assert_eq!(id.to_bytes(), [99, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn hostile_names_are_nobodys() {
    let id = "w0000001f-0000000002-0000000000000abc";
    let right = Name::Sst(ObjectId::parse(id).unwrap()).path();
    let wrong_hash = format!("sst/{:02x}/{id}", !(ObjectId::parse(id).unwrap().seed() as u8));
    assert!(Name::parse(&right).is_some());
    for path in [
        "",
        "/",
        "db",
        "DB/",
        "/DB",
        "DB#1",
        "manifest",
        "manifest/",
        "manifest/7",
        "manifest/+0000000000000000007",
        "manifest/00000000000000000007/",
        "manifest//00000000000000000007",
        "manifest/0000000000000000000x",
        "manifest/99999999999999999999",
        "manifest/18446744073709551615",
        "floor/manifest/18446744073709551615",
        "wal/04611686018427387905",
        "manifest/000000000000000000007",
        "manifest/00000000000000000007#1",
        "manifest/٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٧",
        "../manifest/00000000000000000007",
        "floor/00000000000000000007",
        "floor/wal/00000000000000000007",
        "pin/0000000000000000000000000000000G",
        "pin/0000000000000000000000000000000A",
        "checkpoint/",
        "checkpoint/.hidden",
        "checkpoint/..",
        "checkpoint/a/b",
        "checkpoint/a b",
        "checkpoint/a%2fb",
        "checkpoint/ü",
        "checkpoint/a\0",
        &format!("checkpoint/{}", "a".repeat(101)),
        &wrong_hash,
        &right.to_uppercase(),
        &right.replace("sst/", "part//"),
        "sst/w0000001f-0000000002-0000000000000abc",
    ] {
        assert_eq!(Name::parse(path), None, "{path:?}");
    }
    for id in ["", "w", "ü", "x0000001f-0000000002-0000000000000abc", "w1f-2-abc", &format!("{id}-0")] {
        assert_eq!(ObjectId::parse(id), None, "{id:?}");
    }
    assert_eq!(ObjectId::from_bytes(&[0; 21]), None);
    assert_eq!(ObjectId::from_bytes(&[b'w'; 20]), None);
    assert_eq!(ObjectId::from_bytes(&[b'w'; 22]), None);
}

#[test]
fn a_checkpoint_outside_the_grammar_is_refused_with_the_grammar() {
    let error = Name::checkpoint("../etc").unwrap_err();
    assert!(error.to_string().contains("letters, digits"), "{error}");
    assert!(Name::checkpoint("before-migration").is_ok());
}

#[test]
fn every_folder_knows_its_names() {
    for folder in Folder::ALL {
        if let Some(name) = folder.numbered(5) {
            assert_eq!(name.folder(), Some(folder));
            assert_eq!(name.number(), Some(5));
            assert!(name.path().starts_with(&format!("{}/", folder.path())));
        }
    }
}
