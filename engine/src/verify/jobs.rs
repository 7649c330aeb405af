//! Verifying the job log: every record decodes, and none is missing between others.
//!
//! The job log is no truth, only what a compactor wants its successor to know. So whatever is wrong with it is worth
//! knowing and no damage: it costs work, and holds collections up until a compactor has taken over.
//!
//! Always true: nothing that the newest version needs depends on what is looked at here.

use crate::{
    compaction::log,
    error::{ErrorKind, Result},
    manifest::Manifest,
    stats::Cause,
    store::Name,
    verify::{Finding, Report, Severity},
};

/// Checks the job log of `manifest`'s database; `epoch` is that of the compactor role in the newest version.
pub(super) async fn check(manifest: &Manifest, epoch: u32, report: &mut Report) -> Result<()> {
    let log = match log::read(manifest.store(), manifest.identity().db_uuid, Cause::Admin).await {
        Ok(log) => log,
        // A collection at work took it away again and again; there is nothing to hold against it.
        Err(error) if error.kind() == ErrorKind::Conflict => return Ok(()),
        Err(error) => return Err(error),
    };
    for (slot, record) in log.records {
        let name = Name::Job(slot);
        report.job_records += 1;
        match record {
            Ok(record) if record.epoch > epoch => {
                let what =
                    format!("compactor epoch {} was never given out, the newest is {epoch}", record.epoch);
                report.add(Finding::notice(name, what));
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                report.add(Finding::notice(name, error.to_string()));
            }
            Err(error) => report.add(Finding { severity: Severity::Notice, ..Finding::of(&name, error)? }),
        }
    }
    Ok(())
}
