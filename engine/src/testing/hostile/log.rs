//! Log objects: decoded, stepped over, and encoded again.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{DB_UUID, SEAL, SLOT, as_inputs, assert_refused, sample_entries, seal};
use crate::{
    codec::frame::Codec,
    key::Entry,
    manifest::{Root, StoredOptions},
    store::Name,
    wal::{
        Cursor, LogBuffer, Op, WalHeader, WalObject,
        record::{encode_data, encode_fence},
    },
};

/// The target of a log object.
pub fn wal(input: &[u8]) {
    let Some((flags, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if flags & SEAL != 0 {
        seal::wal(&mut bytes);
    }
    match decode(bytes.into()) {
        Ok(object) => check(&object),
        Err(error) => assert_refused(&error, Some(&Name::Wal(SLOT).path())),
    }
}

fn decode(bytes: Bytes) -> crate::Result<WalObject> {
    WalObject::decode(SLOT, DB_UUID, bytes)
}

fn check(object: &WalObject) {
    let mut cursor = Cursor::start(&Root::first(DB_UUID, StoredOptions::default()));
    assert!(
        cursor.pass(object, 256).is_ok_and(|counts| counts),
        "the first object of a walk is never void, and nobody else's"
    );
    let again = match object {
        WalObject::Fence { header, writer_name } => decode(encode_fence(header, writer_name)),
        WalObject::Data { header, entries, last_seq } => {
            let numbers = entries.iter().map(|entry| entry.seq);
            assert!(numbers.clone().is_sorted_by(|a, b| a < b), "numbers ascend");
            assert!(numbers.clone().all(|seq| header.first_seq <= seq && seq <= *last_seq));
            let (first, last) =
                (header.first_seq, last_seq.checked_add(1).expect("numbers end below the last"));
            let mut log = LogBuffer::new(first);
            for entry in entries {
                log.append(entry.seq, [op(entry)].into_iter(), drop);
            }
            assert_eq!(entries.last().map_or(first, |entry| entry.seq + 1), last.max(first));
            decode(encode_data(header, &log.seal(last.max(first)), Codec::Lz4))
        }
    };
    let again = again.expect("what was encoded is decoded");
    // A fence has no numbers, and says of nothing that it is durable: what its header says is not kept.
    let without_number = |header: &WalHeader| WalHeader { first_seq: 0, durable_to: 0, ..header.clone() };
    match (object, &again) {
        (WalObject::Fence { header, writer_name }, WalObject::Fence { header: found, writer_name: name }) => {
            assert_eq!((without_number(header), writer_name), (found.clone(), name));
        }
        _ => assert_eq!(&again, object, "a log object means the same when it is encoded again"),
    }
}

fn op(entry: &Entry) -> Op<'_> {
    Op { kind: entry.kind, key: &entry.key, expire_at_ms: entry.expire_at_ms, value: &entry.value }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let header = |first_seq| WalHeader {
        db_uuid: DB_UUID,
        writer_uuid: 9,
        epoch: 3,
        slot: SLOT,
        token: *b"sixteen bytes...",
        first_seq,
        durable_to: if first_seq == 0 { 0 } else { SLOT - 1 },
    };
    let mut objects = vec![
        encode_fence(&header(0), "host:1").to_vec(),
        encode_data(&header(5), &LogBuffer::new(5).seal(5), Codec::None).to_vec(),
    ];
    for variant in 0..6 {
        let entries = sample_entries([2, 9, 40][variant as usize % 3], variant);
        let mut log = LogBuffer::new(41);
        let mut next = 41;
        // Batches of several sizes, with holes in the numbers between them.
        let mut rest = &entries[..];
        let mut sizes = BTreeMap::new();
        while !rest.is_empty() {
            let (batch, more) = rest.split_at(rest.len().min(1 + sizes.len() * 2));
            log.append(next, batch.iter().map(op), drop);
            next += batch.len() as u64 + variant;
            sizes.insert(next, batch.len());
            rest = more;
        }
        objects.push(
            encode_data(&header(41), &log.seal(next), [Codec::Lz4, Codec::None][variant as usize % 2])
                .to_vec(),
        );
    }
    as_inputs(objects)
}
