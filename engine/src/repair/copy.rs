//! Rung 2: what is damaged here is whole in another copy of the same database, and is put back as it was.
//!
//! ```text
//! missing   created, if nothing has come there meanwhile
//! damaged   overwritten
//! ```
//!
//! A copy that was itself opened and written has other objects under the same numbers. So what is put back is
//! proved by what is here to be what was written first ([`super::proof`] says how); what nothing proves is told, and
//! put in only with [`RepairOptions::unproved`](super::RepairOptions::unproved).
//!
//! Always true: what is put in was checked against what the manifest, or the object itself, says of it, its
//! place and its database included, and nothing here contradicts it; an SST is checked again where it was put.

use bytes::Bytes;

use crate::{
    clock::on_cpu,
    error::{Error, ErrorKind, Result},
    manifest::{Identity, Manifest, codec, copy, part},
    repair::{
        Rung, Work, beyond,
        proof::{Evidence, Proof},
    },
    sst::SstMeta,
    stats::Cause,
    store::{DEFAULT_DEADLINE, Name, Slot, Store},
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
    let with_log = names.iter().any(|name| matches!(name, Name::Wal(_) | Name::Manifest(_) | Name::Identity));
    let evidence = Evidence::gather(work.store, &of_copy, &names, with_log).await?;
    let mut copied = beyond::floor(work, from, &mut names).await?;
    let newest = beyond::version(work, from, &mut names).await?;
    names.extend(newest.iter().map(|(newest, _)| newest.clone()));
    for name in names.into_iter().filter(|name| !work.mended.contains(name)).collect::<Vec<_>>() {
        let meta = name.object_id().and_then(|id| ssts.iter().find(|meta| meta.object_id() == id));
        match fetch(work.store, from, &name, &of_copy, meta, &evidence).await? {
            Ok(Had { unproved: Some(why), .. }) if !work.options.unproved => work.tell(
                Rung::Told,
                Some(name.clone()),
                format!(
                    "{} has {name}, and it is unproved that it is what was written here: {why}; `--unproved` would put it in",
                    from.url()
                ),
                false,
            ),
            Ok(Had { body, unproved }) => {
                let act = work.options.act;
                if act {
                    put(work.store, from, &name, body, meta).await?;
                }
                let verb = if act { "put back" } else { "would put back" };
                let doubt = unproved.map_or(String::new(), |why| {
                    format!(", unproved to be what was written here: {why}")
                });
                let what = format!("{verb} {name} from {}{doubt}", from.url());
                work.tell(Rung::Copy, Some(name.clone()), what, act);
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
    if let Some((newest, instead)) = newest
        && work.mended.contains(&newest)
    {
        work.mended.extend(instead);
    }
    Ok(copied)
}

/// Every SST that a version which can be read names.
pub(super) async fn known_ssts(store: &Store) -> Result<Vec<SstMeta>> {
    let Ok(manifest) = Manifest::open(store.clone()).await else { return Ok(Vec::new()) };
    let survey = Survey::take(&manifest, &mut Report::default()).await?;
    Ok(survey.ssts.into_values().map(|named| named.meta).collect())
}

/// An object as the copy has it: whole, and not contradicted.
struct Had {
    /// The bytes; none of an SST, which is only checked.
    body: Option<Bytes>,
    /// Why it is not proved to be what was written first, if it is not.
    unproved: Option<String>,
}

/// The object as the copy has it, if it is whole and may be what was written first; else why not.
async fn fetch(
    store: &Store,
    from: &Store,
    name: &Name,
    identity: &Identity,
    meta: Option<&SstMeta>,
    evidence: &Evidence,
) -> Result<Result<Had, String>> {
    if let Name::Sst(_) = name {
        let Some(meta) = meta else {
            return Ok(Err("no version that can be read says what it was".to_owned()));
        };
        let findings = sst::check(from, meta, &Pace::new(from.clock().clone(), None)).await?;
        let damage = findings.into_iter().find(|finding| finding.severity == Severity::Damage);
        return Ok(match damage {
            None => Ok(Had { body: None, unproved: None }),
            Some(finding) => Err(finding.what),
        });
    }
    let Some(body) = from.get(name, Cause::Admin).await? else {
        return Ok(Err("it is not there either".to_owned()));
    };
    let ours = store.get(name, Cause::Admin).await?;
    if ours.as_ref() == Some(&body) {
        return Ok(Err("it has the same bytes".to_owned()));
    }
    let proof = match name {
        Name::Identity => Ok(evidence.of_identity(beyond::shares_objects(store, from).await?)),
        Name::Manifest(id) => codec::decode(*id, identity.db_uuid, &body)
            .map(|root| evidence.of_version(&root, &body, ours.as_ref())),
        Name::Part(id) => part::decode(*id, &body).map(|_| evidence.of_part(*id, &body)),
        Name::Wal(slot) => {
            let (slot, db_uuid, whole) = (*slot, identity.db_uuid, body.clone());
            on_cpu(move || WalObject::decode(slot, db_uuid, whole))
                .await?
                .map(|object| evidence.of_log(object.header(), &body, ours.as_ref()))
        }
        Name::Checkpoint(_) => copy::decode(name, identity.db_uuid, &body)
            .map(|copy| evidence.of_checkpoint(copy.as_ref(), &body, ours.as_ref())),
        _ => Err(Error::new(ErrorKind::Corruption, "objects of this kind are not copied")),
    };
    match proof {
        Ok(Proof::Proved) => Ok(Ok(Had { body: Some(body), unproved: None })),
        Ok(Proof::Unproved(why)) => Ok(Ok(Had { body: Some(body), unproved: Some(why) })),
        Ok(Proof::Refuted(why)) => Ok(Err(why)),
        Err(error) if error.kind() == ErrorKind::Corruption => Ok(Err(error.to_string())),
        Err(error) => Err(error),
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
    put_whole(store, name, body).await
}

/// Puts `body` where nothing is, or over what is damaged.
pub(super) async fn put_whole(store: &Store, name: &Name, body: Bytes) -> Result<()> {
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
