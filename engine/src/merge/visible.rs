//! From entries to visible rows: newest version at a snapshot, tombstones, expiry.
