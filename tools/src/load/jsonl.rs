//! Lines of JSON: rows as `esker export` writes them, or any objects with a key field.
//!
//! ```text
//! {"keyspace":"default","key":"a","value":"1","seq":7,"expire_at_ms":1900000000000}
//! {"key_hex":"00ff","value_hex":"0102"}                     binary
//! {"id":42,"name":"Ada"}            with --key id: key `42`, the value is the line as it is
//! ```
//!
//! `seq` is read past: a loaded row gets a new sequence number.

use std::{
    borrow::Cow,
    io::{BufRead, Read as _},
    sync::Arc,
};

use anyhow::Result;
use serde::Deserialize;
use serde_json::Value;

use super::{BYTE_ORDER_MARK, Record, bad_line, check};
use crate::show;

/// The longest line that is read: a value of the largest size, every byte escaped as six characters,
/// and some room.
const MAX_LINE_BYTES: u64 = 6 * (esker::key::MAX_VALUE_BYTES as u64) + (1 << 20);

/// The lines of a file.
pub(crate) struct Lines {
    from: Box<dyn BufRead + Send>,
    file: Arc<str>,
    key: Vec<String>,
    line: u64,
    buffer: Vec<u8>,
}

impl Lines {
    /// Reads rows from `from`; `key` names the fields that are the key of arbitrary objects, if any.
    pub(crate) fn new(from: Box<dyn BufRead + Send>, file: Arc<str>, key: &[String]) -> Self {
        Self { from, file, key: key.to_vec(), line: 0, buffer: Vec::new() }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Record>> {
        loop {
            self.buffer.clear();
            self.line += 1;
            let read = self.from.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut self.buffer);
            match read.map_err(|e| bad_line(&self.file, self.line, e))? {
                0 => return Ok(None),
                n if n as u64 == MAX_LINE_BYTES => {
                    return Err(bad_line(&self.file, self.line, "the line is longer than any row can be"));
                }
                _ => {}
            }
            let text = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
            let mark = text.strip_prefix(BYTE_ORDER_MARK).filter(|_| self.line == 1);
            let text = mark.unwrap_or(text);
            let text = text.strip_suffix(b"\r").unwrap_or(text);
            if text.trim_ascii().is_empty() {
                continue;
            }
            let record = if self.key.is_empty() { exported(text) } else { arbitrary(text, &self.key) };
            let record = record.map_err(|what| bad_line(&self.file, self.line, what))?;
            return check(record, &self.file, self.line).map(Some);
        }
    }
}

/// A row as `esker export` writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Exported<'a> {
    #[serde(borrow)]
    keyspace: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow)]
    key_hex: Option<Cow<'a, str>>,
    #[serde(borrow)]
    value: Option<Cow<'a, str>>,
    #[serde(borrow)]
    value_hex: Option<Cow<'a, str>>,
    /// Read past.
    #[serde(default, rename = "seq")]
    _seq: Option<u64>,
    #[serde(default)]
    expire_at_ms: u64,
}

fn exported(text: &[u8]) -> Result<Record, String> {
    let row: Exported<'_> = serde_json::from_slice(text).map_err(|error| {
        format!("{error}; a row is {{\"key\": …, \"value\": …}}, or say --key FIELD to load any objects")
    })?;
    Ok(Record {
        keyspace: row.keyspace.map(Cow::into_owned),
        key: one_of("key", row.key, row.key_hex)?,
        value: one_of("value", row.value, row.value_hex)?,
        expire_at_ms: row.expire_at_ms,
    })
}

fn one_of(name: &str, text: Option<Cow<'_, str>>, hex: Option<Cow<'_, str>>) -> Result<Vec<u8>, String> {
    match (text, hex) {
        (Some(text), None) => Ok(text.into_owned().into_bytes()),
        (None, Some(digits)) => show::parse_hex(&digits).ok_or_else(|| format!("\"{name}_hex\" is not hex")),
        (Some(_), Some(_)) => Err(format!("both \"{name}\" and \"{name}_hex\" are given")),
        (None, None) => Err(format!("neither \"{name}\" nor \"{name}_hex\" is given")),
    }
}

fn arbitrary(text: &[u8], key: &[String]) -> Result<Record, String> {
    let object: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    let mut joined = Vec::new();
    for (at, name) in key.iter().enumerate() {
        if at > 0 {
            joined.push(b'/');
        }
        match object.get(name) {
            Some(Value::String(text)) => joined.extend_from_slice(text.as_bytes()),
            Some(Value::Number(number)) => joined.extend_from_slice(number.to_string().as_bytes()),
            Some(Value::Bool(yes)) => joined.extend_from_slice(yes.to_string().as_bytes()),
            Some(_) => {
                return Err(format!("the key field {name:?} is neither text, a number nor a truth value"));
            }
            None => return Err(format!("there is no field {name:?}")),
        }
    }
    Ok(Record { keyspace: None, key: joined, value: text.to_vec(), expire_at_ms: 0 })
}
