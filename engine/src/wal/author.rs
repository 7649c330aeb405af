//! Whose an object of the log is: an epoch is given out once, to one writer.
//!
//! ```text
//! newest version: epoch 6, writer a      log   … FENCE e6 a   DATA e6 a   DATA e6 b
//!                                                                         └ of a copy that went its own way
//! ```
//!
//! A copy that was itself opened and written has the same database uuid, and may have the same epochs in the same
//! slots. What tells its objects from those of this history is the writer: the version says who has the newest epoch;
//! of an older one the first object says it that is met, which is the FENCE unless replay begins behind it.
//!
//! Always true: pure; whoever walks the log takes no object whose writer is known to be another.

use crate::{
    error::Error,
    manifest::Root,
    store::Name,
    wal::record::{WalHeader, WalObject},
};

/// The writer that an epoch was given out to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Author {
    /// The epoch.
    pub epoch: u32,
    /// The writer's uuid.
    pub uuid: u128,
}

impl Author {
    /// Who has the newest epoch that `root` has given out; `None` if it does not say.
    pub fn of_version(root: &Root) -> Option<Self> {
        let uuid = root.writer.uuid[..].try_into().ok().map(u128::from_le_bytes)?;
        Some(Self { epoch: root.writer.epoch, uuid })
    }

    /// Who wrote `object`.
    pub fn of(object: &WalObject) -> Self {
        let WalHeader { epoch, writer_uuid: uuid, .. } = *object.header();
        Self { epoch, uuid }
    }

    /// Why an object that is by `self` is none of this history, in which `known` wrote: the epoch was another's.
    pub(crate) fn foreign(self, known: Self) -> Option<String> {
        (self.epoch == known.epoch && self.uuid != known.uuid).then(|| {
            format!(
                "it is of another copy of this database: writer {:032x} wrote it in epoch {}, which is that of writer {:032x} here",
                self.uuid, self.epoch, known.uuid
            )
        })
    }
}

/// The error of whoever needs what was in `slot`, where something foreign lies.
pub(super) fn error(slot: u64, why: String) -> Error {
    Error::corruption(Name::Wal(slot).path(), 0, why).hint(
        "`esker verify` says what else is wrong; `esker repair --from` brings back what was here from a copy that has it, and `esker repair --cut-log` goes on without it, which gives up the writes that it held",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_writer_of_the_same_epoch_is_of_another_history() {
        let known = Author { epoch: 6, uuid: 1 };
        for (epoch, uuid, is_foreign) in [(6, 1, false), (6, 2, true), (5, 2, false), (7, 2, false)] {
            assert_eq!(Author { epoch, uuid }.foreign(known).is_some(), is_foreign, "{epoch} {uuid}");
        }
    }
}
