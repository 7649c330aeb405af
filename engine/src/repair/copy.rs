//! Rung 2: what is damaged here is whole in another copy of the same database, and is put back as it was.
//!
//! ```text
//! missing   created, if nothing has come there meanwhile
//! damaged   overwritten: the name then holds the bytes that were written under it first
//! ```
//!
//! Always true: what is put back was checked against what the manifest, or the object itself, says of it, its
//! place and its database included; an SST is checked again where it was put.

use bytes::Bytes;

use crate::{
    clock::on_cpu,
    error::{Error, ErrorKind, Result},
    manifest::{Identity, Manifest, codec, part},
    repair::{Rung, Work},
    sst::SstMeta,
    stats::Cause,
    store::{DEFAULT_DEADLINE, Folder, Name, Slot, Store},
    verify::{Pace, Report, Severity, Survey, sst},
    wal::WalObject,
};

/// Bytes of an SST that are copied at a time.
const PIECE_BYTES: u64 = 8 << 20;

/// Puts back what `report` says is damaged and `from` has. Gives how many objects.
pub(super) async fn round(work: &mut Work<'_>, from: &Store, report: &Report) -> Result<usize> {
    let mut names: Vec<Name> = report.damage().map(|finding| finding.object.clone()).collect();
    names.sort();
    names.dedup();
    let identity = match Identity::load(work.store).await {
        Ok(Some(identity)) => Some(identity),
        // Then the copy's own says which database it is of; the versions are checked against it.
        Ok(None) => None,
        Err(error) if error.kind() == ErrorKind::Corruption => None,
        Err(error) => return Err(error),
    };
    let of_copy = match Identity::load(from).await {
        Ok(Some(identity)) => identity,
        Ok(None) => {
            work.tell(
                Rung::Told,
                None,
                format!("there is no database at {}, so nothing can be had from it", from.url()),
                false,
            );
            return Ok(0);
        }
        Err(error) if error.kind() == ErrorKind::Corruption => {
            work.tell(Rung::Told, None, format!("the copy's own identity is damaged: {error}"), false);
            return Ok(0);
        }
        Err(error) => return Err(error),
    };
    if identity.as_ref().is_some_and(|identity| *identity != of_copy) {
        work.tell(Rung::Told, None, format!("{} is a copy of another database", from.url()), false);
        return Ok(0);
    }
    let ssts = known_ssts(work.store).await?;
    let mut copied = 0;
    for name in names.into_iter().filter(|name| !work.mended.contains(name)).collect::<Vec<_>>() {
        let meta = name.object_id().and_then(|id| ssts.iter().find(|meta| meta.object_id() == id));
        match fetch(work.store, from, &name, &of_copy, meta).await? {
            Ok(body) => {
                let act = work.options.act;
                if act {
                    put(work.store, from, &name, body, meta).await?;
                }
                let verb = if act { "put back" } else { "would put back" };
                work.tell(Rung::Copy, Some(name.clone()), format!("{verb} {name} from {}", from.url()), act);
                work.mended.insert(name);
                copied += 1;
            }
            Err(why) => work.tell(
                Rung::Told,
                Some(name.clone()),
                format!("{name} cannot be had from {}: {why}", from.url()),
                false,
            ),
        }
    }
    // What was put back may be damaged again tomorrow, and this round's names are no longer of interest.
    if work.options.act {
        work.mended.clear();
    }
    Ok(copied)
}

/// Every SST that a version which can be read names.
async fn known_ssts(store: &Store) -> Result<Vec<SstMeta>> {
    let Ok(manifest) = Manifest::open(store.clone()).await else { return Ok(Vec::new()) };
    let survey = Survey::take(&manifest, &mut Report::default()).await?;
    Ok(survey.ssts.into_values().map(|named| named.meta).collect())
}

/// The object as the copy has it, if it is whole; else why not. An SST is only checked, and has no body.
async fn fetch(
    store: &Store,
    from: &Store,
    name: &Name,
    identity: &Identity,
    meta: Option<&SstMeta>,
) -> Result<Result<Option<Bytes>, String>> {
    if let Name::Sst(_) = name {
        let Some(meta) = meta else {
            return Ok(Err("no version that can be read says what it was".to_owned()));
        };
        let findings = sst::check(from, meta, &Pace::new(from.clock().clone(), None)).await?;
        let damage = findings.into_iter().find(|finding| finding.severity == Severity::Damage);
        return Ok(damage.map_or(Ok(None), |finding| Err(finding.what)));
    }
    let Some(body) = from.get(name, Cause::Admin).await? else {
        return Ok(Err("it is not there either".to_owned()));
    };
    let checked = match name {
        Name::Identity => is_of(store, identity).await,
        Name::Manifest(id) => codec::decode(*id, identity.db_uuid, &body)
            .map(drop)
            .and(follows(store, *id, identity, &body).await),
        Name::Part(id) => part::decode(*id, &body).map(drop),
        Name::Wal(slot) => {
            let (slot, db_uuid, body) = (*slot, identity.db_uuid, body.clone());
            on_cpu(move || WalObject::decode(slot, db_uuid, body)).await?.map(drop)
        }
        _ => Err(Error::new(ErrorKind::Corruption, "objects of this kind are not copied")),
    };
    match checked {
        Ok(()) => Ok(Ok(Some(body))),
        Err(error) if error.kind() == ErrorKind::Corruption => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

/// A version that is here must be of the database that the copy's identity is of.
async fn is_of(store: &Store, identity: &Identity) -> Result<()> {
    for listed in store.list(Folder::Manifest, None, Cause::Admin).await?.into_iter().rev() {
        let (Some(id), Some(body)) = (listed.name.number(), store.get(&listed.name, Cause::Admin).await?)
        else {
            continue;
        };
        if codec::decode(id, identity.db_uuid, &body).is_ok() {
            return Ok(());
        }
    }
    Err(Error::new(ErrorKind::Corruption, "no version that is here belongs to the copy's database"))
}

/// The version behind must name this one's hash: a copy of a copy that was rolled back may hold another.
async fn follows(store: &Store, id: u64, identity: &Identity, body: &Bytes) -> Result<()> {
    let name = Name::Manifest(id + 1);
    let Some(next) = store.get(&name, Cause::Admin).await? else { return Ok(()) };
    match codec::decode(id + 1, identity.db_uuid, &next) {
        Ok(next) if next.prev_hash[..] != codec::object_hash(body).to_le_bytes() => {
            Err(Error::corruption(Name::Manifest(id).path(), 0, format!("{name} was made from other bytes")))
        }
        // What is wrong with the one behind is its own affair.
        _ => Ok(()),
    }
}

async fn put(
    store: &Store,
    from: &Store,
    name: &Name,
    body: Option<Bytes>,
    meta: Option<&SstMeta>,
) -> Result<()> {
    let Some(body) = body else {
        let Some(meta) = meta else { return Ok(()) };
        return put_sst(store, from, name, meta).await;
    };
    if store.get(name, Cause::Admin).await?.is_some() {
        return store.put_new(name, vec![body], Cause::Admin).await;
    }
    match store.create(name, vec![body], Cause::Admin, Some(DEFAULT_DEADLINE)).await? {
        Slot::Ours => Ok(()),
        Slot::Theirs(_) => {
            Err(Error::new(ErrorKind::Conflict, "something else has come there meanwhile").on(name.path()))
        }
    }
}

async fn put_sst(store: &Store, from: &Store, name: &Name, meta: &SstMeta) -> Result<()> {
    let mut upload = store.upload(name, Cause::Admin);
    let mut at = 0;
    while at < meta.bytes {
        let end = meta.bytes.min(at + PIECE_BYTES);
        let piece = from.get_range(name, at..end, Cause::Admin).await?;
        upload.write(vec![piece]).await?;
        at = end;
    }
    upload.finish().await?;
    let findings = sst::check(store, meta, &Pace::new(store.clock().clone(), None)).await?;
    match findings.into_iter().next() {
        None => Ok(()),
        Some(finding) => {
            let what = format!("what was put back does not read back: {}", finding.what);
            Err(Error::corruption(name.path(), finding.offset.unwrap_or(0), what))
        }
    }
}
