//! Rung 3 where the newest version itself is damaged, or missing: the one before it is gone on from.
//!
//! Always true: epochs, runs and keyspaces go on above everything that the lost version can have given out
//! ([`above`]).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    compaction::log,
    error::{Error, ErrorKind, Result},
    manifest::{Manifest, View, above, codec},
    repair::{
        Rung, Work,
        rollback::{newest, newest_whole, put_back, way_back},
    },
    stats::Cause,
    store::{Folder, Name, ObjectId, Sequence},
    verify::{Finding, Survey, log::Log, lost::Epochs},
};

/// The newest version itself cannot be read: the one before it that is whole is gone on from.
pub(super) async fn damaged(
    work: &mut Work<'_>,
    manifest: &Manifest,
    survey: &Survey,
    damaged: &BTreeMap<ObjectId, Finding>,
) -> Result<()> {
    // Once more, before it is called unreadable: the survey may have met a bad moment, or a commit.
    let error = match manifest.latest(Cause::Admin).await {
        Ok(view) => {
            let what = format!("the newest version, {}, can be read now", view.id());
            return Err(Error::new(ErrorKind::Conflict, what).hint("run this again"));
        }
        Err(error) if error.kind() == ErrorKind::Corruption => error,
        Err(error) => return Err(error),
    };
    let sequence = Sequence::new(work.store.clone(), Folder::Manifest);
    let top = sequence.latest(0, Cause::Admin).await?;
    let (Some(top), Some(back)) = (top, newest_whole(manifest, survey, damaged).await?) else {
        let what =
            format!("no version of the manifest can be read: {error}; only another copy helps (--from)");
        work.tell(Rung::Told, None, what, false);
        return Ok(());
    };
    let Some(body) = sequence.get(top, Cause::Admin).await? else {
        return Err(Error::new(ErrorKind::Conflict, format!("version {top} went away meanwhile")));
    };
    // Keyspaces, epochs, counters and the end of the log are those of the newest that can be read, whether or not its
    // tree is whole.
    let newest = newest(manifest, survey, |_| true).await?;
    let newest = newest.as_ref().unwrap_or(&back);
    if !work.options.roll_back {
        let (command, but) = way_back(work, manifest, newest, &back).await?;
        let what = format!(
            "the newest version, {top}, cannot be read; `{command}` would go on from version {}, with what the log has of what came after it{but}",
            back.id()
        );
        work.tell(Rung::Told, Some(Name::Manifest(top)), what, false);
        return Ok(());
    }
    let log = Log::read(work.store, manifest.identity(), &newest.root, false).await?;
    let unnamed = log.unnamed_keyspaces(&newest.root);
    let above = above::damaged(newest, (top, codec::object_hash(&body)), &unnamed)?;
    if put_back(work, manifest, &above, &back, Rung::RollBack).await? {
        tell_names(work, &above, &unnamed);
    }
    Ok(())
}

/// The newest version is missing: what is there after the one before it says so. That one is gone on from.
pub(super) async fn missing(
    work: &mut Work<'_>,
    manifest: &Manifest,
    latest: &Arc<View>,
    survey: &Survey,
    damaged: &BTreeMap<ObjectId, Finding>,
) -> Result<()> {
    let missing = Name::Manifest(latest.id() + 1);
    let Some(back) = newest_whole(manifest, survey, damaged).await? else {
        let what = format!("{missing} is missing, and no version is whole; only another copy helps (--from)");
        work.tell(Rung::Told, Some(missing), what, false);
        return Ok(());
    };
    if !work.options.roll_back {
        let (command, but) = way_back(work, manifest, latest, &back).await?;
        let what = format!(
            "{missing} is missing: a copy would bring it back (--from), `{command}` would go on from version {}, with what the log has of what came after it{but}",
            back.id()
        );
        work.tell(Rung::Told, Some(missing), what, false);
        return Ok(());
    }
    let log = Log::read(work.store, manifest.identity(), &latest.root, false).await?;
    let unnamed = log.unnamed_keyspaces(&latest.root);
    let epochs = Epochs::of(survey, &log);
    let jobs = log::read(work.store, manifest.identity().db_uuid, Cause::Admin).await?;
    let of_jobs =
        jobs.records.iter().filter_map(|(_, record)| record.as_ref().ok()).map(|record| record.epoch);
    let compactor = of_jobs.fold(epochs.compactor, u32::max);
    let above = above::missing(latest, (epochs.writer, compactor), &unnamed)?;
    if put_back(work, manifest, &above, &back, Rung::RollBack).await? {
        tell_names(work, &above, &unnamed);
    }
    Ok(())
}

/// Tells what `above` calls the keyspaces `unnamed`.
fn tell_names(work: &mut Work<'_>, above: &View, unnamed: &BTreeSet<u32>) {
    let act = work.options.act;
    for keyspace in above.root.keyspaces.iter().filter(|keyspace| unnamed.contains(&keyspace.id)) {
        let verb = if act { "is" } else { "would be" };
        let what = format!(
            "keyspace {}, whose name was lost with the version that had it, {verb} called {}",
            keyspace.id, keyspace.name
        );
        work.tell(Rung::RollBack, None, what, act);
    }
}
