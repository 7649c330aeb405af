//! The identity object, made again from what the versions say of it.
//!
//! ```text
//! token                          the damaged object's, if it has one; nobody compares it with anything
//! format, checksum kind, features   as this program writes them: there has been one value of each so far, and a
//!                                version that a newer program wrote is refused by name before it is asked
//! uuid, WAL window K             every version carries both, and they never change
//! ```
//!
//! Nothing is given up, so it needs no asking for. A copy comes first, because it has the very bytes.
//!
//! Always true: nothing is written unless all versions that can be read agree, and at least one can; what has come
//! there meanwhile is not written over.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::{
    error::{ErrorKind, Result},
    manifest::{Identity, codec},
    repair::{Rung, Work, copy},
    stats::Cause,
    store::{Folder, Name, Store, Token},
    verify::Report,
};

/// Makes the identity again if `report` says that it is damaged and nothing has mended it. Gives how many objects.
pub(super) async fn rebuild(work: &mut Work<'_>, report: &Report) -> Result<usize> {
    let name = Name::Identity;
    if work.mended.contains(&name) || !report.damage().any(|finding| finding.object == name) {
        return Ok(0);
    }
    let damaged = work.store.get(&name, Cause::Admin).await?;
    if damaged.as_ref().is_some_and(|body| Identity::decode(body).is_ok()) {
        return Ok(0);
    }
    let (said, versions) = said(work.store).await?;
    let mut said = said.into_iter();
    let body = match (said.next(), said.next()) {
        (Some((db_uuid, wal_window)), None) => encoded(work.store, db_uuid, wal_window, damaged.as_ref()),
        (Some(_), Some(_)) => Err("the versions here are not all of one database".to_owned()),
        (None, _) => Err("no version that can be read says which database this is".to_owned()),
    };
    let body = match body {
        Ok(body) => body,
        Err(why) => {
            let what = format!("the identity cannot be made again, {why}: a copy of it is needed (--from)");
            work.tell(Rung::Told, Some(name), what, false);
            return Ok(0);
        }
    };
    let act = work.options.act;
    if act {
        copy::put_whole(work.store, &name, body).await?;
    }
    let verb = if act { "made" } else { "would make" };
    let what = format!("{verb} {name} again from what {versions} versions say of it; nothing of it is lost");
    work.tell(Rung::Rebuild, Some(name.clone()), what, act);
    work.mended.insert(name);
    Ok(1)
}

/// Each uuid and WAL window that a version names, and how many versions could be read.
async fn said(store: &Store) -> Result<(BTreeSet<(u128, u32)>, u64)> {
    let (mut said, mut versions) = (BTreeSet::new(), 0);
    for listed in store.list(Folder::Manifest, None, Cause::Admin).await? {
        let (Some(id), Some(body)) = (listed.name.number(), store.get(&listed.name, Cause::Admin).await?)
        else {
            continue;
        };
        match codec::decode_any(id, &body) {
            Ok((db_uuid, root)) => {
                said.insert((db_uuid, root.options.wal_window));
                versions += 1;
            }
            Err(error) if error.kind() == ErrorKind::Corruption => {}
            Err(error) => return Err(error),
        }
    }
    Ok((said, versions))
}

/// The object, with the token of the damaged one: if it was damaged in one place, these are its bytes.
fn encoded(
    store: &Store,
    db_uuid: u128,
    wal_window: u32,
    damaged: Option<&Bytes>,
) -> std::result::Result<Bytes, String> {
    let token = damaged.and_then(|body| Token::of(body)).unwrap_or_else(|| Token::fresh(&**store.clock()));
    let body = Identity { db_uuid, wal_window }.encode(token.0);
    Identity::decode(&body).map(|_| body).map_err(|error| error.to_string())
}
