//! Putting a FENCE into the log: the end of every older epoch.
//!
//! ```text
//! slot  … 12    13    14
//!       DATA  DATA  (absent)   put: the FENCE is there, or what an older writer was quicker with; then
//!        e1    e1              its putter walks over that and tries the next absent slot
//! ```
//!
//! Always true: what lies in the slot decides, never an error (`store::sequence`); each attempt has a token of its own;
//! it is given up when an older writer has been quicker at every slot for a minute.

use std::time::Duration;

use crate::{
    error::{Error, Result},
    manifest::Manifest,
    stats::Cause,
    store::{Folder, Sequence, Slot, Token},
    wal::record::{WalHeader, encode_fence},
};

/// How long the fence may be without an answer, and how long its putter runs after a writer that still writes.
const FENCE_TIME: Duration = Duration::from_secs(60);

/// Whoever puts the FENCE of one epoch into the log.
#[derive(Debug)]
pub(crate) struct Fencer {
    log: Sequence,
    db_uuid: u128,
    writer_uuid: u128,
    epoch: u32,
    name: String,
    cause: Cause,
    contended_since: Option<Duration>,
}

impl Fencer {
    /// For the writer `writer_uuid`, which has claimed `epoch`; `name` is for the sentence a fenced writer prints.
    pub(crate) fn new(manifest: &Manifest, writer_uuid: u128, epoch: u32, name: &str, cause: Cause) -> Self {
        Self {
            log: Sequence::new(manifest.store().clone(), Folder::Wal),
            db_uuid: manifest.identity().db_uuid,
            writer_uuid,
            epoch,
            name: name.to_owned(),
            cause,
            contended_since: None,
        }
    }

    /// Whether an older writer was quicker before.
    pub(crate) fn is_contended(&self) -> bool {
        self.contended_since.is_some()
    }

    /// Puts the fence into `slot`, which was absent. Gives whether it is there: not if an older writer was quicker.
    ///
    /// Fails with `Unavailable` if one has been for a minute.
    pub(crate) async fn put(&mut self, slot: u64) -> Result<bool> {
        let clock = self.log.store().clock().clone();
        let header = WalHeader {
            db_uuid: self.db_uuid,
            writer_uuid: self.writer_uuid,
            epoch: self.epoch,
            slot,
            token: Token::fresh(&*clock).0,
            first_seq: 0,
            durable_to: 0,
        };
        let body = encode_fence(&header, &self.name);
        match self.log.create(slot, vec![body], self.cause, Some(FENCE_TIME)).await? {
            Slot::Ours => Ok(true),
            Slot::Theirs(_) => {
                let now = clock.monotonic();
                let since = *self.contended_since.get_or_insert(now);
                if now.saturating_sub(since) > FENCE_TIME {
                    return Err(Error::unavailable(format!(
                        "an older writer has been quicker at every slot of the log for {FENCE_TIME:?}"
                    ))
                    .hint("it is fenced at its next flush; try again then, or stop it"));
                }
                Ok(false)
            }
        }
    }
}
