//! Claims: a role changes hands, and whoever took it looks whether it is theirs.
//!
//! ```text
//! commit ClaimWriter or ClaimCompactor    epoch + 1: the commits of whoever held the role are fenced
//! whose uuid is in the version?           a claim whose outcome was found in a later version may have been
//!                                         followed by another's: then Fenced
//! ```
//!
//! Always true: the version that comes back names the claimant as the holder of the role.

use std::sync::Arc;

use crate::{
    chaos::{Bug, bug},
    error::Result,
    manifest::{Edit, Manifest, View, edit},
    stats::Cause,
};

/// Takes the writer's role for `name` on top of `base`, whoever has it; `uuid` is that of the new writer.
///
/// Fails with `Fenced` if another process does the same and is later.
pub async fn writer(
    manifest: &Manifest,
    base: &Arc<View>,
    uuid: u128,
    name: &str,
    cause: Cause,
) -> Result<Arc<View>> {
    let claim = Edit::ClaimWriter { uuid, name: name.to_owned() };
    let view = manifest.commit(base, &claim, cause).await?;
    let holder = &view.root.writer;
    check("writing to", &holder.uuid, uuid, &holder.name, holder.epoch)?;
    Ok(view)
}

/// Takes the compactor's role for `name` on top of `base`, and asks others to stay away for `lease_ms`.
/// Gives the new compactor's uuid as well.
///
/// Fails with `Conflict` if another is at work and `force` is off, with `Fenced` if another process does the
/// same and is later.
pub async fn compactor(
    manifest: &Manifest,
    base: &Arc<View>,
    name: &str,
    lease_ms: u64,
    force: bool,
    cause: Cause,
) -> Result<(Arc<View>, u128)> {
    let clock = manifest.store().clock();
    let (uuid, now_ms) = (clock.random(), clock.wall_ms());
    let busy_until_ms = now_ms.saturating_add(lease_ms);
    let claim = Edit::ClaimCompactor { uuid, name: name.to_owned(), busy_until_ms, now_ms, force };
    let view = manifest.commit(base, &claim, cause).await?;
    let holder = &view.root.compactor;
    check("compacting", &holder.uuid, uuid, &holder.name, holder.epoch)?;
    Ok((view, uuid))
}

fn check(role: &str, holder: &[u8], uuid: u128, name: &str, epoch: u32) -> Result<()> {
    // slatedb #271: the claim found was not the claim made.
    if *holder != uuid.to_le_bytes() && !bug(Bug::ClaimNotChecked) {
        return Err(edit::fenced(role, name, epoch, epoch.saturating_sub(1)));
    }
    Ok(())
}
