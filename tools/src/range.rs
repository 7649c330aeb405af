//! Which rows a reading verb is about: keyspace, prefix, bounds.

use anyhow::Result;
use clap::Args;
use esker::{KeyRange, Snapshot};

use crate::{exit::Stop, show};

/// The keyspace that `db` itself is, by name.
pub(crate) const DEFAULT: &str = "default";

/// Flags of `scan` and `count`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RangeArgs {
    /// Only keys that begin with this
    #[arg(long, value_name = "KEY")]
    prefix: Option<String>,
    /// Only keys at or after this
    #[arg(long, value_name = "KEY")]
    from: Option<String>,
    /// Only keys before this
    #[arg(long, value_name = "KEY")]
    to: Option<String>,
    /// The keyspace to read
    #[arg(long, value_name = "NAME", default_value = DEFAULT)]
    keyspace: String,
    /// All keyspaces, one after the other
    #[arg(long, conflicts_with = "keyspace")]
    all: bool,
    /// Read this checkpoint instead of the database as it is now
    #[arg(long, value_name = "NAME")]
    pub(crate) checkpoint: Option<String>,
    /// Keys and values are hex digits, in the flags and in the output
    #[arg(long)]
    pub(crate) hex: bool,
}

impl RangeArgs {
    /// The range that the flags say; a usage error if it is inverted.
    pub(crate) fn range(&self) -> Result<KeyRange> {
        let given = |word: &Option<String>| word.as_deref().map(|w| show::given(w, self.hex)).transpose();
        let (prefix, from, to) = (given(&self.prefix)?, given(&self.from)?, given(&self.to)?);
        let bounds = match (from, to) {
            (Some(from), Some(to)) => KeyRange::new(from..to)?,
            (Some(from), None) => KeyRange::new(from..)?,
            (None, Some(to)) => KeyRange::new(..to)?,
            (None, None) => KeyRange::all(),
        };
        Ok(match prefix {
            Some(prefix) => bounds.and(&KeyRange::prefix(prefix)),
            None => bounds,
        })
    }

    /// The keyspaces that the flags name, each as a view of `snapshot`.
    pub(crate) fn keyspaces(&self, snapshot: &Snapshot) -> Result<Vec<(String, Snapshot)>> {
        if self.all {
            all_keyspaces(snapshot)
        } else {
            Ok(vec![(self.keyspace.clone(), keyspace(snapshot, &self.keyspace)?)])
        }
    }
}

/// `snapshot`, looking at the keyspace called `name`; "not found", naming those that exist, if there is none.
pub(crate) fn keyspace(snapshot: &Snapshot, name: &str) -> Result<Snapshot> {
    snapshot.keyspace(name).ok_or_else(|| {
        Stop::not_found(format!("there is no keyspace {name:?}"))
            .hint(format!("there are: {}", snapshot.keyspaces().join(", ")))
            .into()
    })
}

/// Every keyspace of `snapshot` by name, in the order the database keeps them.
pub(crate) fn all_keyspaces(snapshot: &Snapshot) -> Result<Vec<(String, Snapshot)>> {
    snapshot.keyspaces().into_iter().map(|name| keyspace(snapshot, &name).map(|of| (name, of))).collect()
}
