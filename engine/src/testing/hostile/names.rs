//! Object names and ids: what parses is spelled in one way only.

use super::{ID, as_inputs};
use crate::{
    codec::{
        sum::Sum,
        varint::{Input, MAX_VARINT_BYTES, get_varint, put_varint, varint_bytes},
    },
    error::ErrorKind,
    store::{Folder, Name, ObjectId},
};

/// The target of names, ids and the other small words that bytes are made of.
pub fn names(input: &[u8]) {
    let text = String::from_utf8_lossy(input.get(1..).unwrap_or_default());
    if let Some(name) = Name::parse(&text) {
        assert_eq!(name.path(), text, "a name has one spelling");
        assert!(name.is_valid() && Name::parse(&name.path()).as_ref() == Some(&name));
        assert!(!name.path().split('/').any(|piece| piece.is_empty() || piece.starts_with('.')));
        if let (Some(folder), Some(number)) = (name.folder(), name.number()) {
            assert_eq!(folder.numbered(number), Some(name));
        }
    }
    if let Some(id) = ObjectId::parse(&text) {
        assert_eq!(id.to_string(), text);
        assert_eq!(ObjectId::from_bytes(&id.to_bytes()), Some(id));
    }
    match Name::checkpoint(text.as_ref()) {
        Ok(name) => assert_eq!(Name::parse(&name.path()), Some(name)),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid),
    }
    let bytes = input.get(1..).unwrap_or_default();
    if let Some(id) = ObjectId::from_bytes(bytes) {
        assert_eq!(id.to_bytes(), bytes);
        assert_eq!(ObjectId::parse(&id.to_string()), Some(id));
    }
    if let Some(sum) = Sum::from_bytes(bytes) {
        assert_eq!(sum.to_bytes(), bytes);
        let (mut there, mut back) = (sum, sum);
        there.add(&sum);
        there.remove(&sum);
        back.remove(&sum);
        assert_eq!((there, back), (sum, Sum::default()));
    }
    if let Some((value, n)) = get_varint(bytes) {
        let mut again = Vec::with_capacity(MAX_VARINT_BYTES);
        put_varint(&mut again, value);
        assert_eq!(
            (&again[..], again.len()),
            (&bytes[..n], varint_bytes(value)),
            "a varint has one spelling"
        );
    }
    let mut input = Input::new(bytes);
    while input.sized(64).is_ok() {}
    assert!(input.offset() <= bytes.len());
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = Folder::ALL.iter().map(|folder| folder.path().into()).collect();
    seeds.extend(
        [
            Name::Identity,
            Name::Manifest(1),
            Name::Wal(u64::MAX),
            Name::Job(7),
            Name::Sst(ID),
            Name::Part(ID),
            Name::Blob(ID),
            Name::ManifestFloor(12),
            Name::JobFloor(12),
            Name::Pin(1 << 100),
            Name::Checkpoint("before-migration".into()),
        ]
        .map(|name| name.path().into_bytes()),
    );
    seeds.push(ID.to_string().into_bytes());
    seeds.push(ID.to_bytes());
    seeds.push(Sum::default().to_bytes().to_vec());
    seeds.push(vec![0x80, 0x80, 0x01]);
    as_inputs(seeds)
}
