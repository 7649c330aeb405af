//! Bytes, sizes and times as text, and back.
//!
//! Always true: what [`text`] prints holds no control character, whatever the bytes are; the JSON of
//! a row gives the exact bytes back.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime},
};

use anyhow::Result;
use bytesize::ByteSize;
use serde_json::{Map, Value};

use crate::exit::Stop;

/// Bytes as people read them: UTF-8 as it is, all else escaped (`\n`, `\t`, `\\`, `\x00`).
pub(crate) fn text(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                c if c.is_control() => {
                    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                        escape(&mut out, byte);
                    }
                }
                c => out.push(c),
            }
        }
        for byte in chunk.invalid() {
            escape(&mut out, *byte);
        }
    }
    out
}

/// [`text`] in quotes, cut after about `limit` characters.
pub(crate) fn quoted(bytes: &[u8], limit: usize) -> String {
    let whole = text(bytes);
    match whole.char_indices().nth(limit) {
        Some((cut, _)) => format!("\"{}…\"", &whole[..cut]),
        None => format!("\"{whole}\""),
    }
}

/// Bytes as lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out
}

/// [`hex`] or [`text`].
pub(crate) fn as_asked(bytes: &[u8], as_hex: bool) -> String {
    if as_hex { hex(bytes) } else { text(bytes) }
}

/// The bytes that hex digits stand for; `None` if they are not pairs of hex digits.
pub(crate) fn parse_hex(digits: &str) -> Option<Vec<u8>> {
    let digits = digits.strip_prefix("0x").unwrap_or(digits).as_bytes();
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some((digit(*high)? << 4) | digit(*low)?)).collect()
}

/// A key or value from the command line: its UTF-8, or with `as_hex` the bytes its digits stand for.
pub(crate) fn given(word: &str, as_hex: bool) -> Result<Vec<u8>> {
    if !as_hex {
        return Ok(word.as_bytes().to_vec());
    }
    parse_hex(word).ok_or_else(|| {
        Stop::usage(format!("{word:?} is not hex"))
            .hint("with --hex, keys and values are pairs of digits, such as 00ff10")
            .into()
    })
}

/// Adds `name: "…"` if the bytes are UTF-8, else (or with `as_hex`) `name_hex: "…"`.
pub(crate) fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: &[u8], as_hex: bool) {
    match std::str::from_utf8(bytes) {
        Ok(text) if !as_hex => object.insert(name.to_owned(), text.into()),
        _ => object.insert(format!("{name}_hex"), hex(bytes).into()),
    };
}

/// A row as the object that `esker export` writes and `esker load` reads.
pub(crate) fn row_json(keyspace: &str, row: &esker::Row, as_hex: bool) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("keyspace".to_owned(), keyspace.into());
    put_bytes(&mut object, "key", &row.key, as_hex);
    put_bytes(&mut object, "value", &row.value, as_hex);
    object.insert("seq".to_owned(), row.seq.into());
    if row.expire_at_ms != esker::key::NEVER {
        object.insert("expire_at_ms".to_owned(), row.expire_at_ms.into());
    }
    object
}

/// A number of bytes in human units.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize::b(bytes).to_string()
}

/// A number with its thousands set apart.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// "1 row", "2,000 rows".
pub(crate) fn counted(n: u64, one: &str) -> String {
    format!("{} {one}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A moment of the wall clock; "never" for 0.
pub(crate) fn moment(ms: u64) -> String {
    // Past the year 9999 the date has no agreed form, and the number is more honest.
    const LAST: u64 = 253_402_300_799_000;
    match ms {
        0 => "never".to_owned(),
        ms if ms > LAST => format!("{ms} ms"),
        ms => {
            humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_millis(ms)).to_string()
        }
    }
}

/// A length of time in human units.
pub(crate) fn duration(length: Duration) -> String {
    let rounded = match length {
        l if l >= Duration::from_secs(10) => Duration::from_secs(l.as_secs()),
        l if l >= Duration::from_millis(10) => Duration::from_millis(l.as_millis() as u64),
        l => Duration::from_micros(l.as_micros() as u64),
    };
    humantime::format_duration(rounded).to_string()
}

fn escape(out: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _ = write!(out, "\\x{byte:02x}");
}

fn digit(c: u8) -> Option<u8> {
    (c as char).to_digit(16).map(|d| d as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_escapes_what_a_terminal_must_not_see() {
        assert_eq!(text(b"plain \xc3\xa9"), "plain é");
        assert_eq!(text(b"a\x00b\n\xff\\\x1b"), "a\\x00b\\n\\xff\\\\\\x1b");
    }

    #[test]
    fn hex_goes_there_and_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(parse_hex(&hex(&bytes)).as_deref(), Some(&bytes[..]));
        assert_eq!(parse_hex("abc"), None);
        assert_eq!(parse_hex("zz"), None);
        assert_eq!(parse_hex("é"), None);
        assert_eq!(parse_hex(""), Some(vec![]));
    }

    #[test]
    fn numbers_are_set_apart_by_thousands() {
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"].map(str::to_owned)
        );
        assert_eq!(counted(1, "row"), "1 row");
        assert_eq!(counted(0, "row"), "0 rows");
    }

    #[test]
    fn a_moment_past_every_calendar_is_printed_as_a_number() {
        assert_eq!(moment(u64::MAX), format!("{} ms", u64::MAX));
        assert_eq!(moment(0), "never");
        assert_eq!(moment(1_000), "1970-01-01T00:00:01Z");
    }
}
