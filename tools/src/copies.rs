//! Pins and checkpoints, as the verbs show them: copies of versions that keep what they name.
//!
//! Always true: one that is damaged or newer than this program is shown as such, and stops no listing.

use anyhow::Result;
use esker::{
    Error, ErrorKind,
    manifest::{Manifest, VersionCopy, copy},
    stats::Cause,
    store::{Folder, Name},
};
use serde_json::{Value, json};

use crate::show;

/// A pin or checkpoint that lies in the store.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) name: Name,
    pub(crate) modified_ms: u64,
    /// What it holds; a pin that was released holds nothing.
    pub(crate) held: Result<Option<VersionCopy>, Error>,
}

/// Everything in `folder` (pins or checkpoints), read and decoded.
pub(crate) async fn all(manifest: &Manifest, folder: Folder) -> Result<Vec<Seen>> {
    let store = manifest.store();
    let mut seen = Vec::new();
    for listed in store.list(folder, None, Cause::Admin).await? {
        // Deleted since it was listed.
        let Some(bytes) = store.get(&listed.name, Cause::Admin).await? else { continue };
        let held = copy::decode(&listed.name, manifest.identity().db_uuid, &bytes);
        if let Err(error) = &held
            && !matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Unsupported)
        {
            return Err(error.clone().into());
        }
        seen.push(Seen { name: listed.name, modified_ms: listed.modified_ms, held });
    }
    Ok(seen)
}

impl Seen {
    /// The name without its folder.
    pub(crate) fn short(&self) -> String {
        let path = self.name.path();
        path.split_once('/').map_or_else(|| path.clone(), |(_, name)| name.to_owned())
    }

    /// The version it keeps, in words.
    pub(crate) fn keeps(&self) -> String {
        match &self.held {
            Ok(Some(copy)) => format!("version {}", show::count(copy.root.id)),
            Ok(None) => "released".to_owned(),
            Err(error) => error.kind().as_str().to_owned(),
        }
    }

    /// When it was made, by its maker's clock; of one that cannot be read, when the store got it.
    pub(crate) fn made_ms(&self) -> u64 {
        self.held.as_ref().ok().and_then(Option::as_ref).map_or(self.modified_ms, |copy| copy.made_ms)
    }

    /// The same for scripts.
    pub(crate) fn json(&self) -> Value {
        let copy = self.held.as_ref().ok().and_then(Option::as_ref);
        json!({
            "name": self.short(), "version": copy.map(|copy| copy.root.id),
            "last_seq": copy.map(|copy| copy.root.writer.last_seq),
            "made_ms": copy.map(|copy| copy.made_ms), "modified_ms": self.modified_ms,
            "error": self.held.as_ref().err().map(ToString::to_string),
        })
    }
}
