//! Ranges of user keys, and the half-open ranges of full keys they become.
//!
//! Always true: a [`KeyRange`] is never inverted; `a..a` is empty and legal.

use std::ops::{Bound, RangeBounds};

use bytes::{BufMut, Bytes, BytesMut};

use crate::{
    error::{Error, Result},
    key::{KEYSPACE_BYTES, KeyspaceId},
};

/// A range of user keys within one keyspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    start: Bound<Bytes>,
    end: Bound<Bytes>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> Self {
        Self { start: Bound::Unbounded, end: Bound::Unbounded }
    }

    /// The keys within `bounds`. Fails with `Invalid` if the start lies after the end.
    pub fn new<K: AsRef<[u8]>>(bounds: impl RangeBounds<K>) -> Result<Self> {
        let own = |b: Bound<&K>| b.map(|k| Bytes::copy_from_slice(k.as_ref()));
        let range = Self { start: own(bounds.start_bound()), end: own(bounds.end_bound()) };
        if let (Bound::Included(s) | Bound::Excluded(s), Bound::Included(e) | Bound::Excluded(e)) =
            (&range.start, &range.end)
            && s > e
        {
            return Err(Error::invalid(format!(
                "the range starts at {:?}, after its end {:?}",
                s.escape_ascii().to_string(),
                e.escape_ascii().to_string()
            ))
            .hint("swap the bounds; for descending order ask for the reverse of an ascending range"));
        }
        Ok(range)
    }

    /// The keys that begin with `prefix`.
    pub fn prefix(prefix: impl AsRef<[u8]>) -> Self {
        let prefix = prefix.as_ref();
        let end = successor(prefix).map_or(Bound::Unbounded, Bound::Excluded);
        Self { start: Bound::Included(Bytes::copy_from_slice(prefix)), end }
    }

    /// The keys in both ranges; empty (never inverted) when they do not meet.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let start = later_start(&self.start, &other.start).clone();
        let end = earlier_end(&self.end, &other.end).clone();
        if let (Bound::Included(s) | Bound::Excluded(s), Bound::Included(e) | Bound::Excluded(e)) =
            (&start, &end)
            && s > e
        {
            return Self { start: Bound::Included(s.clone()), end: Bound::Excluded(s.clone()) };
        }
        Self { start, end }
    }

    /// Whether `user_key` lies in the range.
    pub fn contains(&self, user_key: &[u8]) -> bool {
        let after_start = match &self.start {
            Bound::Included(s) => user_key >= &s[..],
            Bound::Excluded(s) => user_key > &s[..],
            Bound::Unbounded => true,
        };
        let before_end = match &self.end {
            Bound::Included(e) => user_key <= &e[..],
            Bound::Excluded(e) => user_key < &e[..],
            Bound::Unbounded => true,
        };
        after_start && before_end
    }

    /// The half-open range `[start, end)` of full keys; no end means the end of the last keyspace.
    pub fn full(&self, keyspace: KeyspaceId) -> FullRange {
        let start = match &self.start {
            Bound::Included(s) => with_keyspace(keyspace, s, false),
            Bound::Excluded(s) => with_keyspace(keyspace, s, true),
            Bound::Unbounded => with_keyspace(keyspace, &[], false),
        };
        let end = match &self.end {
            Bound::Included(e) => Some(with_keyspace(keyspace, e, true)),
            Bound::Excluded(e) => Some(with_keyspace(keyspace, e, false)),
            Bound::Unbounded => {
                keyspace.0.checked_add(1).map(|next| with_keyspace(KeyspaceId(next), &[], false))
            }
        };
        FullRange { start, end }
    }
}

/// A half-open range `[start, end)` of full keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullRange {
    /// The first full key in the range.
    pub start: Bytes,
    /// The first full key after the range; `None` is after every key.
    pub end: Option<Bytes>,
}

impl FullRange {
    /// Every full key of every keyspace.
    pub fn all() -> Self {
        Self { start: Bytes::new(), end: None }
    }
    /// Whether the range holds no key.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| *end <= self.start)
    }
    /// Whether `full_key` lies in the range.
    pub fn contains(&self, full_key: &[u8]) -> bool {
        full_key >= &self.start[..] && self.end.as_ref().is_none_or(|end| full_key < &end[..])
    }
    /// Whether the range meets the closed range `[first, last]`.
    pub fn meets(&self, first: &[u8], last: &[u8]) -> bool {
        last >= &self.start[..] && self.end.as_ref().is_none_or(|end| first < &end[..])
    }
}

/// The ranges of keys of `keyspace` that meet none of `lost`, closed ranges of full keys; ascending.
pub(crate) fn around(keyspace: KeyspaceId, mut lost: Vec<(&[u8], &[u8])>) -> Vec<KeyRange> {
    lost.sort_unstable();
    let (id, of_keyspace) = (keyspace.0.to_be_bytes(), KeyRange::all().full(keyspace));
    let mut ranges = vec![KeyRange::all()];
    for (first, last) in lost.into_iter().filter(|(first, last)| of_keyspace.meets(first, last)) {
        // They come by their first key, so what lies before the last of the ranges is settled.
        let Some(cut) = ranges.pop() else { break };
        let bound = |user_key| Bound::Excluded(Bytes::copy_from_slice(user_key));
        // One that begins in the keyspace before leaves nothing in front of it, one that ends in the next nothing behind it.
        let before = first.strip_prefix(&id).map(|key| KeyRange { start: Bound::Unbounded, end: bound(key) });
        let behind = last.strip_prefix(&id).map(|key| KeyRange { start: bound(key), end: Bound::Unbounded });
        let parts = [before, behind].into_iter().flatten().map(|part| cut.and(&part));
        ranges.extend(parts.filter(|part| !part.full(keyspace).is_empty()));
    }
    ranges
}

/// The smallest byte string greater than every string that begins with `prefix`; `None` if there is none.
pub fn successor(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|b| *b != 0xFF)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

fn later_start<'a>(a: &'a Bound<Bytes>, b: &'a Bound<Bytes>) -> &'a Bound<Bytes> {
    match (a, b) {
        (Bound::Unbounded, x) | (x, Bound::Unbounded) => x,
        (Bound::Included(x) | Bound::Excluded(x), Bound::Included(y) | Bound::Excluded(y)) => {
            match x.cmp(y) {
                std::cmp::Ordering::Less => b,
                std::cmp::Ordering::Greater => a,
                std::cmp::Ordering::Equal => {
                    if matches!(a, Bound::Excluded(_)) {
                        a
                    } else {
                        b
                    }
                }
            }
        }
    }
}

fn earlier_end<'a>(a: &'a Bound<Bytes>, b: &'a Bound<Bytes>) -> &'a Bound<Bytes> {
    match (a, b) {
        (Bound::Unbounded, x) | (x, Bound::Unbounded) => x,
        (Bound::Included(x) | Bound::Excluded(x), Bound::Included(y) | Bound::Excluded(y)) => {
            match x.cmp(y) {
                std::cmp::Ordering::Less => a,
                std::cmp::Ordering::Greater => b,
                std::cmp::Ordering::Equal => {
                    if matches!(a, Bound::Excluded(_)) {
                        a
                    } else {
                        b
                    }
                }
            }
        }
    }
}

fn with_keyspace(keyspace: KeyspaceId, user_key: &[u8], just_after: bool) -> Bytes {
    let mut full = BytesMut::with_capacity(KEYSPACE_BYTES + user_key.len() + 1);
    full.put_u32(keyspace.0);
    full.put_slice(user_key);
    if just_after {
        full.put_u8(0);
    }
    full.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Vec<Vec<u8>> {
        let letters = [0u8, 1, b'a', b'b', 0xFE, 0xFF];
        let mut keys = vec![vec![]];
        for a in letters {
            keys.push(vec![a]);
            keys.extend(letters.iter().map(|b| vec![a, *b]));
        }
        keys
    }

    fn bounds(keys: &[Vec<u8>]) -> Vec<Bound<&[u8]>> {
        let mut all = vec![Bound::Unbounded];
        for key in keys {
            all.extend([Bound::Included(&key[..]), Bound::Excluded(&key[..])]);
        }
        all
    }

    #[test]
    fn a_full_range_holds_exactly_the_keys_of_its_range() {
        let keys = keys();
        for start in bounds(&keys) {
            for end in bounds(&keys) {
                let Ok(range) = KeyRange::new::<&[u8]>((start, end)) else { continue };
                for id in [KeyspaceId(0), KeyspaceId(7), KeyspaceId(u32::MAX)] {
                    let full = range.full(id);
                    for key in &keys {
                        let stored = crate::key::full_key(id, key).unwrap();
                        assert_eq!(
                            range.contains(key),
                            full.contains(&stored),
                            "{range:?} {key:?} in {id:?}"
                        );
                        let elsewhere = crate::key::full_key(KeyspaceId(3), key).unwrap();
                        assert!(!full.contains(&elsewhere), "{full:?} reaches into another keyspace");
                    }
                }
            }
        }
    }

    #[test]
    fn an_inverted_range_is_refused_with_both_bounds_named() {
        let error = KeyRange::new("b".."a").unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Invalid);
        assert!(error.to_string().contains("\"b\"") && error.to_string().contains("\"a\""), "{error}");
        assert!(KeyRange::new("a".."a").unwrap().full(KeyspaceId(0)).is_empty());
    }

    #[test]
    fn a_prefix_holds_exactly_the_keys_that_begin_with_it() {
        let keys = keys();
        for prefix in &keys {
            let range = KeyRange::prefix(prefix);
            for key in &keys {
                assert_eq!(range.contains(key), key.starts_with(prefix), "{prefix:?} {key:?}");
            }
        }
    }

    #[test]
    fn around_what_is_lost_lies_every_other_key_once() {
        let keys = keys();
        let full = |id, key: &[u8]| crate::key::full_key(KeyspaceId(id), key).unwrap();
        let stored: Vec<_> = [6, 7, 8].iter().flat_map(|id| keys.iter().map(|key| full(*id, key))).collect();
        // Closed ranges between any two keys of three keyspaces, none to three at a time.
        let closed = |n: usize| {
            let (a, b) = (&stored[n * 31 % stored.len()], &stored[n * 47 % stored.len()]);
            (a.min(b).as_ref(), a.max(b).as_ref())
        };
        for n in 0..2_000 {
            let lost: Vec<_> = (0..n % 4).map(|at| closed(n + at * 613)).collect();
            let ranges = around(KeyspaceId(7), lost.clone());
            for key in &keys {
                let stored = full(7, key);
                let is_lost = lost.iter().any(|(first, last)| *first <= &stored[..] && &stored[..] <= *last);
                let times = ranges.iter().filter(|range| range.contains(key)).count();
                assert_eq!(times, usize::from(!is_lost), "{key:?} of {ranges:?} around {lost:?}");
            }
            let starts: Vec<_> = ranges.iter().map(|range| range.full(KeyspaceId(7)).start).collect();
            assert!(starts.is_sorted(), "{ranges:?}");
        }
    }

    #[test]
    fn the_meet_of_two_ranges_holds_the_keys_in_both() {
        let keys: Vec<_> = keys().into_iter().step_by(3).collect();
        let ranges: Vec<_> = bounds(&keys)
            .iter()
            .flat_map(|s| bounds(&keys).into_iter().map(|e| (*s, e)).collect::<Vec<_>>())
            .filter_map(|b| KeyRange::new::<&[u8]>(b).ok())
            .collect();
        for a in ranges.iter().step_by(5) {
            for b in ranges.iter().step_by(3) {
                let both = a.and(b);
                for key in &keys {
                    assert_eq!(
                        both.contains(key),
                        a.contains(key) && b.contains(key),
                        "{a:?} and {b:?} at {key:?}"
                    );
                }
            }
        }
    }
}
