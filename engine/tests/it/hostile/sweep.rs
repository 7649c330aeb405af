//! Every byte flipped and every length cut, of an object of every kind, seen through the engine's own doors.
//!
//! Always true: each case is detected, by an error that names the damaged object, or is harmless, and then
//! every answer is the right one.

use bytes::Bytes;

use super::database::{Database, Tally};

/// Bytes at either end of an object in which each bit is flipped on its own: headers and footers.
const EDGE_BYTES: usize = 80;

/// Damages one object in every way: flips, cuts, additions. Three bits of each byte, and all of those at the edges. `stride` 1 is every byte.
fn sweep(database: &Database, path: &str, bytes: &Bytes, stride: usize, tally: &mut Tally) {
    let mut check = |damaged: Vec<u8>, what: &str| {
        database.check(&[(path, damaged.into())], &format!("{path}, {what}"), tally);
    };
    for at in 0..bytes.len() {
        let is_edge = at < EDGE_BYTES || at + EDGE_BYTES >= bytes.len();
        if !is_edge && at % stride != 0 {
            continue;
        }
        let bits: &[usize] = if is_edge { &[0, 1, 2, 3, 4, 5, 6, 7] } else { &[0, 3, 5] };
        for bit in bits.iter().map(|bit| (at + bit) % 8) {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1 << bit;
            check(flipped, &format!("bit {bit} of byte {at} flipped"));
        }
        check(bytes[..at].to_vec(), &format!("cut at {at}"));
    }
    for more in [1, 8, 100, 5_000] {
        check([&bytes[..], &vec![0; more]].concat(), &format!("{more} zeroes longer"));
        check(
            [&bytes[..], &bytes[..more.min(bytes.len())]].concat(),
            &format!("{more} of its own bytes longer"),
        );
    }
    check(vec![0; bytes.len()], "all zeroes");
    check(vec![0xFF; bytes.len()], "all ones");
}

fn sweep_all(folder: &str) {
    let database = Database::small();
    let mut tally = Tally::default();
    for (path, bytes) in database.of(folder) {
        sweep(&database, path, bytes, 1, &mut tally);
    }
    tally.print(folder);
    assert!(tally.detected > 0, "{folder}: {tally:?}");
}

#[test]
fn damage_to_the_identity_is_detected_or_harmless() {
    sweep_all("DB");
}

#[test]
fn damage_to_a_version_is_detected_or_harmless() {
    sweep_all("manifest/");
}

#[test]
fn damage_to_a_log_object_is_detected_or_harmless() {
    sweep_all("wal/");
}

#[test]
fn damage_to_an_sst_is_detected_or_harmless() {
    sweep_all("sst/");
}

#[test]
fn damage_to_a_pin_or_a_checkpoint_is_detected_or_harmless() {
    sweep_all("pin/");
    sweep_all("checkpoint/");
}

/// Damage that costs nobody an answer, and nobody calls damage.
fn sweep_harmless(folder: &str) {
    let database = Database::small();
    let mut tally = Tally::default();
    for (path, bytes) in database.of(folder) {
        sweep(&database, path, bytes, 1, &mut tally);
    }
    tally.print(folder);
    assert!(tally.detected == 0 && tally.cases > 0, "{folder}: {tally:?}");
}

#[test]
fn damage_to_a_floor_is_harmless_since_its_name_says_it_all() {
    sweep_harmless("floor/");
}

#[test]
fn damage_to_a_job_record_is_harmless_since_it_costs_work_and_no_data() {
    sweep_harmless("job/");
}

#[test]
fn damage_to_a_part_is_detected_or_harmless() {
    let database = Database::with_parts();
    let mut tally = Tally::default();
    for (path, bytes) in database.of("part/").take(1) {
        // Long keys fill it: a stride of a prime meets everything between them.
        sweep(&database, path, bytes, 31, &mut tally);
    }
    tally.print("part/");
    assert!(tally.detected > 0, "{tally:?}");
}
