//! Debian package-index stanzas (`Packages`): paragraphs of `Field: value` lines between blank lines.
//!
//! ```text
//! Package: 0ad            key    0ad/0.0.26-3/amd64
//! Version: 0.0.26-3       value  these bytes, from the first letter to the last newline
//! Architecture: amd64
//! Description: …
//!  continued lines begin with a space
//! ```
//!
//! Always true: the values, with one blank line after each, are the file again.

use std::{
    io::{BufRead, Read as _},
    sync::Arc,
};

use anyhow::Result;

use super::{Record, bad_line, check};

/// Fields that make the key, in its order.
const KEY_FIELDS: [&str; 3] = ["Package", "Version", "Architecture"];

/// The stanzas of a file.
pub(crate) struct Stanzas {
    from: Box<dyn BufRead + Send>,
    file: Arc<str>,
    line: u64,
}

impl Stanzas {
    pub(crate) fn new(from: Box<dyn BufRead + Send>, file: Arc<str>) -> Self {
        Self { from, file, line: 0 }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Record>> {
        let mut value = Vec::new();
        let mut first_line = self.line + 1;
        loop {
            let start = value.len();
            self.line += 1;
            // One byte more than a value may have is enough to be refused.
            let room = esker::key::MAX_VALUE_BYTES as u64 + 1 - start as u64;
            let read = self.from.by_ref().take(room).read_until(b'\n', &mut value);
            let n = read.map_err(|e| bad_line(&self.file, self.line, e))?;
            let blank = value[start..].trim_ascii().is_empty();
            if start == 0 && blank {
                if n == 0 {
                    return Ok(None);
                }
                value.clear();
                first_line = self.line + 1;
                continue;
            }
            if blank {
                value.truncate(start);
                break;
            }
            if value.len() > esker::key::MAX_VALUE_BYTES {
                return Err(bad_line(&self.file, first_line, "the stanza is longer than a value may be"));
            }
        }
        let key = key(&value).map_err(|what| bad_line(&self.file, first_line, what))?;
        check(Record { keyspace: None, key, value, expire_at_ms: 0 }, &self.file, first_line).map(Some)
    }
}

/// The key of a stanza.
fn key(stanza: &[u8]) -> Result<Vec<u8>, String> {
    let mut found = [None; KEY_FIELDS.len()];
    for line in stanza.split(|byte| *byte == b'\n') {
        for (at, name) in KEY_FIELDS.iter().enumerate() {
            if found[at].is_none()
                && let Some(rest) = line.strip_prefix(name.as_bytes())
                && let Some(text) = rest.strip_prefix(b":")
            {
                found[at] = Some(text.trim_ascii());
            }
        }
    }
    let mut key = Vec::new();
    for (name, text) in KEY_FIELDS.iter().zip(found) {
        let text =
            text.filter(|text| !text.is_empty()).ok_or_else(|| format!("the stanza has no {name} field"))?;
        if !key.is_empty() {
            key.push(b'/');
        }
        key.extend_from_slice(text);
    }
    Ok(key)
}
