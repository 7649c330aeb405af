//! Reading one object of the log, for whoever walks it or asks what it says.
//!
//! Always true: what comes back was checked against its slot and its database; bytes that do not check are read again
//! before that is an error; a large object is decoded on a CPU thread.

use bytes::Bytes;

use crate::{
    clock,
    error::Result,
    stats::Cause,
    store::{Name, Sequence},
    wal::record::WalObject,
};

/// Objects above this are decoded on a CPU thread.
const INLINE_DECODE_BYTES: usize = 256 << 10;

/// What lies in `slot`, checked; `None` if nothing does.
pub(crate) async fn read(
    log: &Sequence,
    db_uuid: u128,
    slot: u64,
    cause: Cause,
) -> Result<Option<WalObject>> {
    let once = || async {
        let Some(bytes) = log.get(slot, cause).await? else { return Ok(None) };
        decode(slot, db_uuid, bytes).await.map(Some)
    };
    log.store().reread(&Name::Wal(slot), once).await
}

async fn decode(slot: u64, db_uuid: u128, bytes: Bytes) -> Result<WalObject> {
    if bytes.len() > INLINE_DECODE_BYTES {
        clock::on_cpu(move || WalObject::decode(slot, db_uuid, bytes)).await?
    } else {
        WalObject::decode(slot, db_uuid, bytes)
    }
}
