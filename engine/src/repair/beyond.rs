//! What another copy has beyond what is here, and nothing here can ask for by name.
//!
//! ```text
//! here   no version at all                    the newest of the copy, which nothing here proves; the rest follow from it
//! here   versions 50, 51; no mark             the copy's mark of 49: what it voids is not here
//! here   versions to 47, log to slot 121      told: the copy goes on to version 50, slot 124
//! ```
//!
//! The mark needs no proof: under it is nothing that is here and above it is a version, so a collection leaves the same.
//! What the copy has after the newest that is here may have been written there, after it was made; it is told and left.
//!
//! Always true: nothing that is here is voided by a mark that is put back.

use std::collections::BTreeSet;

use crate::{
    error::{ErrorKind, Result},
    manifest::{Identity, codec},
    repair::{Rung, Work, copy::put_whole},
    stats::Cause,
    store::{Folder, Listed, Name, Store, floor_of},
};

/// The newest version of `from`, instead of those of `names`, where no version is here at all. What stood in its place is
/// given as well.
pub(super) async fn version(
    work: &mut Work<'_>,
    from: &Store,
    names: &mut Vec<Name>,
) -> Result<Option<(Name, Vec<Name>)>> {
    let is_version = |name: &Name| matches!(name, Name::Manifest(_));
    if !names.iter().any(is_version) || newest(work.store, Folder::Manifest).await?.is_some() {
        return Ok(None);
    }
    let floor = floor_of(&list(work.store, Folder::ManifestFloor).await?);
    let Some(newest) = newest(from, Folder::Manifest).await? else { return Ok(None) };
    if newest <= floor {
        let what = format!(
            "no version is here, and none can be had from {}: its newest, {newest}, was collected here before the others were lost",
            from.url()
        );
        work.tell(Rung::Told, Some(Name::Manifest(newest)), what, false);
        return Ok(None);
    }
    let instead = names.extract_if(.., |name| is_version(name)).collect();
    Ok(Some((Name::Manifest(newest), instead)))
}

/// Puts the newest mark of `from` back, if it accounts for some of `names` that are missing. Gives how many objects.
pub(super) async fn floor(work: &mut Work<'_>, from: &Store, names: &mut Vec<Name>) -> Result<usize> {
    let floor = floor_of(&list(from, Folder::ManifestFloor).await?);
    let is_under = |name: &Name| matches!(name, Name::Manifest(id) if *id <= floor);
    if !names.iter().any(is_under) {
        return Ok(0);
    }
    let versions = list(work.store, Folder::Manifest).await?;
    let mark = Name::ManifestFloor(floor);
    if versions.is_empty() || versions.iter().any(|listed| is_under(&listed.name)) {
        return Ok(0);
    }
    let Some(body) = from.get(&mark, Cause::Admin).await? else { return Ok(0) };
    let act = work.options.act;
    if act {
        put_whole(work.store, &mark, body).await?;
    }
    let verb = if act { "put back" } else { "would put back" };
    let what = format!(
        "{verb} {mark} from {}: the versions up to {floor}, none of which is here, were collected",
        from.url()
    );
    work.tell(Rung::Copy, Some(mark.clone()), what, act);
    work.mended.insert(mark);
    work.mended.extend(names.extract_if(.., |name| is_under(name)));
    Ok(1)
}

/// Says so if `from` has later versions or log objects than there are here; gives how far it goes then.
pub(super) async fn tell(work: &mut Work<'_>, from: &Store) -> Result<Option<String>> {
    let (Ok(Some(ours)), Ok(Some(theirs))) = (Identity::load(work.store).await, Identity::load(from).await)
    else {
        return Ok(None);
    };
    if ours != theirs {
        return Ok(None);
    }
    let mut more = Vec::new();
    for (folder, of) in [(Folder::Manifest, "versions to"), (Folder::Wal, "log objects to slot")] {
        let put = work.mended.iter().filter(|name| name.folder() == Some(folder)).filter_map(Name::number);
        let here = put.max().max(newest(work.store, folder).await?);
        let Some(there) = newest(from, folder).await?.filter(|there| here < Some(*there)) else { continue };
        let here = here.map_or_else(|| "none".to_owned(), |here| here.to_string());
        more.push(format!("{of} {there} ({here} here)"));
    }
    if more.is_empty() {
        return Ok(None);
    }
    let more = more.join(" and ");
    let what = format!(
        "{} goes on behind what is here, with {more}{}; nothing of that is put in: if it was written before the damage, that copy is \
         the newer state of this database",
        from.url(),
        relation(work.store, from, &ours).await?
    );
    work.tell(Rung::Told, None, what, false);
    Ok(Some(more))
}

/// How the version of `from` after the newest here relates to that.
async fn relation(store: &Store, from: &Store, identity: &Identity) -> Result<String> {
    let Some(id) = newest(store, Folder::Manifest).await? else { return Ok(String::new()) };
    let (Some(here), Some(next)) = (
        store.get(&Name::Manifest(id), Cause::Admin).await?,
        from.get(&Name::Manifest(id + 1), Cause::Admin).await?,
    ) else {
        return Ok(String::new());
    };
    Ok(match codec::decode(id + 1, identity.db_uuid, &next) {
        Ok(next) if next.prev_hash[..] == codec::object_hash(&here).to_le_bytes() => {
            format!(" (its version {} was made from version {id} here)", id + 1)
        }
        Ok(_) => format!(" (its version {} was made from another version {id} than is here)", id + 1),
        Err(error) if error.kind() == ErrorKind::Corruption => String::new(),
        Err(error) => return Err(error),
    })
}

/// Whether both have an SST or a part of the same name, which is given out once.
pub(super) async fn shares_objects(store: &Store, from: &Store) -> Result<bool> {
    for folder in [Folder::Sst, Folder::Part] {
        let ours: BTreeSet<Name> = list(store, folder).await?.into_iter().map(|listed| listed.name).collect();
        if list(from, folder).await?.iter().any(|listed| ours.contains(&listed.name)) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn newest(store: &Store, folder: Folder) -> Result<Option<u64>> {
    Ok(list(store, folder).await?.pop().and_then(|listed| listed.name.number()))
}

async fn list(store: &Store, folder: Folder) -> Result<Vec<Listed>> {
    store.list(folder, None, Cause::Admin).await
}
