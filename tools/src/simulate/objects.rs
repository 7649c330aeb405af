//! The simulated store's heart: which objects there are. One change at a time, each seen by all at once.
//!
//! It is what a good store is: a create of what is there fails, a listing is in order and complete, a deletion
//! of what is not there succeeds. For a while it can be made to lie, in ways that a probe must notice.
//!
//! Always true: nothing here waits, and nothing here draws chance.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::swarm::Lie;

/// An object.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// Its bytes.
    pub(crate) body: Bytes,
    /// When it was written, in virtual milliseconds since the run began.
    pub(crate) modified_ms: u64,
}

/// All objects, by path.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    map: BTreeMap<String, Stored>,
    /// How the store lies, if it does.
    lie: Option<Lie>,
    /// What was asked for and found absent, while the store lies so.
    absent: VecDeque<(String, u64)>,
}

/// How long a stale listing or a cached absence lasts.
const STALE_MS: u64 = 5_000;

impl Objects {
    /// From now on the store lies so, or not at all.
    pub(crate) fn set_lie(&mut self, lie: Option<Lie>) {
        self.lie = lie;
        self.absent.clear();
    }

    /// Whether it lies.
    pub(crate) fn lies(&self) -> bool {
        self.lie.is_some()
    }

    /// Creates; false if there is one already.
    pub(crate) fn create(&mut self, path: &str, body: Bytes, now_ms: u64) -> bool {
        if self.map.contains_key(path) && self.lie != Some(Lie::CreateOverwrites) {
            return false;
        }
        self.put(path, body, now_ms);
        true
    }

    /// Writes, whatever is there.
    pub(crate) fn put(&mut self, path: &str, body: Bytes, now_ms: u64) {
        self.map.insert(path.to_owned(), Stored { body, modified_ms: now_ms });
    }

    /// Deletes; gives what was there.
    pub(crate) fn delete(&mut self, path: &str) -> Option<Stored> {
        self.map.remove(path)
    }

    /// The object as a GET sees it.
    pub(crate) fn asked(&mut self, path: &str, now_ms: u64) -> Option<Stored> {
        if self.lie == Some(Lie::NegativeCache) {
            self.absent.retain(|(_, at_ms)| at_ms + STALE_MS > now_ms);
            if self.absent.iter().any(|(absent, _)| absent == path) {
                return None;
            }
            if !self.map.contains_key(path) {
                self.absent.push_back((path.to_owned(), now_ms));
            }
        }
        self.map.get(path).cloned()
    }

    /// A page of the objects under `prefix/`, after `after`, as a LIST sees it: path, bytes, time.
    pub(crate) fn page(
        &self,
        prefix: &str,
        after: &str,
        most: usize,
        now_ms: u64,
    ) -> Vec<(String, u64, u64)> {
        let start = if after > prefix { after } else { prefix };
        let stale = self.lie == Some(Lie::StaleList);
        self.map
            .range::<str, _>((std::ops::Bound::Excluded(start), std::ops::Bound::Unbounded))
            .take_while(|(path, _)| path.starts_with(prefix))
            .filter(|(path, stored)| {
                is_under(path, prefix) && !(stale && stored.modified_ms + STALE_MS > now_ms)
            })
            .take(most)
            .map(|(path, stored)| (path.clone(), stored.body.len() as u64, stored.modified_ms))
            .collect()
    }

    /// Everything under `prefix`, which is a path or ends with a slash.
    pub(crate) fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Stored)> + 'a {
        self.map
            .range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded))
            .take_while(move |(path, _)| path.starts_with(prefix))
            .map(|(path, stored)| (path.as_str(), stored))
    }

    /// The `n`-th other object (round and round) in the folder of `path`.
    pub(crate) fn neighbour<'a>(&'a self, path: &'a str, n: u64) -> Option<&'a Stored> {
        let folder = path.split_inclusive('/').next().unwrap_or_default();
        let others: Vec<_> = self.under(folder).filter(|(other, _)| *other != path).take(64).collect();
        let at = n.checked_rem(others.len() as u64)? as usize;
        Some(others[at].1)
    }
}

fn is_under(path: &str, prefix: &str) -> bool {
    prefix.is_empty() || path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_has_what_lies_under_the_prefix_and_nothing_else() {
        let mut objects = Objects::default();
        for path in ["DB", "floor/job/1", "floor/manifest/1", "wal", "wal-x/1", "wal/1", "wal/2", "wal/3"] {
            objects.put(path, Bytes::from_static(b"x"), 0);
        }
        let names = |prefix, after, most| -> Vec<String> {
            objects.page(prefix, after, most, 0).into_iter().map(|(path, ..)| path).collect()
        };
        assert_eq!(names("wal", "", 9), ["wal/1", "wal/2", "wal/3"]);
        assert_eq!(names("wal", "wal/1", 1), ["wal/2"]);
        assert_eq!(names("floor/manifest", "", 9), ["floor/manifest/1"]);
        assert_eq!(names("nothing", "", 9), Vec::<String>::new());
    }
}
